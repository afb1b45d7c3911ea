"""Two workers under load, one of them restarted, stopped, killed, its models unloaded and loaded, in every order:
no request fails. The workers are ours, and doubles that speak as Triton does."""
import itertools
import os
import signal

import pytest
from harness import MODELS, SANITIZED, WORKER, Program, copy_model, wait_for
from load import DIGITS, Load
from test_evidence import FAST, HEALTH, assert_all_answered
from triton_double import Triton


def every_order(things):
    """A list in which every order of the things occurs side by side: the shortest for up to four of them
    (a superpermutation: 33 of four, where one order after the other would take 96)."""
    if len(things) == 1:
        return list(things)
    shorter, last, n = every_order(things[:-1]), things[-1], len(things) - 1
    out = []
    for order in (shorter[i : i + n] for i in range(len(shorter) - n + 1)):
        if len(set(order)) == n:
            more = [*order, last, *order]
            overlap = next(k for k in range(len(more), -1, -1) if out[len(out) - k :] == more[:k])
            out += more[overlap:]
    return out


def test_every_order_holds_every_order():
    found = every_order("abcd")
    windows = {tuple(found[i : i + 4]) for i in range(len(found))}
    assert len(found) == 33 and set(itertools.permutations("abcd")) <= windows


# ---- actors ------------------------------------------------------------------------------------------


class Tritons:
    """Two doubles; harm comes to the first."""

    model, ask = "fast", FAST

    def __init__(self, tmp_path):
        self.programs = [Triton("fast:takes=0.005:max_batch=2", second=0.1) for _ in range(2)]
        self.addresses = [t.address for t in self.programs]

    def start(self):
        self.programs[0] = self.programs[0].again()

    def without_models(self, replicas):
        self.programs[0].unload("fast")
        replicas(1)
        self.programs[0].load("fast", takes=0.1)


class Own:
    """Two of sluice-worker on Unix sockets."""

    model, ask = "digits", DIGITS

    def __init__(self, tmp_path):
        self.paths = [tmp_path / f"{i}.sock" for i in range(2)]
        self.addresses = [f"unix:{p}" for p in self.paths]
        self.other = tmp_path / "other"
        copy_model(MODELS / "digits-small" / "1" / "model.onnx", self.other, "digits-small")
        self.programs = [self.worker(i) for i in range(2)]

    def worker(self, i, repository=MODELS):
        words = [WORKER, "--repository", repository, "--device", "cpu", "--threads", "1", "--listen", f"unix:{self.paths[i]}"]
        program = Program(words)
        program.wait_event("listening", timeout=60)
        return program

    def start(self):
        self.programs[0] = self.worker(0)

    def without_models(self, replicas):
        """It has its models from its start on: it is started with others, and then with these again."""
        assert self.programs[0].stop() == 0
        self.programs[0] = self.worker(0, self.other)
        replicas(1)
        assert self.programs[0].stop() == 0
        self.start()


class Pair:
    """The two of a kind with a gateway before them, and what may happen to the first."""

    def __init__(self, kind, tmp_path, start):
        self.workers = kind(tmp_path)
        try:
            self.sluice = start(wait_models=(kind.model,), addresses=self.workers.addresses, health=HEALTH)
            self.replicas(2)
        except BaseException:
            self.end()
            raise

    def replicas(self, count):
        ready = lambda: self.sluice.metric("sluice_ready_replicas", model=self.workers.model) == count
        wait_for(ready, 30, f"{count} replicas")

    @property
    def victim(self):
        return self.workers.programs[0]

    def restarted(self):
        assert self.victim.stop() == 0
        self.workers.start()

    def killed(self):
        self.victim.kill(signal.SIGKILL)
        self.victim.wait()
        self.workers.start()

    def stopped(self):
        self.victim.kill(signal.SIGSTOP)
        try:
            self.replicas(1)
        finally:
            self.victim.kill(signal.SIGCONT)

    def unloaded(self):
        self.workers.without_models(self.replicas)

    def happens(self, event, load):
        """And it is over: the gateway has seen that one go and come back."""
        load.wait(20)
        up = lambda: self.sluice.metric("sluice_events_total", model=self.workers.model, event="replica_up")
        before = up()
        getattr(self, event)()
        wait_for(lambda: up() > before, 30, f"{event}: a replica that comes back")
        self.replicas(2)

    def end(self):
        for p in self.workers.programs:
            p.kill(signal.SIGKILL)
            p.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


EVENTS = ["restarted", "stopped", "killed", "unloaded"]


@pytest.mark.parametrize("kind", [Tritons, Own])
@pytest.mark.parametrize("event", EVENTS)
def test_one_of_two_workers_is_away_for_a_while(start, tmp_path, kind, event):
    with Pair(kind, tmp_path, start) as pair:
        with Load(pair.sluice.port, h1=3, h2=1, grpc=2, streams=4, ask=kind.ask) as load:
            pair.happens(event, load)
            load.wait(50)
        assert_all_answered(load)
        assert pair.sluice.metric("sluice_events_total", event="poison") == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Tritons, Own])
def test_one_of_two_workers_comes_and_goes_in_every_order(start, tmp_path, kind):
    """A sanitizer's build takes a sample: every order of three."""
    events = every_order(EVENTS[:3] if SANITIZED else EVENTS)
    with Pair(kind, tmp_path, start) as pair:
        with Load(pair.sluice.port, h1=2, h2=1, grpc=1, streams=4, ask=kind.ask) as load:
            for i, event in enumerate(events):
                pair.happens(event, load)
                failed = load.outcomes.total() - load.outcomes[200]
                assert not failed, (events[max(0, i - 3) : i + 1], load.outcomes, load.texts.most_common(4))
        assert_all_answered(load)


def test_local_workers_come_and_go(start):
    """What the keeper starts: ended, killed, and standing still."""
    sluice = start(replicas=2, health='interval = "100ms" timeout = "1s" failures = 2')
    both = lambda: wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2, 30, "two replicas")
    ups = lambda: sluice.metric("sluice_events_total", model="digits", event="replica_up")
    both()
    with Load(sluice.port, h1=3, h2=1, grpc=2, streams=4) as load:
        for n, number in enumerate(every_order([signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])):
            load.wait(20)
            os.kill(sluice.find("worker_started")[-1]["pid"], number)
            sluice.wait_event("worker_started", count=n + 3, timeout=30)
            wait_for(lambda n=n: ups() >= n + 3, 30, "it comes back")
            both()
    assert_all_answered(load)
    assert sluice.metric("sluice_events_total", event="poison") == 0
