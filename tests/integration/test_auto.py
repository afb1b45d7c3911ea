"""Batches under `policy = auto`: every instance of a worker is used, who stands behind too many is refused at once and
told when to come back, and each of it can be switched off by model, by worker and for all.
"""
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import wait_for
from triton_double import Triton

RULES = {
    "of the model": lambda model, rules: f'model "{model}" {{ {rules} }}',
    "of all": lambda model, rules: f"defaults {{ {rules} }}",
}


def ask(sluice, model, timeout_us=None, client=httpx):
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    question = {"inputs": [tensor], "parameters": {"timeout": timeout_us} if timeout_us else {}}
    return client.post(f"{sluice.url}/v2/models/{model}/infer", content=json.dumps(question).encode(), timeout=60)


def is_right(answer):
    return answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2, 4]


def crowd(sluice, model, clients, each):
    """So many clients that each ask so often; all must be answered."""

    def asking(_):
        with httpx.Client() as client:
            return all(is_right(ask(sluice, model, client=client)) for _ in range(each))

    with ThreadPoolExecutor(clients) as pool:
        assert all(pool.map(asking, range(clients)))


def test_every_instance_has_a_batch(start):
    """`instance_group` says eight: sixteen clients have eight calls there at once, with no setting at all."""
    with Triton("eight:takes=0.5:max_batch=0:instances=8") as triton:
        sluice = start(wait_models=("eight",), addresses=[triton.address])
        crowd(sluice, "eight", 16, 3)
        assert triton.do("counts")["peak"]["eight"] >= 8


@pytest.mark.parametrize("where", RULES)
def test_pipeline_is_a_bound(start, where):
    with Triton("eight:takes=0.05:max_batch=0:instances=8") as triton:
        rules = RULES[where]("eight", "batch { pipeline = 1 }")
        sluice = start(wait_models=("eight",), addresses=[triton.address], models=rules)
        crowd(sluice, "eight", 8, 2)
        assert triton.do("counts")["peak"]["eight"] == 1


@pytest.mark.parametrize("where", RULES)
def test_fixed_waits_for_company(start, where):
    """Under auto a lone request goes at once; under fixed it waits for max_wait, and says so."""
    with Triton("m:max_batch=8") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address])
        assert ask(sluice, "m").headers["sluice-batch"] == "1;reason=idle"
        rules = RULES[where]("m", "batch { policy = fixed }")
        sluice = start(wait_models=("m",), addresses=[triton.address], models=rules)
        assert ask(sluice, "m").headers["sluice-batch"] == "1;reason=wait"


def behind_too_many(sluice):
    """A hundred at once, each with a second, at a device that has learnt that it does ten a second."""
    for _ in range(10):
        assert is_right(ask(sluice, "m"))
    with ThreadPoolExecutor(100) as pool, httpx.Client() as client:
        return list(pool.map(lambda _: ask(sluice, "m", timeout_us=1000000, client=client), range(100)))


def test_who_stands_behind_too_many_is_refused_at_once(start):
    with Triton("m:takes=0.1:max_batch=1:serial=1") as triton:
        sluice = start(wait_models=("m",), addresses=[triton.address])
        answers = behind_too_many(sluice)
        refused = [a for a in answers if "more waits before it" in a.text]
        assert all(is_right(a) or a.status_code == 504 for a in answers), [a.text for a in answers]
        assert any(is_right(a) for a in answers) and refused
        assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
        assert not any("retry-after" in a.headers for a in answers if a not in refused)
        wait_for(lambda: sluice.metric("sluice_events_total", event="refused") == len(refused))


@pytest.mark.parametrize("where", [*RULES, "of the worker"])
def test_refuse_early_can_be_switched_off(start, where):
    with Triton("m:takes=0.1:max_batch=1:serial=1") as triton:
        rules = "queue { refuse_early = off }"
        listed = RULES[where]("m", rules) if where in RULES else ""
        sluice = start(wait_models=("m",), addresses=[triton.address], models=listed, worker_rules="" if listed else rules)
        answers = behind_too_many(sluice)
        assert all(is_right(a) or a.status_code == 504 for a in answers), [a.text for a in answers]
        assert not any("more waits before it" in a.text or "retry-after" in a.headers for a in answers)


def test_models_of_a_serial_server_are_all_served(start):
    """`serial = true`: they take turns (tests/unit/router_device.c says how), and none is left behind."""
    with Triton("a:takes=0.03:max_batch=4", "b:takes=0.03:max_batch=4", "c:takes=0.03:max_batch=4") as triton:
        sluice = start(wait_models=("a", "b", "c"), addresses=[triton.address], worker_rules="serial = true", loops=1)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda model: crowd(sluice, model, 4, 12), "abc"))
        wait_for(lambda: all(sluice.metric("sluice_running_rows", model=m) == 0 for m in "abc"))
