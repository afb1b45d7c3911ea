"""Large JSON answers flow: encoded as their clients take them. What clients of every kind get is the same; one that
reads slowly, leaves or is served out of a shared batch changes nothing for others. (What many of them hold while
nobody reads: test_accounts.py.)"""
import concurrent.futures
import json
import socket
import struct

import httpx
import numpy
import pytest
import tritonclient.http
from h2wire import DATA, WINDOW, H2, frame, head
from harness import Sluice, Worker, Wire, configuration, infer_body, wait_for
from onnx_file import add_model, tensor

WIDE = 100000  # values of an answer's row: about 700 KB of JSON
WEIGHTS = (numpy.arange(WIDE, dtype=numpy.float32) * numpy.float32(0.37)).astype(numpy.float32)
INFER = "/v2/models/wide/infer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    target = tmp_path_factory.mktemp("flows") / "models"
    (target / "wide" / "1").mkdir(parents=True)
    model = add_model(tensor("w", [WIDE], WEIGHTS.tobytes()), x=("n", 1), y=("n", WIDE))
    (target / "wide" / "1" / "model.onnx").write_bytes(model)
    return target


@pytest.fixture(scope="module")
def wide(repository):
    rules = 'model "wide" { batch { policy = fixed max_rows = 8 max_wait = "20ms" } }'
    path = configuration(repository.parent, repository=repository, models=rules, limits='bytes_in_flight = "32MiB" max_body = "1MiB" send_timeout = "20s" stream_stall = "20s"')
    with Sluice(path, wait_models=["wide"]) as sluice:
        yield sluice
        sluice.wait_idle()
        wait_for(lambda: sluice.metric("sluice_bytes_in_flight") < 2 << 20)
        assert sluice.stop() == 0
        sluice.assert_clean()


def ask(*values):
    return infer_body([[v] for v in values], tensor="x")


def right(answer, *values):
    (output,) = answer["outputs"]
    got = numpy.array(output["data"], dtype=numpy.float32).reshape(output["shape"])
    return numpy.array_equal(got, numpy.array(values, dtype=numpy.float32)[:, None] + WEIGHTS)


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_every_carrier(wide, http2):
    with httpx.Client(http1=not http2, http2=http2, base_url=wide.url, timeout=30) as client:
        for values in ((1.0,), (2.5, -3.0), tuple(float(i) for i in range(20)), (0.0,)):  # 20: in parts
            answer = client.post(INFER, content=ask(*values))
            assert answer.status_code == 200 and "content-length" not in answer.headers
            assert http2 or answer.headers["transfer-encoding"] == "chunked"
            assert answer.headers["content-type"] == "application/json" and "sluice-batch" in answer.headers
            assert right(answer.json(), *values)
        small = client.get("/v2/models/wide")
        assert small.status_code == 200 and "content-length" in small.headers  # as ever, on the same connection


def test_http_1_0_ends_with_its_connection(wide):
    octets = ask(1.0)
    with Wire(wide.port) as wire:
        wire.send(b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(octets)) + octets).read_until_closed()
    fields, answer = wire.data.split(b"\r\n\r\n", 1)
    assert b"connection: close" in fields and b"transfer-encoding" not in fields and right(json.loads(answer), 1.0)


def test_tritonclient(wide):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{wide.port}")
    x = tritonclient.http.InferInput("x", [1, 1], "FP32")
    x.set_data_from_numpy(numpy.array([[4]], dtype=numpy.float32), binary_data=False)
    got = client.infer("wide", [x], outputs=[tritonclient.http.InferRequestedOutput("y", binary_data=False)]).as_numpy("y")
    assert numpy.array_equal(got, WEIGHTS[None] + numpy.float32(4))


def test_a_worker_by_itself(repository):
    with Worker(repository) as worker:
        answer = httpx.post(f"http://127.0.0.1:{worker.port}{INFER}", content=ask(1.0, 2.0), timeout=30)
        assert "content-length" not in answer.headers and right(answer.json(), 1.0, 2.0)


def test_one_batch_and_many_readers(wide):
    """Rows of one batch, read at once, slowly, and not to the end: each has its own, and the log says who got all."""
    lines = len(wide.access_log())
    slow, gone = Wire(wide.port, 30), Wire(wide.port, 30)
    for wire, value in ((slow, 7.0), (gone, 8.0)):
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        octets = ask(value)
        wire.send(b"POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(octets)) + octets)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(httpx.post, wide.url + INFER, content=ask(float(i)), timeout=30) for i in range(6)]
        assert all(right(a.result().json(), float(i)) for i, a in enumerate(answers))
    gone.take(5)
    gone.socket.close()
    while b"0\r\n\r\n" not in slow.data[-5:]:
        slow.take(10)
        assert not slow.closed
    ((status, _, body),) = slow.answers()
    assert status == 200 and right(json.loads(body), 7.0)
    slow.socket.close()
    wait_for(lambda: len(wide.access_log()) >= lines + 8)
    told = [e for e in wide.access_log()[lines:] if e["path"] == INFER]
    assert [e.get("cut") for e in told].count(True) == 1 and all(e["status"] == 200 and e["outcome"] == "ok" for e in told)
    assert all(e["out"] > 500000 for e in told if "cut" not in e)


def test_a_window_that_opens_a_little(wide):
    """HTTP/2, a few KB at a time: what is asked for is encoded, and no more."""
    with H2(wide, settings=struct.pack(">HI", 4, 0)) as h2:
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "h"), (":path", INFER), ("content-type", "application/json")]
        h2.send(head(1, fields, False) + frame(DATA, 1, 1, ask(5.0)))
        assert h2.until(lambda: 1 in h2.headers)
        for _ in range(20):
            had = len(h2.bodies.get(1, b""))
            h2.send(frame(WINDOW, 0, 1, struct.pack(">I", 3000)))
            assert h2.until(lambda: len(h2.bodies.get(1, b"")) == had + 3000)
        h2.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 22)) + frame(WINDOW, 0, 1, struct.pack(">I", 1 << 22)))
        assert h2.until(lambda: h2.frames[-1][1] & 1 and h2.frames[-1][0] == DATA)
        assert right(json.loads(h2.bodies[1]), 5.0)
