"""Processes that die, hang and are told to end, under load: who is told what, and what is left."""
import datetime
import os
import pathlib
import signal
import socket
import struct
import threading
import time

import httpx
import onnx_file
import pytest
from h2wire import ACK, CANCEL, DATA, END_STREAM, PREFACE, RST, SETTINGS, WINDOW, frame, head
from harness import GOOD_BODY, SAMPLES, SANITIZED, WORKER, Program, Sluice, Wire, best_of, configuration, gone, infer_body, memory_kib, post, wait_for
from hostile import ASK
from load import Load

INFER = "/v2/models/digits/infer"


def assert_only(load, *outcomes):
    assert set(load.outcomes) <= set(outcomes) and not load.wrong, (load.outcomes, load.wrong[:3])


def assert_nothing_left(sluice, connections=True):
    """No request, row, byte or connection is still held."""
    names = ["in_flight", "streams", "queue_rows", "running_rows"] + ["connections"] * connections
    for name in names:
        wait_for(lambda n=name: sluice.metric("sluice_" + n) == 0, 15, f"{name} 0")


def assert_serves(sluice):
    with httpx.Client(base_url=sluice.url, timeout=30) as client:
        wait_for(lambda: client.post(INFER, content=GOOD_BODY).status_code == 200, 30, "an answer")


# ---- workers ---------------------------------------------------------------------------------------


def test_a_worker_killed_under_load(start):
    """Row 135: each request gets a right answer or a clear 503; the worker comes back; the counts are right."""
    sluice = start()
    with Load(sluice.port, h1=4, h2=2) as load:
        for n in range(3):
            load.wait(400)
            os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
            sluice.wait_event("worker_listening", count=n + 2)
        load.wait(400)
    assert_only(load, 200, 503)
    deaths = sluice.find("worker_exited")
    assert [e["signal"] for e in deaths] == [9, 9, 9]
    assert_nothing_left(sluice)
    sluice.settle()
    assert sluice.metric("sluice_requests_total", model="digits", status="ok") == load.outcomes[200]
    assert sluice.metric("sluice_requests_total", model="digits") == load.answers
    assert sluice.stop() == 0


def answered(url, body=GOOD_BODY):
    """The status on a connection of its own; None: there was none."""
    try:
        return httpx.post(url + INFER, content=body, timeout=30).status_code
    except httpx.TransportError:
        return None


def moment(event):
    """Seconds, by the clock of the process that tells it."""
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def test_a_killed_worker_is_followed_at_once(start):
    """Without a pause, and every request is answered all along. (How long a worker takes to start is its own time.)"""
    sluice = start()
    os.kill(sluice.worker_pid(), signal.SIGKILL)
    begun = time.monotonic()
    while (status := answered(sluice.url)) != 200 or not sluice.find("worker_exited"):
        assert status in (200, 503) and time.monotonic() < begun + 60, status
    print(f"answered again after {time.monotonic() - begun:.3f} s")
    sluice.wait_event("worker_started", count=2)
    assert sluice.find("worker_exited")[0]["restart_in_us"] == 0 and len(sluice.find("worker_started")) == 2


def test_without_a_worker_each_request_is_told_at_once(tmp_path):
    """503, and when to come again, when a killed one is not back within the two seconds that it may take: those who
    wait are told then, and the others without waiting; nobody is kept until a deadline of 30 s."""
    hold = tmp_path / "hold"
    config = configuration(tmp_path)
    held = f'command = {{"sh", "-c", "while [ -e {hold} ]; do sleep 0.05; done; exec \\"$@\\"", "sh", '
    config.write_text(config.read_text().replace("command = {", held))
    with Sluice(config) as sluice, httpx.Client(base_url=sluice.url, timeout=60) as client:
        hold.touch()
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        sluice.wait_event("worker_exited")

        def refusal():
            begun = time.monotonic()
            answer = client.post(INFER, content=GOOD_BODY)
            assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
            return time.monotonic() - begun

        refusal()
        lost, told = (sluice.wait_event(e, model="digits") for e in ("replica_down", "no_replica"))
        assert moment(told) - moment(lost) < 20, (lost, told)
        for _ in range(10):
            best_of(refusal, 1.5)
        assert len(sluice.find("worker_listening")) == 1
        hold.unlink()
        assert_serves(sluice)
        assert sluice.stop() == 0


def test_one_of_two_workers_killed_under_load(start):
    """The other one answers all."""
    sluice = start(replicas=2)
    wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2)
    with Load(sluice.port, h1=4, h2=2) as load:
        load.wait(400)
        os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
        load.wait(400)
        sluice.wait_event("worker_listening", count=3)
    assert_only(load, 200)


def test_a_worker_that_hangs(start):
    """504 at the deadline. What is overdue makes it doubted, a probe finds it, and the keeper starts another."""
    sluice = start(health='interval = "60s" timeout = "500ms" failures = 2')
    assert_serves(sluice)  # how long it takes is known
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    short = infer_body([SAMPLES[0]["input"]], parameters={"timeout": 300000})
    with httpx.Client(base_url=sluice.url, timeout=30) as client:
        begun = time.monotonic()
        answers = [client.post(INFER, content=short) for _ in range(2)]
        assert [a.status_code for a in answers] == [504, 504] and time.monotonic() - begun < 25
        assert answers[0].json()["error"]
    assert sluice.wait_event("worker_hangs")["pid"] == pid
    assert sluice.wait_event("worker_exited")["pid"] == pid
    assert_serves(sluice)
    assert sluice.metric("sluice_events_total", event="poison") == 0
    assert_nothing_left(sluice)


def test_a_worker_that_hangs_between_requests(start):
    """Probes find it without any request, and the keeper starts another."""
    sluice = start(health='interval = "50ms" timeout = "1s" failures = 2')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    assert "probes" in sluice.wait_event("worker_down")["why"]
    assert sluice.wait_event("worker_exited")["pid"] == pid
    with httpx.Client(base_url=sluice.url, timeout=30) as client:
        assert client.get("/v2/health/live").status_code == 200
    assert_serves(sluice)


# ---- the gateway process -----------------------------------------------------------------------------


def test_the_gateway_killed_under_load(start):
    """A new one answers on the same port; the worker is not started again; what was lost is told as lost."""
    sluice = start()
    worker = sluice.worker_pid()
    with Load(sluice.port, h1=4, h2=2) as load:
        for n in range(3):
            load.wait(300)
            os.kill(sluice.find("ready")[-1]["pid"], signal.SIGKILL)
            sluice.wait_event("ready", count=n + 2)
        load.wait(300)
    assert_only(load, 200, 503, "lost", "again", "refused")
    assert [e["pid"] for e in sluice.find("worker_started")] == [worker] and not gone(worker)
    assert sluice.metric("sluice_gateway_restarts_total") == 3
    assert_nothing_left(sluice)
    assert sluice.stop() == 0


def test_a_killed_gateway_is_followed_within_500_ms(start):
    """A new connection is answered by the next process: with the model's answer, from the worker that lives on. Time it of
    the first death alone: the next one's restart waits a little."""

    def outage():
        sluice = start()
        worker = sluice.worker_pid()
        os.kill(sluice.find("ready")[-1]["pid"], signal.SIGKILL)
        begun = time.monotonic()
        while answered(sluice.url) != 200:
            assert time.monotonic() < begun + 60
        took = time.monotonic() - begun
        sluice.wait_event("ready", count=2)
        assert len(sluice.find("worker_started")) == 1 and not gone(worker)
        return took

    best_of(outage, 10 if SANITIZED else 0.5, tries=20)


def test_a_gateway_that_stands_still_and_wakes(start):
    """Row 144: SIGSTOP for 3 s, below the watchdog: what was sent meanwhile is answered."""
    sluice = start()
    pid = sluice.gateway_pid()
    with httpx.Client(base_url=sluice.url, timeout=30) as client, Wire(sluice.port, 30) as wire:
        assert client.post(INFER, content=GOOD_BODY).status_code == 200
        os.kill(pid, signal.SIGSTOP)
        wire.send(post())
        threading.Event().wait(3)
        os.kill(pid, signal.SIGCONT)
        assert wire.read_answers(1)[0][0] == 200
        assert client.post(INFER, content=GOOD_BODY).status_code == 200
    assert sluice.gateway_pid() == pid and len(sluice.find("ready")) == 1


def test_a_worker_that_stands_still_and_wakes(start):
    """For less time than its probes have: it is slow, nothing else. What it has is answered, by the same process."""
    sluice = start(health='interval = "100ms" timeout = "5s" failures = 2')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    with Wire(sluice.port, 30) as wire:
        os.kill(pid, signal.SIGSTOP)
        wire.send(post())
        threading.Event().wait(1)
        os.kill(pid, signal.SIGCONT)
        assert wire.read_answers(1)[0][0] == 200
    assert not sluice.find("worker_down") and not sluice.find("worker_hangs") and not gone(pid)


def test_a_worker_that_dies_while_the_gateway_stands_still(start):
    """What it was told meanwhile, and what ended meanwhile, it finds all at once when it wakes."""
    sluice = start(top='watchdog = "5m"')
    gateway, worker = sluice.gateway_pid(), sluice.worker_pid()
    with Wire(sluice.port, 30) as wire:
        os.kill(worker, signal.SIGSTOP)
        wire.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
        os.kill(gateway, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        sluice.wait_event("worker_listening", count=2)
        threading.Event().wait(1.5)  # more than its probes have: it was the gateway that did not look
        os.kill(gateway, signal.SIGCONT)
        assert wire.read_answers(1)[0][0] == 200
    assert sluice.gateway_pid() == gateway and len(sluice.find("ready")) == 1
    assert len(sluice.find("worker_started")) == 2
    assert_nothing_left(sluice)


def test_a_gateway_that_stands_still_for_good(start):
    """The watchdog ends it and another takes its place."""
    sluice = start(top='watchdog = "2s"')
    os.kill(sluice.gateway_pid(), signal.SIGSTOP)
    sluice.wait_event("gateway_stuck", timeout=30)
    sluice.wait_event("ready", count=2, timeout=30)
    assert_serves(sluice)


# ---- the keeper ------------------------------------------------------------------------------------


def test_a_killed_keeper_takes_all_with_it(start):
    sluice = start(replicas=2)
    children = [sluice.gateway_pid()] + [e["pid"] for e in sluice.find("worker_started")]
    assert len(children) == 3
    sluice.kill(signal.SIGKILL)
    for pid in children:
        wait_for(lambda p=pid: gone(p), 10, f"the end of {pid}")
    sluice.wait()


def test_a_keeper_that_stands_still_and_wakes(start):
    """The gateway serves; a worker that dies meanwhile is missed by nobody but the keeper, which starts it when it wakes."""
    sluice = start(replicas=2)
    ready = lambda: sluice.metric("sluice_ready_replicas", model="digits")  # noqa: E731
    wait_for(lambda: ready() == 2)
    pid = sluice.find("worker_started")[0]["pid"]
    sluice.kill(signal.SIGSTOP)
    try:
        with Load(sluice.port, h1=2, h2=1) as load:
            load.wait(200)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: ready() == 1)
            load.wait(200)
        assert_only(load, 200)
        assert not sluice.find("worker_exited")
    finally:
        sluice.kill(signal.SIGCONT)
    death = sluice.wait_event("worker_exited")
    assert (death["pid"], death["signal"]) == (pid, signal.SIGKILL)
    wait_for(lambda: ready() == 2)
    assert not sluice.find("gateway_stuck") and len(sluice.find("ready")) == 1
    assert sluice.stop() == 0


def adder(directory, columns):
    """A repository with one model, `add`: y = x + 1, x of so many columns."""
    path = directory / "add" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    ones = onnx_file.tensor("w", [columns], struct.pack(f"<{columns}f", *[1.0] * columns))
    path.write_bytes(onnx_file.add_model(ones, x=("n", columns), y=("n", columns)))
    return directory


def test_a_model_that_changes_worker_by_worker(start, tmp_path):
    """While one worker has the old form the new one is kept out; then it is the model, for metadata as well."""
    old, new = adder(tmp_path / "old", 4), adder(tmp_path / "new", 6)
    sockets = [tmp_path / "a.sock", tmp_path / "b.sock"]

    def worker(repository, path):
        return Program([WORKER, "--repository", repository, "--device", "cpu", "--threads", "1", "--listen", f"unix:{path}"])

    def shape():
        return httpx.get(f"{sluice.url}/v2/models/add").json()["inputs"][0]["shape"]

    def ask(columns):
        tensor = {"name": "x", "shape": [1, columns], "datatype": "FP32", "data": [1.0] * columns}
        return httpx.post(f"{sluice.url}/v2/models/add/infer", json={"inputs": [tensor]}).status_code

    with worker(old, sockets[0]) as a, worker(old, sockets[1]) as b:
        sluice = start(wait_models=("add",), addresses=[f"unix:{s}" for s in sockets])
        wait_for(lambda: sluice.metric("sluice_ready_replicas", model="add") == 2)
        assert shape() == [-1, 4] and ask(4) == 200
        assert a.stop() == 0
        with worker(new, sockets[0]):
            sluice.wait_event("replica_differs", model="add", replica="w/0")
            assert shape() == [-1, 4] and ask(4) == 200
            assert b.stop() == 0
            wait_for(lambda: ask(6) == 200)
            assert shape() == [-1, 6]
            with worker(new, sockets[1]):
                wait_for(lambda: sluice.metric("sluice_ready_replicas", model="add") == 2)
                assert shape() == [-1, 6]


@pytest.mark.parametrize("h1, h2", [(6, 0), (0, 3)])
def test_drain_under_load_loses_nothing(start, h1, h2):
    """Row 137: SIGTERM; clients that honour `connection: close` and GOAWAY lose no request; exit 0."""
    sluice = start()
    with Load(sluice.port, h1=h1, h2=h2, until_refused=True) as load:
        load.wait(500)
        assert sluice.stop() == 0
    assert_only(load, 200, "again", "refused")


@pytest.mark.parametrize("h1, h2", [(4, 0), (0, 3)])
def test_drain_with_a_delay_loses_nothing(start, h1, h2):
    """Connections made while we drain, served for drain_delay, are told to go away from their first answer on."""
    sluice = start(drain_delay="1s", top='drain_timeout = "20s"')
    with Load(sluice.port, h1=h1, h2=h2, until_refused=True) as load:
        load.wait(300)
        assert sluice.stop() == 0
    assert_only(load, 200, "again", "refused")
    assert not sluice.find("cut")


def test_drain_waits_for_what_runs(start):
    """A request that is with a slow worker is answered before the end."""
    sluice = start(limits='header_timeout = "2s"')
    pid = sluice.worker_pid()
    with Wire(sluice.port, 30) as wire, Wire(sluice.port, 30) as idle:
        os.kill(pid, signal.SIGSTOP)
        wire.send(post(close=False))
        wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
        sluice.kill(signal.SIGTERM)
        sluice.wait_event("draining")
        wait_for(lambda: refuses(sluice.port), 10, "the end of listening")
        os.kill(pid, signal.SIGCONT)
        status, fields, _ = wire.read_answers(1)[0]
        assert status == 200 and fields["connection"] == "close"
        assert wire.read_until_closed().closed and idle.read_until_closed().closed
    assert sluice.wait() == 0


@pytest.mark.parametrize("first", ["keeper", "gateway"])
def test_sigterm_to_every_process_is_one_request_to_end(start, first):
    """What service managers do: all processes of the service are told. Nothing that runs is cut."""
    sluice = start()
    worker, gateway = sluice.worker_pid(), sluice.gateway_pid()
    with Wire(sluice.port, 30) as wire:
        os.kill(worker, signal.SIGSTOP)
        wire.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
        if first == "keeper":
            sluice.kill(signal.SIGTERM)
            sluice.wait_event("draining", why="the keeper says so")
            os.kill(gateway, signal.SIGTERM)
        else:
            os.kill(gateway, signal.SIGTERM)
            sluice.wait_event("draining", why="SIGTERM")
            sluice.kill(signal.SIGTERM)
        sluice.wait_event("told_again")
        os.kill(worker, signal.SIGCONT)
        assert wire.read_answers(1)[0][0] == 200
    assert sluice.wait() == 0 and not sluice.find("cut")


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def cut_by(sluice, number):
    """Told to end and told again, until it is cut."""

    def hurry():
        if sluice.process.poll() is None:
            sluice.kill(number)
        return sluice.find("cut")

    wait_for(hurry, 20, "the cut")
    return sluice.wait(20)


def test_a_second_sigterm_cuts(start):
    sluice = start()
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    with Wire(sluice.port, 30) as wire:
        wire.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
        sluice.kill(signal.SIGTERM)
        sluice.wait_event("draining")
        cut_by(sluice, signal.SIGTERM)
        assert wire.read_until_closed().closed
    assert gone(pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.parametrize("to_all", [False, True])
def test_told_twice_at_once_is_told_once(start, number, to_all):
    """Supervisors double a signal, or send it to every process of the service; SIGQUIT drains as the others do."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    sluice.wait_workers()
    worker, gateway = sluice.worker_pid(), sluice.gateway_pid()
    with Wire(sluice.port, 30) as wire:
        os.kill(worker, signal.SIGSTOP)
        wire.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
        until = time.monotonic() + 0.02
        while time.monotonic() < until:
            for pid in (sluice.pid, gateway) if to_all else (sluice.pid,):
                os.kill(pid, number)
        sluice.wait_event("draining", why=number.name)
        wait_for(lambda: refuses(sluice.port), 10, "the end of listening")
        os.kill(worker, signal.SIGCONT)
        assert wire.read_answers(1)[0][0] == 200
    assert sluice.wait() == 0 and not sluice.find("cut")


# ---- clients that leave ----------------------------------------------------------------------------


def reset(wire):
    """Closes with RST: nothing that lies in our buffers is sent, nothing more is taken."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


MANY_ROWS = infer_body([SAMPLES[i % 20]["input"] for i in range(64)])


def leave_mid_head(wire):
    wire.send(post()[:60])


def leave_mid_body(wire):
    wire.send(post(MANY_ROWS)[:9000])


def leave_at_once(wire):
    wire.send(post(MANY_ROWS))


def leave_mid_answer(wire):
    """Many long answers are owed and one read is made."""
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.send(post(MANY_ROWS, close=False) * 8)
    wire.take(10)


def leave_politely(wire):
    wire.send(post(MANY_ROWS))
    wire.socket.shutdown(socket.SHUT_WR)


def h2_begin(streams, body, end):
    """That many requests over HTTP/2; `end`: they are whole."""
    octets = PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK)
    for n in range(1, 2 * streams, 2):
        octets += head(n, ASK, end=False)
        octets += b"".join(frame(DATA, 0, n, body[i : i + 16384]) for i in range(0, len(body), 16384))
        octets += frame(DATA, END_STREAM, n) if end else b""
    return octets


def leave_h2_mid_head(wire):
    wire.send(h2_begin(1, b"", False)[:-9])


def leave_h2_mid_body(wire):
    wire.send(h2_begin(4, MANY_ROWS[:9000], False))


def leave_h2_by_reset(wire):
    wire.send(h2_begin(4, MANY_ROWS, True) + b"".join(frame(RST, 0, n, struct.pack(">I", CANCEL)) for n in (1, 3, 5, 7)))


def leave_h2_mid_answer(wire):
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.send(h2_begin(8, MANY_ROWS, True))
    while len(wire.data) < 200 and wire.take(10):  # more than SETTINGS and their acknowledgement
        pass


WAYS = (leave_mid_head, leave_mid_body, leave_at_once, leave_mid_answer, leave_politely)
WAYS += (leave_h2_mid_head, leave_h2_mid_body, leave_h2_by_reset, leave_h2_mid_answer)


def leave_in_all_ways(sluice, rounds):
    for i in range(rounds):
        for way in WAYS:
            wire = Wire(sluice.port)
            way(wire)
            reset(wire) if i % 2 else wire.socket.close()


def test_clients_that_leave(start):
    """Mid-head, mid-body, mid-answer, by RST and by FIN, over HTTP/1.1 and HTTP/2: nothing is left of them."""
    sluice = start(limits='header_timeout = "1s" body_timeout = "1s"')
    pid = sluice.gateway_pid()
    leave_in_all_ways(sluice, 30)
    assert_nothing_left(sluice)
    before = memory_kib(pid)
    leave_in_all_ways(sluice, 60)
    assert_nothing_left(sluice)
    assert SANITIZED or memory_kib(pid) < before + 4096  # freed memory is kept back by AddressSanitizer
    assert_serves(sluice)
    assert sluice.gateway_pid() == pid and len(sluice.find("ready")) == 1


LAST_WORDS = {
    "h1 request": post(close=False),
    "h1 GET": b"GET /v2/health/live HTTP/1.1\r\nHost: sluice\r\n\r\n",
    "h1 half": post()[:60],
    "h2 request": head(1, ASK, end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY),
    "h2 cancelled": head(1, ASK, end=False) + frame(RST, 0, 1, struct.pack(">I", CANCEL)),
    "h2 window": frame(WINDOW, 0, 0, struct.pack(">I", 1)),
}


def test_a_reset_that_comes_with_the_last_bytes(start):
    """Both are there before the gateway looks: it takes what was said, and sees the end as well."""
    sluice = start()
    pid = sluice.gateway_pid()
    wires = []
    for name, octets in LAST_WORDS.items():
        wire = Wire(sluice.port)
        if name.startswith("h2"):
            wire.send(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
            wait_for(lambda: wire.take(10) and len(wire.data) >= 18, what="SETTINGS")
        wires.append((wire, octets))
    wait_for(lambda: sluice.metric("sluice_connections") == len(wires))
    os.kill(pid, signal.SIGSTOP)
    for wire, octets in wires:
        wire.send(octets)
        reset(wire)
    os.kill(pid, signal.SIGCONT)
    assert_nothing_left(sluice)


def test_clients_that_leave_while_the_worker_hangs(start):
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    wires = [Wire(sluice.port).send(post(close=False)) for _ in range(50)]
    try:
        wait_for(lambda: sluice.metric("sluice_in_flight") == 50)
        for i, wire in enumerate(wires):
            reset(wire) if i % 2 else wire.socket.close()
        assert_nothing_left(sluice)
    finally:
        os.kill(pid, signal.SIGCONT)
    sluice.settle()
    assert sluice.metric("sluice_requests_total", status="client_gone") == 50
    assert_serves(sluice)


# ---- the machine -----------------------------------------------------------------------------------


def test_a_full_disk_under_the_access_log(start):
    """Row 140: requests go on; the errors are counted."""
    sluice = start(log="/dev/full")
    with Load(sluice.port, h1=2, h2=1) as load:
        load.wait(500)
    assert_only(load, 200)
    wait_for(lambda: sluice.metric("sluice_log_errors_total", log="access") > 0)
    assert sluice.stop() == 0


def cpu_seconds(pid):
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def test_no_more_descriptors(start):
    """Row 83: accepting pauses without a spin, and goes on when there are descriptors again."""
    sluice = start(limits_before=["prlimit", "--nofile=64:64"])
    pid = sluice.gateway_pid()
    wires = [Wire(sluice.port, 30) for _ in range(120)]
    wait_for(lambda: sluice.metric("sluice_accept_paused_total") > 0)
    before = cpu_seconds(pid)
    threading.Event().wait(1)
    assert cpu_seconds(pid) - before < 0.5
    for wire in wires[:100]:
        wire.socket.close()
    for wire in wires[100:]:
        assert wire.send(post()).read_answers(1, 30)[0][0] == 200
        wire.socket.close()
    assert_serves(sluice)
    assert_nothing_left(sluice)
