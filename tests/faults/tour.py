#!/usr/bin/env python3
"""make tour: watch the gateway go on answering while what stands behind it is taken away and comes back.

A real gateway, its Redis and three real workers: one with the larger digits model, one with the smaller one, and one with the
next version, which an experiment tries (tour_trial.py). Clients ask the larger one all the time. Each scene says what
happens, then prints a line a second. Takes about a minute and a half; ends with 0 when every request was answered, and
rightly, but for those that the next version fails on purpose.
"""
import argparse
import collections
import contextlib
import itertools
import json
import pathlib
import re
import signal
import statistics
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

from harness import MODELS, SAMPLES, WORKER, Program, Sluice, Wire, copy_model, infer_body, wait_for  # noqa: E402
from lab import conf_section, titled  # noqa: E402
from load import Load, Questions  # noqa: E402
from redis_servers import Redis  # noqa: E402
from tour_trial import NEXT, TRIAL, Passage, VARIANT, trial  # noqa: E402

BIG, SMALL = "digits", "digits-small"
DEFAULT = [0.1] * 10  # the written answer: each digit is as likely
SHOWN = ("sluice-model", "sluice-source", "sluice-fallback", "sluice-attempts", "sluice-degradation", "age", "server-timing")


class Samples(Questions):
    """The demo samples, asked of the larger model; what is right depends on who answers. With `fresh` each is a little
    other than all before, so that nothing kept answers it."""

    def __init__(self):
        super().__init__(BIG, [(s["input"], s[BIG]) for s in SAMPLES])
        small = [s[SMALL] for s in SAMPLES]
        self.right = {BIG: self.wants, SMALL: small, NEXT: small}
        self.fresh, self.numbers, self.users = False, itertools.count(1), itertools.count(1)

    def body(self, k):
        row = list(SAMPLES[k]["input"])
        if self.fresh:
            row[0] += next(self.numbers) * 1e-6
        return infer_body([row])

    def fields(self, k):
        return [("x-user", str(next(self.users)))]

    def http1(self, k):  # asks for the body once
        body = self.body(k)
        user = self.fields(k)[0][1].encode()
        head = b"POST %s HTTP/1.1\r\nHost: sluice\r\nX-User: %s\r\nContent-Length: %d\r\n\r\n" % (self.path.encode(), user, len(body))
        return head + body

    def is_right_from(self, who, k, data):
        want = DEFAULT if who == "default" else self.right[who][k]
        return len(data) == len(want) and all(abs(a - b) < 0.02 for a, b in zip(data, want))


def who_answered(fields):
    """A model's name, or where the answer came from."""
    return fields["sluice-model"].split(";")[0] if fields["sluice-source"] == "model" else fields["sluice-source"]


class Crowd(Load):
    """Clients that ask on and on; keeps who answered, and how long that took by the gateway's own clock."""

    def __init__(self, port):
        super().__init__(port, h1=4, h2=1, streams=4, ask=Samples(), pause=0.02)
        self.answered, self.of_variant = [], 0

    def judge(self, k, status, fields, body):
        self.count(status)
        if status != 200 and fields.get("sluice-experiment") == VARIANT:  # it has nobody behind it, and is failed on purpose
            self.of_variant += 1
            return self.answered.append((f"{status}!", 0.0, fields))
        if status != 200:
            self.texts[f"{status} {body[:200]!r}"] += 1
            return self.answered.append((f"{status}!", 0.0, fields))
        who, model = who_answered(fields), fields.get("sluice-model", "default").split(";")[0]
        if not self.ask.is_right_from(model, k, json.loads(body)["outputs"][0]["data"]):
            self.wrong.append((k, body[:300]))
        took = re.search(r"total;dur=([\d.]+)", fields.get("server-timing", ""))
        self.answered.append((who, float(took[1]) if took else 0.0, fields))


class Place:
    """A worker with one model, at a Unix socket: it can be killed and started again."""

    def __init__(self, directory, model, source=None):
        self.model, self.repository, self.path = model, directory / f"{model}-models", directory / f"{model}.sock"
        copy_model(MODELS / (source or model) / "1" / "model.onnx", self.repository, model)
        self.start()

    def start(self):
        self.path.unlink(missing_ok=True)
        words = [WORKER, "--repository", self.repository, "--device", "cpu", "--threads", "1", "--listen", f"unix:{self.path}"]
        self.program = Program(words)
        self.program.wait_event("listening", timeout=60)

    def kill(self):
        self.program.kill(signal.SIGKILL)
        self.program.process.wait()


def configuration(directory, paths, redis):
    """paths: of each model's worker."""
    answer = {"model_name": BIG, "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": DEFAULT}]}
    (directory / "default.json").write_text(json.dumps(answer))
    (directory / "token").write_text("open sesame, please\n")
    (directory / "token").chmod(0o600)
    big = {"worker": BIG, "fallback": [SMALL, "cached", "default"], "default": str(directory / "default.json")}
    big["cache"] = {"ttl": "10ms", "stale": "24h"}  # nearly nothing is answered from what is kept while the model can
    big["degradation"] = {"hold": "1500ms", "window": "3s"}
    parts = [
        conf_section({"loops": 2, "drain_delay": 0}),
        titled("listen", {"public": {"address": "127.0.0.1:0"}}),
        conf_section({"admin": {"address": "127.0.0.1:0", "token_file": str(directory / "token")}}),
        titled("worker", {model: {"addresses": [f"unix:{path}"]} for model, path in paths.items()}),
        titled("model", {BIG: big, SMALL: {"worker": SMALL}, NEXT: {"worker": NEXT}}),
        conf_section({"store": {"redis": f"redis://127.0.0.1:{redis.port}/0"}}),
        TRIAL,
        conf_section({"health": {"interval": "100ms", "timeout": "500ms", "failures": 2}}),
    ]
    path = directory / "gateway.conf"
    path.write_text("\n".join(parts) + "\n")
    return path


class Tour:
    def __init__(self, sluice, crowd, seconds):
        self.sluice, self.crowd, self.seconds, self.scenes, self.failed = sluice, crowd, seconds, 0, []

    def title(self, text):
        self.scenes += 1
        print(f"\n{self.scenes}. {text}", flush=True)

    def scene(self, title, doing, expected):
        """Does it, waits until somebody is answered by whom is expected, and shows some seconds of it."""
        self.title(title)
        doing()
        since = len(self.crowd.answered)
        try:
            wait_for(lambda: any(who == expected for who, _, _ in self.crowd.answered[since:]), 30, f"an answer from {expected}")
        except AssertionError as e:
            self.failed.append(str(e))
        print(f"   {'':6} {'answered':>8}  {'by':34} {'half of them within':>20}  level", flush=True)
        for second in range(1, self.seconds + 1):
            since = len(self.crowd.answered)
            time.sleep(1)
            self.line(second, self.crowd.answered[since:])
        self.show_one()

    def line(self, second, answers):
        by = collections.Counter(who for who, _, _ in answers)
        levels = {f.get("sluice-degradation") for _, _, f in answers} - {None}
        half = f"{statistics.median(ms for _, ms, _ in answers):.1f} ms" if answers else "-"
        who = ", ".join(f"{w} {n}" for w, n in by.most_common())
        print(f"   {second:4} s {len(answers):8}  {who:34} {half:>20}  {'/'.join(sorted(levels)) or '-'}", flush=True)

    def show_one(self):
        with Wire(self.sluice.port, 30) as wire:
            status, fields, _ = wire.send(self.crowd.ask.http1(0)).read_answers(1)[0]
        print(f"   one answer: {status}")
        for name in SHOWN:
            if name in fields:
                print(f"     {name}: {fields[name]}")
        sys.stdout.flush()


def walk(tour, big, small):
    def fresh(is_fresh):
        tour.crowd.ask.fresh = is_fresh

    tour.scene("All is well. Clients ask `digits`; behind it stand `digits-small`, what is kept, and a written answer.", lambda: None, BIG)
    tour.scene("kill -9 of the worker of `digits`: `digits-small` answers at once; from level 3 on, what is kept goes first.", big.kill, SMALL)
    tour.scene("kill -9 of the worker of `digits-small` too: what is kept is left, old as it may be.", small.kill, "stale")
    tour.scene("Clients ask what nobody has asked before: the written answer.", lambda: fresh(True), "default")
    tour.scene("The worker of `digits-small` is started again.", small.start, SMALL)
    fresh(False)
    tour.scene("The worker of `digits` is back.", big.start, BIG)


def verdict(tour, crowd):
    asked, answered, excused = crowd.outcomes.total(), crowd.outcomes[200], crowd.of_variant
    by = collections.Counter(who for who, _, _ in crowd.answered)
    print(f"\n{asked} requests, {answered} answered, {excused} failed by the variant that was made to, {asked - answered - excused} others not answered")
    print(f"  {', '.join(f'{n} by {w}' for w, n in by.most_common() if not w.endswith('!'))}; {len(crowd.wrong)} wrong")
    for text, n in crowd.texts.most_common(5):
        print(f"  {n} x {text}")
    for text in tour.failed:
        print(f"  {text}")
    return 0 if answered + excused == asked and not crowd.wrong and not tour.failed else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=9, help="of each scene")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tour-")))
        redis = stack.enter_context(Redis())
        places = big, small, coming = Place(directory, BIG), Place(directory, SMALL), Place(directory, NEXT, SMALL)
        for place in places:
            stack.callback(place.kill)
        passage = stack.enter_context(Passage(coming.path, directory / "passage.sock"))
        paths = {BIG: big.path, SMALL: small.path, NEXT: passage.path}
        sluice = stack.enter_context(Sluice(configuration(directory, paths, redis), wait_models=(BIG, SMALL, NEXT)))
        print(f"gateway on {sluice.url}, metrics on 127.0.0.1:{sluice.admin_port}")
        with Crowd(sluice.port) as crowd:
            tour = Tour(sluice, crowd, args.seconds)
            walk(tour, big, small)
            trial(tour, passage)
        return verdict(tour, crowd)


if __name__ == "__main__":
    sys.exit(main())
