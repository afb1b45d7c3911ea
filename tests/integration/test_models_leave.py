"""Models that workers have no more: they are removed with all that belongs to them, whatever else goes on; a name
that comes back is a new model. (gateway/removal.h; the door remove-models makes a minute shorter.)"""
import contextlib
import socket
import threading
import time

import grpc
import pytest
from harness import SANITIZED, DooredSluice, Wire, configuration, infer_body, memory_kib, post, wait_for
from load import INFER, Load, Questions, grpc_message
from raw_worker import FINE, HEAD, RawWorker, answer_well, message, speak_h2
from test_system import faults, library  # noqa: F401

GOOD = Questions("good", [([1.0, 2.0], [2.0, 4.0]), ([3.0, -4.0], [6.0, -8.0])], tensor="x")
BODY = infer_body([[1.0, 2.0]], tensor="x")
PROBES = 'interval = "50ms" timeout = "5s" failures = 3'
PLACES = 1024


class Shelf:
    """A worker whose models are a list that the test changes, and a gateway before it."""

    def __init__(self, start, on_infer=answer_well, remove_ms=300, **more):
        self.names = ["good"]
        self.raw = RawWorker(speak_h2(on_infer, models=self.names))
        self.sluice = start(wait_models=("good",), doors=True, addresses=[self.raw.address], health=PROBES, **more)
        self.sluice.wait_workers()
        self.sluice.door(f"remove-models {remove_ms}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.__exit__()

    def have(self, *names):
        self.names[:] = ["good", *names]

    def known(self):
        return [m["name"] for m in self.sluice.status_page()["models"]]

    def wait_ready(self, name):
        self.sluice.wait_model(name)

    def wait_removed(self, *names, timeout=20):
        wait_for(lambda: not set(names) & set(self.known()), timeout, f"{names} removed")

    def ask(self, name):
        """Status of one request, over REST."""
        with Wire(self.sluice.port, 30) as wire:
            return wire.send(post(BODY, f"/v2/models/{name}/infer")).read_answers(1, 30)[0][0]

    def status_of(self, name):
        return self.sluice.get(f"/v2/models/{name}")[0]


def series_of(sluice, name):
    return [s for s in sluice.metrics() if f'model="{name}"' in s]


@pytest.fixture
def shelf(start):
    with contextlib.ExitStack() as stack:
        yield lambda **more: stack.enter_context(Shelf(start, **more))


# ---- one that goes -------------------------------------------------------------------------------------


def test_a_model_without_workers_is_removed(shelf):
    s = shelf(models='model "kept" { }')
    s.have("leaver", "kept")
    s.wait_ready("leaver")
    s.wait_ready("kept")
    assert s.ask("leaver") == 200 and series_of(s.sluice, "leaver")
    accepted = s.sluice.metric("sluice_accepted_total")
    s.have()
    s.wait_removed("leaver")
    s.sluice.wait_event("model_removed", model="leaver")
    assert s.ask("leaver") == 404 and s.status_of("leaver") == 404
    assert series_of(s.sluice, "leaver") == []
    assert s.sluice.metric("sluice_accepted_total") > accepted
    # What the configuration names stays, and so does what somebody has.
    assert sorted(s.known()) == ["good", "kept"]
    assert s.ask("good") == 200 and s.ask("kept") == 503


def test_a_name_that_comes_back_is_a_new_model(shelf):
    s = shelf()
    for asked in (1, 2, 3):
        s.have("comes-back")
        s.wait_ready("comes-back")
        for _ in range(asked):
            assert s.ask("comes-back") == 200
        # its counts begin anew
        wait_for(lambda n=asked: s.sluice.metric("sluice_requests_total", model="comes-back", status="ok") == n)
        s.have()
        s.wait_removed("comes-back")


def test_one_that_is_back_in_time_stays(shelf):
    s = shelf(remove_ms=8000)
    s.have("flapping")
    s.wait_ready("flapping")
    assert s.ask("flapping") == 200
    for _ in range(4):
        s.have()
        wait_for(lambda: s.sluice.get("/v2/models/flapping/ready")[0] != 200)
        s.have("flapping")
        s.wait_ready("flapping")
    time.sleep(9)  # longer than it takes to be removed
    assert not s.sluice.find("model_removed")
    s.sluice.settle()
    assert s.sluice.metric("sluice_requests_total", model="flapping", status="ok") == 1


def test_a_worker_that_is_away_takes_no_model_with_it(shelf):
    """It says nothing of its models: clients are asked to come again: 503, not 404."""
    s = shelf()
    s.have("stays")
    s.wait_ready("stays")
    s.raw.__exit__()
    wait_for(lambda: s.sluice.get("/v2/models/stays/ready")[0] != 200)
    time.sleep(4)
    assert s.ask("stays") == 503 and sorted(s.known()) == ["good", "stays"]


# ---- what refers to it ---------------------------------------------------------------------------------


def test_a_request_in_flight_outlives_its_model(shelf):
    """The worker has it no more, and answers what it had been asked: then the model goes."""
    held = []

    def hold(c, h2, stream, octets):
        held.append(lambda: (answer_well(c, h2, stream, octets), c.sendall(h2.data_to_send())))

    s = shelf(on_infer=hold)
    s.have("leaver")
    s.wait_ready("leaver")
    with Wire(s.sluice.port, 30) as wire:
        wire.send(post(BODY, "/v2/models/leaver/infer"))
        wait_for(lambda: held)
        s.have()
        wait_for(lambda: s.sluice.get("/v2/models/leaver/ready")[0] != 200)
        s.wait_removed("leaver")
        assert s.ask("leaver") == 404
        s.have("leaver")  # another of that name
        s.wait_ready("leaver")
        time.sleep(2)
        assert not s.sluice.find("model_removed")
        held[0]()
        assert wire.read_answers(1)[0][0] == 200
    s.sluice.wait_event("model_removed", model="leaver")
    assert "leaver" in s.known() and s.sluice.metric("sluice_requests_total", model="leaver") == 0


def answer_in_frames(s, c, stream, octets):
    whole = message(octets)
    c.send_headers(stream, HEAD)
    for i in range(0, len(whole), c.max_outbound_frame_size):
        c.send_data(stream, whole[i : i + c.max_outbound_frame_size])
    c.send_headers(stream, FINE, end_stream=True)


def test_a_client_that_does_not_read_keeps_its_model(shelf):
    """Its request has not ended, and will be counted for the model."""
    s = shelf(on_infer=answer_in_frames, limits='max_body = "32MiB" max_answer = "32MiB" send_timeout = "60s"')
    s.have("single")  # its first dimension counts no rows
    s.wait_ready("single")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", s.sluice.port))
        client.sendall(post(infer_body([[1.0, 2.0]] * 1000000, tensor="x"), "/v2/models/single/infer"))
        head = client.recv(1000)
        assert head.startswith(b"HTTP/1.1 200"), head
        s.have()
        wait_for(lambda: "single" not in s.known())  # out of the table
        time.sleep(3)
        assert not s.sluice.find("model_removed")
        while client.recv(1 << 20):
            pass
    s.sluice.wait_event("model_removed", model="single")


def test_a_gateway_that_ends_meanwhile(shelf):
    """Removals that wait for a request are freed with the rest."""
    s = shelf(on_infer=lambda *call: None, top='drain_timeout = "200ms"')
    s.have("a", "b")
    s.wait_ready("a")
    s.wait_ready("b")
    with Wire(s.sluice.port, 30) as wire:
        wire.send(post(BODY, "/v2/models/a/infer"))
        wait_for(lambda: s.sluice.metric("sluice_in_flight") == 1)
        s.have()
        s.wait_removed("a", "b")
        assert s.sluice.stop() == 0, s.sluice.text


# ---- hundreds ------------------------------------------------------------------------------------------


def come_and_go(s, rounds, each, grow=lambda: None):
    """A round's models come, are asked over both protocols, and go. Places taken, round by round."""
    places = []
    with grpc.insecure_channel(f"127.0.0.1:{s.sluice.port}") as channel:
        call = channel.unary_unary(INFER)
        for k in range(rounds):
            names = [f"r{k}-{i}" for i in range(each)]
            s.have(*names)
            s.wait_ready(names[0])
            s.wait_ready(names[-1])
            for name in names[:: max(1, each // 10)]:
                assert s.ask(name) == 200, name
                call(grpc_message(name, "x", [1.0, 2.0]), timeout=30)
            places.append(len(s.known()))
            grow()
    s.have()
    return places


@pytest.mark.slow
def test_hundreds_come_and_go_under_load(shelf):
    """More names than there are places, and the clients of a model that stays notice nothing."""
    rounds, each = (4, 30) if SANITIZED else (24, 100)
    s = shelf()
    pid, resident = s.sluice.gateway_pid(), []
    with Load(s.sluice.port, h1=2, h2=1, grpc=1, streams=4, ask=GOOD) as load:
        places = come_and_go(s, rounds, each, lambda: resident.append(memory_kib(pid)))
        wait_for(lambda: s.known() == ["good"], 30, "all but one removed")
    assert set(load.outcomes) == {200} and not load.wrong, (load.outcomes, load.texts)
    assert max(places) <= PLACES and (SANITIZED or rounds * each > PLACES), places
    # All places are taken by then. A model takes 75 KiB; 800 that left half of that behind would be seen.
    assert SANITIZED or max(resident[16:]) < max(resident[:16]) + 32 * 1024, resident
    wait_for(lambda: len(s.sluice.find("model_removed")) == rounds * each, 30, "all removed")
    s.sluice.wait_idle()


@pytest.mark.slow
def test_names_that_flap_while_they_are_asked(shelf):
    """As fast as they can, with a grace of nothing: what was asked is answered, refused or unknown."""
    s = shelf(remove_ms=1)
    names = [f"flap{i}" for i in range(8)]
    asked = [Questions(n, [([1.0, 2.0], [2.0, 4.0])], tensor="x") for n in names]
    over = threading.Event()

    def flap():
        k = 0
        while not over.is_set():
            s.have(*(names[i] for i in range(8) if (k >> i % 3) & 1))  # away for 1, 2 or 4 turns
            k += 1
            over.wait(1.2)

    flapper = threading.Thread(target=flap)
    flapper.start()
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(s.sluice.port, h1=1, grpc=i % 2, ask=q)) for i, q in enumerate(asked)]
        wait_for(lambda: len(s.sluice.find("model_removed")) > 8, 120, "removals")
        over.set()
        flapper.join()
        s.have(*names)
        for load in loads:
            load.wait(20)
    for load in loads:
        assert set(load.outcomes) <= {200, 404, 503, "NOT_FOUND", "UNAVAILABLE"} and not load.wrong, load.outcomes
    s.have()
    wait_for(lambda: s.known() == ["good"], 30, "all but one removed")
    s.sluice.wait_idle()


def test_memory_runs_out_while_they_come_and_go(tmp_path, faults):
    """Every other desk and every other set of counts is refused: those models come a little later."""
    with contextlib.ExitStack() as stack:

        def start(wait_models, doors, **more):
            return stack.enter_context(DooredSluice(configuration(tmp_path / "gateway", **more), wait_models=wait_models, env=faults.env))

        s = stack.enter_context(Shelf(start))
        for k in range(4):
            names = [f"r{k}-{i}" for i in range(20)]
            faults.set(every=2, least=20000)
            s.have(*names)
            for name in names:
                s.wait_ready(name)
                assert s.ask(name) in (200, 503)
            faults.set()
            assert {s.ask(name) for name in names} == {200}
        assert faults.struck()["memory"] > 20
        s.have()
        wait_for(lambda: s.known() == ["good"], 30, "all but one removed")
        s.sluice.wait_idle()
        assert s.sluice.stop() == 0
