#!/usr/bin/env python3
"""The figures of this machine, as markdown tables; non-zero when a demanded figure is missed.

    bench/run.py [--build build] [--only core,beside,batching,closed,proxy,callgrind,predictions,memory] [--requests N] [--write] [--small]

proxy      CPU of the gateway per request over h2c, TLS and HTTP/1.1, beside other proxies in front of nginx
callgrind  instructions of the gateway per request, by function
predictions  CPU of a record of the prediction log, how many one Redis takes, and the instructions that it adds to a request
beside     the engine beside PyPI's onnxruntime, where a Python has it (ORT_PYTHON) and the models are there
core       the rooms alone: bench/core.c, bench/base.c, bench/engine.c
batching   the policies in virtual time: bench/batchsim.c, bench/batchsim/
closed     the policies on real clients that wait for their answers: bench/closed.py
memory     h2load on two loops: failures, batches, resident memory
--requests is what closed and proxy send in each round and what memory sends in all; --write puts the tables into
bench/RESULTS.md, with the command, the date and the machine. --small runs everything in seconds, for the
tests: answers are checked, figures are printed but say nothing, and nothing is demanded of them.
"""
import argparse
import datetime
import os
import pathlib
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[1]
TABLES = ("core", "beside", "batching", "closed", "proxy", "callgrind", "predictions", "memory")
CONNS, STREAMS = 16, 16
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
        more = {"conns": CONNS, "streams": STREAMS, **more}
        got = world.load(self.build, port, requests, self.requests_file(), **more)
        if got["ok"] != requests or got["mismatch"]:
            self.report.demand(False, f"every request answered with 200 and its reference: {got}", figure=False)
        return got

    # ---- A: beside other proxies -------------------------------------------------------------------

    def proxy(self):
        fronts.proxy(self)

    # ---- C: memory ---------------------------------------------------------------------------------

    def memory(self):
        n, say = (self.requests or (4000 if self.small else 200000)) // 4, self.report.say
        self.requests_file()
        rows, resident, failed = [], [], 0
        with self.gateway("memory", loops=2) as sluice:
            gateway = sluice.gateway_pid()
            first = world.batch_sums(sluice)
            for quarter in range(4):
                before = world.batch_sums(sluice)
                good, bad, seconds = world.h2load(sluice.port, n, self.body, CONNS, STREAMS)
                after = world.batch_sums(sluice)
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

    def beside(self):
        beside.beside(self)

    def batching(self):
        rooms.batching(self)

    def closed(self):
        closed.closed(self)

    def callgrind(self):
        rooms.callgrind(self)

    def predictions(self):
        rooms.predictions(self)


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
    global beside, closed, fronts, harness, rooms, world
    import beside
    import closed
    import fronts  # noqa: E402  after SLUICE_BUILD is known
    import rooms
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
