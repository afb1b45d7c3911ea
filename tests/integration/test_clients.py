"""Clients that people use: curl, httpx (h1, h2), tritonclient over HTTP and gRPC, h2load."""
import json
import subprocess

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from harness import GOOD_BODY, MODELS, SAMPLES, Worker, infer_body, wait_for

ROWS = [s["input"] for s in SAMPLES]
INFER = "/v2/models/digits/infer"


def expected(model, rows=slice(None)):
    return np.array([s[model] for s in SAMPLES[rows]], np.float32)


def close(got, want):
    np.testing.assert_allclose(np.asarray(got, np.float32).reshape(want.shape), want, rtol=1e-3, atol=1e-4)


def curl(*words):
    done = subprocess.run(["curl", "-sS", "-i", *words], capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), fields, body


def test_curl(gateway):
    status, fields, body = curl(gateway.url + INFER, "-d", GOOD_BODY.decode())
    assert status == 200, body
    assert fields["content-type"].startswith("application/json")
    assert fields["sluice-model"] == "digits;version=1"
    assert fields["sluice-source"] == "model"
    assert fields["sluice-batch"].startswith("1;reason=")
    assert {"parse", "queue", "compute", "total"} <= {w.split(";")[0].strip() for w in fields["server-timing"].split(",")}
    assert fields["x-request-id"]
    answer = json.loads(body)
    assert answer["model_name"] == "digits" and answer["model_version"] == "1"
    assert answer["outputs"][0]["name"] == "probabilities"
    assert answer["outputs"][0]["shape"] == [1, 10]
    close(answer["outputs"][0]["data"], expected("digits", slice(0, 1)))


def test_no_rows_are_answered_with_none(gateway):
    """A table that a filter left empty is no error."""
    tensor = {"name": "input", "datatype": "FP32", "shape": [0, 64], "data": []}
    output = httpx.post(gateway.url + INFER, json={"inputs": [tensor]}).json()["outputs"][0]
    assert output["shape"] == [0, 10] and output["data"] == []
    for module, port in ((tritonclient.http, gateway.port), (tritonclient.grpc, gateway.port)):
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
            asked = module.InferInput("input", [0, 64], "FP32")
            asked.set_data_from_numpy(np.empty((0, 64), np.float32))
            assert client.infer("digits", [asked]).as_numpy("probabilities").shape == (0, 10)


def test_curl_head_has_no_body(gateway):
    status, fields, body = curl("--head", gateway.url + "/v2/models/digits")
    assert status == 200 and not body and int(fields["content-length"]) > 0


def test_curl_keeps_a_request_id(gateway):
    _, fields, _ = curl(gateway.url + INFER, "-H", "x-request-id: mine-42", "-d", GOOD_BODY.decode())
    assert fields["x-request-id"] == "mine-42"


def test_curl_expects_100_continue(gateway):
    words = [gateway.url + INFER, "-H", "Expect: 100-continue", "--expect100-timeout", "20", "-d", GOOD_BODY.decode()]
    done = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", *words], capture_output=True)
    code, seconds = done.stdout.split()
    assert code == b"200" and float(seconds) < 15


@pytest.mark.parametrize("http2", [False, True])
def test_httpx(gateway, http2):
    with httpx.Client(base_url=gateway.url, http1=not http2, http2=http2) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        server = client.get("/v2").json()
        assert server["name"] == "sluice" and "binary_tensor_data" in server["extensions"]
        about = client.get("/v2/models/digits").json()
        assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 64]}]
        assert about["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
        for start in range(0, 20, 5):
            answer = client.post(INFER, content=infer_body(ROWS[start : start + 5], id=f"r{start}"))
            assert answer.status_code == 200, answer.text
            assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            assert answer.json()["id"] == f"r{start}"
            close(answer.json()["outputs"][0]["data"], expected("digits", slice(start, start + 5)))


def test_nested_data_and_versions(gateway):
    tensor = {"name": "input", "shape": [2, 64], "datatype": "FP32", "data": ROWS[:2]}
    answer = httpx.post(gateway.url + "/v2/models/digits/versions/1/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    close(answer.json()["outputs"][0]["data"], expected("digits", slice(0, 2)))
    assert httpx.post(gateway.url + "/v2/models/digits/versions/7/infer", json={"inputs": [tensor]}).status_code == 404


def test_errors_name_the_field_and_not_the_text(gateway):
    answer = httpx.post(gateway.url + INFER, json={"inputs": [{"name": "secret-word", "shape": [1], "datatype": "FP32", "data": [1]}]})
    assert answer.status_code == 400 and list(answer.json()) == ["error"]
    answer = httpx.post(gateway.url + INFER, content=b'{"inputs": "hunter2"}')
    assert answer.status_code == 400 and "hunter2" not in answer.text
    assert httpx.post(gateway.url + "/v2/models/nobody/infer", content=GOOD_BODY).status_code == 404
    answer = httpx.get(gateway.url + INFER)
    assert answer.status_code == 405 and "POST" in answer.headers["allow"]


def test_a_deadline_that_cannot_be_met(gateway):
    answer = httpx.post(gateway.url + INFER, content=infer_body(ROWS[:1], parameters={"timeout": 1}))
    assert answer.status_code == 504, answer.text


@pytest.mark.parametrize("coding", ["gzip"])
def test_compressed_bodies(gateway, coding):
    import gzip

    answer = httpx.post(gateway.url + INFER, content=gzip.compress(GOOD_BODY), headers={"content-encoding": coding})
    assert answer.status_code == 200, answer.text
    answer = httpx.post(gateway.url + INFER, content=GOOD_BODY, headers={"content-encoding": "br"})
    assert answer.status_code == 415
    bomb = gzip.compress(b" " * (80 << 20))
    assert httpx.post(gateway.url + INFER, content=bomb, headers={"content-encoding": coding}).status_code == 413


# ---- tritonclient -----------------------------------------------------------------------------------


def triton_infer(module, client, model, rows, **more):
    x = np.array(rows, np.float32)
    tensor = module.InferInput("input", list(x.shape), "FP32")
    inputs = {k: v for k, v in more.items() if k == "binary_data"}
    tensor.set_data_from_numpy(x, **inputs)
    outputs = [module.InferRequestedOutput("probabilities", **inputs)]
    result = client.infer(model, [tensor], outputs=outputs, request_id="7")
    return result.as_numpy("probabilities")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("model", ["digits", "digits-small"])
def test_triton_http(gateway, model, binary):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{gateway.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    assert client.get_model_metadata(model)["name"] == model
    assert client.get_model_config(model)["max_batch_size"] > 0
    close(triton_infer(tritonclient.http, client, model, ROWS, binary_data=binary), expected(model))
    with pytest.raises(tritonclient.http.InferenceServerException, match="404|not found|unknown"):
        triton_infer(tritonclient.http, client, "nobody", ROWS, binary_data=binary)
    client.close()


def check_triton_grpc(port):
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("nobody") is False and client.is_model_ready("digits", "9") is False
    assert client.get_server_metadata().name
    about = client.get_model_metadata("digits")
    assert list(about.inputs[0].shape) == [-1, 64] and about.inputs[0].datatype == "FP32"
    assert client.get_model_config("digits").config.max_batch_size > 0
    for model in ("digits", "digits-small"):
        for count in (1, 3, 20):
            got = triton_infer(tritonclient.grpc, client, model, ROWS[:count])
            close(got, expected(model, slice(0, count)))
    with pytest.raises(tritonclient.grpc.InferenceServerException) as e:
        triton_infer(tritonclient.grpc, client, "nobody", ROWS)
    assert e.value.status() == "StatusCode.NOT_FOUND"
    with pytest.raises(tritonclient.grpc.InferenceServerException) as e:
        triton_infer(tritonclient.grpc, client, "digits", [r[:63] for r in ROWS])
    assert e.value.status() == "StatusCode.INVALID_ARGUMENT"
    client.close()


def test_triton_grpc(gateway):
    check_triton_grpc(gateway.port)


def test_the_worker_alone():
    with Worker(MODELS) as worker:
        check_triton_grpc(worker.port)
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{worker.port}")
        close(triton_infer(tritonclient.http, client, "digits", ROWS, binary_data=True), expected("digits"))
        client.close()
        assert worker.stop() == 0, worker.text


def check_no_rows(port):
    """A request of no rows is answered by none, in every form."""
    none = np.zeros((0, 64), np.float32)
    body = {"inputs": [{"name": "input", "shape": [0, 64], "datatype": "FP32", "data": []}]}
    got = httpx.post(f"http://127.0.0.1:{port}{INFER}", json=body, timeout=30)
    assert got.status_code == 200, got.text
    out = got.json()["outputs"][0]
    assert out["shape"] == [0, 10] and out["data"] == []
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}")
    for binary in (True, False):
        assert triton_infer(tritonclient.http, client, "digits", none, binary_data=binary).shape == (0, 10)
    client.close()
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
    assert triton_infer(tritonclient.grpc, client, "digits", none).shape == (0, 10)
    client.close()


def test_no_rows(gateway):
    check_no_rows(gateway.port)


def test_no_rows_at_the_worker():
    with Worker(MODELS) as worker:
        check_no_rows(worker.port)
        assert worker.stop() == 0, worker.text


def test_many_triton_calls_at_once_fill_batches(gateway):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{gateway.port}", concurrency=32)
    before = gateway.metric("sluice_batches_total", model="digits")
    waiting = []
    for i in range(400):
        row = ROWS[i % 20]
        tensor = tritonclient.http.InferInput("input", [1, 64], "FP32")
        tensor.set_data_from_numpy(np.array([row], np.float32))
        waiting.append((i % 20, client.async_infer("digits", [tensor])))
    for k, call in waiting:
        close(call.get_result().as_numpy("probabilities"), expected("digits", slice(k, k + 1)))
    client.close()
    batches = wait_for(lambda: gateway.metric("sluice_batches_total", model="digits") - before)
    assert 0 < batches <= 400


# ---- operators --------------------------------------------------------------------------------------


def test_admin(gateway):
    assert httpx.post(f"{gateway.url}/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
    assert gateway.get("/healthz", gateway.admin_port)[0] == 200
    gateway.settle()
    assert gateway.metric("sluice_requests_total", model="digits", status="ok") > 0
    assert gateway.get("/status", gateway.admin_port)[0] == 401
    assert gateway.get("/status", gateway.admin_port, {"authorization": "Bearer wrong"})[0] == 401
    assert gateway.status_page()
    rebound = {"host": "evil.example", "authorization": "Bearer open sesame, please"}
    assert gateway.get("/status", gateway.admin_port, rebound)[0] in (400, 403, 421)
    secret = [p for p in ("/metrics", "/healthz") if b"sesame" in gateway.get(p, gateway.admin_port)[1]]
    assert not secret


def test_access_log(gateway):
    httpx.post(gateway.url + INFER, content=GOOD_BODY, headers={"x-request-id": "logged-once"})
    lines = wait_for(lambda: [e for e in gateway.access_log() if "logged-once" in json.dumps(e)])
    assert len(lines) == 1
    assert "digits" in json.dumps(lines[0])
