"""Every account is kept: what unknown names are answered, what answers hold, how long a turn works."""
import concurrent.futures
import fcntl
import gzip
import mmap
import os
import pathlib
import random
import socket
import struct
import termios
import time

import grpc
import httpx
import pytest
from h2wire import DATA, H2, WINDOW, frame, head
from harness import GOOD_BODY, SAMPLES, SANITIZED, DooredSluice, Sluice, Wire, best_of, configuration, infer_body, memory_kib, post, wait_for
from onnx_file import add_model, tensor
from preload import preloadable
from tritonclient.grpc import service_pb2, service_pb2_grpc

# ---- names that nobody has -----------------------------------------------------------------------------

NOBODY = "/v2/models/nobody/infer"


def worker(title, address):
    return f'worker "{title}" {{ addresses = {{"grpc://{address}"}} }}\n'


@pytest.mark.slow
def test_an_unknown_name_is_404_beside_a_worker_that_never_came(tmp_path):
    """One address with a typo is no reason to have clients repeat theirs: once those that can be reached have
    said what they have, and the other has had its time to come, the name is not known."""
    started = time.monotonic()
    with Sluice(configuration(tmp_path, models=worker("typo", "127.0.0.1:1"))) as sluice:
        with httpx.Client(base_url=sluice.url) as client:
            ask = lambda: client.post(NOBODY, content=GOOD_BODY)  # noqa: E731
            first = ask()
            if time.monotonic() - started < 5:  # it may still come
                assert first.status_code == 503 and first.headers["retry-after"] == "1", first.text
            wait_for(lambda: ask().status_code == 404, 20, "404")
            assert "nobody is not known" in ask().json()["error"]


@pytest.mark.slow
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


def test_small_answers_that_nobody_reads(tmp_path):
    """78: each is copied, to leave together with others. What a connection has copied is little: answers wait where they
    are charged, in their streams, until their reader takes what was before them."""
    add_wide(tmp_path / "models", "few", 950)
    fields, body = ask_of("binary")
    fields = [(k, v.replace("wide", "few")) for k, v in fields]
    with Sluice(configuration(tmp_path, repository=tmp_path / "models"), wait_models=["few"]) as sluice:
        with H2(sluice, settings=struct.pack(">HI", 4, 1 << 20)) as h2:
            h2.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
            answered = lambda: sluice.metric("sluice_requests_total", model="few", status="ok")  # noqa: E731
            for i in range(120):
                h2.send(head(2 * i + 1, fields, end=False) + frame(DATA, 1, 2 * i + 1, body))
            wait_for(lambda: sluice.metric("sluice_in_flight") == 0 and answered() > 40, 20, "a full socket")
            wait_for(lambda: (answered(), time.sleep(1), answered())[0] == answered(), 20, "nothing leaves")
            left = queued_to(h2.wire) + unread_of(h2.wire)
            assert answered() < 120 and answered() * 3800 - left < 24 << 10, (answered(), queued_to(h2.wire), unread_of(h2.wire))
            assert h2.until(lambda: sum(len(b) for b in h2.bodies.values()) > 120 * 3800, 30), len(h2.bodies)
            assert all(h[":status"] == "200" for h in h2.headers.values())


def test_what_the_kernel_holds_of_an_answer(wide):
    """It is in no account of ours: so it is little, beside what is on its way to a reader that reads."""
    with Wire(wide.port) as wire:
        for _ in range(4):
            wire.send(post(SMALL_ASK % b"", path="/v2/models/wide/infer", close=False))
        wait_for(lambda: queued_to(wire) > 200000, 10, "a full socket")
        assert wide.metric("sluice_connections") == 1 and queued_to(wire) < 600000
        assert [a[0] for a in wire.read_answers(4, 30)] == [200] * 4


def unread_of(wire):
    """Bytes that the client's kernel holds for it."""
    return struct.unpack("i", fcntl.ioctl(wire.socket, termios.FIONREAD, bytes(4)))[0]


def queued_to(wire):
    """Bytes that the gateway's kernel holds for that client. (While sockets come and go the table may leave one out.)"""
    ours, theirs = (int(a[1]) for a in (wire.socket.getsockname(), wire.socket.getpeername()))

    def row():
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            at = line.split()
            if [int(at[i].split(":")[1], 16) for i in (1, 2)] == [theirs, ours]:
                return [int(at[4].split(":")[0], 16)]

    return wait_for(row, 10, "the gateway's socket")[0]


def together(sluice, model, n):
    """What n requests of one row are answered that come at once. With the highest priority: who comes a little later is
    not to make way for those before."""
    first = BINARY.replace(b"}", b',"priority":1}')
    with concurrent.futures.ThreadPoolExecutor(n) as pool, httpx.Client(timeout=60) as client:
        ask = lambda _: client.post(f"{sluice.url}/v2/models/{model}/infer", content=SMALL_ASK % first)  # noqa: E731
        return list(pool.map(ask, range(n)))


def test_an_answer_without_room(tmp_path):
    """A batch's answer is larger than all that may be in flight, each row's is not: everybody is answered, and nothing
    is said of the worker. Of a row alone the client is told."""
    # 0.9 MiB a row: eight of them find no room while they come, though BUDGET_ANSWERS is given beyond; four do, and so
    # does any one beside seven that nobody has read yet.
    add_wide(tmp_path / "models", "wide", 230000)
    add_wide(tmp_path / "models", "vast", 5 << 19)  # 10 MiB
    batch = 'batch { max_rows = 8 policy = fixed max_wait = "3s" pipeline = 1 }'
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


# ---- who gives way -------------------------------------------------------------------------------------

ROW = SAMPLES[0]["input"]


def digit(priority):
    request = service_pb2.ModelInferRequest(model_name="digits-small")
    request.inputs.add(name="input", datatype="FP32", shape=[1, len(ROW)])
    request.raw_input_contents.append(struct.pack(f"<{len(ROW)}f", *ROW))
    request.parameters["priority"].int64_param = priority
    return request


def test_the_lowest_priority_gives_way_first(tmp_path):
    """While the budget fills, those who ask with priority 5 are refused first, then 3, then those who name none."""
    holder = infer_body([ROW], parameters={"priority": 1}) + b" " * 500000
    probe = {p: infer_body([ROW], parameters={"priority": p}) for p in (1, 3, 5)}
    probe[0] = infer_body([ROW])
    path = configuration(tmp_path, loops=1, limits='bytes_in_flight = "8MiB" max_body = "1MiB"')
    small = "/v2/models/digits-small/infer"

    def refused(sluice):
        """The priorities that are, without a word of a worker."""
        said = set()
        for p, body in probe.items():
            with Wire(sluice.port) as wire:
                status, fields, text = wire.send(post(body, path=small)).read_answers(1)[0]
                assert status == 200 or (status == 503 and fields["retry-after"] == "1"), text
                assert status == 200 or b"kept for higher priorities" in text, text
                said |= {p} if status == 503 else set()
        return said

    with DooredSluice(path, wait_models=("digits", "digits-small")) as sluice:
        sluice.door("hold digits")
        holders, seen = [], [refused(sluice)]
        while len(holders) < 17 and seen[-1] != {0, 3, 5}:
            holders.append(Wire(sluice.port).send(post(holder)))
            wait_for(lambda: sluice.metric("sluice_in_flight") == len(holders))
            if refused(sluice) != seen[-1]:
                seen.append(refused(sluice))
        assert seen == [set(), {5}, {3, 5}, {0, 3, 5}], seen
        large = post(infer_body([ROW], parameters={"priority": 5}) + b" " * 100000, path=small)
        with Wire(sluice.port) as wire:
            assert wire.send(large).read_answers(1)[0][0] == 503
        with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
            infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            assert infer(digit(priority=1), timeout=10).model_name == "digits-small"
            with pytest.raises(grpc.RpcError) as failed:
                infer(digit(priority=2), timeout=10)
            assert failed.value.code() == grpc.StatusCode.UNAVAILABLE, failed.value
            assert "kept for higher priorities" in failed.value.details(), failed.value
        sluice.door("release digits")
        for wire in holders:
            assert wire.read_answers(1)[0][0] == 200
            wire.socket.close()
        assert refused(sluice) == set()
        sluice.wait_idle()


# ---- how long a turn works -----------------------------------------------------------------------------

LONGEST_MS = 2.0  # of a loop's turn, by its thread's CPU clock: of what a host takes from a virtual machine it counts a part


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
    home = tmp_path_factory.mktemp("turns")
    turns = Turns(preloadable("turns.c", home), home / "page")
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
    best_of(lambda: decoded_ms(measured, [floats(480000)] * 48), LONGEST_MS)


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
    best_of(lambda: decoded_ms(measured, [body], whole=True), LONGEST_MS)


def test_many_empty_elements(measured):
    """15 million elements of BYTES, four bytes each, that must be walked one by one."""
    n = 15 << 20
    head = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"BYTES","parameters":{"binary_data_size":%d}}]}' % (n, 4 * n)
    fields = b"Inference-Header-Content-Length: %d\r\n" % len(head)
    best_of(lambda: decoded_ms(measured, [head + bytes(4 * n)], fields, whole=True), LONGEST_MS)


def test_many_empty_elements_of_grpc(measured):
    sluice, turns = measured
    n = 15 << 20
    request = service_pb2.ModelInferRequest(model_name="nobody")
    request.inputs.add(name="x", datatype="BYTES", shape=[n])
    request.raw_input_contents.append(bytes(4 * n))
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}", [("grpc.max_send_message_length", 1 << 30)]) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda m: m.SerializeToString(), lambda m: m)

        def longest_ms():
            turns.clear()
            with pytest.raises(grpc.RpcError) as failed:
                call(request, timeout=60)
            assert failed.value.code() == grpc.StatusCode.UNAVAILABLE and "nobody" in failed.value.details(), failed.value
            return turns.longest_ms()

        best_of(longest_ms, LONGEST_MS)


def test_a_packed_body(measured):
    """60 MB out of a few: decompressed, decoded, and never copied whole."""
    values = b"".join(b",0.%06d" % i for i in random.sample(range(10**6), 10**6)) * 6
    tensor = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%s]}]}' % (6 * 10**6, values[1:])
    body = gzip.compress(tensor, 1)
    sluice, turns = measured

    def longest_ms():
        turns.clear()
        with Wire(sluice.port, 60) as wire:
            wire.send(post(body, path=NOBODY, fields=b"Content-Encoding: gzip\r\n"))
            status, _, said = wire.read_answers(1, 60)[0]
        assert status == 503 and b"nobody" in said, said
        return turns.longest_ms()

    best_of(longest_ms, LONGEST_MS)
