"""Faults of the system, over the wire: rows 140 to 144 of hostile input."""
import datetime
import gzip
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import httpx
import pytest
from h2wire import DATA, H2, frame, head
from harness import GOOD_BODY, SAMPLES, SLUICE, Program, Sluice, Wire, Worker, configuration, infer_body, post, wait_for
from hostile import ASK
from load import Load, is_right
from prediction_files import records
from preload import preloadable
from test_reload import reload

INFER = "/v2/models/digits/infer"
ROWS = [s["input"] for s in SAMPLES]


class Faults:
    """The page that faults.c reads its orders from and counts in."""

    KINDS = ("recv", "send", "wait", "accept", "write", "memory")

    def __init__(self, library, path):
        path.write_bytes(bytes(4096))
        self.env = {"LD_PRELOAD": str(library), "FAULTS_PAGE": str(path)}
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 4096)

    def set(self, clock_s=0, every=0, least=0):
        self.page[:24] = struct.pack("<3q", clock_s, every, least)

    def delay_writer(self, ms):
        self.page[120:128] = struct.pack("<q", ms)

    def struck(self):
        return dict(zip(self.KINDS, struct.unpack("<6q", self.page[72:120])))


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return preloadable("faults.c", tmp_path_factory.mktemp("faults"))


@pytest.fixture
def faults(library, tmp_path):
    return Faults(library, tmp_path / "page")


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
                return all(n >= 5 for kind, n in faults.struck().items() if kind != "memory")

            wait_for(each_kind_has_struck, 30, "five faults of each kind")
        assert set(load.outcomes) == {200} and not load.wrong, load.outcomes
        faults.set()
        sluice.wait_idle()
        answered = sluice.metric("sluice_requests_total")
        wait_for(lambda: len(sluice.access_log()) == answered, what="a line for each request")
        assert sluice.metric("sluice_log_errors_total") > 0
        assert sluice.metric("sluice_log_dropped_total") == 0
        assert len(sluice.find("ready")) == 1 and len(sluice.find("worker_started")) == 1
        assert sluice.stop() == 0


@pytest.mark.parametrize("least", [20000, 200000])
def test_memory_that_runs_out(tmp_path, faults, least):
    """141: what strangers' lengths ask for may be refused, one time in two: those requests are told 503, nobody
    dies, and nothing is left of it."""
    rows = [ROWS[i % 20] for i in range(64)]
    bodies = [GOOD_BODY, infer_body(rows), infer_body(rows) + b" " * 300000, gzip.compress(infer_body(rows) + b" " * 300000)]
    with Sluice(configuration(tmp_path), env=faults.env) as sluice:
        seen = set()
        for http2 in (False, True):
            with httpx.Client(base_url=sluice.url, http1=not http2, http2=http2, timeout=30) as client:
                faults.set(every=2, least=least)
                for n in range(120):
                    body = bodies[n % 4]
                    packed = {"content-encoding": "gzip"} if n % 4 == 3 else {}
                    answer = client.post(INFER, content=body, headers=packed)
                    seen.add(answer.status_code)
                    assert answer.status_code in (200, 503), answer.text
                    assert answer.status_code == 503 or is_right(0, answer.content) or n % 4
                faults.set()
                for body in bodies[:3]:
                    assert client.post(INFER, content=body).status_code == 200
        assert seen == {200, 503} and faults.struck()["memory"] > 20
        sluice.wait_idle()
        assert len(sluice.find("ready")) == 1 and len(sluice.find("worker_started")) == 1
        assert sluice.stop() == 0


def test_a_writer_that_begins_late(tmp_path, faults):
    """A reload turns the prediction log on, on a machine that does not let its new thread run yet: what was asked behind the reload is there."""
    faults.delay_writer(1500)
    with Sluice(configuration(tmp_path), env=faults.env) as sluice:
        sluice.config.write_text(sluice.config.read_text() + f'predictions {{ file = "{tmp_path}/p" flush = "10ms" }}')
        reload(sluice)
        for _ in range(4):
            assert httpx.post(sluice.url + INFER, content=GOOD_BODY).status_code == 200
        wait_for(lambda: len(records(tmp_path / "p")) == 4, 20, "all are there")
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
            return int(wait_for(sluice.access_log)[-1]["time"][:4])  # the log thread is a little later

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
    """142: SIGUSR1 a hundred times while requests run, and SIGHUP, whose file says what it said."""
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


def test_a_local_worker_that_stands_still_is_replaced_once(start):
    """144: it is taken out once, killed and started once, and taken in once: no storm of tries."""
    sluice = start(health='interval = "100ms" timeout = "500ms" failures = 3')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    assert sluice.wait_event("worker_exited")["pid"] == pid
    with httpx.Client(base_url=sluice.url, timeout=30) as client:
        wait_for(lambda: client.post(INFER, content=GOOD_BODY).status_code == 200, 30)
    threading.Event().wait(4)
    assert len(sluice.find("worker_exited")) == 1 and len(sluice.find("worker_started")) == 2
    assert len(sluice.find("worker_down")) == 1


def test_a_remote_worker_that_stands_still_for_five_seconds(start):
    """144: it is taken out once and taken in once."""
    with Worker() as worker:
        sluice = start(addresses=[f"grpc://127.0.0.1:{worker.port}"], health='interval = "100ms" timeout = "500ms" failures = 3')
        sluice.wait_workers()
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            sluice.wait_event("worker_down")
            threading.Event().wait(4)
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        with httpx.Client(base_url=sluice.url, timeout=30) as client:
            wait_for(lambda: client.post(INFER, content=GOOD_BODY).status_code == 200, 30)
        sluice.wait_event("worker_ready", count=2)  # its loop says so, which may not be the one that answered
        assert len(sluice.find("worker_down")) == 1 and len(sluice.find("worker_ready")) == 2


# ---- where the access log goes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fifo", "directory", "missing"])
def test_logs_that_cannot_be_opened(tmp_path, kind):
    """140: the start is refused at once, with the path; a FIFO that nobody reads holds nobody up."""
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    config = configuration(tmp_path, log=path / "log" if kind == "missing" else path)
    with Program([SLUICE, "-c", config]) as program:
        assert program.wait(30) == 1
        refused = program.find("gateway_refused")[0]
        assert str(path) in refused["what"] and refused["why"]


def test_a_log_that_nobody_reads_any_more(start):
    """140: after a reopening the path is a FIFO without a reader: the file that is open goes on."""
    sluice = start()
    log = sluice.config.parent / "access.log"
    old = log.with_name("old.log")
    log.rename(old)
    os.mkfifo(log)
    sluice.kill(signal.SIGUSR1)
    with Load(sluice.port, h1=2) as load:
        load.wait(300)
    assert set(load.outcomes) == {200}
    wait_for(lambda: len(old.read_bytes().splitlines()) >= 300)
    assert sluice.stop() == 0


EXEC_ON_SOCKET = """
import os, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
os.dup2(s.fileno(), 1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_standard_output_may_be_a_socket(tmp_path):
    """access = "-" where standard output is what journald gives: no path leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        before = [sys.executable, "-c", EXEC_ON_SOCKET, str(listener.getsockname()[1])]
        with Sluice(configuration(tmp_path, log="-"), limits=before) as sluice, listener.accept()[0] as out:
            out.settimeout(30)
            with httpx.Client(base_url=sluice.url) as client:
                client.post(INFER, content=GOOD_BODY, headers={"x-request-id": "to-a-socket"})
            said = b""
            while b"to-a-socket" not in said:
                said += out.recv(65536)
            sluice.kill(signal.SIGUSR1)
            assert sluice.stop() == 0


# ---- our own bound on memory -------------------------------------------------------------------------


def test_a_small_budget_is_for_every_loop(start):
    """What one loop keeps at hand is not missed at another."""
    sluice = start(limits='bytes_in_flight = "64KiB" max_body = "64KiB"')
    for _ in range(60):
        with Wire(sluice.port) as wire:
            assert wire.send(post()).read_answers(1)[0][0] == 200
    with Wire(sluice.port) as wire:
        assert wire.send(post(infer_body(ROWS[:20]) + b" " * 40000)).read_answers(1)[0][0] == 200


def test_what_a_body_becomes_is_charged_too(start):
    """Two bytes of JSON become a float of four: 3 MiB of text, 6 MiB of tensor."""
    sluice = start(limits='bytes_in_flight = "6MiB" max_body = "4MiB"')
    n = 3 << 19
    tensor = b'{"inputs":[{"name":"input","shape":[%d,64],"datatype":"FP32","data":[0%s]}]}' % (n // 64, b",0" * (n - 1))
    with Wire(sluice.port) as wire:
        status, fields, said = wire.send(post(tensor)).read_answers(1)[0]
        assert status == 503 and fields["retry-after"] == "1" and b"memory" in said, said
    wait_for(lambda: sluice.metric("sluice_bytes_in_flight") < 1 << 20)  # a loop keeps a slice at hand
    with Wire(sluice.port) as wire:
        assert wire.send(post()).read_answers(1)[0][0] == 200


def test_bodies_past_the_budget(start):
    """503 with retry-after while others hold it, and room again when they have gone."""
    sluice = start(limits='bytes_in_flight = "256KiB" max_body = "128KiB"')
    body = infer_body(ROWS[:1]) + b" " * 100000
    holders = [Wire(sluice.port).send(post(body)[:-10]) for _ in range(2)]
    wait_for(lambda: sluice.metric("sluice_bytes_in_flight") > 200000)
    with Wire(sluice.port) as wire:
        status, fields, said = wire.send(post(body)).read_answers(1)[0]
        assert status == 503 and fields["retry-after"] == "1", said
    with H2(sluice) as h2:  # by hand: not every client reads an answer that comes before its body has left
        pieces = [body[i : i + 16384] for i in range(0, len(body), 16384)]
        h2.send(head(1, ASK, end=False) + b"".join(frame(DATA, 0, 1, p) for p in pieces))
        assert h2.until(lambda: h2.status(1) == 503) and h2.headers[1]["retry-after"] == "1", h2.frames
    with Wire(sluice.port) as wire:
        assert wire.send(post()).read_answers(1)[0][0] == 200  # a small one finds room
    for wire in holders:
        assert wire.send(post(body)[-10:]).read_answers(1)[0][0] == 200
        wire.socket.close()
    with Wire(sluice.port) as wire:
        assert wire.send(post(body)).read_answers(1)[0][0] == 200
    sluice.wait_idle()
