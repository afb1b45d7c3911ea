"""Rewards: what clients post of answers that they had, by the request's id or by the key; a pure record."""
import json

import httpx
import pytest
from harness import Sluice, configuration
from test_experiments import HALVES, ask, drawn, refusal
from test_reload import change, reload

ONE = f"""
layer "people" {{ key = "header:X-User" }}
experiment "e" {{ model = "digits" layer = "people" to = 50% rewards = {{"click", "revenue"}} {HALVES} }}
experiment "bare" {{ model = "digits" layer = "people" from = 50% {HALVES} }}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    config = configuration(tmp_path_factory.mktemp("rewards"), models=ONE, top='tenant = "header:x-tenant"')
    with Sluice(config, wait_models=("digits", "digits-small")) as sluice:
        yield sluice
        assert sluice.stop() == 0, sluice.text


def post(sluice, body=None, headers=None, **members):
    content = json.dumps(members) if body is None else body
    return httpx.post(f"{sluice.url}/sluice/v1/feedback", content=content, headers=headers, timeout=20)


def counted(sluice, variant, reward, what="sluice_experiment_rewards_total"):
    return sluice.metric(what, experiment="e", variant=variant, reward=reward)


def users(sluice):
    """A user of each variant of e, and one of the other experiment."""
    found = {}
    for i in range(60):
        who = drawn(ask(sluice, user=f"user-{i}", headers={"x-request-id": f"id-{i}"}))
        found.setdefault(who if who and who[0] == "e" else "bare", i)
        if len(found) == 3:
            return found[("e", "control")], found[("e", "treatment")], found["bare"]
    raise AssertionError(found)


def test_a_reward_finds_its_variant(lab):
    control, treatment, _ = users(lab)
    for variant, user in (("control", control), ("treatment", treatment)):
        for way in ({"request_id": f"id-{user}"}, {"key": f"user-{user}"}):
            before = counted(lab, variant, "click")
            answer = post(lab, experiment="e", name="click", value=1, **way)
            assert (answer.status_code, answer.json()) == (200, {"experiment": "e", "variant": variant, "name": "click"})
            assert counted(lab, variant, "click") == before + 1
    sum_before = counted(lab, "control", "revenue", "sluice_experiment_reward_sum")
    for value in (2.5, -0.5, 1e12):
        assert post(lab, experiment="e", name="revenue", value=value, request_id=f"id-{control}").status_code == 200
    assert counted(lab, "control", "revenue") == 3
    assert counted(lab, "control", "revenue", "sluice_experiment_reward_sum") - sum_before == 1e12 + 2
    assert counted(lab, "control", "revenue", "sluice_experiment_reward_squares") == pytest.approx(1e24)
    told = {e["name"]: {v["name"]: v["rewards"] for v in e["variants"]} for e in lab.status_page()["experiments"]}
    clicks = {"name": "click", "count": counted(lab, "control", "click"), "sum": counted(lab, "control", "click")}
    assert told["e"]["control"] == [clicks, {"name": "revenue", "count": 3, "sum": 1e12 + 2}]
    assert told["bare"] == {"control": [], "treatment": []}


def test_what_is_not_known_is_told(lab):
    _, _, other = users(lab)
    before = lab.metric("sluice_rewards_unknown_total")
    for status, members, why in (
        (404, {"request_id": "never"}, "request_id: it is not remembered: this instance drew no variant for it since its start, or too many since, or it is a day ago"),
        (404, {"key": f"user-{other}"}, "key: it has no variant: slice"),
        (404, {"request_id": "x", "experiment": "f"}, "experiment: there is none of that name"),
        (400, {"request_id": "x", "name": "clik"}, "name: expected one of click, revenue, got another"),
        (400, {"request_id": "x", "experiment": "bare"}, "name: the experiment has no rewards"),
    ):
        answer = post(lab, **{"experiment": "e", "name": "click", "value": 1, **members})
        assert (answer.status_code, answer.json()) == (status, {"error": why})
    assert lab.metric("sluice_rewards_unknown_total") == before + 2


def test_hostile_rewards(lab):
    good = '"experiment": "e", "name": "click", "request_id": "x"'
    before = lab.metric("sluice_experiment_rewards_total")
    for body, why in (
        ("", "body: "),
        ("[1]", "body: expected an object, got an array"),
        ("{" + good + "}", "value: is missing"),
        ("{" + good + ', "value": NaN}', "body: "),
        ("{" + good + ', "value": 1e400}', "value: expected a number from -1e12 to 1e12, got 1e400"),
        ("{" + good + ', "value": 1e13}', "value: expected a number from -1e12 to 1e12, got 1e13"),
        ("{" + good + ', "value": "1"}', "value: expected a number, got a text"),
        ("{" + good + ', "value": null}', "value: expected a number, got null"),
        ("{" + good + ', "value": 1, "value": 1}', "value: came twice"),
        ("{" + good + ', "value": 1, "key": "k"}', "key: goes without request_id"),
        ("{" + good + ', "value": 1, "more": {}}', "body: expected experiment, name, value, and request_id or key, got another member"),
        ("{" + good + ', "value": 1} {}', "body: "),
        ('{"experiment": "e", "name": "click", "value": 1}', "request_id: is missing, and so is key"),
        ('{"experiment": "' + "e" * 257 + '"}', "experiment: expected 1 to 256 bytes, got 257"),
        ('{"experiment": ["e"]}', "experiment: expected a text, got an array"),
        ("{" * 200, "body: "),
    ):
        answer = post(lab, body=body)
        assert answer.status_code == 400 and answer.json()["error"].startswith(why), (body[:80], answer.text)
    assert post(lab, body=" " * 2_000_000).status_code in (400, 413)
    assert post(lab, body="{}", headers=[("x-tenant", "a"), ("x-tenant", "b")]).json() == {"error": "x-tenant: came twice"}
    assert httpx.get(f"{lab.url}/sluice/v1/feedback").status_code == 405
    assert lab.metric("sluice_experiment_rewards_total") == before


def test_they_go_on_over_a_reload(lab):
    control, _, _ = users(lab)
    assert post(lab, experiment="e", name="click", value=1, request_id=f"id-{control}").status_code == 200
    before = counted(lab, "control", "click")
    change(lab, ('rewards = {"click", "revenue"}', 'rewards = {"other", "click"}'))
    reload(lab)
    assert post(lab, experiment="e", name="click", value=1, request_id=f"id-{control}").status_code == 200  # drawn before
    assert counted(lab, "control", "click") == before + 1
    assert post(lab, experiment="e", name="revenue", value=1, request_id=f"id-{control}").status_code == 400


def test_what_a_file_may_not_say(tmp_path):
    said = refusal(tmp_path, f'experiment "e" {{ model = "digits"\nrewards = {{"a", "a"}} {HALVES} }}')
    assert 'rewards: "a" stands twice' in said and "gateway.conf:" in said
    assert 'rewards: expected names' in refusal(tmp_path, f'experiment "e" {{ model = "digits" rewards = {{"a b"}} {HALVES} }}')
