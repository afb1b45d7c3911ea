"""Shadows: a model that is asked what another one has answered, compared and not served: never in the client's way."""
import os
import re
import signal

import onnx_file
import pytest
from harness import DooredSluice, configuration, wait_for, worker_command
from test_chains import pid_of
from test_experiments import ask, refusal
from test_explain_request import explain, remembered
from test_reload import change, reload

ALONE = 'experiment "e" { model = "digits" variant "control" { model = "digits" weight = 100% } SHADOW }'


def near_model(directory):
    """Answers as digits does, but for its last number; and an output that digits does not have."""
    version = directory / "near" / "1"
    version.mkdir(parents=True)
    ports = [onnx_file.value(n, ["n", 64], onnx_file.FLOAT) for n in ("input", "probabilities")]
    (version / "model.onnx").write_bytes(
        onnx_file.model(onnx_file.graph([onnx_file.node("Relu", ["input"], ["probabilities"])], ports[:1], ports[1:], []))
    )
    return directory


@pytest.fixture()
def lab(tmp_path):
    started = []

    def start(shadow, near=False, more="", **keys):
        models = ALONE.replace("SHADOW", shadow) + more
        if near:
            models += f' worker "v" {{ command = {{{worker_command(near_model(tmp_path / "others"))}}} }}'
        config = configuration(tmp_path, models=models, **keys)
        sluice = DooredSluice(config, wait_models=("digits", "digits-small", *(("near",) if near else ())))
        started.append(sluice)
        return sluice.__enter__()

    yield start
    for sluice in started:
        sluice.__exit__(None, None, None)


def ends(sluice, end, shadow="s"):
    return sluice.metric("sluice_shadow_requests_total", experiment="e", shadow=shadow, end=end)


def ended(sluice, end, n=1, **more):
    return wait_for(lambda: ends(sluice, end, **more) >= n, 20, f"{n} {end}")


def test_answers_are_compared(lab):
    sluice = lab('shadow "s" { model = "digits-small" share = 100% tolerance = 0% }')
    for i in range(4):
        answer = ask(sluice, headers={"x-request-id": f"r{i}"})
        assert answer.status_code == 200 and answer.headers["sluice-model"].startswith("digits;")
        assert answer.headers["sluice-experiment"] == "e/control"
        ended(sluice, "answered", i + 1)
    found = lambda **labels: sluice.metric("sluice_shadow_outputs_total", shadow="s", **labels)
    assert found(verdict="differs") + found(verdict="same") >= 4 and found(verdict="differs") > 0
    assert sluice.metric("sluice_shadow_elements_total", shadow="s") >= 40
    assert 0 < sluice.metric("sluice_shadow_difference_max", shadow="s", of="absolute") < 1000
    assert sluice.metric("sluice_shadow_latency_seconds_count", shadow="s") == 4
    said = sluice.wait_event("shadow_differs", experiment="e", shadow="s")
    assert said["request_id"] == "r0" and said["differ"] > 0 and float(said["max_abs"]) > 0
    told = remembered(sluice, "r0")["shadow"]
    assert told.pop("took_us") > 0 and told == {"name": "s", "end": "answered", "verdict": "differs"}
    assert re.search(r"^shadow s: answered after \S+, differs$", explain(sluice, "r0")[1], re.M)
    assert sluice.metric("sluice_experiment_requests_total", experiment="e", variant="control", status="ok") == 4
    assert sluice.metric("sluice_requests_total", model="digits-small") == 0  # to limits and metrics it is no request
    assert sluice.stop() == 0, sluice.text


def test_other_shapes_are_told(lab):
    """The same name, another form."""
    sluice = lab('shadow "s" { model = "near" share = 100% }', near=True)
    assert ask(sluice).status_code == 200
    wait_for(lambda: ends(sluice, "answered") + ends(sluice, "failed") == 1, 20, "its end")
    if ends(sluice, "answered"):
        assert sluice.metric("sluice_shadow_outputs_total", shadow="s", verdict="shape") == 1
    assert sluice.stop() == 0, sluice.text


def test_nobody_waits_for_one(lab):
    """Its answer is kept back: the client's is not, nor are others'; and then it is late."""
    sluice = lab('shadow "s" { model = "digits-small" share = 100% timeout = "2s" }')
    sluice.door("hold digits-small")
    for i in range(5):
        assert ask(sluice, headers={"x-request-id": f"r{i}"}).status_code == 200
    wait_for(lambda: sluice.metric("sluice_shadow_requests_total", shadow="s") == 5, 20, "their ends")
    assert ends(sluice, "answered") == 0 and ends(sluice, "late") >= 1  # its model may come down meanwhile
    sluice.door("release digits-small")
    assert ask(sluice, model="digits-small").status_code == 200
    assert sluice.stop() == 0, sluice.text


def test_a_share_of_the_keys(lab):
    sluice = lab('shadow "s" { model = "digits-small" share = 50% }')
    keys = [f"r{i}" for i in range(40)]
    seen = []
    for _ in range(2):
        for key in keys:
            assert ask(sluice, headers={"x-request-id": key}).status_code == 200
        wait_for(lambda: sluice.metric("sluice_in_flight") == 0, 20, "all are home")
        seen.append(sluice.metric("sluice_shadow_requests_total", shadow="s"))
    assert 8 < seen[0] < 32 and seen[1] == 2 * seen[0]
    assert sluice.stop() == 0, sluice.text


def test_a_worker_that_dies_with_one(lab):
    """The client has its answer; nothing is tried again, nobody else is ended."""
    sluice = lab('shadow "s" { model = "near" share = 100% }', near=True)
    sluice.door("hold near")
    assert ask(sluice, headers={"x-request-id": "r"}).status_code == 200
    wait_for(lambda: sluice.metric("sluice_batches_total", model="near") == 1, 20, "it is there")
    os.kill(pid_of(sluice, "v"), signal.SIGKILL)
    ended(sluice, "failed")
    assert sluice.metric("sluice_shadow_failures_total", shadow="s", status="worker_lost") == 1
    assert remembered(sluice, "r")["shadow"].items() >= {"end": "failed", "outcome": "worker_lost"}.items()
    assert ask(sluice, model="digits-small").status_code == 200
    assert sluice.stop() == 0, sluice.text


def test_a_reload_and_a_drain_with_one_out(lab):
    sluice = lab('shadow "s" { model = "digits-small" share = 100% timeout = "10m" }')
    sluice.door("hold digits-small")
    assert ask(sluice, headers={"x-request-id": "r"}).status_code == 200
    wait_for(lambda: sluice.metric("sluice_in_flight") == 1, 10, "it is out")
    assert remembered(sluice, "r", home=False)["shadow"] == {"name": "s", "end": None}
    assert "\nshadow s: not home\n" in explain(sluice, "r")[1]
    change(sluice, ('shadow "s"', 'shadow "t"'))
    assert 'experiment "e": shadow "s" removed' in reload(sluice)
    sluice.door("release digits-small")
    wait_for(lambda: sluice.metric("sluice_in_flight") == 0, 10, "it is home")
    assert remembered(sluice, "r")["shadow"]["end"] == "answered"  # by the name that it had
    sluice.door("hold digits-small")
    assert ask(sluice).status_code == 200
    wait_for(lambda: sluice.metric("sluice_in_flight") == 1, 10, "the next one is out")
    assert sluice.stop() == 0, sluice.text  # its ten minutes are nobody's


def test_one_that_nobody_has(lab):
    sluice = lab('shadow "s" { model = "nowhere" share = 100% }')
    assert ask(sluice, headers={"x-request-id": "r"}).status_code == 200
    assert remembered(sluice, "r")["shadow"] == {"name": "s", "end": "absent"}
    assert "\nshadow s: not asked: absent\n" in explain(sluice, "r")[1]
    assert ask(sluice, model="digits-small", headers={"x-request-id": "other"}).status_code == 200
    assert "shadow" not in remembered(sluice, "other")
    assert sluice.stop() == 0, sluice.text


def test_what_a_file_may_not_say(tmp_path):
    said = refusal(tmp_path, ALONE.replace("SHADOW", '\nshadow "s" { model = "digits" }'))
    assert 'model: "digits" is the control: it cannot be compared with itself' in said and "gateway.conf:" in said
