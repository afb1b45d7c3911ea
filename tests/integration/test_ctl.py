"""sluicectl against real gateways, and against what is none: tokens, time-outs, answers that make no sense."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import httpx
import pytest
from harness import BUILD, DEATHS, GOOD_BODY, ROOT, SLUICE, UNPRIVILEGED, WORKER, Program, Wire, configuration, post, wait_for

CTL = BUILD / "sluicectl"
TOKEN = "open sesame, please"
DONE, REFUSED, UNANSWERED = 0, 1, 2
COMMANDS = {"status", "models", "workers", "explain", "watch", "top", "reload", "drain", "cache", "loglevel", "level", "experiment", "log"}
BEHIND = {"explain": [["some-id"]], "level": [["show"]], "experiment": [["list"], ["show", "size"], ["pause", "size"]], "cache": [["stats"], ["flush"], ["flush", "digits"]], "top": [["--once"]]}
WORDS = [[c, *more] for c in sorted(COMMANDS - {"log"}) for more in BEHIND.get(c, [[]])]


class Said:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, (done.stdout or b"").decode(), done.stderr.decode()
        for word in DEATHS:
            assert word not in self.err, self.err

    @property
    def json(self):
        return json.loads(self.out)

    def rows(self):
        """Lines of the first table: a list of words each."""
        return [line.split() for line in self.out.split("\n\n")[0].splitlines()]


def run(*words, before=(), stdout=subprocess.PIPE, **env):
    """sluicectl with nothing in its environment that it could go by but `env`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_") and "proxy" not in k.lower()}
    command = [*before, CTL, *words]
    return Said(subprocess.run(command, env={**clean, **env}, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, timeout=60))  # fmt: skip


def ask(sluice, *words, **more):
    return run("--address", f"127.0.0.1:{sluice.admin_port}", *words, SLUICE_TOKEN=TOKEN, **more)


# ---- what it shows -----------------------------------------------------------------------------------


def test_status(gateway):
    said = ask(gateway, "status")
    assert (said.status, said.err) == (DONE, "")
    first, listeners, loops = said.out.split("\n\n")
    assert re.match(rf"sluice \S+, process {gateway.gateway_pid()}, running for .*, restarts 0, log level info\nconfiguration 1 of {gateway.config} since \S+Z\nbytes in flight: ", first)
    assert [r.split()[:5] for r in listeners.splitlines()] == [["LISTENER", "ADDRESS", "STATE", "TLS", "ACCEPTING"], ["public", f"127.0.0.1:{gateway.port}", "serving", "no", "yes"]]
    assert [r.split()[:2] for r in loops.splitlines()] == [["LOOP", "ANSWERS"], ["0", "yes"], ["1", "yes"]]
    page = ask(gateway, "--json", "status").json
    assert page["pid"] == gateway.gateway_pid() and page["phase"] == "running" and len(page["loops"]) == 2


def test_models(gateway):
    said = ask(gateway, "models")
    assert (said.status, said.err) == (DONE, "")
    heads, digits, small = said.rows()
    assert heads[:7] == ["MODEL", "READY", "LEVEL", "SHARE", "WAIT", "WAITING", "RUNNING"]
    assert digits[:7] == ["digits", "1/1", "0", "100%", "0us", "0", "0"] and digits[8:10] == ["4096", "64"] and small[0] == "digits-small"
    models = {m["name"]: m for m in ask(gateway, "models", "--json").json}
    assert set(models) == {"digits", "digits-small"}
    (replica,) = models["digits"]["desk"]["replicas"]
    assert replica["name"] == "w/0" and replica["up"]


def test_workers(gateway):
    gateway.wait_workers()
    said = ask(gateway, "workers")
    assert (said.status, said.err) == (DONE, "")
    heads, row = said.rows()
    assert heads == ["WORKER", "ADDRESS", "READY", "STATE", "PID", "MODELS", "IN", "FLIGHT", "LOSSES"]
    assert row[0] == "w/0" and row[1].startswith("unix:") and row[2:] == ["2/2", "ready", str(gateway.worker_pid()), "2", "0", "0"]
    (worker,) = ask(gateway, "workers", "--json").json
    assert worker["name"] == "w/0" and [h["name"] for h in worker["held"]] == ["w/0", "w/0"]


def test_troubles_are_told(start):
    """A worker that is away, and what waits for it."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3', models='model "digits" { batch { policy = fixed max_rows = 2 } }')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    wires = [Wire(sluice.port, 60) for _ in range(6)]
    os.kill(pid, signal.SIGSTOP)
    try:
        for wire in wires:
            wire.send(post())
        wait_for(lambda: sluice.metric("sluice_in_flight") == 6)
        seen = lambda: next(r for r in ask(sluice, "models").rows() if r[0] == "digits")
        wait_for(lambda: int(seen()[5]) + int(seen()[6]) == 6)
        assert sum(int(r[-2]) for r in ask(sluice, "workers").rows()[1:]) > 0
    finally:
        os.kill(pid, signal.SIGCONT)
    for wire in wires:
        assert wire.read_answers(1, 30)[0][0] == 200
        wire.socket.close()


def test_output_that_cannot_be_written(gateway):
    with open("/dev/full", "wb") as full:
        said = ask(gateway, "status", stdout=full)
    assert said.status == REFUSED and "standard output: No space left on device" in said.err


# ---- tokens ------------------------------------------------------------------------------------------


def test_tokens(gateway, tmp_path):
    address = f"127.0.0.1:{gateway.admin_port}"
    said = run("--address", address, "status")
    assert said.status == REFUSED and not said.out and "refused (401)" in said.err and "--token-file" in said.err
    for wrong in ("open sesame, pleasE", TOKEN + "x", "0123456789abcdef"):
        said = run("--address", address, "status", SLUICE_TOKEN=wrong)
        assert said.status == REFUSED and not said.out and "is not its token" in said.err and wrong not in said.err
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    assert run("status", "--token-file", path, SLUICE_ADMIN=address, SLUICE_TOKEN="0123456789abcdef").status == DONE
    assert run("status", SLUICE_ADMIN=address, SLUICE_TOKEN_FILE=str(path)).status == DONE


def test_token_files_that_are_none(gateway, tmp_path):
    address, path = f"127.0.0.1:{gateway.admin_port}", tmp_path / "token"
    read = lambda **more: run("--address", address, "--token-file", path, "status", **more)
    said = read(SLUICE_TOKEN=TOKEN)  # the file was named: nothing else is tried
    assert said.status == UNANSWERED and said.err == f"sluicectl: token: {path}: No such file or directory\n"
    path.write_text(TOKEN)
    for mode in (0o644, 0o604, 0o660, 0o620):
        path.chmod(mode)
        said = read()
        assert said.status == UNANSWERED and f"its mode is {mode:04o}: expected 0640 or less" in said.err, said.err
    path.chmod(0)
    assert "Permission denied" in read(before=UNPRIVILEGED).err
    path.chmod(0o600)
    assert read().status == DONE
    path.write_text("short")
    assert "shorter than 16 bytes" in read().err
    path.unlink()
    path.mkdir()
    said = read()
    assert said.status == UNANSWERED and "Is a directory" in said.err


# ---- usage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, why",
    [
        ([], "no command"),
        (["stat"], 'unknown command "stat"'),
        (["--jsn", "status"], 'unknown option "--jsn"'),
        (["status", "now"], 'status: expected no word behind it, got "now"'),
        (["explain"], 'explain: expected a request id, 1 to 128 visible characters, got ""'),
        (["explain", "a b"], 'explain: expected a request id, 1 to 128 visible characters, got "a b"'),
        (["explain", "x" * 129], f'explain: expected a request id, 1 to 128 visible characters, got "{"x" * 80}"'),
        (["status", "--wait"], "status: --wait belongs to drain"),
        (["watch", "--once"], "watch: --once belongs to top"),
        (["loglevel", "a", "b"], 'loglevel: expected one word behind it at most, got "b" too'),
        (["level"], 'level: expected show or set or clear behind it, got ""'),
        (["level", "up"], 'level: expected show or set or clear behind it, got "up"'),
        (["level", "show", "digits"], 'level: expected one word behind it at most, got "digits" too'),
        (["level", "set", "digits", "7", "--for", "1m", "--why", "x"], 'level set: expected [MODEL] and a level from 0 to 4, got "7"'),
        (["level", "set", "digits", "2", "--why", "x"], 'level set: expected --for as "90s", "10m", "2h" or "1d", 30 days at most, got ""'),
        (["level", "clear", "a", "b"], 'level clear: expected one model at most, got "b" too'),
        (["status", "--why", "x"], "status: --for and --why belong to level set, --why to what changes an experiment"),
        (["experiment", "show", "size", "--revision", "1"], "experiment: --revision belongs to what changes an experiment"),
        (["experiment", "list", "size"], 'experiment list: expected no word behind it, got "size"'),
        (["experiment", "pause"], 'experiment pause: expected an experiment\'s name, got ""'),
        (["experiment", "pause", "../x"], 'experiment pause: expected an experiment\'s name, got "../x"'),
        (["experiment", "pause", "size", "now"], 'experiment pause: expected one name, got "now" too'),
        (["experiment", "pause", "size", "--revision", "-1"], '--revision: expected a whole number from 1, got "-1"'),
        (["experiment", "promote", "size"], 'experiment promote: expected a variant behind the name, got ""'),
        (["experiment", "weights", "size", "a=1%,"], 'experiment weights: expected VARIANT=SHARE, as "treatment=12.5%", or several with commas between, got "a=1%,"'),
        (["cache"], 'cache: expected stats or flush behind it, got ""'),
        (["cache", "clear"], 'cache: expected stats or flush behind it, got "clear"'),
        (["cache", "stats", "digits"], 'cache: expected one word behind it at most, got "digits" too'),
        (["cache", "flush", "digits", "now"], 'cache flush: expected one model at most, got "now" too'),
        (["status", "--address"], "--address needs a value"),
        (["status", "--address", "nowhere"], 'address: expected HOST:PORT, [IPV6]:PORT, unix:PATH or https://HOST:PORT, got "nowhere"'),
        (["status", "--timeout", "soon"], '--timeout: expected seconds from 0.01 to 3600, got "soon"'),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_usage(words, why):
    said = run(*words)
    assert said.status == UNANSWERED and not said.out
    assert said.err == f"sluicectl: {why}; see sluicectl --help\n"


def test_help_and_version():
    assert run("--help").status == DONE and run("-h", "nonsense").out == run("--help").out
    assert re.fullmatch(r"sluicectl \d+\.\d+\.\d+\n", run("--version").out)


# ---- no answer ---------------------------------------------------------------------------------------


def test_a_gateway_that_has_stopped(start):
    sluice = start()
    address = f"127.0.0.1:{sluice.admin_port}"
    assert sluice.stop() == 0
    for words in WORDS:
        said = run("--address", address, *words)
        assert said.status == UNANSWERED and not said.out
        assert said.err == f"sluicectl: {address}: Connection refused: is the gateway running, and is that its admin address?\n"


def test_a_gateway_that_hangs(start):
    """A process that stands still: the connection is taken by the kernel, and no answer comes."""
    sluice = start(top='watchdog = "5m"')
    pid = sluice.gateway_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        for words in WORDS:
            if "drain" in words:  # it lies in the socket, and is done when the process goes on
                continue
            said = ask(sluice, "--timeout", "0.3", *words)
            assert said.status == UNANSWERED and not said.out
            assert "a connection, and no answer within 0.3 s: the gateway hangs" in said.err
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: ask(sluice, "status").status == DONE, 30, "it goes on")


def test_a_loop_that_hangs(start):
    """The main thread answers, names the loop, and does what it is told; the loop hears of it when it goes on."""
    sluice = start(doors=True, top='watchdog = "60s"')
    sluice.door("wedge 1 10000")
    said = ask(sluice, "status")
    assert said.status == DONE and "\nloop 1 did not answer in time: it is stuck or very busy\n" in said.out
    assert [r.split()[:2] for r in said.out.split("\n\n")[2].splitlines()[1:3]] == [["0", "yes"], ["1", "no"]]
    assert {r[0] for r in ask(sluice, "models").rows()} == {"MODEL", "digits", "digits-small"}
    assert [h is None for h in ask(sluice, "workers", "--json").json[0]["held"]] == [False, True]
    assert ask(sluice, "loglevel", "debug").out == "debug (it was info)\n"
    assert ask(sluice, "drain", "--wait").status == DONE
    assert sluice.wait() == 0 and not sluice.find("gateway_stuck")


def test_other_addresses(tmp_path):
    said = run("--address", f"unix:{tmp_path}/none.sock", "status")
    assert said.status == UNANSWERED and "No such file or directory" in said.err
    said = run("--address", "no.such.host.invalid:9090", "status")
    assert said.status == UNANSWERED and said.err == "sluicectl: no.such.host.invalid:9090: its name could not be looked up\n"


def test_a_unix_socket(tmp_path):
    path = configuration(tmp_path)
    path.write_text(re.sub(r"admin \{ address = \S+", f'admin {{ address = "unix:{tmp_path}/admin.sock"', path.read_text()))
    with Program([SLUICE, "-c", path]) as sluice:
        sluice.wait_event("ready", timeout=30)
        said = run("--address", f"unix:{tmp_path}/admin.sock", "status", SLUICE_TOKEN=TOKEN)
        assert said.status == DONE and said.out.startswith("sluice ")
        assert run("--address", f"unix:{tmp_path}/admin.sock", "drain", "--wait", SLUICE_TOKEN=TOKEN).status == DONE
        assert sluice.wait() == 0


# ---- answers that are none ---------------------------------------------------------------------------


@contextlib.contextmanager
def double(answer, context=None):
    """Something on a port that says `answer` to each request and closes; None: nothing at all. Gives its port and what was asked."""
    asked, server = [], socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    over = threading.Event()

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            if context:
                connection = context.wrap_socket(connection, server_side=True)
            connection.settimeout(20)
            head = b""
            while b"\r\n\r\n" not in head:
                got = connection.recv(65536)
                if not got:
                    return
                head += got
            asked.append(head.decode())
            if answer is not None:
                connection.sendall(answer() if callable(answer) else answer)
            over.wait(0 if answer is not None else 20)

    def accept():
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1], asked
    finally:
        over.set()
        thread.join(5)
        server.close()


def http(body, status=b"200 OK", fields=b""):
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), fields, body)


@pytest.mark.parametrize(
    "answer, status, why",
    [
        (http(b"<html>it works</html>"), REFUSED, "what it answered is not JSON (line 1, column 1"),
        (http(b""), REFUSED, "what it answered is not JSON"),
        (http(b'{"models": [1, 2'), REFUSED, "what it answered is not JSON"),
        (http(b"\xff\xfe{}"), REFUSED, "what it answered is not JSON"),
        (http(b"[" * 100000), REFUSED, "what it answered is not JSON"),
        (http(b"{}"), REFUSED, "answered JSON that is no answer to "),
        (http(b'{"models": [3], "workers": "x", "loops": {}}'), REFUSED, "answered JSON that is no answer to "),
        (http(b"<h1>Bad gateway</h1>", b"502 Bad Gateway"), REFUSED, "status 502, and no reason: is that the admin address?"),
        (http(b'{"error":"no\\u001b[31m"}', b"503 x"), REFUSED, "refused (503): no?[31m"),
        (http(b"", b"302 Found", b"location: http://127.0.0.1:1/status\r\n"), REFUSED, "status 302, and no reason"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", UNANSWERED, "what it speaks is not HTTP"),
        (b"", UNANSWERED, "it closed the connection without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", UNANSWERED, "the connection broke off"),
        (None, UNANSWERED, "no answer within 0.5 s"),
    ],
    ids=lambda v: repr(v[:30]) if isinstance(v, bytes) else "",
)
def test_answers_that_are_none(answer, status, why):
    with double(answer) as (port, asked):
        for words in [w for w in WORDS if w[0] not in ("watch", "top")]:  # what is no stream stands with it
            for json_too in ([], ["--json"]):
                said = run("--address", f"127.0.0.1:{port}", "--timeout", "0.5" if answer is None else "20", *words, *json_too)
                assert (said.status, said.out) == (status, "") and why in said.err, (words, said.err)
                assert said.err.count("\n") == 1 and "\x1b" not in said.err
    assert {line.split()[1] for line in asked} == {
        "/status", "/v1/requests/some-id", "/v1/reload", "/v1/drain", "/v1/cache", "/v1/cache/flush", "/v1/loglevel", "/v1/levels",
            "/v1/experiments", "/v1/experiments/size", "/v1/experiments/size/pause",
    }


def test_an_answer_without_end():
    with double(lambda: http(b" " * (65 << 20))) as (port, _):
        said = run("--address", f"127.0.0.1:{port}", "--timeout", "30", "status")
    assert said.status == UNANSWERED and "an answer larger than is taken" in said.err


def test_the_token_goes_nowhere_else(tmp_path):
    """No proxy of the environment, no .netrc, no redirect."""
    (tmp_path / ".netrc").write_text("default login a password b\n")
    with double(http(b"{}")) as (other, seen):
        redirect = http(b"", b"307 Temporary Redirect", b"location: http://127.0.0.1:%d/status\r\n" % other)
        with double(redirect) as (port, asked):
            proxy = f"http://127.0.0.1:{other}"
            env = {"http_proxy": proxy, "HTTPS_PROXY": proxy, "ALL_PROXY": proxy, "all_proxy": proxy, "HOME": str(tmp_path)}
            assert run("--address", f"127.0.0.1:{port}", "status", SLUICE_TOKEN=TOKEN, **env).status == REFUSED
            assert run("--address", f"127.0.0.1:{port}", "status", **env).status == REFUSED
    assert not seen and len(asked) == 2
    assert f"Authorization: Bearer {TOKEN}\r\n" in asked[0] and "authorization" not in asked[1].lower()


@pytest.fixture
def certificate(tmp_path):
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"]
    subprocess.run(["openssl", *words.split(), *more], check=True, capture_output=True)
    return tmp_path / "cert", tmp_path / "key"


def test_behind_tls(certificate, gateway):
    """The admin listener speaks none itself: a proxy before it does. Its certificate is checked, and its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    page = httpx.get(f"http://127.0.0.1:{gateway.admin_port}/status", headers={"authorization": f"Bearer {TOKEN}"}).content
    with double(http(page), context) as (port, asked):
        said = run("--address", f"https://localhost:{port}", "--ca-file", certificate[0], "models", SLUICE_TOKEN=TOKEN)
        assert said.status == DONE and said.rows()[1][0] == "digits"
        assert f"Host: localhost:{port}\r\n" in asked[0]
        for words in (["--address", f"https://localhost:{port}"], ["--address", f"https://127.0.0.1:{port}", "--ca-file", certificate[0]],
                      ["--address", f"https://localhost:{port}", "--ca-file", certificate[0].parent / "none"]):  # fmt: skip
            said = run(*words, "models", SLUICE_TOKEN=TOKEN)
            assert said.status == UNANSWERED and said.err.startswith(f"sluicectl: {words[1]}: "), said.err
        said = run("--address", f"127.0.0.1:{port}", "--timeout", "2", "models", SLUICE_TOKEN=TOKEN)  # it speaks TLS, we do not
        assert said.status == UNANSWERED
    assert len(asked) == 1
    said = run("--address", f"https://localhost:{gateway.admin_port}", "status", SLUICE_TOKEN=TOKEN)  # and the other way round
    assert said.status == UNANSWERED and "SSL" in said.err


# ---- watching ----------------------------------------------------------------------------------------


class Watching:
    """sluicectl watch, line by line as they come."""

    def __init__(self, address, *words, token=TOKEN, command=("watch",)):
        env = dict({k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}, SLUICE_TOKEN=token)
        self.process = subprocess.Popen([CTL, "--address", address, *command, *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.errors = [], []
        self.threads = [threading.Thread(target=lambda f=f, to=to: to.extend(iter(f.readline, "")), daemon=True) for f, to in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for t in self.threads:
            t.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def sees(self, *words, timeout=20):
        return wait_for(lambda: next((line for line in list(self.lines) if all(w in line for w in words)), None), timeout, f"{words} among {self.lines} {self.errors}")

    def ends(self):
        status = self.process.wait(20)
        for t in self.threads:
            t.join(10)
        return status


def watch(sluice, *words):
    watching = Watching(f"127.0.0.1:{sluice.admin_port}", *words)
    wait_for(lambda: sluice.status_page()["event_readers"] > 0, 10, "it reads")
    return watching


def test_watch(start):
    sluice = start()
    with watch(sluice) as people, Watching(f"127.0.0.1:{sluice.admin_port}", "--json") as programs:
        wait_for(lambda: sluice.status_page()["event_readers"] == 2, 10, "both read")
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        line = people.sees("worker_down", "worker=w/0")
        assert re.match(r"\d\d:\d\d:\d\d\.\d\d\d  warn   worker_down        worker=w/0", line), line
        people.sees("worker_exited", "name=w replica=0", "signal=9")
        people.sees("replica_up", "model=digits")
        programs.sees('"worker_down"'), programs.sees('"worker_ready"')
        wait_for(lambda: all(json.loads(line) in sluice.events for line in programs.lines))
        people.process.send_signal(signal.SIGINT)
        programs.process.send_signal(signal.SIGTERM)
        assert people.ends() == programs.ends() == DONE and not people.errors and not programs.errors


def test_watch_ends_with_the_gateway(start):
    sluice = start()
    with watch(sluice) as watching:
        assert sluice.stop() == 0
        assert watching.ends() == DONE
        assert "draining" in watching.lines[0] and not watching.errors


def test_watch_over_a_crash(start):
    """Nothing is missed: how it ended, what came after."""
    sluice = start()
    with watch(sluice) as watching:
        ask(sluice, "loglevel", "debug")
        watching.sees("log_level")
        os.kill(sluice.gateway_pid(), signal.SIGKILL)
        watching.sees("gateway_exited", "signal=9")
        watching.sees("ready", "generation=1")
        watching.sees("worker_ready")
        assert sum("gateway_exited" in line for line in watching.lines) == 1
        assert len(watching.errors) == 1 and "the connection broke off; connecting again" in watching.errors[0]
        assert sluice.stop() == 0
        assert watching.ends() == DONE


def test_watch_a_gateway_that_does_not_come_back(start):
    sluice = start()
    with watch(sluice, "--timeout", "1") as watching:
        sluice.kill(signal.SIGKILL)
        sluice.wait()
        assert watching.ends() == UNANSWERED
        assert "connecting again" in watching.errors[0] and "is the gateway running" in watching.errors[-1]


def test_watch_is_refused(start, tmp_path):
    sluice = start()
    said = run("--address", f"127.0.0.1:{sluice.admin_port}", "watch")
    assert said.status == REFUSED and "refused (401)" in said.err and "--token-file" in said.err
    said = run("--address", f"127.0.0.1:{sluice.admin_port}", "watch", SLUICE_TOKEN=TOKEN + "x")
    assert said.status == REFUSED and "is not its token" in said.err
    said = run("--address", f"127.0.0.1:{sluice.port}", "watch", SLUICE_TOKEN=TOKEN)
    assert said.status == REFUSED and "refused (404)" in said.err
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen([CTL, "--address", f"127.0.0.1:{sluice.admin_port}", "watch"], env=dict(os.environ, SLUICE_TOKEN=TOKEN), stdout=full, stderr=subprocess.PIPE)
        wait_for(lambda: sluice.status_page()["event_readers"] == 1)
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        assert process.wait(20) == REFUSED and b"standard output: No space left" in process.stderr.read()


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    "answer, status, out, why",
    [
        (http(b"{}"), REFUSED, "", "answered what is no stream of events"),
        (http(b"<h1>Bad gateway</h1>", b"502 Bad Gateway"), REFUSED, "", "status 502, and no reason: is that the admin address?"),
        (http(b'{"error":"events: as many read them as may"}', b"503 x"), REFUSED, "", "refused (503): events: as many read them as may"),
        (STREAM + b"data: nonsense\n\n", REFUSED, "", "what it told is no event"),
        (STREAM + b"data: {}\n\n", REFUSED, "", "what it told is no event"),
        (STREAM + b'data: {"event":"a"}\n\ndata: ' + b"x" * (1 << 20), REFUSED, '{"event":"a"}\n', "what it told is no event"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", UNANSWERED, "", "what it speaks is not HTTP"),
        (b"", UNANSWERED, "", "it closed the connection without an answer"),
        (None, UNANSWERED, "", "no answer within 0.5 s"),
    ],
    ids=lambda v: repr(v[:40]) if isinstance(v, bytes) else "",
)
def test_what_is_no_stream(answer, status, out, why):
    with double(answer) as (port, asked):
        said = run("--address", f"127.0.0.1:{port}", "--timeout", "0.5" if answer is None else "20", "--json", "watch")
    assert (said.status, said.out) == (status, out) and why in said.err, said.err


def test_watch_goes_on_behind_the_last(tmp_path):
    """It says where it was, and that some are lost."""
    answers = iter([STREAM + b'id: a.7\ndata: {"event":"one"}\n\n: lost 3\n\n', STREAM + b'id: a.9\ndata: {"event":"two"}\n\nid: a.10\ndata: {"ev', http(b"", b"404 x")])
    with double(lambda: next(answers)) as (port, asked):
        said = run("--address", f"127.0.0.1:{port}", "watch", "--json", SLUICE_TOKEN=TOKEN)
    assert said.status == REFUSED and said.out == '{"event":"one"}\n{"event":"two"}\n' and "3 events were lost" in said.err
    assert ["Last-Event-ID: a.7\r\n" in a for a in asked] == [False, True, False] and "Last-Event-ID: a.9\r\n" in asked[2]


# ---- what it does ------------------------------------------------------------------------------------


def test_loglevel(start):
    sluice = start()
    assert ask(sluice, "loglevel").out == "info\n"
    assert ask(sluice, "loglevel", "debug").out == "debug (it was info)\n"
    assert httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
    sluice.wait_event("batch", level="debug")
    assert ask(sluice, "loglevel", "--json").json == {"level": "debug", "before": "debug"}
    for wrong in ("loud", "Debug", "", '"}', "x" * 500, b"\xff\xfe"):
        said = ask(sluice, "loglevel", wrong)
        assert said.status == REFUSED and not said.out and "refused (400)" in said.err, wrong
    assert "log level debug" in ask(sluice, "status").out
    assert ask(sluice, "loglevel", "error").status == DONE
    assert sluice.stop() == 0
    assert not sluice.find("stopped")  # the keeper has the level too


def test_drain_and_wait(start):
    """It comes back when the gateway has ended; who asks again cuts nothing short."""
    sluice = start(health='interval = "60s" timeout = "60s" failures = 3')
    sluice.wait_workers()
    pid = sluice.worker_pid()
    address = f"127.0.0.1:{sluice.admin_port}"
    os.kill(pid, signal.SIGSTOP)
    try:
        with Wire(sluice.port, 60) as wire:
            wire.send(post())
            wait_for(lambda: sluice.metric("sluice_in_flight") == 1)
            words = [CTL, "--address", address, "drain", "--wait"]
            waiting = subprocess.Popen(words, env=dict(os.environ, SLUICE_TOKEN=TOKEN), stdout=subprocess.PIPE)
            assert waiting.stdout.readline() == b"draining: requests are served for 0 s more, what runs then has 60 s to end\n"
            assert ask(sluice, "drain").out == "it drains already\n"
            assert " draining for " not in ask(sluice, "status").out and ", finishing for " in ask(sluice, "status").out
            assert waiting.poll() is None
            os.kill(pid, signal.SIGCONT)
            assert wire.read_answers(1, 30)[0][0] == 200
            assert waiting.wait(30) == DONE
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert sluice.wait() == 0 and not sluice.find("cut")
    assert sluice.find("drain_asked", client="127.0.0.1")


def test_wait_until_another_is_there():
    """Whoever starts again what ends is quick, so that nobody is ever away: another process is another gateway."""
    drain = b'{"already":false,"pid":7,"delay_ms":0,"timeout_ms":0}'
    pages = [drain] + [b'{"pid":7}'] * 3 + [b"{}", b"not yet", b'{"pid":8}']
    with double(lambda: http(pages[min(len(asked), len(pages)) - 1])) as (port, asked):
        said = run("--address", f"127.0.0.1:{port}", "drain", "--wait")
    assert said.status == DONE and len(asked) == len(pages)


def test_drain_without_waiting(start):
    sluice = start(drain_delay='"5s"')
    said = ask(sluice, "--json", "drain")
    assert said.status == DONE and said.json == {"already": False, "pid": sluice.gateway_pid(), "delay_ms": 5000, "timeout_ms": 60000}
    sluice.wait_event("draining", why="an operator's word")
    assert ", draining for " in ask(sluice, "status").out
    assert httpx.post(sluice.url + "/v2/models/digits/infer", content=GOOD_BODY).status_code == 200
    assert sluice.wait() == 0


# ---- documents ---------------------------------------------------------------------------------------


def complete(*words):
    """What bash offers for the last of the words."""
    script = 'source "$0" && COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) && _sluicectl && printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-uc", script, ROOT / "ctl/completion.bash", "sluicectl", *words], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return {line for line in done.stdout.split("\n") if line}


def options_of(program):
    """Long options, and single letters, that --help names."""
    text = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def test_completion(tmp_path):
    assert complete("") == COMMANDS
    assert complete("dr") == {"drain"} and complete("--json", "mo") == {"models"}
    assert complete("--timeout", "5", "st") == {"status"} and complete("--timeout", "=", "5", "st") == {"status"}
    assert complete("loglevel", "") == {"debug", "info", "warn", "error"} and complete("loglevel", "w") == {"warn"}
    assert complete("cache", "") == {"stats", "flush"} and complete("cache", "flush", "") == set()
    assert complete("status", "") == complete("explain", "") == set() and complete("--timeout", "") == set()
    options = options_of(CTL)
    assert complete("level", "") == {"show", "set", "clear"} and complete("level", "set", "digits", "--for", "1") == {"10m", "1h", "1d"}
    log, changes = {"--since", "--model", "--format", "--deployment", "--keep", "--config", "--password-file", "--cert-file", "--key-file", "--tls"}, {"--why", "--revision"}
    creates = {"--model", "--key", "--variant", "--start", "--why"}
    own = {"--wait", "--once", "--for", "--yes"} | creates | changes | log
    assert complete("-") == options - own == complete("level", "clear", "-") == complete("experiment", "show", "-")
    usual = options - own - {"-h"}
    assert complete("drain", "-") == usual | {"--wait"} and complete("top", "-") == usual | {"--once"} and complete("log", "tail", "-") == usual | log
    assert complete("level", "set", "-") == usual | {"--for", "--why"} and complete("experiment", "weights", "-") == usual | changes
    assert complete("experiment", "create", "-") == usual | creates and complete("experiment", "delete", "-") == usual | changes | {"--yes"}
    assert complete("experiment", "create", "READ") == {"README.md"}
    assert complete("experiment", "p") == {"pause", "promote"} and complete("experiment", "pause", "") == set()
    assert complete("log", "") == {"export", "tail", "archive"} and complete("log", "export", "x", "--format", "") == {"jsonl", "csv"}
    (tmp_path / "token of ours").touch()
    assert complete("--token-file", f"{tmp_path}/to") == {f"{tmp_path}/token of ours"}
    assert complete("--ca-file", "=", f"{tmp_path}/to") == {f"{tmp_path}/token of ours"}
    assert complete("--token-file", "=") >= {"Makefile"}
    registered = subprocess.run(["bash", "-c", 'source "$0" && complete -p sluicectl', ROOT / "ctl/completion.bash"], capture_output=True, text=True)  # fmt: skip
    assert registered.stdout.strip() == "complete -F _sluicectl sluicectl"


@pytest.mark.parametrize("program", [SLUICE, WORKER, CTL, BUILD / "sluice-bench"], ids=lambda p: p.name)
def test_man_pages_have_what_help_has(program):
    """Every option and command, none that is not there; and groff, where there is one, has nothing to say."""
    page = ROOT / "docs/man" / f"{program.name.removesuffix('-contracts')}.8"
    text = page.read_text().replace("\\-", "-")
    named = set(re.findall(r"^\.B[RI]? \"?(--?[a-z][a-z-]*)", text, re.M))
    assert named == options_of(program)
    if program == CTL:
        assert set(re.findall(r"^\.B[RI]? \"?([a-z]+)", text.split(".SH COMMANDS")[1].split(".SH")[0], re.M)) == COMMANDS
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", page], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
