"""sluice-worker by itself: what it serves of a repository, where it listens, what it refuses and how it says so."""
import socket
import struct

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from harness import GOOD_BODY, MODELS, WORKER, Program, copy_model, port_of, wait_for
from onnx_file import INT64, add_model, graph, model, node, tensor, value

WEIGHT = tensor("w", [4], struct.pack("<4f", 1, 2, 3, 4))


def turned_over():
    """y = x read as [2, n] and turned: every row of y is made of all rows of x."""
    shape = tensor("s", [2], struct.pack("<2q", 2, -1), type_=INT64)
    nodes = [node("Reshape", ["x", "s"], ["r"]), node("Transpose", ["r"], ["y"])]
    return model(graph(nodes, [value("x", ("n", 2), INT64)], [value("y", ("n", 2), INT64)], [shape]))


def put(repository, name, octets, version="1", config=None):
    (repository / name / version).mkdir(parents=True)
    (repository / name / version / "model.onnx").write_bytes(octets)
    if config:
        (repository / name / "config.json").write_text(config)


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    directory = tmp_path_factory.mktemp("worker")
    repository = directory / "models"
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "digits")
    put(repository, "turned", turned_over())
    put(repository, "never", add_model(WEIGHT), config='{"max_batch_size": 0}')
    put(repository, "junk", b"junk")
    for version in range(1, 12):
        put(repository, "many", add_model(tensor("w", [4], struct.pack("<4f", *[version] * 4))), str(version))
    (repository / "many" / "12").mkdir()
    words = [WORKER, "--repository", repository, "--device", "cpu", "--threads", "2", "--instances", "2"]
    words += ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--listen", f"unix:{directory}/socket"]
    with Program(words) as w:
        w.wait_event("listening", count=3)
        w.addresses = [e["address"] for e in w.find("listening")]
        w.url = f"http://{w.addresses[0]}"
        w.socket = directory / "socket"
        yield w
        assert w.stop() == 0, w.text
    assert not w.socket.exists()


def ask(worker, name, rows, datatype="FP32", **more):
    x = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": datatype, "data": rows}
    return httpx.post(f"{worker.url}/v2/models/{name}/infer", json={"inputs": [x], **more})


def test_it_listens_where_it_was_told(worker):
    assert all(port_of(a) > 0 for a in worker.addresses[:2])
    for address in worker.addresses[:2]:
        assert httpx.get(f"http://{address}/v2/health/ready").json() == {"ready": True}
    transport = httpx.HTTPTransport(uds=str(worker.socket))
    with httpx.Client(transport=transport) as client:
        assert client.post("http://worker/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
    with grpc.insecure_channel(f"unix:{worker.socket}") as channel:
        stub = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(tritonclient.grpc.service_pb2.ServerReadyRequest()).ready


def test_what_could_not_be_loaded_stands_in_the_index(worker):
    client = tritonclient.http.InferenceServerClient(worker.addresses[0])
    lines = {(m["name"], m["version"]): m for m in client.get_model_repository_index()}
    assert lines["digits", "1"]["state"] == "READY"
    assert lines["junk", "1"]["state"] == "UNAVAILABLE" and "not an ONNX file" in lines["junk", "1"]["reason"]
    assert lines["many", "12"]["state"] == "UNAVAILABLE" and "model.onnx" in lines["many", "12"]["reason"]
    client.close()
    ready = httpx.post(f"{worker.url}/v2/repository/index", json={"ready": True}).json()
    assert {m["state"] for m in ready} == {"READY"}
    client = tritonclient.grpc.InferenceServerClient(worker.addresses[0])
    told = {(m.name, m.version): m.state for m in client.get_model_repository_index().models}
    assert told == {key: m["state"] for key, m in lines.items()}
    client.close()


def test_versions(worker):
    assert httpx.get(f"{worker.url}/v2/models/many").json()["versions"] == ["11", "10", "9", "8", "7", "6", "5"]
    assert ask(worker, "many", [[0, 0, 0, 0]]).json()["outputs"][0]["data"] == [11] * 4
    answer = httpx.post(f"{worker.url}/v2/models/many/versions/7/infer", json={"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0] * 4}]})
    assert answer.json()["model_version"] == "7" and answer.json()["outputs"][0]["data"] == [7] * 4
    answer = httpx.get(f"{worker.url}/v2/models/many/versions/4/ready")
    assert answer.status_code == 404 and answer.json()["error"] == "model many version 4 is not served here"
    assert worker.wait_event("versions_left_out", model="many")["why"] == "the 8 highest of 12 versions are served"


def test_statistics(worker):
    def told(path):
        return {(m["name"], m["version"]): m for m in httpx.get(f"{worker.url}{path}").json()["model_stats"]}

    before = told("/v2/models/never/stats")["never", "1"]
    for rows in (1, 2):
        assert ask(worker, "never", [[1, 2, 3, 4]] * rows).status_code == 200
    after = told("/v2/models/never/stats")["never", "1"]
    assert after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"] == 2
    assert after["execution_count"] > before["execution_count"] and after["last_inference"] > 0
    assert after["inference_stats"]["compute_infer"]["ns"] > 0 and after["batch_stats"]
    assert len(told("/v2/models/many/stats")) == 7 and list(told("/v2/models/many/versions/7/stats")) == [("many", "7")]
    assert ("turned", "1") in told("/v2/models/stats") and httpx.get(f"{worker.url}/v2/models/nobody/stats").status_code == 404
    client = tritonclient.grpc.InferenceServerClient(worker.addresses[0])
    assert client.get_inference_statistics("never").model_stats[0].inference_count == after["inference_count"]
    assert "statistics" in client.get_server_metadata().extensions
    client.close()


def test_rows_that_influence_each_other_are_not_batched(worker):
    assert httpx.get(f"{worker.url}/v2/models/turned/config").json()["max_batch_size"] == 0
    assert "random rows" in worker.wait_event("model_loaded", model="turned")["why"]


def test_models_that_are_never_batched_take_rows_all_the_same(worker):
    rows = [[1, 2, 3, 4]] * 3
    assert ask(worker, "never", rows).json()["outputs"][0]["data"] == [2, 4, 6, 8] * 3
    answer = ask(worker, "never", rows * 30)
    assert answer.status_code == 400 and answer.json()["error"] == "inputs: expected at most 64 rows for model never, got 90"


def test_classification_is_refused(worker):
    answer = ask(worker, "never", [[1, 2, 3, 4]], outputs=[{"name": "y", "parameters": {"classification": 2}}])
    assert answer.status_code == 501 and answer.json()["error"].startswith("outputs[0].parameters.classification: expected none")
    client = tritonclient.grpc.InferenceServerClient(worker.addresses[0])
    x = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
    x.set_data_from_numpy(np.ones((1, 4), np.float32))
    with pytest.raises(tritonclient.grpc.InferenceServerException) as e:
        client.infer("never", [x], outputs=[tritonclient.grpc.InferRequestedOutput("y", class_count=2)])
    assert e.value.status() == "StatusCode.UNIMPLEMENTED" and "classification" in e.value.message()
    client.close()


def test_outputs_that_no_model_has(worker):
    answer = ask(worker, "never", [[1, 2, 3, 4]], outputs=[{"name": "hunter2"}])
    assert answer.status_code == 400 and "outputs[0].name: expected an output of model never (it has y)" in answer.json()["error"]
    assert "hunter2" not in answer.text


def test_health_checks(worker):
    with grpc.insecure_channel(worker.addresses[0]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        for service in (b"", b"inference.GRPCInferenceService", b"never"):
            assert check(b"\x0a" + bytes([len(service)]) + service) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as e:
            check(b"\x0a\x06nobody")
        assert e.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_second_worker_on_the_same_socket_is_refused(worker):
    words = [WORKER, "--repository", MODELS, "--device", "cpu", "--listen", f"unix:{worker.socket}"]
    with Program(words) as second:
        assert second.wait() == 1
        assert "in use" in second.text
    transport = httpx.HTTPTransport(uds=str(worker.socket))
    with httpx.Client(transport=transport) as client:
        assert client.get("http://worker/v2/health/live").status_code == 200


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_what_runs_finish():
    words = [WORKER, "--repository", MODELS, "--device", "cpu", "--threads", "1", "--listen", "127.0.0.1:0"]
    with Program(words) as w:
        url = f"http://{w.wait_event('listening')['address']}"
        with httpx.Client() as client:
            head = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(GOOD_BODY)
            with socket.create_connection(("127.0.0.1", port_of(url))) as s:
                s.sendall(head + GOOD_BODY[:100])
                assert client.get(f"{url}/v2/health/ready").status_code == 200
                w.kill(15)
                # The listener is closed: nobody new is served, the request under way is.
                wait_for(lambda: refused(port_of(url)), 10, "no longer accepted")
                s.sendall(GOOD_BODY[100:])
                answer = s.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
        assert w.wait(20) == 0
