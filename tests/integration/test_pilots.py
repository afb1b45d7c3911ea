"""Weights that move by themselves: a ramp's steps, and what holds them; a bandit that follows a reward."""
from harness import wait_for
from test_experiments import HALVES, ask, drawn, refusal
from test_rewards import post


def variants(control, treatment, model="digits-small"):
    return (
        f'variant "control" {{ model = "digits" weight = {control} }} variant "treatment" {{ model = "{model}" weight = {treatment} }}'
    )


def weight(sluice, variant="treatment"):
    (shown,) = sluice.status_page()["experiments"]
    return {v["name"]: v["weight_ppm"] for v in shown["variants"]}[variant]


def test_a_ramp_goes_step_by_step(start):
    sluice = start(
        wait_models=("digits", "digits-small"),
        models=f'experiment "e" {{ model = "digits" ramp {{ variant = "treatment" steps = {{5%, 50%, 100%}} wait = "1s" min_requests = 0 }} {variants("100%", "0%")} }}',
    )
    wait_for(lambda: weight(sluice) == 1000000, 30, "its last step")
    sluice.wait_event("experiment_changed", count=3, who="ramp")
    assert [e["why"] for e in sluice.find("experiment_changed", who="ramp")] == [f"treatment: the next step, {s} %" for s in (5, 50, 100)]
    assert drawn(ask(sluice)) == ("e", "treatment")
    assert sluice.stop() == 0, sluice.text


def test_a_variant_that_nobody_serves_holds_it(start):
    sluice = start(
        models=f'experiment "e" {{ model = "digits" ramp {{ variant = "treatment" wait = "1s" min_requests = 0 }} {variants("95%", "5%", "nowhere")} }}'
    )
    assert sluice.wait_event("ramp_held", experiment="e", variant="treatment")["why"] == "unready"
    assert drawn(ask(sluice)) in (None, ("e", "control"))
    assert weight(sluice) == 50000 and not sluice.find("experiment_changed")
    assert sluice.stop() == 0, sluice.text


def test_a_guard_half_way_to_its_verdict_holds_it(start):
    """Nobody clicks on the variant's answers. Too few have seen them for a verdict; enough for no more of them."""
    guard = 'guard { reward = "click" reward_within = "2s" min_requests = 1000000 }'
    ramp = 'ramp { variant = "treatment" steps = {50%, 100%} wait = "1h" }'
    sluice = start(
        wait_models=("digits", "digits-small"),
        models=f'experiment "e" {{ model = "digits" rewards = {{"click"}} {guard}\n{ramp} {variants("50%", "50%")} }}',
    )
    seen = []

    def nobody_clicks():
        for _ in range(20):
            seen.append(f"r{len(seen)}")
            if drawn(ask(sluice, headers={"x-request-id": seen[-1]})) == ("e", "control"):
                assert post(sluice, experiment="e", name="click", value=1, request_id=seen[-1]).status_code == 200
        return sluice.find("ramp_held")

    assert wait_for(nobody_clicks, 120, "it is held")[0]["why"] == "alarm"
    evidence = sluice.metric("sluice_experiment_guard_evidence", experiment="e", variant="treatment", guard="reward")
    assert evidence >= 0.5 and weight(sluice) == 500000 and not sluice.find("experiment_changed")
    assert sluice.stop() == 0, sluice.text


def test_a_bandit_follows_the_reward(start):
    sluice = start(
        wait_models=("digits", "digits-small"),
        models=f'experiment "e" {{ model = "digits" rewards = {{"click"}} bandit {{ reward = "click" every = "1s" min_requests = 10 }} {HALVES} }}',
    )
    for i in range(60):
        variant = drawn(ask(sluice, headers={"x-request-id": f"r{i}"}))[1]
        if variant == "treatment" or i % 10 == 0:
            assert post(sluice, experiment="e", name="click", value=1, request_id=f"r{i}").json()["variant"] == variant
    wait_for(lambda: weight(sluice) >= 600000, 30, "it grows")
    assert sluice.wait_event("experiment_changed", who="bandit")["why"] == "click"
    assert sluice.stop() == 0, sluice.text


def test_what_a_file_may_not_say(tmp_path):
    for more, why in (
        ('\nramp { variant = "other" }', 'variant: there is no variant "other"'),
        ('\nramp { variant = "treatment" steps = {5%, 5%} }', "steps: expected each greater than the one before it"),
        ('\nramp { variant = "treatment" steps = {5%} }', 'variant: expected that the weight of "treatment" is 0% or one of the steps'),
        ('\nbandit { reward = "click" }', 'reward: "click" is none of the experiment\'s rewards'),
        ('rewards = {"click"} bandit { reward = "click" }\nramp { variant = "treatment" }', "variant: an experiment has a ramp or a bandit"),
    ):
        said = refusal(tmp_path, f'experiment "e" {{ model = "digits" {more} {HALVES} }}')
        assert why in said and "gateway.conf:" in said, said
