"""What the tests of hostile input share: good and bad requests made by hand, and what came of them. The numbers are the
rows of docs/hostile.md. One gateway with short time-outs takes it all (conftest: target)."""
import os
import struct

import httpx
from h2wire import DATA, END_STREAM, H2, frame, head
from harness import GOOD_BODY, SAMPLES, Wire

INFER = b"/v2/models/digits/infer"
LIMITS = """header_timeout = "2s" body_timeout = "2s" idle_timeout = "3s" send_timeout = "2s" stream_stall = "2s"
max_body = "8MiB" """

ROW = SAMPLES[0]["input"]
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
N = len(GOOD_BODY)
GOOD_CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (N, GOOD_BODY)
LIVE = [(":method", "GET"), (":scheme", "http"), (":authority", "sluice"), (":path", "/v2/health/live")]
ASK = [(":method", "POST"), (":scheme", "http"), (":authority", "sluice"), (":path", INFER.decode())]
GRPC = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/inference.GRPCInferenceService/ModelInfer")]
GRPC += [("content-type", "application/grpc"), ("te", "trailers")]
OK, CANCELLED, UNKNOWN, INVALID, DEADLINE, NOT_FOUND, _, _, EXHAUSTED, _, _, _, UNIMPLEMENTED, INTERNAL_ERROR = range(14)


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


def request(*fields, method=b"POST", path=INFER, host=b"Host: sluice", body=b"", version=b"HTTP/1.1"):
    lines = [b"%s %s %s" % (method, path, version), *([host] if host else []), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def outcome(port, octets, timeout=5.0):
    """([status], closed) of what was sent in one piece."""
    with Wire(port) as wire:
        wire.send(octets).read_until_closed(timeout)
        return [a[0] for a in wire.answers()], wire.closed


def length(text):
    return request(b"Content-Length: " + text, body=GOOD_BODY + HIDDEN)


def odd(first=1):
    return range(first, 1 << 20, 2)


def replaced(name, value, fields=LIVE):
    return [(n, value if n == name else v) for n, v in fields]


def ask(target, body, path=INFER.decode(), **headers):
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(target.url + path, content=body, headers=headers, timeout=20, verify=False)


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
