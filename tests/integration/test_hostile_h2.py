"""Hostile input over HTTP/2: rows 46 to 74 of docs/hostile.md."""
import contextlib
import json
import struct
import sys
import threading
import time

import grpc
import pytest
from h2wire import (
    ACK, CALM, CANCEL, CLOSED, COMPRESSION, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW, GOAWAY, H2,
    HEADERS, INTERNAL, NO_ERROR, PING, PRIORITY, PROTOCOL, PUSH, REFUSED, RST, SETTINGS, SIZE, WINDOW, block,
    frame, head, literal, varint,
)
from harness import GOOD_BODY, SANITIZED, WORKER_DOUBLE, Program, Sluice, configuration, memory_kib, wait_for
from hostile import ASK, EXHAUSTED, GRPC, HIDDEN, LIVE, N, odd, replaced

pytestmark = pytest.mark.usefixtures("others_are_served")


def flood(target, pieces, codes=(CALM,), timeout=60.0):
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


# How many resets it takes stands in http/abuse.h: 1,224, and 128 more a second; as many again until the cut, where a stream
# that comes late costs as much as its reset. Either number here leaves a slow machine four seconds and more.
WARNED, CUT = 1750, 4000


def test_rapid_reset_ends_no_live_stream(start):
    """46: what others have open on the connection is answered; what is opened behind the GOAWAY is not processed."""
    with H2(start()) as h2:
        h2.send(head(1, ASK, end=False))
        h2.send(b"".join(taken_back(n) for n in odd(3)[:WARNED]))
        assert h2.until(lambda: h2.goaway is not None) and h2.goaway == NO_ERROR
        last = struct.unpack(">I", next(f[3][:4] for f in h2.frames if f[0] == GOAWAY))[0]
        assert 3 <= last <= 3 + 2 * WARNED
        h2.send(head(9001, LIVE) + frame(DATA, END_STREAM, 1, GOOD_BODY))
        assert h2.until(lambda: h2.status(1)) and h2.status(1) == 200
        assert h2.ends() and h2.status(9001) == 0 and h2.goaway == NO_ERROR


def test_rapid_reset_that_goes_on_is_cut(start):
    """46: with a stream that is kept open, so that the connection would stay."""
    target = start()
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False))
        with contextlib.suppress(OSError):
            h2.send(b"".join(taken_back(n) for n in odd(3)[:CUT]))
        assert h2.until(lambda: h2.goaway == CALM) and h2.status(1) == 0
        assert h2.ends()
    wait_for(lambda: target.metric("sluice_abusive_connections_total", reason="late_streams", action="went_on") + target.metric("sluice_abusive_connections_total", reason="resets", action="went_on") > 0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A gateway before models that answer, are slow, and hang; one channel to it."""
    words = [sys.executable, WORKER_DOUBLE, "--listen", "127.0.0.1:0", "good", "slow", "hangs"]
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
        while time.monotonic() < begun + 4 or ((abusive(shared) == 0 or answered <= 20) and time.monotonic() < begun + 120):
            for call in [shared.ask("slow"), *[shared.ask("good") for _ in range(8)]]:
                assert call.result()
                answered += 1
    finally:
        ended.set()
        leaving.join(120)
    assert answered > 20
    told = lambda: len(shared.find("client_abuse", why="resets", action="no new streams"))  # the log comes a little later
    wait_for(lambda: told() == abusive(shared) > 0)
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
        h2.wire.socket.settimeout(60)
        try:
            h2.wire.socket.sendall(many)
        except OSError:
            pass
        assert h2.ends(), f"{len(h2.frames)} frames came back"
        assert h2.goaway in (CALM, None)
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10


def test_a_flood_of_empty_data(target):
    """52"""
    with H2(target) as h2:
        h2.send(head(1, ASK, end=False) + frame(DATA, 0, 1) * 20000)
        assert h2.ends() and h2.goaway in (CALM, None)


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
        h2.wire.socket.settimeout(60)
        try:
            h2.wire.socket.sendall(head(1, ASK, end=False))
            for _ in range(3000):
                h2.wire.socket.sendall(frame(DATA, 0, 1, bytes(16384)))
        except OSError:
            pass
        assert h2.until(lambda: h2.is_over(1))
    assert SANITIZED or memory_kib(target.gateway_pid()) < 256 << 10
