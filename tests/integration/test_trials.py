"""Live experiments: what operators and guards change while requests run, where it is kept, and who wins."""
import os
import re
import signal

import httpx
import pytest
from harness import MODELS, SAMPLES, Sluice, configuration, wait_for, worker_command
from test_chains import kept_away, only
from test_ctl import DONE, REFUSED, Watching
from test_ctl import ask as ctl
from test_reload import TOKEN, change, reload

ROW = [float(v) for v in SAMPLES[0]["input"]]
HALVES = 'variant "control" { model = "digits" weight = 50% } variant "treatment" { model = "digits-small" weight = 50% }'
SIZE = f'experiment "size" {{ model = "digits" key = "header:x-user" holdout = 10% {HALVES} }}'
USERS = [f"user-{i}" for i in range(60)]
CLIENT = httpx.Client(timeout=20)


@pytest.fixture
def start(tmp_path):
    """Starts gateways on one directory, one after the other; each is stopped, and has nothing to complain of."""
    running = []

    def begin(models=SIZE, state=True, wait_models=("digits", "digits-small"), **more):
        top = f'state_dir = "{tmp_path}/state"' if state else ""
        sluice = Sluice(configuration(tmp_path / "g", models=models, top=top, **more), wait_models=wait_models)
        running.append(sluice)
        return sluice

    yield begin
    for sluice in running:
        if sluice.process.poll() is None:
            assert sluice.stop() == 0, sluice.text


def infer(sluice, user=None, **headers):
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW}]}
    headers = {**({"x-user": user} if user else {}), **headers}
    return CLIENT.post(f"{sluice.url}/v2/models/digits/infer", json=body, headers=headers)


def draws(sluice, users=USERS):
    """{user: (variant or None, model)}"""
    got = {user: infer(sluice, user) for user in users}
    assert all(answer.status_code == 200 for answer in got.values())
    return {u: (a.headers.get("sluice-experiment", "/").split("/")[1] or None, a.json()["model_name"]) for u, a in got.items()}


def admin(sluice, path="/size", body=None, headers=TOKEN):
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/experiments{path}"
    return CLIENT.get(url, headers=headers) if body is None else CLIENT.post(url, json=body, headers=headers)


def act(sluice, verb, name="size", **body):
    answer = admin(sluice, f"/{name}/{verb}", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(sluice, name="size"):
    answer = admin(sluice, f"/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def all_loops(sluice):
    """What was changed is in force by now: the pointer that all loops read was changed before the answer came."""
    return {user: variant for user, (variant, _) in draws(sluice).items()}


def test_weights_move_whom_they_must(start):
    sluice = start()
    before = all_loops(sluice)
    assert set(before.values()) == {None, "control", "treatment"}
    now = act(sluice, "weights", weights_ppm={"treatment": 200000}, why="less of it")
    assert [v["weight_ppm"] for v in now["variants"]] == [800000, 200000]
    assert (now["revision"], now["status"], now["why"], now["kept"]) == (2, "running", "less of it", True)
    less = all_loops(sluice)
    assert {(before[u], less[u]) for u in USERS if before[u] != less[u]} == {("treatment", "control")}
    act(sluice, "weights", weights_ppm={"control": 500000, "treatment": 500000})
    assert all_loops(sluice) == before
    event = sluice.wait_event("experiment_changed", count=2)
    assert (event["experiment"], event["revision"], event["status"]) == ("size", 3, "running")
    assert sluice.metric("sluice_experiment_weight", experiment="size", variant="treatment") == 0.5
    assert [e["revision"] for e in sluice.status_page()["experiments"]] == [3]


def test_who_stands_still_has_the_control_and_who_is_promoted_all(start):
    sluice = start()
    before = draws(sluice)
    for verb, status in (("pause", "paused"), ("rollback", "rolled_back")):
        assert act(sluice, verb)["status"] == status
        assert set(draws(sluice).values()) == {(None, "digits")}
        assert sluice.metric("sluice_experiment_outside_total", model="digits", why=status) >= 30
        assert sluice.metric("sluice_experiment_status", experiment="size", status=status) == 1
        assert act(sluice, "resume")["status"] == "running"
        assert draws(sluice) == before
    now = act(sluice, "promote", variant="treatment")
    assert (now["status"], now["promoted"]) == ("promoted", "treatment")
    assert set(draws(sluice, [*USERS, None]).values()) == {(None, "digits-small")}
    assert sluice.metric("sluice_experiment_outside_total", model="digits", why="promoted") >= 60
    assert act(sluice, "rollback")["status"] == "rolled_back"
    assert set(draws(sluice).values()) == {(None, "digits")}


def test_what_is_live_outlives_the_process(start, tmp_path):
    sluice = start()
    act(sluice, "weights", weights_ppm={"treatment": 100000})
    paused = act(sluice, "pause", why="let us see")
    assert (tmp_path / "state" / "experiments" / "size.json").stat().st_mode & 0o77 == 0
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("gateway_started", count=2)
    wait_for(lambda: sluice.get("/v2/models/digits-small/ready")[0] == 200, 30, "it is back")
    again = wait_for(lambda: shown(sluice), 10, "its page")
    assert {k: again[k] for k in ("revision", "status", "why", "at_ms", "who")} == {
        k: paused[k] for k in ("revision", "status", "why", "at_ms", "who")
    }
    act(sluice, "resume")
    drawn = draws(sluice)
    assert sluice.stop() == 0, sluice.text
    sluice = start()
    assert shown(sluice)["revision"] == 4
    assert draws(sluice) == drawn
    # another word in the file: the file wins, as a new revision; a reload that leaves the section alone changes nothing
    reload(sluice)
    assert shown(sluice)["revision"] == 4
    change(sluice, ("holdout = 10%", "holdout = 20%"))
    reload(sluice)
    now = shown(sluice)
    assert (now["revision"], now["status"], now["who"], now["from_file"]) == (5, "running", "gateway.conf", True)
    assert [v["weight_ppm"] for v in now["variants"]] == [500000, 500000]
    act(sluice, "pause")
    change(sluice, ("holdout = 20%", "holdout = 10%"))
    assert sluice.stop() == 0, sluice.text
    sluice = Sluice(sluice.config, wait_models=("digits", "digits-small"))
    with sluice:  # changed back while nobody looked
        assert (shown(sluice)["revision"], shown(sluice)["status"]) == (7, "running")
        assert sluice.stop() == 0, sluice.text


def test_a_broken_file_is_set_aside(start, tmp_path):
    directory = tmp_path / "state" / "experiments"
    directory.mkdir(parents=True)
    for text, why in (("", "expected an object"), ('{"name": "size"}', "missing"), ("x" * 70000, "larger")):
        (directory / "size.json").write_text(text)
        sluice = start()
        event = sluice.wait_event("experiment_not_read")
        assert why in event["why"] and event["aside"].endswith("size.json.broken")
        assert (directory / "size.json.broken").read_text() == text and not (directory / "size.json").exists()
        assert (shown(sluice)["revision"], shown(sluice)["status"]) == (1, "running")
        assert sluice.stop() == 0, sluice.text
    sluice = start()
    (directory / "size.json.new").mkdir()  # nothing can be written there
    now = act(sluice, "pause")
    assert (now["status"], now["kept"]) == ("paused", False)
    sluice.wait_event("experiment_not_kept", experiment="size")
    assert set(draws(sluice).values()) == {(None, "digits")}


def test_who_has_seen_another_revision_gets_both(start):
    sluice = start(state=False)
    assert act(sluice, "pause", revision=1)["kept"] is False  # it ends with the process, and says so
    answer = admin(sluice, "/size/resume", {"revision": 1})
    assert answer.status_code == 409
    said = answer.json()
    assert (said["expected_revision"], said["is"]["revision"], said["is"]["status"]) == (1, 2, "paused")
    assert said["error"] == "revision: expected 1, it is 2: paused, by 127.0.0.1"
    assert act(sluice, "resume", revision=2)["revision"] == 3
    answer = admin(sluice, "/size/resume", {})
    assert (answer.status_code, answer.json()["error"]) == (409, "it is running")
    for path, body, status, why in (
        ("/size/weights", {}, 400, "weights_ppm: expected {VARIANT: N, ...}"),
        ("/size/weights", {"weights_ppm": {"treatmint": 1}}, 400, "weights_ppm: expected the experiment's variants, each once"),
        ("/size/weights", {"weights_ppm": {"treatment": 1000001}}, 400, "weights_ppm: expected whole numbers from 0 to 1000000"),
        ("/size/weights", {"weights_ppm": {"control": 1, "treatment": 1}}, 400, "weights_ppm: expected weights that add up to 1000000, got 2"),
        ("/size/promote", {}, 400, "variant: expected the one that all shall get"),
        ("/size/promote", {"variant": "x"}, 400, "variant: expected one of the experiment's"),
        ("/size/pause", {"weights_ppm": {}}, 400, "body: expected revision and why, each once"),
        ("/size/pause", {"revision": 0}, 400, "revision: expected a whole number from 1"),
        ("/size/pause", [], 400, "body: expected one JSON object"),
        ("/size/start", {}, 404, "path: expected weights, resume, pause, rollback, promote or delete behind the experiment's name"),
        ("/nobody/pause", {}, 404, "experiment: expected one that is in force"),
    ):
        answer = admin(sluice, path, body)
        assert (answer.status_code, answer.json()) == (status, {"error": why}), path
    assert admin(sluice, "/size/pause", {}, headers={}).status_code == 401
    assert admin(sluice, "", headers={}).status_code == 401
    assert admin(sluice, "/nobody").status_code == 404
    assert shown(sluice)["revision"] == 3


def test_a_draft_waits(start):
    sluice = start(SIZE.replace("holdout = 10%", "draft = true"))
    assert shown(sluice)["status"] == "draft"
    assert set(draws(sluice, USERS[:5]).values()) == {(None, "digits")}
    assert admin(sluice, "/size/promote", {"variant": "treatment"}).json()["error"] == "it is a draft: it has not begun"
    act(sluice, "resume")
    assert {v for v, _ in draws(sluice).values()} == {"control", "treatment"}


def test_a_variant_that_fails_is_rolled_back_by_itself(start, tmp_path):
    """Its worker is away, and nothing answers for it: the guard ends it, says why, and a start does not begin it again."""
    small = worker_command(only(tmp_path / "small", "digits-small"), unless=tmp_path / "no-v")
    section = SIZE.replace("holdout = 10%", "guard { errors = true fallbacks = true min_requests = 40 }")
    words = dict(
        repository=only(tmp_path / "big", "digits"),
        models=f'worker "v" {{ command = {{{small}}} }} model "digits-small" {{ worker = "v" timeout = "50ms" }} {section}',
    )
    sluice = start(**words)
    variants = {u: v for u, (v, _) in draws(sluice).items()}
    control, treated = ([u for u in USERS if variants[u] == v] for v in ("control", "treatment"))
    assert shown(sluice)["watched"] and shown(sluice)["variants"][1]["guards"][0]["guard"] == "errors"

    def fails():
        for a, b in zip(control[:10], treated[:10]):
            infer(sluice, a), infer(sluice, b)
        return sluice.find("experiment_changed", status="rolled_back")

    with kept_away(sluice, "v"):
        event = wait_for(fails, 60, "the guard")[0]
        assert event["who"] == "guard" and event["why"].startswith("treatment: errors: ")
        assert "control 0 of " in event["why"] and " to 1 needed" in event["why"]
        assert {infer(sluice, u).json()["model_name"] for u in treated} == {"digits"}
    now = shown(sluice)
    assert (now["status"], now["who"], now["why"], now["kept"]) == ("rolled_back", "guard", event["why"], True)
    variant = now["variants"][1]
    assert variant["errors"] >= 5 and variant["against_control"]["error_rate"]["value"] > 0
    assert sluice.metric("sluice_experiment_status", experiment="size", status="rolled_back") == 1
    assert sluice.stop() == 0, sluice.text
    sluice = start(**words)
    assert shown(sluice)["status"] == "rolled_back"
    # who resumes it begins anew: nothing is counted, and it is not ended for what was
    now = act(sluice, "resume")
    assert now["variants"][1]["requests"] == 0
    draws(sluice)
    assert shown(sluice)["status"] == "running"


def test_a_variant_with_less_reward_is_rolled_back_by_itself(start):
    """Its answers are fine, and its users do not click. What is above the most counts as it, once for each request; what is
    posted by the key is looked at by nobody; nothing is said of requests that may have a reward yet."""
    guard = 'guard { reward = "click" reward_max = 2 reward_within = "2s" min_requests = 40 }'
    sluice = start(SIZE.replace("holdout = 10%", f'rewards = {{"click", "other"}} {guard}'))
    variants = {u: v for u, (v, _) in draws(sluice).items()}
    control, treated = ([u for u in USERS if variants[u] == v] for v in ("control", "treatment"))
    assert [g["guard"] for g in shown(sluice)["variants"][1]["guards"]] == ["reward"]
    assert [v["settled"] for v in shown(sluice)["variants"]] == [0, 0]

    def post(**members):
        body = {"experiment": "size", "name": "click", "value": 5, **members}
        return CLIENT.post(f"{sluice.url}/sluice/v1/feedback", json=body).status_code

    def nobody_clicks():
        for a, b in zip(control[:10], treated[:10]):
            answers = infer(sluice, a), infer(sluice, b)
            if any("sluice-experiment" not in answer.headers for answer in answers):
                break  # it is over
            clicked, other = (answer.headers["x-request-id"] for answer in answers)
            assert [post(request_id=clicked), post(request_id=clicked), post(request_id=other, name="other")] == [200] * 3
            assert post(key=b) in (200, 404)
        return sluice.find("experiment_changed", status="rolled_back")

    event = wait_for(nobody_clicks, 120, "the guard")[0]
    assert event["who"] == "guard" and event["why"] == shown(sluice)["why"]
    said = re.fullmatch(r"treatment: reward: 0 of (\d+) \(0.00%\), control (\S+) of (\d+) \((\S+)%\); evidence \S+ to 1, 20 to 1 needed", event["why"])
    # Those that looked for their variant first have posted nothing.
    assert said and int(said[1]) >= 40 and int(said[3]) - len(control) <= float(said[2]) <= int(said[3]), event["why"]
    assert set(draws(sluice).values()) == {(None, "digits")}
    now = shown(sluice)["variants"]
    assert now[1]["gained"] == 0 and 0 < now[0]["gained"] <= now[0]["settled"] < now[0]["rewards"][0]["posted"]
    said = ctl(sluice, "experiment", "show", "size")
    assert said.status == DONE and "rolled_back" in said.out and "treatment: reward: 0 of" in said.out


def test_sluicectl(start):
    sluice = start()
    draws(sluice)
    said = ctl(sluice, "experiment", "list")
    assert said.status == DONE and re.search(r"^size +running +1 +control +digits +50% +\d+ +0% +0% ", said.out, re.M), said.out
    said = ctl(sluice, "experiment", "weights", "size", "treatment=12.5%", "--why", "less", "--revision", "1")
    assert said.status == DONE and said.out.startswith("size: running, revision 2 since "), said.err + said.out
    assert "by 127.0.0.1: less\nchanged since: it wins until its section in gateway.conf changes\n" in said.out
    assert re.search(r"^treatment +digits-small +12.5% ", said.out, re.M)
    said = ctl(sluice, "experiment", "pause", "size", "--revision", "1")
    assert said.status == REFUSED and "refused (409): revision: expected 1, it is 2: running, by 127.0.0.1" in said.err
    assert ctl(sluice, "experiment", "weights", "size", "control=20%,treatment=80%", "--json").json["revision"] == 3
    assert ctl(sluice, "experiment", "pause", "size").out.startswith("size: paused, revision 4 ")
    assert ctl(sluice, "experiment", "resume", "size").out.startswith("size: running, revision 5 ")
    assert ctl(sluice, "experiment", "promote", "size", "treatment").out.startswith("size: promoted treatment, revision 6 ")
    assert ctl(sluice, "experiment", "rollback", "size").out.startswith("size: rolled_back, revision 7 ")
    assert "experiment: expected one that is in force" in ctl(sluice, "experiment", "show", "nobody").err
    assert ctl(sluice, "experiment", "show", "size", "--json").json["revision"] == 7


def test_watch(start):
    """What is told of one experiment; the events of others, and all that is none, are passed over."""
    sluice = start(SIZE + SIZE.replace('"size"', '"other"').replace('model = "digits" key', 'model = "its-own" key'))
    with Watching(f"127.0.0.1:{sluice.admin_port}", "size", command=("experiment", "watch")) as watching:
        wait_for(lambda: sluice.status_page()["event_readers"] > 0, 10, "it reads")
        act(sluice, "pause", name="other")
        act(sluice, "pause", why="let us see")
        line = watching.sees("experiment_changed", "status=paused", 'why="let us see"')
        assert "experiment=size" in line and len(watching.lines) == 1
