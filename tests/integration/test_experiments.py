"""Experiments: who gets which variant, how the answer says it, what a reload moves, and what testers may say."""
import base64
import hashlib
import hmac
import json
import subprocess
import time

import grpc
import httpx
import numpy
import onnx_file
import pytest
from harness import SAMPLES, SLUICE, Sluice, configuration, wait_for, worker_command
from test_chains import kept_away, only, steps
from test_explain_request import explain
from test_reload import TOKEN, change, reload
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROW = [float(v) for v in SAMPLES[0]["input"]]
KEY = "testers of the house"
MODELS = {"control": "digits", "treatment": "digits-small"}
HALVES = 'variant "control" { model = "digits" weight = 50% } variant "treatment" { model = "digits-small" weight = 50% }'
KEYS = {"by-cookie": "cookie:uid", "by-claim": "jwt:sub", "by-api-key": "api-key", "by-parameter": "parameter:who", "by-request": "request-id"}


def sections(directory):
    (directory / "force.key").write_text(KEY + "\n")
    return (
        f"""
layer "people" {{ key = "header:X-User" }}
experiment "size" {{ model = "digits" layer = "people" to = 70% force_key_file = "{directory}/force.key" {HALVES} }}
experiment "late" {{ model = "digits" layer = "people" from = 70% to = 90%
  target {{ header = {{"x-country: de", "x-country: at"}} tenant = {{"acme"}} }} {HALVES.replace("50%", "100%", 1).replace("50%", "0%")} }}
experiment "odd" {{ model = "with-another" variant "control" {{ model = "digits" weight = 50% }} variant "b" {{ model = "other" weight = 50% }} }}
experiment "typo" {{ model = "with-nobody" variant "control" {{ model = "digits" weight = 50% }} variant "b" {{ model = "digist" weight = 50% }} }}
"""
        + "".join(f'experiment "{name}-x" {{ model = "{name}" key = "{key}" holdout = 20% {HALVES} }}\n' for name, key in KEYS.items())
    )


def other_model(directory):
    """Takes something else than digits does."""
    version = directory / "other" / "1"
    version.mkdir(parents=True)
    ports = [onnx_file.value(n, ["n", 64], onnx_file.FLOAT) for n in ("pixels", "probabilities")]
    (version / "model.onnx").write_bytes(
        onnx_file.model(onnx_file.graph([onnx_file.node("Relu", ["pixels"], ["probabilities"])], ports[:1], ports[1:], []))
    )
    return directory


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("experiments")
    other = worker_command(other_model(directory / "others"))
    config = configuration(directory, models=f'worker "v" {{ command = {{{other}}} }}' + sections(directory))
    with Sluice(config, wait_models=("digits", "digits-small", "other")) as sluice:
        yield sluice
        assert sluice.stop() == 0, sluice.text


CLIENT = httpx.Client(timeout=20)


def ask(sluice, model="digits", user=None, headers=None, path="", sequence=None, **parameters):
    headers = {**({"x-user": user} if user else {}), **(headers or {})}
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW}
    body = {"inputs": [tensor], "parameters": {**parameters, **({"sequence_id": sequence} if sequence else {})}}
    return CLIENT.post(f"{sluice.url}/v2/models/{model}{path}/infer", json=body, headers=headers)


def drawn(answer):
    """("size", "control"), or None; and its model is the variant's."""
    assert answer.status_code == 200, answer.text
    said = answer.headers.get("sluice-experiment")
    assert answer.json()["parameters"].get("sluice-experiment") == said
    return tuple(said.split("/")) if said else None


def draws(sluice, users, **more):
    return {user: drawn(ask(sluice, user=user, **more)) for user in users}


USERS = [f"user-{i}" for i in range(60)]


def test_a_key_has_one_variant_and_the_answer_says_which(lab):
    first, again = draws(lab, USERS), draws(lab, USERS)
    assert first == again
    size = [v for e, v in filter(None, first.values()) if e == "size"]
    assert {"control", "treatment"} == set(size) and 25 < len(size) < 58
    for user in USERS[:10]:
        answer = ask(lab, user=user, headers={"x-request-id": f"exp-{user}"})
        variant = drawn(answer)
        model = MODELS[variant[1]] if variant else "digits"
        assert answer.headers["sluice-model"].startswith(model + ";") and answer.json()["model_name"] == model
        assert "sluice-fallback" not in answer.headers
        line = wait_for(lambda: [r for r in lab.access_log() if r.get("id") == f"exp-{user}"], 10, "its line")[0]
        assert line["model"] == "digits" and (line.get("experiment"), line.get("variant")) == (variant or (None, None))
        assert line.get("answered") == (model if model != "digits" else None)
        assert line.get("draw") in ((None,) if variant else ("slice", "target"))
        told = httpx.get(f"http://127.0.0.1:{lab.admin_port}/v1/requests/exp-{user}", headers=TOKEN).json()
        assert (told["experiment"], told["variant"]) == (variant or (None, None))
        assert told["draw"] == ("drawn" if variant else line["draw"])
        said = explain(lab, f"exp-{user}")[1]
        assert (f"experiment {variant[0]}, variant {variant[1]}: drawn" if variant else f"in no experiment: {line['draw']}") in said


def test_grpc_says_it_too(lab):
    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{lab.port}"))
    for user, variant in draws(lab, USERS[:12]).items():
        request = service_pb2.ModelInferRequest(model_name="digits")
        request.inputs.add(name="input", datatype="FP32", shape=[1, 64])
        request.raw_input_contents.append(numpy.array(ROW, numpy.float32).tobytes())
        response, call = stub.ModelInfer.with_call(request, timeout=20, metadata=[("x-user", user)])
        said = "/".join(variant) if variant else None
        assert dict(call.initial_metadata()).get("sluice-experiment") == said
        assert (response.parameters["sluice-experiment"].string_param or None) == said
        assert response.model_name == (MODELS[variant[1]] if variant else "digits")


def test_of_a_layer_one_experiment_at_most(lab):
    bare, aimed = draws(lab, USERS), draws(lab, USERS, headers={"x-country": "at", "sluice-tenant": "acme"})
    assert {e for e, _ in filter(None, bare.values())} == {"size"}
    late = [user for user in USERS if aimed[user] and aimed[user][0] == "late"]
    assert late and all(bare[user] is None and aimed[user] == ("late", "control") for user in late)
    assert all(aimed[user] == bare[user] for user in USERS if user not in late)
    for headers in ({"x-country": "de"}, {"sluice-tenant": "acme"}, {"x-country": "fr", "sluice-tenant": "acme"}):
        assert drawn(ask(lab, user=late[0], headers=headers)) is None
    assert drawn(ask(lab)) is None  # no key
    lab.settle()
    assert lab.metric("sluice_experiment_outside_total", model="digits", why="no_key") >= 1
    assert lab.metric("sluice_experiment_outside_total", model="digits", why="target") >= len(late)


def token(**claims):
    part = lambda v: base64.urlsafe_b64encode(json.dumps(v).encode()).rstrip(b"=").decode()
    return f"{part({'alg': 'none'})}.{part(claims)}.bm9ib2R5IGxvb2tz"


def test_keys(lab):
    """Each way to say who asks; the same key draws the same, whatever it came in."""
    ways = {
        "by-cookie": lambda u: {"headers": {"cookie": f"a=1; uid={u}; b=2"}},
        "by-claim": lambda u: {"headers": {"authorization": f"Bearer {token(iss='x', sub=u)}"}},
        "by-api-key": lambda u: {"headers": {"x-api-key": u}},
        "by-parameter": lambda u: {"who": u},
        "by-request": lambda u: {"headers": {"x-request-id": u}},
    }
    for name, way in ways.items():
        got = {user: drawn(ask(lab, model=name, **way(user))) for user in USERS[:30]}
        assert len(set(got.values())) == 3, (name, got)  # both, and held out
        assert {v[0] for v in got.values() if v} == {f"{name}-x"}
        again = {user: drawn(ask(lab, model=name, **way(user))) for user in USERS[:5]}
        assert again == {user: got[user] for user in again}
    bearer = {user: drawn(ask(lab, model="by-api-key", headers={"authorization": f"bearer {user}"})) for user in USERS[:10]}
    assert bearer == {user: drawn(ask(lab, model="by-api-key", **ways["by-api-key"](user))) for user in USERS[:10]}
    for wrong in ("Bearer x", "Bearer a.b.c", f"Basic {token(sub='u')}", f"Bearer {token(sub=[1])}", f"Bearer {token(other='u')}"):
        assert drawn(ask(lab, model="by-claim", headers={"authorization": wrong})) is None
    lab.settle()
    assert lab.metric("sluice_experiment_outside_total", model="by-claim", why="no_key") == 5
    assert lab.metric("sluice_experiment_outside_total", model="by-cookie", why="holdout") >= 1


def word(experiment, variant, expires=None, key=KEY):
    said = f"{experiment}/{variant};{int(time.time()) + 60 if expires is None else expires}"
    return {"sluice-variant": f"{said};{hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()}"}


def test_a_tester_says_which(lab):
    lab.settle()
    before = lab.metric("sluice_experiment_requests_total", experiment="size")
    for variant in MODELS:
        for user in (None, *USERS[:4]):
            assert drawn(ask(lab, user=user, headers=word("size", variant))) == ("size", variant)
    lab.settle()
    assert lab.metric("sluice_experiment_forced_total", experiment="size", variant="treatment") == 5
    assert lab.metric("sluice_experiment_requests_total", experiment="size") == before
    for status, headers, why in (
        (401, word("size", "treatment", key="the operators' token"), "the signature is not of the experiment's key"),
        (401, word("size", "treatment", expires=1700000000), "it has expired"),
        (401, word("late", "treatment"), "the experiment has no force_key_file"),
        (400, word("size", "treatmint"), "digits has no such variant"),
        (400, {"sluice-variant": "size/treatment"}, "expected NAME/VARIANT;EXPIRES;SIGNATURE"),
        (401, {"sluice-variant": "size/treatment;99999999999;zz"}, "expected a signature of 64 hexadecimal digits"),
    ):
        answer = ask(lab, headers=headers)
        assert (answer.status_code, answer.json()) == (status, {"error": f"sluice-variant: {why}"})
    assert ask(lab, model="digits-small", headers={"sluice-variant": "whatever"}).status_code == 200  # no experiment's name


def test_a_variant_that_does_not_fit_is_not_drawn(lab):
    assert lab.wait_event("variant_unfit", experiment="odd", variant="b")["why"] == "input pixels: there is none"
    for model in ("with-another", "with-nobody"):
        got = [ask(lab, model=model, headers={"x-request-id": f"r{i}"}) for i in range(20)]
        assert {drawn(answer) for answer in got} == {None, (("odd" if "another" in model else "typo"), "control")}
        assert all(answer.json()["model_name"] == "digits" for answer in got)
        lab.settle()
        assert lab.metric("sluice_experiment_outside_total", model=model, why="unfit") > 0
    shown = {e["name"]: e for e in lab.status_page()["experiments"]}
    assert [(v["known"], v["fits"]) for v in shown["odd"]["variants"]] == [(True, True), (True, False)]
    assert [(v["known"], v["fits"]) for v in shown["typo"]["variants"]] == [(True, True), (False, True)]
    assert (shown["size"]["layer"], shown["size"]["to_ppm"]) == ("people", 700000)


def test_a_name_of_its_own_is_a_model_to_clients(lab):
    assert lab.get("/v2/models/by-cookie/ready")[0] == 200
    digits, own = (httpx.get(f"{lab.url}/v2/models/{name}").json() for name in ("digits", "by-cookie"))
    assert own == digits
    assert httpx.get(f"{lab.url}/v2/models/by-cookie/config").status_code == 200
    listed = {m["name"]: m["state"] for m in httpx.post(f"{lab.url}/v2/repository/index").json()}
    assert listed["by-cookie"] == "READY" and listed["digits"] == "READY" and len(listed) == 3 + len(KEYS) + 2
    body, octets = numpy.array(ROW, numpy.float32).tobytes(), {"inference-header-content-length": "0", "content-type": "application/octet-stream"}
    answer = httpx.post(f"{lab.url}/v2/models/by-cookie/infer", content=body, headers={**octets, "cookie": "uid=user-1"})
    assert answer.status_code == 200, answer.text
    assert ask(lab, model="by-cooky").status_code == 404


def test_versions_and_sequences_are_the_controls(lab):
    treated = next(user for user, v in draws(lab, USERS).items() if v and v[1] == "treatment")
    assert drawn(ask(lab, user=treated, path="/versions/1")) is None
    assert drawn(ask(lab, user=treated, sequence=7, sequence_start=True)) is None
    lab.settle()
    assert lab.metric("sluice_experiment_outside_total", model="digits", why="version") == 2


def test_other_weights_move_whom_they_must(lab, tmp_path):
    """And another instance, which has never seen the old ones, says the same."""
    before = draws(lab, USERS)
    lab.settle()
    counted = lab.metric("sluice_experiment_requests_total", experiment="size", variant="control")
    change(lab, (HALVES, HALVES.replace("50%", "80%", 1).replace("50%", "20%")))
    text = reload(lab)
    assert 'experiment "size": variant "control": weight: was {50%}, is {80%}' in text
    after = draws(lab, USERS)
    moved = {(before[u], after[u]) for u in USERS if before[u] != after[u]}
    assert moved == {(("size", "treatment"), ("size", "control"))}
    lab.settle()
    assert lab.metric("sluice_experiment_requests_total", experiment="size", variant="control") > counted  # counts go on
    config = tmp_path / "gateway.conf"
    config.write_text(lab.config.read_text())
    with Sluice(config, wait_models=("digits", "digits-small")) as another:
        assert draws(another, USERS) == after
        assert another.stop() == 0, another.text


def test_a_variant_falls_back_by_its_own_chain(start, tmp_path):
    """Its worker is away: the control answers for it, and all say so."""
    small = worker_command(only(tmp_path / "small", "digits-small"), unless=tmp_path / "no-v")
    sluice = start(
        wait_models=("digits", "digits-small"),
        repository=only(tmp_path / "big", "digits"),
        models=f'worker "v" {{ command = {{{small}}} }} model "digits-small" {{ worker = "v" fallback = {{"digits"}} }}'
        f'experiment "e" {{ model = "digits" {HALVES.replace("50%", "0%", 1).replace("50%", "100%")} }}',
    )
    assert drawn(ask(sluice)) == ("e", "treatment")
    with kept_away(sluice, "v"):
        wait_for(lambda: steps(ask(sluice)) == ["digits-small;not_ready", "digits;ok"], 20, "it falls back")
        answer = ask(sluice, headers={"x-request-id": "fell"})
        assert drawn(answer) == ("e", "treatment")
        assert answer.headers["sluice-fallback"] == "digits-small" and answer.headers["sluice-model"].startswith("digits;")
        line = wait_for(lambda: [r for r in sluice.access_log() if r.get("id") == "fell"], 10, "its line")[0]
        assert (line["model"], line["variant"], "answered" in line) == ("digits", "treatment", False)
        assert sluice.get("/v2/models/digits/ready")[0] == 200
    sluice.settle()
    assert sluice.metric("sluice_experiment_fallbacks_total", experiment="e", variant="treatment") >= 1
    assert sluice.metric("sluice_experiment_latency_seconds_count", experiment="e", variant="treatment") >= 2


def refusal(directory, models):
    config = configuration(directory, models=models)
    done = subprocess.run([SLUICE, "-t", "-c", config], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_what_a_file_may_not_say(tmp_path):
    one = lambda path: f'experiment "e" {{ model = "digits" force_key_file = "{path}" {HALVES} }}'
    assert "force_key_file: /no/such: No such file" in refusal(tmp_path, one("/no/such"))
    short = tmp_path / "short"
    short.write_text("short")
    assert "shorter than 16 bytes" in refusal(tmp_path, one(short))
    same = tmp_path / "same"
    same.write_text("open sesame, please")
    assert "is the operators' token: testers need a key of their own" in refusal(tmp_path, one(same))
    said = refusal(tmp_path, 'experiment "e" { model = "digits"\n' + HALVES.replace("50%", "60%", 1) + " }")
    assert 'expected weights that add up to 100%, got 110%' in said and "gateway.conf:" in said
