"""Every datatype through the whole gateway, in every form that has it: JSON, binary tensors, gRPC, and from each
into each, exact to the last bit; ranges; what is said of a request beside its tensors."""
import gzip
import json
import math
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import onnx_file
import pytest
import tritonclient.grpc
import tritonclient.http
from harness import WORKER_DOUBLE, Program, Sluice, configuration
from worker import DATATYPES

INTEGERS = {d: (0 if d[0] == "U" else -(1 << int(d.lstrip("UINT")) - 1), (1 << int(d.lstrip("UINT")) - (d[0] != "U")) - 1) for d in DATATYPES if "INT" in d}
FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1e23, 9007199254740993.0, 1.7976931348623157e308, math.pi]
TEXTS = ["", "a", "ü", "漢字", "\U0001f600", '"\\/\b\f\n\r\t\x01\x7f', "x" * 70000, "null", "a\0b", "\0"]
NUMPY = {"BOOL": np.bool_, "FP16": np.float16, "BF16": np.uint16, "FP32": np.float32, "FP64": np.float64, "BYTES": np.object_, **{d: np.dtype(d.lower()) for d in INTEGERS}}


def values(datatype):
    """A [2, n] array of what the datatype can hold."""
    if datatype in INTEGERS:
        low, high = INTEGERS[datatype]
        flat = [low, high, 0, 1, high - 1, low + 1, 42 if high > 42 else 3, high // 2]
    elif datatype == "BOOL":
        flat = [True, False, False, True]
    elif datatype == "BYTES":
        flat = [t.encode() for t in TEXTS]
    elif datatype == "BF16":
        flat = [0, 0x3F80, 0xC020, 0x7F7F, 0x7FC1, 0xFF80]  # its bytes: numpy has no such type
    else:
        with np.errstate(over="ignore"):
            flat = [v for v in np.array(FLOATS, np.float64).astype(NUMPY[datatype]) if np.isfinite(v)]
        flat = flat[: len(flat) // 2 * 2]
    return np.array(flat, NUMPY[datatype]).reshape(2, -1)


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    models = [*(d.lower() for d in DATATYPES), "told"]
    with Program([sys.executable, WORKER_DOUBLE, "--listen", "127.0.0.1:0", *models]) as worker:
        port = worker.wait_event("up", timeout=30)["port"]
        config = configuration(tmp_path_factory.mktemp("echo"), addresses=[f"grpc://127.0.0.1:{port}"])
        with Sluice(config, wait_models=models) as sluice:
            yield sluice
            assert sluice.stop() == 0, sluice.text
        worker.kill(9)


def same(got, want):
    assert got.dtype == want.dtype and got.shape == want.shape
    if want.dtype == np.object_:
        assert [v.encode() if isinstance(v, str) else bytes(v) for v in got.ravel()] == list(want.ravel())
    else:
        assert got.tobytes() == want.tobytes()


def asked(module, datatype, x, **binary):
    tensor = module.InferInput("x", list(x.shape), datatype)
    tensor.set_data_from_numpy(x, **binary)
    return tensor


def raw_of(x):
    return b"".join(len(v).to_bytes(4, "little") + v for v in x.ravel()) if x.dtype == np.object_ else x.tobytes()


def post_binary(echo, datatype, x, outputs):
    """(the answer, its JSON, the bytes behind it)"""
    tensor = {"name": "x", "shape": x.shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw_of(x))}}
    head = json.dumps({"inputs": [tensor], **outputs}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = httpx.post(f"{echo.url}/v2/models/{datatype.lower()}/infer", content=head + raw_of(x), headers=headers)
    n = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    return answer, json.loads(answer.content[:n]), answer.content[n:]


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize(
    "outputs",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]},
        {"outputs": [{"name": "y"}], "parameters": {"binary_data_output": True}},
    ],
    ids=["for-all", "for-one", "for-one-by-default"],
)
def test_binary_tensors(echo, datatype, outputs):
    x = values(datatype)
    answer, said, raw = post_binary(echo, datatype, x, outputs)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    (y,) = said["outputs"]
    assert y["datatype"] == datatype and y["shape"] == list(x.shape) and "data" not in y
    assert y["parameters"]["binary_data_size"] == len(raw) and raw == raw_of(x)


def test_an_output_may_differ_from_the_default(echo):
    outputs = {"outputs": [{"name": "y", "parameters": {"binary_data": False}}], "parameters": {"binary_data_output": True}}
    answer, said, raw = post_binary(echo, "INT8", values("INT8"), outputs)
    assert answer.headers["content-type"] == "application/json" and not raw
    assert said["outputs"][0]["data"] == values("INT8").ravel().tolist()


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d != "BF16"])
@pytest.mark.parametrize("out", [False, True], ids=["json-out", "binary-out"])
@pytest.mark.parametrize("into", [False, True], ids=["json-in", "binary-in"])
def test_rest(echo, datatype, into, out):
    x = values(datatype)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{echo.port}")
    wanted = [tritonclient.http.InferRequestedOutput("y", binary_data=out)]
    if datatype != "FP16":
        result = client.infer(datatype.lower(), [asked(tritonclient.http, datatype, x, binary_data=into)], outputs=wanted)
        same(result.as_numpy("y"), x)
    elif not out:  # the client itself refuses to send it so; test_no_json_form does
        with pytest.raises(tritonclient.http.InferenceServerException, match=r"outputs\[0\]: FP16 has no JSON form"):
            client.infer("fp16", [asked(tritonclient.http, "FP16", x)], outputs=wanted)
    client.close()


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d != "BF16"])
def test_grpc(echo, datatype):
    x = values(datatype)
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{echo.port}")
    same(client.infer(datatype.lower(), [asked(tritonclient.grpc, datatype, x)]).as_numpy("y"), x)
    client.close()


CONTENTS = {"BOOL": "bool", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes", "INT64": "int64", "UINT64": "uint64"}


@pytest.mark.parametrize("datatype", [d for d in DATATYPES if d not in ("FP16", "BF16")])
def test_grpc_contents(echo, datatype):
    x = values(datatype)
    field = CONTENTS.get(datatype) or ("uint" if datatype[0] == "U" else "int")
    request = tritonclient.grpc.service_pb2.ModelInferRequest(model_name=datatype.lower())
    tensor = request.inputs.add(name="x", datatype=datatype, shape=x.shape)
    getattr(tensor.contents, field + "_contents").extend(x.ravel().tolist())
    with tritonclient.grpc.grpc.insecure_channel(f"127.0.0.1:{echo.port}") as channel:
        answer = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert answer.raw_output_contents[0] == raw_of(x)


def post(echo, model, data, shape, datatype=None, **more):
    tensor = {"name": "x", "shape": shape, "datatype": datatype or model.upper(), "data": data}
    return httpx.post(f"{echo.url}/v2/models/{model}/infer", json={"inputs": [tensor], **more})


@pytest.mark.parametrize("datatype", list(INTEGERS))
def test_integer_ranges(echo, datatype):
    low, high = INTEGERS[datatype]
    for good in (low, high):
        answer = post(echo, datatype.lower(), [good], [1, 1])
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [good]
    for bad in (low - 1, high + 1, 1 << 70, -(1 << 70)):
        answer = post(echo, datatype.lower(), [1, bad], [1, 2])
        assert answer.status_code == 400
        said = answer.json()["error"]
        assert said.startswith("inputs[0].data: ") and "range" in said and datatype in said and str(bad) not in said
    for bad in (1.5, 1e3, True, "1", None, {}):
        answer = post(echo, datatype.lower(), [1, bad], [1, 2])
        said = answer.json()["error"]
        assert answer.status_code == 400 and said.startswith("inputs[0].data: expected ") and datatype in said, said


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_no_json_form(echo, datatype):
    answer = post(echo, datatype.lower(), [1.0], [1, 1])
    assert answer.status_code == 400 and f"inputs[0].data: {datatype} has no JSON form" in answer.json()["error"]


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_floats_without_a_json_form(echo, datatype):
    data = ["NaN", "Infinity", "-Infinity", 1.0]
    answer = post(echo, datatype.lower(), data, [1, 4])
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == data
    too_large = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"%s","data":[1e999]}]}' % datatype.encode()
    answer = httpx.post(f"{echo.url}/v2/models/{datatype.lower()}/infer", content=too_large)
    assert answer.status_code == 400 and "range" in answer.json()["error"] and datatype in answer.json()["error"]


def test_bytes_that_are_not_utf8(echo):
    x = np.array([[b"\xff\xfe", b"ok"]], np.object_)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{echo.port}")
    tensor = asked(tritonclient.http, "BYTES", x)
    same(client.infer("bytes", [tensor]).as_numpy("y"), x)
    with pytest.raises(tritonclient.http.InferenceServerException, match=r"outputs\[0\].*UTF-8.*binary_data"):
        client.infer("bytes", [tensor], outputs=[tritonclient.http.InferRequestedOutput("y", binary_data=False)])
    client.close()


# ---- beside the tensors --------------------------------------------------------------------------------


def told(answer):
    return json.loads(answer.json()["outputs"][0]["data"][0])


def test_what_a_worker_is_told(echo):
    parameters = {"own": "text", "n": -7, "big": 18446744073709551615, "half": 0.5, "yes": True, "priority": 3, "timeout": 9000000}
    outputs = [{"name": "y", "parameters": {"classification": 3, "binary_data": False}}]
    answer = post(echo, "told", [1.0], [1, 1], "FP32", id="r-1", parameters=parameters, outputs=outputs)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == "r-1"
    said = told(answer)
    assert said["outputs"] == [{"name": "y", "classification": 3}]
    assert 0 < said["parameters"].pop("timeout") <= 9000000
    assert said["parameters"] == {k: v for k, v in parameters.items() if k != "timeout"}
    assert said["id"] == "r-1"


def test_sequences_are_told(echo):
    for parameters in ({"sequence_id": 5, "sequence_start": True}, {"sequence_id": "abc", "sequence_end": True}):
        answer = post(echo, "told", [1.0], [1, 1], "FP32", parameters=parameters)
        said = told(answer)["parameters"]
        assert {k: v for k, v in said.items() if k != "timeout"} == parameters


@pytest.mark.parametrize(
    "more, words",
    [
        ({"id": 5}, ["id: expected a string", "got a number"]),
        ({"parameters": []}, ["parameters: expected an object", "got an array"]),
        ({"parameters": {"x": []}}, ["parameters: expected a string, a number, true or false", "got an array"]),
        ({"parameters": {"timeout": "soon"}}, ["parameters.timeout: expected", "got a string"]),
        ({"parameters": {"timeout": -1}}, ["parameters.timeout: expected", "non-negative"]),
        ({"parameters": {"priority": 1.5}}, ["parameters.priority: expected", "got a fraction"]),
        ({"parameters": {"sequence_id": True}}, ["parameters.sequence_id: expected", "got true"]),
        ({"parameters": {"binary_data_output": 1}}, ["parameters.binary_data_output: expected true or false", "got an integer"]),
        ({"outputs": [{"name": 7}]}, ["outputs[0].name: expected a string", "got a number"]),
        ({"outputs": 1}, ["outputs: expected an array", "got a number"]),
    ],
)
def test_what_was_expected_and_what_came(echo, more, words):
    answer = post(echo, "fp32", [1.0], [1, 1], **more)
    said = answer.json()["error"]
    assert answer.status_code == 400 and all(w in said for w in words), said
    assert "soon" not in said


# ---- the body -----------------------------------------------------------------------------------------


def zstd_of(data):
    """A frame of stored blocks (RFC 8878, 3.1.1): what any encoder may write."""
    out = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data))
    for at in range(0, len(data), 100000):
        part = data[at : at + 100000]
        out += (len(part) << 3 | (at + 100000 >= len(data))).to_bytes(3, "little") + part
    return out


CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd_of, "GZIP": gzip.compress, "identity": bytes}


@pytest.mark.parametrize("coding", list(CODINGS))
def test_codings(echo, coding):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "INT8", "data": [1, 2, 3]}]}).encode()
    answer = httpx.post(f"{echo.url}/v2/models/int8/infer", content=CODINGS[coding](body), headers={"content-encoding": coding})
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [1, 2, 3], answer.text


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_tritonclient_compresses(echo, coding):
    x = values("FP64")
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{echo.port}")
    same(client.infer("fp64", [asked(tritonclient.http, "FP64", x)], request_compression_algorithm=coding).as_numpy("y"), x)
    client.close()
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{echo.port}")
    same(client.infer("fp64", [asked(tritonclient.grpc, "FP64", x)], compression_algorithm=coding).as_numpy("y"), x)
    client.close()


def test_large_bodies_in_every_split(echo):
    """Around the bytes at which the decoder pauses (256 KiB): keys, numbers, strings cut anywhere."""
    for size in list(range((256 << 10) - 3, (256 << 10) + 4)) + [(512 << 10) + 1, 1 << 20]:
        head = b'{"inputs":[{"name":"x","shape":[2,2],"datatype":"INT32","x":"'
        body = head + b"y" * (size - len(head) - 8) + b'", "data" :[[-17,2],[3,44]] }],"id":"end"}'
        answer = httpx.post(f"{echo.url}/v2/models/int32/infer", content=body)
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [-17, 2, 3, 44] and answer.json()["id"] == "end"
    numbers = np.arange(200001, dtype=np.int32)
    for data in (numbers.tolist(), numbers.reshape(1, -1).tolist()):
        answer = post(echo, "int32", data, [1, 200001])
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == numbers.tolist()
    texts = [f"{i}é" * (i % 7) for i in range(60000)]
    answer = post(echo, "bytes", texts, [1, 60000])
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == texts
    flags = [i % 3 == 0 for i in range(100000)]
    answer = post(echo, "bool", flags, [2, 50000])
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == flags


def test_raw_binary_requests(echo):
    x = np.arange(6, dtype=np.float32)
    headers = {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    answer = httpx.post(f"{echo.url}/v2/models/fp32/infer", content=x.tobytes(), headers=headers)
    n = int(answer.headers["inference-header-content-length"])
    assert answer.status_code == 200 and json.loads(answer.content[:n])["outputs"][0]["shape"] == [1, 6]
    assert answer.content[n:] == x.tobytes()
    answer = httpx.post(f"{echo.url}/v2/models/bytes/infer", content=b"one element", headers=headers)
    n = int(answer.headers["inference-header-content-length"])
    assert answer.content[n:] == b"\x0b\0\0\0one element"
    answer = httpx.post(f"{echo.url}/v2/models/fp32/infer", content=b"12345", headers=headers)
    assert answer.status_code == 400 and "5 bytes" in answer.json()["error"]


def test_rows_of_one_batch_keep_their_texts(echo):
    """BYTES of different lengths share a batch and are told apart again."""
    def one(i):
        texts = ["é" * (i % 5), str(i)]
        answer = post(echo, "bytes", texts, [1, 2])
        return answer.status_code == 200 and answer.json()["outputs"][0]["data"] == texts

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(200)))


# ---- many dimensions -----------------------------------------------------------------------------------

DEEP = (2, 1, 3, 1, 1, 1, 1, 1, 1, 2, 1)  # and rows before them


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """Our own worker, with a model that turns round all dimensions of a row, of which there are eleven."""
    directory = tmp_path_factory.mktemp("deep")
    perm = onnx_file.attribute("perm", 7, b"".join(onnx_file.number(8, n) for n in (0, *range(11, 0, -1))))
    graph = onnx_file.graph(
        [onnx_file.node("Transpose", ["x"], ["y"], perm)], [onnx_file.value("x", ["n", *DEEP])], [onnx_file.value("y", ["n", *DEEP[::-1]])]
    )
    path = directory / "models" / "deep" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(onnx_file.model(graph))
    with Sluice(configuration(directory, repository=directory / "models"), wait_models=["deep"]) as sluice:
        yield sluice
        assert sluice.stop() == 0, sluice.text


def test_twelve_dimensions(deep):
    x = np.arange(36, dtype=np.float32).reshape(3, *DEEP)
    want = x.transpose(0, *range(11, 0, -1))
    for data in (x.ravel().tolist(), x.tolist()):
        [y] = post(deep, "deep", data, list(x.shape), "FP32").json()["outputs"]
        assert (y["shape"], y["data"]) == (list(want.shape), want.ravel().tolist())
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{deep.port}") as client:
        same(client.infer("deep", [asked(tritonclient.http, "FP32", x)]).as_numpy("y"), want)
        assert client.get_model_metadata("deep")["inputs"][0]["shape"] == [-1, *DEEP]
        assert client.get_model_config("deep")["output"][0]["dims"] == list(DEEP[::-1])
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{deep.port}") as client:
        same(client.infer("deep", [asked(tritonclient.grpc, "FP32", x)]).as_numpy("y"), want)
        assert client.get_model_metadata("deep").outputs[0].shape == [-1, *DEEP[::-1]]


def test_rows_of_twelve_dimensions_share_batches(deep):
    rows = np.arange(32 * 12, dtype=np.float32).reshape(32, 1, *DEEP)

    def ask(x):
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{deep.port}") as client:
            same(client.infer("deep", [asked(tritonclient.grpc, "FP32", x)]).as_numpy("y"), x.transpose(0, *range(11, 0, -1)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, rows))


def test_more_dimensions_than_sixteen(deep):
    answer = post(deep, "deep", [1.0], [1] * 17, "FP32")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("inputs[0].shape: expected at most 16 dimensions, got 17")
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{deep.port}") as client:
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="inputs.0..shape: expected at most 16 dimensions, got 17"):
            client.infer("deep", [asked(tritonclient.grpc, "FP32", np.zeros([1] * 17, np.float32))])
    answer = post(deep, "deep", [1.0], [1] * 16, "FP32")  # the metadata say so
    assert answer.status_code == 400 and "input x: shape: expected [-1,2,1,3,1,1,1,1,1,1,2,1], got [1,1,1" in answer.json()["error"]
