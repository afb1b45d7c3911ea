"""Actors of the integration tests: sluice, sluice-worker, clients that send bytes.

Programs come from $SLUICE_BUILD (build), so that the same tests run on sanitizer builds; $SLUICE_PROGRAM names
another gateway there (sluice-contracts: watched), $SLUICE_WORKER another worker, $SLUICE_PREFIX words that stand
before sluice. Nobody sleeps here: wait_for asks until a condition holds, and fails with the value that it last saw.
Time-outs are seconds of a quiet machine: a busy one, and sanitizers, are given more (patient).
"""
import contextlib
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", ROOT / "build"))
SLUICE = BUILD / os.environ.get("SLUICE_PROGRAM", "sluice")
SLUICE_DOORS = BUILD / "sluice-doors"  # the same with debug doors (gateway/doors.h)
SLUICE_CONTRACTS = BUILD / "sluice-contracts"  # with doors, and watched (tests/conformance/contracts.h)
WORKER = pathlib.Path(os.environ.get("SLUICE_WORKER", BUILD / "sluice-worker"))
PREFIX = os.environ.get("SLUICE_PREFIX", "").split()
SANITIZED = BUILD.name in ("asan", "tsan")
MODELS = ROOT / "models"
WORKER_DOUBLE = ROOT / "tests" / "faults" / "worker.py"  # a worker that does what it is told
SAMPLES = json.loads((MODELS / "samples.json").read_text())
DEATHS = ("contract broken", "AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:", "invariant")


# Words before a program that the modes of files are to stop, even when the tests are run by root.
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []


def patient(timeout):
    """How long is waited for what a quiet machine does within so many seconds. Only a failure takes all of it."""
    return min(5 * timeout, max(timeout, 120))


def wait_for(condition, timeout=10.0, what="condition"):
    """Asks until condition() is true; its last value stands in the failure."""
    timeout = patient(timeout)
    until, seen = time.monotonic() + timeout, None
    while True:
        try:
            seen = condition()
        except (OSError, LookupError, ValueError) as e:
            seen = e
        if seen and not isinstance(seen, Exception):
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"{what}: not within {timeout} s; last seen: {seen!r}")
        time.sleep(0.01)


PORTS = itertools.count(random.SystemRandom().randrange(1000))


def free_port():
    """A port whose server may go and come back: below those that the kernel gives to whoever wants any, another one with
    each call, and of a range of its own in each of the processes that run tests side by side. Port + 10000 is free as
    well (a Redis Cluster's node listens there)."""
    side = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0")))
    for _ in range(1000):
        port = 12000 + side % 10 * 1000 + next(PORTS) % 1000
        with socket.socket() as a, socket.socket() as b, contextlib.suppress(OSError):
            a.bind(("127.0.0.1", port))
            b.bind(("127.0.0.1", port + 10000))
            return port
    raise AssertionError("no port is free")


def best_of(measure, bound, tries=5):
    """A bound on a time that the product owes and a busy machine may miss now and then: one of a few tries keeps
    it, or all that were taken stand in the failure."""
    taken = []
    for _ in range(tries):
        taken.append(measure())
        if taken[-1] < bound:
            return
    raise AssertionError(f"never within {bound}: {taken}")


class Program:
    """A child with its standard error read line by line; JSON lines are events."""

    def __init__(self, words, cwd=ROOT, env=None, limits=()):
        self.lines, self.events = [], []
        self.process = subprocess.Popen(
            list(limits) + [str(w) for w in words],
            cwd=cwd,
            env=dict(os.environ, **(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stderr:
            line = line.decode(errors="replace").rstrip()
            self.lines.append(line)
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self.events.append(event)

    @property
    def pid(self):
        return self.process.pid

    @property
    def text(self):
        return "\n".join(self.lines)

    def find(self, event, **fields):
        """The events of that name with these fields, oldest first."""
        found = [e for e in list(self.events) if e.get("event") == event]
        return [e for e in found if all(e.get(k) == v for k, v in fields.items())]

    def wait_event(self, event, timeout=10.0, count=1, **fields):
        def enough():
            found = self.find(event, **fields)
            if len(found) < count and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {event}:\n{self.text}")
            return found if len(found) >= count else None

        try:
            return wait_for(enough, timeout, f"event {event}")[-1]
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.text}") from None

    def kill(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30.0):
        """Its exit status."""
        timeout = patient(timeout)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still there after {timeout} s:\n{self.text}") from None
        self.reader.join(5)
        return status

    def stop(self, number=signal.SIGTERM, timeout=30.0):
        if self.process.poll() is None:
            self.kill(number)
        return self.wait(timeout)

    def assert_clean(self):
        for word in DEATHS:
            assert word not in self.text, self.text

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patient(20))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(5)
        if kind is None:
            self.assert_clean()
        elif self.lines:
            print(self.text)


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def worker_command(repository, *more, unless=None):
    """unless: a path; while something is there the process ends at once, as often as it is started."""
    words = [str(WORKER), "--repository", str(repository), "--device", "cpu", "--threads", "1", *more]
    if unless:
        words = ["sh", "-c", "[ ! -e $0 ] || exit 1; exec $@", str(unless), *words]
    return ", ".join(f'"{w}"' for w in words)


def configuration(
    directory,
    repository=MODELS,
    addresses=None,
    loops=2,
    replicas=1,
    models="",
    limits="",
    top="",
    listen="",
    log=None,
    health='interval = "100ms" timeout = "1s" failures = 2',
    address="127.0.0.1:0",
    drain_delay="0",
    worker_rules="",
    unless=None,
):
    """Writes a gateway.conf and gives its path."""
    if addresses:
        worker = "addresses = {%s}" % ", ".join(f'"{a}"' for a in addresses)
    else:
        worker = "command = {%s} replicas = %d" % (worker_command(repository, unless=unless), replicas)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "token").write_text("open sesame, please\n")
    text = f"""
loops = {loops}
drain_delay = {drain_delay}
runtime_dir = "{tempfile.gettempdir()}"
{top}
listen "public" {{ address = "{address}" {listen} }}
admin {{ address = "127.0.0.1:0" token_file = "{directory}/token" }}
worker "w" {{ {worker} {worker_rules} }}
{models}
limits {{ {limits} }}
log {{ access = "{log or directory / 'access.log'}" }}
health {{ {health} }}
"""
    path = directory / "gateway.conf"
    path.write_text(text)
    return path


class Sluice(Program):
    """The keeper and all that it starts, listening on ports of its own choice."""

    def __init__(self, config, wait_models=("digits",), program=SLUICE, **more):
        super().__init__([*PREFIX, program, "-c", config], **more)
        self.config = config
        try:
            self.port = port_of(self.wait_event("listening", name="public")["address"])
            self.admin_port = port_of(self.wait_event("listening", name="admin")["address"])
            self.wait_event("ready", timeout=30)
            for model in wait_models:
                self.wait_model(model)
        except BaseException:
            print(self.text)
            self.process.kill()
            raise

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def wait_model(self, model, timeout=60.0):
        wait_for(lambda: self.get(f"/v2/models/{model}/ready")[0] == 200, timeout, f"model {model}")

    def get(self, path, port=None, headers=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    def metrics(self):
        """{'name{labels}': value}"""
        status, text = self.get("/metrics", self.admin_port)
        assert status == 200
        rows = [r.rsplit(" ", 1) for r in text.decode().split("\n") if r and not r.startswith("#")]
        return {name: float(value) for name, value in rows}

    def metric(self, name, **labels):
        """The sum over all series of that name that carry these labels."""
        total = 0.0
        for series, value in self.metrics().items():
            words = [f'{k}="{v}"' for k, v in labels.items()]
            if series.split("{")[0] == name and all(w in series for w in words):
                total += value
        return total

    def status_page(self):
        status, text = self.get("/status", self.admin_port, {"authorization": "Bearer open sesame, please"})
        assert status == 200, text
        return json.loads(text)

    def wait_workers(self):
        """Every loop has its connection to every worker, and has asked what it wants to know: one model may be
        ready before. Until then a worker that stands still is not one that went down."""
        count = lambda **labels: self.metric("sluice_worker_connections", **labels)
        wait_for(lambda: count() == count(state="ready") > 0, 60, "all workers ready")

    def settle(self):
        """The answers that are here are in all counts: every loop has ended the turns in which it gave them. (A client may
        have its answer a little sooner than the loop has counted it.)"""
        wait_for(lambda: all(loop["answered"] for loop in self.status_page()["loops"]), 20, "every loop answers")

    def wait_idle(self):
        """No request, stream, row or connection is held any more."""
        for name in ("in_flight", "streams", "queue_rows", "running_rows", "connections"):
            wait_for(lambda n=name: self.metric("sluice_" + n) == 0, 15, f"{name} 0")

    def worker_pid(self):
        return self.wait_event("worker_started")["pid"]

    def gateway_pid(self):
        return self.wait_event("gateway_started")["pid"]

    def access_log(self):
        lines = (self.config.parent / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines]


class DooredSluice(Sluice):
    """The same with debug doors: door("hold digits"). What they can do stands in gateway/doors.h."""

    def __init__(self, config, program=SLUICE_DOORS, env=None, **more):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="sluice-doors-"))
        self.doors = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.doors.settimeout(60)
        self.doors.bind(str(self.directory / "test"))
        env = {"SLUICE_DOORS": str(self.directory / "gateway"), **(env or {})}
        super().__init__(config, program=program, env=env, **more)

    def try_door(self, command):
        """What the gateway says to it: "ok", when every loop has done it, or "error: ..."."""
        self.doors.sendto(command.encode(), str(self.directory / "gateway"))
        return self.doors.recv(1000).decode()

    def door(self, command):
        said = self.try_door(command)
        assert said == "ok", (command, said)

    def __exit__(self, *more):
        super().__exit__(*more)
        self.doors.close()
        shutil.rmtree(self.directory)


class Worker(Program):
    """sluice-worker alone, on a TCP port of its choice."""

    def __init__(self, repository=MODELS, *more):
        words = [WORKER, "--repository", repository, "--device", "cpu", "--threads", "1"]
        super().__init__([*words, "--listen", "127.0.0.1:0", *more])
        self.port = port_of(self.wait_event("listening", timeout=60)["address"])
        ready = f"http://127.0.0.1:{self.port}/v2/health/ready"

        def up():
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.text}")
            return urllib.request.urlopen(ready, timeout=5).status == 200

        wait_for(up, 60, "worker ready")


def copy_model(source, repository, name, version="1"):
    target = repository / name / version
    target.mkdir(parents=True)
    shutil.copyfile(source, target / "model.onnx")


def gone(pid):
    """That process has ended (or waits to be reaped)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def memory_kib(pid, row="VmRSS"):
    """Resident now; with row="VmHWM" at its peak."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{row}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {row} of {pid}")


# ---- bytes ----------------------------------------------------------------------------------------


def infer_body(rows, tensor="input", **more):
    flat = [v for row in rows for v in row]
    tensor = {"name": tensor, "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": flat}
    return json.dumps({"inputs": [tensor], **more}).encode()


GOOD_BODY = infer_body([SAMPLES[0]["input"]])


def post(body=GOOD_BODY, path="/v2/models/digits/infer", fields=b"", close=True, length=True):
    """The bytes of a good request, with `fields` (whole lines) among its header."""
    head = b"POST %s HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\n" % path.encode()
    if length:
        head += b"Content-Length: %d\r\n" % len(body)
    if close:
        head += b"Connection: close\r\n"
    return head + fields + b"\r\n" + body


class Wire:
    """One TCP connection; what came back is kept, with the answers in it."""

    def __init__(self, port, timeout=60.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.data, self.closed, self.started = b"", False, time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, octets):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(octets)
        return self

    def take(self, timeout):
        """One read; False at the end of the connection or when nothing came in time."""
        self.socket.settimeout(timeout)
        try:
            got = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            got = b""
        except TimeoutError:
            return False
        self.data += got
        self.closed = not got
        return bool(got)

    def read_until_closed(self, timeout=10.0):
        until = time.monotonic() + patient(timeout)
        while not self.closed and time.monotonic() < until:
            self.take(max(0.01, until - time.monotonic()))
        return self

    def read_answers(self, count, timeout=10.0):
        until = time.monotonic() + patient(timeout)
        while not self.closed and len(self.answers()) < count and time.monotonic() < until:
            self.take(max(0.01, until - time.monotonic()))
        answers = self.answers()
        assert len(answers) >= count, f"{len(answers)} answers of {count}, then {self.data[-300:]!r}"
        return answers

    def answers(self):
        return parse_answers(self.data)


def parse_answers(data):
    """[(status, {name: value}, body)] of the whole answers in data; 100 Continue is left out."""
    answers = []
    while b"\r\n\r\n" in data:
        head, rest = data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        if not lines[0].startswith("HTTP/1."):
            break
        status = int(lines[0].split()[1])
        fields = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:])}
        if status == 100:
            data = rest
            continue
        if "content-length" in fields:
            n = int(fields["content-length"])
            if len(rest) < n:
                break
            body, data = rest[:n], rest[n:]
        elif fields.get("transfer-encoding") == "chunked":
            body = b""
            while True:
                size, _, rest = rest.partition(b"\r\n")
                n = int(size or b"0", 16)
                body, rest = body + rest[:n], rest[n + 2 :]
                if n == 0:
                    break
            data = rest
        else:
            body, data = b"", rest
        answers.append((status, fields, body))
    return answers
