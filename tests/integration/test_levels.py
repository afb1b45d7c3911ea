"""Levels of degradation: what an operator sets and how long it holds; a model that comes down and up again by itself. The
table of moves itself is the unit test's (router_level.c), and the simulator's."""
import json
import os
import signal

import httpx
import pytest
from harness import GOOD_BODY, MODELS, WORKER, Program, Sluice, configuration, free_port, wait_for
from test_ctl import DONE, REFUSED, ask
from test_reload import reload

INFER = "/v2/models/digits/infer"
TOKEN = {"authorization": "Bearer open sesame, please"}
QUICK = 'defaults { degradation { hold = "200ms" window = "400ms" } }'


@pytest.fixture
def start(tmp_path):
    """Starts gateways with these words in their configuration; each is stopped, and has nothing to complain of."""
    running = []

    def begin(*, n=0, **words):
        sluice = Sluice(configuration(tmp_path / f"g{n}", MODELS, **words))
        running.append(sluice)
        return sluice

    yield begin
    for sluice in running:
        if sluice.process.poll() is None:
            assert sluice.stop() == 0, sluice.text


def infer(sluice):
    return httpx.post(sluice.url + INFER, content=GOOD_BODY, timeout=20)


def level(sluice, model="digits"):
    return sluice.metric("sluice_degradation_level", model=model)


def pin(sluice, *words, n, how_long="10m", why="GPU swap"):
    said = ask(sluice, "level", "set", *words, str(n), "--for", how_long, "--why", why)
    assert said.status == DONE, said.err
    return said.out


def shown(sluice):
    return ask(sluice, "level", "show", "--json").json


def test_an_operator_sets_each(start):
    sluice = start(models='model "digits" { critical = true }')
    assert infer(sluice).headers["sluice-degradation"] == "0"
    for n in (1, 2, 3):
        assert "digits is at level" in pin(sluice, "digits", n=n)
        wait_for(lambda n=n: level(sluice) == n)
        answer = infer(sluice)
        assert answer.status_code == 200 and answer.headers["sluice-degradation"] == str(n)
        assert sluice.metric("sluice_instance_degradation_level") == n
    assert sluice.metric("sluice_share", model="digits") == 0.25
    pin(sluice, "digits", n=4)
    wait_for(lambda: level(sluice) == 4)
    answer = infer(sluice)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert "as if nothing could answer" in answer.json()["error"]
    assert sluice.metric("sluice_degradation_level", model="digits-small") == 0
    row = next(r for r in ask(sluice, "level", "show").rows() if r[0] == "digits")
    assert row[1:3] == ["4", "pinned"] and row[-2:] == ["GPU", "swap"]
    said = ask(sluice, "level", "clear", "digits")
    assert said.status == DONE and said.out == "digits goes by itself again\n"
    wait_for(lambda: level(sluice) == 0)
    assert infer(sluice).headers["sluice-degradation"] == "0"
    sluice.wait_event("level", now=0)
    sluice.wait_event("level_pinned", count=4)
    sluice.wait_event("level_unpinned")
    moves = [(e["before"], e["now"], e["cause"]) for e in sluice.find("level")]
    assert moves == [(0, 1, "pinned"), (1, 2, "pinned"), (2, 3, "pinned"), (3, 4, "pinned"), (4, 0, "unpinned")]
    assert sluice.metric("sluice_level_moves_total", model="digits") == 5
    assert [e["why"] for e in sluice.find("level_pinned")] == 4 * ["GPU swap"] and len(sluice.find("level_unpinned")) == 1
    assert ask(sluice, "level", "clear", "digits").status == REFUSED


def test_the_instance(start):
    sluice = start(models='model "digits-small" { critical = true }')
    pin(sluice, "digits", n=0)
    pin(sluice, n=2)
    wait_for(lambda: level(sluice, "digits-small") == 2)
    assert level(sluice) == 0  # it has one of its own
    assert sluice.metric("sluice_instance_degradation_level") == 2 == sluice.status_page()["level"]
    assert ask(sluice, "level", "clear").status == DONE
    wait_for(lambda: level(sluice, "digits-small") == 0)
    assert sluice.metric("sluice_instance_degradation_level") == 0


def test_it_ends(start):
    sluice = start()
    pin(sluice, "digits", n=2, how_long="1s")
    wait_for(lambda: level(sluice) == 2)
    sluice.wait_event("level_pin_ended", model="digits", level=2, why="GPU swap")
    wait_for(lambda: level(sluice) == 0)
    assert shown(sluice)["models"][0]["pin"] is None
    sluice.wait_event("pins_not_kept", why="state_dir is not set: they end with this process")


def test_it_outlives_restart_crash_and_reload(start, tmp_path):
    top = f'state_dir = "{tmp_path}/state"'
    sluice = start(top=top)
    pin(sluice, "digits", n=2)
    pin(sluice, "digits-small", n=1, how_long="1s")
    sluice.config.write_text(sluice.config.read_text() + 'model "digits" { critical = true }\n')
    reload(sluice)
    assert level(sluice) == 2 and sluice.metric("sluice_instance_degradation_level") == 2
    wait_for(lambda: level(sluice, "digits-small") == 0)
    os.kill(sluice.gateway_pid(), signal.SIGKILL)
    sluice.wait_event("gateway_started", count=2)
    sluice.wait_model("digits")
    wait_for(lambda: level(sluice) == 2)
    assert sluice.stop() == 0
    kept = json.loads((tmp_path / "state/pins.json").read_text())
    assert [(p["model"], p["level"], p["why"]) for p in kept] == [("digits", 2, "GPU swap")]
    again = start(n=1, top=top)
    wait_for(lambda: level(again) == 2)
    assert infer(again).headers["sluice-degradation"] == "2"
    assert ask(again, "level", "clear", "digits").status == DONE
    assert json.loads((tmp_path / "state/pins.json").read_text()) == []


def test_a_file_that_is_none(start, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/pins.json").write_text('[{"model":"digits","level":9}]')
    sluice = start(top=f'state_dir = "{tmp_path}/state"')
    said = sluice.wait_event("pins_not_read")
    assert "level: expected a whole number from 0 to 4" in said["why"]
    assert infer(sluice).status_code == 200
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    (tmp_path / "state").write_text("")
    assert "or until the gateway ends" in pin(sluice, "digits", n=1)  # in force all the same
    assert sluice.wait_event("pins_not_kept")["why"] == "Not a directory"
    wait_for(lambda: level(sluice) == 1)


def test_levels_off(start):
    sluice = start(models='model "digits" { levels = off }')
    said = ask(sluice, "level", "set", "digits", "2", "--for", "1m", "--why", "x")
    assert said.status == REFUSED and "model: digits has levels = off" in said.err
    pin(sluice, n=3)
    wait_for(lambda: level(sluice, "digits-small") == 3)
    assert level(sluice) == 0 and infer(sluice).headers["sluice-degradation"] == "0"
    sluice.config.write_text(sluice.config.read_text().replace("levels = off", "levels = on"))
    reload(sluice)
    wait_for(lambda: level(sluice) == 3)
    sluice.config.write_text(sluice.config.read_text().replace("levels = on", "levels = off"))
    reload(sluice)
    wait_for(lambda: level(sluice) == 0)
    sluice.wait_event("level", model="digits", now=0, cause="rules")


@pytest.mark.parametrize(
    "body, status, why",
    [
        ("", 400, "body: expected"),
        ("[]", 400, "body: expected"),
        ("{}", 400, "level: expected 0 to 4"),
        ('{"level": 5, "for_s": 1, "why": "x"}', 400, "level: expected 0 to 4"),
        ('{"level": 1.0, "for_s": 1, "why": "x"}', 400, "level: expected 0 to 4"),
        ('{"level": "1", "for_s": 1, "why": "x"}', 400, "level: expected 0 to 4"),
        ('{"level": 1, "for_s": 0, "why": "x"}', 400, "for_s: expected whole seconds"),
        ('{"level": 1, "for_s": 2592001, "why": "x"}', 400, "for_s: expected whole seconds"),
        ('{"level": 1, "for_s": -1, "why": "x"}', 400, "for_s: expected whole seconds"),
        ('{"level": 1, "why": "x"}', 400, "for_s and why: expected both"),
        ('{"level": 1, "for_s": 1}', 400, "for_s and why: expected both"),
        ('{"level": 1, "for_s": 1, "why": ""}', 400, "why: expected 1 to 160 bytes"),
        ('{"level": 1, "for_s": 1, "why": "%s"}' % ("x" * 161), 400, "why: expected 1 to 160 bytes"),
        ('{"level": 1, "for_s": 1, "why": "x", "who": 1}', 400, "body: expected model, level, for_s and why"),
        ('{"level": 1, "for_s": 1, "why": "x"} 1', 400, "body: expected one JSON object"),
        ('{"model": "nobody", "level": 1, "for_s": 1, "why": "x"}', 409, "model: nobody is not known"),
        ('{"model": "digits", "level": null}', 404, "no level is set for it"),
        ('{"model": "digits\\u0000", "level": null}', 400, "model: expected 1 to 128 bytes"),
    ],
)
def test_bad_wishes(gateway, body, status, why):
    answer = httpx.post(f"http://127.0.0.1:{gateway.admin_port}/v1/levels", content=body, headers=TOKEN)
    assert answer.status_code == status and why in answer.json()["error"], answer.text
    assert all(m["pin"] is None for m in shown(gateway)["models"])


def test_nobody_without_the_token(gateway):
    url = f"http://127.0.0.1:{gateway.admin_port}/v1/levels"
    assert httpx.get(url).status_code == httpx.post(url, content="{}").status_code == 401


def test_the_last_replica_dies(start):
    """Level 1, then 4 (no chain, no cache), each held; 503 at once; and back to 0 when it is there again."""
    words = [WORKER, "--repository", MODELS, "--device", "cpu", "--threads", "1", "--listen"]
    port = free_port()
    with Program([*words, f"127.0.0.1:{port}"]) as worker:
        worker.wait_event("listening", timeout=60)
        sluice = start(top=QUICK, addresses=[f"grpc://127.0.0.1:{port}"])
        assert infer(sluice).status_code == 200
        worker.kill(signal.SIGKILL)
        worker.wait()
    sluice.wait_event("level", model="digits", now=4, timeout=30)
    moves = [(e["before"], e["now"], e["cause"], e["ready"], e["replicas"]) for e in sluice.find("level", model="digits")]
    assert moves == [(0, 1, "nobody_can_answer", 0, 1), (1, 4, "nobody_can_answer", 0, 1)]
    answer = infer(sluice)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
    assert "no replica of the model is ready" in answer.json()["error"]
    with Program([*words, f"127.0.0.1:{port}"]):
        sluice.wait_event("level", model="digits", now=0, cause="all_back", timeout=60)
        assert infer(sluice).headers["sluice-degradation"] == "0"
