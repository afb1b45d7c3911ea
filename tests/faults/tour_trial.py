"""The last act of make tour: an experiment tries the next version of a model. It is started by hand, its ramp raises its weight
step by step, its worker begins to fail, and its guard ends it: by itself, and with its evidence."""
import collections
import itertools
import os
import shlex
import subprocess
import time

import grpc
from harness import BUILD, wait_for
from worker import serve

NEXT = "digits-next"
VARIANT = "canary/next"  # as answers and errors name it
SPOILT = 10  # once it is to, every tenth inference of its worker fails
PATIENCE = 60
TRIAL = f"""experiment "canary" {{
    model = "digits"
    key = "header:x-user"
    draft = true
    variant "control" {{ model = "digits" weight = 100% }}
    variant "next" {{ model = "{NEXT}" weight = 0% }}
    ramp {{ variant = "next" steps = {{1%, 5%, 25%, 50%, 100%}} wait = "2s" min_requests = 1 }}
    guard {{ errors = true min_requests = 100 }}
}}"""


class Passage:
    """Stands before a worker and passes every call on to it; while it `spoils`, every SPOILT-th inference fails here."""

    def __init__(self, to, path):
        self.path, self.spoils, self.inferences = path, False, itertools.count(1)
        self.channel = grpc.insecure_channel(f"unix:{to}")
        self.server, _ = serve(self, f"unix:{path}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(0).wait()
        self.channel.close()

    def call(self, method, octets, context):
        if method == "ModelInfer" and self.spoils and next(self.inferences) % SPOILT == 0:
            context.abort(grpc.StatusCode.INTERNAL, "injected by the tour")
        try:
            return self.channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(octets, timeout=30)
        except grpc.RpcError as e:
            return context.abort(e.code(), e.details())


def operator(tour):
    """What sluicectl goes by."""
    return {"SLUICE_ADMIN": f"127.0.0.1:{tour.sluice.admin_port}", "SLUICE_TOKEN_FILE": str(tour.sluice.config.parent / "token")}


def typed(tour, *words):
    """Runs sluicectl, and prints what was typed and what it said."""
    command = shlex.join(["sluicectl", *words])
    print(f"   $ {command}", flush=True)
    done = subprocess.run([BUILD / "sluicectl", *words], env={**os.environ, **operator(tour)}, capture_output=True, text=True, timeout=60)
    for line in (done.stdout + done.stderr).rstrip().splitlines():
        print(f"     {line}".rstrip())
    if done.returncode:
        tour.failed.append(f"{command}: {done.returncode}")


def variant_of(fields):
    return fields.get("sluice-experiment", "/").split("/")[1] or "no variant"


class Table:
    """A line a second: the weight, and of each variant how many were answered and how many failed."""

    def __init__(self, tour):
        self.tour, self.since = tour, len(tour.crowd.answered)
        print(f"   {'weight of next':>14}  {'control':>8} {'failed':>6}  {'next':>8} {'failed':>6}  {'of no variant':>13}", flush=True)

    def line(self):
        time.sleep(1)
        new = self.tour.crowd.answered[self.since :]
        self.since += len(new)
        n = collections.Counter((variant_of(fields), who.endswith("!")) for who, _, fields in new)
        good, bad = [[n[v, is_bad] for v in ("control", "next")] for is_bad in (False, True)]
        (shown,) = self.tour.sluice.status_page()["experiments"]
        weight = {v["name"]: v["weight_ppm"] for v in shown["variants"]}["next"] if shown["status"] == "running" else 0
        nobody = n["no variant", False]
        print(f"   {weight / 10000:12.0f} %  {good[0]:8} {bad[0]:6}  {good[1]:8} {bad[1]:6}  {nobody:13}  {shown['status'].replace('_', ' ')}", flush=True)
        return weight, n

    def until(self, reached, what):
        """Lines until reached(weight, counts)."""
        end = time.monotonic() + PATIENCE
        while not reached(*self.line()):
            if time.monotonic() > end:
                return self.tour.failed.append(f"not within {PATIENCE} s: {what}")


def is_over(sluice):
    return sluice.find("experiment_changed", who="guard")


def trial(tour, passage):
    wait_for(lambda: tour.sluice.metric("sluice_degradation_level", model="digits") == 0, PATIENCE, "all is well again")
    tour.title("`digits-next` shall become `digits`. gateway.conf has an experiment, which waits for somebody to start it.")
    print("\n".join(f"     {line}" for line in TRIAL.splitlines()))
    print("   $ export " + " ".join(f"{k}={v}" for k, v in operator(tour).items()))
    typed(tour, "experiment", "resume", "canary", "--why", "the next version")
    Table(tour).until(lambda weight, _: weight >= 250000, "the ramp has reached 25 %")
    tour.title(f"The worker of `digits-next` begins to fail: every {SPOILT}th inference. Nobody looks on but the guard.")
    passage.spoils = True
    Table(tour).until(lambda *_: is_over(tour.sluice), "the guard ends it")
    for event in tour.sluice.find("experiment_changed")[-4:]:
        print(f"   {event['time']} {event['event']} revision {event['revision']}, {event['status']}, by {event['who']}: {event['why']}")
    tour.title("It is over: all are answered by the control, and who looks finds the evidence.")
    typed(tour, "experiment", "show", "canary")
    table = Table(tour)
    table.line()  # has those that were under way
    for _ in range(2):
        _, n = table.line()
        if n["next", False] + n["next", True] > 0 or n["no variant", False] == 0:
            tour.failed.append(f"not all are the control's: {dict(n)}")
