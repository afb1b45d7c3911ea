"""Reloads of everything that a reload can change, one after the other, while h2load, HTTP/1.1, HTTP/2 and gRPC clients run: none
fails, none is reset, and what the processes hold does not grow. SLUICE_RELOADS says how many (500 is what the gateway owes)."""
import os
import ssl
import threading

import httpx
import pytest
from harness import GOOD_BODY, SANITIZED, free_port, memory_kib, wait_for
from hostile import descriptors
from load import Load
from test_evidence import assert_all_answered
from test_listeners import listeners, section, served
from test_load import h2load
from test_reload import RULES, children, configured, reload, threads
from test_tls import certificate

TIMES = int(os.environ.get("SLUICE_RELOADS", "10" if SANITIZED else "40"))
# What a worker section may say beside its command: one after the other, where workers can change while the gateway runs.
WORKERS = ["replicas = 1", "replicas = 2", "replicas = 2 timeout = 20s"]
# What stands for digits: nobody, and then two names of it, by other keys, with other weights, in a layer.
EXPERIMENTS = [""] + [
    f'{layer} experiment "e" {{ model = "digits" {keys} variant "a" {{ model = "digits" weight = {a} }} variant "b" {{ model = "digits" weight = {b} }} }}'
    for layer, keys, a, b in (
        ("", "", "90%", "10%"),
        ("", 'key = "header:user-agent"', "{90%, 20%}", "{10%, 80%}"),
        ('layer "l" { key = "api-key" }', 'layer = "l" to = 50%', "0%", "100%"),
    )
]
KIB = {"gateway": 6 << 10, "keeper": 1 << 10}  # of noise: glibc's arenas, blocks at hand

pytestmark = pytest.mark.load


class Turns:
    """The file's n-th version: rules, listeners that come, move, turn to TLS and go, workers."""

    def __init__(self, sluice, directory):
        self.sluice, self.base, self.port = sluice, sluice.config.read_text(), free_port()
        self.pki = directory / "pki"
        cert, key = certificate(self.pki)
        self.tls = f'certificate = "{cert}" key = "{key}"'
        self.cert = cert
        fixed = f"127.0.0.1:{self.port}"
        self.kinds = [section("second", fixed), section("second", fixed, self.tls), section("renamed", fixed, self.tls + " expose = off"), section("second", fixed), "", section("second"), section("local", f"unix:{directory}/s"), ""]

    def text(self, n):
        listen = self.kinds[n % len(self.kinds)] + section("tls", more=self.tls)
        rules = RULES[n % len(RULES)]
        worker = self.base.replace("replicas = 1", WORKERS[n % len(WORKERS)])
        return f"{worker}\n{listen}\n{rules}\n{EXPERIMENTS[n % len(EXPERIMENTS)]}\nlimits {{ max_body = {32 + n % 2}MiB }}\n".replace("limits {  }", "")

    def step(self, n):
        if n % 7 == 0:
            certificate(self.pki)  # written over
        self.sluice.config.write_text(self.text(n))
        reload(self.sluice)
        kind = n % len(self.kinds)
        if kind in (0, 3):
            assert served(self.port) == 200
        if kind in (1, 2):
            trusts = ssl.create_default_context(cafile=str(self.cert))
            assert httpx.post(f"https://127.0.0.1:{self.port}/v2/models/digits/infer", content=GOOD_BODY, verify=trusts, timeout=20).status_code == 200


class Pushed:
    """h2load, run after run; each must end with nothing but successes."""

    def __init__(self, sluice, body):
        self.sluice, self.body, self.runs, self.failed = sluice, body, 0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.over.is_set() and not self.failed:
            try:
                ended = h2load(self.sluice, self.body, 500, conns=4)
            except BaseException as e:
                self.failed.append(repr(e))
                return
            self.runs += 1
            if ended["requests"]["succeeded"] != 500 or ended["status codes"]["2xx"] != 500:
                self.failed.append(ended)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join(120)


class Held:
    """Memory, descriptors and threads of gateway and keeper."""

    def __init__(self, sluice):
        self.pids = {"gateway": sluice.gateway_pid(), "keeper": sluice.process.pid}

    def now(self):
        return {name: (memory_kib(pid), descriptors(pid), threads(pid)) for name, pid in self.pids.items()}

    def assert_no_more(self, before):
        def no_more():
            now = self.now()
            return all(now[k][1] <= before[k][1] and now[k][2] <= before[k][2] and (SANITIZED or now[k][0] <= before[k][0] + KIB[k]) for k in now)

        try:
            wait_for(no_more, 20)
        except AssertionError:
            raise AssertionError(f"before {before}, now {self.now()}") from None


def test_reloads_under_load(start, tmp_path):
    sluice = start()
    body = tmp_path / "digit.json"
    body.write_bytes(GOOD_BODY)
    turns, held = Turns(sluice, tmp_path), Held(sluice)
    warm = min(TIMES // 4, 50)
    with Load(sluice.port, h1=2, h2=2, grpc=2, streams=4) as load, Pushed(sluice, body) as pushed:
        for n in range(warm):
            turns.step(n)
    sluice.config.write_text(turns.base)
    rest(sluice, warm + 1)
    before = held.now()
    with Load(sluice.port, h1=2, h2=2, grpc=2, streams=4) as more, Pushed(sluice, body) as pushed:
        for n in range(warm, TIMES):
            turns.step(n)
            more.wait(3)
    for one in (load, more):
        assert_all_answered(one)
    assert not pushed.failed and pushed.runs > 0, pushed.failed
    sluice.config.write_text(turns.base)
    rest(sluice, TIMES + 2)
    held.assert_no_more(before)
    assert not sluice.find("gateway_exited") and not sluice.find("reload_refused") and not sluice.find("listener_cut")
    print(f"{TIMES} reloads, {sum(load.outcomes.values()) + sum(more.outcomes.values())} answers, {pushed.runs} runs of h2load, before {before}, after {held.now()}")
    assert sluice.stop() == 0


def rest(sluice, reloads):
    """By the first file again; nothing of the others is held."""
    reload(sluice)
    wait_for(lambda: listeners(sluice) == [("public", "serving")], 20, "they are gone")
    wait_for(lambda: configured(sluice)["older"] == [], 20, "all are let go of")
    assert configured(sluice)["generation"] == reloads + 1
    sluice.wait_workers()
    wait_for(lambda: children(sluice.pid) == 2, 20, "one worker is left")
    sluice.wait_idle()
