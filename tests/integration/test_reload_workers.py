"""Workers come, go and change while requests run: no request fails that another replica can answer, what is aboard
ends as it would, and nothing is left of those that went."""
import collections
import contextlib
import os
import pathlib
import signal

import pytest
from harness import MODELS, SANITIZED, Sluice, Wire, Worker, configuration, gone, memory_kib, post, wait_for, worker_command
from hostile import descriptors
from load import Load
from raw_worker import RawWorker, answer_well, speak_h2
from test_ctl import DONE, REFUSED, ask
from test_evidence import assert_all_answered, wait_replicas
from test_reload import add, change, children, configured, infer, reload, threads
from test_tls import certificate, over_tls

OLD, NEW = '"--threads", "1"', '"--threads", "2"'  # two commands that serve the same


def workers(sluice):
    return {w["name"]: w for w in sluice.status_page()["workers"]}


def wait_serving(sluice, *names):
    """These and no others, on every loop, in /status, in /metrics and for sluicectl."""
    all_ready = lambda: {n for n, w in workers(sluice).items() if set(w["connections"]) == {"ready"} and not w["leaving"]}
    wait_for(lambda: set(workers(sluice)) == all_ready() == set(names), 60, f"{names} serve: {workers(sluice)}")
    series = [s for s in sluice.metrics() if s.startswith("sluice_worker_connections")]
    assert len(series) == len(set(series)) == 4 * len(names) and all(any(f'worker="{n}"' in s for n in names) for s in series)
    assert {w["name"] for w in ask(sluice, "workers", "--json").json} == set(names)
    wait_for(lambda: up(sluice) <= set(names), 10, "desks know no others")


def up(sluice, model="digits"):
    return {r["name"] for m in ask(sluice, "models", "--json").json if m["name"] == model for r in m["desk"]["replicas"]}


def of(*workers_):
    return "addresses = {%s}" % ", ".join(f'"grpc://127.0.0.1:{w.port}"' for w in workers_)


def said(sluice, event, name):
    return [e for e in sluice.find(event) if e.get("worker") == name]


def is_busy(sluice, n=1):
    wait_for(lambda: sluice.metric("sluice_running_rows", model="digits") == n, 10, f"{n} rows at a worker")


# ---- addresses -----------------------------------------------------------------------------------------


@pytest.mark.load
def test_addresses_come_and_go_under_load(start):
    """One more, another one, back to the first: those that stay keep their names, and what went is closed."""
    with Worker() as a, Worker() as b:
        sluice = start(addresses=[f"grpc://127.0.0.1:{a.port}"])
        wait_serving(sluice, "w/0")
        with Load(sluice.port, h1=2, h2=2, grpc=1, streams=4) as load:
            for old, new, names in (
                (of(a), of(a, b), ("w/0", "w/1")),
                (of(a, b), of(b), ("w/1",)),
                (of(b), of(a), ("w/0",)),
                (of(a), of(b, a), ("w/0", "w/1")),
                (of(b, a), of(a), ("w/0",)),
            ):
                change(sluice, (old, new))
                assert reload(sluice) == f'worker "w": addresses: was {old[12:]}, is {new[12:]}'
                load.wait(20)
                wait_serving(sluice, *names)
        assert_all_answered(load)
        assert len(said(sluice, "worker_removed", "w/1")) == 2 and len(said(sluice, "worker_removed", "w/0")) == 1
        assert not sluice.find("worker_down") and not sluice.find("replica_left_out")


@pytest.mark.slow
def test_an_address_that_nobody_serves(start):
    """The one that it is to replace stays for ten seconds; the next reload takes it back."""
    with Worker() as a:
        sluice = start(addresses=[f"grpc://127.0.0.1:{a.port}"])
        wait_serving(sluice, "w/0")
        change(sluice, (of(a), 'addresses = {"grpc://127.0.0.1:1"}'))
        reload(sluice)
        assert infer(sluice) == 200
        sluice.wait_event("worker_unreachable", worker="w/1", address="127.0.0.1:1")
        sluice.wait_event("worker_removed", timeout=30, worker="w/0")
        change(sluice, ('addresses = {"grpc://127.0.0.1:1"}', of(a)))
        reload(sluice)
        wait_serving(sluice, "w/0")
        assert infer(sluice) == 200


def test_more_than_a_model_has_room_for(start):
    """Those that found no place come in when others leave."""
    with Worker() as a:
        sluice = start(addresses=[f"grpc://127.0.0.1:{a.port}"] * 66)
        wait_replicas(sluice, "digits", 64)
        sluice.wait_event("replica_left_out", count=2, model="digits", most=64)
        change(sluice, (of(*[a] * 66), of(*[a] * 65)))
        reload(sluice)
        wait_for(lambda: len(workers(sluice)) == 65, 20)
        wait_replicas(sluice, "digits", 64)
        wait_for(lambda: up(sluice) <= set(workers(sluice)), 10, "desks know no others")
        change(sluice, (of(*[a] * 65), of(*[a] * 62)))
        reload(sluice)
        wait_for(lambda: len(workers(sluice)) == 62, 20)
        wait_for(lambda: up(sluice) == set(workers(sluice)), 10, "all have a place")
        wait_replicas(sluice, "digits", 62)
        assert infer(sluice) == 200


def test_one_behind_tls_comes(tmp_path):
    """The first of them: nobody wanted TLS before."""
    cert, key = certificate(tmp_path / "pki")
    with RawWorker(over_tls(speak_h2(answer_well), cert, key)) as raw:
        with Sluice(configuration(tmp_path), env={"SSL_CERT_FILE": str(cert)}) as sluice:
            text = 'worker "v" { addresses = {"grpcs://localhost:%d"} }\n' % raw.port
            for _ in range(2):
                add(sluice, text)
                reload(sluice)
                wait_serving(sluice, "v/0", "w/0")
                wait_for(lambda: sluice.get("/v2/models/good/ready")[0] == 200, 20, "its model is served")
                change(sluice, (text, ""))
                reload(sluice)
                wait_serving(sluice, "w/0")
            assert infer(sluice) == 200 and sluice.stop() == 0


@pytest.mark.load
def test_sections_come_and_go_under_load(start):
    """A worker is renamed, so that another comes before the first goes; its model's rules name it."""
    with Worker() as a:
        sluice = start(models='model "digits" { }')
        wait_serving(sluice, "w/0")
        with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
            text = 'worker "v" { %s }\n' % of(a)
            add(sluice, text)
            assert reload(sluice) == 'worker "v": added'
            wait_serving(sluice, "v/0", "w/0")
            change(sluice, ('model "digits" { }', 'model "digits" { worker = "v" }'))
            reload(sluice)
            wait_for(lambda: up(sluice) >= {"v/0"}, 10)
            load.wait(20)
            change(sluice, ('model "digits" { worker = "v" }', 'model "digits" { }'), (text, ""))
            assert 'worker "v": removed' in reload(sluice)
            load.wait(20)
            wait_serving(sluice, "w/0")
        assert_all_answered(load)


def test_the_last_worker_goes(start):
    """Its models wait for another, and are not ready; the next worker has them."""
    sluice = start()
    change(sluice, ('worker "w"', 'worker "v"'))
    assert reload(sluice) == 'worker "w": removed; worker "v": added'
    wait_serving(sluice, "v/0")
    wait_for(lambda: infer(sluice) == 200, 20)
    with Worker() as a:
        text = sluice.config.read_text()
        sluice.config.write_text(text[: text.index('worker "v"')] + 'worker "x" { %s }\n' % of(a) + text[text.index("limits {") :])
        reload(sluice)
        wait_serving(sluice, "x/0")
        wait_for(lambda: children(sluice.pid) == 1, 20, "only the gateway is left")
        assert infer(sluice) == 200


# ---- processes -----------------------------------------------------------------------------------------


@pytest.mark.load
def test_replicas_are_counted_up_and_down_under_load(start):
    sluice = start()
    wait_serving(sluice, "w/0")
    first = sluice.worker_pid()
    with Load(sluice.port, h1=2, h2=2, grpc=1, streams=4) as load:
        for was, now in ((1, 3), (3, 2), (2, 1), (1, 2), (2, 1)):
            change(sluice, (f"replicas = {was}", f"replicas = {now}"))
            assert reload(sluice) == f'worker "w": replicas: was {was}, is {now}'
            wait_serving(sluice, *(f"w/{i}" for i in range(now)))
            wait_for(lambda: children(sluice.pid) == 1 + now, 20, f"{now} processes")
            load.wait(20)
    assert_all_answered(load)
    assert not gone(first)
    assert all(e["signal" if "signal" in e else "status"] in (0, signal.SIGTERM) for e in sluice.find("worker_exited"))


@pytest.mark.load
@pytest.mark.parametrize("how, replicas", [("before", 1), ("before", 2), ("after", 2)])
def test_another_command_under_load(start, how, replicas):
    """The one replica is replaced when the new one is ready; of two, one serves while the other is replaced."""
    sluice = start(replicas=replicas, worker_rules=f"replace = {how}")
    wait_replicas(sluice, "digits", replicas)
    old = {e["pid"] for e in sluice.find("worker_started")}
    with Load(sluice.port, h1=2, h2=2, grpc=1, streams=4) as load:
        change(sluice, (OLD, NEW))
        assert 'worker "w": command: was {' in reload(sluice)
        sluice.wait_event("worker_exited", timeout=60, count=replicas)
        assert all(gone(p) for p in old)
        wait_for(lambda: len(workers(sluice)) == replicas and children(sluice.pid) == replicas + 1, 60, "as many serve")
        wait_serving(sluice, *workers(sluice))
        load.wait(50)
    assert_all_answered(load)
    order = [(e["event"], e["pid"] in old) for e in sluice.events if e["event"] in ("worker_started", "worker_exited")][replicas:]
    one = [("worker_started", False), ("worker_exited", True)]
    assert order == (one if how == "before" else one[::-1]) * replicas, order


def test_the_old_process_ends_first(start):
    """By default, and of one replica: what waits for it meanwhile is answered by the new one."""
    sluice = start()
    old = sluice.worker_pid()
    change(sluice, (OLD, NEW))
    reload(sluice)
    sluice.wait_event("worker_exited", pid=old)
    sluice.wait_event("worker_listening", timeout=60, count=2)
    wait_for(lambda: infer(sluice) == 200, 20)
    wait_serving(sluice, "w/1")
    change(sluice, (NEW, OLD))
    reload(sluice)
    wait_serving(sluice, "w/0")
    assert infer(sluice) == 200


def broken(tmp_path):
    """A program that is there and cannot be run."""
    path = tmp_path / "broken"
    path.write_text("#!/nowhere/at/all\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_command_that_cannot_be_run(start, tmp_path, how):
    """It takes no more than its turn, and is tried again, ever more slowly; the rest goes on with the old one. Taken
    back, all is as before."""
    sluice = start(replicas=2, worker_rules=f"replace = {how}")
    wait_replicas(sluice, "digits", 2)
    good = sluice.config.read_text()
    at = good.index("command = {")
    sluice.config.write_text(good.replace(good[at : good.index("}", at)], f'command = {{"{broken(tmp_path)}"'))
    with Load(sluice.port, h1=2, h2=1, streams=4) as load:
        reload(sluice)
        sluice.wait_event("worker_exec_failed", count=4, timeout=20)
        load.wait(50)
        assert sluice.metric("sluice_ready_replicas", model="digits") == (2 if how == "before" else 1)
        sluice.config.write_text(good)
        reload(sluice)
        wait_replicas(sluice, "digits", 2)
        wait_for(lambda: len(workers(sluice)) == 2 and children(sluice.pid) == 3, 20, "the broken ones are gone")
        load.wait(50)
    assert_all_answered(load)
    pauses = [e["restart_in_us"] for e in sluice.find("worker_exited", status=127)]
    assert max(pauses) >= 50000, pauses


def test_a_worker_that_cannot_be_run_is_added(start, tmp_path):
    sluice = start()
    text = f'worker "v" {{ command = {{"{broken(tmp_path)}"}} replicas = 2 }}\n'
    add(sluice, text)
    with Load(sluice.port, h1=2, h2=1, streams=4) as load:
        reload(sluice)
        sluice.wait_event("worker_exec_failed", count=6, timeout=20, name="v")
        change(sluice, (text, ""))
        reload(sluice)
        wait_serving(sluice, "w/0")
        load.wait(20)
    assert_all_answered(load)
    add(sluice, 'worker "u" { command = {"/nowhere/worker"} }')
    answer = ask(sluice, "reload")
    assert answer.status == REFUSED and 'worker "u": program "/nowhere/worker" not found' in answer.err


# ---- batches aboard, ends, crashes ---------------------------------------------------------------------


def held_at(sluice, name):
    """A request whose batch is at that replica, until `digits` is released."""
    sluice.door("hold digits")
    wire = Wire(sluice.port, 60).send(post(fields=b"X-Request-Id: held\r\n"))
    is_busy(sluice)
    at = {r["name"] for m in ask(sluice, "models", "--json").json if m["name"] == "digits" for r in m["desk"]["replicas"] if r["batches"]}
    assert at == {name}
    return wire


def test_batches_aboard_end_first(start):
    """A worker that is removed is connected until they have; meanwhile others serve, and the file may change again."""
    sluice = start(doors=True)
    pid = sluice.worker_pid()
    wire = held_at(sluice, "w/0")
    with Worker() as a:
        text = sluice.config.read_text()
        sluice.config.write_text(text[: text.index('worker "w"')] + 'worker "v" { %s }\n' % of(a) + text[text.index("limits {") :])
        reload(sluice)
        sluice.wait_event("worker_leaving", worker="w/0")
        wait_for(lambda: up(sluice) >= {"v/0"}, 20)
        assert workers(sluice)["w/0"]["leaving"] and not gone(pid)
        assert "leaving" in [line for line in ask(sluice, "workers").out.splitlines() if line.startswith("w/0 ")][0].split()
        change(sluice, ("limits {", "limits { max_headers = 90 "))
        reload(sluice)
        assert workers(sluice)["w/0"]["leaving"] and not sluice.find("worker_removed")
        sluice.door("release digits")
        assert wire.read_answers(1, 30)[0][0] == 200
        sluice.wait_event("worker_removed", worker="w/0")
        sluice.wait_event("worker_exited", pid=pid)
        wait_serving(sluice, "v/0")
        assert infer(sluice) == 200
        told = ask(sluice, "explain", "held", "--json").json
        assert told["steps"][0]["parts"][0]["sent"] == 1 and told["steps"][0]["parts"][0]["replica"] is None
        assert ask(sluice, "explain", "held").status == DONE


def test_batches_that_do_not_end(start):
    """By their deadline they are called back, and the worker goes."""
    sluice = start(doors=True, limits="deadline_default = 1s")
    wire = held_at(sluice, "w/0")
    change(sluice, ('worker "w"', 'worker "v"'))
    reload(sluice)
    assert wire.read_answers(1, 30)[0][0] == 504
    sluice.door("release digits")
    wait_serving(sluice, "v/0")
    wait_for(lambda: infer(sluice) == 200, 20)


def test_it_crashes_while_it_leaves(start):
    """What was aboard goes to another one; the process is not started again."""
    sluice = start(doors=True, replicas=2)
    wait_replicas(sluice, "digits", 2)
    sluice.door("hold digits")
    wires = []
    for n in range(2):
        wires.append(Wire(sluice.port, 60).send(post()))
        is_busy(sluice, n + 1)
    change(sluice, ("replicas = 2", "replicas = 1"))
    reload(sluice)
    leaving = sluice.wait_event("worker_leaving")["worker"]
    replica = int(leaving.split("/")[1])
    os.kill(sluice.find("worker_started", replica=replica)[0]["pid"], signal.SIGKILL)
    sluice.wait_event("worker_removed", worker=leaving)
    sluice.door("release digits")
    for wire in wires:
        assert wire.read_answers(1, 30)[0][0] == 200
    wait_for(lambda: children(sluice.pid) == 2, 20, "one worker is left")
    assert len(sluice.find("worker_started")) == 2


def test_the_gateway_dies_while_one_leaves(start):
    """Nobody is connected to it any more: it ends at once. The next gateway goes on with the others."""
    sluice = start(doors=True, replicas=2)
    wait_replicas(sluice, "digits", 2)
    sluice.door("hold digits")
    wires = []
    for n in range(2):
        wires.append(Wire(sluice.port, 60).send(post()))
        is_busy(sluice, n + 1)
    change(sluice, ("replicas = 2", "replicas = 1"))
    reload(sluice)
    sluice.wait_event("worker_leaving", worker="w/1")
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("worker_exited", replica=1)
    sluice.wait_event("ready", count=2)
    wait_for(lambda: infer(sluice) == 200, 20)
    wait_serving(sluice, "w/0")
    assert children(sluice.pid) == 2


def test_the_gateway_dies_while_one_is_replaced(start, tmp_path):
    """The next one knows what is to replace what: those that still serve the old command go when it is their turn."""
    sluice = start(replicas=2, worker_rules="replace = before")
    wait_replicas(sluice, "digits", 2)
    good = sluice.config.read_text()
    at = good.index("command = {")
    sluice.config.write_text(good.replace(good[at : good.index("}", at)], f'command = {{"{broken(tmp_path)}"'))
    reload(sluice)
    sluice.wait_event("worker_exec_failed", count=2, timeout=20)
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2, 20, "both serve")
    assert infer(sluice) == 200 and len(workers(sluice)) == 4
    broken(tmp_path).write_text("#!/bin/sh\nexec %s \"$@\"\n" % worker_command(MODELS).replace('", "', " ").replace('"', ""))
    wait_for(lambda: set(workers(sluice)) == {"w/2", "w/3"}, 60, "they are replaced")
    wait_serving(sluice, "w/2", "w/3")
    assert infer(sluice) == 200


def test_a_worker_crashes_while_others_come(start):
    sluice = start(replicas=2)
    wait_replicas(sluice, "digits", 2)
    with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
        for was, now in ((2, 3), (3, 2), (2, 3), (3, 2)):
            change(sluice, (f"replicas = {was}", f"replicas = {now}"))
            os.kill(sluice.find("worker_started", replica=0)[-1]["pid"], signal.SIGKILL)
            reload(sluice)
            wait_serving(sluice, *(f"w/{i}" for i in range(now)))
            load.wait(20)
    assert_all_answered(load)


def test_a_drain_while_one_leaves(start):
    sluice = start(doors=True, drain_delay='"1s"')
    wire = held_at(sluice, "w/0")
    change(sluice, ('worker "w"', 'worker "v"'))
    reload(sluice)
    sluice.wait_event("worker_leaving", worker="w/0")
    assert ask(sluice, "drain").status == DONE
    sluice.wait_event("draining")
    sluice.door("release digits")
    assert wire.read_answers(1, 30)[0][0] == 200
    assert sluice.wait() == 0


def test_the_keeper_is_killed_while_they_change(start):
    """All that it has started ends with it: those that come, those that go."""
    sluice = start(replicas=3)
    change(sluice, ("replicas = 3", "replicas = 2"), (OLD, NEW))
    reload(sluice)
    pids = [sluice.gateway_pid()] + [e["pid"] for e in sluice.find("worker_started")]
    sluice.kill(signal.SIGKILL)
    sluice.wait()
    wait_for(lambda: all(gone(p) for p in pids), 20, "all have ended")


@pytest.mark.load
def test_many_at_once(start):
    """Signals and operators, one after the other, while commands and replicas change: the last file holds."""
    sluice = start(replicas=2, worker_rules="replace = before")
    wait_replicas(sluice, "digits", 2)
    words = [("replicas = 2", "replicas = 3"), (OLD, NEW), ("replicas = 3", "replicas = 1"), (NEW, OLD), ("replicas = 1", "replicas = 2")]
    with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
        for pair in words * (1 if SANITIZED else 2):
            change(sluice, pair)
            sluice.kill(signal.SIGHUP)
            assert ask(sluice, "--timeout", "60", "reload").status == DONE
        wait_for(lambda: len(workers(sluice)) == 2 and children(sluice.pid) == 3, 60, "two are left")
        wait_serving(sluice, *workers(sluice))
        load.wait(20)
    assert_all_answered(load)


# ---- the rest of a section -----------------------------------------------------------------------------


def test_serial_is_taken(start):
    """Its models come anew, with a device to share; nothing fails for it."""
    with Worker() as a:
        sluice = start(addresses=[f"grpc://127.0.0.1:{a.port}"], worker_rules="serial = off")
        with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
            for n in range(4):
                change(sluice, ("serial = off", "serial = on") if n % 2 == 0 else ("serial = on", "serial = off"))
                assert "serial: was" in reload(sluice)
                load.wait(20)
        assert_all_answered(load)


def test_rules_of_a_section_that_comes(start):
    """A model without a section goes by the rules of the worker that has it, from the first request on."""
    sluice = start(models="")
    text = sluice.config.read_text()
    sluice.config.write_text(text.replace('worker "w"', 'worker "v"').replace("replicas = 1", "replicas = 1 timeout = 50us levels = off batch { policy = fixed max_wait = 900ms }"))
    reload(sluice)
    wait_serving(sluice, "v/0")
    wait_for(lambda: infer(sluice) == 504, 20, "its deadline")


# ---- many ----------------------------------------------------------------------------------------------


def test_coming_and_going_costs_nothing(start):
    """Memory, descriptors and threads of keeper and gateway, after many of them, are what they were after a few."""
    with Worker() as a, Worker() as b:
        sluice = start(addresses=[f"grpc://127.0.0.1:{a.port}"])
        pids, seen, times = (sluice.pid, sluice.gateway_pid()), collections.defaultdict(list), 20 if SANITIZED else 100
        for n in range(times):
            old, new = (of(a), of(a, b)) if n % 2 == 0 else (of(a, b), of(a))
            change(sluice, (old, new))
            reload(sluice)
            wait_for(lambda n=n: len(workers(sluice)) == 2 - n % 2, 20, "as the file says")
            assert infer(sluice) == 200
            if n in (times // 4 * 2 - 1, times - 1):
                wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")
                wait_serving(sluice, "w/0")
                for pid in pids:
                    seen[pid].append((memory_kib(pid), descriptors(pid), threads(pid)))
        for pid in pids:
            (memory, fds, tasks), last = seen[pid]
            assert SANITIZED or last[0] < memory + 2048, seen
            assert last[1] <= fds + 2 and last[2] == tasks, seen


def test_processes_that_come_and_go_leave_nothing(start):
    """Nor do they: no socket's file, no process, no descriptor."""
    sluice = start()
    wait_serving(sluice, "w/0")
    directory = pathlib.Path(workers(sluice)["w/0"]["address"].removeprefix("unix:")).parent
    before = descriptors(sluice.pid), descriptors(sluice.gateway_pid())
    for _ in range(2 if SANITIZED else 10):
        for was, now in ((1, 2), (2, 1)):
            change(sluice, (f"replicas = {was}", f"replicas = {now}"))
            reload(sluice)
            wait_serving(sluice, *(f"w/{i}" for i in range(now)))
    wait_for(lambda: children(sluice.pid) == 2, 20)
    wait_for(lambda: len(list(directory.glob("*.sock"))) == 1, 10, "one socket is left")
    after = descriptors(sluice.pid), descriptors(sluice.gateway_pid())
    assert after[0] <= before[0] + 1 and after[1] <= before[1] + 2, (before, after)
    with contextlib.suppress(ProcessLookupError):
        assert infer(sluice) == 200
