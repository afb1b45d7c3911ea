"""Parts of bench/run.py that look inside: the gateway's instructions by function, the rooms' own benches."""
import collections
import re
import subprocess

import world
from world import harness

COUNTS = 2000, 6000  # requests: what is the same in both (the start, the end) falls out
TOP = 15
FUNCTION = re.compile(r"^\s*([\d,]+) \([ \d.]+%\)\s+(\S+?):(\S.*?)(?: \[(.*)\])?$")


def instructions(bench, requests):
    """{function: instructions} of a gateway process that has served so many requests."""
    path = bench.directory / f"callgrind{requests}"
    path.mkdir()
    before = harness.PREFIX
    harness.PREFIX = [world.need("valgrind"), "--tool=callgrind", "--trace-children=yes", "-q",
                      "--trace-children-skip=*sluice-worker", f"--callgrind-out-file={path}/%p"]  # fmt: skip
    try:
        with bench.gateway(f"gateway{requests}", loops=1) as sluice:
            gateway = sluice.gateway_pid()
            bench.load(sluice.port, requests)
            assert sluice.stop(timeout=120) == 0, sluice.text
    finally:
        harness.PREFIX = before
    words = [world.need("callgrind_annotate"), "--threshold=100", "--auto=no", str(path / str(gateway))]
    text = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return by_function(text)


def by_function(text):
    """Rows of callgrind_annotate added up: a function that holds others inline has a row a file."""
    counted, files = collections.Counter(), {}
    for line in text.splitlines():
        row = FUNCTION.match(line)
        if not row:
            continue
        library = (row[4] or "sluice").rsplit("/", 1)[-1]
        name = row[3].split("'")[0].split(".part")[0].split(".isra")[0]
        path = row[2].removeprefix(f"{world.ROOT}/").removeprefix("./")
        files.setdefault((library, name), path if library == "sluice" else library)
        counted[library, name] += int(row[1].replace(",", ""))
    return {f"{files[key]}: {key[1]}": n for key, n in counted.items()}


def callgrind(bench):
    bench.requests_file()
    few, many = (instructions(bench, n) for n in COUNTS)
    requests = COUNTS[1] - COUNTS[0]
    each = {name: (many[name] - few.get(name, 0)) / requests for name in many}
    total = sum(each.values())
    say = bench.report.say
    say("## Instructions of the gateway per request")
    say()
    say(f"callgrind, user space only, {COUNTS[1]:,} less {COUNTS[0]:,} requests of the load above:")
    say(f"{total:,.0f} instructions a request. By function (itself, without what it calls), the first {TOP}:")
    say()
    first = sorted(each, key=each.get, reverse=True)[:TOP]
    rows = [(name.replace("|", " "), f"{each[name]:,.0f}", f"{100 * each[name] / total:.1f} %") for name in first]
    bench.report.table(("function", "instructions", "share"), rows)


def core(bench):
    """The rooms alone; those of them that are there. What they demand they say by their exit status."""
    say = bench.report.say
    say("## The rooms alone")
    say()
    for name in ("core", "base", "engine"):
        program = bench.build / "bench" / name
        table = name == "engine"  # prints a table of its own
        if not program.exists():
            say(f"bench/{name}.c: not built here.")
            say()
            continue
        done = subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, cwd=world.ROOT)
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
            bench.report.demand(False, f"bench/{name} ended with {done.returncode}")
