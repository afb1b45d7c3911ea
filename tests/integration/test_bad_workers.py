"""Workers that answer wrongly, late, never, or with something that is no answer: what the client is told."""
import contextlib
import json
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from harness import WORKER_DOUBLE, Program, Sluice, configuration, wait_for
from raw_worker import FINE, HEAD, RawWorker, answer_well, message, reset, speak_h2
from tritonclient.grpc import service_pb2, service_pb2_grpc
from worker import POISON, WORDS


def body(*rows, **parameters):
    data = [v for row in rows for v in row]
    tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def ask(sluice, model, *rows, timeout_us=10000000):
    rows = rows or ([1, 2],)
    url = f"{sluice.url}/v2/models/{model}/infer"
    return httpx.post(url, content=body(*rows, timeout=timeout_us), timeout=30)


def is_right(answer, *rows):
    want = [2 * v for row in rows or ([1, 2],) for v in row]
    return answer.status_code == 200 and answer.json()["outputs"][0]["data"] == want


def ask_at_once(sluice, model, rows):
    with ThreadPoolExecutor(len(rows)) as pool:
        return list(pool.map(lambda row: ask(sluice, model, row), rows))


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """One gateway before one scripted worker that has every misdeed but death."""
    models = ["good", "single", *WRONG, "exhausted", "blames", "crashes_inside", "refuses", "explains", "poison_error", "slow", "hangs"]
    with Program([sys.executable, WORKER_DOUBLE, "--listen", "127.0.0.1:0", *models]) as worker:
        port = worker.wait_event("up", timeout=30)["port"]
        rules = "\n".join(f'model "{m}" {{ batch {{ policy = fixed max_wait = "200ms" preferred = {{4}} }} }}' for m in models)
        config = configuration(
            tmp_path_factory.mktemp("bad"),
            addresses=[f"grpc://127.0.0.1:{port}"],
            models=rules,
            limits='max_answer = "1MiB"',
            health='interval = "60s" timeout = "60s" failures = 3',
        )
        with Sluice(config, wait_models=("good",)) as sluice:
            sluice.worker = worker
            yield sluice
            assert sluice.stop() == 0, sluice.text
        worker.kill(9)


def test_the_scripted_worker_can_be_good(bad):
    assert is_right(ask(bad, "good")) and is_right(ask(bad, "single"))
    answers = ask_at_once(bad, "good", [[i, i + 1] for i in range(4)])
    assert all(is_right(a, [i, i + 1]) for i, a in enumerate(answers))


WRONG = ["more_rows", "fewer_rows", "no_rank", "short_data", "negative_shape", "wrapping_shape", "wrong_type"]
WRONG += ["wide_rows", "wrong_name", "no_outputs", "garbage", "empty", "huge"]


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("model", WRONG)
def test_a_wrong_answer_is_502_and_counted(bad, model, rows):
    before = bad.metric("sluice_requests_total", model=model, status="bad_answer")
    answers = ask_at_once(bad, model, [[i, i] for i in range(rows)])
    assert [a.status_code for a in answers] == [502] * rows, answers[0].text
    assert answers[0].json()["error"]
    # Counted when the last byte has left, which the client may see a little sooner than the loop.
    wait_for(lambda: bad.metric("sluice_requests_total", model=model, status="bad_answer") == before + rows)
    assert is_right(ask(bad, "good"))  # the connection is as good as before


def test_a_workers_words_reach_the_client(bad):
    """In UTF-8, up to 2 KiB of them, cut between two characters, whatever the protocol."""
    told = "the worker says: " + WORDS.encode()[:2048].decode(errors="ignore")
    answer = ask(bad, "explains")
    assert (answer.status_code, answer.json()) == (400, {"error": told})
    request = service_pb2.ModelInferRequest(model_name="explains", raw_input_contents=[bytes(8)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    with grpc.insecure_channel(f"127.0.0.1:{bad.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, told)


@pytest.mark.parametrize("model, status", [("exhausted", 503), ("blames", 400), ("crashes_inside", (500, 502, 503))])
def test_a_worker_that_says_no(bad, model, status):
    answer = ask(bad, model)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text
    if model == "blames":
        assert "not by me" in answer.json()["error"]
    assert is_right(ask(bad, "good"))


def test_a_worker_that_is_unavailable(bad):
    """UNAVAILABLE of one model is 503 within the deadline."""
    answer = ask(bad, "refuses", timeout_us=2000000)
    assert answer.status_code in (503, 504), answer.text


def test_only_the_guilty_row_fails(bad):
    """Row 104: the batch is halved until the poisoned request is alone."""
    rows = [[i, i] for i in range(8)]
    rows[5] = [POISON, 0]

    def halved():
        answers = ask_at_once(bad, "poison_error", rows)
        for i, a in enumerate(answers):
            assert a.status_code == 500 if i == 5 else is_right(a, rows[i]), (i, a.text)
        assert "a row that I cannot compute" in answers[5].json()["error"]
        return bad.metric("sluice_events_total", model="poison_error", event="halved")

    wait_for(halved, 30, "that row and another in one batch")


def test_a_slow_worker_within_the_deadline(bad):
    assert is_right(ask(bad, "slow", timeout_us=20000000))


def test_a_call_that_hangs(bad):
    """504 at the deadline, told by our own clock; the members that have time are not harmed (row 103)."""
    answer = ask(bad, "hangs", timeout_us=500000)
    assert answer.status_code == 504
    assert wait_for(lambda: is_right(ask(bad, "good")))
    wait_for(lambda: bad.metric("sluice_in_flight") == 0)
    wait_for(lambda: bad.metric("sluice_running_rows", model="hangs") == 0)


def test_deadlines_that_cannot_be_met(bad):
    """Row 103: 1 us is refused without a call to the worker; the others in the batch are answered."""
    with ThreadPoolExecutor(8) as pool:
        short = [pool.submit(ask, bad, "good", timeout_us=1) for _ in range(4)]
        long_ = [pool.submit(ask, bad, "good") for _ in range(4)]
        assert [f.result().status_code for f in short] == [504] * 4
        assert all(is_right(f.result()) for f in long_)


def test_clients_that_leave_a_batch_harm_no_other(bad):
    """Row 103: cancelled in mid batch."""
    with ThreadPoolExecutor(8) as pool:
        stays = [pool.submit(ask, bad, "slow", [i, 1]) for i in range(4)]
        leaves = [pool.submit(httpx.post, f"{bad.url}/v2/models/slow/infer", content=body([1, 1]), timeout=0.1) for _ in range(4)]
        assert all(isinstance(f.exception(), httpx.TimeoutException) for f in leaves)
        assert all(is_right(f.result(), [i, 1]) for i, f in enumerate(stays))
    wait_for(lambda: bad.metric("sluice_in_flight") == 0)


# ---- workers that die ----------------------------------------------------------------------------------


def test_a_request_that_kills(tmp_path):
    """Three workers of four at most: they are gone before the keeper's first word comes, which is waited for. 500 poison;
    those that shared its batch are answered."""
    config = configuration(tmp_path, addresses=["grpc://127.0.0.1:1"], models='model "poison_dies" { batch { policy = fixed max_wait = "300ms" preferred = {4} } }')
    command = f'command = {{"{sys.executable}", "{WORKER_DOUBLE}", "poison_dies", "good"}}'
    config.write_text(config.read_text().replace('addresses = {"grpc://127.0.0.1:1"}', command + " replicas = 4"))
    with Sluice(config, wait_models=("good", "poison_dies")) as sluice:
        wait_for(lambda: sluice.metric("sluice_ready_replicas", model="poison_dies") == 4, 60)
        rows = [[1, 1], [POISON, 2], [3, 3], [4, 4]]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda row: ask(sluice, "poison_dies", row, timeout_us=60000000), rows))
        assert answers[1].status_code == 500 and "two workers died" in answers[1].json()["error"], answers[1].text
        for i in (0, 2, 3):
            assert is_right(answers[i], rows[i]), (i, answers[i].text)
        sluice.wait_event("worker_exited", count=2)
        assert sluice.metric("sluice_events_total", event="poison") == 1
        assert len(sluice.find("worker_exited")) <= 3
        assert sluice.stop() == 0


# ---- bytes that are no answer -------------------------------------------------------------------------


def gateway_before(tmp_path, raw, **more):
    more.setdefault("health", 'interval = "60s" timeout = "2s" failures = 3')
    more.setdefault("limits", 'max_answer = "1MiB" deadline_default = "5s"')
    return Sluice(configuration(tmp_path, addresses=[raw.address], **more), wait_models=())


def dribble(s, c, stream, octets):
    answer_well(s, c, stream, octets)
    for octet in c.data_to_send():
        s.sendall(bytes([octet]))


def drop(s, c, stream, octets):
    return True


def rst_connection_mid_answer(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets)[:9])
    s.sendall(c.data_to_send())
    reset(s)
    return True


def fin_mid_answer(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets)[:9])
    s.sendall(c.data_to_send())
    return True


def rst_stream_mid_answer(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets)[:9])
    c.reset_stream(stream, 2)


def no_trailers(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets), end_stream=True)


def short_message(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets)[:-3])
    c.send_headers(stream, FINE, end_stream=True)


def two_messages(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets) * 2)
    c.send_headers(stream, FINE, end_stream=True)


def long_prefix(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, struct.pack(">BI", 0, 0xFFFFFFFF) + octets)
    c.send_headers(stream, FINE, end_stream=True)


def compressed(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, b"\x01" + message(octets)[1:])
    c.send_headers(stream, FINE, end_stream=True)


def not_grpc(s, c, stream, octets):
    c.send_headers(stream, [(":status", "200"), ("content-type", "text/html")])
    c.send_data(stream, b"<html>", end_stream=True)


def http_500(s, c, stream, octets):
    c.send_headers(stream, [(":status", "500")], end_stream=True)


def http_503(s, c, stream, octets):
    """As a proxy before the worker says it (grpc/grpc doc/http-grpc-status-mapping.md)."""
    c.send_headers(stream, [(":status", "503"), ("content-type", "text/html")])
    c.send_data(stream, b"<html>", end_stream=True)


def storm_of_1xx(s, c, stream, octets):
    block = b"\x08\x03103"  # :status without indexing, indexed name 8
    frame = struct.pack(">I", len(block))[1:] + b"\x01\x04" + struct.pack(">I", stream) + block
    s.sendall(frame * 2000)
    answer_well(s, c, stream, octets)


def huge_header(s, c, stream, octets):
    block = b"\x88" + b"\x00\x01a\x7f\x81\x3e" + b"b" * 8192
    first = struct.pack(">I", len(block))[1:] + b"\x01\x00" + struct.pack(">I", stream) + block
    more = struct.pack(">I", 16000)[1:] + b"\x09\x00" + struct.pack(">I", stream) + b"c" * 16000
    s.sendall(first + more * 64)


def garbage_frames(s, c, stream, octets):
    s.sendall(b"\xde\xad\xbe\xef" * 4096)


def answer_twice(s, c, stream, octets):
    answer_well(s, c, stream, octets)
    s.sendall(c.data_to_send())
    frame = struct.pack(">I", 4)[1:] + b"\x00\x01" + struct.pack(">I", stream) + b"more"
    s.sendall(frame)


@pytest.mark.parametrize(
    "how, allowed",
    [
        (dribble, (200,)),
        (answer_twice, (200,)),
        (drop, (500, 502, 503)),
        (rst_connection_mid_answer, (500, 502, 503)),
        (fin_mid_answer, (500, 502, 503)),
        (rst_stream_mid_answer, (500, 502, 503)),
        (no_trailers, (502,)),
        (short_message, (502,)),
        (two_messages, (502,)),
        (long_prefix, (502,)),
        (compressed, (502,)),
        (not_grpc, (502,)),
        (http_500, (502,)),
        (http_503, (503,)),
        (storm_of_1xx, (200, 500, 502, 503)),
        (huge_header, (500, 502, 503)),
        (garbage_frames, (500, 502, 503)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_frames_that_are_no_answer(tmp_path, how, allowed):
    """Row 84: 502 or 503 within the time-out, never a torn 200; afterwards a good worker is used again."""
    good = threading.Event()

    def on_infer(s, c, stream, octets):
        return (answer_well if good.is_set() else how)(s, c, stream, octets)

    with RawWorker(speak_h2(on_infer)) as raw, gateway_before(tmp_path, raw) as sluice:
        sluice.wait_model("good")
        answer = ask(sluice, "good")
        assert answer.status_code in allowed, answer.text
        assert answer.status_code != 200 or is_right(answer)
        good.set()
        wait_for(lambda: is_right(ask(sluice, "good")), 20, "a good answer")
        wait_for(lambda: sluice.metric("sluice_in_flight") == 0)
        assert len(sluice.find("ready")) == 1


def test_a_worker_that_hangs_loses_its_connection(tmp_path):
    """504 at the deadline, by our own clock. It answers probes and ends nothing for two seconds: the connection is
    replaced, and on the next one it is served."""
    hanging = set()

    def talk(s, n):
        speak_h2(lambda *call: False if n in hanging else answer_well(*call))(s, n)

    with RawWorker(talk) as raw, gateway_before(tmp_path, raw, health='interval = "60s" timeout = "60s" failures = 3') as sluice:
        sluice.wait_model("good")
        wait_for(lambda: raw.connections == 2)
        assert is_right(ask(sluice, "good"))  # how long it takes is known
        hanging.update({1, 2})
        answer = ask(sluice, "good", timeout_us=300000)
        assert answer.status_code == 504, answer.text
        total_ms = float(answer.headers["server-timing"].rsplit("=", 1)[1])
        assert 300 <= total_ms < 10000, total_ms
        late = lambda: ask(sluice, "good", timeout_us=300000).status_code in (503, 504)  # noqa: E731
        wait_for(lambda: late() and raw.connections > 2, 20, "another connection")
        hanging.clear()
        wait_for(lambda: is_right(ask(sluice, "good", timeout_us=2000000)), 30, "a good answer")
        sluice.wait_event("replica_ejected", model="good", replica="w/0")
        assert sluice.metric("sluice_events_total", event="poison") == 0
        wait_for(lambda: sluice.metric("sluice_in_flight") == 0)


def frames_of_an_answer(stream, octets):
    """By hand: for a stream that h2 knows to be closed."""
    frame = lambda kind, flags, payload: struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
    field = lambda name, value: b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value
    head = b"\x88" + field(b"content-type", b"application/grpc")
    return frame(1, 4, head) + frame(0, 0, message(octets)) + frame(1, 5, field(b"grpc-status", b"0"))


def told_504(sluice):
    return ask(sluice, "good", [100, 100], timeout_us=300000).status_code in (504, 503)


def leaves(sluice):
    with contextlib.suppress(httpx.TimeoutException):
        httpx.post(f"{sluice.url}/v2/models/good/infer", content=body([100, 100]), timeout=0.3)
    return True


@pytest.mark.parametrize("ends", [told_504, leaves])
def test_answers_that_come_late(tmp_path, ends):
    """After the deadline, or when the client has left, and twice: nobody else is given that answer."""
    late = []

    def on_infer(s, c, stream, octets):
        if len(late) < 3:
            late.append((s, stream, octets))
            return
        for then, old, answer in late:  # on a connection that has been replaced, or on a stream that was reset
            with contextlib.suppress(OSError):
                then.sendall(frames_of_an_answer(old, answer) * 2)
        answer_well(s, c, stream, octets)

    with RawWorker(speak_h2(on_infer)) as raw, gateway_before(tmp_path, raw) as sluice:
        sluice.wait_model("good")
        while len(late) < 3:
            assert ends(sluice)
        connections = raw.connections
        for i in range(20):
            wait_for(lambda i=i: is_right(ask(sluice, "good", [i, i]), [i, i]))
        assert ends == told_504 or raw.connections == connections == 2  # those streams were ours to end
        wait_for(lambda: sluice.metric("sluice_in_flight") == 0)
        assert len(sluice.find("ready")) == 1
def over_a_slow_line(s, c, stream, octets):
    """Three seconds for one answer; nothing else is read or said meanwhile."""
    whole = message(octets)
    c.send_headers(stream, HEAD)
    for i in range(60):
        c.send_data(stream, whole[len(whole) * i // 60 : len(whole) * (i + 1) // 60])
        s.sendall(c.data_to_send())
        time.sleep(0.05)
    c.send_headers(stream, FINE, end_stream=True)


def test_an_answer_on_a_slow_line(tmp_path):
    """Bytes that come say that the worker lives, although what it answers to probes waits behind them."""
    health = 'interval = "100ms" timeout = "1s" failures = 2'
    with RawWorker(speak_h2(over_a_slow_line)) as raw, gateway_before(tmp_path, raw, health=health) as sluice:
        sluice.wait_model("good")
        answer = ask(sluice, "good")
        assert is_right(answer), answer.text
        assert raw.connections == 2 and not sluice.find("worker_down")  # one a loop


def test_more_replicas_than_a_model_has_room_for(tmp_path):
    """64 serve it; the others are told of, not forgotten in silence."""
    with RawWorker(speak_h2(answer_well)) as raw:
        config = configuration(tmp_path, addresses=[raw.address] * 65, loops=1)
        with Sluice(config, wait_models=("good",)) as sluice:
            sluice.wait_event("replica_left_out", model="good")
            wait_for(lambda: sluice.metric("sluice_ready_replicas", model="good") == 64)
            assert is_right(ask(sluice, "good"))
            assert len(sluice.find("replica_left_out")) == 1


def say(octets):
    def talk(s, n):
        s.sendall(octets)
        while s.recv(65536):
            pass

    return talk


def hush(s, n):
    while s.recv(65536):
        pass


def flap(s, n):
    reset(s)


@pytest.mark.parametrize(
    "talk",
    [say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"), say(bytes(range(256)) * 64), say(b"\x16\x03\x01"), hush, flap],
    ids=["http1", "garbage", "tls", "silent", "flapping"],
)
def test_a_port_that_is_no_worker(tmp_path, talk):
    """Rows 84, 85: 503 for what needs it, no storm of connections."""
    with RawWorker(talk) as raw, gateway_before(tmp_path, raw, loops=1) as sluice:
        wait_for(lambda: raw.connections >= 2, 30, "a second try")
        answer = ask(sluice, "good")
        assert answer.status_code == 503 and "retry-after" in answer.headers
        assert httpx.get(sluice.url + "/v2/health/live").status_code == 200
        assert httpx.get(sluice.url + "/v2/health/ready").status_code == 503
        before = raw.connections
        threading.Event().wait(1)
        assert raw.connections - before < 60
