#!/usr/bin/env python3
"""The figures of this machine, as markdown tables; non-zero when a demanded figure is missed.

    bench/run.py [--build build] [--only core,proxy,callgrind,memory] [--requests N] [--write] [--small]

proxy      CPU of the gateway per h2c request, beside nghttpx in front of nginx
callgrind  instructions of the gateway per request, by function
core       the rooms alone: bench/core.c, bench/base.c, bench/engine.c
memory     h2load on two loops: failures, batches, resident memory
--requests is what proxy sends in each round and what memory sends in all; --write puts the tables into
bench/RESULTS.md, with the command, the date and the machine. --small runs everything in seconds, for the
tests: answers are checked, figures are printed but say nothing, and nothing is demanded of them.
"""
import argparse
import datetime
import os
import pathlib
import statistics
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLES = ("core", "proxy", "callgrind", "memory")
ROUNDS = 3
CONNS, STREAMS = 16, 16
RATIO = 0.7  # of nghttpx's CPU per request, at most
BATCH = 8  # rows in the mean batch, at least
GROWTH = 0.01, 256  # resident memory: this share and so many KiB


class Report:
    """Markdown as it comes; what was missed is kept."""

    def __init__(self, small=False):
        self.lines, self.missed, self.small = [], [], small

    def say(self, line=""):
        print(line, flush=True)
        self.lines.append(line)

    def table(self, head, rows):
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + "---|" * len(head))
        for row in rows:
            self.say("| " + " | ".join(str(cell) for cell in row) + " |")
        self.say()

    def demand(self, holds, sentence, figure=True):
        """figure: it is one of speed or size, which a small run says nothing of."""
        if figure and self.small:
            self.say(f"not demanded of a small run: {sentence}")
            return
        self.say(f"{'met' if holds else '**MISSED**'}: {sentence}")
        if not holds:
            self.missed.append(sentence)


class Bench:
    def __init__(self, build, requests, directory, report):
        self.build, self.requests, self.directory, self.report = build, requests, directory, report
        self.small = report.small
        self.set, self.body = directory / "digits.set", directory / "digit.json"

    def requests_file(self):
        if not self.set.exists():
            self.body.write_bytes(world.write_set(self.set))
        return self.set

    def gateway(self, name, **more):
        return harness.Sluice(harness.configuration(self.directory / name, **more))

    def load(self, port, requests, **more):
        """A run in which nothing may go wrong."""
        got = world.load(self.build, port, requests, self.requests_file(), CONNS, STREAMS, **more)
        if got["ok"] != requests or got["mismatch"]:
            self.report.demand(False, f"every request answered with 200 and its reference: {got}", figure=False)
        return got

    # ---- A: beside another proxy -------------------------------------------------------------------

    def proxy(self):
        measured, others = world.cores()
        n = self.requests or (2000 if self.small else 100000)
        with self.gateway("proxy", loops=1) as sluice:
            self.requests_file()
            gateway, worker = sluice.gateway_pid(), sluice.worker_pid()
            world.pin(gateway, measured)
            world.pin(worker, others)
            answer = self.one_answer(sluice)
            nginx, backend = world.nginx(self.directory, answer)
            nghttpx, port = world.nghttpx(self.directory, backend)
            try:
                world.pin(nginx.pid, others)
                world.pin(nghttpx.pid, measured)
                ours, theirs = self.rounds(n, others, sluice, gateway, worker, nghttpx.pid, port)
            finally:
                world.stop(nghttpx)
                world.stop(nginx)
            assert sluice.stop() == 0, sluice.text
        self.proxy_table(n, ours, theirs, len(answer))

    def one_answer(self, sluice):
        with harness.Wire(sluice.port) as wire:
            wire.send(harness.post(self.body.read_bytes()))
            return wire.read_answers(1)[0][2].decode()

    def rounds(self, n, others, sluice, gateway, worker, nghttpx, port):
        """[(CPU us, worker's CPU us, rows a batch, load's report)] of us, the same of nghttpx"""
        ours, theirs = [], []
        for r in range(ROUNDS + 1):  # the first, short, warms up
            count = n if r else max(1000, n // 10)
            rows, batches = batch_sums(sluice)
            a, w = world.cpu_us(gateway), world.cpu_us(worker)
            got = self.load(sluice.port, count, core=others)
            a, w = world.cpu_us(gateway) - a, world.cpu_us(worker) - w
            rows, batches = batch_sums(sluice)[0] - rows, batch_sums(sluice)[1] - batches
            b = world.cpu_us(nghttpx, children=True)
            back = self.load(port, count, core=others, check=0)
            b = world.cpu_us(nghttpx, children=True) - b
            if r:
                ours.append((a / count, w / count, rows / max(1, batches), got))
                theirs.append((b / count, back))
        return ours, theirs

    def proxy_table(self, n, ours, theirs, answer_bytes):
        say = self.report.say
        say("## CPU of the gateway per request, beside nghttpx")
        say()
        say(f"{n:,} requests a round over h2c, {CONNS} connections of {STREAMS} streams, 1,000 distinct")
        say(f"digits ({len(self.body.read_bytes())} octets each, answers {answer_bytes}); `loops = 1`, access")
        say("logs on; one answer in a hundred of ours compared with its reference. The measured program")
        say("alone on one core, load and backend on the other. nghttpx: h2c in front, HTTP/1.1 to nginx,")
        say("which answers as many octets from memory; ours: a real worker, batched.")
        say()
        head = ("round", "sluice us", "nghttpx us", "ratio", "worker us", "rows a batch",
                "sluice p50 / p99 us", "nghttpx p50 / p99 us")  # fmt: skip
        rows = [row_of(r + 1, *both) for r, both in enumerate(zip(ours, theirs))]
        mine = statistics.median(o[0] for o in ours)
        other = statistics.median(t[0] for t in theirs)
        work, batch = (statistics.median(o[i] for o in ours) for i in (1, 2))
        rows.append(("median", f"{mine:.2f}", f"{other:.2f}", f"{mine / other:.2f}", f"{work:.2f}", f"{batch:.1f}", "", ""))
        self.report.table(head, rows)
        self.report.demand(mine <= RATIO * other, f"CPU per request at most {RATIO} of nghttpx's: {mine / other:.2f}")
        say()

    # ---- C: memory ---------------------------------------------------------------------------------

    def memory(self):
        n, say = (self.requests or (4000 if self.small else 200000)) // 4, self.report.say
        self.requests_file()
        rows, resident, failed = [], [], 0
        with self.gateway("memory", loops=2) as sluice:
            gateway = sluice.gateway_pid()
            first = batch_sums(sluice)
            for quarter in range(4):
                before = batch_sums(sluice)
                good, bad, seconds = world.h2load(sluice.port, n, self.body, CONNS, STREAMS)
                after = batch_sums(sluice)
                resident.append(harness.memory_kib(gateway))
                failed += bad
                mean = (after[0] - before[0]) / max(1, after[1] - before[1])
                rows.append((quarter + 1, f"{good:,}", bad, f"{n / seconds:,.0f}", f"{mean:.1f}", f"{resident[-1]:,}"))
            mean = (after[0] - first[0]) / max(1, after[1] - first[1])
            assert sluice.stop() == 0, sluice.text
        say("## Memory and batches under load")
        say()
        say(f"`h2load -n {n} -c {CONNS} -m {STREAMS} -d digit.json`, four times, `loops = 2`, nothing pinned.")
        say()
        self.report.table(("run", "answered 200", "failed", "requests/s", "rows a batch", "resident KiB"), rows)
        grown, allowed = resident[-1] - resident[0], resident[0] * GROWTH[0] + GROWTH[1]
        self.report.demand(failed == 0, f"0 failed: {failed}", figure=False)
        self.report.demand(mean > BATCH, f"mean batch above {BATCH} rows: {mean:.1f}")
        self.report.demand(grown <= allowed, f"resident memory grows by at most {allowed:.0f} KiB: {grown}")
        say()

    # ---- B: rooms alone ----------------------------------------------------------------------------

    def core(self):
        rooms.core(self)

    def callgrind(self):
        rooms.callgrind(self)


def batch_sums(sluice):
    """(rows, batches) of all models since the start"""
    return sluice.metric("sluice_batch_rows_sum"), sluice.metric("sluice_batch_rows_count")


def row_of(number, ours, theirs):
    (a, w, batch, got), (b, back) = ours, theirs
    spread = [f"{g['p50_us']} / {g['p99_us']}" for g in (got, back)]
    return (number, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}", f"{w:.2f}", f"{batch:.1f}", *spread)


def write(report, words):
    head = ["# Results", "", "Written by `" + " ".join(words) + "` after `make bench`,",
            f"{datetime.date.today().isoformat()}, on {world.machine()}.", ""]  # fmt: skip
    text = "\n".join(head + report.lines).rstrip() + "\n"
    (ROOT / "bench" / "RESULTS.md").write_text(text)


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--build", default="build", type=pathlib.Path)
    parse.add_argument("--only", default=",".join(TABLES))
    parse.add_argument("--requests", type=int)
    parse.add_argument("--write", action="store_true")
    parse.add_argument("--small", action="store_true")
    options = parse.parse_args()
    build = options.build if options.build.is_absolute() else ROOT / options.build
    wanted = options.only.split(",")
    if set(wanted) - set(TABLES):
        parse.error(f"--only knows {', '.join(TABLES)}")
    os.environ["SLUICE_BUILD"] = str(build)
    global harness, rooms, world
    import rooms  # noqa: E402  after SLUICE_BUILD is known
    import world
    from world import harness
    report = Report(options.small)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        bench = Bench(build, options.requests, pathlib.Path(directory), report)
        for name in wanted:
            try:
                getattr(bench, name)()
            except world.Missing as e:
                report.say(f"{name}: left out: {e}\n")
            except Exception:
                traceback.print_exc()
                report.missed.append(f"{name} broke")
    if options.write:
        more = [f"--requests {options.requests}"] if options.requests else []
        more += [f"--only {options.only}"] if wanted != list(TABLES) else []
        write(report, ["bench/run.py", *more, "--write"])
    for sentence in report.missed:
        print(f"missed: {sentence}", file=sys.stderr)
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
