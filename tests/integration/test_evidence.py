"""What the gateway concludes from what workers do: who is to blame, who is asked next, and who is not ended for it.

Workers are sluice-worker, doubles that speak as Triton does (triton_double.py) and ports that talk frames.
"""
import contextlib
import json
import os
import signal
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import onnx_file
import pytest
from harness import SANITIZED, WORKER, WORKER_DOUBLE, Program, memory_kib, wait_for
from load import Load, Questions
from raw_worker import HEAD, RawWorker, answer_well, reset, speak_h2
from triton_double import PROBES, Triton

HEALTH = 'interval = "100ms" timeout = "600ms" failures = 2'
PATIENT = 'interval = "100ms" timeout = "5s" failures = 2'  # where nobody hangs: a busy machine makes a worker late
FAST = Questions("fast", [([i, i + 1], [2 * i, 2 * i + 2]) for i in range(20)], tensor="x")
GOOD = Questions("good", [([i, i + 1], [2 * i, 2 * i + 2]) for i in range(20)], tensor="x")
MANY = 100 if SANITIZED else 300  # answers that are waited for


def body(rows, timeout_us=None, **parameters):
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": [v for row in rows for v in row]}
    parameters.update({"timeout": timeout_us} if timeout_us else {})
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def ask(sluice, model, rows=((1, 2),), **parameters):
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", content=body(rows, **parameters), timeout=60)


def is_right(answer, rows=((1, 2),)):
    return answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2 * v for row in rows for v in row]


def assert_all_answered(load):
    assert set(load.outcomes) == {200} and not load.wrong, (load.outcomes, load.texts.most_common(4), load.wrong[:3])


def wait_replicas(sluice, model, count):
    wait_for(lambda: sluice.metric("sluice_ready_replicas", model=model) == count, 30, f"{count} replicas of {model}")


def tells(sluice, *words):
    """The log has a line that holds all these words."""
    return any(all(w in line for w in words) for line in list(sluice.lines))


@contextlib.contextmanager
def two_tritons(start, **more):
    """A gateway and two doubles that are slow, and take few rows at once, so that both are asked."""
    with Triton("fast:takes=0.01:max_batch=2") as a, Triton("fast:takes=0.01:max_batch=2") as b:
        sluice = start(wait_models=("fast",), addresses=[a.address, b.address], **{"health": HEALTH, **more})
        wait_replicas(sluice, "fast", 2)
        yield sluice, a, b


def wait_asked(*tritons, times=5):
    """Each of them has been asked so often from now on."""
    before = [t.calls("infer fast") for t in tritons]
    wait_for(lambda: all(t.calls("infer fast") >= n + times for t, n in zip(tritons, before)), 40, "each of them is asked")


@contextlib.contextmanager
def asking(sluice, model, pause=0.0, **parameters):
    """One client that asks again and again; the list that it fills holds (status, text) of each answer."""
    told, ended = [], threading.Event()

    def ask_on():
        with httpx.Client(timeout=150) as client:
            while not ended.is_set():
                answer = client.post(f"{sluice.url}/v2/models/{model}/infer", content=body([[1, 2]], **parameters))
                told.append((answer.status_code, answer.text[:200]))
                ended.wait(pause)

    thread = threading.Thread(target=ask_on, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        ended.set()
        thread.join(150)


# ---- clients in a hurry ------------------------------------------------------------------------------


def heavy_model(directory):
    """Much work for small tensors: each row becomes 2^20 numbers, and so many tanh are taken of each."""
    numbers, tanhs = 1 << 20, 16
    ints = lambda name, *v: onnx_file.tensor(name, [len(v)], struct.pack(f"<{len(v)}q", *v), onnx_file.INT64)
    weights = [onnx_file.tensor("w", [numbers], bytes(4 * numbers)), ints("from", 0), ints("to", 2), ints("axis", 1)]
    nodes = [onnx_file.node("Add", ["one", "w"], ["t0"])]
    nodes += [onnx_file.node("Tanh", [f"t{i}"], [f"t{i + 1}"], name=f"tanh{i}") for i in range(tanhs)]
    nodes = [onnx_file.node("Slice", ["x", "from", "one_to", "axis"], ["one"], name="first"), *nodes]
    nodes += [onnx_file.node("Slice", [f"t{tanhs}", "from", "to", "axis"], ["y"])]
    weights.append(ints("one_to", 1))
    write_model(directory, "heavy", onnx_file.graph(nodes, [onnx_file.value("x", ["n", 2])], [onnx_file.value("y", ["n", 2])], weights))


def light_model(directory, name="light", columns=2):
    """The first two numbers of each row."""
    ints = lambda name, *v: onnx_file.tensor(name, [len(v)], struct.pack(f"<{len(v)}q", *v), onnx_file.INT64)
    nodes = [onnx_file.node("Slice", ["x", "from", "to", "axis"], ["y"])]
    weights = [ints("from", 0), ints("to", 2), ints("axis", 1)]
    write_model(directory, name, onnx_file.graph(nodes, [onnx_file.value("x", ["n", columns])], [onnx_file.value("y", ["n", 2])], weights))


def write_model(directory, name, graph):
    path = directory / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(onnx_file.model(graph))


def statuses(told):
    return {status for status, _ in told}


def assert_nobody_was_blamed(sluice):
    assert not sluice.find("poison") and not sluice.find("worker_exited") and not sluice.find("worker_down"), sluice.text
    for event in ("poison", "halved", "replica_down"):
        assert sluice.metric("sluice_events_total", event=event) == 0, event


def test_a_client_in_a_hurry_never_ends_what_others_asked(start, tmp_path):
    """A worker computes one model after the other: what waits behind a slow one is late, and nobody is to blame."""
    heavy_model(tmp_path / "models")
    light_model(tmp_path / "models")
    sluice = start(wait_models=("heavy", "light"), repository=tmp_path / "models", loops=1, health=PATIENT, limits='deadline_default = "2m"')
    with contextlib.ExitStack() as clients:
        hurried = [clients.enter_context(asking(sluice, "light", timeout_us=120000)) for _ in range(2)]
        patient = [clients.enter_context(asking(sluice, "heavy")) for _ in range(4)]
        wait_for(lambda: sum(map(len, patient)) >= (8 if SANITIZED else 24), 60, "answers of heavy")
    assert statuses(sum(patient, [])) == {200}, patient
    assert statuses(sum(hurried, [])) <= {200, 504}, hurried
    assert_nobody_was_blamed(sluice)


def test_a_model_that_hangs_never_ends_what_was_asked_of_its_neighbour(start):
    with Program([sys.executable, WORKER_DOUBLE, "--listen", "127.0.0.1:0", "slow", "hangs"]) as worker:
        port = worker.wait_event("up", timeout=30)["port"]
        sluice = start(wait_models=("slow", "hangs"), addresses=[f"grpc://127.0.0.1:{port}"], loops=1, health=PATIENT)
        with contextlib.ExitStack() as clients:
            hurried = clients.enter_context(asking(sluice, "hangs", pause=0.05, timeout_us=130000))
            patient = [clients.enter_context(asking(sluice, "slow")) for _ in range(4)]
            wait_for(lambda: sum(map(len, patient)) >= 32, 60, "answers of slow")
        assert statuses(sum(patient, [])) == {200}, patient
        assert statuses(hurried) <= {503, 504}, hurried
        assert not sluice.find("poison") and not sluice.find("worker_down"), sluice.text
        worker.kill(9)


# ---- workers that hang -------------------------------------------------------------------------------


def own_worker(repository, path):
    return Program([WORKER, "--repository", repository, "--device", "cpu", "--threads", "1", "--listen", f"unix:{path}"])


def large_binary(rows, columns, timeout_us):
    """A request of the binary tensor extension: (content, fields)."""
    tensor = {"name": "x", "shape": [rows, columns], "datatype": "FP32", "parameters": {"binary_data_size": 4 * rows * columns}}
    head = json.dumps({"inputs": [tensor], "parameters": {"timeout": timeout_us}}).encode()
    return head + bytes(4 * rows * columns), {"inference-header-content-length": str(len(head))}


def test_a_worker_that_hangs_behind_a_full_socket_is_found_out(start, tmp_path):
    """Nothing leaves any more and nothing comes home, no probe, no cancel: our clock alone judges."""
    columns = 1 << 18
    light_model(tmp_path / "models", "big", columns)
    with own_worker(tmp_path / "models", tmp_path / "w.sock") as worker:
        sluice = start(wait_models=("big",), addresses=[f"unix:{tmp_path}/w.sock"], health='interval = "200ms" timeout = "300ms" failures = 2')
        sluice.wait_workers()
        worker.kill(signal.SIGSTOP)

        def post(rows, timeout_us):
            content, fields = large_binary(rows, columns, timeout_us)
            return httpx.post(f"{sluice.url}/v2/models/big/infer", content=content, headers=fields, timeout=60).status_code

        try:
            with ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(post, 8, 60000) for _ in range(4)] + [pool.submit(post, 4, 90000) for _ in range(4)]
                assert {a.result() for a in asked} <= {503, 504}
            wait_for(lambda: sluice.metric("sluice_ready_replicas", model="big") == 0, 15, "the replica that hangs is out")
            assert sluice.get("/v2/models/big/ready")[0] != 200
        finally:
            worker.kill(signal.SIGCONT)
        wait_for(lambda: post(1, 10000000) == 200, 30, "an answer")


def test_a_local_worker_that_hangs_is_killed_and_started_again(start):
    sluice = start(health=HEALTH)
    sluice.wait_workers()
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    sluice.wait_event("worker_hangs", timeout=20)
    again = sluice.wait_event("worker_started", count=2)["pid"]
    assert again != pid
    wait_for(lambda: sluice.get("/v2/models/digits/ready")[0] == 200, 30)
    assert sluice.metric("sluice_events_total", event="poison") == 0


def test_a_local_worker_that_hangs_under_load_costs_no_request(start):
    """What is aboard goes to the other one, and is nobody's fault."""
    sluice = start(replicas=2, health=HEALTH)
    wait_replicas(sluice, "digits", 2)
    sluice.wait_workers()
    with Load(sluice.port, h1=4, h2=2, grpc=1) as load:
        load.wait(MANY)
        os.kill(sluice.worker_pid(), signal.SIGSTOP)
        sluice.wait_event("worker_hangs", timeout=30)
        wait_replicas(sluice, "digits", 2)
        load.wait(MANY)
    assert_all_answered(load)
    assert sluice.metric("sluice_events_total", event="poison") == 0


def test_a_worker_that_answers_probes_and_computes_nothing_is_left_out(start):
    """Its neighbour answers; of those that were aboard some are past their deadline, and only they."""
    with two_tritons(start, limits='deadline_default = "1s"') as (sluice, mute, well):
        with Load(sluice.port, h1=4, grpc=2, ask=FAST) as load:
            wait_asked(mute, well)
            mute.mute("ModelInfer")
            wait_replicas(sluice, "fast", 1)
            before = mute.calls()
            load.wait(MANY)
            assert mute.calls() <= before + 8  # half-open: a batch at a time
            mute.mute()
            wait_asked(mute, well)
        assert set(load.outcomes) <= {200, 504, "DEADLINE_EXCEEDED"}, (load.outcomes, load.texts)
        assert load.outcomes[200] > 10 * (load.outcomes.total() - load.outcomes[200]), load.outcomes


def test_a_worker_that_answers_all_but_probes_costs_no_request(start):
    with two_tritons(start, health='interval = "50ms" timeout = "500ms" failures = 2') as (sluice, deaf, well):
        with Load(sluice.port, h1=4, grpc=2, ask=FAST) as load:
            wait_asked(deaf, well)
            deaf.mute(*PROBES)
            wait_replicas(sluice, "fast", 1)
            load.wait(MANY)
            deaf.mute()
            wait_asked(deaf, well)
        assert_all_answered(load)


# ---- too much to do ----------------------------------------------------------------------------------


def trailers_only(status, *more):
    return lambda c, stream: c.send_headers(stream, [*HEAD, ("grpc-status", status), ("grpc-message", "too much to do"), *more], end_stream=True)


OVERLOADED = {
    "RESOURCE_EXHAUSTED": trailers_only("8"),
    "UNAVAILABLE": trailers_only("14"),
    "UNAVAILABLE with a pushback": trailers_only("14", ("grpc-retry-pushback-ms", "400")),
    "HTTP 429": lambda c, stream: c.send_headers(stream, [(":status", "429")], end_stream=True),
    "HTTP 503": lambda c, stream: c.send_headers(stream, [(":status", "503"), ("retry-after", "1")], end_stream=True),
    "REFUSED_STREAM": lambda c, stream: c.reset_stream(stream, 7),
}


@pytest.mark.parametrize("how", OVERLOADED)
def test_a_worker_with_too_much_to_do_is_not_given_more(start, how):
    """Sixteen requests in one batch: it is asked again after pauses that grow, as the batch it is; nothing is halved."""
    asked = []

    def on_infer(s, c, stream, octets):
        asked.append(time.monotonic())
        OVERLOADED[how](c, stream)

    with RawWorker(speak_h2(on_infer)) as raw:
        rules = 'model "good" { batch { policy = fixed max_wait = "100ms" preferred = {16} pipeline = 1 } }'
        sluice = start(wait_models=("good",), addresses=[raw.address], models=rules)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: ask(sluice, "good", timeout_us=1000000), range(16)))
        assert {a.status_code for a in answers} <= {503, 504}, [a.text for a in answers]
        pauses = [0.4 if "pushback" in how else 0.01 * 2**k for k in range(len(asked) - 1)]
        assert asked[-1] - asked[0] >= 0.5 * sum(pauses), asked  # counted from when its loop awoke, which may be earlier
        assert sluice.metric("sluice_events_total", event="halved") == 0
        wait_replicas(sluice, "good", 1)  # it lives, and says that it has the model


@pytest.mark.parametrize("spelling", ["grpc 8", "grpc 14", "pushback"])
def test_a_worker_with_too_much_to_do_costs_no_request_while_another_has_room(start, spelling):
    with two_tritons(start) as (sluice, busy, idle), Load(sluice.port, h1=4, h2=1, grpc=1, streams=4, ask=FAST) as load:
        wait_asked(busy, idle)
        busy.overload(spelling, 3600)
        load.wait(20)
        before = busy.calls("infer fast")
        load.wait(MANY)
        assert busy.calls("infer fast") - before <= 30
        busy.overload(spelling, 0)
        wait_asked(busy, idle)
    assert_all_answered(load)
    assert sluice.metric("sluice_events_total", event="halved") == 0


def test_a_dead_process_behind_a_live_server_is_left_out(start):
    """Every answer of one replica is an error while the other answers: it is not asked but for a batch now and then."""
    with two_tritons(start) as (sluice, dead, well), Load(sluice.port, h1=4, grpc=2, ask=FAST) as load:
        wait_asked(dead, well)
        dead.lose_backend("fast")
        wait_replicas(sluice, "fast", 1)
        before = dead.calls("infer fast")
        load.wait(MANY)
        assert dead.calls("infer fast") - before <= 10
        dead.lose_backend("fast", lost=False)
        wait_asked(dead, well)
    assert_all_answered(load)
    assert sluice.metric("sluice_events_total", event="halved") == 0


def test_one_probe_a_worker_and_interval(start):
    """From the process, not from each of its loops."""
    with Triton("fast") as t:
        sluice = start(wait_models=("fast",), addresses=[t.address], loops=4, health='interval = "100ms" timeout = "2s" failures = 3')
        sluice.wait_workers()
        probes = lambda: t.calls("ServerLive") + t.calls("ServerReady")
        moment, begun = time.monotonic(), probes()
        wait_for(lambda: probes() >= begun + 10, 30, "ten probes")
        asked, seconds = probes() - begun, time.monotonic() - moment
        assert asked <= 1.5 * seconds / 0.1 + 3, (asked, seconds)
        assert t.calls("RepositoryIndex") <= probes() + 4


# ---- models that come and go ---------------------------------------------------------------------------


def test_a_model_that_loads_does_not_disturb_the_others(start):
    """ServerReady is false meanwhile: that is about the start, or strictness, and not about what is loaded."""
    with Triton("fast", "slow:takes=1", "late:state=unloaded") as t:
        sluice = start(wait_models=("fast", "slow"), addresses=[t.address], health=PATIENT)
        with ThreadPoolExecutor(2) as pool, Load(sluice.port, h1=2, grpc=2, ask=FAST) as load:
            long = pool.submit(ask, sluice, "slow")
            wait_for(lambda: t.calls("infer slow") == 1)
            loads = pool.submit(t.load, "late", takes=2)
            load.wait(MANY)
            assert is_right(long.result()) and loads.result() is None
            sluice.wait_model("late")
            t.unload("late")
            load.wait(MANY)
            wait_replicas(sluice, "late", 0)
            assert is_right(ask(sluice, "slow"))
        assert_all_answered(load)
        assert t.calls("infer slow") == 2  # computed once each
        assert not sluice.find("worker_down") and not sluice.find("replica_down", model="fast"), sluice.text


def test_a_broken_model_does_not_take_the_others_out(start):
    with Triton("fast", "broken:state=broken") as t:
        sluice = start(wait_models=("fast",), addresses=[t.address], health=HEALTH)
        assert is_right(ask(sluice, "fast"))
        assert ask(sluice, "broken").status_code in (404, 503)
        wait_for(lambda: tells(sluice, '"broken"', "it does not start"), 10, "a line that says which and why")
        t.break_model("fast", "Internal: it broke later")
        wait_replicas(sluice, "fast", 0)
        wait_for(lambda: tells(sluice, '"fast"', "it broke later"), 10, "a line that says which and why")
        t.load("fast")
        wait_for(lambda: is_right(ask(sluice, "fast")), 20, "an answer")


def test_a_worker_that_serves_nothing_is_said_to_serve_nothing(start):
    with Triton("late:state=unloaded", "broken:state=broken") as t:
        sluice = start(wait_models=(), addresses=[t.address], health=HEALTH)
        wait_for(lambda: tells(sluice, '"broken"', "it does not start"), 10, "a line that says which and why")
        answer = ask(sluice, "late")
        assert answer.status_code in (404, 503), answer.text
        t.load("late")
        wait_for(lambda: is_right(ask(sluice, "late")), 20, "an answer")


def test_a_server_that_spells_ready_in_its_own_way(start):
    """MLServer's index says State.READY."""
    with Triton("fast") as t:
        t.say_ready("State.READY")
        sluice = start(wait_models=("fast",), addresses=[t.address], health=HEALTH)
        assert is_right(ask(sluice, "fast"))


def test_the_first_dimension_of_a_model_that_does_not_batch_is_no_number_of_rows(start):
    with Triton("single:max_batch=0:takes=0.1") as t:
        sluice = start(wait_models=("single",), addresses=[t.address])
        rows = [[i, 1] for i in range(2000)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _: ask(sluice, "single", rows), range(2)))
        assert all(is_right(a, rows) for a in answers), [a.text[:200] for a in answers]


# ---- sequences ---------------------------------------------------------------------------------------


def sequence(sluice, number, steps=4):
    """The answers to the steps of one sequence: each should be the sum of what was sent so far."""
    said = []
    for k in range(steps):
        flags = {"sequence_start": k == 0, "sequence_end": k == steps - 1}
        answer = ask(sluice, "seq", [[number, k]], sequence_id=number, **flags)
        said.append((answer.status_code, answer.json().get("outputs", [{}])[0].get("data") or answer.text))
    return said


@pytest.mark.parametrize("replicas", [1, 2])
def test_more_sequences_than_slots(start, replicas):
    """The worker's own scheduler holds them: no credit of ours does, and each stays with its replica."""
    with contextlib.ExitStack() as stack:
        tritons = [stack.enter_context(Triton("seq:slots=4:max_batch=4")) for _ in range(replicas)]
        sluice = start(wait_models=("seq",), addresses=[t.address for t in tritons])
        wait_replicas(sluice, "seq", replicas)
        numbers = range(1, 8 * replicas + 1)
        with ThreadPoolExecutor(len(numbers)) as pool:
            told = list(pool.map(lambda n: sequence(sluice, n), numbers))
        for n, steps in zip(numbers, told):
            assert steps == [(200, [n * (k + 1), sum(range(k + 1))]) for k in range(4)], (n, steps)


def test_a_sequence_whose_replica_ends_is_told_so_and_not_sent_twice(start):
    with Triton("seq:slots=4:max_batch=4:takes=2") as a, Triton("seq:slots=4:max_batch=4:takes=2") as b:
        sluice = start(wait_models=("seq",), addresses=[a.address, b.address])
        wait_replicas(sluice, "seq", 2)
        assert ask(sluice, "seq", sequence_id=7, sequence_start=True).status_code == 200
        with ThreadPoolExecutor(1) as pool:
            calls = lambda: [t.calls("infer seq") for t in (a, b)]
            first = calls()
            second = pool.submit(ask, sluice, "seq", sequence_id=7)
            wait_for(lambda: calls() != first, what="the second step")
            mine, other = (a, b) if a.calls("infer seq") else (b, a)
            mine.kill(9)
            answer = second.result()
            assert answer.status_code == 503 and other.calls("infer seq") == 0, answer.text


# ---- what is said of it --------------------------------------------------------------------------------


def test_events_are_once_a_state_and_name_the_address_and_the_reason(start):
    with two_tritons(start) as (sluice, a, b):
        before = len(sluice.lines)
        with Load(sluice.port, h1=4, grpc=2, ask=FAST) as load:
            wait_asked(a, b)
            a.lose_backend("fast")
            load.wait(MANY)
            a.lose_backend("fast", lost=False)
            a.kill(signal.SIGTERM)
            a.wait()
            load.wait(MANY)
        lines = sluice.lines[before:]
        assert len(lines) <= 30, lines
        down = sluice.wait_event("worker_down")
        assert f"127.0.0.1:{a.port}" in json.dumps(down) and down["why"], down
        assert not [e for e in sluice.events if e.get("replica") == "" or e.get("digest") == ""], lines


# ---- metadata ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unreadable", "huge", "endless"])
def test_a_model_that_cannot_be_described_is_left_out_and_said_so_once(start, how):
    with Triton("fast", "odd") as t:
        t.describe("odd", how)
        sluice = start(wait_models=("fast",), addresses=[t.address], health='interval = "20ms" timeout = "2s" failures = 3')
        assert is_right(ask(sluice, "fast")) and ask(sluice, "odd").status_code in (404, 503)
        wait_for(lambda: tells(sluice, '"odd"'), 10, "a line about it")
        index = t.calls("RepositoryIndex")
        wait_for(lambda: t.calls("RepositoryIndex") > index + 20, 30, "twenty probes")
        before = memory_kib(sluice.gateway_pid())
        wait_for(lambda: t.calls("RepositoryIndex") > index + 70, 30, "fifty more")
        assert SANITIZED or memory_kib(sluice.gateway_pid()) - before < 512  # AddressSanitizer keeps what was freed
        assert len([line for line in sluice.lines if '"odd"' in line]) <= 2, sluice.text
        t.describe("odd", "well")
        wait_for(lambda: is_right(ask(sluice, "odd")), 30, "it is served once it can be described")


def test_metadata_that_changes_while_it_serves(start):
    """A reload in Triton: the index says READY all along, and only the metadata tell."""
    with Triton("fast") as a, Triton("fast") as b:
        sluice = start(wait_models=("fast",), addresses=[a.address, b.address], health=HEALTH)
        wait_replicas(sluice, "fast", 2)
        shape = lambda: httpx.get(f"{sluice.url}/v2/models/fast").json()["inputs"][0]["shape"]
        assert shape() == [-1, 2]
        a.describe("fast", "wider")
        wait_replicas(sluice, "fast", 1)
        assert shape() == [-1, 2] and is_right(ask(sluice, "fast"))
        b.describe("fast", "wider")
        wait_replicas(sluice, "fast", 2)
        assert shape() == [-1, 3]


# ---- connections ---------------------------------------------------------------------------------------


def test_a_connection_that_flaps_costs_no_request(start):
    """Each connection of one worker is reset in the middle of its fifth answer."""

    def talk(s, n):
        asked = []

        def on_infer(s, c, stream, octets):
            asked.append(stream)
            if len(asked) < 5:
                return answer_well(s, c, stream, octets)
            s.sendall(c.data_to_send())
            reset(s)
            return True

        speak_h2(on_infer)(s, n)

    with RawWorker(talk) as flapping, RawWorker(speak_h2(answer_well)) as well:
        singly = 'model "good" { batch { policy = fixed max_rows = 1 } }'  # so that both are asked
        sluice = start(wait_models=("good",), addresses=[flapping.address, well.address], health=HEALTH, models=singly)
        with Load(sluice.port, h1=4, grpc=2, ask=GOOD) as load:
            wait_for(lambda: flapping.connections > 8, 60, "connections that end")
            load.wait(MANY)
        assert_all_answered(load)
        assert sluice.metric("sluice_events_total", event="poison") == 0


# ---- processes that stand still --------------------------------------------------------------------------


def test_a_gateway_that_stood_still_blames_no_worker(start):
    """Its timers are late, not the answers."""
    with two_tritons(start, health='interval = "50ms" timeout = "750ms" failures = 2') as (sluice, a, b):
        with Load(sluice.port, h1=4, grpc=2, ask=FAST) as load:
            for _ in range(3):
                load.wait(MANY // 3)
                os.kill(sluice.gateway_pid(), signal.SIGSTOP)
                threading.Event().wait(1.5)
                os.kill(sluice.gateway_pid(), signal.SIGCONT)
            load.wait(MANY // 3)
        assert_all_answered(load)
        assert not sluice.find("worker_down"), sluice.text


def test_a_keeper_that_stands_still_while_a_worker_dies(start):
    """The end of the connection comes before the keeper's word: the other worker answers, and the word harms nobody."""
    sluice = start(replicas=2, health=HEALTH)
    wait_replicas(sluice, "digits", 2)
    with Load(sluice.port, h1=4, h2=1, grpc=1) as load:
        load.wait(MANY)
        sluice.kill(signal.SIGSTOP)
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        wait_replicas(sluice, "digits", 1)
        load.wait(MANY)
        sluice.kill(signal.SIGCONT)
        wait_replicas(sluice, "digits", 2)
        load.wait(MANY)
    assert_all_answered(load)
    assert sluice.metric("sluice_events_total", event="poison") == 0
