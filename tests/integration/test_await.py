"""A gateway that has just started does not know yet what its workers have: who asks meanwhile waits until they have said so, within
the request's deadline. Who asks what is ready does not. The worker is a double that says it when the test wants."""
import contextlib
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from h2wire import DATA, END_STREAM, H2, frame, head
from harness import ROOT, Sluice, Wire, configuration, wait_for
from tritonclient.grpc import service_pb2, service_pb2_grpc

sys.path.append(str(ROOT / "tests" / "faults"))

from worker import Refused, Service, answer_of, metadata, rows_of, serve  # noqa: E402

BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
MOST = 512  # that wait on a loop (gateway/awaiting.h)


class Shy(Service):
    """Model m: y = 2 x. Its index is not answered before it is told to."""

    def __init__(self, model="m"):
        super().__init__()
        self.speaks, self.model = threading.Event(), model

    def ServerLive(self, octets, context):
        return b"\x08\x01"

    def RepositoryIndex(self, octets, context):
        if not self.speaks.is_set():
            raise Refused(grpc.StatusCode.UNAVAILABLE, "not yet")
        answer = service_pb2.RepositoryIndexResponse()
        answer.models.add(name=self.model, version="1", state="READY")
        return answer.SerializeToString()

    def ModelMetadata(self, octets, context):
        return metadata(self.model)

    def ModelInfer(self, octets, context):
        request = service_pb2.ModelInferRequest.FromString(octets)
        return answer_of(request, rows_of(request))


@contextlib.contextmanager
def served(model="m"):
    double = Shy(model)
    server, double.port = serve(double, "127.0.0.1:0", threads=8)
    yield double
    server.stop(None)


@pytest.fixture
def shy():
    with served() as double:
        yield double


@contextlib.contextmanager
def before(shy, tmp_path, **more):
    """Started, connected, and told of nothing."""
    config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{shy.port}"], **more)
    with Sluice(config, wait_models=()) as sluice, ThreadPoolExecutor(16) as pool:
        wait_for(lambda: shy.calls["RepositoryIndex"] > 0)
        wait_for(lambda: sluice.metric("sluice_worker_connections", state="asking") > 0)
        try:
            yield sluice, pool
        finally:
            shy.speaks.set()
        if sluice.process.poll() is None:
            assert sluice.stop() == 0


def awaiting(sluice):
    return sum(loop["holds"]["awaiting"] for loop in sluice.status_page()["loops"])


def post(sluice, model="m", **more):
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", json={**BODY, **more}, timeout=60)


def request_of(model="m"):
    q = service_pb2.ModelInferRequest(model_name=model)
    q.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    q.raw_input_contents.append(np.float32([1, 2]).tobytes())
    return q


def infer_by(channel):
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )


def test_who_comes_before_the_workers_have_told(shy, tmp_path):
    """Over REST and gRPC: answered when they have; who asks for what nobody has is told so."""
    with before(shy, tmp_path) as (sluice, pool), grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
        rest = [pool.submit(post, sluice) for _ in range(4)]
        none = pool.submit(post, sluice, model="nobody")
        calls = [infer_by(channel).future(request_of(), timeout=60) for _ in range(4)]
        wait_for(lambda: awaiting(sluice) == 9)
        shy.speaks.set()
        for answer in rest:
            assert answer.result().status_code == 200 and answer.result().json()["outputs"][0]["data"] == [2, 4]
        for call in calls:
            assert call.result().raw_output_contents[0] == np.float32([2, 4]).tobytes()
        assert none.result().status_code == 404 and none.result().json() == {"error": "model nobody is not known"}
        # Now it is told at once: who waits would not be told before its deadline, and then of that.
        assert awaiting(sluice) == 0 and post(sluice, model="nobody", parameters={"timeout": 1000}).status_code == 404


def get(sluice, path):
    return httpx.get(sluice.url + path, timeout=60)


def raw(sluice):
    return httpx.post(f"{sluice.url}/v2/models/m/infer", content=np.float32([1, 2]).tobytes(), headers={"inference-header-content-length": "0"}, timeout=60)


def names(index):
    return [m["name"] for m in index.json()]


def test_calls_wait_too(shy, tmp_path):
    """All but those that ask what is ready. A request in raw binary form is one: the model's metadata decodes it."""
    with before(shy, tmp_path) as (sluice, pool), grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        paths = ["/v2/models/m", "/v2/models/m/config", "/v2/models/m/stats", "/v2/models/stats", "/v2/repository/index", "/v2/models/nobody"]
        rest = [pool.submit(get, sluice, path) for path in paths]
        body = pool.submit(raw, sluice)
        by_name = [
            stub.ModelMetadata.future(service_pb2.ModelMetadataRequest(name="m")),
            stub.ModelConfig.future(service_pb2.ModelConfigRequest(name="m")),
            stub.ModelStatistics.future(service_pb2.ModelStatisticsRequest(name="m")),
            stub.RepositoryIndex.future(service_pb2.RepositoryIndexRequest()),
        ]
        wait_for(lambda: awaiting(sluice) == len(rest) + 1 + len(by_name))
        assert get(sluice, "/v2/health/live").status_code == 200 and get(sluice, "/v2").status_code == 200
        assert get(sluice, "/v2/health/ready").status_code == 503 and get(sluice, "/v2/models/m/ready").status_code == 503
        assert not stub.ModelReady(service_pb2.ModelReadyRequest(name="m")).ready
        assert not stub.ServerReady(service_pb2.ServerReadyRequest()).ready
        assert awaiting(sluice) == len(rest) + 1 + len(by_name)
        shy.speaks.set()
        assert [f.result().status_code for f in rest] == [200] * 5 + [404]
        assert rest[0].result().json()["inputs"][0]["name"] == "x" and names(rest[4].result()) == ["m"]
        assert [s["name"] for s in rest[3].result().json()["model_stats"]] == ["m"]
        assert body.result().status_code == 200 and body.result().content.endswith(np.float32([2, 4]).tobytes())
        assert by_name[0].result().inputs[0].name == "x" and by_name[1].result().config.name == "m"
        assert by_name[2].result().model_stats[0].name == "m" and by_name[3].result().models[0].name == "m"
        assert awaiting(sluice) == 0


def test_a_call_no_longer_than_its_deadline(shy, tmp_path):
    """Its own, or what the configuration gives a request that names none."""
    with before(shy, tmp_path, limits='deadline_default = "200ms"') as (sluice, pool):
        answer = raw(sluice)
        assert answer.status_code == 504 and "not every worker has said yet" in answer.json()["error"]
        metadata_of = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/inference.GRPCInferenceService/ModelMetadata")]
        more = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "100m")]
        with H2(sluice) as h2:
            h2.send(head(1, metadata_of + more, end=False) + frame(DATA, END_STREAM, 1, b"\0\0\0\0\x03\x0a\x01m"))
            h2.until(lambda: "grpc-status" in h2.headers.get(1, {}))
            assert h2.headers[1]["grpc-status"] == "4"
        assert awaiting(sluice) == 0


def test_a_model_that_the_configuration_names(shy, tmp_path):
    """Its queue, which gives up after two seconds without a replica, does not get it before."""
    with before(shy, tmp_path, models='model "m" { }') as (sluice, pool):
        answer = pool.submit(post, sluice)
        wait_for(lambda: awaiting(sluice) == 1)
        time.sleep(2.5)
        shy.speaks.set()
        assert answer.result().status_code == 200


def test_no_longer_than_its_deadline(shy, tmp_path):
    with before(shy, tmp_path) as (sluice, pool):
        answer = post(sluice, parameters={"timeout": 100_000})
        assert answer.status_code == 504
        assert answer.json() == {"error": "model m: not every worker has said yet what it has"}
        assert awaiting(sluice) == 0


def test_one_whose_client_leaves(shy, tmp_path):
    with before(shy, tmp_path) as (sluice, pool):
        with Wire(sluice.port) as wire:
            body = httpx.Request("POST", "http://x", json=BODY).content
            wire.send(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            wait_for(lambda: awaiting(sluice) == 1)
        wait_for(lambda: awaiting(sluice) == 0)
        shy.speaks.set()
        sluice.wait_model("m")
        assert shy.calls["ModelInfer"] == 0
        sluice.wait_idle()


def test_a_drain_waits_for_them(shy, tmp_path):
    with before(shy, tmp_path) as (sluice, pool):
        answers = [pool.submit(post, sluice), pool.submit(raw, sluice), pool.submit(get, sluice, "/v2/models/m")]
        wait_for(lambda: awaiting(sluice) == 3)
        sluice.process.send_signal(signal.SIGTERM)
        sluice.wait_event("draining")
        shy.speaks.set()
        assert [a.result().status_code for a in answers] == [200, 200, 200]
        assert sluice.process.wait(30) == 0


def test_calls_whose_clients_leave(shy, tmp_path):
    with before(shy, tmp_path) as (sluice, pool):
        with Wire(sluice.port) as call, Wire(sluice.port) as body:
            call.send(b"GET /v2/repository/index HTTP/1.1\r\nhost: x\r\n\r\n")
            body.send(b"POST /v2/models/m/infer HTTP/1.1\r\nhost: x\r\ninference-header-content-length: 0\r\ncontent-length: 8\r\n\r\n12345678")
            wait_for(lambda: awaiting(sluice) == 2)
        wait_for(lambda: awaiting(sluice) == 0)
        shy.speaks.set()
        sluice.wait_model("m")
        assert shy.calls["ModelInfer"] == 0
        sluice.wait_idle()


def reload(sluice, *doubles):
    addresses = ", ".join(f'"grpc://127.0.0.1:{d.port}"' for d in doubles)
    sluice.config.write_text(re.sub(r"addresses = {.*?}", f"addresses = {{{addresses}}}", sluice.config.read_text()))
    said = httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers={"authorization": "Bearer open sesame, please"}, timeout=60)
    assert said.is_success, said.text


def test_a_reload_takes_the_worker_away(shy, tmp_path):
    """And brings another one, which has the model: they wait for that."""
    with served() as other, before(shy, tmp_path) as (sluice, pool):
        answers = [pool.submit(post, sluice), pool.submit(raw, sluice), pool.submit(get, sluice, "/v2/models/m")]
        wait_for(lambda: awaiting(sluice) == 3)
        reload(sluice, other)
        none = pool.submit(post, sluice, model="nobody")
        wait_for(lambda: awaiting(sluice) == 4)
        other.speaks.set()
        assert [a.result().status_code for a in answers] == [200, 200, 200] and none.result().status_code == 404
        assert shy.calls["ModelInfer"] == 0


def test_a_worker_that_is_added(shy, tmp_path):
    """What it may have is waited for; what is said of all is said of those that are here."""
    with served("late") as late, before(shy, tmp_path) as (sluice, pool):
        shy.speaks.set()
        sluice.wait_model("m")
        reload(sluice, shy, late)
        answers = [pool.submit(post, sluice, model="late"), pool.submit(get, sluice, "/v2/models/late")]
        wait_for(lambda: awaiting(sluice) == 2)
        assert names(get(sluice, "/v2/repository/index")) == ["m"] and get(sluice, "/v2/models/m").status_code == 200
        assert get(sluice, "/v2/models/late/ready").status_code == 503
        late.speaks.set()
        assert [a.result().status_code for a in answers] == [200, 200]


def test_so_many_and_no_more(shy, tmp_path):
    """The others are refused, to come again. Calls that are no inferences have half of the places."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with before(shy, tmp_path, loops=1) as (sluice, pool), contextlib.ExitStack() as open_channels:
        channels = [open_channels.enter_context(grpc.insecure_channel(f"127.0.0.1:{sluice.port}", options)) for _ in range(11)]
        asks = [service_pb2_grpc.GRPCInferenceServiceStub(c).ModelMetadata for c in channels[:6]]
        known = [ask.future(service_pb2.ModelMetadataRequest(name="m"), timeout=120) for ask in asks for _ in range(50)]
        wait_for(lambda: sum(c.done() for c in known) == len(known) - MOST // 2, 60)
        assert awaiting(sluice) == MOST // 2
        calls = [infer_by(c).future(request_of(), timeout=120) for c in channels[5:] for _ in range(50)]
        wait_for(lambda: sum(c.done() for c in calls) == len(calls) - MOST // 2, 60)
        assert awaiting(sluice) == MOST
        shy.speaks.set()
        for some in (known, calls):
            codes = [c.code() for c in some]
            assert codes.count(grpc.StatusCode.OK) == MOST // 2 and codes.count(grpc.StatusCode.UNAVAILABLE) == len(some) - MOST // 2
