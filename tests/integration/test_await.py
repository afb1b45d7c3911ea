"""A gateway that has just started does not know yet what its workers have: who asks meanwhile waits until they have said so, within
the request's deadline. The worker is a double that says it when the test wants."""
import contextlib
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from harness import ROOT, Sluice, Wire, configuration, wait_for
from tritonclient.grpc import service_pb2

sys.path.append(str(ROOT / "tests" / "faults"))

from worker import Refused, Service, answer_of, metadata, rows_of, serve  # noqa: E402

BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
MOST = 512  # that wait on a loop (gateway/await.h)


class Shy(Service):
    """Model m: y = 2 x. Its index is not answered before it is told to."""

    def __init__(self):
        super().__init__()
        self.speaks = threading.Event()

    def ServerLive(self, octets, context):
        return b"\x08\x01"

    def RepositoryIndex(self, octets, context):
        if not self.speaks.is_set():
            raise Refused(grpc.StatusCode.UNAVAILABLE, "not yet")
        answer = service_pb2.RepositoryIndexResponse()
        answer.models.add(name="m", version="1", state="READY")
        return answer.SerializeToString()

    def ModelMetadata(self, octets, context):
        return metadata("m")

    def ModelInfer(self, octets, context):
        request = service_pb2.ModelInferRequest.FromString(octets)
        return answer_of(request, rows_of(request))


@pytest.fixture
def shy():
    double = Shy()
    server, double.port = serve(double, "127.0.0.1:0", threads=8)
    yield double
    server.stop(None)


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
        assert httpx.get(sluice.url + "/v2/models/m").status_code == 503  # only an inference waits
        shy.speaks.set()
        for answer in rest:
            assert answer.result().status_code == 200 and answer.result().json()["outputs"][0]["data"] == [2, 4]
        for call in calls:
            assert call.result().raw_output_contents[0] == np.float32([2, 4]).tobytes()
        assert none.result().status_code == 404 and none.result().json() == {"error": "model nobody is not known"}
        assert awaiting(sluice) == 0 and post(sluice, model="nobody").status_code == 404


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
        answer = pool.submit(post, sluice)
        wait_for(lambda: awaiting(sluice) == 1)
        sluice.process.send_signal(signal.SIGTERM)
        sluice.wait_event("draining")
        shy.speaks.set()
        assert answer.result().status_code == 200
        assert sluice.process.wait(30) == 0


def test_so_many_and_no_more(shy, tmp_path):
    """The others are refused, to come again."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with before(shy, tmp_path, loops=1) as (sluice, pool), contextlib.ExitStack() as open_channels:
        channels = [open_channels.enter_context(grpc.insecure_channel(f"127.0.0.1:{sluice.port}", options)) for _ in range(11)]
        calls = [infer_by(c).future(request_of(), timeout=120) for c in channels for _ in range(50)]
        wait_for(lambda: sum(c.done() for c in calls) == len(calls) - MOST, 60)
        assert awaiting(sluice) == MOST
        shy.speaks.set()
        codes = [c.code() for c in calls]
        assert codes.count(grpc.StatusCode.OK) == MOST and codes.count(grpc.StatusCode.UNAVAILABLE) == len(calls) - MOST
