"""A model on several workers, with preference; and what is told of demand and of starts (/signals)."""
import json
import os
import signal
import uuid

import httpx
from harness import GOOD_BODY, MODELS, wait_for, worker_command
from test_ctl import ask
from test_explain_request import only_part, remembered
from test_reload import change, reload

INFER = "/v2/models/digits/infer"
TOKEN = {"authorization": "Bearer open sesame, please"}


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
    sluice.wait_event("replica_up", count=6)  # of two models: w, v, and w again; the log comes a little later
    sluice.wait_event("replica_down", count=2)
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


def signals(sluice):
    status, text = sluice.get("/signals", sluice.admin_port, TOKEN)
    assert status == 200, text
    return json.loads(text)


def test_demand_and_starts_are_told(start, tmp_path):
    sluice = two_workers(start, tmp_path, keys='cache { ttl = "1h" }')
    wait_replicas(sluice, "w/0", "v/0")
    assert sluice.get("/signals", sluice.admin_port)[0] == 401
    for i in range(20):
        infer(sluice, f"r{i}")
    assert httpx.post(sluice.url + INFER, content=b"{}").status_code == 400
    page = signals(sluice)
    told = next(m for m in page["models"] if m["name"] == "digits")
    wait_for(lambda: signals(sluice)["models"][page["models"].index(told)]["asked"]["requests"] == 20)
    page = signals(sluice)
    told = next(m for m in page["models"] if m["name"] == "digits")
    rows = sum(t["shape"][0] for t in json.loads(GOOD_BODY)["inputs"][:1])
    assert told["itself"]["requests"] + told["cache"]["requests"] == 20 and told["cache"]["requests"] > 0
    assert told["asked"]["rows"] == 20 * rows == told["itself"]["rows"] + told["cache"]["rows"]
    assert told["asked"]["row_seconds"] > 0 or told["asked"]["rows_of_unknown_cost"] == 20 * rows
    assert all(told[k]["requests"] == 0 for k in ("fallback", "stale", "default", "shed", "late", "failed"))
    sluice.settle()
    assert sluice.metric("sluice_demand_rows_total", model="digits") == 20 * rows
    assert page["started_us"] < page["monotonic_us"]
    w = next(w for w in page["workers"] if w["name"] == "w/0")
    assert w["section"] == "w" and w["local"] and w["starts"] == 1
    phases = [w[k] for k in ("spawned_us", "listening_us", "loaded_us", "warm_us", "answered_us")]
    assert None not in phases and phases == sorted(phases)
    assert next(v for v in page["workers"] if v["name"] == "v/0")["answered_us"] is None
    assert sluice.metric("sluice_worker_start_seconds", worker="w/0", phase="warm") > 0
    # Another life of the process counts anew, and says so.
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("ready", count=2, timeout=60)
    again = signals(sluice)
    assert again["boot_id"] != page["boot_id"] and len(again["boot_id"]) == 32
    assert all(m["asked"]["requests"] == 0 for m in again["models"])
