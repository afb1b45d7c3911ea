"""Hostile input over the wire against a running gateway; the numbers are the rows of the list of attacks.

One gateway with short time-outs takes it all. At the end it is the same process, with bounded memory, no
descriptor more than before, nothing in flight, and nothing on its standard error that tells of a defect.
"""
import contextlib
import gzip
import json
import os
import socket
import struct
import sys
import threading
import time
import zlib

import fake_worker
import grpc
import hpack
import httpx
import pytest
from harness import GOOD_BODY, SAMPLES, SANITIZED, Program, Sluice, Wire, Worker, best_of, configuration, infer_body, memory_kib, post, wait_for

INFER = b"/v2/models/digits/infer"
LIMITS = """header_timeout = "1s" body_timeout = "1s" idle_timeout = "3s" send_timeout = "2s" stream_stall = "2s"
max_body = "8MiB" """


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with Sluice(configuration(tmp_path_factory.mktemp("hostile"), limits=LIMITS)) as sluice:
        pid, fds = sluice.gateway_pid(), descriptors(sluice.gateway_pid())
        httpx.post(sluice.url + INFER.decode(), content=GOOD_BODY)
        yield sluice
        for name in ("connections", "in_flight", "streams", "queue_rows", "running_rows"):
            wait_for(lambda n=name: sluice.metric("sluice_" + n) == 0, 15, f"{name} 0")
        assert len(sluice.find("ready")) == 1 and not sluice.find("gateway_exited") and not sluice.find("worker_exited")
        assert SANITIZED or memory_kib(pid) < 256 << 10
        wait_for(lambda: descriptors(pid) <= fds + 4, 10, "descriptors given back")
        assert sluice.stop() == 0, sluice.text


@pytest.fixture(autouse=True)
def others_are_served(target):
    """After each attack another client is answered, at once by any measure."""
    yield
    begun = time.monotonic()
    assert httpx.post(target.url + INFER.decode(), content=GOOD_BODY, timeout=10, verify=False).status_code == 200
    assert time.monotonic() - begun < 5


def request(*fields, method=b"POST", path=INFER, host=b"Host: sluice", body=b"", version=b"HTTP/1.1"):
    lines = [b"%s %s %s" % (method, path, version), *([host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def outcome(port, octets, timeout=5.0):
    """([status], closed) of what was sent in one piece."""
    with Wire(port) as wire:
        wire.send(octets).read_until_closed(timeout)
        return [a[0] for a in wire.answers()], wire.closed


# ---- 1 to 45: HTTP/1.1 -------------------------------------------------------------------------------

HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
N = len(GOOD_BODY)
GOOD_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (N, GOOD_BODY)


def length(text):
    return request(b"Content-Length: " + text, body=GOOD_BODY + HIDDEN)


def coding(text):
    return request(b"Transfer-Encoding: " + text, body=GOOD_CHUNK + HIDDEN)


def chunks(octets):
    return request(CHUNKED, body=octets + HIDDEN)


SMUGGLING = {
    "1 CL.TE": request(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    "2 CL.TE hides": request(b"Content-Length: %d" % (5 + len(HIDDEN)), CHUNKED, body=b"0\r\n\r\n" + HIDDEN),
    "3 TE.CL": request(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n" + HIDDEN),
    "4 other coding": request(b"Transfer-Encoding: gzip", b"Content-Length: 5", body=b"hello" + HIDDEN),
    "5 two lengths": request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello" + HIDDEN),
    "5 equal lengths": request(b"Content-Length: 5", b"Content-Length: 5", body=b"hello" + HIDDEN),
    "9 2^63": request(b"Content-Length: 9223372036854775808", body=b"x"),
    "10 space before colon": request(b"Content-Length : 5", body=b"hello" + HIDDEN),
    "13 TE twice": request(CHUNKED, CHUNKED, body=GOOD_CHUNK),
    "14 folded TE": request(b"Transfer-Encoding:\r\n chunked", body=GOOD_CHUNK),
    "14 split name": request(b"Transfer-\r\nEncoding: chunked", body=GOOD_CHUNK),
    "15 TE in 1.0": request(CHUNKED, version=b"HTTP/1.0", body=GOOD_CHUNK),
    "16 bare LF in a chunk line": chunks(b"5\nhello\r\n0\r\n\r\n"),
    "18 2^64+5": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "18 200 digits": chunks(b"1" * 200 + b"\r\n"),
    "19 data too long": chunks(b"5\r\nhello!\r\n0\r\n\r\n"),
    "19 no CRLF after": chunks(b"5\r\nhello0\r\n\r\n"),
    "20 CR in an extension": chunks(b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
    "20 LF in an extension": chunks(b"5;a=\nb\r\nhello\r\n0\r\n\r\n"),
    "21 open quote": chunks(b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    "22 64 KiB extension": chunks(b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n"),
    "24 request line as trailer": chunks(b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    "25 obs-fold": request(b"X-A: b\r\n c", method=b"GET", path=b"/v2"),
    "25 folded CL": request(b"Content-Length:\r\n 5", body=b"hello"),
    "26 CR in a value": request(b"X-A: b\rc", method=b"GET", path=b"/v2"),
    "26 NUL in a value": request(b"X-A: b\0c", method=b"GET", path=b"/v2"),
    "27 empty name": request(b": b", method=b"GET", path=b"/v2"),
    "27 space in a name": request(b"X A: b", method=b"GET", path=b"/v2"),
    "27 0xEF in a name": request(b"X\xef: b", method=b"GET", path=b"/v2"),
    "27 no colon": request(b"nothing", method=b"GET", path=b"/v2"),
    "28 LF line ends": request(method=b"GET", path=b"/v2").replace(b"\r\n", b"\n"),
    "29 no Host": request(host=None, method=b"GET", path=b"/v2"),
    "29 two Hosts": request(b"Host: b", method=b"GET", path=b"/v2"),
    "29 twice the same": request(b"Host: sluice", method=b"GET", path=b"/v2"),
    "33 space": request(method=b"GET", path=b"/v2 /x"),
    "33 control": request(method=b"GET", path=b"/v2\x01"),
    "33 NUL": request(method=b"GET", path=b"/v2\0"),
    "33 DEL": request(method=b"GET", path=b"/v2\x7f"),
    "34 fragment": request(method=b"GET", path=b"/v2#x"),
    "35 encoded slash": request(method=b"GET", path=b"/v2%2fhealth"),
    "35 encoded NUL": request(method=b"GET", path=b"/v2/%00"),
    "37 NUL in the method": request(method=b"GE\0T", path=b"/v2"),
    "37 brackets": request(method=b"[GET]", path=b"/v2"),
    "37 64 KiB method": request(method=b"G" * 65536, path=b"/v2"),
    "39 TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "39 junk": bytes(range(1, 256)),
    "39 almost a preface": b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n",
}
SMUGGLING |= {f"6-8 CL {t!r}": length(t) for t in [b"5, 6", b"+5", b"-5", b"0x5", b"5_0", b"5 5", b"5;", b'"5"', b"", b"18446744073709551621", b"1" * 100]}
SMUGGLING |= {f"12-13 TE {t!r}": coding(t) for t in [b"xchunked", b"chunkedx", b"chunked;q=1", b'"chunked"', b"\x0bchunked", b"\xa0chunked", b"chunked, chunked", b"chunked, identity", b"identity", b""]}
SMUGGLING |= {f"17 chunk {t!r}": chunks(t + b"\r\nhello\r\n0\r\n\r\n") for t in [b"+5", b"-5", b"0x5", b"0_5", b" 5", b"5g", b"", b"5,5", b"5 ", b"f" * 16]}
SMUGGLING |= {f"30 Host {h!r}": request(host=b"Host: " + h, method=b"GET", path=b"/v2") for h in [b"a b", b"a/b", b"a\0b", b"a\x01", b"user@a", b"a:99999999", b"a:b"]}
SMUGGLING |= {f"36 {v!r}": request(version=v, method=b"GET", path=b"/v2") for v in [b"HTTP/1.10", b"HTTP/2.0", b"http/1.1", b"HTTP/4294967297.1", b"HTTP/1", b"HTTPS/1.1"]}


@pytest.mark.parametrize("name", SMUGGLING)
def test_refused_and_closed(target, name):
    """One answer, 4xx or 5xx, and the end: what was hidden behind is never answered."""
    statuses, closed = outcome(target.port, SMUGGLING[name])
    allowed = {400, 501, 505} | ({413} if name.startswith("9 ") else set()) | ({414, 431} if "KiB" in name else set())
    assert len(statuses) == 1 and statuses[0] in allowed and closed, (statuses, closed)


def test_a_length_that_is_too_large_is_told_at_once(target):
    """9: 2^63 - 1."""
    assert outcome(target.port, request(b"Content-Length: 9223372036854775807", body=b"x")) == ([413], True)


def test_a_body_on_get_is_read(target):
    """11"""
    get = request(b"Content-Length: %d" % len(HIDDEN), method=b"GET", path=b"/v2/health/live", body=HIDDEN)
    with Wire(target.port) as wire:
        answers = wire.send(get + HIDDEN).read_answers(2)
        threading.Event().wait(0.1)
        wire.take(0.1)
        assert [a[0] for a in answers] == [200, 200] and len(wire.answers()) == 2


def test_tiny_chunks(target):
    """23: one octet each: served, or refused for more framing than body; never slow."""
    body = b"".join(b"1\r\n%c\r\n" % c for c in GOOD_BODY) + b"0\r\n\r\n"
    assert outcome(target.port, request(CHUNKED, b"Connection: close", body=body)) == ([200], True)
    begun = time.monotonic()
    statuses, _ = outcome(target.port, request(CHUNKED, b"Connection: close", body=b"1\r\n \r\n" * 200000 + b"0\r\n\r\n"), 20)
    assert statuses and statuses[0] in (400, 413) and time.monotonic() - begun < 15


def test_trailers(target):
    """24: CL and TE among them are dropped; too many are 431."""
    good = b"%x\r\n%s\r\n0\r\n" % (N, GOOD_BODY)
    body = good + b"Content-Length: 3\r\nTransfer-Encoding: gzip\r\nX: y\r\n\r\n"
    assert outcome(target.port, request(CHUNKED, b"Connection: close", body=body)) == ([200], True)
    assert outcome(target.port, request(CHUNKED, body=good + b"a: b\r\n" * 43000 + b"\r\n")) == ([431], True)


def test_the_host_of_an_absolute_target(target):
    """31"""
    octets = request(b"Connection: close", method=b"GET", path=b"http://other.example/v2/health/live")
    assert outcome(target.port, octets) == ([200], True)


@pytest.mark.parametrize("method, path", [(b"CONNECT", b"127.0.0.1:22"), (b"TRACE", b"/v2"), (b"CONNECT", b"/v2")])
def test_no_tunnel_and_no_echo(target, method, path):
    """32, 43"""
    with Wire(target.port) as wire:
        wire.send(request(b"X-Secret: hunter2", method=method, path=path)).read_until_closed(5)
        assert [a[0] for a in wire.answers()][0] in (400, 405, 501) and b"hunter2" not in wire.data


PATHS = {b"/v2/models/../health/live": 200, b"/v2/%2e%2e/v2/health/live": 200, b"/v2/./health/live": 200, b"/%76%32/health/live": 200}
PATHS |= {b"/../../etc/passwd": 404, b"/v2/health/..;/live": 404, b"//v2/health/live": 404}


@pytest.mark.parametrize("path", PATHS)
def test_one_canonical_path(target, path):
    """35: whatever it is written as, it is one path, and never a file."""
    statuses, _ = outcome(target.port, request(b"Connection: close", method=b"GET", path=path))
    assert statuses in ([PATHS[path]], [400], [404])


BAD_NAMES = {b"a%2fb": 400, b"a%00": 400, b"x" * 129: 400, b"x" * 4096: 400, b"a%0d%0ab": 400, b"a%20b": 400, b"%c3%a9": 400}
BAD_NAMES |= {b"a:b": 400, b"..%5c..": 400, b"%2e%2e": 404, b"..": 404}  # the last two are another path


@pytest.mark.parametrize("name", BAD_NAMES)
def test_model_names(target, name):
    """120"""
    path = b"/v2/models/" + name + b"/infer"
    statuses, _ = outcome(target.port, request(b"Content-Length: %d" % N, b"Connection: close", path=path, body=GOOD_BODY))
    assert statuses == [BAD_NAMES[name]]


@pytest.mark.parametrize("name", ["../etc", "..", "a/b", "a\0b", "x" * 129, "x" * 4096, "a%2fb", "\u00e9", "a b", "a\r\nb"])
def test_model_names_over_grpc(target, name):
    """120"""
    assert grpc_status(target, prefixed(grpc_request(model=name))) == INVALID
    assert grpc_status(target, prefixed(grpc_request(version=name))) == INVALID


@pytest.mark.parametrize(
    "octets, status",
    [
        (request(method=b"GET", path=b"/" + b"a" * 65536), 414),
        (request(method=b"GET", path=b"/" + b"a" * (1 << 20)), 414),
        (request(b"X: " + b"a" * (2 << 20), method=b"GET", path=b"/v2"), 431),
        (request(b"a" * (2 << 20) + b": x", method=b"GET", path=b"/v2"), 431),
        (request(*[b"X-%d: y" % i for i in range(10000)], method=b"GET", path=b"/v2"), 431),
        (request(*[b"X: y"] * 101, method=b"GET", path=b"/v2"), 431),
        (request(*[b"X: " + b"y" * 4000] * 9, method=b"GET", path=b"/v2"), 431),
    ],
    ids=["64 KiB", "1 MiB", "value", "name", "10000", "101", "36 KiB"],
)
def test_long_heads(target, octets, status):
    """38"""
    assert outcome(target.port, octets) == ([status], True)


def test_fields_that_stop_here(target):
    """40, 41, 42: Upgrade is ignored, its body is a body; what Connection names is dropped."""
    fields = [b"Connection: close, Upgrade, HTTP2-Settings, X-Hop", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__", b"X-Hop: 1"]
    octets = request(*fields, b"Content-Length: %d" % N, body=GOOD_BODY)
    assert outcome(target.port, octets) == ([200], True)


def test_expectations(target):
    """44"""
    with Wire(target.port) as wire:
        wire.send(request(b"Expect: 100-continue", b"Content-Length: %d" % N))
        wait_for(lambda: wire.take(1) or wire.data, 5, "100")
        assert wire.data.startswith(b"HTTP/1.1 100 ")
        assert wire.send(GOOD_BODY).read_answers(1)[0][0] == 200
    assert outcome(target.port, request(b"Expect: the-spanish-inquisition", b"Content-Length: 5"))[0] == [417]
    # refused on its head: the body is not asked for
    statuses, _ = outcome(target.port, request(b"Expect: 100-continue", b"Content-Length: 900000000"))
    assert statuses == [413]


def test_valid_then_malformed(target):
    """45"""
    assert outcome(target.port, post(close=False) + b"GET /v2 HTTP/9.9\r\n\r\n") == ([200, 505], True)
    assert outcome(target.port, post(close=False) * 3 + b"\0\0\0\0") == ([200, 200, 200, 400], True)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_octets_in_pieces(target, size):
    """However it is cut, a request is the same."""
    octets = post(infer_body([SAMPLES[0]["input"][:64]]), close=False) + request(CHUNKED, b"Connection: close", body=GOOD_CHUNK)
    head = octets.index(b"\r\n\r\n") + 4
    with Wire(target.port) as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, head, size):
            wire.send(octets[at : min(at + size, head)])
        for at in range(head, len(octets), 101 * size):
            wire.send(octets[at : at + 101 * size])
        assert [a[0] for a in wire.read_until_closed().answers()] == [200, 200]


# ---- 46 to 74: HTTP/2 --------------------------------------------------------------------------------

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LIVE = [(":method", "GET"), (":scheme", "http"), (":authority", "sluice"), (":path", "/v2/health/live")]
ASK = [(":method", "POST"), (":scheme", "http"), (":authority", "sluice"), (":path", INFER.decode())]


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without index and Huffman coding, whatever its octets are."""

    def text(t):
        t = t.encode("latin-1") if isinstance(t, str) else t
        return (bytes([len(t)]) if len(t) < 127 else b"\x7f" + varint(len(t) - 127)) + t

    return b"\x00" + text(name) + text(value)


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n % 128 | 128]), n // 128
    return out + bytes([n])


def block(fields):
    return b"".join(literal(n, v) for n, v in fields)


def head(stream, fields, end=True):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


class H2:
    """A connection that sends any frames; what came back is kept."""

    def __init__(self, target, settings=b"", begin=True):
        self.wire, self.frames, self.left = Wire(target.port), [], b""
        self.decoder = hpack.Decoder()
        self.headers, self.bodies, self.resets, self.goaway = {}, {}, {}, None
        if begin:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.socket.close()

    def send(self, octets):
        self.wire.send(octets)
        return self

    def read(self, timeout):
        seen = len(self.wire.data)
        more = self.wire.take(timeout)
        self.left += self.wire.data[seen:]
        while len(self.left) >= 9 and len(self.left) >= 9 + int.from_bytes(self.left[:3], "big"):
            n = int.from_bytes(self.left[:3], "big")
            kind, flags = self.left[3], self.left[4]
            stream = int.from_bytes(self.left[5:9], "big")
            self.take_frame(kind, flags, stream, self.left[9 : 9 + n])
            self.left = self.left[9 + n :]
        return more

    def take_frame(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, payload))
        if kind == HEADERS:
            self.headers.setdefault(stream, {}).update(dict(self.decoder.decode(payload)))
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        elif kind == RST:
            self.resets[stream] = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">II", payload[:8])[1]

    def status(self, stream):
        return int(self.headers.get(stream, {}).get(":status", 0))

    def until(self, condition, timeout=8.0):
        until = time.monotonic() + timeout
        while not condition() and not self.wire.closed and time.monotonic() < until:
            self.read(0.2)
        return condition()

    def is_over(self, stream):
        """Refused or answered with an error, and not with what was asked for."""
        return stream in self.resets or self.goaway is not None or self.status(stream) >= 400 or self.wire.closed

    def ends(self, timeout=8.0):
        self.until(lambda: self.wire.closed, timeout)
        return self.wire.closed


def flood(target, pieces, codes=(CALM,), timeout=10.0):
    """Sends pieces until the connection ends; tells how many were sent."""
    with H2(target) as h2:
        sent = 0
        h2.wire.socket.settimeout(timeout)
        try:
            for piece in pieces:
                h2.wire.socket.sendall(piece)
                sent += 1
                if sent % 50 == 0:
                    h2.read(0.001)
                if h2.wire.closed or h2.goaway is not None:
                    break
        except OSError:
            pass
        assert h2.ends(), f"still open after {sent} pieces, {h2.frames[-3:]}"
        assert h2.goaway in (*codes, None), h2.goaway
        return sent, h2


def odd(first=1):
    return range(first, 1 << 20, 2)


def test_h2_speaks_at_all(target):
    with H2(target) as h2:
        h2.send(head(1, LIVE) + head(3, ASK, end=False) + frame(DATA, END_STREAM, 3, GOOD_BODY))
        assert h2.until(lambda: 3 in h2.bodies and h2.status(1)) and h2.status(1) == h2.status(3) == 200


def taken_back(stream):
    """A whole request, and its reset behind it."""
    body = frame(DATA, END_STREAM, stream, GOOD_BODY)
    return head(stream, ASK, end=False) + body + frame(RST, 0, stream, struct.pack(">I", CANCEL))


def test_rapid_reset(target):
    """46: no new streams; nothing is live, so that is the end. Counted, and one line a connection."""
    count = lambda: target.metric("sluice_abusive_connections_total", reason="resets", action="no_new_streams")
    before, lines = count(), len(target.find("client_abuse"))
    sent, h2 = flood(target, (taken_back(n) for n in odd()), codes=(NO_ERROR, CALM))
    assert sent < 5000
    wait_for(lambda: count() == before + 1)
    line = target.wait_event("client_abuse", count=lines + 1, why="resets")
    assert line["client"] == "127.0.0.1" and len(target.find("client_abuse")) == lines + 1


def test_rapid_reset_ends_no_live_stream(target):
    """46: what others have open on the connection is answered; what is opened behind the GOAWAY is not processed."""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False))
        h2.send(b"".join(taken_back(n) for n in odd(3)[:1230]))
        assert h2.until(lambda: h2.goaway is not None, 0.9) and h2.goaway == NO_ERROR
        last = struct.unpack(">I", next(f[3][:4] for f in h2.frames if f[0] == GOAWAY))[0]
        assert 3 <= last <= 3 + 2 * 1230
        h2.send(head(9001, LIVE) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h2.until(lambda: h2.status(1)) and h2.status(1) == 200
        assert h2.ends(3) and h2.status(9001) == 0 and h2.goaway == NO_ERROR


def test_rapid_reset_that_goes_on_is_cut(target):
    """46: with a stream that is kept open, so that the connection would stay."""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False))
        with contextlib.suppress(OSError):
            h2.send(b"".join(taken_back(n) for n in odd(3)[:3000]))
        assert h2.until(lambda: h2.goaway == CALM, 0.9) and h2.status(1) == 0
        assert h2.ends(3)
    wait_for(lambda: target.metric("sluice_abusive_connections_total", reason="late_streams", action="went_on") + target.metric("sluice_abusive_connections_total", reason="resets", action="went_on") > 0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A gateway before models that answer, are slow, and hang; one channel to it."""
    words = [sys.executable, fake_worker.__file__, "--listen", "127.0.0.1:0", "good", "slow", "hangs"]
    with Program(words) as worker:
        address = f"grpc://127.0.0.1:{worker.wait_event('up', timeout=30)['port']}"
        with Sluice(configuration(tmp_path_factory.mktemp("shared"), addresses=[address]), wait_models=("good", "hangs", "slow")) as sluice:
            with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
                from tritonclient.grpc import service_pb2

                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", request_serializer=service_pb2.ModelInferRequest.SerializeToString)

                def ask(model, timeout=20):
                    q = service_pb2.ModelInferRequest(model_name=model)
                    q.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([3, 4])
                    return call.future(q, timeout=timeout)

                sluice.ask = ask
                yield sluice
            sluice.wait_idle()
            assert sluice.stop() == 0, sluice.text
        worker.kill(9)


def abusive(sluice):
    return sluice.metric("sluice_abusive_connections_total", reason="resets", action="no_new_streams")


def test_users_who_leave_end_no_call_of_others(shared):
    """46: 210 cancels within 1.5 s, thirty at a time, and nothing is completed meanwhile."""
    live = shared.ask("hangs", timeout=4)
    for _ in range(7):
        calls = [shared.ask("hangs") for _ in range(30)]
        time.sleep(0.03)
        for c in calls:
            c.cancel()
        time.sleep(0.15)
    assert live.code() == grpc.StatusCode.DEADLINE_EXCEEDED, live.exception()
    assert shared.ask("good").result() and abusive(shared) == 0 and not shared.find("client_abuse")


def test_cancels_as_fast_as_can_be_end_no_call_of_others(shared):
    """46: one client takes back what it asks, without end, on the connection that others share: again and again it
    takes no new streams, and each call of the others is answered."""
    ended = threading.Event()

    def leave():
        while not ended.is_set():
            shared.ask("hangs").cancel()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    try:
        begun, answered = time.monotonic(), 0
        while time.monotonic() < begun + 4 or (abusive(shared) == 0 and time.monotonic() < begun + 30):
            for call in [shared.ask("slow"), *[shared.ask("good") for _ in range(8)]]:
                assert call.result()
                answered += 1
    finally:
        ended.set()
        leaving.join(30)
    assert answered > 20
    shared.wait_event("client_abuse", count=int(abusive(shared)), why="resets", action="no new streams")  # the log comes a little later
    assert abusive(shared) == len(shared.find("client_abuse", why="resets", action="no new streams")) > 0
    for action in ("cut", "went_on"):
        assert shared.metric("sluice_abusive_connections_total", action=action) == 0


MADE_TO_RESET = {
    "WINDOW_UPDATE 0": lambda n: head(n, ASK, end=False) + frame(WINDOW, 0, n, bytes(4)),
    "window overflow": lambda n: head(n, ASK, end=False) + frame(WINDOW, 0, n, b"\x7f\xff\xff\xff"),
    "DATA after END_STREAM": lambda n: head(n, ASK) + frame(DATA, 0, n, b"x"),
    "HEADERS after END_STREAM": lambda n: head(n, ASK) + head(n, ASK),
    "PRIORITY length": lambda n: head(n, ASK, end=False) + frame(PRIORITY, 0, n, bytes(4)),
    "PRIORITY on itself": lambda n: head(n, ASK, end=False) + frame(PRIORITY, 0, n, struct.pack(">IB", n, 1)),
    "malformed": lambda n: head(n, [(":method", "GET")]),  # 48
    "content-length": lambda n: head(n, [*ASK, ("content-length", "5")]),
}


@pytest.mark.parametrize("how", MADE_TO_RESET)
def test_made_you_reset(target, how):
    """47, 48: every reset that the server is made to send counts."""
    codes = (CALM, PROTOCOL, FLOW, CLOSED, SIZE)
    sent, h2 = flood(target, (MADE_TO_RESET[how](n) for n in odd()), codes)
    assert len(h2.resets) <= 300


@pytest.mark.parametrize(
    "more",
    [frame(CONTINUATION, 0, 1), frame(CONTINUATION, 0, 1, literal("x", "y" * 1000)), frame(CONTINUATION, 0, 1, b"\x00\x01a\x7f\x80\x80\x40")],
    ids=["empty", "1 KiB", "endless string"],
)
def test_a_flood_of_continuations(target, more):
    """49"""
    with H2(target) as h2:
        h2.send(frame(HEADERS, END_STREAM, 1, block(LIVE)) + more * 20000)
        assert h2.ends() and h2.status(1) != 200


FLOODS = {
    "50 SETTINGS": (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)),),
    "51 PING": (frame(PING, 0, 0, bytes(8)),),
    "54 PRIORITY": (frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 1)),),
    "55 windows toggled": (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)), frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535))),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_frames(target, name):
    """50, 51, 54, 55: cut, or taken without growing or hurting anybody."""
    many = b"".join(FLOODS[name]) * 20000
    with H2(target) as h2:
        h2.wire.socket.settimeout(5)
        try:
            h2.wire.socket.sendall(many)
        except OSError:
            pass
        assert h2.ends(10), f"{len(h2.frames)} frames came back"
        assert h2.goaway in (CALM, None)
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10


def test_a_flood_of_empty_data(target):
    """52"""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, 0, 1) * 20000)
        assert h2.ends(10) and h2.goaway in (CALM, None)


def test_a_flood_of_window_updates(target):
    """55: each is O(1); in the end the window overflows or the budget is spent."""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False) + frame(WINDOW, 0, 1, struct.pack(">I", 1)) * 20000 + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"))
        assert h2.until(lambda: h2.is_over(1))


def fat(stream, fields, count=6):
    """Metadata of 7,000 bytes a field, cut into frames of 16 KiB."""
    whole = block([*fields, *[("x-fat", "y" * 7000)] * count])
    parts = [whole[i : i + 16384] for i in range(0, len(whole), 16384)]
    kinds = [frame(HEADERS, END_STREAM, stream, parts[0]), *[frame(CONTINUATION, 0, stream, p) for p in parts[1:-1]]]
    return b"".join(kinds) + frame(CONTINUATION, END_HEADERS, stream, parts[-1])


def test_a_fat_head_is_431_for_its_stream_alone(target):
    """49: up to four times the bound; what else is on the connection is answered."""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False))
        h2.send(fat(3, LIVE) + fat(5, GRPC) + fat(7, LIVE, 18))
        assert h2.until(lambda: h2.bodies.get(3) and h2.headers.get(5) and h2.bodies.get(7))
        assert h2.status(3) == h2.status(7) == 431
        assert json.loads(h2.bodies[3]) == {"error": "fields: too many or too large"}
        assert h2.headers[5]["grpc-status"] == str(EXHAUSTED)
        h2.send(frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h2.until(lambda: h2.status(1)) and h2.status(1) == 200
        h2.send(head(9, LIVE))
        assert h2.until(lambda: h2.status(9)) and h2.status(9) == 200 and h2.goaway is None
        h2.send(fat(11, LIVE, 19))
        assert h2.ends() and h2.goaway == CALM


def test_fat_metadata_of_grpcio_is_resource_exhausted(target):
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as e:
                live(b"", metadata=[(f"x-{i}", "y" * 7000) for i in range(6)], timeout=20)
            assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, e.value
            assert live(b"", timeout=20)


BOMBS = {
    "53 empty names": block(LIVE) + literal("", "") * 8,
    "57 16,000 references": block(LIVE) + b"\x86" * 16000,
    "58 cookie crumbs": block(LIVE) + b"\x00\x06cookie\x01a" * 1500,
    "59 4 KiB entry x 4,000": block(LIVE) + b"\x40\x01a\x7f" + varint(4000 - 127) + b"b" * 4000 + b"\xbe" * 4000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_header_bombs(target, name):
    """53, 57, 58, 59: refused in the middle of the block; 62: then either HPACK is in step, or all is over."""
    with H2(target) as h2:
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, BOMBS[name]))
        assert h2.until(lambda: h2.is_over(1)) and h2.status(1) != 200
        if not h2.wire.closed and h2.goaway is None:
            h2.send(head(3, LIVE))
            assert h2.until(lambda: h2.status(3) or h2.wire.closed) and h2.status(3) == 200


def test_bombs_on_many_streams_behind_a_zero_window(target):
    """60: less than 8 MiB more."""
    before = memory_kib(target.gateway_pid())
    with H2(target, settings=struct.pack(">HI", 4, 0)) as h2:
        for n in list(odd())[:100]:
            h2.send(frame(HEADERS, END_HEADERS, n, BOMBS["59 4 KiB entry x 4,000"]))
        h2.until(lambda: h2.wire.closed, 2)
        assert SANITIZED or memory_kib(target.gateway_pid()) < before + 8192
    with H2(target) as h2:  # and honest heads, that stay open
        for n in list(odd())[:120]:
            h2.send(head(n, [*ASK, *[("x", "y" * 300)] * 90], end=False))
        h2.until(lambda: h2.wire.closed, 0.5)
        assert SANITIZED or memory_kib(target.gateway_pid()) < before + 16384


HPACK = {
    "index 0": b"\x80",
    "index beyond": b"\xff\x80\x01",
    "integer overflow": b"\xff" + b"\xff" * 12,
    "EOS": b"\x00\x84\xff\xff\xff\xff\x01a",
    "padding": b"\x00\x82\x1f\xff\x01a",
    "size update too large": b"\x3f" + varint(1 << 20),
    "size update at the end": block(LIVE) + b"\x20",
    "cut": b"\x00\x7f",
}


@pytest.mark.parametrize("name", HPACK)
def test_hpack(target, name):
    """61"""
    with H2(target) as h2:
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, HPACK[name]))
        assert h2.ends() and h2.goaway in (COMPRESSION, PROTOCOL) and h2.status(1) != 200


def without(name, fields=LIVE):
    return [f for f in fields if f[0] != name]


def replaced(name, value, fields=LIVE):
    return [(n, value if n == name else v) for n, v in fields]


MALFORMED = {f"63 value {v!r}": [*LIVE, ("x", v)] for v in ["a\rb", "a\nb", "a\0b"]}
MALFORMED |= {f"63 name {n!r}": [*LIVE, (n, "v")] for n in ["a:b", "a b", "A", "a\r", "a\0", "a\xef"]}
MALFORMED |= {f"64 {n}": [*LIVE, (n, v)] for n, v in [("connection", "close"), ("keep-alive", "1"), ("proxy-connection", "x"), ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip")]}
MALFORMED |= {f"65-66 content-length {v}": [*LIVE, ("content-length", v)] for v in ["5", "5, 5", "+0", "18446744073709551621", "-1"]}
MALFORMED |= {
    "65 two lengths": [*LIVE, ("content-length", "0"), ("content-length", "0")],
    "67 unknown": [*LIVE, (":what", "x")],
    "67 :status": [*LIVE, (":status", "200")],
    "67 twice": [LIVE[0], *LIVE],
    "67 after a field": [("x", "y"), *LIVE],
    "67 no method": without(":method"),
    "67 no scheme": without(":scheme"),
    "67 no path": without(":path"),
    "69 method": replaced(":method", "GET /x HTTP/1.1"),
    "69 scheme": replaced(":scheme", "http://a/"),
    "70 extended CONNECT": [*replaced(":method", "CONNECT"), (":protocol", "websocket")],
}
MALFORMED |= {f"68 path {p!r}": replaced(":path", p) for p in ["/v2\r\nX: y", "/v2\0", "/v2 x", "v2", "", "/v2#x"]}
MALFORMED |= {f"69 authority {a!r}": replaced(":authority", a) for a in ["user@a", "a/b", "a\r\nb", "a b"]}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_streams(target, name):
    """63 to 70: the stream is reset or answered 4xx, and the connection goes on, or is ended."""
    with H2(target) as h2:
        h2.send(head(1, MALFORMED[name]))
        assert h2.until(lambda: h2.is_over(1)) and h2.status(1) != 200
        if h2.goaway is None and not h2.wire.closed:
            h2.send(head(3, LIVE))
            assert h2.until(lambda: h2.status(3)) and h2.status(3) == 200


def test_bodies_of_another_length(target):
    """65"""
    for said, body in [("5", GOOD_BODY), (str(N + 1), GOOD_BODY), ("0", HIDDEN)]:
        with H2(target) as h2:
            h2.send(head(1, [*ASK, ("content-length", said)], end=False) + frame(DATA, END_STREAM, 1, body))
            assert h2.until(lambda: h2.is_over(1)) and h2.status(1) != 200


def test_connect_over_h2(target):
    """70"""
    with H2(target) as h2:
        h2.send(head(1, [(":method", "CONNECT"), (":authority", "127.0.0.1:22")], end=False))
        assert h2.until(lambda: h2.is_over(1)) and h2.status(1) in (0, 400, 405)


def test_host_and_authority(target):
    """69: authority wins, or the two may not differ."""
    with H2(target) as h2:
        h2.send(head(1, [*LIVE, ("host", "other")]))
        assert h2.until(lambda: h2.is_over(1) or h2.status(1))


FATAL = {
    "71 DATA on an idle stream": frame(DATA, 0, 1, b"x"),
    "71 RST on an idle stream": frame(RST, 0, 1, bytes(4)),
    "71 WINDOW_UPDATE on an idle stream": frame(WINDOW, 0, 1, b"\0\0\0\1"),
    "71 CONTINUATION alone": frame(CONTINUATION, END_HEADERS, 1, b""),
    "71 even id": head(2, LIVE),
    "71 HEADERS on stream 0": head(0, LIVE),
    "71 DATA on stream 0": frame(DATA, 0, 0, b"x"),
    "71 SETTINGS on stream 1": frame(SETTINGS, 0, 1),
    "71 PING on stream 1": frame(PING, 0, 1, bytes(8)),
    "71 GOAWAY on stream 1": frame(GOAWAY, 0, 1, bytes(8)),
    "71 PUSH_PROMISE": frame(PUSH, END_HEADERS, 1, bytes(4)),
    "71 another frame within a block": frame(HEADERS, 0, 1, block(LIVE)) + frame(PING, 0, 0, bytes(8)),
    "71 CONTINUATION of another stream": frame(HEADERS, 0, 1, block(LIVE)) + frame(CONTINUATION, END_HEADERS, 3),
    "72 PING length": frame(PING, 0, 0, bytes(7)),
    "72 SETTINGS length": frame(SETTINGS, 0, 0, bytes(5)),
    "72 SETTINGS ACK with payload": frame(SETTINGS, ACK, 0, bytes(6)),
    "72 RST length": head(1, ASK, end=False) + frame(RST, 0, 1, bytes(3)),
    "72 WINDOW_UPDATE length": frame(WINDOW, 0, 0, bytes(3)),
    "72 WINDOW_UPDATE 0": frame(WINDOW, 0, 0, bytes(4)),
    "72 pad": head(1, ASK, end=False) + frame(DATA, 8, 1, b"\x05abc"),
    "72 pad of HEADERS": frame(HEADERS, END_HEADERS | 8, 1, b"\xff" + block(LIVE)),
    "72 ENABLE_PUSH 2": frame(SETTINGS, 0, 0, struct.pack(">HI", 2, 2)),
    "72 INITIAL_WINDOW 2^31": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)),
    "72 MAX_FRAME 0": frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 0)),
    "72 window overflow": frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"),
    "72 a frame of 16 MiB": struct.pack(">I", (1 << 24) - 1)[1:] + bytes([DATA, 0]) + struct.pack(">I", 1) + bytes(100),
}


@pytest.mark.parametrize("name", FATAL)
def test_connection_errors(target, name):
    """71, 72"""
    with H2(target) as h2:
        h2.send(FATAL[name])
        assert h2.ends(), (h2.goaway, h2.frames)
        assert h2.goaway not in (NO_ERROR, INTERNAL)


def test_an_id_that_goes_down(target):
    """71: nghttp2 takes the lower stream for one that is closed, and drops its frames: it is never served."""
    with H2(target) as h2:
        h2.send(head(5, LIVE) + head(3, LIVE) + head(7, LIVE))
        assert h2.until(lambda: h2.status(7) == 200 or h2.goaway is not None)
        assert 3 not in h2.headers


def test_trailers_with_pseudo_headers(target):
    """67"""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, 0, 1, GOOD_BODY) + head(1, [(":path", "/")]))
        assert h2.until(lambda: h2.is_over(1)) and h2.status(1) != 200


def test_more_streams_than_advertised(target):
    """73"""
    with H2(target) as h2:
        h2.send(b"".join(head(n, ASK, end=False) for n in list(odd())[:140]))
        assert h2.until(lambda: len(h2.resets) >= 12 or h2.goaway is not None)
        assert set(h2.resets.values()) <= {REFUSED} and h2.goaway in (None, PROTOCOL)


def test_data_past_the_windows(target):
    """74"""
    with H2(target) as h2:
        h2.wire.socket.settimeout(10)
        try:
            h2.wire.socket.sendall(head(1, ASK, end=False))
            for _ in range(3000):
                h2.wire.socket.sendall(frame(DATA, 0, 1, bytes(16384)))
        except OSError:
            pass
        assert h2.until(lambda: h2.is_over(1))
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10


# ---- 75 to 82: slow peers ------------------------------------------------------------------------------


def closes(wire, timeout=10.0):
    """Whether the gateway ends it by itself; the statuses that it gave before."""
    wire.read_until_closed(timeout)
    assert wire.closed, wire.data[-200:]
    return [a[0] for a in wire.answers()]


def drip(wire, octets, pause=0.05, limit=6.0):
    """Octet by octet, until the other side has enough."""
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
    """75: counted from accept, whatever drips."""
    with Wire(target.port) as wire:
        drip(wire, request(*[b"X-%d: y" % i for i in range(80)], method=b"GET", path=b"/v2"))
        assert closes(wire) in ([], [408]) and time.monotonic() - wire.started < 6


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


def test_dripped_bodies(target):
    """76, 77: an octet now and then is never silent for long, and is too slow over 20 s: 408, on every carrier."""
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
    """Asks and asks and reads nothing: a window that is small from its first octet on."""

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
    """78: however it goes on asking, it is cut, send_timeout after its socket took the last octet, and what it
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
        assert h2.until(lambda: h2.is_over(1), 10) and h2.ends(10) and h2.status(1) != 200
        assert h2.goaway is not None or not octets.startswith(PREFACE)


def test_pings_keep_nothing_alive(target):
    """80"""
    with H2(target) as h2:
        until = time.monotonic() + 15
        while not h2.wire.closed and time.monotonic() < until:
            h2.send(frame(PING, 0, 0, bytes(8)))
            h2.read(0.1)
        assert h2.wire.closed


def test_an_answer_behind_a_zero_window(target):
    """56: the stream is reset after stream_stall; the connection is not."""
    with H2(target, settings=struct.pack(">HI", 4, 0)) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h2.until(lambda: 1 in h2.resets or h2.wire.closed, 10) and not h2.bodies.get(1)


def test_a_dribbled_window(target):
    """56: an octet at a time is slow, and is not for ever."""
    with H2(target, settings=struct.pack(">HI", 4, 0)) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        for _ in range(300):
            h2.send(frame(WINDOW, 0, 1, struct.pack(">I", 1)))
            h2.read(0.002)
            if h2.wire.closed:
                break
        assert h2.until(lambda: h2.is_over(1) or h2.wire.closed, 10)


def test_many_slow_clients_at_once(target):
    """82: 300 slow heads, then 200 resets: others do not feel it, and no descriptor is left."""
    wires = [Wire(target.port).send(b"GET /v2 HTTP/1.1\r\nHo") for _ in range(300)]

    def another():
        begun = time.monotonic()
        assert httpx.post(target.url + INFER.decode(), content=GOOD_BODY).status_code == 200
        return time.monotonic() - begun

    best_of(another, 1)
    for wire in wires[:200]:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()
    for wire in wires[200:]:
        wire.read_until_closed(10)
        assert wire.closed
        wire.socket.close()


# ---- 86 to 102: bodies -----------------------------------------------------------------------------------


def ask(target, body, path=INFER.decode(), **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(target.url + path, content=body, headers=headers, timeout=20, verify=False)


def tensor(shape, data, name="input", datatype="FP32", **more):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data, **more}


def inputs(*tensors, **more):
    return json.dumps({"inputs": list(tensors), **more}).encode()


ROW = SAMPLES[0]["input"]
BIG = 1 << 62


def number(octets):
    """A good body, with these octets for one of its numbers."""
    return inputs(tensor([1, 64], [*ROW[:63], 12345])).replace(b"12345", octets)


BAD_JSON = {
    "86 depth": b"[" * 100000,
    "86 depth under a key": b'{"inputs":' + b'[{"a":' * 50000,
    "86 depth of data": b'{"inputs":[{"name":"input","shape":[1,64],"datatype":"FP32","data":' + b"[" * 100000 + b"]" * 100000 + b"}]}",
    "87 exponent": number(b"1e999999999"),
    "87 a number of 1,000 digits": number(b"0." + b"1" * 1000),
    "87 a million digits": inputs(tensor([1, 64], [])).replace(b"[]", b"[" + b"1" * 1000000 + b"]"),
    "87 2^64 as a dimension": inputs(tensor([18446744073709551616, 64], ROW)),
    "87 2^63 as a dimension": inputs(tensor([9223372036854775808, 64], ROW)),
    "88 twice inputs": b'{"inputs":[],"inputs":[]}',
    "88 twice name": GOOD_BODY.replace(b'"name"', b'"name":"input","name"', 1),
    "89 invalid UTF-8": GOOD_BODY.replace(b'"input"', b'"in\xffput"'),
    "89 overlong": GOOD_BODY.replace(b'"input"', b'"in\xc0\xafput"'),
    "89 surrogate": GOOD_BODY.replace(b'"input"', b'"in\\ud800put"'),
    "89 lone escape": GOOD_BODY.replace(b'"input"', b'"in\\put"'),
    "89 NUL escape": GOOD_BODY.replace(b'"input"', b'"in\\u0000put"'),
    "89 raw NUL": GOOD_BODY.replace(b'"input"', b'"in\0put"'),
    "90 200,000 keys": b"{" + b",".join(b'"k%d":1' % i for i in range(200000)) + b"}",
    "90 a million numbers": inputs(tensor([1, 64], [0] * 1000000)),
    "90 500,000 objects": b'{"inputs":[' + b",".join([b"{}"] * 500000) + b"]}",
    "90 8 MiB string": b'{"id":"' + b"a" * (7 << 20) + b'"}',
    "91 trailing": GOOD_BODY + b"x",
    "91 two values": GOOD_BODY + GOOD_BODY,
    "91 NaN": number(b"NaN"),
    "91 Infinity": number(b"-Infinity"),
    "91 hexadecimal": number(b"0x10"),
    "91 leading zero": number(b"01"),
    "91 plus": number(b"+1"),
    "91 no digits": number(b"1."),
    "91 comment": b"/* */" + GOOD_BODY,
    "91 BOM": b"\xef\xbb\xbf" + GOOD_BODY,
    "91 UTF-16": GOOD_BODY.decode().encode("utf-16"),
    "91 cut": GOOD_BODY[:-1],
    "91 nothing": b"",
    "91 an array": b"[]",
    "93 2^32 x 2^32": inputs(tensor([1 << 32, 1 << 32], ROW)),
    "93 2^62 x 4": inputs(tensor([BIG, 4], ROW)),
    "93 octets do not fit": inputs(tensor([BIG], ROW)),
    "94 negative": inputs(tensor([-1, 64], ROW)),
    "94 zero": inputs(tensor([0, 64], [])),
    "94 float": inputs(tensor([1.5, 64], ROW)),
    "94 string": inputs(tensor(["1", 64], ROW)),
    "94 null": inputs(tensor([None, 64], ROW)),
    "94 nested": inputs(tensor([[1, 64]], ROW)),
    "94 1,000 dimensions": inputs(tensor([1] * 1000, [0])),
    "94 too few": inputs(tensor([1, 64], ROW[:63])),
    "94 too many": inputs(tensor([1, 64], [*ROW, 0])),
    "94 ragged": inputs(tensor([2, 64], [ROW, ROW[:63]])),
    "94 no data": inputs({"name": "input", "shape": [1, 64], "datatype": "FP32"}),
    "94 strings for floats": inputs(tensor([1, 64], ["a"] * 64)),
    "94 no such datatype": inputs(tensor([1, 64], ROW, datatype="FP31")),
    "95 huge dims": inputs(tensor([1 << 30, 64], [])),
    "96 100,000 inputs": inputs(*[tensor([1], [0], name=f"i{i}") for i in range(100000)]),
    "96 the same input twice": inputs(tensor([1, 64], ROW), tensor([1, 64], ROW)),
    "96 the same output twice": inputs(tensor([1, 64], ROW), outputs=[{"name": "probabilities"}] * 2),
    "96 100,000 outputs": inputs(tensor([1, 64], ROW), outputs=[{"name": f"o{i}"} for i in range(100000)]),
    "98 timeout": inputs(tensor([1, 64], ROW), parameters={"timeout": -1}),
    "98 a timeout of 2^64": inputs(tensor([1, 64], ROW), parameters={"timeout": 1 << 64}),
    "98 a timeout in words": inputs(tensor([1, 64], ROW), parameters={"timeout": "soon"}),
    "98 priority": inputs(tensor([1, 64], ROW), parameters={"priority": -5}),
    "rank": inputs(tensor([64], ROW)),
    "another name": inputs(tensor([1, 64], ROW, name="x")),
    "no input": inputs(),
    "another output": inputs(tensor([1, 64], ROW), outputs=[{"name": "what"}]),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json(target, name):
    """86 to 98; 92: the answer names the place, never the text."""
    answer = ask(target, BAD_JSON[name])
    assert answer.status_code in (400, 413), answer.text[:300]
    assert list(answer.json()) == ["error"] and len(answer.content) < 600
    assert "aaaaaaaa" not in answer.text and "11111111" not in answer.text


@pytest.mark.parametrize("name", [n for n in BAD_JSON if n.startswith("87")])
def test_long_numbers_cost_nothing(target, name):
    """87: within 50 ms, by the gateway's own clock; what took less than a tick of it carries no time at all."""

    def seconds():
        said = ask(target, BAD_JSON[name]).headers.get("server-timing", "total;dur=0")
        return float(said.rsplit("=", 1)[1]) / 1000

    best_of(seconds, 0.05)


def test_no_body_text_in_answers_and_logs(target):
    """92"""
    for body in [b'{"hunter2": 1}', b'{"inputs": "hunter2"}', b"hunter2", number(b"hunter2")]:
        answer = ask(target, body)
        assert answer.status_code in (200, 400) and "hunter2" not in answer.text
    wait_for(lambda: target.access_log())
    assert "hunter2" not in target.text and "hunter2" not in (target.config.parent / "access.log").read_text()


def test_heavy_bodies_do_not_hold_up_others(target):
    """90"""
    heavy = inputs(tensor([1, 64], [0] * 2000000))
    ended = threading.Event()

    def load():
        while not ended.is_set():
            assert ask(target, heavy).status_code == 400

    threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        with httpx.Client(base_url=target.url) as client:
            took_ms = []
            for _ in range(50):
                answer = client.post(INFER.decode(), content=GOOD_BODY)
                assert answer.status_code == 200
                took_ms.append(float(answer.headers["server-timing"].rsplit("=", 1)[1]))
    finally:
        ended.set()
        for t in threads:
            t.join(30)
    assert sorted(took_ms)[25] < 100, took_ms  # by the gateway's own clock: the clients here are busy


def binary(**parameters):
    meta = {"name": "input", "shape": [1, 64], "datatype": "FP32", "parameters": parameters}
    return json.dumps({"inputs": [meta]}).encode()


def test_binary_extension(target):
    """97"""
    raw = struct.pack("<64f", *ROW)
    good = binary(binary_data_size=256)
    assert ask(target, good + raw, Inference_Header_Content_Length=str(len(good))).status_code == 200
    for size in (-1, 255, 257, 1 << 63, 1 << 64, 0, "256", 2.5, None):
        header = binary(binary_data_size=size)
        answer = ask(target, header + raw, Inference_Header_Content_Length=str(len(header)))
        assert answer.status_code == 400, (size, answer.text)
    for said in ("-1", "18446744073709551616", str(len(good) + 257), "x", "+5", "", "9" * 30, str(len(good) - 1)):
        assert ask(target, good + raw, Inference_Header_Content_Length=said).status_code == 400, said
    assert ask(target, good + raw + b"x", Inference_Header_Content_Length=str(len(good))).status_code == 400
    assert ask(target, raw[:-1], Inference_Header_Content_Length="0").status_code == 400


def zstd_runs(n):
    """A frame (RFC 8878 3.1.1) of n blocks that each say: one octet, 128 KiB times."""
    block = lambda last: ((128 << 10) << 3 | 1 << 1 | last).to_bytes(3, "little") + b" "
    return b"\x28\xb5\x2f\xfd\x00\x38" + block(0) * (n - 1) + block(1)


def test_compressed_bodies(target):
    """99"""
    packed = gzip.compress(GOOD_BODY)
    assert ask(target, packed, content_encoding="gzip").status_code == 200
    bomb = gzip.compress(b" " * (64 << 20))
    rows = [
        (bomb, "gzip", (413,)),
        (gzip.compress(bomb), "gzip", (400, 413)),
        (packed[:-9], "gzip", (400,)),
        (packed[:20], "gzip", (400,)),
        (packed[:-8] + b"\0\0\0\0" + packed[-4:], "gzip", (400,)),
        (packed + b"junk", "gzip", (400,)),
        (GOOD_BODY, "gzip", (400,)),
        (b"", "gzip", (400,)),
        (packed, "gzip, gzip", (400, 415)),
        (packed, "br", (415,)),
        (packed, "what", (415,)),
        (zlib.compress(GOOD_BODY), "gzip", (400,)),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, "zstd", (400, 413)),
        (b"junk", "zstd", (400,)),
        (zstd_runs(512), "zstd", (413,)),  # 64 MiB in 2 KiB
        (zstd_runs(1 << 18), "zstd", (413,)),  # 32 GiB in 1 MiB
    ]
    for body, how, allowed in rows:
        answer = ask(target, body, content_encoding=how)
        assert answer.status_code in allowed, (how, answer.status_code, answer.text)
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10


# ---- 100 to 102: gRPC --------------------------------------------------------------------------------

GRPC = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/inference.GRPCInferenceService/ModelInfer")]
GRPC += [("content-type", "application/grpc"), ("te", "trailers")]


def grpc_status(target, body, fields=GRPC, **more):
    """The gRPC status and message, or the HTTP status below zero; None: the stream was reset."""
    with H2(target) as h2:
        h2.send(head(1, [*fields, *[(k.replace("_", "-"), v) for k, v in more.items()]], end=False))
        h2.send(b"".join(frame(DATA, 0, 1, body[i : i + 16384]) for i in range(0, len(body), 16384)) + frame(DATA, END_STREAM, 1))
        assert h2.until(lambda: 1 in h2.resets or h2.wire.closed or "grpc-status" in h2.headers.get(1, {}) or h2.status(1) >= 400)
        said = h2.headers.get(1, {})
        return int(said["grpc-status"]) if "grpc-status" in said else -h2.status(1) or None


def prefixed(octets, flag=0, size=None):
    return struct.pack(">BI", flag, len(octets) if size is None else size) + octets


def grpc_request(**more):
    from tritonclient.grpc import service_pb2

    q = service_pb2.ModelInferRequest(model_name=more.get("model", "digits"), model_version=more.get("version", ""))
    q.inputs.add(name="input", datatype="FP32", shape=more.get("shape", [1, 64]))
    q.raw_input_contents.append(more.get("raw", struct.pack("<64f", *ROW)))
    return q.SerializeToString()


OK, CANCELLED, UNKNOWN, INVALID, DEADLINE, NOT_FOUND, _, _, EXHAUSTED, _, _, _, UNIMPLEMENTED, INTERNAL_ERROR = range(14)


def test_grpc_framing(target):
    """100: nothing is allocated by the prefix."""
    good = grpc_request()
    assert grpc_status(target, prefixed(good)) == OK
    packed = gzip.compress(good)
    rows = [
        (prefixed(good, size=len(good) + 1), {}, INTERNAL_ERROR),
        (prefixed(good, size=0xFFFFFFFF), {}, EXHAUSTED),
        (prefixed(good)[:3], {}, INTERNAL_ERROR),
        (b"", {}, INTERNAL_ERROR),
        (prefixed(good, flag=2), {}, INTERNAL_ERROR),
        (prefixed(good, flag=1), {}, INTERNAL_ERROR),
        (prefixed(packed, flag=1), {"grpc_encoding": "gzip"}, OK),
        (prefixed(packed, flag=1), {"grpc_encoding": "what"}, UNIMPLEMENTED),
        (prefixed(b"junk", flag=1), {"grpc_encoding": "gzip"}, INVALID),
        (prefixed(gzip.compress(bytes(64 << 20)), flag=1), {"grpc_encoding": "gzip"}, EXHAUSTED),  # 99
        (prefixed(good) * 2, {}, INTERNAL_ERROR),
        (prefixed(good) + b"x", {}, INTERNAL_ERROR),
    ]
    for body, more, status in rows:
        assert grpc_status(target, body, **more) == status, (body[:8], more)
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10


def refused_as(target, fields, body=b"", end=True, length=None):
    """(grpc-status, grpc-message) of one frame of HEADERS that is the whole answer; other streams go on."""
    with H2(target) as h2:
        more = [("content-length", str(length))] if length is not None else []
        h2.send(head(1, [*fields, *more], end=end and not body))
        h2.send(b"".join(frame(DATA, 0, 1, body[i : i + 16384]) for i in range(0, len(body), 16384)))
        assert h2.until(lambda: h2.headers.get(1)), h2.frames
        said = h2.headers[1]
        assert said[":status"] == "200" and said["content-type"] == "application/grpc", said
        assert [f[1] & END_STREAM for f in h2.frames if f[0] in (HEADERS, DATA) and f[2] == 1] == [END_STREAM]
        h2.send(head(3, LIVE))
        assert h2.until(lambda: h2.status(3) == 200) and h2.goaway is None
        return int(said["grpc-status"]), said["grpc-message"]


def test_what_is_refused_below_the_call_is_said_in_its_protocol(target):
    """A gRPC client gets a status of gRPC also for what is wrong with its HTTP."""
    assert refused_as(target, GRPC, end=False, length=9 << 20) == (EXHAUSTED, "body: larger than limits.max_body")
    assert refused_as(target, GRPC, prefixed(bytes(9 << 20)), end=False) == (EXHAUSTED, "body: larger than limits.max_body")
    assert refused_as(target, GRPC, b"\0\0", end=False) == (DEADLINE, "body: it did not come in time")
    assert refused_as(target, replaced(":path", "/a%2fb", GRPC))[0] == INVALID
    assert refused_as(target, replaced(":path", "/" + "a" * 9000, GRPC)) == (INVALID, "target: too long")
    assert refused_as(target, replaced(":method", "TRACE", GRPC))[0] == UNIMPLEMENTED
    with H2(target) as h2:  # so does REST
        h2.send(head(1, [*ASK, ("content-length", str(9 << 20))], end=False))
        assert h2.until(lambda: h2.bodies.get(1)) and h2.status(1) == 413
        assert json.loads(h2.bodies[1]) == {"error": "body: larger than limits.max_body"} and h2.headers[1]["x-request-id"]


def test_the_worker_refuses_in_the_protocol_of_the_call():
    with Worker() as worker:
        assert refused_as(worker, replaced(":path", "/a%2fb", GRPC))[0] == INVALID
        assert refused_as(worker, GRPC, end=False, length=2 << 30)[0] == EXHAUSTED


def test_a_body_without_room_is_unavailable_for_grpcio(tmp_path):
    """503 of the HTTP room: with the time after which it may be tried again."""
    with Sluice(configuration(tmp_path, limits='bytes_in_flight = "2MiB" max_body = "2MiB"')) as sluice:
        with Wire(sluice.port) as holds, grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
            holds.send(request(b"Content-Length: 2000000", body=b" " * 1500000))
            wait_for(lambda: sluice.metric("sluice_bytes_in_flight") >= 1500000)
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.RpcError) as e:
                infer(bytes(1 << 20), timeout=20)
            assert e.value.code() == grpc.StatusCode.UNAVAILABLE, e.value
            assert e.value.details() == "no room for the body now"
            assert ("grpc-retry-pushback-ms", "1000") in e.value.trailing_metadata()
        assert sluice.stop() == 0, sluice.text


def test_a_message_over_max_body_is_resource_exhausted_for_grpcio(target):
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as e:
            infer(bytes(9 << 20), timeout=20)
        assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, e.value
        assert e.value.details() == "body: larger than limits.max_body"


def test_protobuf(target):
    """101, and 93 to 97 in this form."""
    rows = {
        "11-octet varint": b"\x08" + b"\xff" * 10 + b"\x01",
        "length 2^63": b"\x0a" + b"\x80" * 9 + b"\x01",
        "field 0": b"\x00\x00",
        "wire type 6": b"\x0e\x00",
        "groups": b"\x0b" * 10000,
        "end of a group": b"\x0c",
        "nestings": b"\x2a\x7f" * 5000,
        "cut": grpc_request()[:-5],
        "invalid UTF-8": b"\x0a\x02\xff\xfe",
        "junk": bytes(range(256)),
        "shape wraps": grpc_request(shape=[1 << 32, 1 << 32]),
        "shape 2^62 x 4": grpc_request(shape=[1 << 62, 4]),
        "negative": grpc_request(shape=[-1, 64]),
        "short": grpc_request(raw=bytes(255)),
        "long": grpc_request(raw=bytes(257)),
        "many dims": grpc_request(shape=[1] * 1000),
        "two raws": grpc_request() + b"\x3a\x01x",
        "nothing": b"",
    }
    for name, octets in rows.items():
        assert grpc_status(target, prefixed(octets)) == INVALID, name
    deep = b""
    for _ in range(5000):  # real nesting in an unknown field
        deep = b"\x7a" + varint(len(deep)) + deep
    assert grpc_status(target, prefixed(deep)) == INVALID


def test_grpc_paths_and_fields(target):
    """102"""
    body = prefixed(grpc_request())
    for path in ("/", "//", "/a/b/c", "/inference.GRPCInferenceService/", "/inference.GRPCInferenceService/What", "/a.B/ModelInfer"):
        assert grpc_status(target, body, replaced(":path", path, GRPC)) == UNIMPLEMENTED, path
    for kind in ("application/grpc+json", "text/plain", "application/grpcwhat"):
        assert grpc_status(target, body, replaced("content-type", kind, GRPC)) == -415, kind
    for timeout in ("", "1", "S", "-1S", "1x", "123456789S", "1.5S", "99999999999999999999S"):
        assert grpc_status(target, body, grpc_timeout=timeout) == INVALID, timeout
    assert grpc_status(target, body, grpc_timeout="99999999H") == OK
    assert grpc_status(target, body, grpc_timeout="1n") == DEADLINE  # 103
    for value in ("!!!", "YQ=", "=", "a" * 4001):  # no base64: nobody decodes it, so nobody trips over it
        assert grpc_status(target, body, trace_bin=value) == OK, value
    assert grpc_status(target, body, replaced(":method", "GET", GRPC)) == UNIMPLEMENTED


# ---- 131 to 133: the admin listener -----------------------------------------------------------------------

TOKEN = "Bearer open sesame, please"


def admin(target, path="/status", method="GET", **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.request(method, f"http://127.0.0.1:{target.admin_port}{path}", headers=headers)


def test_admin_wants_the_token(target):
    """131"""
    assert admin(target, authorization=TOKEN).status_code == 200
    for wrong in ("", "Bearer", "Bearer open", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "Basic " + TOKEN[7:], "Bearer " + "x" * 5000):
        answer = admin(target, authorization=wrong)
        assert answer.status_code == 401 and "sesame" not in answer.text, wrong
    assert admin(target).status_code == 401
    assert admin(target, path="/status?token=open+sesame,+please").status_code == 401


def test_admin_is_not_for_other_origins(target):
    """131: no DNS rebinding, nothing that a page could make a browser do."""
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        assert admin(target, authorization=TOKEN, host=host).status_code in (400, 403, 421)
        assert admin(target, path="/metrics", host=host).status_code == 200  # open, under any name
    for host in (f"127.0.0.1:{target.admin_port}", f"localhost:{target.admin_port}"):
        assert admin(target, authorization=TOKEN, host=host).status_code == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert admin(target, method=method, authorization=TOKEN).status_code in (404, 405)
    assert "access-control-allow-origin" not in admin(target, origin="http://evil.example", authorization=TOKEN).headers


def test_admin_is_not_on_the_public_port(target):
    for path in ("/metrics", "/status", "/healthz", "/v2/../status", "/v1/status"):
        answer = httpx.get(target.url + path, headers={"authorization": TOKEN})
        assert answer.status_code == 404 and "sluice_" not in answer.text


def test_admin_meets_hostile_octets_too(target):
    for name in ("1 CL.TE", "5 two lengths", "29 two Hosts", "37 64 KiB method", "39 junk", "28 LF line ends"):
        statuses, closed = outcome(target.admin_port, SMUGGLING[name])
        assert closed and all(s >= 400 for s in statuses), (name, statuses)
    assert admin(target, path="/" + "a" * 20000).status_code == 414
    assert admin(target, path="/../../etc/passwd", authorization=TOKEN).status_code in (400, 404)


def test_what_metrics_tell(target):
    """132: no keys, no bodies, no names that clients made up."""
    for n in range(300):
        ask(target, GOOD_BODY, path=f"/v2/models/made-up-{n}/infer")
    text = admin(target, path="/metrics").text
    assert "made-up" not in text and "sesame" not in text
    assert len(text) < 200000
    for place in ("127.0.0.1", "unix:", ".sock", str(target.config.parent), str(target.port)):
        assert place not in text, place  # nor where things are
    status = admin(target, authorization=TOKEN).text
    assert "sesame" not in status and "made-up" not in status


def test_log_injection(target):
    """133: one line a request; CR, LF and ESC never reach it raw; long fields are cut."""
    ids = ["evil\x1b[31m", "evil" + "a" * 5000, "evil\u00e9", 'evil"},{"event":"ready"']
    for i in ids:  # an id is taken if it is visible ASCII and no longer than 128; else we make one
        with Wire(target.port) as wire:
            field = b"X-Request-Id: " + i.encode("utf-8") + b"\r\n"
            wire.send(post(fields=field)).read_until_closed(5)
            assert [a[0] for a in wire.answers()][0] in (200, 400, 431)
    ask(target, GOOD_BODY, path="/v2/models/evil%1b%5b31m/infer")
    ask(target, GOOD_BODY, path="/v2/models/" + "evil" * 1500 + "/infer")
    path = target.config.parent / "access.log"
    httpx.post(target.url + INFER.decode(), content=GOOD_BODY, headers={"x-request-id": "the-last"})
    wait_for(lambda: "the-last" in path.read_text(errors="replace"))
    for line in path.read_bytes().splitlines():
        entry = json.loads(line)
        assert isinstance(entry, dict) and all(len(v) <= 1024 for v in entry.values() if isinstance(v, str))
        assert not any(b < 0x20 or b == 0x7F for b in line)
