"""Health Watch of grpc.health.v1, with grpcio's own client: gateway and worker tell each change, and the end."""
import contextlib
import signal
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import MODELS, SANITIZED, WORKER, Program, Sluice, Worker, configuration, wait_for

SERVING, NOT_SERVING, UNKNOWN = (health_pb2.HealthCheckResponse.ServingStatus.Value(s) for s in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"))


class Watch:
    """A call whose messages are kept as they come, and how it ended."""

    def __init__(self, channel, service="", timeout=None):
        self.call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        self.told, self.code, self.details = [], None, ""
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            for answer in self.call:
                self.told.append(answer.status)
            self.code = grpc.StatusCode.OK
        except grpc.RpcError as e:
            self.details = e.details()
            self.code = e.code()

    def hears(self, *told):
        wait_for(lambda: self.told == list(told), what=f"told {told}, so far {self.told}")

    def ends(self, code):
        wait_for(lambda: self.code)
        assert self.code == code, (self.code, self.details)


@pytest.fixture
def worker(tmp_path):
    """A worker that is away when we say so: a function that starts one, and the one that runs."""
    words = [WORKER, "--repository", MODELS, "--device", "cpu", "--threads", "1", "--listen", f"unix:{tmp_path}/w.sock"]
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(Program(words))


@pytest.fixture
def sluice(tmp_path, worker):
    first = worker()
    with Sluice(configuration(tmp_path, addresses=[f"unix:{tmp_path}/w.sock"], drain_delay="500ms")) as s:
        s.wait_workers()
        s.worker = first
        yield s
        assert s.stop() == 0, s.text
        s.assert_clean()


def channel_to(sluice):
    return grpc.insecure_channel(f"127.0.0.1:{sluice.port}")


def test_each_change_is_told(sluice, worker):
    with channel_to(sluice) as channel:
        server, model, other = Watch(channel), Watch(channel, "digits"), Watch(channel, "nothing")
        again = Watch(channel, "inference.GRPCInferenceService")
        server.hears(SERVING), model.hears(SERVING), other.hears(UNKNOWN), again.hears(SERVING)
        sluice.worker.stop(signal.SIGKILL)
        for watch in (server, model, again):
            watch.hears(SERVING, NOT_SERVING)
        worker()
        for watch in (server, model, again):
            watch.hears(SERVING, NOT_SERVING, SERVING)
        other.hears(UNKNOWN)
        sluice.stop()
        for watch in (server, model, again):
            watch.ends(grpc.StatusCode.UNAVAILABLE)
            assert watch.told == [SERVING, NOT_SERVING, SERVING, NOT_SERVING] and "drains" in watch.details
        other.ends(grpc.StatusCode.UNAVAILABLE)
        assert other.told == [UNKNOWN]
    lines = [e for e in sluice.access_log() if e["path"] == "/grpc.health.v1.Health/Watch"]
    assert len(lines) == 4 and {e["outcome"] for e in lines} == {"unavailable"} and all(e["total_us"] > 500000 for e in lines)
    assert sorted(e["out"] for e in lines) == [7, 28, 28, 28] and not any("cut" in e for e in lines)


def test_cancelled_and_late(sluice):
    """A client that cancels, one whose deadline passes, one whose connection breaks: all of it is given back."""
    with channel_to(sluice) as channel:
        cancelled, late = Watch(channel), Watch(channel, timeout=3)
        cancelled.hears(SERVING), late.hears(SERVING)
        cancelled.call.cancel()
        cancelled.ends(grpc.StatusCode.CANCELLED)
        late.ends(grpc.StatusCode.DEADLINE_EXCEEDED)
        wait_for(lambda: sluice.metric("sluice_streams") == 0)
        broken = Watch(channel)
        broken.hears(SERVING)
    broken.ends(grpc.StatusCode.CANCELLED)
    sluice.wait_idle()
    watched = lambda: [e for e in sluice.access_log() if e["method"] == "POST"]
    wait_for(lambda: len(watched()) == 3)
    assert sum(e.get("cut", False) for e in watched()) >= 2


def test_many_at_once(sluice):
    """However many watch, each hears of it."""
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection each
    channels = [grpc.insecure_channel(f"127.0.0.1:{sluice.port}", own) for _ in range(10)]
    watches = [Watch(channel, "digits") for channel in channels for _ in range(20 if SANITIZED else 100)]
    for watch in watches:
        watch.hears(SERVING)
    sluice.worker.stop(signal.SIGKILL)
    for watch in watches:
        watch.hears(SERVING, NOT_SERVING)
    for channel in channels:
        channel.close()
    sluice.wait_idle()


def test_a_worker_tells_too():
    with Worker() as alone:
        with grpc.insecure_channel(f"127.0.0.1:{alone.port}") as channel:
            server, model, other = Watch(channel), Watch(channel, "digits"), Watch(channel, "nothing")
            server.hears(SERVING), model.hears(SERVING), other.hears(UNKNOWN)
            alone.kill(signal.SIGTERM)
            server.ends(grpc.StatusCode.UNAVAILABLE)
            assert server.told == [SERVING, NOT_SERVING]
            other.ends(grpc.StatusCode.UNAVAILABLE)
        assert alone.wait() == 0
