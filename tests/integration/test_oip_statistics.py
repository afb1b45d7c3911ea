"""The statistics extension, and the index with what could not be loaded: as Triton's clients ask for them."""
import concurrent.futures
import json

import grpc
import httpx
import pytest
import tritonclient.grpc
import tritonclient.http
from harness import GOOD_BODY, MODELS, SANITIZED, SAMPLES, Sluice, configuration, copy_model, infer_body, memory_kib, wait_for
from onnx_file import graph, model, node, value
from tritonclient.grpc import service_pb2

ROWS = [s["input"] for s in SAMPLES]
INFER = "/v2/models/digits/infer"


def put(repository, name, op, version="1"):
    (repository / name / version).mkdir(parents=True)
    octets = model(graph([node(op, ["x"], ["y"])], [value("x", ("n", 4))], [value("y", ("n", 4))]))
    (repository / name / version / "model.onnx").write_bytes(octets)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A gateway before a worker that has digits, keeps (answers are kept), broken (an operator that nobody has) and half,
    of which version 2 is broken."""
    directory = tmp_path_factory.mktemp("mixed")
    repository = directory / "models"
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "digits")
    put(repository, "keeps", "Identity")
    put(repository, "broken", "NoSuchOperator")
    put(repository, "half", "Identity")
    put(repository, "half", "NoSuchOperator", "2")
    models = 'model "keeps" { cache { ttl = "10m" } }'
    with Sluice(configuration(directory, repository, models=models), ("digits", "keeps", "half")) as s:
        yield s
        assert s.stop() == 0, s.text


def stats(gateway, path):
    gateway.settle()
    status, body = gateway.get(path)
    assert status == 200, body
    return json.loads(body)["model_stats"]


def only(gateway, name):
    (entry,) = stats(gateway, f"/v2/models/{name}/stats")
    return entry


def grown(after, before):
    """What has been added to each figure."""
    inner = {k: {f: v[f] - before["inference_stats"][k][f] for f in v} for k, v in after["inference_stats"].items()}
    return {k: after[k] - before[k] for k in ("inference_count", "execution_count")} | inner


# ---- statistics --------------------------------------------------------------------------------------


def test_what_is_counted(mixed):
    before = only(mixed, "digits")
    assert (before["name"], before["version"]) == ("digits", "1")
    with httpx.Client(base_url=mixed.url) as client:
        for rows in (1, 3, 3):
            assert client.post(INFER, content=infer_body(ROWS[:rows])).status_code == 200
        assert client.post(INFER, content=b"{}").status_code == 400
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 63], "data": [0] * 63}]}
        assert client.post(INFER, json=body).status_code == 400
    after = only(mixed, "digits")
    got = grown(after, before)
    assert got["inference_count"] == 7 and got["execution_count"] == 3
    assert got["success"]["count"] == got["queue"]["count"] == got["compute_infer"]["count"] == 3
    assert got["success"]["ns"] >= got["compute_infer"]["ns"] + got["queue"]["ns"] > 0
    assert got["fail"]["count"] == 1  # the other one never named its model's queue
    assert got["cache_hit"]["count"] == 0
    assert got["compute_input"] == got["compute_output"] == {"count": 3, "ns": 0}
    sizes = {b["batch_size"]: b for b in after["batch_stats"]}
    assert list(sizes) == sorted(sizes) and sizes[3]["compute_infer"]["count"] >= 2 and sizes[3]["compute_infer"]["ns"] > 0
    assert after["last_inference"] >= before["last_inference"] > 0 or before["last_inference"] == 0


def test_answers_that_are_kept(mixed):
    body = infer_body([[1, 2, 3, 4]], "x")
    before = only(mixed, "keeps")
    for _ in range(3):
        assert httpx.post(f"{mixed.url}/v2/models/keeps/infer", content=body).status_code == 200
    got = grown(only(mixed, "keeps"), before)
    assert got["success"]["count"] == 3 and got["inference_count"] == got["compute_infer"]["count"] == 1
    assert got["cache_hit"]["count"] == 2 and got["cache_miss"]["count"] == 1


def test_all_models_and_one_version(mixed):
    everything = stats(mixed, "/v2/models/stats")
    assert {(m["name"], m["version"]) for m in everything} == {("digits", "1"), ("keeps", "1"), ("half", "1")}
    assert stats(mixed, "/v2/models/half/versions/1/stats") == [m for m in everything if m["name"] == "half"]
    for path, words in (("/v2/models/nobody/stats", "model nobody is not known"), ("/v2/models/half/versions/7/stats", "model half has no version 7")):
        status, body = mixed.get(path)
        assert (status, json.loads(body)) == (404, {"error": words})
    assert httpx.post(f"{mixed.url}/v2/models/stats").status_code == 405


def test_over_grpc_it_is_the_same(mixed):
    httpx.post(mixed.url + INFER, content=GOOD_BODY)
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{mixed.port}")
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{mixed.port}")
    assert "statistics" in client.get_server_metadata().extensions and "statistics" in rest.get_server_metadata()["extensions"]
    told = client.get_inference_statistics("digits", as_json=True)["model_stats"]
    other = rest.get_inference_statistics("digits")["model_stats"]
    assert len(told) == 1 and told[0]["inference_count"] == str(other[0]["inference_count"])
    assert told[0]["inference_stats"]["success"] == {k: str(v) for k, v in other[0]["inference_stats"]["success"].items()}
    assert told[0]["batch_stats"][0]["compute_infer"]["count"] == str(other[0]["batch_stats"][0]["compute_infer"]["count"])
    assert {m.name for m in client.get_inference_statistics().model_stats} == {"digits", "keeps", "half"}
    for name, version in (("nobody", ""), ("digits", "9")):
        with pytest.raises(tritonclient.grpc.InferenceServerException) as e:
            client.get_inference_statistics(name, version)
        assert e.value.status() == "StatusCode.NOT_FOUND"
    client.close()
    rest.close()


def test_versions_that_clients_make_up(mixed):
    before = only(mixed, "digits")
    with httpx.Client(base_url=mixed.url) as client:
        for i in range(200):
            assert client.post(f"/v2/models/digits/versions/made-up-{i}/infer", content=GOOD_BODY).status_code == 404
    after = only(mixed, "digits")
    assert grown(after, before)["fail"]["count"] == 200 and len(json.dumps(after)) < 4000


def test_asked_for_again_and_again(mixed):
    """Statistics and index, over every carrier, until it would show."""
    count = 100 if SANITIZED else 500

    def rest(path):
        with httpx.Client(base_url=mixed.url) as client:
            for _ in range(count):
                assert client.get(path).status_code == 200

    def grpc_(call, question):
        for _ in range(count):
            call(question, timeout=30)

    def ask():
        with grpc.insecure_channel(f"127.0.0.1:{mixed.port}") as channel, concurrent.futures.ThreadPoolExecutor(4) as pool:
            stub = tritonclient.grpc.service_pb2_grpc.GRPCInferenceServiceStub(channel)
            jobs = [pool.submit(rest, path) for path in ("/v2/models/stats", "/v2/repository/index")]
            jobs.append(pool.submit(grpc_, stub.ModelStatistics, service_pb2.ModelStatisticsRequest()))
            jobs.append(pool.submit(grpc_, stub.RepositoryIndex, service_pb2.RepositoryIndexRequest()))
            for job in jobs:
                job.result()

    ask()
    before = memory_kib(mixed.gateway_pid())
    ask()
    assert SANITIZED or memory_kib(mixed.gateway_pid()) < before + 4096


# ---- the index ---------------------------------------------------------------------------------------


def test_models_that_could_not_be_loaded_stand_in_the_index(mixed):
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{mixed.port}")
    rest = tritonclient.http.InferenceServerClient(f"127.0.0.1:{mixed.port}")
    lines = rest.get_model_repository_index()
    told = {(m["name"], m.get("version", "")): m for m in lines}
    assert len(told) == len(lines)
    assert {k for k, m in told.items() if m["state"] == "READY"} == {("digits", "1"), ("keeps", "1"), ("half", "1")}
    for name, version in (("broken", "1"), ("half", "2")):
        assert told[name, version]["state"] == "UNAVAILABLE" and "NoSuchOperator" in told[name, version]["reason"]
    assert {(m.name, m.version, m.state, m.reason) for m in client.get_model_repository_index().models} == {
        (m["name"], m.get("version", ""), m["state"], m.get("reason", "")) for m in lines
    }
    ready = httpx.post(f"{mixed.url}/v2/repository/index", json={"ready": True}).json()
    assert {(m["name"], m["version"]) for m in ready} == {("digits", "1"), ("keeps", "1"), ("half", "1")}
    client.close()
    rest.close()


def test_asking_for_one_says_why(mixed):
    for path in ("/v2/models/broken", "/v2/models/broken/config", "/v2/models/broken/ready", "/v2/models/broken/stats"):
        status, body = mixed.get(path)
        assert status == 404 and "NoSuchOperator" in json.loads(body)["error"], body
    answer = httpx.post(f"{mixed.url}/v2/models/broken/infer", content=infer_body([[1, 2, 3, 4]], "x"))
    assert answer.status_code == 404 and "NoSuchOperator" in answer.json()["error"]


def test_readiness_when_all_have_to_be(mixed, tmp_path):
    assert mixed.get("/v2/health/ready")[0] == 200  # any will do
    repository = tmp_path / "models"
    put(repository, "good", "Identity")
    put(repository, "broken", "NoSuchOperator")
    for models in ("", 'model "broken" { }'):
        with Sluice(configuration(tmp_path, repository, top="ready_when = all", models=models), ("good",)) as s:
            assert s.get("/v2/health/ready")[0] == 503
            (line,) = [m for m in httpx.post(f"{s.url}/v2/repository/index").json() if m["name"] == "broken"]
            assert (line["version"], line["state"]) == ("1", "UNAVAILABLE") and "NoSuchOperator" in line["reason"]
            status, body = s.get("/v2/models/broken")
            assert status == (503 if models else 404) and "NoSuchOperator" in json.loads(body)["error"]
            assert s.stop() == 0, s.text
    with Sluice(configuration(tmp_path, repository, top='ready_when = all models = listed', models='model "good" { }'), ("good",)) as s:
        wait_for(lambda: s.get("/v2/health/ready")[0] == 200, 10, "ready: the broken one is not to be served")
        assert [m["name"] for m in httpx.post(f"{s.url}/v2/repository/index").json()] == ["good"]
        assert s.stop() == 0, s.text
