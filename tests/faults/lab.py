"""The laboratory: a scenario (JSON, see README.md) is played with a real gateway, workers that follow scripts, wires
that can be harmed and clients that check every answer; then what came of it is held against what it demands.

    row = play(scenario)                                 # as it stands
    row = play(scenario, chaos=Chaos(seed, seconds))     # random faults for so long instead of its story
    row = play(scenario, times=10)                       # its story, with ten times as many answers in each step
"""
import collections
import contextlib
import datetime
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time

from callers import Asked, Callers
from harness import Program, Sluice, free_port, wait_for
from proxy import Wires
from redis_servers import Redis, Sentinels
from worker import FACTS, PROCESS, order, seconds

HERE = pathlib.Path(__file__).resolve().parent
SCENARIOS = HERE / "scenarios"
PATIENCE = 60.0  # for everything that is waited for
JUMPS = ((4, 0), (1, 4), (4, 1))  # levels move a step at a time, but when all is back; the others: without alternatives


def scenarios(names=()):
    """{name: scenario}, all or those."""
    found = {p.stem: json.loads(p.read_text()) for p in sorted(SCENARIOS.glob("*.json"))}
    return {n: found[n] for n in names} if names else found


# ---- gateway.conf ------------------------------------------------------------------------------------


def conf_value(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, list):
        return "{%s}" % ", ".join(conf_value(x) for x in v)
    return str(v) if isinstance(v, (int, float)) else '"%s"' % str(v).replace("\\", "\\\\").replace('"', '\\"')


def conf_section(keys):
    """The keys of a section; a value that is an object is a section within."""
    return "\n".join(f"{k} {{ {conf_section(v)} }}" if isinstance(v, dict) else f"{k} = {conf_value(v)}" for k, v in keys.items())


def titled(kind, sections):
    return "\n".join(f'{kind} "{title}" {{ {conf_section(keys)} }}' for title, keys in sections.items())


# ---- workers -----------------------------------------------------------------------------------------


class Member:
    """One worker process of a crew that the laboratory starts itself: its process, its wire if it has one, and the
    harm that can be done to it (do_NAME: the words of scenarios). `harmed` names what has not been undone."""

    def __init__(self, crew, i):
        self.crew, self.lab, self.i, self.name = crew, crew.lab, i, f"{crew.name}/{i}"
        self.program = self.wire = None
        self.address = f"unix:{self.lab.directory}/{crew.name}-{i}.sock" if crew.over == "unix" else f"127.0.0.1:{free_port()}"
        self.harmed = set()

    @property
    def pid(self):
        """Of the process that lives now; None while there is none."""
        return self.program.pid if self.program and self.program.process.poll() is None else None

    def do_start(self):
        """A process at the address of the one before it."""
        self.harmed.discard("dead")
        if self.pid:
            return
        if self.crew.over == "unix":
            pathlib.Path(self.address[5:]).unlink(missing_ok=True)
        self.program = Program([*self.crew.words(), "--listen", self.address])

    def wait_up(self):
        self.program.wait_event("up", timeout=PATIENCE)

    def end(self):
        if self.pid:
            self.program.kill(signal.SIGKILL)
        self.program.process.wait()
        self.program.reader.join(5)

    def signal(self, number):
        pid = self.pid
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def do_kill(self, back=None):
        """SIGKILL; another comes after `back` seconds."""
        self.lab.deaths.append((self.name, self.signal(signal.SIGKILL)))
        self.gone(back)

    def do_term(self, back=None):
        self.signal(signal.SIGTERM)
        self.gone(back)

    def gone(self, back):
        self.program.process.wait()
        self.harmed.add("dead")
        if back is not None:
            self.lab.later(back, self.do_start)

    def do_stop(self, back=None):
        """SIGSTOP: it stands still, its sockets are open."""
        self.signal(signal.SIGSTOP)
        self.harmed.add("still")
        if back is not None:
            self.lab.later(back, self.do_go_on)

    def do_go_on(self):
        self.harmed.discard("still")
        self.signal(signal.SIGCONT)

    def tell(self, what, **words):
        pid = self.pid
        with contextlib.suppress(OSError, ValueError):  # it may die meanwhile: who comes next follows the script
            return order(self.lab.directory / str(pid), what, **words)

    def do_set(self, model=None, back=None, **facts):
        """Facts of one model, or all; of the process where they are such."""
        self.harmed.add("set")
        process = {k: v for k, v in facts.items() if k in PROCESS}
        of_model = {k: v for k, v in facts.items() if k in FACTS}
        unknown = set(facts) - set(process) - set(of_model)
        assert not unknown, f"set: unknown facts {unknown}"
        if process:
            self.tell("process", **process)
        if of_model:
            self.tell("set", model=model, **of_model)
        if back is not None:
            self.lab.later(back, self.unset)

    def unset(self):
        self.harmed.discard("set")
        script = self.crew.script
        self.tell("process", **{k: script.get(k, v) for k, v in PROCESS.items()})
        for model, facts in script["models"].items():
            self.tell("set", model=model, **{**FACTS, **facts})

    def do_cut(self):
        self.wire.cut()

    def do_half_open(self):
        self.wire.half_open()

    def do_harm(self, back=None, **how):
        """Of the wire: delay, rate, hush, refuse."""
        if "delay" in how:
            how["delay"] = seconds(how["delay"])
        self.wire.harm(**how)
        self.harmed.add("wire")
        if back is not None:
            self.lab.later(back, self.mend)

    def mend(self):
        self.harmed.discard("wire")
        self.wire.heal()

    def do_heal(self):
        """All of it is undone; a dead one is started."""
        self.do_go_on()
        if self.wire:
            self.mend()
        self.do_start()
        if "set" in self.harmed:
            self.unset()


class LocalMember(Member):
    """One that the keeper starts, and starts again when it ends."""

    @property
    def pid(self):
        ups = self.lab.sluice.find("worker_started", name=self.crew.name, replica=self.i)
        ended = [e["pid"] for e in self.lab.sluice.find("worker_exited", name=self.crew.name, replica=self.i)]
        return ups[-1]["pid"] if ups and ups[-1]["pid"] not in ended else None

    def do_start(self):
        pass

    def gone(self, back):
        assert back is None, "the keeper says when it comes back"

    def end(self):
        pass


class Crew:
    """The workers of one section: the keeper's own (local), or the laboratory's, over TCP or Unix sockets."""

    def __init__(self, lab, name, count=1, local=False, over="tcp", wires=False, rules=None, **script):
        self.lab, self.name, self.local, self.over, self.wires = lab, name, local, over, wires
        self.rules, self.script = rules or {}, script
        self.path = lab.directory / f"{name}.script"
        self.path.write_text(json.dumps(script))
        self.members = [(LocalMember if local else Member)(self, i) for i in range(count)]

    def words(self):
        return [sys.executable, HERE / "worker.py", "--script", self.path, "--orders", self.lab.directory]

    def start(self):
        """Its section in gateway.conf."""
        if self.local:
            return {"command": [str(w) for w in self.words()], "replicas": len(self.members), **self.rules}
        for m in self.members:
            m.do_start()
        for m in self.members:
            m.wait_up()
            if self.wires:
                m.wire = self.lab.wires.before(m.address)
        reach = [m.wire.address if m.wire else m.address for m in self.members]
        return {"addresses": [a if a.startswith("unix:") else f"grpc://{a}" for a in reach], **self.rules}


class Store:
    """A Redis behind the cache, and what can happen to it. It holds what it has in memory alone. With sentinels it is the
    first master of a group that goes on without it."""

    def __init__(self, lab, name="redis/0", sentinels=False, **keys):
        self.lab, self.name, self.still, self.keys = lab, name, False, keys
        self.group = Sentinels() if sentinels else None
        self.server = self.group.master if sentinels else Redis()

    def section(self):
        if not self.group:
            return {"redis": f"redis://127.0.0.1:{self.server.port}", **self.keys}
        return {"sentinels": [f"127.0.0.1:{s.port}" for s in self.group.sentinels], "master": self.group.name, **self.keys}

    def end(self):
        for server in self.group.servers if self.group else [self.server]:
            server.stop()

    def do_kill(self, back=None):
        self.server.stop()
        self.still = False
        if back is not None:
            self.lab.later(back, self.do_start)

    def do_start(self):
        if not self.server.process:
            self.server.start()

    def do_stop(self, back=None):
        """SIGSTOP: it stands still, its sockets are open."""
        if self.server.process:
            self.server.pause()
            self.still = True
        if back is not None:
            self.lab.later(back, self.do_go_on)

    def do_go_on(self):
        if self.still and self.server.process:
            self.server.go_on()
        self.still = False

    def do_flush(self):
        if self.server.process and not self.still:
            assert self.server.command("FLUSHALL") == "OK"

    def do_heal(self):
        self.do_go_on()
        self.do_start()


# ---- what is demanded ----------------------------------------------------------------------------------


def moment(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def compare(value, wanted):
    """wanted: a number, or ">=3", "<=2", ">0", "<5"."""
    if not isinstance(wanted, str):
        return value == wanted
    sign, number = re.fullmatch(r"(>=|<=|>|<)\s*(-?[\d.]+)", wanted).groups()
    number = float(number)
    return {">=": value >= number, "<=": value <= number, ">": value > number, "<": value < number}[sign]


def sum_of(metrics, series):
    """Over all series of that name that carry the labels given: name{a="b"}; another word is an event of the router."""
    if not series.startswith("sluice_"):
        series = f'sluice_events_total{{event="{series}"}}'
    name, _, labels = series.partition("{")
    words = re.findall(r'\w+="[^"]*"', labels)
    return sum(v for s, v in metrics.items() if s.partition("{")[0] == name and all(w in s for w in words))


class Phase:
    """A stretch of the story and what is demanded of the requests that were both sent and answered in it."""

    def __init__(self, name, sources=None, errors=False, at_least=None):
        self.name, self.sources, self.errors, self.at_least = name, sources, errors, at_least or {}
        self.began, self.ended = time.monotonic(), None

    def findings(self, told):
        mine = [t for t in told if t.sent >= self.began and t.came <= self.ended]
        count = collections.Counter(t.source if t.status == 200 else f"error {t.status}" for t in mine)
        bad = [t for t in mine if t.status != 200] if not self.errors else []
        strange = set(count) - set(self.sources or count) - {s for s in count if s and s.startswith("error")}
        few = {s: n for s, n in self.at_least.items() if count[s] < n}
        if bad or strange or few or not mine:
            words = collections.Counter(f"{t.status} {t.text}" for t in bad).most_common(3)
            yield f"phase {self.name}: answers {dict(count)}, of sources {self.sources}, at least {self.at_least}; {words}"


class Row:
    """What the table shows of a scenario."""

    def __init__(self, name):
        self.name, self.requests, self.sources, self.errors = name, 0, {}, {}
        self.levels, self.deaths, self.moved_s, self.findings = [], 0, None, []
        self.figures = []  # sentences that nothing is demanded of

    HEAD = ("scenario", "requests", "answers by source", "errors", "level trace", "deaths", "moved")

    def cells(self):
        pairs = lambda d: " ".join(f"{k}:{v}" for k, v in sorted(d.items())) or "-"
        moved = "-" if self.moved_s is None else f"{self.moved_s * 1000:.0f} ms"
        levels = " ".join(f"{m}:{'>'.join(map(str, t))}" for m, t in self.levels) or "-"
        return (self.name, str(self.requests), pairs(self.sources), pairs(self.errors), levels, str(self.deaths), moved)


# ---- playing -----------------------------------------------------------------------------------------


class Chaos:
    def __init__(self, seed, length_s):
        self.rng, self.length_s = random.Random(seed), length_s


class Lab:
    def __init__(self, name, scenario, chaos=None, times=1):
        self.name, self.scenario, self.chaos, self.times = name, scenario, chaos, times
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="lab-"))
        self.rng = chaos.rng if chaos else random.Random(name)
        self.phases, self.deaths, self.levels, self.troubles = [], [], {}, []
        self.stores, self.figures = [], []
        self.ended, self.due, self.news = threading.Event(), [], threading.Condition()

    # -- a clock for what happens later and again

    def later(self, after_s, what):
        with self.news:
            self.due.append((time.monotonic() + after_s, what))
            self.news.notify()

    def clock(self):
        while not self.ended.is_set():
            with self.news:
                self.due.sort(key=lambda d: d[0])
                now = time.monotonic()
                ready = [what for at, what in self.due if at <= now]
                self.due = [d for d in self.due if d[0] > now]
                if not ready:
                    self.news.wait(min(0.05, self.due[0][0] - now) if self.due else 0.05)
            for what in ready:
                try:
                    what()
                except Exception as e:
                    self.troubles.append(f"{what}: {e!r}")

    def repeat(self, every_s, harm):
        def again():
            if harm in self.repeated:
                self.harm(**harm)
                self.later(every_s, again)

        self.repeated.append(harm)
        self.later(every_s, again)

    # -- actors

    def chosen(self, to):
        """Members by "w/0", "w/*" (all), "w/any" (one that is whole; never the last one)."""
        crew, which = to.split("/")
        members = self.stores if crew == "redis" else self.crews[crew].members
        if which == "*":
            return members
        if which != "any":
            return [members[int(which)]]
        whole = [m for m in members if self.is_whole(m)]
        return [self.rng.choice(whole)] if len(whole) > 1 else []

    def is_whole(self, m):
        """Nobody harms it, and the gateway gives it work."""
        if m.harmed or not m.pid:
            return False
        page = self.sluice.status_page()
        number = next(i for i, w in enumerate(page["workers"]) if w["name"] == m.name)
        desks = [d for loop in page["loops"] if loop["answered"] for d in loop["holds"]["desks"]]
        replicas = [r for d in desks for r in d["replicas"] if r["id"] == number]
        states = set(page["workers"][number]["connections"])
        return states == {"ready"} and all(r["up"] and r["breaker"] == "closed" for r in replicas)

    def harm(self, do, to, **how):
        for m in self.chosen(to):
            getattr(m, "do_" + do)(**how)

    # -- steps of a story (step_NAME: the first key)

    def step_do(self, do, **how):
        self.harm(do, **how)

    def step_every(self, every, **harm):
        self.repeat(seconds(every), harm)

    def step_enough(self, enough):
        """What repeats ends."""
        self.repeated.clear()

    def step_answers(self, answers, of=None):
        """So many requests more have been answered, with whatever."""
        count = lambda: sum(c.outcomes.total() for c in self.callers if of in (None, c.ask.model))
        until = count() + self.times * answers
        wait_for(lambda: count() >= until or self.stopped(), 10 * PATIENCE, f"{answers} answers")

    def step_seconds(self, seconds):
        self.ended.wait(seconds)

    def step_until(self, until, value):
        wait_for(lambda: compare(sum_of(self.sluice.metrics(), until), value), PATIENCE, f"{until} {value}")

    def step_grows(self, grows, by):
        """A metric is so much more; how long that took is told."""
        count, begun = lambda: sum_of(self.sluice.metrics(), grows), time.monotonic()
        until = count() + by
        wait_for(lambda: count() >= until or self.stopped(), PATIENCE, f"{grows} grows by {by}")
        self.figures.append(f"{by} more of {grows} after {time.monotonic() - begun:.2f} s")

    def step_replicas(self, replicas, of):
        self.step_until(f'sluice_ready_replicas{{model="{of}"}}', replicas)

    def step_source(self, source, of=None):
        """Somebody has been answered by it from now on."""
        begun = time.monotonic()
        fresh = lambda: any(t.source == source and t.sent >= begun for c in self.callers for t in c.told[-200:] if of in (None, t.model))
        wait_for(lambda: fresh() or self.stopped(), PATIENCE, f"an answer from {source}")

    def step_phase(self, phase, **demands):
        self.end_phase()
        if phase:
            self.phases.append(Phase(phase, **demands))

    def end_phase(self):
        if self.phases and self.phases[-1].ended is None:
            self.phases[-1].ended = time.monotonic()

    def stopped(self):
        return self.sluice.process.poll() is not None or any(c.errors for c in self.callers)

    def step(self, step):
        name = next(iter(step))
        if name == "about":
            return
        getattr(self, "step_" + name)(**step)

    # -- the whole

    def replicas_back(self):
        """Every crew's workers are connected and ready."""
        metrics = lambda: self.sluice.metrics()
        count = lambda m, more="": sum_of(m, "sluice_worker_connections" + more)

        def all_ready():
            m = metrics()
            return count(m) == count(m, '{state="ready"}') > 0

        wait_for(all_ready, PATIENCE, "all workers ready")
        for model, n in self.replicas_of.items():
            self.step_replicas(n, model)

    def write_configuration(self, sections):
        s = self.scenario
        (self.directory / "token").write_text("open sesame, please\n")
        top = {"loops": 2, "drain_delay": 0, "runtime_dir": tempfile.gettempdir(), **s.get("top", {})}
        health = {"interval": "100ms", "timeout": "1s", "failures": 2}
        config = {"health": health, "log": {"access": str(self.directory / "access.log")}, **s.get("config", {})}
        config.update({"store": store.section() for store in self.stores})
        admin = {"address": "127.0.0.1:0", "token_file": str(self.directory / "token")}
        parts = [conf_section(top), titled("listen", {"public": {"address": "127.0.0.1:0"}}), conf_section({"admin": admin})]
        parts += [titled("worker", sections), titled("model", self.with_defaults(s.get("models", {}))), conf_section(config)]
        path = self.directory / "gateway.conf"
        path.write_text("\n".join(parts) + "\n")
        return path

    def with_defaults(self, models):
        """A `default` that is given as a row becomes a file."""
        out = {}
        for name, keys in models.items():
            keys = dict(keys)
            if isinstance(keys.get("default"), list):
                row = keys["default"]
                path = self.directory / f"{name}.default.json"
                output = {"name": "y", "datatype": "FP32", "shape": [1, len(row)], "data": row}
                path.write_text(json.dumps({"model_name": name, "outputs": [output]}))
                keys["default"] = str(path)
            out[name] = keys
        return out

    def callers_of(self, model, h1=0, h2=0, grpc=0, streams=4, pause=0.005, keys=0, timeout="10s", columns=2, fields=()):
        ask = Asked(model, keys, int(seconds(timeout) * 1e6), columns, fields=[tuple(f) for f in fields])
        factors = {n: f.get("factor", FACTS["factor"]) for c in self.crews.values() for n, f in c.script["models"].items()}
        default = self.scenario.get("models", {}).get(model, {}).get("default")
        return Callers(self.sluice.port, ask, factors, default, h1=h1, h2=h2, grpc=grpc, streams=streams, pause=pause)

    def play(self):
        s = self.scenario
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.wires = stack.enter_context(Wires())
            self.crews = {name: Crew(self, name, **crew) for name, crew in s["workers"].items()}
            stack.callback(self.end_workers)
            sections = {name: crew.start() for name, crew in self.crews.items()}
            if "redis" in s:
                self.stores.append(Store(self, **s["redis"]))
                stack.callback(self.stores[0].end)
            self.replicas_of = collections.Counter()
            for crew in self.crews.values():
                for model in crew.script["models"]:
                    self.replicas_of[model] += len(crew.members)
            wait = [load["model"] for load in s["load"]]
            self.sluice = stack.enter_context(Sluice(self.write_configuration(sections), wait_models=wait))
            self.replicas_back()
            self.repeated = []
            clock = threading.Thread(target=self.clock, daemon=True)
            clock.start()
            stack.callback(self.ended.set)
            self.callers = [self.callers_of(**load) for load in s["load"]]
            with contextlib.ExitStack() as loads:
                for c in self.callers:
                    loads.enter_context(c)
                self.run_chaos() if self.chaos else self.tell_story()
            self.end_phase()
            return self.judge()

    def end_workers(self):
        for crew in self.crews.values():
            for m in crew.members:
                m.end()

    def tell_story(self):
        for step in self.scenario["story"]:
            if self.stopped():
                break
            self.step(step)
        self.heal()

    def heal(self):
        self.repeated.clear()
        with self.news:
            self.due.clear()
        for m in [m for crew in self.crews.values() for m in crew.members] + self.stores:
            m.do_heal()

    def run_chaos(self):
        """Random faults of those that the scenario names, one of a crew always whole; then all is healed, and
        every request is answered as it was before."""
        until = time.monotonic() + self.chaos.length_s
        faults = self.scenario["chaos"]["faults"]
        while time.monotonic() < until and not self.stopped():
            self.harm(**self.rng.choice(faults))
            self.ended.wait(self.rng.uniform(0.2, self.scenario["chaos"].get("pause", 2.0)))
        self.heal()
        self.replicas_back()
        self.step_answers(50)
        self.step_phase("healed", **self.scenario["chaos"].get("healed", {}))
        self.step_answers(100)

    # -- judgement

    def judge(self):
        row, told = Row(self.name), [t for c in self.callers for t in c.told]
        demands = self.scenario.get("demands", {})
        if self.chaos:  # what the story is to have caused need not happen
            demands = {k: demands[k] for k in ("sources", "errors", "moved") if k in demands}
            demands.update(self.scenario["chaos"].get("demands", {}))
        for name in ("in_flight", "streams", "queue_rows", "running_rows", "connections"):
            wait_for(lambda n=name: self.sluice.metric("sluice_" + n) == 0, 30, f"{name} 0")
        metrics = self.sluice.metrics()
        self.exits = self.sluice.find("worker_exited")
        assert self.sluice.stop() == 0, self.sluice.text
        log = self.sluice.access_log()
        row.requests = len(told)
        row.sources = dict(collections.Counter(t.source for t in told if t.status == 200))
        row.errors = {e: int(n) for e, n in self.statuses(metrics).items() if e != "ok"}
        killed = {pid for _, pid in self.deaths}
        row.deaths = len(killed | {e["pid"] for e in self.exits})
        row.levels = self.level_traces()
        row.moved_s = self.moved(log)
        row.figures = [*self.figures, *self.own_times(told, log)]
        row.findings = [f for check in (self.accounts, self.answers, self.extras) for f in check(row, told, metrics, log, demands)]
        return row

    def statuses(self, metrics):
        """{status: requests} of all models: inferences."""
        found = collections.Counter()
        for series, n in metrics.items():
            if series.startswith("sluice_requests_total{") and 'model=""' not in series:
                found[re.search(r'status="(\w+)"', series)[1]] += n
        return found

    def accounts(self, row, told, metrics, log, demands):
        """No request is lost, none answered twice, and what was counted and logged is what was answered."""
        outcomes = sum((c.outcomes for c in self.callers), collections.Counter())
        lost = {o: n for o, n in outcomes.items() if o in ("lost", "again", "reset", "hung", "refused")}
        if lost or any(c.ask.out for c in self.callers):
            yield f"lost: {lost}, never answered: {[k for c in self.callers for k in c.ask.out][:5]}"
        if any(c.twice for c in self.callers):
            yield f"answered twice: {[c.twice[:5] for c in self.callers]}"
        counted = self.statuses(metrics)
        if sum(counted.values()) != len(told) or counted["ok"] != sum(t.status == 200 for t in told):
            yield f"counted {dict(counted)}, answered {dict(outcomes)}"
        ids = collections.Counter(e["id"] for e in log if e.get("id", "").startswith("lab-"))
        if max(ids.values(), default=0) > 1 or set(ids) != {f"lab-{t.k}" for t in told}:
            yield f"logged {len(ids)} of {len(told)}, twice: {[i for i, n in ids.items() if n > 1][:5]}"
        wrong = [w for c in self.callers for w in c.wrong]
        if wrong:
            yield f"{len(wrong)} wrong answers: {wrong[:3]}"
        for trouble in self.troubles:
            yield f"the laboratory: {trouble}"

    def answers(self, row, told, metrics, log, demands):
        """Errors within what is allowed, sources as demanded, phase by phase."""
        allowed = demands.get("errors", {})
        for error, n in row.errors.items():
            if n > allowed.get(error, 0) * max(1, row.requests):
                words = collections.Counter(f"{t.status} {t.text}" for t in told if t.status != 200).most_common(3)
                yield f"{n} of {row.requests} requests: {error}, allowed is a share of {allowed.get(error, 0)}: {words}"
        for error, least in demands.get("some", {}).items():
            if not compare(row.errors.get(error, 0), least):
                yield f"{error}: {row.errors.get(error, 0)}, demanded {least}"
        for source in set(row.sources) - set(demands.get("sources", row.sources)):
            yield f"{row.sources[source]} answers from {source}"
        for phase in self.phases:
            yield from phase.findings(told)

    def extras(self, row, told, metrics, log, demands):
        """What the gateway counted, how long what was aboard at a death had to wait, and the levels."""
        for series, wanted in {"poison": 0, **demands.get("metrics", {})}.items():
            if not compare(sum_of(metrics, series), wanted):
                yield f"{series}: {sum_of(metrics, series):g}, demanded {wanted}"
        if "moved" in demands and row.moved_s is not None and row.moved_s > seconds(demands["moved"]):
            yield f"what was there at a death was answered {row.moved_s:.3f} s later, allowed are {demands['moved']}"
        for model, trace in row.levels:
            for before, now in zip(trace, trace[1:]):
                if abs(now - before) != 1 and (before, now) not in JUMPS:
                    yield f"the level of {model} went from {before} to {now}: {trace}"
        for model, trace in demands.get("levels", {}).items():
            if dict(row.levels).get(model) != trace:
                yield f"levels of {model}: {dict(row.levels).get(model)}, demanded {trace}"

    def own_times(self, told, log):
        """Of each phase, what the gateway itself took of a request, by its own clock: all but the model's queue and its time;
        and how that is to the first phase's."""
        model = lambda e: e.get("queue_us", 0) + e.get("compute_us", 0)  # noqa: E731
        own = {e["id"]: e["total_us"] - model(e) for e in log if e.get("outcome") == "ok" and "total_us" in e}
        first = None
        for phase in self.phases if self.stores else ():
            us = sorted(own[f"lab-{t.k}"] for t in told if t.sent >= phase.began and t.came <= phase.ended and f"lab-{t.k}" in own)
            if us:
                p50, p99 = us[len(us) // 2], us[len(us) * 99 // 100]
                first = first or p99
                yield f"{phase.name}: {len(us)} answers, of the gateway's own p50 {p50} us, p99 {p99} us, {p99 / first:.2f} of the first phase's"

    def level_traces(self):
        """[(model, [level, ...])] of the models whose level has moved."""
        traces = {}
        for e in self.sluice.find("level"):
            traces.setdefault(e["model"], [e["before"]]).append(e["now"])
        return sorted(traces.items())

    def moved(self, log):
        """Seconds, by the gateway's clock, from the death of a worker to the last good answer of what was there
        then: those that were aboard it, and those that waited. None: nobody died with anything there."""
        deaths = [moment(e) for e in (*self.exits, *self.sluice.find("worker_down"))]
        longest = None
        for e in (e for e in log if e.get("outcome") == "ok" and "total_us" in e):
            end = moment(e)
            for death in deaths:
                if end - e["total_us"] / 1e6 < death < end:
                    longest = max(longest or 0.0, end - death)
        return longest


def play(name, scenario, chaos=None, times=1):
    """Its row; what is not as the scenario demands stands in row.findings."""
    return Lab(name, scenario, chaos, times).play()
