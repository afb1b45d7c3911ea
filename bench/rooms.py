"""Parts of bench/run.py that look inside: the gateway's instructions by function, the rooms' own benches."""
import collections
import re
import subprocess

import world
from world import harness

COUNTS = 2000, 6000  # requests: what is the same in both (the start, the end) falls out
SMALL_COUNTS = 300, 600
TOP = 15
KEPT = 'model "digits" { cache { ttl = "1h" } }'
FUNCTION = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+(\S+?):(\S.*?)(?: \[(.*)\])?$")


def instructions(bench, requests, name, load=None, thread_of=None, **more):
    """{function: instructions} of a gateway process that has served so many requests; thread_of: of the thread that runs that
    function alone."""
    path = bench.directory / f"{name}{requests}"
    path.mkdir()
    before = harness.PREFIX
    harness.PREFIX = [world.need("valgrind"), "--tool=callgrind", "--trace-children=yes", "-q",
                      "--trace-children-skip=*sluice-worker", f"--callgrind-out-file={path}/%p"]  # fmt: skip
    harness.PREFIX += ["--separate-threads=yes"] if thread_of else []
    try:
        with bench.gateway(f"{name}-gateway{requests}", loops=1, **more) as sluice:
            gateway = sluice.gateway_pid()
            bench.load(sluice.port, requests, **(load or {}))
            assert sluice.stop(timeout=120) == 0, sluice.text
    finally:
        harness.PREFIX = before
    files = sorted(path.glob(f"{gateway}-*")) if thread_of else [path / str(gateway)]
    for file in files:
        words = [world.need("callgrind_annotate"), "--threshold=100", "--auto=no", str(file)]
        counted = by_function(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
        if not thread_of or any(name.endswith(f": {thread_of}") for name in counted):
            return counted
    raise world.Missing(f"no thread of {files} runs {thread_of}")


def by_function(text):
    """Rows of callgrind_annotate added up: a function that holds others inline has a row a file."""
    counted, files = collections.Counter(), {}
    for line in text.splitlines():
        row = FUNCTION.match(line)
        if not row:
            continue
        library = (row[4] or "sluice").rsplit("/", 1)[-1]
        name = row[3].split("'")[0].split(".part")[0].split(".isra")[0]
        files.setdefault((library, name), in_tree(row[2]) if library == "sluice" else library)
        counted[library, name] += int(row[1].replace(",", ""))
    return {f"{files[key]}: {key[1]}": n for key, n in counted.items()}


def in_tree(path):
    """Without the folder that it was compiled in; the name alone of what is not ours."""
    parts = path.split("/")
    tails = ("/".join(parts[i:]) for i in range(len(parts)))
    return next((t for t in tails if t and not t.startswith("/") and (world.ROOT / t).is_file()), parts[-1])


def per_request(bench, counts, name, **more):
    few, many = (instructions(bench, n, name, **more) for n in counts)
    return {function: (many[function] - few.get(function, 0)) / (counts[1] - counts[0]) for function in many}


def callgrind(bench):
    bench.requests_file()
    counts = SMALL_COUNTS if bench.small else COUNTS
    each = per_request(bench, counts, "callgrind")
    total = sum(each.values())
    say = bench.report.say
    say("## Instructions of the gateway per request")
    say()
    say(f"callgrind, user space only, {counts[1]:,} less {counts[0]:,} requests of the load above:")
    say(f"{total:,.0f} instructions a request. By function (itself, without what it calls), the first {TOP}:")
    say()
    first = sorted(each, key=each.get, reverse=True)[:TOP]
    rows = [(name.replace("|", " "), f"{each[name]:,.0f}", f"{100 * each[name] / total:.1f} %") for name in first]
    bench.report.table(("function", "instructions", "share"), rows)
    kept(bench, counts, total)


ONE = {"conns": 1, "streams": 1}
HIT = 0.8  # of what the same request costs when a batch answers it


def kept(bench, counts, in_full_batches):
    """The same requests, answered from the cache's memory; and both when they come one by one (not in a small run)."""
    total = lambda name, **more: sum(per_request(bench, counts, name, **more).values())  # noqa: E731
    costs = [("16 connections of 16 streams, full batches", in_full_batches, total("kept", models=KEPT))]
    if not bench.small:
        costs.append(("one connection, one after the other", total("lone", load=ONE), total("kept-lone", load=ONE, models=KEPT)))
    bench.report.say("The same requests (1,000 questions, again and again), answered from the cache's memory:")
    bench.report.say()
    rows = [(load, f"{model:,.0f}", f"{hit:,.0f}", f"{hit / model:.2f}") for load, model, hit in costs]
    bench.report.table(("load", "by the model", "from the cache", "ratio"), rows)
    for load, model, hit in costs:
        bench.report.demand(hit / model <= HIT, f"a hit beside the same request ({load}), at most {HIT}: {hit / model:.2f}")
    bench.report.say()


A_RECORD, STREAMED = 2.0, 3.0  # us of CPU, into files and into streams, all threads
LOG_SHARE = 0.10  # of a loop's instructions a request
LOG_COUNTS = 2000, 12000  # how batches fall makes 0.3 % more or less of 4,000
LOOP = "flow_submit"  # runs on loops alone
DRAWN = 'layer "all" { key = "request-id" } experiment "e" { model = "digits" layer = "all" %s }' % " ".join(
    f'variant "{name}" {{ model = "digits" weight = 25% }}' for name in "abcd")
CPU_ROW = re.compile(r"([\d.]+) us in all")


def redis_cpu(path):
    text = subprocess.run(["redis-cli", "-s", path, "info", "cpu"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return sum(float(row[1]) for row in re.finditer(r"^used_cpu_(?:sys|user):([\d.]+)", text, re.M))


WRITES, WRITERS = 500e3, (1, 2, 4, 8)  # records a second of all writers into one Redis; so many at once
WRITERS_ROW = re.compile(r"([\d.]+) a second.*?([\d.]+) us in all.*?Redis: ([\d.]+) us a record, (\d+) % of a core", re.S)


def streamed_at_once(bench, program, records, path):
    """Several writers, each with its own stream, at one Redis."""
    say, rows = bench.report.say, []
    for writers in WRITERS[:2] if bench.small else WRITERS:
        words = [str(int(records) // writers), f"unix:{path}", "--writers", str(writers)]
        done = subprocess.run([program, *words], stdout=subprocess.PIPE, text=True, check=True, cwd=world.ROOT)
        rows.append((writers, *(float(n) for n in WRITERS_ROW.search(done.stdout).groups())))
    say(f"`bench/predictions N unix:redis --writers W`, {int(records):,} records in all")
    say()
    bench.report.table(("writers", "records/s", "our CPU, us a record", "Redis, us a record", "of its core", "all of it would take"),
                       [(w, f"{n:,.0f}", f"{ours:.2f}", f"{theirs:.2f}", f"{core:.0f} %", f"{1e6 / theirs if theirs else 0:,.0f}/s")
                        for w, n, ours, theirs, core in rows])  # fmt: skip
    full = min(1e6 / theirs if theirs else 0 for _, _, _, theirs, _ in rows)  # by CPU time: others may be at work beside it
    bench.report.demand(full >= WRITES, f"a core of Redis takes {WRITES:,.0f} records a second, of however many writers: {full:,.0f}")
    say()


def streamed(bench, program, records):
    """The same records into a stream of a Redis, whose own CPU is told beside ours."""
    say, path = bench.report.say, str(bench.directory / "redis")
    words = [world.need("redis-server"), "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", str(bench.directory)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        harness.wait_for(lambda: (bench.directory / "redis").exists(), what="redis-server")
        before = redis_cpu(path)
        done = subprocess.run([program, records, f"unix:{path}"], stdout=subprocess.PIPE, text=True, check=True, cwd=world.ROOT)
        theirs = (redis_cpu(path) - before) * 1e6 / int(records)
        say(f"`bench/predictions {records} unix:redis`")
        say()
        for line in done.stdout.rstrip().splitlines():
            say(line)
        us = float(CPU_ROW.search(done.stdout)[1])
        bench.report.demand(us <= STREAMED, f"at most {STREAMED:.0f} us of CPU a record into a stream, all threads: {us:.2f}")
        say(f"Redis itself: {theirs:.2f} us a record, so that one takes {1 / theirs:.2f} million a second at most")
        say()
        streamed_at_once(bench, program, "40000" if bench.small else "4000000", path)
    finally:
        server.terminate()
        server.wait()


def predictions(bench):
    """What a record costs, and what it adds to a loop's instructions."""
    say, report = bench.report.say, bench.report
    say("## The prediction log")
    say()
    words = [str(bench.build / "bench" / "predictions")] + (["20000"] if bench.small else [])
    for more in ([], ["full"], ["said"]):
        if more and len(words) == 1:
            words.append("1000000")
        say("`" + " ".join(["bench/predictions", *words[1:], *more]) + "`")
        say()
        done = subprocess.run(words + more, stdout=subprocess.PIPE, text=True, check=True, cwd=world.ROOT)
        for line in done.stdout.rstrip().splitlines():
            say(line)
        us = float(CPU_ROW.search(done.stdout)[1])
        report.demand(us <= A_RECORD, f"at most {A_RECORD:.0f} us of CPU a record, all threads: {us:.2f}")
        say()
    streamed(bench, words[0], "20000" if bench.small else "500000")
    log_instructions(bench)


def log_instructions(bench):
    """What the log adds to a loop's instructions, alone and beside an experiment."""
    say, report = bench.report.say, bench.report
    counts = SMALL_COUNTS if bench.small else LOG_COUNTS
    log = f'predictions {{ file = "{bench.directory}/predictions" }}'
    total = lambda name, **more: sum(per_request(bench, counts, name, thread_of=LOOP, **more).values())  # noqa: E731
    without, with_log, both = total("unlogged"), total("logged", top=log), total("drawn-logged", models=DRAWN, top=log)
    say(f"callgrind, user space, the loop's thread, {counts[1]:,} less {counts[0]:,} requests, hashes of inputs and outputs:")
    say(f"{without:,.0f} instructions a request without the log, {with_log:,.0f} with it.")
    report.demand(with_log / without - 1 <= LOG_SHARE, f"at most {LOG_SHARE:.0%} more: {with_log / without - 1:+.1%}")
    say(f"With the log and an experiment of four variants in one layer: {both:,.0f}.")
    report.demand(both / without - 1 <= LOG_SHARE, f"at most {LOG_SHARE:.0%} more with an experiment and the log: {both / without - 1:+.1%}")
    if not bench.small:
        said = total("said", top=log.replace("}", 'parameters = on headers = {"content-type"} }'))
        say(f"With the log, `parameters = on` and one field of the head in `headers`: {said:,.0f} ({said - with_log:+,.0f} beside the log alone).")
    say()


DRAWS = 20e6  # a second and core, in a layer
DRAW_ROW = re.compile(r"draw in a layer.*? ([\d.]+) ns")
CORE_NS, CORE_SPREAD = 600, 0.20  # a request of 256; of that, with few or many that wait
CORE_ROW = re.compile(r"(\d+) in flight, +(\d+) waiting: +([\d.]+) ns")
SMALL = {"core": "2000", "base": "0.002", "experiment": "0.002", "engine": "0.001"}  # each its first argument


def judge_core(report, text):
    ns = {int(row[2]): float(row[3]) for row in CORE_ROW.finditer(text)}
    few, many = (ns[waiting] / ns[0] - 1 for waiting in (10, 10000))
    report.demand(ns[0] < CORE_NS, f"under {CORE_NS} ns of CPU a request over both threads: {ns[0]:.0f}")
    report.demand(max(abs(few), abs(many)) <= CORE_SPREAD,
                  f"the same within {CORE_SPREAD:.0%} with 10 and with 10,000 waiting: {few:+.0%} and {many:+.0%}")  # fmt: skip
    report.say()


def judge_draws(report, text):
    a_second = 1e9 / float(DRAW_ROW.search(text)[1])
    report.demand(a_second >= DRAWS, f"at least {DRAWS / 1e6:.0f} million draws a second and core: {a_second / 1e6:.1f} million")
    report.say()


def core(bench):
    """The rooms alone; those of them that are there."""
    say = bench.report.say
    say("## The rooms alone")
    say()
    for name in ("core", "base", "experiment", "engine"):
        program = bench.build / "bench" / name
        table = name == "engine"  # prints a table of its own
        if not program.exists():
            say(f"bench/{name}.c: not built here.")
            say()
            continue
        words = [str(program)] + ([SMALL[name]] if bench.small else [])
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=world.ROOT)
        say("## Engine" if table else f"`bench/{name}`")
        say()
        say("`bench/engine`: microseconds of CPU a row, one thread, by rows in the batch" if table else "```")
        if table:
            say()
        for line in done.stdout.rstrip().splitlines():
            say(line)
        if not table:
            say("```")
        say()
        if done.returncode != 0:
            bench.report.demand(False, f"bench/{name} ended with {done.returncode}", figure=False)
        elif name == "core":
            judge_core(bench.report, done.stdout)
        elif name == "experiment":
            judge_draws(bench.report, done.stdout)


def batching(bench):
    """The product's batcher in virtual time: the same figures on every machine. It says itself what it missed."""
    say = bench.report.say
    say("## Batching")
    say()
    say("`build/bench/batchsim`; `bench/batchsim/batchsim.h` says what is played. Goodput: answered in time, as a share of capacity.")
    words = [str(bench.build / "bench" / "batchsim")] + (["--small"] if bench.small else [])
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=world.ROOT)
    for line in done.stdout.rstrip().splitlines():
        say(line)
    say()
    if done.returncode != 0:
        bench.report.demand(False, f"bench/batchsim ended with {done.returncode}", figure=False)
