"""/events of the admin listener: state changes as they happen, over HTTP/1.1 and HTTP/2; readers that come, stay, stop
reading and leave; its end with the process."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest
from h2wire import ACK, CANCEL, PING, PREFACE, RST, SETTINGS, H2, frame, head
from harness import SANITIZED, Sluice, Wire, best_of, configuration, memory_kib, wait_for

TOKEN = "Bearer open sesame, please"
ASK = b"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n" % TOKEN.encode()
FLOOD = PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK) + frame(PING, 0, 0, b"12345678") * 60


@pytest.fixture
def sluice(tmp_path):
    with Sluice(configuration(tmp_path, limits="abuse_budget = 10")) as s:
        s.wait_workers()
        yield s
        assert s.stop() == 0, s.text
        s.assert_clean()


def abuse(sluice):
    """A connection that is cut: one event, whenever we like."""
    with Wire(sluice.port) as wire:
        wire.send(FLOOD).read_until_closed()


class Admin(H2):
    """An HTTP/2 connection whose streams read /events."""

    FIELDS = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/events"), ("authorization", TOKEN)]

    def __init__(self, sluice):
        super().__init__(type("Target", (), {"port": sluice.admin_port}))

    def open(self, streams):
        self.send(b"".join(head(stream, self.FIELDS) for stream in streams))
        assert self.until(lambda: len(self.bodies) == len(streams))

    def reset(self, *streams):
        """When it returns they are."""
        self.send(b"".join(frame(RST, 0, stream, CANCEL.to_bytes(4, "big")) for stream in streams) + frame(PING, 0, 0, b"all done"))
        assert self.until(lambda: self.frames[-1][0] == PING)


class Reader:
    """A connection that reads /events, chunk by chunk."""

    def __init__(self, sluice, fields=b"", read=True, buffer=None):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.connect(("127.0.0.1", sluice.admin_port))
        self.socket.sendall(ASK + fields + b"\r\n")
        self.raw, self.closed = b"", False
        if read:
            self.until(lambda: b"retry:" in self.raw)

    def take(self, timeout):
        self.socket.settimeout(timeout)
        try:
            got = self.socket.recv(1 << 16)
        except (TimeoutError, BlockingIOError):
            return
        except ConnectionResetError:
            got = b""
        self.raw += got
        self.closed |= not got

    def until(self, condition, timeout=60.0):
        end = time.monotonic() + timeout
        while not condition():
            assert not self.closed and time.monotonic() < end, self.raw[-500:]
            self.take(end - time.monotonic())
        return condition()

    def until_closed(self):
        while not self.closed:
            self.take(60)

    def body(self):
        """What came so far, and whether its last chunk did."""
        rest, body = self.raw.split(b"\r\n\r\n", 1)[1], b""
        while b"\r\n" in rest:
            size, rest = rest.split(b"\r\n", 1)
            if int(size, 16) == 0:
                return body.decode(), True
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body.decode(), False

    def events(self):
        return parse(self.body()[0])

    def wait(self, event, count=1, **fields):
        fit = lambda: [e for e in self.events() if e["event"] == event and all(e.get(k) == v for k, v in fields.items())]
        return self.until(lambda: fit() if len(fit()) >= count else None)[-1]

    def close(self):
        self.socket.close()


def parse(text):
    """The events of a stream that are whole; each says its name twice, and its id."""
    events = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if "data" in fields:
            event = json.loads(fields["data"])
            assert fields["event"] == event["event"] and re.fullmatch(r"[0-9a-f]+\.\d+", fields["id"]), block
            events.append(dict(event, id=fields["id"]))
    return events


# ---- what is told ------------------------------------------------------------------------------------


def test_a_worker_that_dies_and_comes_back(sluice):
    reader = Reader(sluice)
    head = reader.raw.split(b"\r\n\r\n")[0].lower()
    assert b" 200 ok" in head and b"content-type: text/event-stream" in head and b"transfer-encoding: chunked" in head
    os.kill(sluice.worker_pid(), signal.SIGKILL)
    assert reader.wait("worker_down", worker="w/0")["level"] == "warn"
    reader.wait("replica_down", model="digits", replica="w/0")
    reader.wait("replica_up", model="digits", replica="w/0")
    reader.wait("worker_ready", worker="w/0")
    told = [dict(e) for e in reader.events()]
    numbers = [int(e.pop("id").split(".")[1]) for e in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    wait_for(lambda: all(e in sluice.events for e in told))  # word for word
    reader.close()


def test_curl_sees_the_end(sluice):
    """A drain ends the answer as an answer ends: curl is content."""
    words = ["curl", "-sSN", "-H", f"authorization: {TOKEN}", f"http://127.0.0.1:{sluice.admin_port}/events"]
    curl = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(curl.stdout.readline, b"")), daemon=True).start()
    wait_for(lambda: b": sluice\n" in lines)
    reader = Reader(sluice)
    assert sluice.stop() == 0, sluice.text
    reader.until(lambda: reader.closed)
    assert reader.body()[1] and [e["event"] for e in reader.events()][0] == "draining"
    assert curl.wait(60) == 0, curl.stderr.read()
    wait_for(lambda: any(b"event: draining" in line for line in lines))


def test_http2(sluice):
    with httpx.Client(http1=False, http2=True) as client:
        with client.stream("GET", f"http://127.0.0.1:{sluice.admin_port}/events", headers={"authorization": TOKEN}) as answer:
            assert answer.status_code == 200 and "content-length" not in answer.headers
            lines = answer.iter_lines()
            assert next(lines) == ": sluice"
            abuse(sluice)
            assert any(line == "event: client_abuse" for line in lines)
            assert sluice.stop() == 0, sluice.text
            assert any(line == "event: draining" for line in lines)
            list(lines)  # it ends, and is not cut


def test_going_on_where_it_ended(sluice):
    first = Reader(sluice)
    abuse(sluice)
    last = first.wait("client_abuse")["id"]
    first.close()
    for _ in range(3):
        abuse(sluice)
    sluice.wait_event("client_abuse", count=4)
    again = Reader(sluice, b"Last-Event-ID: %s\r\n" % last.encode())
    again.wait("client_abuse", count=3)
    assert [e["event"] for e in again.events()] == ["client_abuse"] * 3 and last not in [e["id"] for e in again.events()]
    for strange in (b"", b"x", b"%s0" % last.encode(), last.encode() + b"x", b"9" * 300):
        anew = Reader(sluice, b"Last-Event-ID: %s\r\n" % strange)
        assert anew.events() == [], strange
        anew.close()
    again.close()


def test_who_may(sluice):
    ask = lambda method="GET", **headers: httpx.request(method, f"http://127.0.0.1:{sluice.admin_port}/events", headers=headers)
    assert ask().status_code == 401 and ask(authorization=TOKEN, host="example.org").status_code == 403
    assert ask("POST", authorization=TOKEN).status_code == 405
    head = ask("HEAD", authorization=TOKEN)
    assert head.status_code == 200 and head.headers["content-type"] == "text/event-stream"


def test_what_the_keeper_tells(sluice):
    """Processes that it starts and that end, a file that is refused: in the same words as on its standard error."""
    reader = Reader(sluice)
    sluice.config.write_text(sluice.config.read_text() + "nonsense")
    sluice.kill(signal.SIGHUP)
    assert "gateway.conf:" in reader.wait("reload_refused", file=str(sluice.config))["why"]
    for start in (2, 3):
        os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
        pause_us = reader.wait("worker_exited", signal=9, count=start - 1)["restart_in_us"]
        assert pause_us == 0 or start > 2  # the second one is made to wait, unless the machine let it live for ten seconds
        reader.wait("worker_started", name="w", replica=0, start=start)
        reader.wait("worker_listening", count=start - 1)
    told = [{k: v for k, v in e.items() if k != "id"} for e in reader.events()]
    wait_for(lambda: all(e in sluice.events for e in told))
    reader.close()


def test_over_a_crash_of_the_process(sluice):
    """Who comes back with the last id of the one before hears how that ended, and all that the new one has told."""
    reader = Reader(sluice)
    abuse(sluice)
    last = reader.wait("client_abuse")["id"]
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    reader.until_closed()
    sluice.wait_event("ready", count=2)
    again = Reader(sluice, b"Last-Event-ID: %s\r\n" % last.encode())
    again.wait("gateway_exited", signal=9)
    again.wait("gateway_started", generation=1)
    again.wait("ready", generation=1)
    again.wait("worker_ready")
    assert not any(e["event"] == "client_abuse" for e in again.events())
    first = again.events()[0]["id"]
    assert first.split(".")[0] != last.split(".")[0] and first.split(".")[1] == "0"
    again.close()


def test_the_keepers_level(sluice):
    """What log.level keeps out of the log is an event all the same."""
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/loglevel"
    assert httpx.post(url, headers={"authorization": TOKEN}, json={"level": "error"}).status_code == 200
    reader = Reader(sluice)
    os.kill(sluice.worker_pid(), signal.SIGKILL)
    reader.wait("worker_started", start=2)
    assert not sluice.find("worker_started", start=2)
    reader.close()


# ---- many readers, and those that stop ---------------------------------------------------------------


def test_those_that_leave(sluice):
    """By a reset, a half that is closed, in the middle of a turn: the others go on."""
    stays = Reader(sluice)
    for i in range(30):
        reader = Reader(sluice, read=i % 2 == 0)
        if i % 3 == 0:
            reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        elif i % 3 == 1:
            reader.socket.shutdown(socket.SHUT_WR)
            reader.until(lambda r=reader: r.closed)
        reader.close()
        abuse(sluice)
    stays.wait("client_abuse", count=30)
    with Admin(sluice) as h2:
        h2.open(range(1, 40, 2))
        h2.reset(1, 5, 39)
        abuse(sluice)
        assert h2.until(lambda: sum(b.count(b"event: client_abuse") for b in h2.bodies.values()) == 17)
    stays.wait("client_abuse", count=31)
    stays.close()


def test_a_thousand_readers_that_stop(sluice):
    """A thousand read nothing any more. One that does hears of a change within 100 ms; the others cost their
    connections, and nothing more however much happens."""
    one = Reader(sluice)
    before = memory_kib(sluice.gateway_pid())
    stopped = [Reader(sluice, buffer=4096) for _ in range(100 if SANITIZED else 1000)]

    def change():
        heard = len(one.events())
        start = time.monotonic()
        abuse(sluice)
        one.until(lambda: len(one.events()) > heard)
        return time.monotonic() - start

    best_of(change, 1 if SANITIZED else 0.1, tries=50)
    connected = memory_kib(sluice.gateway_pid())
    for _ in range(400):
        abuse(sluice)
        one.take(0.001)
    one.until(lambda: len(one.events()) > 400)
    held = memory_kib(sluice.gateway_pid())
    print(f"{len(stopped)} readers: {before} KiB, {connected} KiB with them, {held} KiB after 400 events")
    if not SANITIZED:
        assert connected - before < 48 << 10
        assert held - connected < 32 << 10
    best_of(change, 1 if SANITIZED else 0.1, tries=50)
    for reader in stopped + [one]:
        reader.close()


def test_what_a_reader_misses_it_is_told(sluice):
    """One that does not read: what a socket holds, then how many events it has missed, then those that are kept."""
    late, one = Reader(sluice, buffer=4096), Reader(sluice)
    for _ in range(2500):
        abuse(sluice)
        one.take(0.001)
    one.until(lambda: len(one.events()) >= 2500)
    assert ": lost" not in one.body()[0]
    last = one.events()[-1]["id"]
    late.until(lambda: last.encode() in late.raw and late.events()[-1]["id"] == last)  # whole
    text, events = late.body()[0], late.events()
    lost = sum(int(n) for n in re.findall(r"^: lost (\d+)$", text, re.M))
    assert lost > 0 and lost + len(events) == 2500
    numbers = [int(e["id"].split(".")[1]) for e in events]
    assert numbers == sorted(numbers) and numbers[-256:] == list(range(numbers[-1] - 255, numbers[-1] + 1))
    late.close()
    one.close()


def test_as_many_as_may(tmp_path):
    """More than 1,024: the next one is told, and has a place when one has left."""
    with Sluice(configuration(tmp_path)) as sluice:
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                h2 = stack.enter_context(Admin(sluice))
                h2.open(range(1, 257, 2))
            full = httpx.get(f"http://127.0.0.1:{sluice.admin_port}/events", headers={"authorization": TOKEN})
            assert full.status_code == 503 and full.headers["retry-after"] == "1" and "as many" in full.json()["error"]
            assert sluice.status_page()["event_readers"] == 1024
            h2.reset(1)
            wait_for(lambda: Reader(sluice).raw)
        wait_for(lambda: sluice.status_page()["event_readers"] <= 1)
        assert sluice.stop() == 0
