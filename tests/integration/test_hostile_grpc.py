"""Hostile bodies and fields over gRPC: rows 100 to 102 of docs/hostile.md."""
import gzip
import json

import grpc
import pytest
from h2wire import DATA, END_STREAM, H2, HEADERS, frame, head, varint
from harness import SANITIZED, Sluice, Wire, Worker, configuration, memory_kib, wait_for
from hostile import (
    ASK, DEADLINE, EXHAUSTED, GRPC, INTERNAL_ERROR, INVALID, LIVE, OK, UNIMPLEMENTED, grpc_request,
    grpc_status, prefixed, replaced, request,
)

pytestmark = pytest.mark.usefixtures("others_are_served")


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
        "11-byte varint": b"\x08" + b"\xff" * 10 + b"\x01",
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
