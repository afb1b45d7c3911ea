"""A gateway of two is drained while clients ask: bare gRPC channels, and whatever speaks through HAProxy and nginx in each of
their modes. None of them fails, none is cut. SLUICE_DRAIN_CALLS says how many calls each client makes (10,000 is what the
gateway owes), over as many drains as that takes.
"""
import collections
import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time

import grpc
import httpx
import pytest
from harness import GOOD_BODY, Sluice, Worker, configuration, free_port, wait_for
from load import DIGITS, INFER, is_right

CALLS = int(os.environ.get("SLUICE_DRAIN_CALLS", "60"))
AROUND = 20  # calls of each client before a drain, and behind it
PATH = "/v2/models/digits/infer"
STAY = ("tcp", "pick_first")  # on one connection to one gateway, for as long as that lasts
SECONDS = 20  # for one call: nobody waits so long unless something is lost

pytestmark = pytest.mark.load


# ---- clients ---------------------------------------------------------------------------------------------


def http_client(port):
    """HTTP/1.1, one connection that is kept as long as the server keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(name):
        connection.request("POST", PATH, GOOD_BODY, {"content-type": "application/json", "x-request-id": name})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200 and is_right(0, body), (answer.status, body[:200])

    return ask


def http2_client(port):
    client = httpx.Client(http1=False, http2=True, timeout=SECONDS)

    def ask(name):
        answer = client.post(f"http://127.0.0.1:{port}{PATH}", content=GOOD_BODY, headers={"x-request-id": name})
        assert answer.status_code == 200 and is_right(0, answer.content), (answer.status_code, answer.content[:200])

    return ask


def grpc_call(channel, name):
    call = channel.unary_unary(INFER, lambda octets: octets, lambda octets: octets)
    assert DIGITS.is_right_grpc(0, call(DIGITS.message(0), timeout=SECONDS, metadata=[("x-request-id", name)]))


def own_channel(target, policy):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.lb_policy_name", policy)]
    return grpc.insecure_channel(target, options)


def grpc_client(target, policy="pick_first"):
    channel = own_channel(target, policy)
    return lambda name: grpc_call(channel, name)


def fresh_grpc_client(target, policy="pick_first"):
    """A channel for every call."""

    def ask(name):
        with own_channel(target, policy) as channel:
            grpc_call(channel, name)

    return ask


class Clients:
    """Threads that ask, one behind the other call, until they are told to stop."""

    def __init__(self, kinds, threads=2):
        self.done, self.failed, self.over = collections.Counter(), collections.defaultdict(list), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(kind, make()), daemon=True) for kind, make in kinds.items() for _ in range(threads)]
        self.kinds, self.lock, self.active, self.rest = list(kinds), threading.Lock(), 0, False

    def run(self, kind, ask):
        while not self.over.is_set():
            with self.lock:
                asks = not self.rest
                self.active += asks
            if not asks:
                self.over.wait(0.01)
                continue
            try:
                ask(kind)
            except Exception as e:
                self.failed[kind].append(repr(e)[:500])
                self.over.wait(0.05)
            with self.lock:
                self.done[kind] += 1
                self.active -= 1

    @contextlib.contextmanager
    def at_rest(self):
        """Nobody asks."""
        with self.lock:
            self.rest = True
        wait_for(lambda: self.active == 0, 60, "the last calls")
        yield
        self.rest = False

    def wait(self, more):
        """Until each of them has made so many calls more."""
        until = {kind: self.done[kind] + more for kind in self.kinds}
        wait_for(lambda: all(self.done[kind] >= n for kind, n in until.items()), 120, f"{more} calls each")

    def fewest(self):
        return min(self.done[kind] for kind in self.kinds)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for t in self.threads:
            t.join(60)


# ---- gateways --------------------------------------------------------------------------------------------


class Pair:
    """Two gateways before one worker; one after the other is drained, and comes again at its port."""

    def __init__(self, directory, worker):
        self.directory, self.worker, self.stack = directory, worker, contextlib.ExitStack()
        self.ports = [free_port(), free_port()]
        self.sluices = [self.start(0), self.start(1)]

    def start(self, n):
        more = {"drain_delay": "1s", "top": 'drain_timeout = "20s"', "addresses": [f"grpc://127.0.0.1:{self.worker.port}"]}
        config = configuration(self.directory / f"g{n}", address=f"127.0.0.1:{self.ports[n]}", **more)
        return self.stack.enter_context(Sluice(config))

    def heard(self, n):
        """Who has been answered there since its log was begun."""
        return collections.Counter(line.get("id") for line in self.sluices[n].access_log())

    def drain(self, n):
        self.sluices[n].kill(signal.SIGTERM)
        assert self.sluices[n].wait(40) == 0
        assert not self.sluices[n].find("cut")

    def again(self, n, kinds, clients):
        """It comes back, and everybody who shares calls out has seen it. (A start is no drain: until its workers have said
        what they have a gateway says that it is not ready, and bare channels do not ask whether it is.)"""
        (self.directory / f"g{n}" / "access.log").unlink()
        with clients.at_rest():
            self.sluices[n] = self.start(n)
            self.sluices[n].wait_workers()
        wait_for(lambda: not [k for k in kinds if not k.startswith(STAY) and not self.heard(n)[k]], 60, "all ask the one that came back")

    def assert_all_answered(self, kinds):
        said = [line for sluice in self.sluices for line in sluice.access_log() if line.get("id") in kinds]
        assert said and all(line["outcome"] == "ok" for line in said), [line for line in said if line["outcome"] != "ok"][:3]

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        return self.stack.__exit__(*failed)


def drained_under(pair, kinds):
    drains = 0
    with Clients(kinds) as clients:
        clients.wait(AROUND)
        while True:
            pair.drain(drains % 2)
            clients.wait(AROUND)
            pair.assert_all_answered(kinds)
            drains += 1
            if clients.fewest() >= CALLS or any(clients.failed.values()):
                break
            pair.again((drains - 1) % 2, kinds, clients)
            clients.wait(min(CALLS - clients.fewest(), CALLS // 5, 2000))
    print(f"{drains} drains: " + ", ".join(f"{kind}: {len(clients.failed[kind])} of {clients.done[kind]} failed" for kind in kinds))
    assert not any(clients.failed.values()), {kind: (len(why), why[:3]) for kind, why in clients.failed.items() if why}


@pytest.fixture
def pair(tmp_path):
    with Worker() as worker, Pair(tmp_path, worker) as two:
        yield two


# ---- proxies ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy(program, words, ports):
    """A program of others, until it accepts on these ports; told to end at the end, so that its own children do, too."""
    process = subprocess.Popen([program, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        for port in ports:
            wait_for(lambda p=port: socket.create_connection(("127.0.0.1", p), 1).close() or True, 10, f"{program} at {port}")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def need(program):
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"{program} is not installed (tools/setup.sh bench installs it)")
    return found


HAPROXY = """
global
    maxconn 2000
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 10s
    default-server inter 100ms fall 1 rise 1
    option httpchk
    http-check send meth GET uri /v2/health/ready ver HTTP/1.1 hdr host gateway
listen h1
    bind 127.0.0.1:{0}
    server a 127.0.0.1:{a} check
    server b 127.0.0.1:{b} check
listen h1-closed
    bind 127.0.0.1:{1}
    option httpclose
    server a 127.0.0.1:{a} check
    server b 127.0.0.1:{b} check
listen h2
    bind 127.0.0.1:{2}
    server a 127.0.0.1:{a} proto h2 check check-proto h2
    server b 127.0.0.1:{b} proto h2 check check-proto h2
listen tcp
    mode tcp
    bind 127.0.0.1:{3}
    server a 127.0.0.1:{a} check
    server b 127.0.0.1:{b} check
"""


def test_behind_haproxy(pair, tmp_path):
    program, (a, b), ports = need("haproxy"), pair.ports, [free_port() for _ in range(4)]
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(*ports, a=a, b=b))
    h1, closed, h2, tcp = ports
    kinds = {
        "h1": lambda: http_client(h1),
        "h1-closed": lambda: http_client(closed),
        "h2-to-h1": lambda: http2_client(h1),
        "h1-to-h2": lambda: http_client(h2),
        "h2": lambda: http2_client(h2),
        "grpc": lambda: grpc_client(f"127.0.0.1:{h2}"),
        "tcp-h1": lambda: http_client(tcp),
        "tcp-grpc": lambda: grpc_client(f"127.0.0.1:{tcp}"),
    }
    with proxy(program, ["-db", "-q", "-f", tmp_path / "haproxy.cfg"], ports):
        drained_under(pair, kinds)


# fail_timeout: the time in which a server that came back is not asked.
NGINX = """
worker_processes 1;
daemon off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000;
    upstream kept {{ server 127.0.0.1:{a} fail_timeout=1s; server 127.0.0.1:{b} fail_timeout=1s; keepalive 16; }}
    upstream single {{ server 127.0.0.1:{a} fail_timeout=1s; server 127.0.0.1:{b} fail_timeout=1s; }}
    upstream grpcs {{ server 127.0.0.1:{a} fail_timeout=1s; server 127.0.0.1:{b} fail_timeout=1s; keepalive 16; }}
    server {{
        listen 127.0.0.1:{0};
        location / {{ proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host gateway; }}
    }}
    server {{
        listen 127.0.0.1:{1};
        location / {{ proxy_pass http://single; proxy_set_header Host gateway; }}
    }}
    server {{
        listen 127.0.0.1:{2} http2;
        location / {{ grpc_pass grpc://grpcs; }}
        location /v2/ {{ proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host gateway; }}
    }}
}}
"""


def test_behind_nginx(pair, tmp_path):
    program, (a, b), ports = need("nginx"), pair.ports, [free_port() for _ in range(3)]
    (tmp_path / "nginx.conf").write_text(NGINX.format(*ports, dir=tmp_path, a=a, b=b))
    kept, single, h2 = ports
    kinds = {
        "h1-kept": lambda: http_client(kept),
        "h1.0": lambda: http_client(single),
        "h2-to-h1": lambda: http2_client(h2),
        "grpc": lambda: grpc_client(f"127.0.0.1:{h2}"),
    }
    with proxy(program, ["-p", tmp_path, "-c", tmp_path / "nginx.conf"], ports):
        drained_under(pair, kinds)


# ---- nothing between -------------------------------------------------------------------------------------


def test_bare_channels(pair):
    both = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in pair.ports)
    kinds = {
        "round_robin": lambda: grpc_client(both, "round_robin"),
        "pick_first": lambda: grpc_client(both),
        "fresh": lambda: fresh_grpc_client(both, "round_robin"),
    }
    drained_under(pair, kinds)


def test_who_comes_while_it_drains_is_served(start):
    """One gateway, and nobody else: channels that are there, and new ones, until drain_delay is over."""
    sluice = start(drain_delay="8s")
    kept, there = own_channel(f"127.0.0.1:{sluice.port}", "pick_first"), http2_client(sluice.port)
    grpc_call(kept, "before")
    there("before")
    sluice.kill(signal.SIGTERM)
    begun = time.monotonic()
    sluice.wait_event("draining")
    assert sluice.get("/v2/health/ready")[0] == 503
    calls = 0
    while calls < 10 and time.monotonic() < begun + 4:
        grpc_call(kept, "kept")
        there("kept")
        fresh_grpc_client(f"127.0.0.1:{sluice.port}")("fresh")
        http2_client(sluice.port)("fresh")
        calls += 1
    assert calls > 0 and time.monotonic() < begun + 8
    kept.close()
    assert sluice.wait() == 0
    assert {line["status"] for line in sluice.access_log() if line.get("id") in ("kept", "fresh")} == {200}
