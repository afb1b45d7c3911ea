#!/usr/bin/env python3
"""Breaks router/ and batcher/ at random and counts what the tests notice.

    tools/mutants.py [N] [--seed S] [--build build] [--sim-seeds 1000] [--only FILE]
                     [--tests WORD] [--all] [--again LOG]

A mutant is one change of one operator, constant or statement, in a .c file or in an inline function of a
header. Left alone: what stands in invariant(), for a check that asks less can only be seen beside a second
bug; texts; and declarations. The draw is seeded, so that a run can be repeated; --all tries every mutant
there is, --again those that LOG, what an earlier run printed, says have survived (by their text: lines move).
Each is compiled in a copy under BUILD/mutants, never in the tree: only what was changed, then linked with the
rest. One that does not compile, or whose objects are equal to the original's, is no mutant: another one is drawn
for it, and both kinds are counted. The unit tests of the two rooms and the simulator have a bounded time; an
endless loop counts as killed. Prints each survivor as file:line, before -> after, and ends with 1 when fewer
than nine of ten were killed.
"""
import argparse
import concurrent.futures
import os
import pathlib
import queue
import random
import re
import resource
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ["batcher", "router"]
PASS_SHARE = 0.9
MEMORY_BYTES = 4 << 30
WORLDS = ["router_contracts"]  # a unit test that is the simulator once more

COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
TOKEN = re.compile(
    r"0x[0-9a-fA-F]+\w*|\d+\.\d*(?:e[-+]?\d+)?|\d+e[-+]?\d+|\d+\w*|[A-Za-z_]\w*"
    r"|<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^<>!~=?:;,.(){}\[\]]"
)
BINARY = {
    "<": ["<=", ">"], "<=": ["<", ">"], ">": [">=", "<"], ">=": [">", "<"],
    "==": ["!="], "!=": ["=="], "&&": ["||"], "||": ["&&"],
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "%": ["/"],
    "&": ["|"], "|": ["&"], "^": ["&"], "<<": [">>"], ">>": ["<<"],
    "+=": ["-=", "="], "-=": ["+=", "="], "*=": ["/=", "="], "|=": ["&=", "="], "&=": ["|=", "="],
}  # fmt: skip
UNARY = {"!": [""], "~": [""], "-": [""], "++": ["--"], "--": ["++"]}
WORDS = {"true": ["false"], "false": ["true"], "UINT64_MAX": ["0"], "UINT32_MAX": ["0"]}
TYPES = "const static struct enum union unsigned int char void bool double float size_t".split()
KEPT = re.compile(r"^(?:invariant|never|debug_invariant)$")


def bare(text):
    """Without comments, strings and preprocessor lines; every other character stays where it is."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group())  # noqa: E731
    text = COMMENT.sub(blank, text)
    # Of `#define NAME 8` the 8 is left.
    text = re.sub(r"^[ \t]*#[ \t]*define[ \t]+\w+(?=[ \t]+[-\d])", blank, text, flags=re.M)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)


class Mutant:
    def __init__(self, name, text, at, before, after):
        self.name, self.text, self.at, self.before, self.after = name, text, at, before, after
        self.line = text.count("\n", 0, at) + 1
        start = text.rfind("\n", 0, at) + 1
        end = text.find("\n", at + len(before))
        self.old = " ".join(text[start:end].split())
        self.new = " ".join((text[start:at] + after + text[at + len(before) : end]).split())

    def change(self):
        return f"{self.old}  ->  {self.new}"

    def applied(self):
        return self.text[: self.at] + self.after + self.text[self.at + len(self.before) :]

    def __str__(self):
        return f"{self.name}:{self.line}: {self.change()}"


def is_operand(token):
    return token and (re.match(r"[\w)\]]", token[-1]) is not None) and token not in ("return", "case")


def numbers(token):
    """What may stand for a number: one more, one less, nothing at all."""
    if "." in token or re.fullmatch(r"\d+e[-+]?\d+", token):
        return [repr(float(token) * 2), repr(float(token) / 2)]
    m = re.fullmatch(r"(0x[0-9a-fA-F]+|\d+)([uUlL]*)", token)
    if not m:
        return []
    n = int(m.group(1), 0)
    return [f"{k}{m.group(2)}" for k in dict.fromkeys([n + 1, n - 1, 0]) if k >= 0 and k != n]


def function_spans(code, tokens, header):
    """[from, to) of the bodies of functions, and in a .c file of tables and defined numbers too."""
    spans, depth, start, wanted = [], 0, 0, False
    for i, m in enumerate(tokens):
        token = m.group()
        if token == "{":
            if depth == 0:
                before = tokens[i - 1].group() if i else ""
                wanted = before == ")" or (before == "=" and not header)
                start = m.end()
            depth += 1
        elif token == "}":
            depth -= 1
            if depth == 0 and wanted:
                spans.append((start, m.start()))
        elif depth == 0 and not header and token[0].isdigit() and code[: m.start()].rstrip(" ").endswith("\n"):
            spans.append((m.start(), m.end()))  # a number that was defined
    return spans


def kept_spans(tokens):
    """What stands in invariant(...)."""
    spans = []
    for i, m in enumerate(tokens):
        if not KEPT.match(m.group()):
            continue
        depth = 0
        for n in tokens[i + 1 :]:
            depth += {"(": 1, ")": -1}.get(n.group(), 0)
            if depth == 0:
                spans.append((m.start(), n.end()))
                break
    return spans


def statements(text, tokens):
    """Those that can be left out, each as (from, to)."""
    found, start, parens, opened, header_end = [], 0, 0, [], False
    for i, m in enumerate(tokens):
        token = m.group()
        if token == "(":
            opened.append(tokens[i - 1].group() if i else "")
            parens += 1
        elif token == ")":
            parens -= 1
            head = opened.pop() if opened else ""
            if parens == 0 and head in ("if", "while", "for", "switch"):
                start, header_end = i + 1, True
        elif parens == 0 and token in "{};":
            if token == ";" and i > start:
                words = [t.group() for t in tokens[start : i + 1]]
                first = words[0]
                leaves = first in ("return", "break", "continue")
                declares = first in TYPES or first.endswith("_t") or (first == "(" and words[1] == "void")
                if first not in ("else", "do", "case", "default", "goto") and not declares:
                    if not leaves or header_end or first != "return":
                        found.append((tokens[start].start(), m.start()))
            start, header_end = i + 1, False
        elif parens == 0 and token == "else":
            start, header_end = i + 1, True
        elif parens == 0 and token == ":" and tokens[start].group() in ("case", "default"):
            start = i + 1
    return found


def within(spans, at):
    return any(a <= at < b for a, b in spans)


def mutants_of(name, text):
    code = bare(text)
    tokens = list(TOKEN.finditer(code))
    spans, kept, found = function_spans(code, tokens, name.endswith(".h")), kept_spans(tokens), []
    for i, m in enumerate(tokens):
        token, at = m.group(), m.start()
        if not within(spans, at) or within(kept, at):
            continue
        before = tokens[i - 1].group() if i else ""
        pointer = token == "*" and (before in TYPES or before.endswith("_t") or tokens[i - 2].group() == "struct")
        if token[0].isdigit():
            others = numbers(token)
        elif token in WORDS:
            others = WORDS[token]
        elif token in ("++", "--") or (token in UNARY and not is_operand(before)):
            others = UNARY[token]
        elif token in BINARY and is_operand(before) and not pointer:
            others = BINARY[token]
        else:
            others = []
        found += [Mutant(name, text, at, token, other) for other in others]
    for a, b in statements(text, tokens):
        if within(spans, a) and not within(kept, a):
            found.append(Mutant(name, text, a, text[a:b], "\n" * text.count("\n", a, b)))
    return found


def survived(log):
    """{(file, change)} of those that the output of an earlier run names at its end."""
    return set(re.findall(r"^survivor: (\S+):\d+: (.*)$", log.read_text(), re.M))


class Bench:
    """A copy of the two rooms, the objects made of it, and the tests linked with them."""

    def __init__(self, folder, flags):
        self.folder, self.flags = folder, flags
        shutil.rmtree(folder, ignore_errors=True)
        for room in ROOMS:
            shutil.copytree(ROOT / room, folder / room)
        (folder / "obj").mkdir()

    def compile(self, sources, root=None):
        """The objects of these sources; None: one does not compile."""
        objects = []
        for source in sources:
            obj = self.folder / "obj" / (source.replace("/", "-")[:-2] + ".o")
            words = [*self.flags["cc"], f"-I{self.folder}", f"-I{ROOT}", "-c", "-o", str(obj), source]
            if subprocess.run(words, cwd=root or self.folder, capture_output=True).returncode != 0:
                return None
            objects.append(obj)
        return objects

    def link(self, program, objects):
        out = self.folder / program
        words = [*self.flags["cc"], "-o", str(out), *map(str, objects), *self.flags["libs"]]
        subprocess.run(words, check=True, capture_output=True)
        return out


def limits(cpu_s):
    def set_them():
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return set_them


def passes(words, cpu_s):
    # Memory that nobody has written holds noise, freed memory too: who reads it is noticed.
    env = dict(os.environ, MALLOC_PERTURB_="165")
    try:
        done = subprocess.run(
            words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=10 * cpu_s,
            preexec_fn=limits(cpu_s), start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class Trial:
    """What every mutant is held against: the original's objects, and the tests."""

    def __init__(self, build, sim_seeds, wanted):
        lines = (build / "flags").read_text().split()
        libs = [w for w in lines if w.startswith("-l")]
        noise = ("-g", "-Werror", "-MMD", "-MP", "-I")
        cc = [w for w in lines if not w.startswith(("-l", "-pie", "-Wl,", *noise)) and w != "-pthread"]
        self.folder = build / "mutants"
        self.folder.mkdir(exist_ok=True)
        below = [shutil.copy(build / f"lib{room}.a", self.folder) for room in ("infer", "base")]
        self.flags = {"cc": [*cc, "-w", "-pthread", f"-I{build}/gen"], "libs": [*below, *libs, "-lcmocka", "-pie"]}
        self.sources = [f"{r}/{p.name}" for r in ROOMS for p in sorted((ROOT / r).glob("*.c"))]
        self.base = Bench(self.folder / "base", self.flags)
        objects = self.base.compile(self.sources)
        self.objects = dict(zip(self.sources, objects))
        self.bytes = {s: o.read_bytes() for s, o in self.objects.items()}
        units = sorted(p for r in ROOMS for p in (ROOT / "tests/unit").glob(f"{r}_*.c") if p.stem not in WORLDS)
        sims = [f"tests/sim/{p.name}" for p in sorted((ROOT / "tests/sim").glob("*.c"))]
        self.tests = {f"tests/unit/{p.name}": self.base.compile([f"tests/unit/{p.name}"], ROOT) for p in units}
        self.tests["sim"] = self.base.compile([*sims, "backends/probe.c"], ROOT)
        self.tests = {test: its for test, its in self.tests.items() if wanted in test}
        self.sim_seeds, self.cpu_s = sim_seeds, {}
        for test, its in self.tests.items():
            start = time.monotonic()
            if not passes(self.words(test, self.base.link("test", [*its, *objects])), 600):
                sys.exit(f"{test} fails before anything is broken")
            self.cpu_s[test] = 3 + int(10 * (time.monotonic() - start))

    def words(self, test, program):
        return [str(program), "--seeds", str(self.sim_seeds)] if test == "sim" else [str(program)]

    def verdict(self, bench, mutant):
        """Which test killed it; "" when it lives; None when it is no mutant, and why."""
        file = bench.folder / mutant.name
        file.write_text(mutant.applied())
        changed = [mutant.name] if mutant.name.endswith(".c") else self.sources
        objects = bench.compile(changed)
        file.write_text(mutant.text)
        if not objects:
            return None, "does not compile"
        made = dict(zip(changed, objects))
        if all(o.read_bytes() == self.bytes[s] for s, o in made.items()):
            return None, "equal"
        linked = [made.get(s, self.objects[s]) for s in self.sources]
        for test, its in self.tests.items():
            if test.startswith("tests/unit/batcher_") and mutant.name.startswith("router/"):
                continue  # no word of the router in it
            if not passes(self.words(test, bench.link("test", [*its, *linked])), self.cpu_s[test]):
                return test.removeprefix("tests/unit/").removesuffix(".c"), ""
        return "", ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("n", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--build", type=lambda p: pathlib.Path(p).resolve(), default=ROOT / "build")
    parser.add_argument("--sim-seeds", type=int, default=1000)
    parser.add_argument("--only", help="files whose name contains this")
    parser.add_argument("--tests", default="", help="tests whose name contains this")
    parser.add_argument("--all", action="store_true", help="every mutant there is")
    parser.add_argument("--again", type=pathlib.Path, metavar="LOG", help="the survivors of an earlier run")
    args = parser.parse_args()
    pool = []
    for room in ROOMS:
        for path in sorted((ROOT / room).glob("*.[ch]")):
            name = f"{room}/{path.name}"
            if not args.only or args.only in name:
                pool += mutants_of(name, path.read_text())
    random.Random(args.seed).shuffle(pool)
    if args.again:
        before = survived(args.again)
        pool = [m for m in pool if (m.name, m.change()) in before]
    wanted = len(pool) if args.all or args.again else args.n
    trial = Trial(args.build, args.sim_seeds, args.tests)
    workers = os.cpu_count() or 1
    benches = queue.SimpleQueue()
    for i in range(workers):
        benches.put(Bench(trial.folder / f"copy{i}", trial.flags))

    def one(mutant):
        bench = benches.get()
        try:
            return mutant, *trial.verdict(bench, mutant)
        finally:
            benches.put(bench)

    # In the order of the draw, whoever is faster: the same seed tells the same story.
    done, survivors, by, void = 0, [], {}, {"equal": 0, "does not compile": 0}
    print(f"{len(pool)} mutants to draw from, seed {args.seed}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(workers) as threads:
        at = 0
        while done < wanted and at < len(pool):
            some = pool[at : at + min(4 * workers, wanted - done)]
            at += len(some)
            for mutant, killer, why in threads.map(one, some):
                if killer is None:
                    void[why] += 1
                    continue
                done += 1
                by[killer] = by.get(killer, 0) + 1
                if not killer:
                    survivors.append(mutant)
                print(f"  {done:3} {killer or 'SURVIVES':18} {mutant}", flush=True)
    if not done:
        sys.exit("nothing to break")
    killed = done - len(survivors)
    print("killed by", ", ".join(f"{k} {n}" for k, n in sorted(by.items(), key=lambda p: -p[1]) if k))
    print(f"drawn anew: {void['equal']} with equal objects, {void['does not compile']} that do not compile")
    for mutant in survivors:
        print(f"survivor: {mutant}")
    print(f"{killed} of {done} killed")
    return 0 if killed >= PASS_SHARE * done else 1


if __name__ == "__main__":
    sys.exit(main())
