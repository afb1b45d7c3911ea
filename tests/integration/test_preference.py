"""A model on several workers, with preference."""
import os
import signal
import uuid

import httpx
from harness import GOOD_BODY, MODELS, wait_for, worker_command
from test_ctl import ask
from test_explain_request import only_part, remembered
from test_reload import change, reload

INFER = "/v2/models/digits/infer"


def two_workers(start, tmp_path, *, loops=2, keys=""):
    second = worker_command(MODELS)
    return start(
        loops=loops,
        unless=tmp_path / "no-w",
        models=f'worker "v" {{ command = {{{second}}} }} model "digits" {{ worker = {{"w", "v"}} slow_start = 0 {keys} }}',
    )


def replicas(sluice):
    models = {m["name"]: m for m in ask(sluice, "models", "--json").json}
    return {r["name"]: r for r in models["digits"]["desk"]["replicas"] if r["up"]}


def wait_replicas(sluice, *names):
    wait_for(lambda: set(replicas(sluice)) == set(names), 60, f"{names} have digits")


def infer(sluice, name):
    answer = httpx.post(sluice.url + INFER, content=GOOD_BODY, headers={"x-request-id": name}, timeout=20)
    assert answer.status_code == 200, answer.text


def answered_by(sluice, n=5):
    """Who computes one request after the other."""
    names = [uuid.uuid4().hex for _ in range(n)]
    for name in names:
        infer(sluice, name)
    return {only_part(remembered(sluice, name))["replica"] for name in names}


def test_the_first_while_it_is_there(start, tmp_path):
    sluice = two_workers(start, tmp_path)
    wait_replicas(sluice, "w/0", "v/0")
    assert {name: r["rank"] for name, r in replicas(sluice).items()} == {"w/0": 0, "v/0": 1}
    assert "digits: replica v/0 is in reserve" in ask(sluice, "models").out
    assert answered_by(sluice) == {"w/0"}
    (tmp_path / "no-w").touch()
    os.kill(sluice.find("worker_started", name="w")[-1]["pid"], signal.SIGKILL)
    assert answered_by(sluice) == {"v/0"}
    (tmp_path / "no-w").unlink()
    wait_replicas(sluice, "w/0", "v/0")
    assert answered_by(sluice) == {"w/0"}
    # The list changes while they serve: nobody goes, and nobody comes.
    before = len(sluice.find("replica_up")), len(sluice.find("replica_down"))
    change(sluice, ('{"w", "v"}', '{"v", "w"}'))
    assert reload(sluice) == 'model "digits": worker: was {"w", "v"}, is {"v", "w"}'
    wait_for(lambda: replicas(sluice)["v/0"]["rank"] == 0)
    assert answered_by(sluice) == {"v/0"}
    assert (len(sluice.find("replica_up")), len(sluice.find("replica_down"))) == before
    change(sluice, ('{"v", "w"}', '"w"'))
    reload(sluice)
    wait_replicas(sluice, "w/0")
    assert answered_by(sluice) == {"w/0"}
