"""Another configuration while requests run: SIGHUP and sluicectl reload. No request fails for it; a file that is wrong,
or that changes what cannot change, changes nothing, and says what it is."""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess

import httpx
import pytest
from harness import GOOD_BODY, MODELS, SANITIZED, UNPRIVILEGED, Worker, Wire, gone, memory_kib, post, wait_for
from hostile import descriptors
from load import Load
from test_ctl import DONE, REFUSED, ask
from test_evidence import assert_all_answered
from test_tls import certificate, connect, context, live, tls_sluice
from test_watch import SERVING, UNKNOWN, Watch, channel_to

INFER = "/v2/models/digits/infer"
TOKEN = {"authorization": "Bearer open sesame, please"}


def change(sluice, *pairs):
    """Writes the file anew, with words replaced; each must be there."""
    text = sluice.config.read_text()
    for old, new in pairs:
        assert old in text, (old, text)
        text = text.replace(old, new)
    sluice.config.write_text(text)


def add(sluice, text):
    sluice.config.write_text(sluice.config.read_text() + text)


def configured(sluice):
    return sluice.status_page()["configuration"]


def reload(sluice, headers=TOKEN):
    """What has changed."""
    before = configured(sluice)["generation"] if headers is TOKEN else 0
    answer = httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert not before or answer.json()["generation"] == before + 1
    return answer.json()["changes"]


def assert_refused(sluice, *words):
    """As sluicectl says it and as the event does; nothing has changed."""
    before, events = configured(sluice), len(sluice.find("reload_refused"))
    said = ask(sluice, "reload")
    assert said.status == REFUSED and not said.out
    sluice.wait_event("reload_refused", count=events + 1)
    for word in words:
        assert word in said.err, said.err
        assert word[:200] in sluice.find("reload_refused")[-1]["why"]
    assert configured(sluice) == before
    assert infer(sluice) == 200


def infer(sluice, body=GOOD_BODY):
    return httpx.post(sluice.url + INFER, content=body, timeout=30).status_code


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


# ---- the file ------------------------------------------------------------------------------------------


def test_nothing_has_changed(start):
    sluice = start()
    assert configured(sluice)["generation"] == 1
    said = ask(sluice, "reload")
    assert (said.status, said.out, said.err) == (DONE, "configuration 2 is in force: its file says what it said before\n", "")
    seen = configured(sluice)
    assert seen["path"] == str(sluice.config) and seen["since"].endswith("Z")
    wait_for(lambda: configured(sluice)["older"] == [], 5, "the first is let go of")
    assert f"configuration 2 of {sluice.config} since {seen['since']}\n" in ask(sluice, "status").out
    sluice.kill(signal.SIGHUP)
    sluice.wait_event("reloaded", generation=3, changes="", file=str(sluice.config))
    sluice.wait_event("reload_asked", client="127.0.0.1")


@pytest.mark.parametrize(
    "text, words",
    [
        ("nonsense {", ["gateway.conf:15: ", "nonsense"]),
        ("defaults { queue { rows = soon } }\ndefaults { }", ["gateway.conf:16: defaults stands twice"]),
        ('model "x" { queue { rows = soon } }\nmodel "y" { batch { policy = loud } }', ["gateway.conf:15: rows: expected a whole number", "; ", "gateway.conf:16: policy: expected one of auto|fixed"]),
        ('model "digits" { batch { max_rows = 4 }', ["gateway.conf:15: "]),
        ("\0\0", ["gateway.conf:15: "]),
        ("#" * (1 << 20), ["gateway.conf: larger than 1MiB"]),
        ('worker "v" { command = {"/nowhere/worker"} }', ['worker "v": program "/nowhere/worker" not found']),
        ('listen "tls" { address = "127.0.0.1:0" certificate = "/nowhere" key = "/nowhere" }', ['listen "tls": certificate: /nowhere: No such file']),
    ],
    ids=["syntax", "twice", "values", "brace", "zero", "size", "program", "certificate"],
)
def test_a_broken_file_changes_nothing(start, text, words):
    sluice = start()
    good = sluice.config.read_text().rstrip("\n")
    (lines,) = {good.count("\n") + 1}
    sluice.config.write_text(good + "\n" + text + "\n")
    assert_refused(sluice, *[w.replace(":15:", f":{lines + 1}:").replace(":16:", f":{lines + 2}:") for w in words])
    sluice.config.write_text(good)
    reload(sluice)


def test_the_file_is_gone(start, tmp_path):
    """No file, a directory, a pipe that nobody writes to, one that may not be read, a disk that has an error."""
    sluice = start()
    good = sluice.config.read_text()
    sluice.config.unlink()
    assert_refused(sluice, "gateway.conf: No such file or directory")
    sluice.config.mkdir()
    assert_refused(sluice, "gateway.conf: not a regular file")
    sluice.config.rmdir()
    os.mkfifo(sluice.config)
    assert_refused(sluice, "gateway.conf: not a regular file")
    sluice.config.unlink()
    sluice.config.symlink_to("/proc/self/mem")  # reading it from its beginning is an error
    assert_refused(sluice, "gateway.conf: Input/output error")
    sluice.config.unlink()
    sluice.config.symlink_to("/dev/null")
    assert_refused(sluice, "gateway.conf: not a regular file")
    sluice.config.unlink()
    sluice.config.write_text(good)
    assert reload(sluice) == ""


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("loops = 2", "loops = 3", ["a change wants a restart, nothing was taken: loops: was 2, is 3"]),
        ("runtime_dir = ", 'runtime_dir = "/run" #', ['runtime_dir: was "/tmp", is "/run"']),
        ('admin { address = "127.0.0.1:0"', 'admin { address = "127.0.0.1:1"', ['admin: address: was "127.0.0.1:0"']),
        ("log { ", "log { ring = 1MiB ", ["log: ring: was 4MiB, is 1MiB"]),
    ],
    ids=["loops", "runtime_dir", "admin", "ring"],
)
def test_what_cannot_change(start, old, new, words):
    """Named, with what was and what is; nothing else that the file says is taken either."""
    sluice = start()
    change(sluice, (old, new), ("limits {", "limits { max_body = 1KiB"))
    assert_refused(sluice, *words)
    assert infer(sluice, GOOD_BODY + b" " * 2000) == 200


# ---- rules under load ----------------------------------------------------------------------------------

RULES = [
    "",
    'model "digits" { batch { policy = fixed max_rows = 4 max_wait = 1ms preferred = {2} } }',
    'model "digits" { batch { pipeline = 1 } queue { rows = 4096 } }',
    'model "digits" { worker = "w" timeout = 20s batch { max_rows = 1 } }',
    'defaults { batch { policy = fixed max_wait = 0 } } model "other" { }',
    'models = listed model "digits" { } model "digits-small" { batch { policy = fixed } }',
]


@pytest.mark.load  # loops that go over one by one: for ThreadSanitizer too
def test_rules_change_under_load(start):
    """Fifty times (a sanitizer's build: ten), for clients of three protocols: none fails, none is reset."""
    sluice = start()
    base, times = sluice.config.read_text(), 10 if SANITIZED else 50
    with Load(sluice.port, h1=3, h2=2, grpc=2, streams=4) as load:
        for n in range(times):
            sluice.config.write_text(f"{base}\n{RULES[(n + 1) % len(RULES)]}\nlimits {{ max_body = {32 + n % 2}MiB }}\n".replace("limits {  }", ""))
            assert "max_body" in reload(sluice)
            load.wait(10)
    assert_all_answered(load)
    assert configured(sluice)["generation"] == times + 1
    sluice.wait_event("reloaded", count=times)
    assert len(sluice.find("reloaded")) == times and len(sluice.find("gateway_started", generation=0)) == 2
    wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")


def test_rules_are_those_of_the_file(start):
    """What waits goes by the new ones; what is asked for is refused by them."""
    sluice = start(doors=True, models='model "digits" { batch { policy = fixed max_rows = 64 max_wait = 9s } }')
    wire = Wire(sluice.port, 30).send(post())
    wait_for(lambda: sluice.metric("sluice_queue_rows", model="digits") == 1)
    change(sluice, ("max_wait = 9s", "max_wait = 0"))
    assert reload(sluice) == 'model "digits": batch: max_wait: was 9s, is 0'
    assert wire.read_answers(1, 5)[0][0] == 200
    change(sluice, ("max_rows = 64 max_wait = 0 }", "max_rows = 1 } queue { rows = 1 }"))
    reload(sluice)
    sluice.door("hold digits")
    first = Wire(sluice.port, 30).send(post())
    wait_for(lambda: sluice.metric("sluice_running_rows", model="digits") == 1)
    assert infer(sluice) == 503
    change(sluice, ("queue { rows = 1 }", "queue { rows = 9 } timeout = 300ms"))
    reload(sluice)
    assert infer(sluice) == 504  # its own deadline, and room for it
    sluice.door("release digits")
    assert first.read_answers(1, 10)[0][0] == 200  # that one keeps the deadline that it came with


def test_a_deadline_that_nobody_named(start):
    sluice = start(doors=True, limits="deadline_default = 20s")
    sluice.door("hold digits")
    first = Wire(sluice.port, 30).send(post())
    wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
    change(sluice, ("deadline_default = 20s", "deadline_default = 200ms"))
    reload(sluice)
    assert infer(sluice) == 504
    sluice.door("release digits")
    assert first.read_answers(1, 10)[0][0] == 200


def test_models_that_are_listed(start):
    """One loses its section, and is not known any more; it gets it back, and is."""
    sluice = start(wait_models=("digits", "digits-small"), top="models = listed", models='model "digits" { }\nmodel "digits-small" { }')
    state = lambda: sluice.get("/v2/models/digits-small/ready")[0]
    change(sluice, ('model "digits-small" { }', ""))
    assert reload(sluice) == 'model "digits-small": removed'
    wait_for(lambda: state() == 404, 5, "it is not known")
    assert infer(sluice) == 200
    add(sluice, 'model "digits-small" { batch { max_rows = 2 } }')
    assert reload(sluice) == 'model "digits-small": added'
    wait_for(lambda: state() == 200, 5, "it is served again")
    change(sluice, ("models = listed", "models = all"), ('model "digits" { }', ""))
    reload(sluice)
    wait_for(lambda: state() == 200 and infer(sluice) == 200, 5, "both are")


def test_a_model_is_given_to_another_worker(start, tmp_path):
    """To one that has it, to one that does not, and back."""
    empty = tmp_path / "empty"
    (empty / "digits-small" / "1").mkdir(parents=True)
    (empty / "digits-small" / "1" / "model.onnx").write_bytes((MODELS / "digits-small" / "1" / "model.onnx").read_bytes())
    with Worker(MODELS) as has, Worker(empty) as has_not:
        more = "".join(f'worker "{n}" {{ addresses = {{"grpc://127.0.0.1:{w.port}"}} }}\n' for n, w in (("has", has), ("not", has_not)))
        sluice = start(models=more + 'model "digits" { worker = "w" }')
        sluice.wait_workers()
        with Load(sluice.port, h1=2, h2=1, grpc=1, streams=4) as load:
            change(sluice, ('worker = "w"', 'worker = "has"'))
            assert reload(sluice) == 'model "digits": worker: was "w", is "has"'
            up = lambda: {r["name"] for m in ask(sluice, "models", "--json").json if m["name"] == "digits" for r in m["desk"]["replicas"] if r["up"]}
            wait_for(lambda: up() == {"has/0"}, 10, "it has moved")
            load.wait(20)
        assert_all_answered(load)
        change(sluice, ('worker = "has"', 'worker = "not"'))
        reload(sluice)
        wait_for(lambda: infer(sluice) == 503, 10, "nobody has it")
        change(sluice, ('worker = "not"', 'worker = "w"'))
        reload(sluice)
        wait_for(lambda: infer(sluice) == 200, 10, "it is back")


def test_who_watches_holds_none(start):
    """Health Watch goes by the configuration of the day, however many there have been."""
    sluice = start(top="models = listed", models='model "digits" { }')
    with channel_to(sluice) as channel:
        server, model = Watch(channel), Watch(channel, "digits")
        server.hears(SERVING), model.hears(SERVING)
        for _ in range(20):
            reload(sluice)
        wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")
        change(sluice, ('model "digits"', 'model "digits-small"'))
        reload(sluice)
        model.hears(SERVING, UNKNOWN)
        change(sluice, ('model "digits-small"', 'model "digits"'))
        reload(sluice)
        model.hears(SERVING, UNKNOWN, SERVING)


# ---- limits, log, health -------------------------------------------------------------------------------


def test_limits_are_those_of_the_connection(start):
    sluice = start(limits="max_body = 1MiB")
    large = post(GOOD_BODY + b" " * 5000, close=False)
    old = Wire(sluice.port, 30).send(large)
    assert old.read_answers(1)[0][0] == 200
    change(sluice, ("max_body = 1MiB", "max_body = 2KiB max_connections_per_address = 2"))
    reload(sluice)
    assert old.send(large).read_answers(2)[1][0] == 200
    new = Wire(sluice.port, 30).send(large)
    assert new.read_answers(1)[0][0] == 413
    new.socket.close()
    old.socket.close()
    wait_for(lambda: sluice.metric("sluice_connections") == 0)
    with Wire(sluice.port) as a, Wire(sluice.port) as b:
        for wire in (a, b):
            assert wire.send(post(close=False)).read_answers(1)[0][0] == 200
        assert Wire(sluice.port).send(post()).read_until_closed(10).answers() == []
    change(sluice, ("max_body = 2KiB max_connections_per_address = 2", "max_body = 1MiB bytes_in_flight = 8MiB"))
    reload(sluice)
    assert sluice.status_page()["bytes_limit"] == 8 << 20
    wait_for(lambda: Wire(sluice.port, 30).send(large).read_answers(1)[0][0] == 200)


def test_the_access_log_moves(start, tmp_path):
    sluice = start(log=tmp_path / "a")
    lines = lambda name: (tmp_path / name).read_text().count("digits/infer") if (tmp_path / name).exists() else 0
    infer(sluice)
    wait_for(lambda: lines("a") == 1)
    change(sluice, (f"{tmp_path}/a", f"{tmp_path}/b"))
    reload(sluice)
    infer(sluice)
    wait_for(lambda: lines("b") == 1 and lines("a") == 1)
    change(sluice, (f'"{tmp_path}/b"', "off"))
    reload(sluice)
    infer(sluice)
    change(sluice, ("access = off", f'access = "{tmp_path}/c" sample = 0%'))
    reload(sluice)
    infer(sluice)
    httpx.post(sluice.url + INFER, content=b"no")  # what fails is always written
    wait_for(lambda: lines("c") == 1)
    change(sluice, ("sample = 0%", "sample = 100%"))
    reload(sluice)
    infer(sluice)
    wait_for(lambda: lines("c") == 2)
    assert (lines("a"), lines("b")) == (1, 1)
    change(sluice, (f"{tmp_path}/c", f"{tmp_path}/nowhere/d"))
    assert_refused(sluice, f"log: access: {tmp_path}/nowhere/d: No such file or directory")
    wait_for(lambda: lines("c") == 3)  # that of assert_refused


def test_the_log_begins_and_the_gateway_had_none(start, tmp_path):
    sluice = start(log="off")
    change(sluice, ('"off"', f'"{tmp_path}/log"'))
    reload(sluice)
    infer(sluice)
    wait_for(lambda: "digits/infer" in (tmp_path / "log").read_text())


def dumpable(pid):
    """Whether a crash would leave a core: as the kernel says to whoever is not root."""
    done = subprocess.run([*UNPRIVILEGED, "cat", f"/proc/{pid}/environ"], capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(SANITIZED, reason="the leak checker must be allowed to look")
def test_cores(start):
    """They are let and not let, in keeper and gateway, and in the gateway that comes after a crash."""
    sluice = start(limits_before=UNPRIVILEGED)
    pids = [sluice.process.pid, sluice.gateway_pid()]
    assert [dumpable(p) for p in pids] == [False, False]
    change(sluice, ("loops = 2", "loops = 2 core_dumps = on"))
    assert reload(sluice) == "core_dumps: was false, is true"
    assert [dumpable(p) for p in pids] == [True, True]
    os.kill(pids[1], signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    sluice.wait_model("digits")
    pids[1] = sluice.find("ready")[-1]["pid"]
    assert [dumpable(p) for p in pids] == [True, True]
    change(sluice, (" core_dumps = on", ""))
    reload(sluice)
    assert [dumpable(p) for p in pids] == [False, False]


def test_how_many_are_remembered(start):
    """Another number begins anew, under requests whose tickets are still out, too."""
    sluice = start(doors=True)
    known = lambda id_: ask(sluice, "explain", id_).status == DONE
    send = lambda id_, **more: httpx.post(sluice.url + INFER, content=GOOD_BODY, headers={"x-request-id": id_}, timeout=30, **more).status_code
    assert send("one") == 200 and wait_for(lambda: known("one"))
    change(sluice, ("log { ", "log { explain = 3 "))
    assert reload(sluice) == "log: explain: was 2048, is 3"
    assert not known("one")
    # Each loop keeps three of its own, and which loop a connection comes to is chance.
    assert [send(f"n{i}") for i in range(60)] == [200] * 60 and wait_for(lambda: known("n59"))
    assert not known("n0")
    sluice.door("hold digits")
    sluice.door("drop-cancels w on")
    late = json.dumps(dict(json.loads(GOOD_BODY), parameters={"timeout": 200000})).encode()
    for number in (0, 5, 0):
        assert httpx.post(sluice.url + INFER, content=late, headers={"x-request-id": "late"}, timeout=30).status_code == 504
        sluice.config.write_text(re.sub(r"explain = \d+", f"explain = {number}", sluice.config.read_text()))
        reload(sluice)
    sluice.door("release digits")
    sluice.wait_idle()
    assert not known("late") and send("last") == 200 and not known("last")


def test_levels(start):
    """What the file changes holds at once; what an operator has set stays when the file does not change it."""
    sluice = start()
    add(sluice, "")
    change(sluice, ("log {", "log { level = debug"))
    assert reload(sluice) == "log: level: was info, is debug"
    infer(sluice)
    sluice.wait_event("batch")
    assert ask(sluice, "loglevel", "warn").status == DONE
    assert reload(sluice) == "" and ask(sluice, "loglevel").out == "warn\n"
    change(sluice, ("level = debug", "level = info"))
    reload(sluice)
    assert ask(sluice, "loglevel").out == "info\n"
    sluice.wait_event("reloaded", generation=4)


def test_probes(start):
    """From one in an hour to ten a second: none is waited for as long as before."""
    sluice = start(health='interval = "1h"')
    sluice.wait_workers()
    probes = lambda: sum(w["probes"] for loop in sluice.status_page()["loops"] for w in loop["holds"]["workers"])
    change(sluice, ('interval = "1h"', 'interval = "100ms"'))
    reload(sluice)
    before = probes()
    wait_for(lambda: probes() > before + 3, 10, "probes")


# ---- secrets -------------------------------------------------------------------------------------------


def test_certificates_are_read_again(tmp_path):
    with tls_sluice(tmp_path / "g") as sluice:
        c = context(sluice, high=ssl.TLSVersion.TLSv1_2)
        old = connect(sluice, c)
        session = old.session
        first = old.getpeercert(binary_form=True)
        assert live(old) == 200
        cert, key = certificate(tmp_path / "g" / "pki")  # written over
        assert reload(sluice) == ""
        wait_for(lambda: all_new(sluice, first), 10, "every loop shows the other one")
        assert live(old) == 200  # that connection goes on
        c.load_verify_locations(cert)
        again = connect(sluice, c, session=session)
        assert not again.session_reused and live(again) == 200
        cert.write_bytes(cert.read_bytes()[:300])  # half-written
        with_old = configured(sluice)["generation"]
        said = ask(sluice, "reload")
        assert said.status == REFUSED and 'listen "tls"' in said.err
        assert configured(sluice)["generation"] == with_old
        sluice.cert = cert
        other, other_key = certificate(tmp_path / "other")
        change(sluice, (str(cert), str(other)), (str(key), str(other_key)))
        assert "certificate: was" in reload(sluice)
        sluice.cert = other
        wait_for(lambda: live(connect(sluice, context(sluice))) == 200, 10)
        change(sluice, (str(other_key), str(tmp_path / "nowhere")))
        said = ask(sluice, "reload")
        assert said.status == REFUSED and f"{tmp_path}/nowhere: No such file" in said.err
        assert sluice.stop() == 0


def all_new(sluice, old):
    """So many connections that each loop has its turn."""
    for _ in range(30):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
        with c.wrap_socket(socket.create_connection(("127.0.0.1", sluice.tls_port), 10)) as s:
            if s.getpeercert(binary_form=True) == old:
                return False
    return True


def test_the_token_is_read_again(start):
    sluice = start()
    path = sluice.config.parent / "token"
    path.write_text("open barley, please\n")
    assert reload(sluice) == ""
    get = lambda token: sluice.get("/status", sluice.admin_port, {"authorization": f"Bearer {token}"})[0]
    assert get("open sesame, please") == 401 and get("open barley, please") == 200
    path.write_text("short\n")
    answer = httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers={"authorization": "Bearer open barley, please"})
    assert answer.status_code == 409 and "admin: token_file" in answer.json()["error"] and "16 bytes" in answer.json()["error"]


def test_who_may(start):
    sluice = start()
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/reload"
    assert httpx.post(url).status_code == 401
    assert httpx.get(url, headers=TOKEN).status_code == 405
    assert httpx.post(url, headers=TOKEN, content=b"{}").json() == {"error": "body: expected none"}
    assert configured(sluice)["generation"] == 1


# ---- faults --------------------------------------------------------------------------------------------


def test_two_at_once(start):
    """One after the other: each is answered by one that began after it was asked for."""
    sluice = start()
    change(sluice, ("limits {", "limits { max_body = 1MiB"))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for _ in range(4):
            sluice.kill(signal.SIGHUP)
        said = list(pool.map(lambda _: ask(sluice, "--json", "reload"), range(16)))
    assert [s.status for s in said] == [DONE] * 16
    wait_for(lambda: len(sluice.find("reloaded")) == configured(sluice)["generation"] - 1)
    generations = [e["generation"] for e in sluice.find("reloaded")]
    assert generations == list(range(2, len(generations) + 2)) and len(generations) <= 20
    assert sum("max_body" in e["changes"] for e in sluice.find("reloaded")) == 1
    assert {s.json["generation"] for s in said} <= set(generations)


def test_requests_hold_what_they_began_with(start):
    """It is shown who holds it; past sixteen a reload waits until one is let go of."""
    sluice = start(doors=True, models='model "digits" { timeout = 5m }')
    sluice.door("hold digits")
    wires = []
    for n in range(15):
        wires.append(Wire(sluice.port, 60).send(post()))
        wait_for(lambda n=n: sluice.metric("sluice_in_flight") == n + 1)
        change(sluice, ("limits {", f"limits {{ max_body = {n + 1}MiB\n}} #"))
        reload(sluice)
        sluice.config.write_text(sluice.config.read_text().replace(f"limits {{ max_body = {n + 1}MiB\n}} #", "limits {"))
    older = configured(sluice)["older"]
    assert [o["generation"] for o in older] == list(range(15, 0, -1)) and {o["requests"] for o in older} == {1}
    assert "; 15 older held by 15 requests\n" in ask(sluice, "status").out
    wires.append(Wire(sluice.port, 60).send(post()))
    wait_for(lambda: sluice.metric("sluice_in_flight") == 16)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, sluice, "--timeout", "60", "reload")
        sluice.wait_event("reload_waits", held=16)
        assert configured(sluice)["generation"] == 16 and not waiting.done()
        assert infer_held(sluice, wires) == 17
        wires[0].socket.close()  # called back: the first configuration is let go of
        assert waiting.result(30).status == DONE
    sluice.door("release digits")
    for wire in wires[1:]:
        assert wire.read_answers(1, 30)[0][0] == 200
    wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")


def infer_held(sluice, wires):
    """Others are served meanwhile."""
    wires.append(Wire(sluice.port, 60).send(post()))
    wait_for(lambda: sluice.metric("sluice_in_flight") == len(wires))
    return len(wires)


def test_during_a_drain(start):
    sluice = start(drain_delay='"5s"')
    assert ask(sluice, "drain").status == DONE
    sluice.wait_event("draining")
    said = ask(sluice, "reload")
    assert said.status == REFUSED and "the gateway drains" in said.err
    sluice.kill(signal.SIGHUP)
    assert infer(sluice) == 200
    assert sluice.wait() == 0
    assert not sluice.find("reloaded")


def test_a_drain_ends_one_that_waits(start):
    sluice = start(doors=True, drain_delay='"2s"', models='model "digits" { timeout = 5m }')
    sluice.door("hold digits")
    wires = []
    for n in range(16):
        wires.append(Wire(sluice.port, 60).send(post()))
        wait_for(lambda n=n: sluice.metric("sluice_in_flight") == n + 1)
        if n < 15:
            reload(sluice)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, sluice, "--timeout", "60", "reload")
        sluice.wait_event("reload_waits")
        assert ask(sluice, "drain").status == DONE
        assert "the gateway drains" in waiting.result(30).err
    sluice.door("release digits")
    for wire in wires:
        assert wire.read_answers(1, 30)[0][0] == 200
    assert sluice.wait() == 0


def test_a_worker_crashes_meanwhile(start):
    sluice = start()
    for n in range(5):
        change(sluice, ("limits {", "limits { max_headers = 90\n} #") if n % 2 == 0 else ("limits { max_headers = 90\n} #", "limits {"))
        os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
        assert "max_headers" in reload(sluice)
        sluice.wait_event("worker_started", count=n + 2)
        wait_for(lambda: infer(sluice) == 200, 20, "served again")
    assert len(sluice.find("ready")) == 1


def test_the_next_gateway_begins_with_it(start, tmp_path):
    """After a crash of the gateway: rules, limits, and the number; with sections in another order."""
    sluice = start(top='worker "v" { addresses = {"grpc://127.0.0.1:9"} }')
    text = sluice.config.read_text()
    moved = 'worker "v" { addresses = {"grpc://127.0.0.1:9"} }'
    sluice.config.write_text(text.replace(moved, "").replace("limits {", "limits { max_body = 2KiB") + moved + "\n")
    assert reload(sluice) == "limits: max_body: was 64MiB, is 2KiB"
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    wait_for(lambda: configured(sluice)["generation"] == 2)
    wait_for(lambda: infer(sluice) == 200, 20, "served again")
    assert infer(sluice, GOOD_BODY + b" " * 3000) == 413
    os.kill(sluice.worker_pid(), signal.SIGKILL)  # its keeper's words are about the right one
    sluice.wait_event("worker_started", count=2)
    wait_for(lambda: infer(sluice) == 200, 20, "served again")
    reload(sluice)
    assert configured(sluice)["generation"] == 3


def test_the_gateway_dies_while_it_is_asked(start):
    """A gateway that stands still is killed. When it had been offered one nothing has changed; else the next gateway is
    offered it. Either way the next reload is taken."""
    sluice = start()
    pid = sluice.gateway_pid()
    change(sluice, ("limits {", "limits { max_body = 2KiB"))
    os.kill(pid, signal.SIGSTOP)
    sluice.kill(signal.SIGHUP)
    wait_for(lambda: memory_files(sluice.pid) == 1, 10, "it is being asked")
    wait_for(lambda: children(sluice.pid) == 2, 10, "and was found good")
    os.kill(pid, signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    lost = lambda: sluice.find("reload_refused", why="the gateway process has ended before it had taken it")
    wait_for(lambda: lost() or sluice.find("reloaded"), 20, "it is known what became of it")
    wait_for(lambda: memory_files(sluice.pid) == 0, 10, "nothing is offered any more")
    assert configured(sluice)["generation"] == (1 if lost() else 2)
    if not lost():
        change(sluice, ("max_body = 2KiB", "max_body = 3KiB"))
    assert "max_body" in reload(sluice)


def memory_files(pid):
    return sum("memfd:configuration" in os.readlink(f) for f in pathlib.Path(f"/proc/{pid}/fd").iterdir())


def children(pid):
    return len(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_the_keeper_is_killed_during_one(start):
    """At any moment of it: all that it has started ends with it."""
    for n in range(3):
        sluice = start()
        pids = [sluice.gateway_pid(), sluice.worker_pid()]
        for _ in range(n + 1):
            sluice.kill(signal.SIGHUP)
            sluice.wait_event("reloaded", count=1) if n == 2 else None
        sluice.kill(signal.SIGKILL)
        sluice.wait()
        wait_for(lambda pids=pids: all(gone(p) for p in pids), 10, "all have ended")


# ---- many ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_models_in_turn(start):
    """Each is there for one configuration; the table holds none that nobody has."""
    sluice = start(models='model "m-0" { }')
    for n in range(1, 100 if SANITIZED else 1000):
        change(sluice, (f'"m-{n - 1}"', f'"m-{n}"'))
        assert reload(sluice) == f'model "m-{n - 1}": removed; model "m-{n}": added'
    assert infer(sluice) == 200
    assert sluice.get(f"/v2/models/m-{n}/ready")[0] == 200 or sluice.get(f"/v2/models/m-{n}/ready")[0] == 503
    wait_for(lambda: {m["name"] for m in sluice.status_page()["models"]} == {"digits", "digits-small", f"m-{n}"}, 20, "the others are gone")
    assert not sluice.find("models_left_out")


@pytest.mark.slow
def test_two_hundred_reloads_cost_nothing(start):
    """Memory, descriptors and threads of keeper and gateway are what they were after the first few."""
    sluice = start()
    base, times = sluice.config.read_text(), 40 if SANITIZED else 200
    pids, seen = (sluice.pid, sluice.gateway_pid()), collections.defaultdict(list)
    for n in range(times):
        sluice.config.write_text(f"{base}\n{RULES[n % len(RULES)]}\n")
        reload(sluice)
        assert infer(sluice) == 200
        if n in (times // 4, times - 1):
            wait_for(lambda: configured(sluice)["older"] == [], 10, "all are let go of")
            for pid in pids:
                wait_for(lambda pid=pid: children(sluice.pid) == 2, 10)
                seen[pid].append((memory_kib(pid), descriptors(pid), threads(pid)))
    for pid in pids:
        (memory, fds, tasks), last = seen[pid]
        assert SANITIZED or last[0] < memory + 2048, seen
        assert last[1] <= fds + 2 and last[2] == tasks, seen
