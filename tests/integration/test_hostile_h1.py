"""Hostile input over HTTP/1.1: rows 1 to 45 of docs/hostile.md."""
import socket
import threading
import time

import pytest
from harness import GOOD_BODY, SAMPLES, Wire, infer_body, post, wait_for
from hostile import CHUNKED, GOOD_CHUNK, HIDDEN, INVALID, N, grpc_request, grpc_status, length, outcome, prefixed, request

pytestmark = pytest.mark.usefixtures("others_are_served")


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
    """23: one byte each: served, or refused for more framing than body; never slow."""
    body = b"".join(b"1\r\n%c\r\n" % c for c in GOOD_BODY) + b"0\r\n\r\n"
    assert outcome(target.port, request(CHUNKED, b"Connection: close", body=body)) == ([200], True)
    begun = time.monotonic()
    statuses, _ = outcome(target.port, request(CHUNKED, b"Connection: close", body=b"1\r\n \r\n" * 200000 + b"0\r\n\r\n"), 20)
    assert statuses and statuses[0] in (400, 413) and time.monotonic() - begun < 30


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
def test_bytes_in_pieces(target, size):
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
