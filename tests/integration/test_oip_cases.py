"""What unmodified clients of the protocol send and expect, case by case: over REST, HTTP/2 and gRPC."""
import json
import math
import struct

import grpc
import httpx
import pytest
import tritonclient.grpc
from h2wire import DATA, END_STREAM, H2, frame, head
from harness import GOOD_BODY, MODELS, Sluice, Wire, Worker, configuration, copy_model, wait_for
from onnx_file import STRING, graph, model, node, value
from tritonclient.grpc import service_pb2

INFER = "/v2/models/digits/infer"


def put(repository, name, octets, version="1"):
    (repository / name / version).mkdir(parents=True)
    (repository / name / version / "model.onnx").write_bytes(octets)


def passes(rank=2, type_=1):
    dims = ("n", 4) if rank == 2 else ("n",)
    return model(graph([node("Identity", ["x"], ["y"])], [value("x", dims, type_)], [value("y", dims, type_)]))


def configure(directory, repository, listen):
    return configuration(directory, repository, listen=listen)


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A gateway before a worker that has digits, passes (FP32 [n,4]), texts (BYTES [n]) and twice (versions 1 and 3)."""
    directory = tmp_path_factory.mktemp("field")
    repository = directory / "models"
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "digits")
    put(repository, "passes", passes())
    put(repository, "texts", passes(1, STRING))
    put(repository, "twice", passes(), "1")
    put(repository, "twice", passes(), "3")
    with Sluice(configure(directory, repository, 'cors = {"http://app.example", "https://b.example:8443"}'), ("digits", "twice")) as s:
        s.repository = repository
        yield s
        assert s.stop() == 0, s.text


@pytest.fixture(scope="module")
def calls(field):
    with grpc.insecure_channel(f"127.0.0.1:{field.port}") as channel:
        yield tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel)


def ask(gateway, name, data, shape=(2, 4), datatype="FP32", dialect=json.dumps, **more):
    """data: text as it stands in the JSON, or a list."""
    data = data if isinstance(data, str) else dialect(data)
    tensor = f'{{"name":"x","datatype":"{datatype}","shape":{list(shape)},"data":{data}}}'
    return httpx.post(f"{gateway.url}/v2/models/{name}/infer", content=f'{{"inputs":[{tensor}]}}', **more)


# ---- bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    "[1.5,NaN,-2,Infinity,0.25,-Infinity,NaN,8]",
    '[1.5,null,-2,"Infinity",0.25,"-Infinity","NaN",8]',
    "[[1.5,null,-2,Infinity],[0.25,-Infinity,NaN,8]]",
])  # fmt: skip
def test_floats_that_json_has_no_number_for(field, data):
    answer = ask(field, "passes", data)
    assert answer.status_code == 200, answer.text
    got = answer.json()["outputs"][0]["data"]  # answers say them as strings: that is JSON
    assert got == [1.5, "NaN", -2, "Infinity", 0.25, "-Infinity", "NaN", 8]


def test_data_before_its_shape_may_hold_them_too(field):
    body = '{"inputs":[{"data":[NaN,null,1,-Infinity],"shape":[1,4],"datatype":"FP32","name":"x"}]}'
    answer = httpx.post(f"{field.url}/v2/models/passes/infer", content=body)
    assert answer.json()["outputs"][0]["data"] == ["NaN", "NaN", 1, "-Infinity"]


def test_null_is_no_integer_and_no_string(field):
    for datatype in ("INT64", "BOOL", "BYTES"):
        for word in ("null", "NaN"):
            answer = ask(field, "passes", f"[{word},{word}]", (2,), datatype)
            assert answer.status_code == 400 and answer.json()["error"].startswith("inputs[0].data: "), answer.text


def test_strings_with_a_nul(field):
    strings = ["he\0llo", "\0", "plain", ""]
    answer = ask(field, "texts", strings, (4,), "BYTES")
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == strings
    assert "he\\u0000llo" in answer.text


def test_optional_members_that_are_null_are_not_there(field):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4], "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    for more in ({}, {"parameters": {"priority": None}}, {"outputs": [{"name": "y", "parameters": {"classification": None}}]}):
        answer = httpx.post(f"{field.url}/v2/models/passes/infer", json=body | more)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == [1, 2, 3, 4] and "id" not in answer.json()
    binary = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": None, "parameters": {"binary_data_size": 16}}
    told = json.dumps({"inputs": [binary]}).encode()
    fields = {"inference-header-content-length": str(len(told))}
    answer = httpx.post(f"{field.url}/v2/models/passes/infer", content=told + struct.pack("<4f", 1, 2, 3, 4), headers=fields)
    assert answer.status_code == 200, answer.text
    answer = httpx.post(f"{field.url}/v2/repository/index", json={"ready": None})
    assert answer.status_code == 200 and len(answer.json()) >= 4
    for name in ("name", "datatype", "shape", "data"):  # these are not optional
        answer = httpx.post(f"{field.url}/v2/models/passes/infer", json={"inputs": [tensor | {name: None}]})
        assert answer.status_code == 400 and f"inputs[0].{name}" in answer.text


def test_a_byte_order_mark_is_no_part_of_the_body(field):
    mark = b"\xef\xbb\xbf"
    for body in (mark + GOOD_BODY, mark + b" " + GOOD_BODY):
        assert httpx.post(field.url + INFER, content=body).status_code == 200
    assert httpx.post(f"{field.url}/v2/repository/index", content=mark + b'{"ready":true}').status_code == 200
    told = mark + json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}).encode()
    fields = {"inference-header-content-length": str(len(told))}
    answer = httpx.post(f"{field.url}/v2/models/passes/infer", content=told + bytes(16), headers=fields)
    assert answer.status_code == 200, answer.text
    answer = httpx.post(field.url + INFER, content=mark + mark + GOOD_BODY)
    assert answer.status_code == 400 and answer.json()["error"] == "body: not a JSON value (byte 3)"


# ---- shapes ------------------------------------------------------------------------------------------


def test_a_shape_that_the_model_does_not_take_is_told_before_it_is_queued(field, calls):
    sent = field.metric("sluice_batches_total", model="digits")
    for shape, told in (([1, 63], "[1,63]"), ([64], "[64]"), ([1, 64, 1], "[1,64,1]"), ([0, 65], "[0,65]")):
        count = math.prod(shape)
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": shape, "data": [0] * count}]}
        answer = httpx.post(field.url + INFER, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"] == f"input input: shape: expected [-1,64], got {told}"
    q = service_pb2.ModelInferRequest(model_name="digits")
    q.inputs.add(name="input", datatype="FP32", shape=[2, 32])
    q.raw_input_contents.append(bytes(256))
    with pytest.raises(grpc.RpcError) as e:
        calls.ModelInfer(q)
    assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert e.value.details() == "input input: shape: expected [-1,64], got [2,32]"
    assert field.metric("sluice_batches_total", model="digits") == sent
    assert ask(field, "passes", [[1, 2, 3, 4]] * 100, (100, 4)).status_code == 200  # rows are free


# ---- versions ----------------------------------------------------------------------------------------


def test_a_version_that_is_not_there_is_not_there_for_any_call(field, calls):
    for verb in ("/ready", "", "/config"):
        for name, versions in (("digits", ("1",)), ("twice", ("1", "3"))):
            for version in versions:
                assert field.get(f"/v2/models/{name}/versions/{version}{verb}")[0] == 200
            for version in ("9", "2", "01", "v1", "x" * 128):
                status, body = field.get(f"/v2/models/{name}/versions/{version}{verb}")
                assert (status, json.loads(body)) == (404, {"error": f"model {name} has no version {version}"})
    assert httpx.post(f"{field.url}/v2/models/digits/versions/9/infer", content=GOOD_BODY).status_code == 404
    assert calls.ModelReady(service_pb2.ModelReadyRequest(name="twice", version="3")).ready
    assert not calls.ModelReady(service_pb2.ModelReadyRequest(name="twice", version="2")).ready
    for call, question in ((calls.ModelMetadata, service_pb2.ModelMetadataRequest), (calls.ModelConfig, service_pb2.ModelConfigRequest)):
        assert call(question(name="twice", version="1"))
        with pytest.raises(grpc.RpcError) as e:
            call(question(name="twice", version="2"))
        assert e.value.code() == grpc.StatusCode.NOT_FOUND and e.value.details() == "model twice has no version 2"


def test_versions_of_all_replicas_that_are_up(tmp_path):
    put(tmp_path / "old", "twice", passes(), "1")
    put(tmp_path / "new", "twice", passes(), "1")
    put(tmp_path / "new", "twice", passes(), "2")
    with Worker(tmp_path / "old") as old, Worker(tmp_path / "new") as new:
        addresses = [f"grpc://127.0.0.1:{w.port}" for w in (old, new)]
        with Sluice(configuration(tmp_path, addresses=addresses), ("twice",)) as s:

            def versions():
                return set(json.loads(s.get("/v2/models/twice")[1])["versions"])

            wait_for(lambda: versions() == {"1", "2"}, 10, "the versions of both")
            assert s.get("/v2/models/twice/versions/2/ready")[0] == 200
            assert new.stop() == 0
            wait_for(lambda: s.get("/v2/models/twice/versions/2/ready")[0] == 404, 10, "version 2 gone")
            assert versions() == {"1"} and s.get("/v2/models/twice/versions/1/ready")[0] == 200
            raw = {"inference-header-content-length": "0"}
            for version, status in (("1", 200), ("2", 404)):
                answer = httpx.post(f"{s.url}/v2/models/twice/versions/{version}/infer", content=bytes(16), headers=raw)
                assert answer.status_code == status, answer.text
            assert s.stop() == 0, s.text
        assert old.stop() == 0


def test_what_is_not_known_is_not_ready(field, calls):
    assert not calls.ModelReady(service_pb2.ModelReadyRequest(name="nobody")).ready
    assert not calls.ModelReady(service_pb2.ModelReadyRequest(name="nobody", version="1")).ready
    status, body = field.get("/v2/models/nobody/ready")
    assert (status, json.loads(body)) == (404, {"error": "model nobody is not known"})


# ---- what a client waits for -------------------------------------------------------------------------


def test_expect_over_http2(field):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "localhost"), ("content-length", str(len(GOOD_BODY)))]
    with H2(field) as h:
        h.send(head(1, [*fields, ("expect", "100-continue")], end=False))
        assert h.until(lambda: h.status(1) == 100) and h.headers[1] == {":status": "100"}
        h.send(frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h.until(lambda: h.status(1) == 200)
        h.send(head(3, [*fields, ("expect", "tea")], end=False))
        assert h.until(lambda: h.status(3) == 417)


# ---- pages of other origins --------------------------------------------------------------------------


def preflight(gateway, origin, path=INFER, method="POST", **more):
    fields = {"origin": origin, "access-control-request-method": method} | more
    return httpx.request("OPTIONS", gateway.url + path, headers=fields)


def cors_of(answer):
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control-") or k == "vary"}


def test_a_page_of_an_allowed_origin(field):
    for origin in ("http://app.example", "https://b.example:8443"):
        answer = preflight(field, origin, **{"access-control-request-headers": "content-type,x-mine"})
        assert answer.status_code == 200 and answer.content == b""
        assert cors_of(answer) == {
            "access-control-allow-origin": origin, "access-control-allow-methods": "POST", "access-control-allow-headers": "content-type,x-mine",
            "access-control-max-age": "600", "vary": "origin", "access-control-expose-headers": answer.headers["access-control-expose-headers"],
        }  # fmt: skip
        for path, body, status in ((INFER, GOOD_BODY, 200), (INFER, b"{", 400), ("/v2/models/nobody/infer", GOOD_BODY, 404)):
            answer = httpx.post(field.url + path, content=body, headers={"origin": origin})
            assert answer.status_code == status and answer.headers["access-control-allow-origin"] == origin
            assert "sluice-model" in answer.headers["access-control-expose-headers"] and answer.headers["vary"] == "origin"
        answer = httpx.get(f"{field.url}/v2", headers={"origin": origin})
        assert answer.headers["access-control-allow-origin"] == origin
    assert preflight(field, "http://app.example", "/v2", "GET").headers["access-control-allow-methods"] == "GET, HEAD"
    assert preflight(field, "http://app.example", "/nowhere").status_code == 404


def test_an_answer_that_flows_to_a_page(field):
    rows = [[0.12345678, 1.2345678, 12.345678, 123.45678]] * 4000
    answer = ask(field, "passes", rows, (4000, 4), headers={"origin": "http://app.example"})
    assert answer.status_code == 200 and len(answer.json()["outputs"][0]["data"]) == 16000
    assert answer.headers["access-control-allow-origin"] == "http://app.example" and "transfer-encoding" in answer.headers


@pytest.mark.parametrize("origin", [
    "null", "", "*", "http://app.example/", "http://APP.example", "https://app.example", "http://app.example:80", "http://app.example.evil",
    "http://evil.example http://app.example", "http://app.example, http://b", "x" * 4000, "http://app.exampl\xe9",
])  # fmt: skip
def test_a_page_of_another_origin(field, origin):
    answer = preflight(field, origin.encode("latin-1"))
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert not any(k.startswith("access-control") for k in answer.headers)
    answer = httpx.post(field.url + INFER, content=GOOD_BODY, headers={"origin": origin.encode("latin-1")})
    assert answer.status_code == 200 and cors_of(answer) == {"vary": "origin"}


def test_without_an_origin_nothing_is_said(field, gateway):
    assert cors_of(httpx.post(field.url + INFER, content=GOOD_BODY)) == {}
    answer = preflight(gateway, "http://app.example")  # its listener allows none
    assert answer.status_code == 405 and cors_of(answer) == {}
    assert cors_of(httpx.post(gateway.url + INFER, content=GOOD_BODY, headers={"origin": "http://app.example"})) == {}


def test_a_question_about_the_server(field):
    with Wire(field.port) as w:
        w.send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").read_until_closed()
        (status, fields, body), = w.answers()
        assert (status, body, fields["allow"]) == (200, b"", "GET, HEAD, POST, OPTIONS")
    answer = httpx.request("OPTIONS", field.url + INFER)  # no page asks
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"


def test_other_origins_by_a_reload(tmp_path):
    def wait_origin(s, origin, allowed):
        wait_for(lambda: (preflight(s, origin).status_code == 200) == allowed, 10, f"{origin} {allowed}")

    hundred = ", ".join(f'"https://page{i}.example"' for i in range(100))
    with Sluice(configuration(tmp_path, listen=f"cors = {{{hundred}}}")) as s:
        assert all(preflight(s, f"https://page{i}.example").status_code == 200 for i in (0, 50, 99))
        assert preflight(s, "https://page100.example").status_code == 405
        text = s.config.read_text()
        s.config.write_text(text.replace(hundred, '"*"'))
        s.kill(1)
        wait_origin(s, "https://page100.example", True)
        answer = httpx.post(s.url + INFER, content=GOOD_BODY, headers={"origin": "null"})
        assert cors_of(answer)["access-control-allow-origin"] == "*" and "vary" not in answer.headers
        s.config.write_text(text.replace(hundred, '"null"'))
        s.kill(1)
        told = s.wait_event("reload_refused")["why"]
        assert "gateway.conf:6: cors: expected an origin" in told and "every sandboxed page" in told
        s.config.write_text(text.replace(f"cors = {{{hundred}}}", ""))
        s.kill(1)
        wait_origin(s, "https://page1.example", False)
        assert s.stop() == 0, s.text


# ---- the operators' open pages -----------------------------------------------------------------------


def test_open_pages_answer_under_any_name_and_none(field):
    with Wire(field.admin_port) as w:
        w.send(b"GET /healthz HTTP/1.0\r\n\r\n").read_until_closed()
        assert w.answers()[0][0] == 200
    with Wire(field.admin_port) as w:
        w.send(b"GET /metrics HTTP/1.1\r\nHost: sluice:9090\r\nConnection: close\r\n\r\n").read_until_closed()
        assert w.answers()[0][0] == 200
