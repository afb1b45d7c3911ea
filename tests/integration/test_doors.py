"""The debug doors (gateway/doors.h), each seen to do what it says, and the faults of timing that they make:
what the keeper says of a worker comes before, after and without the end of its connections."""
import contextlib
import os
import signal
import threading

import pytest
from harness import SLUICE, SLUICE_DOORS, Sluice, Wire, configuration, gone, post, wait_for
from test_faults import answered, assert_nothing_left, assert_serves, moment, reset

QUIET = 'interval = "60s" timeout = "60s" failures = 3'  # no probe moves anything but those that a test wants
DOORS = ["hold", "release", "deafen", "hear", "drop-cancels", "delay-cancels", "delay-keeper", "skew-probe", "hangs", "wedge", "remove-models"]


def at_worker(sluice, field):
    """That number of the connections to the workers, added up over the loops."""
    loops = sluice.status_page()["loops"]
    return sum(w[field] for loop in loops for w in loop["holds"]["workers"])


@pytest.fixture
def doored(start):
    """A gateway with doors and a quiet worker, which is there for every loop."""

    def one(**more):
        sluice = start(doors=True, **{"health": QUIET, **more})
        sluice.wait_workers()
        return sluice

    return one


def aboard(sluice, wire):
    """A request that a worker has, and does not answer."""
    before = at_worker(sluice, "calls")
    wire.send(post())
    wait_for(lambda: at_worker(sluice, "calls") == before + 1, what="a call")


def test_the_product_has_no_doors():
    product, doored = SLUICE.read_bytes(), SLUICE_DOORS.read_bytes()
    for word in [b"SLUICE_DOORS", b"doors_open", *(d.encode() for d in DOORS if "-" in d or d == "deafen")]:
        assert word in doored and word not in product, word


def test_without_the_variable_there_is_no_door(start, tmp_path):
    start(doors=True).wait_event("doors_open")
    with Sluice(configuration(tmp_path / "shut"), program=SLUICE_DOORS) as shut:
        assert_serves(shut)
        assert not shut.find("doors_open") and shut.stop() == 0


def test_wrong_commands_are_refused(doored):
    sluice = doored()
    refused = {
        "": "no such door",
        "unlock digits": "no such door",
        "hold": "number of arguments",
        "hold a b c d e f g h": "number of arguments",
        "hold " + "m" * 130: "no such name",
        "deafen nobody": "no such worker",
        "deafen w/1": "no such worker",
        "drop-cancels w maybe": "neither on nor off",
        "delay-cancels w soon": "not a number",
        "delay-keeper -5": "not a number",
        "skew-probe w 99999999999": "not a number",
    }
    for command, why in refused.items():
        said = sluice.try_door(command)
        assert said.startswith("error: ") and why in said, (command, said)
    assert_serves(sluice)


# ---- hold --------------------------------------------------------------------------------------------


def test_hold_and_release(doored):
    """The worker has answered, the desk does not know; other requests wait behind, none is lost."""
    sluice = doored()
    sluice.door("hold digits")
    with Wire(sluice.port, 30) as wire, Wire(sluice.port, 30) as other:
        aboard(sluice, wire)
        wait_for(lambda: at_worker(sluice, "in_flight") == 0, what="the worker's answer")
        other.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 2)
        assert not wire.take(0.2) and not other.take(0.2)
        sluice.door("release digits")
        assert wire.read_answers(1)[0][0] == 200 and other.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)


def test_what_is_held_can_be_called_back(doored):
    sluice = doored()
    sluice.door("hold digits")
    wire = Wire(sluice.port)
    aboard(sluice, wire)
    wait_for(lambda: at_worker(sluice, "in_flight") == 0, what="the worker's answer")
    reset(wire)
    assert_nothing_left(sluice)
    sluice.door("release digits")
    assert_serves(sluice)


def test_what_is_held_ends_with_its_connection(doored):
    """As at a worker that computes and dies: the request goes to the next process, which answers it."""
    sluice = doored()
    sluice.door("hold digits")
    with Wire(sluice.port, 30) as wire:
        aboard(sluice, wire)
        wait_for(lambda: at_worker(sluice, "in_flight") == 0, what="the worker's answer")
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        sluice.wait_event("worker_ready", count=2)
        wait_for(lambda: at_worker(sluice, "calls") == 2, what="the second try")
        sluice.door("release digits")
        assert wire.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)


def test_a_gateway_that_ends_with_what_is_held(doored):
    sluice = doored(top='drain_timeout = "500ms"')
    sluice.door("hold digits")
    with Wire(sluice.port, 30) as wire:
        aboard(sluice, wire)
        sluice.kill(signal.SIGTERM)
        assert wire.read_until_closed().closed
    sluice.wait()


# ---- deaf --------------------------------------------------------------------------------------------


def test_deafen_and_hear(doored):
    """Requests leave, answers lie in the socket. Then they come, and none was lost."""
    sluice = doored()
    sluice.door("deafen w/0")
    with Wire(sluice.port, 30) as wire:
        aboard(sluice, wire)
        assert not wire.take(0.3) and at_worker(sluice, "in_flight") == 1
        sluice.door("hear w/0")
        assert wire.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)


def test_only_the_worker_that_is_named(doored):
    sluice = doored(replicas=2)
    sluice.door("deafen w/1")
    sluice.door("drop-cancels w/1 on")
    sluice.door("drop-cancels w/1 off")
    with Wire(sluice.port, 30) as wire:
        wire.send(post(close=False) * 4)
        sluice.door("hear w")
        assert [a[0] for a in wire.read_answers(4)] == [200] * 4
    assert_nothing_left(sluice)


# ---- cancels -----------------------------------------------------------------------------------------


def leave_aboard(sluice):
    """A request that a stopped worker has, and whose client has left."""
    wire = Wire(sluice.port)
    aboard(sluice, wire)
    reset(wire)
    wait_for(lambda: sluice.metric("sluice_requests_total", status="client_gone") >= 1)


@contextlib.contextmanager
def left_aboard(sluice):
    """The worker stands still, with a request aboard whose client has left."""
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        leave_aboard(sluice)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_cancels_that_are_dropped(doored):
    """The batch stays out until the worker answers it."""
    sluice = doored()
    sluice.door("drop-cancels w on")
    with left_aboard(sluice):
        threading.Event().wait(0.3)
        assert at_worker(sluice, "in_flight") == 1
        sluice.door("drop-cancels w off")
    assert_nothing_left(sluice)
    assert_serves(sluice)


def test_cancels_that_come_late(doored):
    sluice = doored()
    sluice.door("delay-cancels w 3000")
    with left_aboard(sluice):
        threading.Event().wait(0.2)
        assert at_worker(sluice, "in_flight") == 1
        wait_for(lambda: at_worker(sluice, "in_flight") == 0, what="the cancel")
    assert_nothing_left(sluice)


def test_a_late_cancel_of_what_has_ended(doored):
    """It is for a batch that is no more: nothing is cancelled in its place."""
    sluice = doored()
    sluice.door("delay-cancels w 500")
    with left_aboard(sluice):
        pass
    wait_for(lambda: at_worker(sluice, "in_flight") == 0, what="its answer")
    sluice.door("hold digits")
    with Wire(sluice.port, 30) as wire:
        aboard(sluice, wire)
        threading.Event().wait(0.7)
        sluice.door("release digits")
        assert wire.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)


# ---- probes ------------------------------------------------------------------------------------------


def test_a_probe_that_comes_early(doored):
    sluice = doored()
    wait_for(lambda: at_worker(sluice, "probes") == 1, what="the first probe")  # its owner's, at once
    sluice.door("skew-probe w/0 60000")
    wait_for(lambda: at_worker(sluice, "probes") == 2, what="a probe")
    assert_serves(sluice)


def test_the_time_out_of_a_probe_that_comes_early(doored):
    sluice = doored(health='interval = "60s" timeout = "60s" failures = 1')
    pid = sluice.worker_pid()
    wait_for(lambda: at_worker(sluice, "probes") == 1, what="the first probe")
    os.kill(pid, signal.SIGSTOP)
    try:
        sluice.door("skew-probe w 60000")
        wait_for(lambda: at_worker(sluice, "probes") == 2, what="a probe")
        sluice.door("skew-probe w 60000")
        sluice.wait_event("worker_down")
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGCONT)
    assert_serves(sluice)


# ---- what keeper and gateway say to each other ---------------------------------------------------------


def test_the_keeper_is_heard_late(doored):
    sluice = doored()
    sluice.door("delay-keeper 700")
    sluice.kill(signal.SIGTERM)
    heard = sluice.wait_event("draining", why="the keeper says so")
    said = sluice.wait_event("draining", why="SIGTERM")  # the keeper
    assert 0.6 < moment(heard) - moment(said)
    assert sluice.wait() == 0


def test_a_worker_that_is_said_to_hang_is_replaced(doored):
    """Each of the loops says so; it is killed once, although it is stopped. What is said of others moves nothing."""
    sluice = doored(loops=3)
    pid = sluice.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    sluice.door(f"hangs w/0 {os.getpid()}")
    sluice.door("hangs w/0 0")
    sluice.door(f"hangs w/0 {pid}")
    death = sluice.wait_event("worker_exited")
    assert (death["pid"], death["signal"]) == (pid, signal.SIGKILL)
    second = sluice.wait_event("worker_listening", count=2)["pid"]
    sluice.door(f"hangs w/0 {pid}")  # a word that comes too late
    assert_serves(sluice)
    assert [e["pid"] for e in sluice.find("worker_hangs")] == [pid] and not gone(second)


def test_a_stopped_keeper_hears_later(doored):
    sluice = doored()
    pid = sluice.worker_pid()
    sluice.kill(signal.SIGSTOP)
    try:
        sluice.door(f"hangs w/0 {pid}")
        assert answered(sluice.url) == 200
        assert not gone(pid)
    finally:
        sluice.kill(signal.SIGCONT)
    assert sluice.wait_event("worker_exited")["pid"] == pid
    sluice.wait_event("worker_listening", count=2)
    assert_serves(sluice)


def kill_aboard(sluice, wire):
    """A request is with the worker, which is killed without answering."""
    pid = sluice.find("worker_started")[-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    aboard(sluice, wire)
    os.kill(pid, signal.SIGKILL)
    sluice.wait_event("worker_listening", count=2)


def test_the_keepers_word_before_the_end_of_file(doored):
    sluice = doored()
    with Wire(sluice.port, 30) as wire:
        sluice.door("deafen w/0")
        kill_aboard(sluice, wire)
        assert sluice.metric("sluice_in_flight") == 1 and not wire.answers()
        sluice.door("hear w/0")
        assert wire.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)


def test_the_keepers_word_after_the_end_of_file(doored):
    """The request does not wait for it, and its coming late spoils nothing."""
    sluice = doored()
    with Wire(sluice.port, 30) as wire:
        sluice.door("delay-keeper 1500")
        kill_aboard(sluice, wire)
        assert wire.read_answers(1)[0][0] == 200
    sluice.door("delay-keeper 0")
    threading.Event().wait(1.5)
    assert_serves(sluice)
    assert_nothing_left(sluice)


def test_the_end_of_file_without_the_keepers_word(doored):
    sluice = doored()
    with Wire(sluice.port, 30) as wire:
        sluice.door("delay-keeper 3600000")
        kill_aboard(sluice, wire)
        assert wire.read_answers(1)[0][0] == 200
    sluice.door("delay-keeper 0")  # or it would not hear that it is to end
    assert_nothing_left(sluice)


def test_the_keepers_word_without_the_end_of_file(doored):
    """The connection seems to live. The next probe finds that it does not, and the request goes on."""
    sluice = doored()
    with Wire(sluice.port, 30) as wire:
        sluice.door("deafen w/0")
        kill_aboard(sluice, wire)
        sluice.door("skew-probe w 60000")  # what is written meets a socket that nobody reads
        sluice.wait_event("worker_down")
        sluice.door("hear w/0")
        assert wire.read_answers(1)[0][0] == 200
    assert_nothing_left(sluice)
