"""Clients of HTTP/1.1 that end their half of the connection before they are answered (`nc -N`): taken for gone, or answered, as
the listener says. The worker is a double that answers when the test wants."""
import contextlib
import socket
import ssl
import struct
import sys
import threading

import httpx
import pytest
from harness import ROOT, Sluice, Wire, configuration, port_of, post, wait_for
from test_tls import certificate
from tritonclient.grpc import service_pb2

sys.path.append(str(ROOT / "tests" / "faults"))

from worker import Service, answer_of, metadata, rows_of, serve  # noqa: E402

BODY = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
ASK = post(httpx.Request("POST", "http://x", json=BODY).content, path="/v2/models/m/infer", close=False)
ANSWERS = "half_close = answer"


class Slow(Service):
    """Model m: y = 2 x, when it is told to go on."""

    def __init__(self):
        super().__init__()
        self.goes, self.cancelled = threading.Event(), threading.Event()

    def ServerLive(self, octets, context):
        return b"\x08\x01"

    def RepositoryIndex(self, octets, context):
        answer = service_pb2.RepositoryIndexResponse()
        answer.models.add(name="m", version="1", state="READY")
        return answer.SerializeToString()

    def ModelMetadata(self, octets, context):
        return metadata("m")

    def ModelInfer(self, octets, context):
        context.add_callback(lambda: None if self.goes.is_set() else self.cancelled.set())
        self.goes.wait(60)
        request = service_pb2.ModelInferRequest.FromString(octets)
        return answer_of(request, rows_of(request))


@pytest.fixture
def slow():
    double = Slow()
    server, double.port = serve(double, "127.0.0.1:0", threads=8)
    yield double
    double.goes.set()
    server.stop(None)


@contextlib.contextmanager
def before(slow, tmp_path, listen, **more):
    config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{slow.port}"], listen=listen, **more)
    with Sluice(config, wait_models=("m",)) as sluice:
        yield sluice
        slow.goes.set()
        sluice.wait_idle()
        assert sluice.stop() == 0


@contextlib.contextmanager
def asked(slow, sluice, octets):
    """All of it is there, with its end, and the worker has the first request."""
    with Wire(sluice.port) as wire:
        wire.send(octets)
        wire.socket.shutdown(socket.SHUT_WR)
        wait_for(lambda: slow.calls["ModelInfer"] > 0)
        yield wire


def test_whoever_ends_is_answered(slow, tmp_path):
    """All that he has sent whole, and nothing else."""
    with before(slow, tmp_path, ANSWERS) as sluice, asked(slow, sluice, ASK * 3 + ASK[:-1]) as wire:
        slow.goes.set()
        wire.read_until_closed()
        assert wire.closed and [status for status, *_ in wire.answers()] == [200, 200, 200]
        assert slow.calls["ModelInfer"] == 3


def test_the_last_answer_says_so(slow, tmp_path):
    with before(slow, tmp_path, ANSWERS) as sluice, asked(slow, sluice, ASK * 2) as wire:
        slow.goes.set()
        wire.read_until_closed()
        assert wire.closed and [fields.get("connection") for _, fields, _ in wire.answers()] == [None, "close"]


def test_whoever_ends_has_gone(slow, tmp_path):
    """Unless the listener says otherwise."""
    with before(slow, tmp_path, "") as sluice, Wire(sluice.port) as wire:
        wire.send(ASK)
        wait_for(lambda: slow.calls["ModelInfer"] > 0)
        wire.socket.shutdown(socket.SHUT_WR)
        wire.read_until_closed()
        assert wire.closed and wire.data == b""
        wait_for(slow.cancelled.is_set)


def test_whoever_ends_and_resets_has_gone(slow, tmp_path):
    with before(slow, tmp_path, ANSWERS) as sluice, asked(slow, sluice, ASK) as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.socket.close()
        wait_for(slow.cancelled.is_set)


def test_a_reload_says_otherwise(slow, tmp_path):
    with before(slow, tmp_path, "") as sluice:
        text = sluice.config.read_text()
        sluice.config.write_text(text.replace('listen "public" { ', 'listen "public" { half_close = answer '))
        assert httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers={"authorization": "Bearer open sesame, please"}).is_success
        with asked(slow, sluice, ASK) as wire:
            slow.goes.set()
            wire.read_until_closed()
            assert [status for status, *_ in wire.answers()] == [200]


def handshake(wire, context):
    """(object, in, out) of a client's TLS over that connection, whose ends are ours to send."""
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname="localhost")
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
            wire.send(goes.read())
            return tls, came, goes
        wire.send(goes.read())
        assert wire.take(10)
        came.write(wire.data)
        wire.data = b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_whoever_ends_over_tls_is_answered(slow, tmp_path, version):
    """By a close_notify, and a FIN behind it."""
    cert, key = certificate(tmp_path / "pki")
    top = f'listen "tls" {{ address = "127.0.0.1:0" certificate = "{cert}" key = "{key}" {ANSWERS} }}'
    context = ssl.create_default_context(cafile=cert)
    context.minimum_version = context.maximum_version = version
    with before(slow, tmp_path, "", top=top) as sluice, Wire(port_of(sluice.wait_event("listening", name="tls")["address"])) as wire:
        tls, came, goes = handshake(wire, context)
        tls.write(ASK)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        wire.send(goes.read())
        wire.socket.shutdown(socket.SHUT_WR)
        wait_for(lambda: slow.calls["ModelInfer"] > 0)
        slow.goes.set()
        wire.read_until_closed()
        came.write(wire.data)
        assert tls.read(65536).startswith(b"HTTP/1.1 200 OK")
