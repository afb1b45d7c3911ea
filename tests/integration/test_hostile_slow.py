"""Clients that are slow, stop, or do not read: rows 75 to 82 of docs/hostile.md."""
import socket
import struct
import time

import httpx
import pytest
from h2wire import DATA, END_STREAM, H2, HEADERS, PING, PREFACE, SETTINGS, WINDOW, block, frame, head
from harness import GOOD_BODY, SAMPLES, SANITIZED, Wire, best_of, infer_body, memory_kib, post, wait_for
from hostile import ASK, CHUNKED, INFER, LIVE, N, odd, request

pytestmark = pytest.mark.usefixtures("others_are_served")


def closes(wire, timeout=10.0):
    """Whether the gateway ends it by itself; the statuses that it gave before."""
    wire.read_until_closed(timeout)
    assert wire.closed, wire.data[-200:]
    return [a[0] for a in wire.answers()]


def drip(wire, octets, pause=0.05, limit=15.0):
    """Byte by byte, until the other side has enough."""
    until = time.monotonic() + limit
    for octet in octets:
        wire.send(bytes([octet]))
        if not wire.take(pause) and wire.closed:
            return
        if wire.answers() or time.monotonic() > until:
            return


@pytest.mark.parametrize("octets", [b"", b"G", b"GET /v2 HT", b"GET /v2 HTTP/1.1\r\n", b"GET /v2 HTTP/1.1\r\nHost: x\r\nX-A: "])
def test_heads_that_do_not_come(target, octets):
    """75"""
    with Wire(target.port) as wire:
        assert closes(wire.send(octets)) in ([], [408])


def test_a_dripped_head(target):
    """75: counted from accept, whatever drips: all of it would take 25 s."""
    with Wire(target.port) as wire:
        drip(wire, request(*[b"X-%d: y" % i for i in range(80)], method=b"GET", path=b"/v2"))
        assert closes(wire) in ([], [408]) and time.monotonic() - wire.started < 20


@pytest.mark.parametrize(
    "octets",
    [
        request(b"Content-Length: %d" % N),
        request(b"Content-Length: %d" % N, body=GOOD_BODY[:50]),
        request(CHUNKED),
        request(CHUNKED, body=b"5"),
        request(CHUNKED, body=b"5\r\nhe"),
        request(CHUNKED, body=b"5\r\nhello\r\n"),
        request(CHUNKED, body=b"5\r\nhello\r\n0\r\nX: "),
    ],
    ids=["none", "part", "no chunk", "size", "data", "next", "trailer"],
)
def test_bodies_that_stop(target, octets):
    """76, 77"""
    with Wire(target.port) as wire:
        assert closes(wire.send(octets)) == [408]


@pytest.mark.slow
def test_dripped_bodies(target):
    """76, 77: a byte now and then is never silent for long, and is too slow over 20 s: 408, on every carrier."""
    with Wire(target.port) as plain, Wire(target.port) as chunked, H2(target) as h2:
        plain.send(request(b"Content-Length: 100000"))
        chunked.send(request(CHUNKED, body=b"10000\r\n"))
        h2.send(head(1, ASK, end=False))

        def all_have_an_answer():
            for wire in (plain, chunked):
                wire.answers() or (wire.send(b" "), wire.take(0.05))
            h2.status(1) or (h2.send(frame(DATA, 0, 1, b" ")), h2.read(0.05))
            return plain.answers() and chunked.answers() and h2.status(1)

        wait_for(all_have_an_answer, 60, "an answer on each")
        assert (plain.answers()[0][0], chunked.answers()[0][0], h2.status(1)) == (408, 408, 408)
        assert closes(plain) == closes(chunked) == [408] and h2.goaway is None  # other streams go on
        h2.send(head(3, LIVE))
        assert h2.until(lambda: h2.status(3) == 200)


class Pusher:
    """Asks and asks and reads nothing: a window that is small from its first byte on."""

    def __init__(self, port, pieces):
        self.pieces, self.left = pieces, b""
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    def is_cut(self):
        """Pushes what the other side takes now; whether it has ended the connection."""
        try:
            while True:
                self.left = self.left or next(self.pieces)
                self.left = self.left[self.socket.send(self.left) :]
        except BlockingIOError:
            return False
        except OSError:
            return True


def endless_h1(body):
    while True:
        yield post(body, close=False)


def endless_h2(body):
    """With windows that stop nobody."""
    yield PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, (1 << 31) - 1)) + frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30))
    for n in odd():
        yield head(n, ASK, end=False) + frame(DATA, END_STREAM, n, body)


@pytest.mark.parametrize("pieces", [endless_h1, endless_h2], ids=["h1", "h2"])
def test_a_reader_that_never_reads(target, pieces):
    """78: however it goes on asking, it is cut, send_timeout after its socket took the last byte, and what it
    was owed is given back."""
    body = infer_body([SAMPLES[i % 20]["input"] for i in range(64)])
    before = memory_kib(target.gateway_pid())
    pushers = [Pusher(target.port, pieces(body)) for _ in range(10)]
    wait_for(lambda: all([p.is_cut() for p in pushers]), 60, "the end of each")
    assert SANITIZED or memory_kib(target.gateway_pid()) < before + 65536
    for p in pushers:
        p.socket.close()
    wait_for(lambda: target.metric("sluice_connections") == 0, what="no connection")


@pytest.mark.parametrize(
    "octets",
    [PREFACE[:10], PREFACE, PREFACE + frame(SETTINGS)[:5], PREFACE + frame(SETTINGS) + frame(HEADERS, 0, 1, block(LIVE)), PREFACE + frame(SETTINGS) + head(1, ASK, end=False)],
    ids=["half a preface", "no SETTINGS", "torn", "endless block", "no DATA"],
)
def test_h2_that_stops(target, octets):
    """79"""
    with H2(target, begin=False) as h2:
        h2.send(octets)
        assert h2.until(lambda: h2.is_over(1)) and h2.ends() and h2.status(1) != 200
        assert h2.goaway is not None or not octets.startswith(PREFACE)


def test_pings_keep_nothing_alive(target):
    """80"""
    with H2(target) as h2:
        until = time.monotonic() + 60
        while not h2.wire.closed and time.monotonic() < until:
            h2.send(frame(PING, 0, 0, bytes(8)))
            h2.read(0.1)
        assert h2.wire.closed


def test_an_answer_behind_a_zero_window(target):
    """56: the stream is reset after stream_stall; the connection is not."""
    with H2(target, settings=struct.pack(">HI", 4, 0)) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h2.until(lambda: 1 in h2.resets or h2.wire.closed) and not h2.bodies.get(1)


def test_a_dribbled_window(target):
    """56: a byte at a time is slow, and is not for ever."""
    with H2(target, settings=struct.pack(">HI", 4, 0)) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        for _ in range(300):
            h2.send(frame(WINDOW, 0, 1, struct.pack(">I", 1)))
            h2.read(0.002)
            if h2.wire.closed:
                break
        assert h2.until(lambda: h2.is_over(1) or h2.wire.closed)


def test_many_slow_clients_at_once(target):
    """82: 300 slow heads, then 200 resets: others do not feel it, and no descriptor is left."""
    wires = [Wire(target.port).send(b"GET /v2 HTTP/1.1\r\nHo") for _ in range(300)]

    def another():
        begun = time.monotonic()
        assert httpx.post(target.url + INFER.decode(), content=GOOD_BODY).status_code == 200
        return time.monotonic() - begun

    best_of(another, 2)
    for wire in wires[:200]:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()
    for wire in wires[200:]:
        wire.read_until_closed()
        assert wire.closed
        wire.socket.close()
