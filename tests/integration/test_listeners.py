"""Listeners that come, change and go while requests run: those of others do not notice, what was on its way is answered, and
nothing of them is left."""
import concurrent.futures
import os
import signal
import socket
import ssl
import threading

import httpx
import pytest
from h2wire import DATA, END_STREAM, H2, frame, head
from harness import GOOD_BODY, SANITIZED, Wire, free_port, gone, port_of, post, wait_for
from hostile import descriptors
from load import Load
from test_evidence import assert_all_answered
from test_faults import assert_only
from test_reload import add, assert_refused, change, configured, infer, reload, threads
from test_tls import certificate


def port(sluice, name, count=1):
    """Of a listener, the newest of its name."""
    return port_of(sluice.wait_event("listening", name=name, count=count)["address"])


PUBLIC = 'listen "public" { address = "127.0.0.1:0"'


def section(name, address="127.0.0.1:0", more=""):
    return f'listen "{name}" {{ address = "{address}" {more} }}\n'


def served(number):
    """By a fresh connection: a status, or None when nobody listens."""
    try:
        with Wire(number, 10) as wire:
            return wire.send(post()).read_answers(1)[0][0]
    except ConnectionRefusedError:
        return None


def at_rest(sluice, measure):
    """What it is when every loop has its connections to the workers and no client has one: the same a few times over."""
    sluice.wait_workers()
    seen = []

    def still():
        seen.append(measure())
        threading.Event().wait(0.05)
        return len(seen) > 5 and all(m == seen[-1] for m in seen[-5:])

    wait_for(still, 10, "a gateway at rest")
    return seen[-1]


def listeners(sluice):
    return [(e["name"], e["state"]) for e in sluice.status_page()["listeners"]]


# ---- they come and go ----------------------------------------------------------------------------------


def test_one_is_added_and_removed(start):
    sluice = start()
    base = sluice.config.read_text()
    add(sluice, section("second"))
    assert reload(sluice) == 'listen "second": added'
    second = port(sluice, "second")
    assert served(second) == 200 and served(sluice.port) == 200
    assert listeners(sluice) == [("public", "serving"), ("second", "serving")]
    assert sluice.metric("sluice_accepted_total", listener="second") >= 1
    sluice.config.write_text(base)
    assert reload(sluice) == 'listen "second": removed'
    wait_for(lambda: served(second) is None, 5, "it is closed")
    sluice.wait_event("listener_leaves", name="second")
    sluice.wait_event("listener_gone", name="second", address=f"127.0.0.1:{second}")
    assert listeners(sluice) == [("public", "serving")]
    assert served(sluice.port) == 200
    assert sluice.stop() == 0


def test_its_address_changes(start):
    first, other = free_port(), free_port()
    sluice = start(address=f"127.0.0.1:{first}")
    old = Wire(sluice.port, 30).send(post(close=False))
    assert old.read_answers(1)[0][0] == 200
    change(sluice, (f"127.0.0.1:{first}", f"127.0.0.1:{other}"))
    assert reload(sluice) == f'listen "public": address: was "127.0.0.1:{first}", is "127.0.0.1:{other}"'
    # The connection from before: it may ask once more, is told to go, and goes.
    old.send(post(close=False))
    status, fields, _ = old.read_answers(2)[1]
    assert status == 200 and fields["connection"] == "close"
    assert old.read_until_closed().closed and served(other) == 200
    wait_for(lambda: served(sluice.port) is None, 5, "the other one is closed")
    sluice.wait_event("listener_gone", name="public", address=f"127.0.0.1:{sluice.port}")
    assert listeners(sluice) == [("public", "serving")]
    # And back: the same port is opened again.
    change(sluice, (f"127.0.0.1:{other}", f"127.0.0.1:{first}"))
    reload(sluice)
    assert served(sluice.port) == 200
    wait_for(lambda: served(other) is None, 5, "it is closed")


def test_the_same_port_goes_from_one_to_another(start):
    """By another name, for TLS and back: the socket stays, so nobody is ever refused."""
    sluice = start()
    fixed = free_port()
    add(sluice, section("a", f"127.0.0.1:{fixed}"))
    reload(sluice)
    inode = lambda: {line.split()[9] for line in open("/proc/net/tcp") if line.split()[1].endswith(f":{fixed:04X}") and line.split()[3] == "0A"}
    before = inode()
    assert len(before) == 2 and served(fixed) == 200
    change(sluice, ('listen "a"', 'listen "b"'))
    assert reload(sluice) == 'listen "a": removed; listen "b": added'
    assert inode() == before and served(fixed) == 200
    assert listeners(sluice) == [("public", "serving"), ("b", "serving")]
    assert sluice.metric("sluice_accepted_total", listener="b") >= 2
    # The port that was picked, written down: nothing moves.
    change(sluice, (PUBLIC, f'listen "public" {{ address = "127.0.0.1:{sluice.port}"'))
    reload(sluice)
    assert served(sluice.port) == 200 and not sluice.find("listener_leaves")


def test_the_port_is_in_use(start):
    """By another process: the whole reload is refused, and what it would have opened beside it is not there."""
    sluice = start()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken, free = s.getsockname()[1], free_port()
        base = sluice.config.read_text()
        fds = descriptors(sluice.process.pid)
        add(sluice, section("fine", f"127.0.0.1:{free}") + section("taken", f"127.0.0.1:{taken}"))
        change(sluice, ("limits {", "limits { max_body = 1KiB"))
        assert_refused(sluice, f'listen "taken": listen 127.0.0.1:{taken}: port in use')
        assert served(free) is None and descriptors(sluice.process.pid) == fds
        assert infer(sluice, GOOD_BODY + b" " * 2000) == 200
        for address, why in (("192.0.2.1:1", "no such address on this machine"), ("unix:/nowhere/s", "No such file or directory"), (f"unix:{sluice.config}", "the path exists and is no socket")):
            sluice.config.write_text(base + section("fine", f"127.0.0.1:{free}") + section("bad", address))
            assert_refused(sluice, 'listen "bad": ', why)
        assert served(free) is None and descriptors(sluice.process.pid) == fds
    sluice.config.write_text(base + section("fine", f"127.0.0.1:{free}") + section("taken", f"127.0.0.1:{taken}"))
    reload(sluice)
    assert served(free) == served(taken) == 200


def test_a_unix_socket(start, tmp_path):
    sluice = start()
    base, path = sluice.config.read_text(), tmp_path / "s"
    client = lambda: httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=10)
    for _ in range(3):
        add(sluice, section("local", f"unix:{path}"))
        reload(sluice)
        with client() as c:
            assert c.post("http://localhost/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
        sluice.config.write_text(base)
        reload(sluice)
        assert not path.exists()
    sluice.wait_event("listener_gone", name="local", count=3)


def test_tls_begins_and_ends(start, tmp_path):
    """On one socket; who was there before goes on as it began."""
    sluice = start()
    cert, key = certificate(tmp_path / "pki")
    trusts = ssl.create_default_context(cafile=str(cert))
    plain = Wire(sluice.port, 30).send(post(close=False))
    assert plain.read_answers(1)[0][0] == 200
    tls = lambda: httpx.post(f"https://127.0.0.1:{sluice.port}/v2/models/digits/infer", content=GOOD_BODY, verify=trusts, timeout=20).status_code
    for n in range(3):
        change(sluice, (PUBLIC, f'{PUBLIC} certificate = "{cert}" key = "{key}"'))
        assert 'listen "public": certificate: was none' in reload(sluice)
        assert [tls() for _ in range(4)] == [200] * 4
        assert plain.send(post(close=False)).read_answers(2 + n)[1 + n][0] == 200
        assert sluice.status_page()["listeners"][0]["tls"] is True
        change(sluice, (f' certificate = "{cert}" key = "{key}"', ""))
        reload(sluice)
        assert [served(sluice.port) for _ in range(4)] == [200] * 4
    assert not sluice.find("listener_leaves")


def test_ticket_keys_reach_listeners_that_turned_to_tls(start, tmp_path):
    sluice = start()
    cert, key = certificate(tmp_path / "pki")
    change(sluice, (PUBLIC, f'{PUBLIC} certificate = "{cert}" key = "{key}"'))
    add(sluice, section("tls", more=f'certificate = "{cert}" key = "{key}"'))
    reload(sluice)
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(cert)
    c.maximum_version = ssl.TLSVersion.TLSv1_2
    for number in (sluice.port, port(sluice, "tls")):
        with c.wrap_socket(socket.create_connection(("127.0.0.1", number), 10), server_hostname="localhost") as s:
            session = s.session
        for _ in range(6):  # on whichever loop
            with c.wrap_socket(socket.create_connection(("127.0.0.1", number), 10), server_hostname="localhost", session=session) as s:
                assert s.session_reused


def test_expose_changes_at_once(start):
    sluice = start()
    headers = lambda: [n for n in httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY).headers if n.startswith("sluice-")]
    assert headers()
    change(sluice, (PUBLIC, PUBLIC + " expose = off"))
    reload(sluice)
    assert not headers()


def test_limits_reach_a_new_one(start):
    sluice = start(limits="max_body = 1KiB")
    add(sluice, section("second"))
    reload(sluice)
    wire = Wire(port(sluice, "second"), 10)
    assert wire.send(post(GOOD_BODY + b" " * 2000)).read_answers(1)[0][0] == 413
    change(sluice, ("max_body = 1KiB", "max_body = 1MiB"))
    reload(sluice)
    wire = Wire(port(sluice, "second"), 10)
    assert wire.send(post(GOOD_BODY + b" " * 2000)).read_answers(1)[0][0] == 200


def test_more_loops_than_descriptors_go_at_a_time(start):
    """The kernel takes 253 in a message: a listener's sockets come in two."""
    sluice = start(loops=4 if SANITIZED else 252)
    base = sluice.config.read_text()
    add(sluice, section("second") + section("third"))
    reload(sluice)
    assert [served(port(sluice, name)) for name in ("second", "third") * 10] == [200] * 20
    sluice.config.write_text(base)
    reload(sluice)
    sluice.wait_event("listener_gone", count=2)


# ---- those that leave ----------------------------------------------------------------------------------


def test_what_runs_is_answered(start):
    """Requests of a listener that is removed: on HTTP/1.1, HTTP/2 and gRPC, at a worker that takes its time. Its end waits
    for them; other listeners' go on; its port is free at once."""
    sluice = start(doors=True)
    base = sluice.config.read_text()
    add(sluice, section("second"))
    reload(sluice)
    second = port(sluice, "second")
    sluice.door("hold digits")
    wires = [Wire(second, 60).send(post(close=n % 2 == 0)) for n in range(6)]
    h2 = H2(type("Target", (), {"port": second}))
    fields = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": "/v2/models/digits/infer", "content-type": "application/json"}
    h2.send(head(1, fields.items(), end=False) + frame(DATA, END_STREAM, 1, GOOD_BODY))
    wait_for(lambda: sluice.metric("sluice_in_flight") == 7)
    sluice.config.write_text(base)
    reload(sluice)
    wait_for(lambda: served_other(second), 5, "its port is free")
    assert ("second", "leaving") in listeners(sluice) and not sluice.find("listener_gone")
    assert sluice.metric("sluice_connections_leaving") == 7
    sluice.door("release digits")
    for wire in wires:
        status, fields, _ = wire.read_answers(1, 30)[0]
        assert status == 200 and wire.read_until_closed().closed
    assert h2.ends() and h2.status(1) == 200 and h2.goaway is not None
    sluice.wait_event("listener_gone", name="second")
    assert sluice.metric("sluice_connections_leaving") == 0


def served_other(number):
    """Another process could listen there now."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", number))
            s.listen()
            return True
        except OSError:
            return False


def test_what_never_ends_is_cut(start):
    sluice = start(doors=True, top='drain_timeout = "300ms"')
    base = sluice.config.read_text()
    add(sluice, section("second"))
    reload(sluice)
    wire = Wire(port(sluice, "second"), 60)
    sluice.door("hold digits")
    wire.send(post())
    wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
    sluice.config.write_text(base)
    reload(sluice)
    sluice.wait_event("listener_cut", name="second", connections=1)
    assert wire.read_until_closed().closed and not wire.answers()
    sluice.wait_event("listener_gone", name="second")
    sluice.door("release digits")
    sluice.wait_idle()


def test_who_stands_in_the_backlog_is_served(start):
    """Whoever has connected by then, accepted or not, is answered; who comes in the middle of it is answered or refused."""
    sluice = start()
    base = sluice.config.read_text()
    for _ in range(5):
        add(sluice, section("second"))
        reload(sluice)
        second = port(sluice, "second", len(sluice.find("reloaded")) // 2 + 1)
        sluice.config.write_text(base)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            more = [pool.submit(ask_until_refused, second) for _ in range(8)]
            wires = [Wire(second, 30) for _ in range(40)]
            reload(sluice)
            for wire in wires:
                wire.send(post())
            assert [w.read_answers(1, 20)[0][0] for w in wires] == [200] * 40
            assert {status for m in more for status in m.result(30)} == {200}


def ask_until_refused(number):
    statuses = []
    while (status := served(number)) is not None:
        statuses.append(status)
    return statuses


@pytest.mark.parametrize("h1, h2", [(4, 0), (0, 3)])
def test_clients_of_one_that_leaves(start, h1, h2):
    """Who honours `connection: close` and GOAWAY loses no request."""
    sluice = start()
    base = sluice.config.read_text()
    for n in range(3):
        add(sluice, section("second"))
        reload(sluice)
        with Load(port(sluice, "second", n + 1), h1=h1, h2=h2, until_refused=True) as load:
            load.wait(200)
            sluice.config.write_text(base)
            reload(sluice)
            sluice.wait_event("listener_gone", count=n + 1)
        assert_only(load, 200, "again", "refused")
    assert not sluice.find("listener_cut")


def test_watchers_of_one_that_leaves(start):
    """Health Watch has no end of its own: it is told to end."""
    from test_watch import SERVING, Watch, channel_to

    sluice = start()
    base = sluice.config.read_text()
    add(sluice, section("second"))
    reload(sluice)
    second = type("Second", (), {"port": port(sluice, "second")})
    with channel_to(second) as gone_soon, channel_to(sluice) as stays:
        leaving, staying = Watch(gone_soon), Watch(stays)
        leaving.hears(SERVING), staying.hears(SERVING)
        sluice.config.write_text(base)
        reload(sluice)
        sluice.wait_event("listener_gone", name="second")
        reload(sluice)
        staying.hears(SERVING)


# ---- faults --------------------------------------------------------------------------------------------


def test_a_gateway_that_dies_has_the_newest(start):
    """The sockets of the newest configuration, whatever it was started with; those that left are not there."""
    sluice = start()
    base = sluice.config.read_text()
    add(sluice, section("second") + section("third"))
    reload(sluice)
    sluice.config.write_text(base + section("second"))
    reload(sluice)
    second, third = port(sluice, "second"), port(sluice, "third")
    sluice.wait_event("listener_gone", name="third")
    os.kill(sluice.find("gateway_started")[-1]["pid"], signal.SIGKILL)
    assert Wire(second, 30).send(post()).read_answers(1, 30)[0][0] in (200, 503)  # it waits in the backlog
    sluice.wait_event("ready", count=2)
    sluice.wait_model("digits")
    assert served(second) == 200 and served(third) is None and listeners(sluice) == [("public", "serving"), ("second", "serving")]
    sluice.config.write_text(base)
    reload(sluice)
    wait_for(lambda: served(second) is None, 5, "it left, though this process never opened it")
    assert infer(sluice) == 200 and sluice.stop() == 0


def test_a_gateway_that_dies_while_it_is_offered(start):
    """Nothing has changed, and what was opened is closed; or it dies before it is offered, and the next one has it."""
    sluice = start(doors=True)
    fixed = free_port()
    fds = descriptors(sluice.process.pid)
    add(sluice, section("second", f"127.0.0.1:{fixed}"))
    pid = sluice.find("gateway_started")[-1]["pid"]
    os.kill(pid, signal.SIGSTOP)
    sluice.kill(signal.SIGHUP)
    wait_for(lambda: listens(fixed), 10, "the keeper has opened it")
    os.kill(pid, signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    sluice.wait_model("digits")
    refused = lambda: sluice.find("reload_refused")
    wait_for(lambda: refused() or sluice.find("reloaded"), 20, "it is known what became of it")
    assert infer(sluice) == 200
    if refused():
        assert "the gateway process has ended" in refused()[0]["why"] and served(fixed) is None
        wait_for(lambda: descriptors(sluice.process.pid) == fds, 5, "nothing is left open")
        sluice.kill(signal.SIGHUP)
        sluice.wait_event("reloaded")
    assert served(fixed) == 200


def listens(number):
    return any(line.split()[1].endswith(f":{number:04X}") and line.split()[3] == "0A" for line in open("/proc/net/tcp"))


def test_without_a_gateway(start):
    """One that is about to be started again: in force as soon as it was found good, and the next one has it."""
    sluice = start()
    base = sluice.config.read_text()
    fixed = free_port()
    add(sluice, section("second"))
    reload(sluice)
    second = port(sluice, "second")
    for _ in range(3):  # deaths in quick succession: there is a pause
        sluice.wait_event("ready", count=len(sluice.find("gateway_exited")) + 1)
        os.kill(sluice.find("gateway_started")[-1]["pid"], signal.SIGKILL)
        sluice.wait_event("gateway_exited", count=len(sluice.find("ready")))
    sluice.config.write_text(base + section("third", f"127.0.0.1:{fixed}"))
    sluice.kill(signal.SIGHUP)
    sluice.wait_event("reloaded", count=2)
    sluice.wait_event("ready", count=4)
    sluice.wait_model("digits")
    assert served(fixed) == 200 and served(second) is None


def test_a_drain_while_one_is_offered(start):
    """It is taken before the drain is heard of: what was opened for it is closed with the rest."""
    sluice = start()
    fixed, pid = free_port(), sluice.gateway_pid()
    add(sluice, section("second", f"127.0.0.1:{fixed}"))
    os.kill(pid, signal.SIGSTOP)
    sluice.kill(signal.SIGHUP)
    wait_for(lambda: listens(fixed), 10, "it is opened")
    sluice.kill(signal.SIGTERM)
    sluice.wait_event("draining")
    os.kill(pid, signal.SIGCONT)
    assert sluice.wait() == 0
    assert not listens(fixed) and len(sluice.find("reloaded")) + len(sluice.find("reload_refused")) == 1


def test_the_disk_is_gone(start, tmp_path):
    """The access log cannot be opened: what else was made ready for the file is given up."""
    sluice = start()
    good, fixed = sluice.config.read_text(), free_port()
    cert, key = certificate(tmp_path / "pki")
    pids = [sluice.process.pid, sluice.gateway_pid()]
    fds = at_rest(sluice, lambda: [descriptors(p) for p in pids])
    add(sluice, section("second", f"127.0.0.1:{fixed}", f'certificate = "{cert}" key = "{key}"'))
    change(sluice, ("log { access = ", f'log {{ access = "{tmp_path}/gone/log" #'), (PUBLIC, f'{PUBLIC} certificate = "{cert}" key = "{key}"'))
    sluice.config.write_text(sluice.config.read_text().replace('" #', '" }\n#'))
    for _ in range(5):
        assert_refused(sluice, f"log: access: {tmp_path}/gone/log: No such file or directory")
    assert served(fixed) is None and served(sluice.port) == 200
    wait_for(lambda: [descriptors(p) for p in pids] == fds, 5, "all is closed")
    sluice.config.write_text(good + section("second", f"127.0.0.1:{fixed}"))
    reload(sluice)
    assert served(fixed) == 200


def test_a_drain_with_listeners_that_leave(start):
    sluice = start(doors=True)
    base = sluice.config.read_text()
    add(sluice, section("second"))
    reload(sluice)
    sluice.door("hold digits")
    wire = Wire(port(sluice, "second"), 60).send(post())
    wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
    sluice.config.write_text(base)
    reload(sluice)
    sluice.wait_event("listener_leaves")
    sluice.kill(signal.SIGTERM)
    sluice.wait_event("draining")
    sluice.door("release digits")
    assert wire.read_answers(1, 30)[0][0] == 200
    assert sluice.wait() == 0


def test_the_keeper_is_killed_during_one(start):
    """Whatever it had opened goes with it, and with its children."""
    sluice = start()
    fixed = free_port()
    add(sluice, section("second", f"127.0.0.1:{fixed}"))
    pids = [sluice.find("gateway_started")[-1]["pid"], sluice.worker_pid()]
    os.kill(pids[0], signal.SIGSTOP)
    sluice.kill(signal.SIGHUP)
    wait_for(lambda: listens(fixed), 10, "it was opened")
    sluice.kill(signal.SIGKILL)
    sluice.wait()
    wait_for(lambda: all(gone(p) for p in pids), 10, "its children end")
    wait_for(lambda: not listens(fixed) and not listens(sluice.port), 10, "nobody listens")


# ---- again and again -----------------------------------------------------------------------------------


@pytest.mark.load
def test_they_come_and_go_under_load(start, tmp_path):
    """Sixty reloads (a sanitizer's build: twenty): a listener comes, changes and goes; requests of the one that stays
    never fail; descriptors and threads are what they were (memory: test_reloads.py)."""
    sluice = start()
    base, times, fixed = sluice.config.read_text(), 20 if SANITIZED else 60, free_port()
    cert, key = certificate(tmp_path / "pki")
    tls = f'certificate = "{cert}" key = "{key}"'
    kinds = [section("second", f"127.0.0.1:{fixed}"), section("other", f"127.0.0.1:{fixed}", tls), "", section("second"), section("second", f"unix:{tmp_path}/s"), ""]
    pids = [sluice.gateway_pid(), sluice.process.pid]
    held = at_rest(sluice, lambda: [(descriptors(p), threads(p)) for p in pids])
    with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
        for n in range(times):
            sluice.config.write_text(base + kinds[n % len(kinds)])
            reload(sluice)
            if n % len(kinds) == 0:
                assert served(fixed) == 200
            if n % len(kinds) == 1:
                assert httpx.get(f"https://127.0.0.1:{fixed}/v2/health/live", verify=ssl.create_default_context(cafile=str(cert))).status_code == 200
    assert_all_answered(load)
    sluice.config.write_text(base)
    reload(sluice)
    wait_for(lambda: listeners(sluice) == [("public", "serving")], 10, "they are gone")
    wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")
    sluice.wait_event("reloaded", count=times + 1)
    assert len(sluice.find("reloaded")) == times + 1
    wait_for(lambda: [(descriptors(p), threads(p)) for p in pids] == held, 10, "they hold what they held")
    assert sluice.stop() == 0
