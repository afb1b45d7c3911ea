"""Requests of the Open Inference Protocol, good and bad, over JSON, binary tensors and gRPC, and how they are sent.

ROWS: name -> a request. MODELS: what the server has that they are sent to, every one of which gives back what it got.
send(row, rest, grpc_channel) -> what came, in a form that two servers can be compared by:
  REST: {"status": 200, or "error": its text, None where there is none; of an answer "outputs", "id", "model_name", "model_version"}
  gRPC: {"status": "OK", the same of an answer, and "yes" of what is a question of readiness}
  outputs: [name, datatype, shape, values or bytes in hexadecimal]
"""
import gzip
import json
import math
import struct
import zlib

import grpc
import httpx
from tritonclient.grpc import service_pb2 as pb

# name: (inputs and outputs as (name, datatype, dims without the batch), largest batch, versions)
MODELS = {
    "passes": ([("x", "FP32", [4])], 16, ["1"]),
    "ints": ([("x", "INT32", [2])], 16, ["1"]),
    "longs": ([("x", "INT64", [2])], 16, ["1"]),
    "bytes8": ([("x", "UINT8", [2])], 16, ["1"]),
    "flags": ([("x", "BOOL", [2])], 16, ["1"]),
    "halves": ([("x", "FP16", [2])], 16, ["1"]),
    "doubles": ([("x", "FP64", [2])], 16, ["1"]),
    "texts": ([("x", "BYTES", [2])], 16, ["1"]),
    "pair": ([("a", "FP32", [2]), ("b", "INT32", [2])], 16, ["1"]),
    "twice": ([("x", "FP32", [4])], 16, ["1", "3"]),
}
ROWS = {}


def add(name, carrier, **request):
    assert name not in ROWS, name
    ROWS[name] = {"carrier": carrier, **request}


def rest(name, path, method="GET", body=b"", **headers):
    add(name, "rest", method=method, path=path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def tensor(data, shape, datatype="FP32", name="x", **more):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def infer(name, model, body, version=None, **headers):
    """body: text, or what becomes JSON."""
    text = body if isinstance(body, (bytes, str)) else json.dumps(body)
    where = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
    rest(name, where, "POST", text.encode() if isinstance(text, str) else text, **headers)


def json_rows():
    x = tensor([1, 2.5, -3, 4], [1, 4])
    good = {"inputs": [x]}
    flat, nested = [1, 2, 3, 4, 5, 6, 7, 8], [[1, 2, 3, 4], [5, 6, 7, 8]]
    for name, body in {
        "one row": good,
        "flat": {"inputs": [tensor(flat, [2, 4])]},
        "nested": {"inputs": [tensor(nested, [2, 4])]},
        "nested once too often": {"inputs": [tensor([nested], [2, 4])]},
        "nested otherwise": {"inputs": [tensor([[1, 2], [3, 4], [5, 6], [7, 8]], [2, 4])]},
        "ragged": {"inputs": [tensor([[1, 2, 3], [4, 5, 6, 7, 8]], [2, 4])]},
        "no rows": {"inputs": [tensor([], [0, 4])]},
        "as many rows as fit": {"inputs": [tensor(flat * 8, [16, 4])]},
        "a row too many": {"inputs": [tensor([1, 2, 3, 4] * 17, [17, 4])]},
        "an id": good | {"id": "mine"},
        "an id with quotes": good | {"id": 'a"b\\c\n'},
        "an empty id": good | {"id": ""},
        "an id that is a number": good | {"id": 7},
        "an id that is null": good | {"id": None},
        "keys that nobody knows": good | {"more": {"a": [1, {}]}, "x": None},
        "a key of an input that nobody knows": {"inputs": [x | {"more": 1}]},
        "no inputs": {},
        "inputs without one": {"inputs": []},
        "inputs that are an object": {"inputs": {}},
        "inputs that are null": {"inputs": None},
        "an input that is a number": {"inputs": [1]},
        "an input too many": {"inputs": [x, tensor([1], [1, 1], name="z")]},
        "an input twice": {"inputs": [x, x]},
        "an input of another name": {"inputs": [x | {"name": "z"}]},
        "an input without a name": {"inputs": [{k: v for k, v in x.items() if k != "name"}]},
        "an input without a shape": {"inputs": [{k: v for k, v in x.items() if k != "shape"}]},
        "an input without a datatype": {"inputs": [{k: v for k, v in x.items() if k != "datatype"}]},
        "an input without data": {"inputs": [{k: v for k, v in x.items() if k != "data"}]},
        "a name that is a number": {"inputs": [x | {"name": 5}]},
        "a shape that is a number": {"inputs": [x | {"shape": 4}]},
        "a shape of texts": {"inputs": [x | {"shape": ["1", "4"]}]},
        "a shape of fractions": {"inputs": [x | {"shape": [1.5, 4]}]},
        "a negative dimension": {"inputs": [x | {"shape": [-1, 4]}]},
        "a shape without the batch": {"inputs": [x | {"shape": [4]}]},
        "a shape of another rank": {"inputs": [x | {"shape": [1, 4, 1]}]},
        "another last dimension": {"inputs": [tensor([1, 2, 3], [1, 3])]},
        "a shape without dimensions": {"inputs": [tensor([1], [])]},
        "dimensions past 64 bits": {"inputs": [x | {"shape": [1 << 62, 1 << 62]}]},
        "a number past 64 bits as a dimension": '{"inputs":[{"name":"x","datatype":"FP32","shape":[18446744073709551616,4],"data":[1]}]}',
        "another datatype": {"inputs": [x | {"datatype": "INT32", "data": [1, 2, 3, 4]}]},
        "no datatype that is one": {"inputs": [x | {"datatype": "FLOAT"}]},
        "a datatype in lower case": {"inputs": [x | {"datatype": "fp32"}]},
        "too few values": {"inputs": [tensor([1, 2, 3], [1, 4])]},
        "too many values": {"inputs": [tensor([1, 2, 3, 4, 5], [1, 4])]},
        "data that is a number": {"inputs": [x | {"data": 1}]},
        "data that is null": {"inputs": [x | {"data": None}]},
        "texts among numbers": {"inputs": [x | {"data": [1, "2", 3, 4]}]},
        "true among numbers": {"inputs": [x | {"data": [1, True, 3, 4]}]},
        "objects among numbers": {"inputs": [x | {"data": [1, {}, 3, 4]}]},
        "null among numbers": {"inputs": [x | {"data": [1, None, 3, 4]}]},
        "a number too large": '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1e39,1,1,1]}]}',
        "words for what is no number": '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[NaN,Infinity,-Infinity,0]}]}',
        "outputs that are asked for": good | {"outputs": [{"name": "y_x"}]},
        "outputs that are null": good | {"outputs": None},
        "outputs without one": good | {"outputs": []},
        "an output that is not there": good | {"outputs": [{"name": "z"}]},
        "an output twice": good | {"outputs": [{"name": "y_x"}, {"name": "y_x"}]},
        "an output without a name": good | {"outputs": [{}]},
        "an output that is a number": good | {"outputs": [1]},
        "parameters": good | {"parameters": {"a": "b", "n": 1, "t": True}},
        "parameters that are null": good | {"parameters": None},
        "parameters that are a list": good | {"parameters": []},
        "a parameter that is an object": good | {"parameters": {"a": {}}},
        "a parameter that is null": good | {"parameters": {"a": None}},
        "a fraction as a parameter": good | {"parameters": {"a": 1.5}},
        "a reserved parameter": good | {"parameters": {"triton_mine": 1}},
        "a priority": good | {"parameters": {"priority": 2}},
        "a priority that is a text": good | {"parameters": {"priority": "high"}},
        "a negative priority": good | {"parameters": {"priority": -1}},
        "a long time": good | {"parameters": {"timeout": 100000000}},
        "a time that is a text": good | {"parameters": {"timeout": "soon"}},
        "parameters of an input": {"inputs": [x | {"parameters": {"a": 1}}]},
        "parameters of an input that are null": {"inputs": [x | {"parameters": None}]},
        "parameters of an output": good | {"outputs": [{"name": "y_x", "parameters": {"a": 1}}]},
        "shared memory of an input": {"inputs": [{k: v for k, v in x.items() if k != "data"} | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]},
        "shared memory of an output": good | {"outputs": [{"name": "y_x", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]},
        "an empty body": "",
        "a space": " ",
        "no JSON": "hello",
        "a list": "[]",
        "a text": '"x"',
        "null": "null",
        "a body that is cut": json.dumps(good)[:-1],
        "a body with more behind it": json.dumps(good) + "x",
        "a byte order mark": b"\xef\xbb\xbf" + json.dumps(good).encode(),
        "bytes that are no UTF-8": json.dumps(good).encode().replace(b'"x"', b'"\xff"'),
        "a comment": "/* */" + json.dumps(good),
        "a comma too many": json.dumps(good)[:-1] + ",}",
        "a hundred and fifty brackets": '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":%s1,2,3,4%s}]}' % ("[" * 150, "]" * 150),
        "a key twice": json.dumps(good)[:-1] + ',"id":"a","id":"b"}',
    }.items():
        infer("json: " + name, "passes", body)
    for model, datatype, cases in (
        ("ints", "INT32", {"limits": [-(2**31), 2**31 - 1], "past its limit": [2**31, 0], "fractions": [1.5, 2], "whole fractions": "[1.0,2.0]", "texts": ["1", "2"], "null": [None, 1]}),
        ("longs", "INT64", {"limits": [-(2**63), 2**63 - 1], "past its limit": [2**63, 0], "past 2^53": [2**53 + 1, -(2**53) - 1]}),
        ("bytes8", "UINT8", {"limits": [0, 255], "past its limit": [256, 0], "negative": [-1, 0]}),
        ("flags", "BOOL", {"both": [True, False], "numbers": [1, 0], "texts": ["true", "false"], "null": [None, True]}),
        ("doubles", "FP64", {"limits": [1.7976931348623157e308, 5e-324], "past its limit": "[1e309,0]", "words": "[NaN,-Infinity]"}),
        ("halves", "FP16", {"numbers": [1, 2]}),
        ("texts", "BYTES", {"texts": ["a", "b"], "empty": ["", ""], "NUL": ["he\0llo", "\0"], "wide": ["ü漢", "\U0001f600"], "escapes": ['"\\/\b\f\n\r\t', "\x01"], "numbers": [1, 2], "null": [None, "a"], "a lone surrogate": r'["\ud800","a"]', "long": ["x" * 70000, ""]}),
    ):  # fmt: skip
        for name, data in cases.items():
            data = data if isinstance(data, str) else json.dumps(data)
            infer(f"json: {datatype}: {name}", model, f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":[1,2],"data":{data}}}]}}')
    both = [tensor([1.5, 2], [1, 2], name="a"), tensor([3, 4], [1, 2], "INT32", "b")]
    for name, body in {
        "both inputs": {"inputs": both},
        "in another order": {"inputs": both[::-1]},
        "one is missing": {"inputs": both[:1]},
        "other rows in each": {"inputs": [tensor([1, 2, 3, 4], [2, 2], name="a"), both[1]]},
        "one output": {"inputs": both, "outputs": [{"name": "y_b"}]},
        "outputs in another order": {"inputs": both, "outputs": [{"name": "y_b"}, {"name": "y_a"}]},
        "one of each datatype for the other": {"inputs": [both[0] | {"name": "b"}, both[1] | {"name": "a"}]},
    }.items():
        infer("json: pair: " + name, "pair", body)
    for name, model, version in (
        ("version 1", "twice", "1"), ("version 3", "twice", "3"), ("no version", "twice", None), ("a version that is not there", "twice", "2"),
        ("version 03", "twice", "03"), ("a version of letters", "twice", "v1"), ("no such model", "nobody", None), ("a version of no model", "nobody", "1"),
        ("a model in capitals", "PASSES", None), ("a dot", "passes.", None),
    ):  # fmt: skip
        infer("json: " + name, model, good, version)
    packed = json.dumps(good).encode()
    infer("json: gzip", "passes", gzip.compress(packed), content_encoding="gzip")
    infer("json: deflate", "passes", zlib.compress(packed), content_encoding="deflate")
    infer("json: gzip that is none", "passes", packed, content_encoding="gzip")
    infer("json: a coding that nobody has", "passes", packed, content_encoding="br")
    infer("json: as text", "passes", packed, content_type="text/plain")
    infer("json: without a media type", "passes", packed)


def binary(name, body, blobs, model="passes", length=None, **headers):
    head = json.dumps(body).encode()
    headers = {"content_type": "application/octet-stream", "inference_header_content_length": str(len(head) if length is None else length)} | headers
    infer("binary: " + name, model, head + b"".join(blobs), **headers)


def binary_rows():
    row = struct.pack("<4f", 1, 2.5, -3, math.inf)

    def asks(size=16, shape=(1, 4), datatype="FP32", name="x", **more):
        return {"name": name, "shape": list(shape), "datatype": datatype, "parameters": {"binary_data_size": size}, **more}

    good = {"inputs": [asks()]}
    wants = {"outputs": [{"name": "y_x", "parameters": {"binary_data": True}}]}
    binary("in", good, [row])
    binary("in and out", good | wants, [row])
    binary("out by default", good | {"parameters": {"binary_data_output": True}}, [row])
    binary("an output that says no", good | {"parameters": {"binary_data_output": True}, "outputs": [{"name": "y_x", "parameters": {"binary_data": False}}]}, [row])
    binary("out alone", {"inputs": [tensor([1, 2, 3, 4], [1, 4])], **wants}, [])
    binary("too short", good, [row[:-1]])
    binary("too long", good, [row + b"x"])
    binary("a size that lies", {"inputs": [asks(12)]}, [row[:12]])
    binary("a negative size", {"inputs": [asks(-1)]}, [row])
    binary("a size that is a text", {"inputs": [asks("16")]}, [row])
    binary("a size past the body", {"inputs": [asks(1 << 40)]}, [row])
    binary("data as well", {"inputs": [asks(data=[1, 2, 3, 4])]}, [row])
    binary("data that is null", {"inputs": [asks(data=None)]}, [row])
    binary("no length", good, [row], length="")
    binary("a length that is a word", good, [row], length="many")
    binary("a negative length", good, [row], length=-1)
    binary("a length past the body", good, [row], length=100000)
    binary("a length that cuts", good, [row], length=20)
    binary("binary_data as a text", good | {"outputs": [{"name": "y_x", "parameters": {"binary_data": "yes"}}]}, [row])
    halves, texts = struct.pack("<2e", 1.5, -2), b"".join(struct.pack("<I", len(t)) + t for t in (b"he\0llo", b"\xff\xfe"))
    binary("FP16", {"inputs": [asks(4, (1, 2), "FP16")], **wants}, [halves], "halves")
    binary("FP16 out as JSON", {"inputs": [asks(4, (1, 2), "FP16")]}, [halves], "halves")
    binary("BYTES", {"inputs": [asks(len(texts), (1, 2), "BYTES")], **wants}, [texts], "texts")
    binary("BYTES out as JSON that are no UTF-8", {"inputs": [asks(len(texts), (1, 2), "BYTES")]}, [texts], "texts")
    binary("BYTES with a length that lies", {"inputs": [asks(len(texts), (1, 2), "BYTES")], **wants}, [b"\xff" + texts[1:]], "texts")
    binary("BYTES one too few", {"inputs": [asks(10, (1, 2), "BYTES")], **wants}, [texts[:10]], "texts")
    binary("BYTES one too many", {"inputs": [asks(len(texts) + 4, (1, 2), "BYTES")], **wants}, [texts + bytes(4)], "texts")
    for datatype, model, blob in (("INT64", "longs", struct.pack("<2q", -(2**63), 2**53 + 1)), ("BOOL", "flags", b"\1\0"), ("UINT8", "bytes8", b"\xff\0"), ("FP64", "doubles", struct.pack("<2d", math.nan, 5e-324))):
        binary(datatype, {"inputs": [asks(len(blob), (1, 2), datatype)], **wants}, [blob], model)
    two = {"inputs": [asks(8, (1, 2), "FP32", "a"), asks(8, (1, 2), "INT32", "b")]}
    binary("two", two, [struct.pack("<2f2i", 1, 2, 3, 4)], "pair")
    binary("one of two", {"inputs": [two["inputs"][0], tensor([3, 4], [1, 2], "INT32", "b")]}, [struct.pack("<2f", 1, 2)], "pair")
    for name, body, model in (
        ("raw", struct.pack("<4f", 1, 2, 3, 4), "passes"), ("raw, two inputs", bytes(8), "pair"), ("raw, too short", bytes(12), "passes"), ("raw, nothing", b"", "passes"),
    ):  # fmt: skip
        infer("binary: " + name, model, body, inference_header_content_length="0", content_type="application/octet-stream")


def small_rows():
    for name, path in {
        "live": "/v2/health/live", "ready": "/v2/health/ready", "server": "/v2", "model": "/v2/models/passes", "model ready": "/v2/models/passes/ready",
        "config": "/v2/models/passes/config", "statistics": "/v2/models/passes/stats", "all statistics": "/v2/models/stats",
        "version": "/v2/models/twice/versions/3", "version ready": "/v2/models/twice/versions/3/ready", "config of a version": "/v2/models/twice/versions/3/config",
        "statistics of a version": "/v2/models/twice/versions/3/stats", "no version": "/v2/models/twice/versions/2", "no version, ready": "/v2/models/twice/versions/2/ready",
        "no version, config": "/v2/models/twice/versions/2/config", "no version, statistics": "/v2/models/twice/versions/2/stats", "no model": "/v2/models/nobody",
        "no model, ready": "/v2/models/nobody/ready", "no model, config": "/v2/models/nobody/config", "no model, statistics": "/v2/models/nobody/stats",
        "a path that is none": "/v2/nothing", "a path that is not ours": "/v1/models", "a verb that is none": "/v2/models/passes/nothing", "the root": "/",
    }.items():  # fmt: skip
        rest("get: " + name, path)
    for name, path, body in (
        ("index", "/v2/repository/index", b""), ("index, ready", "/v2/repository/index", b'{"ready":true}'), ("index, ready null", "/v2/repository/index", b'{"ready":null}'),
        ("index, ready a text", "/v2/repository/index", b'{"ready":"yes"}'), ("index, no JSON", "/v2/repository/index", b"x"),
        ("to the metadata", "/v2/models/passes", b""), ("to readiness", "/v2/health/ready", b""), ("to the statistics", "/v2/models/passes/stats", b""),
        ("load", "/v2/repository/models/passes/load", b""), ("shared memory", "/v2/systemsharedmemory/region/r/register", b'{"key":"k","offset":0,"byte_size":1}'),
    ):  # fmt: skip
        rest("post: " + name, path, "POST", body)
    for name, path in (("ready, with a query", "/v2/health/ready?x=1"), ("model, escaped", "/v2/models/pass%65s"), ("model, of many bytes", "/v2/models/" + "m" * 129)):
        rest("get: " + name, path)
    rest("get: infer", "/v2/models/passes/infer")
    rest("put: infer", "/v2/models/passes/infer", "PUT", b"{}")
    rest("delete: model", "/v2/models/passes", "DELETE")


def call(name, method, request):
    add("grpc: " + name, "grpc", method=method, message=request.SerializeToString(), answer=getattr(pb, method + "Response"))


def grpc_infer(name, model="passes", inputs=(("x", "FP32", [1, 4]),), raw=(), version="", outputs=(), contents=None, **parameters):
    q = pb.ModelInferRequest(model_name=model, model_version=version, id="7")
    for i, (n, datatype, shape) in enumerate(inputs):
        t = q.inputs.add(name=n, datatype=datatype, shape=shape)
        for field, values in (contents or {}).items() if i == 0 else ():
            getattr(t.contents, field).extend(values)
    for n in outputs:
        q.outputs.add(name=n)
    q.raw_input_contents.extend(raw)
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(q.parameters[key], kind, value)
    call("infer: " + name, "ModelInfer", q)


def grpc_rows():
    row = struct.pack("<4f", 1, 2.5, -3, math.nan)
    grpc_infer("raw", raw=[row])
    grpc_infer("typed", contents={"fp32_contents": [1, 2.5, -3, 4]})
    grpc_infer("both", raw=[row], contents={"fp32_contents": [1, 2, 3, 4]})
    grpc_infer("neither")
    grpc_infer("raw too short", raw=[row[:-1]])
    grpc_infer("raw too long", raw=[row + b"x"])
    grpc_infer("raw too many", raw=[row, row])
    grpc_infer("typed too few", contents={"fp32_contents": [1, 2, 3]})
    grpc_infer("typed too many", contents={"fp32_contents": [1, 2, 3, 4, 5]})
    grpc_infer("typed in the wrong field", contents={"int_contents": [1, 2, 3, 4]})
    grpc_infer("no inputs", inputs=())
    grpc_infer("an input twice", inputs=[("x", "FP32", [1, 4])] * 2, raw=[row, row])
    grpc_infer("an input of another name", inputs=[("z", "FP32", [1, 4])], raw=[row])
    grpc_infer("an input too many", inputs=[("x", "FP32", [1, 4]), ("z", "FP32", [1, 4])], raw=[row, row])
    grpc_infer("no datatype that is one", inputs=[("x", "FLOAT", [1, 4])], raw=[row])
    grpc_infer("another datatype", inputs=[("x", "INT32", [1, 4])], raw=[row])
    grpc_infer("another rank", inputs=[("x", "FP32", [4])], raw=[row])
    grpc_infer("another last dimension", inputs=[("x", "FP32", [2, 2])], raw=[row])
    grpc_infer("a negative dimension", inputs=[("x", "FP32", [-1, 4])], raw=[row])
    grpc_infer("dimensions past 64 bits", inputs=[("x", "FP32", [1 << 62, 1 << 62])], raw=[row])
    grpc_infer("no rows", inputs=[("x", "FP32", [0, 4])], raw=[b""])
    grpc_infer("as many rows as fit", inputs=[("x", "FP32", [16, 4])], raw=[row * 16])
    grpc_infer("a row too many", inputs=[("x", "FP32", [17, 4])], raw=[row * 17])
    grpc_infer("an output", raw=[row], outputs=["y_x"])
    grpc_infer("an output that is not there", raw=[row], outputs=["z"])
    grpc_infer("an output twice", raw=[row], outputs=["y_x", "y_x"])
    grpc_infer("no such model", "nobody", raw=[row])
    grpc_infer("no model", "", raw=[row])
    for version in ("1", "3", "2", "v1"):
        grpc_infer(f"version {version}", "twice", raw=[row], version=version)
    grpc_infer("parameters", raw=[row], a=1, b="c", d=True, e=1.5)
    grpc_infer("a reserved parameter", raw=[row], triton_mine=1)
    grpc_infer("a priority", raw=[row], priority=2)
    grpc_infer("a priority that is a text", raw=[row], priority="high")
    grpc_infer("a time that is a text", raw=[row], timeout="soon")
    for name, model, datatype, field, values in (
        ("INT32", "ints", "INT32", "int_contents", [-(2**31), 2**31 - 1]), ("INT64", "longs", "INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "bytes8", "UINT8", "uint_contents", [0, 255]), ("BOOL", "flags", "BOOL", "bool_contents", [True, False]),
        ("FP64", "doubles", "FP64", "fp64_contents", [5e-324, math.inf]), ("BYTES", "texts", "BYTES", "bytes_contents", [b"a\0", b"\xff"]),
    ):  # fmt: skip
        grpc_infer(f"typed {name}", model, [("x", datatype, [1, 2])], contents={field: values})
    grpc_infer("typed FP16", "halves", [("x", "FP16", [1, 2])], contents={"fp32_contents": [1, 2]})
    grpc_infer("raw FP16", "halves", [("x", "FP16", [1, 2])], raw=[struct.pack("<2e", 1.5, -2)])
    texts = struct.pack("<I", 2) + b"ab" + struct.pack("<I", 0)
    grpc_infer("raw BYTES", "texts", [("x", "BYTES", [1, 2])], raw=[texts])
    grpc_infer("raw BYTES with a length that lies", "texts", [("x", "BYTES", [1, 2])], raw=[b"\xff" + texts[1:]])
    grpc_infer("raw BYTES, one too few", "texts", [("x", "BYTES", [1, 2])], raw=[texts[:6]])
    pair = [("a", "FP32", [1, 2]), ("b", "INT32", [1, 2])]
    grpc_infer("pair", "pair", pair, raw=[struct.pack("<2f", 1, 2), struct.pack("<2i", 3, 4)])
    grpc_infer("pair, one is missing", "pair", pair[:1], raw=[struct.pack("<2f", 1, 2)])
    grpc_infer("pair, raw for one alone", "pair", pair, raw=[struct.pack("<2f", 1, 2)])
    grpc_infer("pair, other rows in each", "pair", [("a", "FP32", [2, 2]), pair[1]], raw=[struct.pack("<4f", 1, 2, 3, 4), struct.pack("<2i", 3, 4)])
    for method in ("ServerLive", "ServerReady", "ServerMetadata"):
        call(method, method, getattr(pb, method + "Request")())
    for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        question = getattr(pb, method + "Request")
        for model, version in (("passes", ""), ("twice", "3"), ("twice", "2"), ("nobody", ""), ("nobody", "1"), ("", "")):
            call(f"{method} of {model or 'no name'}{', version ' + version if version else ''}", method, question(name=model, version=version))
    call("RepositoryIndex", "RepositoryIndex", pb.RepositoryIndexRequest())
    call("RepositoryIndex, ready", "RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    call("RepositoryModelLoad", "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="passes"))


json_rows()
binary_rows()
small_rows()
grpc_rows()


# ---- sending -----------------------------------------------------------------------------------------


def outputs_of(said, raw):
    outputs = []
    for o in said["outputs"]:
        size = o.get("parameters", {}).get("binary_data_size")
        data, raw = (raw[:size].hex(), raw[size:]) if size is not None else (o["data"], raw)
        outputs.append([o["name"], o["datatype"], o["shape"], data])
    assert not raw
    return sorted(outputs)


def no_number(word):
    """Bare NaN, which Triton writes, as the strings that stand for it in JSON."""
    return word


def rest_told(answer):
    told = {"status": answer.status_code}
    n = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    try:
        said = json.loads(answer.content[:n], parse_constant=no_number)
    except ValueError:
        said = None
    if answer.status_code >= 400:
        return told | {"error": said.get("error") if isinstance(said, dict) else None}
    if isinstance(said, dict) and "outputs" in said and "model_name" in said:
        return told | {"outputs": outputs_of(said, answer.content[n:])} | {k: said[k] for k in ("id", "model_name", "model_version") if k in said}
    return told


def grpc_told(row, channel):
    method = channel.unary_unary("/inference.GRPCInferenceService/" + row["method"], response_deserializer=row["answer"].FromString)
    try:
        answer = method(row["message"], timeout=30)
    except grpc.RpcError as e:
        return {"status": e.code().name, "error": e.details()}
    told = {"status": "OK"}
    if row["method"] == "ModelInfer":
        assert len(answer.outputs) == len(answer.raw_output_contents)
        outputs = [[o.name, o.datatype, list(o.shape), raw.hex()] for o, raw in zip(answer.outputs, answer.raw_output_contents)]
        return told | {"outputs": sorted(outputs), "id": answer.id, "model_name": answer.model_name, "model_version": answer.model_version}
    if row["method"] in ("ServerLive", "ServerReady", "ModelReady"):
        told["yes"] = answer.live if row["method"] == "ServerLive" else answer.ready
    return told


def send(row, client, channel):
    if row["carrier"] == "grpc":
        return grpc_told(row, channel)
    request = client.build_request(row["method"], row["path"], content=row["body"], headers=row["headers"])
    return rest_told(client.send(request))


def ask_all(address_rest, address_grpc):
    """name -> what came."""
    with httpx.Client(base_url=f"http://{address_rest}", timeout=30) as client, grpc.insecure_channel(address_grpc) as channel:
        return {name: send(row, client, channel) for name, row in ROWS.items()}
