"""Part of bench/run.py: CPU of the gateway per request beside other proxies, by what clients speak.

h2c   two HTTP/2 connections' worth of streams without TLS; beside nghttpx
tls   the same over TLS 1.3; beside nghttpx
h1    HTTP/1.1, a request at a time on each connection; beside nginx, HAProxy and nghttpx

All stand on one core in turn, with one loop, worker or thread each and access logs on; the load and what
answers behind them share the other. Rounds alternate; the first, short, warms up.
"""
import collections
import statistics

import world
from world import harness

ROUNDS = 3
# conns of streams; bar: our CPU per request to that of the best rival, at most
Front = collections.namedtuple("Front", "name head conns streams rivals bar")
FRONTS = (
    Front("h2c", "h2c, 16 connections of 16 streams", 16, 16, ("nghttpx",), 0.42),
    Front("tls", "HTTP/2 over TLS 1.3, 16 connections of 16 streams", 16, 16, ("nghttpx",), 0.45),
    Front("h1", "HTTP/1.1, 32 connections", 32, 1, ("nginx", "haproxy", "nghttpx"), None),
)


class Target:
    """A program that is measured: its processes, and a port for each front."""

    def __init__(self, name, pid, ports, children=True, process=None):
        self.name, self.pid, self.ports, self.children, self.process = name, pid, ports, children, process

    def cpu_us(self):
        return world.cpu_us(self.pid, children=self.children)


def proxy(bench):
    measured, others = world.cores()
    count = bench.requests or (2000 if bench.small else 100000)
    bench.requests_file()
    cert, key = world.certificate(bench.directory)
    top = f'listen "tls" {{ address = "127.0.0.1:0" certificate = "{cert}" key = "{key}" }}'
    with bench.gateway("proxy", loops=1, top=top) as sluice:
        answer = one_answer(sluice, bench.body)
        tls = harness.port_of(sluice.wait_event("listening", name="tls")["address"])
        ours = Target("sluice", sluice.gateway_pid(), {"h2c": sluice.port, "tls": tls, "h1": sluice.port}, children=False)
        world.pin(ours.pid, measured)
        world.pin(sluice.worker_pid(), others)
        nginx, backend = world.nginx_backend(bench.directory, answer)
        rivals = []
        try:
            world.pin(nginx.pid, others)
            rivals += start_rivals(bench, backend, cert, key)
            for rival in rivals:
                world.pin(rival.pid, measured)
            for front in FRONTS:
                table(bench, front, count, len(answer), rounds(bench, front, count, others, [ours, *rivals], sluice))
        finally:
            for process in [*(r.process for r in rivals), nginx]:
                world.stop(process)
        assert sluice.stop() == 0, sluice.text


def one_answer(sluice, body):
    with harness.Wire(sluice.port) as wire:
        wire.send(harness.post(body.read_bytes()))
        return wire.read_answers(1)[0][2].decode()


def start_rivals(bench, backend, cert, key):
    """Those that are installed; one that a table lacks is named there."""
    for name, start in (("nghttpx", world.nghttpx), ("nginx", world.nginx_proxy), ("haproxy", world.haproxy)):
        try:
            process, ports = start(bench.directory, backend, cert, key)
            yield Target(name, process.pid, ports, process=process)
        except world.Missing as e:
            bench.report.say(f"{e}\n")


def rounds(bench, front, count, others, targets, sluice):
    """{target's name: [CPU us a request]}, and of sluice [rows a batch]"""
    cpu, batches = collections.defaultdict(list), []
    for r in range(ROUNDS + 1):
        n = count if r else max(1000, count // 10)
        for target in targets:
            if target.name not in ("sluice", *front.rivals):
                continue
            rows, number, before = *world.batch_sums(sluice), target.cpu_us()
            ask(bench, front, target, n, others)
            used = target.cpu_us() - before
            if r:
                cpu[target.name].append(used / n)
            if r and target.name == "sluice":
                now = world.batch_sums(sluice)
                batches.append((now[0] - rows) / max(1, now[1] - number))
    return cpu, batches


def ask(bench, front, target, n, core):
    """Load in which nothing may go wrong; over h2c our answers are compared with their references."""
    port = target.ports[front.name]
    if front.name == "h2c":
        bench.load(port, n, core=core, check=100 if target.name == "sluice" else 0)
        return
    _, bad, _ = world.h2load(port, n, bench.body, front.conns, front.streams, tls=front.name == "tls", h1=front.name == "h1", core=core)
    if bad:
        bench.report.demand(False, f"every request to {target.name} over {front.name} answered with 200: {bad} were not", figure=False)


def table(bench, front, count, answer_bytes, measured):
    cpu, batches = measured
    say, names = bench.report.say, [n for n in ("sluice", *front.rivals) if cpu[n]]
    say(f"## CPU of the gateway per request: {front.head}")
    say()
    say(f"{count:,} requests a round ({len(bench.body.read_bytes())} bytes each, answers {answer_bytes}).")
    say()
    rows = [(r + 1, *(f"{cpu[n][r]:.2f}" for n in names), f"{batches[r]:.1f}") for r in range(ROUNDS)]
    median = {n: statistics.median(cpu[n]) for n in names}
    rows.append(("median", *(f"{median[n]:.2f}" for n in names), f"{statistics.median(batches):.1f}"))
    bench.report.table(("round", *(f"{n} us" for n in names), "rows a batch of ours"), rows)
    if len(names) > 1:
        best = min(names[1:], key=median.get)
        ratio = median["sluice"] / median[best]
        sentence = f"CPU per request over {front.name} beside the best, {best}"
        if front.bar:
            bench.report.demand(ratio <= front.bar, f"{sentence}, at most {front.bar}: {ratio:.2f}")
        else:
            say(f"{sentence}: {ratio:.2f}")
    say()
