"""Every account is kept: what unknown names are answered, what answers hold, how long a turn works."""
import concurrent.futures
import gzip
import mmap
import os
import pathlib
import random
import socket
import struct
import subprocess
import time

import grpc
import httpx
import pytest
from h2wire import DATA, H2, frame, head
from harness import GOOD_BODY, ROOT, SANITIZED, Sluice, Wire, configuration, memory_kib, post, wait_for
from onnx_file import add_model, tensor
from tritonclient.grpc import service_pb2

# ---- names that nobody has -----------------------------------------------------------------------------

NOBODY = "/v2/models/nobody/infer"


def worker(title, address):
    return f'worker "{title}" {{ addresses = {{"grpc://{address}"}} }}\n'


def test_an_unknown_name_is_404_beside_a_worker_that_never_came(tmp_path):
    """One address with a typo is no reason to have clients repeat theirs: once those that can be reached have
    said what they have, and the other has had its time to come, the name is not known."""
    with Sluice(configuration(tmp_path, models=worker("typo", "127.0.0.1:1"))) as sluice:
        started = time.monotonic()
        with httpx.Client(base_url=sluice.url) as client:
            ask = lambda: client.post(NOBODY, content=GOOD_BODY)  # noqa: E731
            first = ask()
            if time.monotonic() - started < 5:  # it may still come
                assert first.status_code == 503 and first.headers["retry-after"] == "1", first.text
            wait_for(lambda: ask().status_code == 404, 20, "404")
            assert "nobody is not known" in ask().json()["error"]


def test_an_unknown_name_is_503_while_no_worker_is_there(tmp_path):
    """Then any name may be a worker's: clients repeat."""
    path = configuration(tmp_path, addresses=["grpc://127.0.0.1:1"])
    with Sluice(path, wait_models=()) as sluice, httpx.Client(base_url=sluice.url) as client:
        time.sleep(11)
        answer = client.post(NOBODY, content=GOOD_BODY)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1", answer.text


# ---- what answers hold ---------------------------------------------------------------------------------

IN_FLIGHT, BESIDE = 32 << 20, 64 << 20
WIDE = 131072  # values of an answer's row, out of one value of a request's


def add_wide(repository, name, values):
    """A model that answers so many values of FP32 a row, out of one."""
    weights = b"".join(struct.pack("<f", i * 0.37) for i in range(values))
    target = repository / name / "1"
    target.mkdir(parents=True)
    (target / "model.onnx").write_bytes(add_model(tensor("w", [values], weights), x=("n", 1), y=("n", values)))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model whose answers are half a megabyte, or one and more in JSON, and a gateway with a small budget."""
    home = tmp_path_factory.mktemp("wide")
    add_wide(home / "models", "wide", WIDE)
    limits = f'bytes_in_flight = "{IN_FLIGHT >> 20}MiB" max_body = "1MiB"'
    times = 'stream_stall = "4s" send_timeout = "6s"'
    path = configuration(home, repository=home / "models", limits=f"{limits} {times}")
    with Sluice(path, wait_models=["wide"]) as sluice:
        yield sluice


SMALL_ASK = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]%s}'
BINARY = b',"parameters":{"binary_data_output":true}'


def grpc_ask():
    request = service_pb2.ModelInferRequest(model_name="wide")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<f", 1))
    message = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message


def ask_of(kind):
    """(pseudo headers and fields, body)"""
    path = "/inference.GRPCInferenceService/ModelInfer" if kind == "grpc" else "/v2/models/wide/infer"
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "sluice"), (":path", path)]
    if kind == "grpc":
        return fields + [("content-type", "application/grpc"), ("te", "trailers")], grpc_ask()
    return fields + [("content-type", "application/json")], SMALL_ASK % (BINARY if kind == "binary" else b"")


def peak_during(pid, act):
    """The most that was resident while act() ran."""
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
    act()
    return memory_kib(pid, "VmHWM") << 10


@pytest.mark.skipif(SANITIZED, reason="sanitizers hold more memory than the programs")
@pytest.mark.parametrize("kind", ["json", "binary", "grpc"])
def test_readers_that_do_not_read(wide, kind):
    """78: three connections with a shut window and 120 streams each ask for 180 to 500 MiB of answers."""
    fields, body = ask_of(kind)
    shut = struct.pack(">HI", 4, 0)  # SETTINGS_INITIAL_WINDOW_SIZE
    clients = [H2(wide, settings=shut) for _ in range(3)]

    def ask():
        for c in clients:
            for i in range(120):
                c.send(head(2 * i + 1, fields, end=False) + frame(DATA, 1, 2 * i + 1, body))
        for c in clients:
            assert c.until(lambda c=c: len(c.headers) == 120, 60), len(c.headers)

    peak = peak_during(wide.gateway_pid(), ask)
    for c in clients:
        c.wire.socket.close()
    statuses = [(h[":status"], h.get("grpc-status", "0")) for c in clients for h in c.headers.values()]
    refused = [h for c in clients for h in c.headers.values() if (h[":status"], h.get("grpc-status", "0")) != ("200", "0")]
    assert len(refused) < 360 and ("200", "0") in statuses, "the budget is there to be used"
    assert refused and all(h.get("retry-after") == "1" for h in refused if kind != "grpc"), refused[:3]
    assert all(h[":status"] == "503" or h.get("grpc-status") == "14" for h in refused), refused[:3]
    assert peak < IN_FLIGHT + BESIDE, f"{peak >> 20} MiB"
    wide.wait_idle()
    wait_for(lambda: wide.metric("sluice_bytes_in_flight") < 2 << 20, 10, "all given back")
    assert httpx.post(f"{wide.url}/v2/models/wide/infer", content=SMALL_ASK % b"").status_code == 200


@pytest.mark.skipif(SANITIZED, reason="sanitizers hold more memory than the programs")
def test_sockets_that_nobody_reads(wide):
    """78: 250 connections of HTTP/1.1 with an answer of a megabyte each, of which nothing is read."""
    wires = []

    def ask():
        for _ in range(250):
            wires.append(Wire(wide.port))
            wires[-1].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wires[-1].send(post(SMALL_ASK % b"", path="/v2/models/wide/infer", close=False))
        wait_for(lambda: wide.metric("sluice_in_flight") == 0, 30, "all answered")

    peak = peak_during(wide.gateway_pid(), ask)
    for w in wires:
        w.socket.close()
    assert peak < IN_FLIGHT + BESIDE, f"{peak >> 20} MiB"
    wide.wait_idle()


def together(sluice, model, n):
    """What n requests of one row are answered that come at once."""
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        ask = lambda _: httpx.post(f"{sluice.url}/v2/models/{model}/infer", content=SMALL_ASK % BINARY, timeout=30)  # noqa: E731
        return list(pool.map(ask, range(n)))


def test_an_answer_without_room(tmp_path):
    """A batch's answer is larger than all that may be in flight, each row's is not: everybody is answered, and nothing
    is said of the worker. Of a row alone the client is told."""
    # 0.9 MiB a row: eight of them find no room while they come, though BUDGET_ANSWERS is given beyond; four do, and so
    # does any one beside seven that nobody has read yet.
    add_wide(tmp_path / "models", "wide", 230000)
    add_wide(tmp_path / "models", "vast", 5 << 19)  # 10 MiB
    batch = 'batch { max_rows = 8 policy = fixed max_wait = "500ms" pipeline = 1 }'
    models = f'model "wide" {{ {batch} }}'
    limits = 'bytes_in_flight = "1MiB" max_body = "64KiB"'
    path = configuration(tmp_path, repository=tmp_path / "models", models=models, limits=limits)
    with Sluice(path, wait_models=["wide", "vast"]) as sluice:
        for _ in range(3):
            answers = together(sluice, "wide", 8)
            assert [a.status_code for a in answers] == [200] * 8, [a.text for a in answers if a.status_code != 200]
            assert all(len(a.content) > 920000 for a in answers)
        assert sluice.metric("sluice_events_total", event="halved") >= 3
        alone = together(sluice, "vast", 1)[0]
        assert alone.status_code == 503 and alone.headers["retry-after"] == "1", alone.text
        assert "found no room in limits.bytes_in_flight" in alone.json()["error"], alone.text
        for event in ("replica_paused", "replica_ejected", "retried"):
            assert sluice.metric("sluice_events_total", event=event) == 0, event
        assert together(sluice, "wide", 1)[0].status_code == 200
        sluice.wait_idle()
        wait_for(lambda: sluice.metric("sluice_bytes_in_flight") < 128 << 10, 10, "all given back")


# ---- how long a turn works -----------------------------------------------------------------------------

LONGEST_MS = 2.0  # of a loop's turn, by its thread's CPU clock


class Turns:
    """The page that turns.c counts in."""

    def __init__(self, library, path):
        path.write_bytes(bytes(4096))
        self.env = {"LD_PRELOAD": str(library), "TURNS_PAGE": str(path)}
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 4096)

    def clear(self):
        self.page[:16] = bytes(16)

    def longest_ms(self):
        longest, count = struct.unpack("<2q", self.page[:16])
        assert count > 0
        return longest / 1e6


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A gateway of one loop whose turns are measured, and no worker: bodies are decoded before their model is asked
    for."""
    if SANITIZED:
        pytest.skip("LD_PRELOAD and a sanitizer's interceptors exclude each other")
    home = tmp_path_factory.mktemp("turns")
    words = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-std=gnu17", "-Wall", "-Werror", "-o", home / "turns.so"]
    done = subprocess.run([*words, ROOT / "tests/integration/turns.c", "-ldl"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    turns = Turns(home / "turns.so", home / "page")
    path = configuration(home, addresses=["grpc://127.0.0.1:1"], loops=1, limits='max_body = "64MiB" bytes_in_flight = "4GiB"')
    with Sluice(path, wait_models=(), env=turns.env) as sluice:
        yield sluice, turns


def floats(n):
    """A request of n values, nine bytes each."""
    return b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[0%s]}]}' % (n, b",0.123456" * (n - 1))


def decoded_ms(measured, bodies, fields=b"", whole=False, path=NOBODY):
    """The longest turn while the gateway takes the last bytes of these bodies and decodes them (whole: and while it
    reads them)."""
    sluice, turns = measured
    wires = [Wire(sluice.port, 60) for _ in bodies]
    if whole:
        turns.clear()
    for wire, body in zip(wires, bodies):
        wire.send(post(body, path=path, fields=fields, close=False)[:-1])
    received = sum(len(b) for b in bodies)
    wait_for(lambda: sluice.metric("sluice_bytes_in_flight") >= 0.9 * received - 2e6, 30, "bodies")
    if not whole:
        time.sleep(0.2)
        turns.clear()
    for wire, body in zip(wires, bodies):
        wire.send(body[-1:])
    for wire in wires:
        status, _, said = wire.read_answers(1, 60)[0]
        assert status == 503 and b"nobody" in said, said
        wire.socket.close()
    sluice.wait_idle()
    return turns.longest_ms()


def test_many_decoders_at_once(measured):
    """48 bodies of 4 MB whose last bytes come together: the loop's other clients wait no longer for that."""
    ms = decoded_ms(measured, [floats(480000)] * 48)
    assert ms < LONGEST_MS, f"{ms} ms"


LONG = b"q" * (60 << 20)
GOOD_INPUT = b'{"name":"x","shape":[1],"datatype":"FP32","data":[0]}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[%s],"more":"%s"}' % (GOOD_INPUT, LONG),
        b'{"inputs":[%s],"more":["%s"]}' % (GOOD_INPUT, LONG),
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["%s"]}]}' % LONG,
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["%s"]}]}' % (b"\\u00e4" * (10 << 20)),
        b'{"inputs":[{"data":["%s"],"name":"x","shape":[1],"datatype":"BYTES"}]}' % LONG,
    ],
    ids=["a skipped string", "a string in what is skipped", "a string", "escapes", "a string before its shape"],
)
def test_one_long_string(measured, body):
    ms = decoded_ms(measured, [body], whole=True)
    assert ms < LONGEST_MS, f"{ms} ms"


def test_many_empty_elements(measured):
    """15 million elements of BYTES, four bytes each, that must be walked one by one."""
    n = 15 << 20
    head = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"BYTES","parameters":{"binary_data_size":%d}}]}' % (n, 4 * n)
    fields = b"Inference-Header-Content-Length: %d\r\n" % len(head)
    ms = decoded_ms(measured, [head + bytes(4 * n)], fields, whole=True)
    assert ms < LONGEST_MS, f"{ms} ms"


def test_many_empty_elements_of_grpc(measured):
    sluice, turns = measured
    n = 15 << 20
    request = service_pb2.ModelInferRequest(model_name="nobody")
    request.inputs.add(name="x", datatype="BYTES", shape=[n])
    request.raw_input_contents.append(bytes(4 * n))
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}", [("grpc.max_send_message_length", 1 << 30)]) as channel:
        turns.clear()
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda m: m.SerializeToString(), lambda m: m)
        with pytest.raises(grpc.RpcError) as failed:
            call(request, timeout=60)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE and "nobody" in failed.value.details(), failed.value
    assert turns.longest_ms() < LONGEST_MS, f"{turns.longest_ms()} ms"


def test_a_packed_body(measured):
    """60 MB out of a few: decompressed, decoded, and never copied whole."""
    values = b"".join(b",0.%06d" % i for i in random.sample(range(10**6), 10**6)) * 6
    tensor = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%s]}]}' % (6 * 10**6, values[1:])
    body = gzip.compress(tensor, 1)
    sluice, turns = measured
    turns.clear()
    with Wire(sluice.port, 60) as wire:
        wire.send(post(body, path=NOBODY, fields=b"Content-Encoding: gzip\r\n"))
        status, _, said = wire.read_answers(1, 60)[0]
    assert status == 503 and b"nobody" in said, said
    assert turns.longest_ms() < LONGEST_MS, f"{turns.longest_ms()} ms"
