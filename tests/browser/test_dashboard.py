"""The dashboard in a real browser: what it shows is what the gateway says, in both themes and at two widths; by keyboard alone; over a
restart; with names that are markup; with a wrong token; and without ever standing still. SLUICE_PICTURES=DIR keeps screenshots."""
import json
import os
import pathlib
import signal

import httpx
import pytest
from harness import GOOD_BODY, wait_for, worker_command
from test_chains import only

TOKEN = "open sesame, please"
PICTURES = os.environ.get("SLUICE_PICTURES")
VIEWS = {"wide-light": (1280, 900, False), "wide-dark": (1280, 900, True), "phone-light": (390, 844, False), "phone-dark": (390, 844, True)}


def admin(sluice):
    return f"http://127.0.0.1:{sluice.admin_port}/"


def enter(page, url, token=TOKEN):
    """As somebody does at a keyboard: the token's field has the focus."""
    page.open(url)
    page.wait("document.activeElement.id === 'token'")
    page.type(token)
    page.enter()


def live(page, url):
    enter(page, url)
    page.wait("document.getElementById('link').dataset.state === 'on'")
    return page


def infer(sluice, model="digits", n=1, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx.Client() as client:
        for _ in range(n):
            assert client.post(f"{sluice.url}/v2/models/{model}/infer", content=GOOD_BODY, headers=headers).status_code == 200


def table(page, name):
    """{key of a row: [text of a cell, ...]}"""
    rows = page.eval(f"[...document.querySelectorAll('#{name}-t tbody tr')].map(r => [r.dataset.key, [...r.children].map(c => c.textContent)])")
    return dict(rows)


def picture(page, name):
    if PICTURES:
        pathlib.Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.picture(f"{PICTURES}/{name}.png")


def drawn(sluice, n):
    """So many requests of users of ab, and the gateway has counted them: the client has his answer before."""
    for user in range(n):
        infer(sluice, "ab", x_user=str(user))
    wait_for(lambda: sluice.metric("sluice_experiment_requests_total", experiment="exp") == n, what=f"{n} are counted")


EXPERIMENT = """experiment "exp" { model = "ab" key = "header:x-user"
  variant "control" { model = "digits" weight = 50% } variant "treatment" { model = "digits-small" weight = 50% } }"""


# ---- what it shows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_it_shows_what_status_says(start, browser, view):
    width, height, dark = VIEWS[view]
    sluice = start(replicas=2, wait_models=("digits", "digits-small"), models='model "digits" { cache { ttl = "1h" } } ' + EXPERIMENT)
    sluice.wait_workers()
    infer(sluice, n=3)
    drawn(sluice, 6)
    page = live(browser.page(width, height, dark), admin(sluice))
    held = sluice.status_page()
    shown = wait_for(lambda: len(table(page, "models")) == 2 and table(page, "models"), what="both models")
    for m in held["models"]:
        name, level, _, ready, _, _, _, _, waiting, running, share, *_ = shown[m["name"]]
        assert (name, level, ready, waiting) == (m["name"], str(m["level"]), str(m["ready_replicas"]), f"0 of {m['queue_limit_rows']}")
        assert (running, share) == (str(m["running_rows"]), f"{m['share_ppm'] // 10000}%")
    wait_for(lambda: len(table(page, "workers")) == 2, what="workers")
    assert {r[0]: r[2] for r in table(page, "workers").values()} == {w["name"]: "2 ready" for w in held["workers"]}
    replicas = {(d["model"], str(r["id"])) for l in held["loops"] for d in l["holds"]["desks"] for r in d["replicas"]}
    assert {tuple(k.split("\n")) for k in table(page, "replicas")} == replicas and len(replicas) == 4
    assert all(r[2:4] == ["up", "closed"] for r in table(page, "replicas").values())
    counted = {f"exp\n{v['name']}": str(v["requests"]) for v in held["experiments"][0]["variants"]}
    assert sum(map(int, counted.values())) == 6
    wait_for(lambda: {k: r[4] for k, r in table(page, "experiments").items()} == counted, what=f"experiments as {counted}")
    assert len(table(page, "loops")) == len(held["loops"]) == 2
    kept = {m["name"]: str(m["cache_entries"]) for m in held["models"] if m["cache_entries"]}
    assert {k: r[1] for k, r in table(page, "cache").items()} == kept and kept
    assert page.text("#about").startswith(f"{held['version']}, process {held['pid']}, running")
    assert any(r[2] == "gateway_started" for r in table(page, "events").values())
    # Traffic while it watches: rates come, and are of the last second.
    infer(sluice, "digits-small", n=20)
    page.wait("document.querySelector('#now-rate').textContent !== '0' && document.querySelector('#now-rate').textContent !== '–'")
    reasons = wait_for(lambda: sum(int(r[1]) for r in table(page, "reasons").values()), what="batches")
    assert reasons > 0
    colour = page.eval("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(c) for c in colour[4:-1].split(",")) < 200) == dark
    assert page.eval("document.documentElement.scrollWidth") <= width  # nothing hangs over the edge
    assert page.eval("document.querySelectorAll('.chart canvas').length") >= 4
    picture(page, view)
    assert not page.complaints()
    assert {u.split("/")[2] for u in page.requests() if not u.startswith("data:")} == {f"127.0.0.1:{sluice.admin_port}"}


def test_usable_before_anything_is_known(start, browser):
    sluice = start()
    page = browser.page()
    page.open(admin(sluice))
    assert page.eval("[...document.querySelectorAll('h2')].length") >= 10
    assert page.text("#link") == "not connected" and page.text("#now-rate") == "–"
    assert page.eval("document.getElementById('acts').hidden && document.activeElement.id === 'token'")
    assert len([u for u in page.requests() if not u.startswith("data:")]) == 1  # the page, and no question without a token


def test_levels_fallback_and_replicas(start, browser, tmp_path):
    small = worker_command(only(tmp_path / "small", "digits-small"))
    models = f'worker "v" {{ command = {{{small}}} }} model "digits" {{ worker = "w" fallback = {{"digits-small"}} }}'
    sluice = start(wait_models=("digits", "digits-small"), repository=only(tmp_path / "big", "digits"), models=models, unless=tmp_path / "no-w")
    page = live(browser.page(), admin(sluice))
    (tmp_path / "no-w").touch()
    os.kill(sluice.find("worker_started", name="w")[-1]["pid"], signal.SIGKILL)
    wait_for(lambda: sluice.metric("sluice_degradation_level", model="digits") > 0, 20, "digits comes down")
    infer(sluice, n=5)
    wait_for(lambda: "digits\ndigits-small" in table(page, "answered"), what="who answered")
    row = table(page, "answered")["digits\ndigits-small"]
    assert row[:2] == ["digits", "digits-small"] and int(row[2]) == sluice.metric("sluice_answered_by_total", model="digits")
    moves = wait_for(lambda: table(page, "levels"), what="moves")
    first = list(moves.values())[-1]
    told = sluice.find("level", model="digits")[0]
    assert first[1:5] == ["digits", "0", str(told["now"]), told["cause"].replace("_", " ")]
    wait_for(lambda: int(table(page, "models")["digits"][1]) > 0 and table(page, "models")["digits"][3] == "0", what="its row says so")
    wait_for(lambda: any(r[0] == "digits" and r[2] == "down" for r in table(page, "replicas").values()), what="its replica is down")
    assert page.eval("document.querySelectorAll('#timeline rect').length") >= 1
    page.wait("/digits is at level [1-4]/.test(document.getElementById('said').textContent)")
    picture(page, "fallback")
    assert not page.complaints()


# ---- what it does --------------------------------------------------------------------------------------


def test_by_keyboard_alone(start, browser):
    """A token, a model, a pin with its consequence, a refusal, a way out: no mouse."""
    sluice = start(wait_models=("digits", "digits-small"))
    page = live(browser.page(), admin(sluice))
    page.wait("document.querySelectorAll('#models-t tbody tr').length === 2")
    page.tab_to("e.closest('#models-t') && e.textContent === 'digits'")
    page.enter()
    assert page.eval("document.getElementById('model').value") == "digits"
    page.wait("document.getElementById('batches-of').textContent === 'digits'")
    page.tab_to("e.getAttribute('aria-label') === 'Pin: digits'")
    page.enter()
    page.wait("document.getElementById('ask').open && document.activeElement.id === 'pin-level'")
    assert "digits: Full service." in page.text("#ask-what") and page.text("#ask-yes") == "Hold at level 0"
    page.key("2", "Digit2", 50, "2")
    page.wait("document.getElementById('ask-yes').textContent === 'Hold at level 2'")
    assert "Half of its share goes to the model" in page.text("#ask-what") and "for 10 minutes" in page.text("#ask-what")
    picture(page, "dialog")
    page.tab_to("e.id === 'pin-why'", 5)
    page.type("a rehearsal")
    page.enter()
    wait_for(lambda: sluice.find("level_pinned", model="digits", level=2, why="a rehearsal"), what="it is pinned")
    page.wait("!document.getElementById('ask').open")
    page.wait("document.activeElement.getAttribute('aria-label') === 'Let go: digits'")  # the focus is back where it was
    wait_for(lambda: table(page, "models")["digits"][1:3] == ["2", "pinned"], what="the table says so")
    page.enter()
    page.wait("document.getElementById('ask').open && document.activeElement.id === 'ask-no'")
    page.escape()
    page.wait("!document.getElementById('ask').open")
    page.enter()
    page.wait("document.getElementById('ask').open")
    page.tab()
    page.enter()
    wait_for(lambda: sluice.find("level_unpinned", model="digits"), what="it is let go")
    # Whoever else has let it go meanwhile: the refusal stands in the dialog.
    wait_for(lambda: table(page, "models")["digits"][2] != "pinned", what="the table says so")
    assert not page.complaints()


def test_all_models_at_once_and_a_view_that_stands_still(start, browser):
    sluice = start(wait_models=("digits", "digits-small"))
    page = live(browser.page(), admin(sluice))
    page.wait("document.querySelectorAll('#models-t tbody tr').length === 2")
    page.eval("document.getElementById('pin-all').click()")
    page.wait("document.getElementById('ask').open")
    assert page.text("#ask-h") == "Hold all models without a pin of their own at a level"
    page.key("1", "Digit1", 49, "1")
    page.tab_to("e.id === 'pin-why'", 5)
    page.type("before the freeze")
    page.enter()
    wait_for(lambda: [r[1:3] for r in table(page, "models").values()] == [["1", "pinned"]] * 2, what="both are pinned")
    page.eval("document.getElementById('freeze').click()")
    assert page.eval("document.getElementById('freeze').getAttribute('aria-pressed')") == "true"
    page.eval("document.getElementById('pin-all').click()")
    page.wait("document.getElementById('ask').open && document.getElementById('ask-yes').textContent === 'Let go'")
    page.eval("document.getElementById('ask-yes').click()")
    sluice.wait_event("level_unpinned")
    page.wait("!document.getElementById('ask').open")
    wait_for(lambda: sluice.metric("sluice_degradation_level") == 0, what="they go by themselves")
    assert [r[1:3] for r in table(page, "models").values()] == [["1", "pinned"]] * 2  # as it stood
    page.eval("document.getElementById('freeze').click()")
    wait_for(lambda: [r[1] for r in table(page, "models").values()] == ["0", "0"], what="it goes on")
    assert not page.complaints()


def test_drain_says_what_follows(start, browser):
    sluice = start()
    page = live(browser.page(), admin(sluice))
    page.tab_to("e.id === 'drain'")
    page.enter()
    page.wait("document.getElementById('ask').open && document.activeElement.id === 'ask-no'")
    assert "closes its listeners" in page.text("#ask-what") and page.text("#ask-yes") == "Drain and end"
    page.enter()  # on "Leave it"
    page.wait("!document.getElementById('ask').open")
    assert not sluice.find("drain_asked")
    page.enter()
    page.wait("document.getElementById('ask').open")
    page.tab()
    page.enter()
    sluice.wait_event("drain_asked")
    assert sluice.wait() == 0
    page.wait("document.getElementById('link').dataset.state === 'lost'")


def test_a_wrong_token(start, browser):
    sluice = start()
    page = browser.page()
    enter(page, admin(sluice), "not the token")
    page.wait("document.getElementById('refused').textContent === 'authorization: expected the admin token'")
    assert page.eval("document.activeElement.id === 'token' && document.getElementById('token').value === ''")
    assert page.eval("document.getElementById('acts').hidden")
    page.type(TOKEN)
    page.enter()
    page.wait("document.getElementById('link').dataset.state === 'on'")
    assert page.eval("document.cookie === '' && localStorage.length === 0 && sessionStorage.length === 0 && !location.href.includes('?')")
    page.tab_to("e.id === 'leave'")
    page.enter()
    page.wait("document.getElementById('link').textContent === 'not connected'")
    wait_for(lambda: sluice.status_page()["event_readers"] == 0, what="it has let go of its connections")


def test_left_open_over_a_restart(start, browser):
    sluice = start()
    infer(sluice, n=4)
    page = live(browser.page(), admin(sluice))
    wait_for(lambda: str(sluice.gateway_pid()) in page.text("#about"), what="the process")
    before = sluice.gateway_pid()
    os.kill(before, signal.SIGKILL)
    sluice.wait_event("ready", count=2)
    after = sluice.find("gateway_started", generation=1)[-1]["pid"]
    wait_for(lambda: f"process {after}," in page.text("#about") and page.text("#link") == "live", 20, "it goes on with the new one")
    wait_for(lambda: any(r[2] == "gateway_exited" for r in table(page, "events").values()), what="how the one before ended")
    sluice.wait_model("digits")
    infer(sluice, n=2)
    wait_for(lambda: table(page, "models")["digits"][3] == "1", what="the model is back")
    assert not page.complaints()


# ---- what must not happen ------------------------------------------------------------------------------

EVIL = "<img src=x onerror=alert(1)>\"'><script>hurt()</script>&lt;b&gt;"


def model_of(name, **more):
    still = {"level": 0, "cause": "none", "pinned": False, "ready": 1, "share_ppm": 1000000, "waiting": 0, "running": 0, "queue_limit": 4096, "max_batch": 64}
    return {"name": name, **still, **more}


def process_of(loops, **more):
    loop = {"connections": 3, "in_flight": 1, "streams": 0, "zombies": 0, "turns": 1000, "delay_p99_us": 120}
    return {"boot_id": "a", "phase": "running", "level": 0, "uptime_s": 5, "generation": 1, "bytes_leased": 1, "bytes_limit": 2, "cache_leased": 0,
            "cache_limit": 1, "loops": [loop] * loops, **more}  # fmt: skip


def busy(name, n):
    return model_of(name, answers={"model": n, "cache": 3}, failures={"deadline": 1}, by={"other": 1}, batches={"idle": n, "full": 2}, sizes=[n, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                    rows=n + 4, cache={"hit": 3, "miss": n}, p50_us=300 + n, p99_us=2000 + 10 * n, waiting=n)  # fmt: skip


def status_of(models, loops, experiments=()):
    desk = lambda m: {"model": m, "replicas": [{"id": 1, "up": True, "differs": False, "breaker": "closed", "rank": 0, "batches": 1, "rows": 4, "latency_us": 300, "versions": ["1"]}]}
    holds = lambda i: {"desks": [desk(m) for m in models[i::loops]], "store": {"state": "up", "why": ""}}
    return {
        "version": EVIL if EVIL in models else "1.0", "pid": 7, "phase": "running", "uptime_s": 5, "generation": 0, "configuration": {"generation": 1},
        "loops": [{"index": i, "answered": True, "holds": holds(i)} for i in range(loops)],
        "models": [{"name": m, "cache_entries": 3, "cache_bytes": 4096} for m in models],
        "workers": [{"id": 1, "name": models[0], "address": models[0], "leaving": False, "connections": ["ready"] * loops}],
        "experiments": list(experiments),
    }  # fmt: skip


def test_names_that_are_markup_stay_text(double, browser):
    experiment = {"name": EVIL, "variants": [{"name": EVIL, "model": EVIL, "weight_ppm": 1000000, "known": True, "fits": True, "requests": 4}]}
    double.status = status_of([EVIL, "a"], 1, [experiment])
    hostile = {**busy(EVIL, 5), "by": {EVIL: 3}, "cause": EVIL}
    double.live = [process_of(1, whole=True, models=[hostile]), process_of(1, whole=False, ms=1000, gone=[], models=[hostile], phase=EVIL)]
    double.events = [{"time": "2026-01-02T03:04:05.000006Z", "level": "warn", "event": "level", "model": EVIL, "now": 2, "before": 0, "cause": EVIL, "share_ppm": 5, "ready": 1, "replicas": 2},
                     {"time": "2026-01-02T03:04:05.000006Z", "level": EVIL, "event": EVIL, "why": EVIL}]  # fmt: skip
    page = browser.page()
    page.call("Page.addScriptToEvaluateOnNewDocument", source="window.hurt = () => { window.hurtBy = 1; }; window.alert = window.hurt;")
    live(page, double.url)
    for name in ("models", "replicas", "workers", "answered", "experiments", "cache", "events", "levels"):
        wait_for(lambda n=name: EVIL in json.dumps([c for r in table(page, n).values() for c in r], ensure_ascii=False).replace('\\"', '"'), what=f"the name in {name}")
    page.wait(f"[...document.querySelectorAll('#model option')].some(o => o.value === {json.dumps(EVIL)})")
    page.eval(f"const s = document.getElementById('model'); s.value = {json.dumps(EVIL)}; s.dispatchEvent(new Event('change')); document.querySelector('#models-t td:last-child button').click()")
    page.wait("document.getElementById('ask').open")
    picture(page, "markup")
    assert page.eval("document.querySelectorAll('img').length + document.querySelectorAll('body script:not(:nth-last-child(-n+2))').length") == 0
    assert page.eval("window.hurtBy === undefined") and not page.complaints()


def test_experiments_with_what_may_be_said_of_them(double, browser):
    """A gateway that has /v1/experiments: intervals, and changes with the revision that was seen."""
    variants = [{"name": n, "model": n, "weight_ppm": 500000, "known": True, "fits": True, "requests": 400} for n in ("control", "treatment")]
    double.status = status_of(["control", "treatment"], 1, [{"name": "exp", "variants": variants}])
    double.live = [process_of(1, whole=True, models=[]), process_of(1, whole=False, ms=1000, gone=[], models=[])]
    lift = {"error_rate": {"value": 0.05, "low": 0.01, "high": 0.12}, "latency_mean_us": {"value": -120.4, "low": -300.0, "high": 50.0}}
    double.trials = {"experiments": [{"name": "exp", "revision": 7, "status": "running", "variants": [
        {"name": "control", "weight_ppm": 500000}, {"name": "treatment", "weight_ppm": 250000, "against_control": lift}]}]}  # fmt: skip
    page = live(browser.page(), double.url)
    wait_for(lambda: len(table(page, "experiments")) == 2, what="its variants")
    row = wait_for(lambda: table(page, "experiments")["exp\ntreatment"], what="the treatment")
    assert row[3] == "25.0%" and row[6] == "5.00% (1.00% to 12.00%)" and row[8] == "−120 µs (−300 µs to 50 µs)" and row[12] == "running"
    page.tab_to("e.getAttribute('aria-label') === 'Change: exp, treatment'")
    page.enter()
    page.wait("document.getElementById('ask').open")
    assert "treatment gets 25.00 % of those who take part" in page.text("#ask-what")
    page.tab_to("e.id === 'trial-weight'", 4)
    page.eval("document.getElementById('trial-weight').select()")
    page.type("10")
    page.tab_to("e.id === 'trial-why'", 4)
    page.wait("document.getElementById('ask-what').textContent.includes('gets 10 %')")
    page.type("too many errors")
    assert page.text("#ask-yes") == "Give it 10 %"
    picture(page, "experiment")
    page.enter()
    path, body, fields = wait_for(lambda: double.asked and double.asked[0], what="the change")
    assert path == "/v1/experiments/exp/weights" and body == {"revision": 7, "why": "too many errors", "weights_ppm": {"treatment": 100000}}
    assert fields["authorization"] == f"Bearer {TOKEN}" and "cookie" not in {k.lower() for k in fields}
    assert not page.complaints()


def trial_of(sluice, path="", **body):
    """The answer of the gateway's own /v1/experiments/exp, or of a verb of it."""
    url, fields = f"{admin(sluice)}v1/experiments/exp{path}", {"authorization": f"Bearer {TOKEN}"}
    return httpx.post(url, json=body, headers=fields) if body else httpx.get(url, headers=fields)


def change(page, variant, weight, why):
    """By keyboard, up to the button that does it."""
    page.tab_to(f"e.getAttribute('aria-label') === 'Change: exp, {variant}'", 120)
    page.enter()
    page.wait("document.getElementById('ask').open")
    page.tab_to("e.id === 'trial-weight'", 4)
    page.eval("document.getElementById('trial-weight').select()")
    page.type(weight)
    page.tab_to("e.id === 'trial-why'", 4)
    page.type(why)
    page.wait(f"document.getElementById('ask-yes').textContent === 'Give it {weight} %'")


def test_experiments_of_a_real_gateway(start, browser):
    """What /v1/experiments says is what the page shows; a weight is changed through it; whoever came first is not written over."""
    sluice = start(wait_models=("digits", "digits-small"), models=EXPERIMENT)
    drawn(sluice, 240)
    page = live(browser.page(), admin(sluice))
    said = trial_of(sluice).json()
    assert [(v["name"], v["weight_ppm"]) for v in said["variants"]] == [("control", 500000), ("treatment", 500000)]
    rows = wait_for(lambda: (lambda t: len(t) == 2 and t["exp\ntreatment"][6] != "–" and t)(table(page, "experiments")), what="both, with an interval")
    for v in said["variants"]:
        shown = rows[f"exp\n{v['name']}"]
        assert shown[:5] == ["exp", v["name"], v["model"], "50.0%", str(v["requests"])] and shown[12] == "running"
    errors = said["variants"][1]["against_control"]["error_rate"]
    assert errors["low"] < -0.01 < 0 == errors["value"] < 0.01 < errors["high"]  # no error of some hundred says that much
    assert rows["exp\ntreatment"][6] == "%.2f%% (%.2f%% to %.2f%%)" % tuple(100 * errors[k] for k in ("value", "low", "high"))
    assert page.eval("document.querySelectorAll('#experiments-t tbody td svg').length") >= 1  # over time
    change(page, "treatment", "10", "too many errors")
    picture(page, "experiment-live")
    page.enter()
    event = sluice.wait_event("experiment_changed", experiment="exp", why="too many errors")
    assert (event["status"], event["revision"], event["who"]) == ("running", 2, "127.0.0.1")
    assert [v["weight_ppm"] for v in trial_of(sluice).json()["variants"]] == [900000, 100000]
    shows = lambda *want: wait_for(lambda: [r[3] for r in table(page, "experiments").values()] == list(want), 20, f"weights {want}")
    shows("90.0%", "10.0%")
    # Somebody else is there before: the gateway's refusal stands in the dialog, and nothing has changed.
    change(page, "treatment", "40", "better after all")
    assert trial_of(sluice, "/weights", weights_ppm={"treatment": 200000}, revision=2).status_code == 200
    page.enter()
    page.wait("document.getElementById('ask-error').textContent.includes('revision')")
    assert [v["weight_ppm"] for v in trial_of(sluice).json()["variants"]] == [800000, 200000]
    page.escape()
    page.wait("!document.getElementById('ask').open")
    shows("80.0%", "20.0%")
    # What is over is shown as it is.
    assert trial_of(sluice, "/rollback", why="enough").status_code == 200
    wait_for(lambda: {r[12] for r in table(page, "experiments").values()} == {"rolled back"}, 20, "it is over")
    assert not page.complaints()


def test_sixty_models_and_eight_loops_never_hold_it_up(double, browser):
    """No task of 50 ms in the page's main thread, from its first byte on, in CPU time: others use this machine, too."""
    names = [f"model-number-{i:02}" for i in range(60)]
    double.status = status_of(names, 8)
    double.live = [process_of(8, whole=True, models=[busy(n, 1000) for n in names])]
    double.live += [process_of(8, whole=False, ms=1000, gone=[], models=[busy(n, 5 + (i + k) % 40) for i, n in enumerate(names)]) for k in range(4)]
    page = browser.page()

    def watch():
        live(page, double.url)
        page.wait("document.querySelectorAll('#models-t tbody tr').length === 60 && document.querySelectorAll('#replicas-t tbody tr').length === 60")
        seen = page.requests().count(double.url + "status")
        wait_for(lambda: page.requests().count(double.url + "status") > seen + 1, 30, "it has drawn ten seconds")

    tasks = browser.trace(double.url, watch)
    picture(page, "sixty")
    assert not page.complaints()
    assert tasks and tasks[0][0] < 50, tasks[:3]


def test_nothing_moves_that_has_not_changed(double, browser):
    names = ["one", "two"]
    double.status = status_of(names, 2)
    double.live = [process_of(2, whole=True, models=[model_of(n) for n in names]), process_of(2, whole=False, ms=1000, gone=[], models=[])]
    page = live(browser.page(), double.url)
    page.wait("document.querySelectorAll('#models-t tbody tr').length === 2 && document.querySelectorAll('#replicas-t tbody tr').length === 2")
    page.wait("document.getElementById('now-rate').textContent === '0'")
    page.wait("document.getElementById('said').textContent === 'Connected.'")
    count = "window.moved = []; new MutationObserver(l => l.forEach(m => moved.push(m.target.id || m.target.parentNode && m.target.parentNode.outerHTML.slice(0, 80)))).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true})"
    page.wait("document.querySelector('#loops-t tbody td:nth-child(6)').textContent === '0'")
    page.eval(count)
    for _ in range(4):  # what is drawn once, when the first seconds have come, may be; what is drawn again and again never rests
        page.eval("moved.length = 0")
        seen = page.requests().count(double.url + "status")
        wait_for(lambda: page.requests().count(double.url + "status") > seen, 20, "it has asked again, and drawn five seconds")
        moved = page.eval("moved")
        if not moved:
            return
    raise AssertionError(f"it moves: {moved}")


def test_a_screen_reader_finds_its_way(start, browser):
    sluice = start()
    page = live(browser.page(), admin(sluice))
    page.wait("document.querySelectorAll('#models-t tbody tr').length > 0")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    role = lambda name: [n.get("name", {}).get("value", "") for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") == name]
    assert role("main") and role("navigation") == ["Sections"] and role("status")
    assert {"Models", "Traffic and latency", "Levels of degradation", "Loops"} <= set(role("heading"))
    assert all(role("button")) and all(role("link")) and all(role("combobox"))  # each has a name
    tables = role("table")
    assert len(tables) >= 4 and all(tables)
    images = [n for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in ("image", "img")]
    assert len(images) == 4 and all("table below" in n["name"]["value"] for n in images)
    # Behind each chart stands a table, filled when it is opened.
    page.eval("document.querySelectorAll('figure details').forEach(d => { d.open = true; })")
    page.wait("document.querySelectorAll('figure details tbody tr').length >= 4")
    assert page.eval("document.querySelectorAll('[aria-live]').length") == 1
    assert page.eval("document.getElementById('said').getAttribute('aria-live')") == "polite"
