"""Part of bench/run.py: clients that ask again as soon as they are answered, under `auto` and under `fixed`.

32 of them over HTTP/1.1 on one loop, nothing pinned, the rules in turn. Twice: `digits` on sluice-worker, where a batch costs
less than the way there, so that client, gateway and worker fill the cores; and a double of a serial device (triton_double.py, where
Python has gRPC) whose batch takes 5 ms, however many rows it has.
"""
import contextlib
import os
import resource
import statistics

import world
from world import harness

CLIENTS, ROUNDS, BAR = 32, 5, 1.1
FIXED = "fixed, wait 0"
RULES = {
    "auto": "",
    FIXED: "policy = fixed max_wait = 0",
    "auto, one in flight": "pipeline = 1",
    "fixed, wait 0, one in flight": "policy = fixed max_wait = 0 pipeline = 1",
    "fixed, wait 0, three in flight": "policy = fixed max_wait = 0 pipeline = 3",
}
DEVICE_MS = 5
QUESTION = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'


def closed(bench):
    n = bench.requests or (400 if bench.small else 40000)
    bench.requests_file()
    say = bench.report.say
    say(f"## Closed loops: {CLIENTS} clients over HTTP/1.1 on one loop")
    say()
    say(f"`digits`, {n:,} requests a round, {ROUNDS} rounds in turn, medians; CPU in microseconds a request.")
    say()
    digits(bench, play(bench, "digits", bench.body, n, RULES))
    device(bench, max(400, n // 8))


def digits(bench, got):
    cpu = {rule: sum(v[2:]) for rule, v in got.items()}
    table(bench, got, [("CPU", lambda rule: f"{cpu[rule]:.1f}"), *((f"of it {who}", lambda rule, i=i: f"{got[rule][i]:.1f}")
                       for i, who in enumerate(("gateway", "worker", "client"), 2))])  # fmt: skip
    cores, least = len(os.sched_getaffinity(0)), min(cpu.values())
    most = cores * 1e6 / least
    bench.report.say(f"{cores} cores that never rest answer {most:,.0f} a second at the least of these, {most / got[FIXED][0]:.2f} times `{FIXED}`.")
    bench.report.say()
    ratio = got["auto"][0] / got[FIXED][0]
    bench.report.demand(ratio >= BAR, f"`auto` to `{FIXED}`, at least {BAR}: {ratio:.2f}")
    bench.report.say()


def device(bench, n):
    try:
        from triton_double import Triton
    except ImportError:
        bench.report.say("The serial device: left out, this Python has no gRPC.\n")
        return
    body = bench.directory / "question.json"
    body.write_bytes(QUESTION)
    with Triton(f"m:takes={DEVICE_MS / 1000}:max_batch=64:serial=1") as triton:
        got = play(bench, "m", body, n, {rule: RULES[rule] for rule in ("auto", FIXED)}, addresses=[triton.address], wait_models=("m",))
    bench.report.say(f"A serial device, {DEVICE_MS} ms a batch, {n:,} requests a round:")
    bench.report.say()
    table(bench, got, [])


def table(bench, got, more):
    rows = [(rule, f"{v[0]:,.0f}", f"{v[0] / got[FIXED][0]:.2f}", f"{v[1]:.1f}", *(cell(rule) for _, cell in more)) for rule, v in got.items()]
    bench.report.table(("rule", "requests/s", f"to {FIXED}", "rows a batch", *(head for head, _ in more)), rows)


def play(bench, model, body, n, rules, wait_models=("digits",), **more):
    """{rule: medians of requests/s, rows a batch, and the CPU us a request of gateway, worker and client}"""
    measured = {rule: [] for rule in rules}
    with contextlib.ExitStack() as stack:
        gateways = {}
        for i, (rule, words) in enumerate(rules.items()):
            config = harness.configuration(bench.directory / f"closed-{model}-{i}", loops=1, models=f'model "{model}" {{ batch {{ {words} }} }}', **more)
            gateways[rule] = stack.enter_context(harness.Sluice(config, wait_models=wait_models))
        for r in range(ROUNDS + 1):  # the first warms up
            for rule, sluice in gateways.items():
                one = round_of(bench, sluice, model, body, n if r else max(200, n // 10), "addresses" not in more)
                measured[rule] += [one] if r else []
        for sluice in gateways.values():
            assert sluice.stop() == 0, sluice.text
    return {rule: [statistics.median(values) for values in zip(*rounds)] for rule, rounds in measured.items()}


def round_of(bench, sluice, model, body, n, has_worker):
    def costs():
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        worker = world.cpu_us(sluice.worker_pid()) if has_worker else 0
        return world.cpu_us(sluice.gateway_pid()), worker, 1e6 * (spent.ru_utime + spent.ru_stime)

    rows, before = world.batch_sums(sluice), costs()
    good, bad, seconds = world.h2load(sluice.port, n, body, CLIENTS, 1, h1=True, path=f"/v2/models/{model}/infer")
    after, now = costs(), world.batch_sums(sluice)
    if bad:
        bench.report.demand(False, f"every request answered with 200: {bad} were not", figure=False)
    return n / seconds, (now[0] - rows[0]) / max(1, now[1] - rows[1]), *((b - a) / n for a, b in zip(before, after))
