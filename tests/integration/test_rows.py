"""Faults of the system and of peers, over the wire: rows 85, 103, 104, 137, 140, 142, 143, 144."""
import contextlib
import datetime
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import fake_worker
import grpc
import httpx
import pytest
from fake_worker import RawWorker, answer_well, speak_h2
from harness import GOOD_BODY, ROOT, SAMPLES, SANITIZED, Program, Sluice, Wire, configuration, free_port, infer_body, post, wait_for
from load import Load, is_right
from tritonclient.grpc import service_pb2

INFER = "/v2/models/digits/infer"
ROWS = [s["input"] for s in SAMPLES]


class Faults:
    """The page that faults.c reads its orders from and counts in."""

    KINDS = ("recv", "send", "wait", "accept", "write")

    def __init__(self, library, path):
        path.write_bytes(bytes(4096))
        self.env = {"LD_PRELOAD": str(library), "FAULTS_PAGE": str(path)}
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 4096)

    def set(self, clock_s=0, every=0):
        self.page[:16] = struct.pack("<2q", clock_s, every)

    def struck(self):
        return dict(zip(self.KINDS, struct.unpack("<5q", self.page[56:96])))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """faults.c as a shared object; it cannot stand before AddressSanitizer's own."""
    if SANITIZED:
        pytest.skip("LD_PRELOAD and a sanitizer's interceptors exclude each other")
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    words = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-std=gnu17", "-Wall", "-Werror", "-o", path]
    done = subprocess.run([*words, ROOT / "tests/integration/faults.c", "-ldl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def faults(library, tmp_path):
    return Faults(library, tmp_path / "page")


def assert_nothing_left(sluice):
    for name in ("in_flight", "streams", "queue_rows", "running_rows", "connections"):
        wait_for(lambda n=name: sluice.metric("sluice_" + n) == 0, 15, f"{name} 0")


# ---- the system --------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [3, 20])
def test_calls_that_fail_now_and_then(tmp_path, faults, every):
    """142, 140: EINTR everywhere, accept without descriptors or memory, cut and refused writes of the log: no
    request is lost, and no line of the log."""
    with Sluice(configuration(tmp_path), env=faults.env) as sluice:
        faults.set(every=every)
        with Load(sluice.port, h1=4, h2=2) as load:
            load.wait(600)

            def each_kind_has_struck():
                Wire(sluice.port).socket.close()
                return all(n >= 5 for n in faults.struck().values())

            wait_for(each_kind_has_struck, 30, "five faults of each kind")
        assert set(load.outcomes) == {200} and not load.wrong, load.outcomes
        faults.set()
        assert_nothing_left(sluice)
        answered = sluice.metric("sluice_requests_total")
        wait_for(lambda: len(sluice.access_log()) == answered, what="a line for each request")
        assert sluice.metric("sluice_log_errors_total") > 0
        assert sluice.metric("sluice_log_dropped_total") == 0
        assert len(sluice.find("ready")) == 1 and len(sluice.find("worker_started")) == 1
        assert sluice.stop() == 0


def test_a_wall_clock_that_jumps(tmp_path, faults):
    """143: time-outs and deadlines do not look at it; log lines say what it said."""
    body = infer_body(ROWS[:1], parameters={"timeout": 20000000})
    years = {1: 0, -1: 0, 24 * 365 * 14: 14, -24 * 365 * 30: -30, 0: 0}  # beyond 2038, before 2000
    with Sluice(configuration(tmp_path), env=faults.env) as sluice, httpx.Client(base_url=sluice.url, timeout=30) as client:
        year = datetime.datetime.now(datetime.timezone.utc).year

        def ask():
            answer = client.post(INFER, content=body)
            assert answer.status_code == 200 and is_right(0, answer.content), answer.text
            return int(sluice.access_log()[-1]["time"][:4])

        for hours, change in years.items():
            faults.set(clock_s=hours * 3600)
            # The log's clock is looked up once a second, from the monotonic one in between.
            wait_for(lambda: abs(ask() - (year + change)) <= 1)
        assert not sluice.find("worker_down") and not sluice.find("gateway_stuck")
        assert sluice.metric("sluice_requests_total", status="deadline") == 0
        assert sluice.stop() == 0


def test_a_file_that_may_not_grow(start):
    """140: `ulimit -f` ends the access log, and nothing else."""
    sluice = start(limits_before=["prlimit", "--fsize=8192:8192"])
    with Load(sluice.port, h1=2, h2=1) as load:
        load.wait(300)
    assert set(load.outcomes) == {200} and not load.wrong
    wait_for(lambda: sluice.metric("sluice_log_errors_total", log="access") > 0)
    assert len(sluice.find("ready")) == 1 and not sluice.find("gateway_exited")
    assert sluice.stop() == 0


def test_signals_under_load(start):
    """142: SIGUSR1 a hundred times while requests run, and SIGHUP, which asks for nothing."""
    sluice = start()
    with Load(sluice.port, h1=4, h2=2) as load:
        for n in range(100):
            sluice.kill(signal.SIGHUP if n % 10 == 0 else signal.SIGUSR1)
            load.wait(5)
    assert set(load.outcomes) == {200} and not load.wrong
    answered = sluice.metric("sluice_requests_total")
    wait_for(lambda: len(sluice.access_log()) == answered)
    assert len(sluice.find("ready")) == 1 and not sluice.find("gateway_exited")
    assert sluice.stop() == 0


def test_a_machine_without_time(start):
    """144: six busy neighbours on the one core that all of it may use: slower, and nothing worse."""
    core = str(min(os.sched_getaffinity(0)))
    busy = [subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        sluice = start(limits_before=["taskset", "-c", core], health="")
        with Load(sluice.port, h1=4, h2=2) as load:
            load.wait(200, timeout=120)
        assert set(load.outcomes) == {200} and not load.wrong
        for event in ("worker_down", "worker_exited", "gateway_stuck", "gateway_exited"):
            assert not sluice.find(event), sluice.find(event)
        assert sluice.metric("sluice_gateway_restarts_total") == 0
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_a_worker_that_stands_still_for_five_seconds(start):
    """144: it is taken out once and taken in once; nobody kills it, no storm of tries."""
    sluice = start(health='interval = "100ms" timeout = "500ms" failures = 3')
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        sluice.wait_event("worker_down")
        threading.Event().wait(4)
    finally:
        os.kill(pid, signal.SIGCONT)
    with httpx.Client(base_url=sluice.url, timeout=30) as client:
        wait_for(lambda: client.post(INFER, content=GOOD_BODY).status_code == 200, 30)
    assert not sluice.find("worker_exited") and len(sluice.find("worker_started")) == 1
    assert len(sluice.find("worker_down")) <= 2 * 2  # a loop each


# ---- drain -------------------------------------------------------------------------------------------


def test_drain_finishes_streams_and_batches(start):
    """137: calls over gRPC and HTTP/1.1 that are with a slow worker, some of them in one batch."""
    sluice = start(models='model "digits" { batch { max_rows = 4 } }')
    pid = sluice.worker_pid()
    q = service_pb2.ModelInferRequest(model_name="digits")
    q.inputs.add(name="input", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend(ROWS[0])
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel, Wire(sluice.port, 60) as wire:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        assert call(q, timeout=30).model_name == "digits"
        os.kill(pid, signal.SIGSTOP)
        running = [call.future(q, timeout=60) for _ in range(12)]
        wire.send(post(close=False))
        wait_for(lambda: sluice.metric("sluice_in_flight") == 13)
        sluice.kill(signal.SIGTERM)
        sluice.wait_event("draining")
        os.kill(pid, signal.SIGCONT)
        assert all(f.result(60).model_name == "digits" for f in running)
        assert wire.read_answers(1, 30)[0][0] == 200
        assert sluice.wait() == 0
    assert not sluice.find("cut")


# ---- batches -------------------------------------------------------------------------------------------


def test_a_bad_row_harms_no_other(start):
    """104: NaN, infinity and a wrong shape, sent in the moment in which others' batch is filled."""
    sluice = start(models='model "digits" { batch { max_wait = "200ms" preferred = {8} } }')
    good = [infer_body([row]) for row in ROWS[:5]]
    nan = json.loads(good[0])
    nan["inputs"][0]["data"] = ["NaN"] * 32 + ["Infinity"] * 32
    bodies = [*good, json.dumps(nan).encode(), infer_body([[1.0] * 63]), infer_body([[]])]
    with ThreadPoolExecutor(len(bodies)) as pool:
        for _ in range(5):
            answers = list(pool.map(lambda b: httpx.post(sluice.url + INFER, content=b, timeout=30), bodies))
            for k in range(5):
                assert answers[k].status_code == 200 and is_right(k, answers[k].content), answers[k].text
            assert answers[5].status_code == 200 and answers[6].status_code == answers[7].status_code == 400
            assert set(answers[5].json()["outputs"][0]["data"]) == {"NaN"}
    batched = [int(a.headers["sluice-batch"].split(";")[0]) for a in answers[:6]]
    assert max(batched) > 1, "nobody shared a batch with it"


def test_calls_cancelled_in_mid_batch(tmp_path):
    """103: over gRPC: RST_STREAM; the others in the batch are answered, the slots are free again."""
    port = free_port()
    with Program([sys.executable, fake_worker.__file__, "--listen", f"127.0.0.1:{port}", "slow"]) as worker:
        worker.wait_event("up", timeout=30)
        rules = 'model "slow" { batch { max_wait = "500ms" preferred = {8} } }'
        with Sluice(configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{port}"], models=rules), wait_models=("slow",)) as sluice:
            with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
                call = channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelInfer",
                    request_serializer=service_pb2.ModelInferRequest.SerializeToString,
                    response_deserializer=service_pb2.ModelInferResponse.FromString,
                )
                q = service_pb2.ModelInferRequest(model_name="slow")
                q.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([3, 4])
                calls = [call.future(q, timeout=60) for _ in range(8)]
                worker.wait_event("infer", rows=8)
                for f in calls[::2]:
                    f.cancel()
                for f in calls[1::2]:
                    assert struct.unpack("<2f", f.result(60).raw_output_contents[0]) == (6, 8)
            assert_nothing_left(sluice)
            wait_for(lambda: sluice.metric("sluice_requests_total", status="client_gone") == 4)
            assert sluice.stop() == 0
        worker.kill(9)


# ---- a worker that flaps ---------------------------------------------------------------------------------


def test_a_worker_that_flaps(tmp_path):
    """85: its connections are cut every 100 ms: no storm of calls, no storm of connections, each request is
    answered once, and when it stays up all is well."""
    calls, cuts, ended = [0], [0], threading.Event()

    def count(s, c, stream, octets):
        calls[0] += 1
        answer_well(s, c, stream, octets)

    def cut(raw):
        while not ended.wait(0.1):
            cuts[0] += 1
            for s in list(raw.sockets):
                with contextlib.suppress(OSError):
                    fake_worker.reset(s)

    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
    with RawWorker(speak_h2(count)) as raw:
        config = configuration(tmp_path, addresses=[raw.address], health='interval = "60s" timeout = "5s" failures = 3')
        with Sluice(config, wait_models=("good",)) as sluice:
            flapping = threading.Thread(target=cut, args=(raw,))
            flapping.start()
            try:
                with ThreadPoolExecutor(4) as pool:
                    ask = lambda _: httpx.post(sluice.url + "/v2/models/good/infer", content=body, timeout=30)
                    statuses = [a.status_code for a in pool.map(ask, range(200))]
            finally:
                ended.set()
                flapping.join()
            assert set(statuses) <= {200, 500, 503}, set(statuses)
            assert calls[0] <= 1.2 * len(statuses), (calls, len(statuses))
            assert raw.connections <= 2 * (cuts[0] + 2), (raw.connections, cuts)  # a loop each
            wait_for(lambda: ask(0).status_code == 200, 30)
            assert all(ask(0).status_code == 200 for _ in range(20))
            assert_nothing_left(sluice)
            assert sluice.stop() == 0
