"""Bodies that are known (docs/cache.md): who asks the same bytes again is spared their decoding, and is told what he would be told."""
import json
import os
import re
import signal
import struct

import httpx
import pytest
from harness import SAMPLES, wait_for
from onnx_file import add_model, tensor
from test_cache import KEPT, ctl, source
from test_split import DIGITS, ask_binary, ask_grpc, binary_answer, infer_message

INPUT = {"name": "input", "datatype": "FP32", "shape": [1, 64], "data": SAMPLES[0]["input"]}
ONE = {"loops": 1, "models": KEPT}  # each loop knows its own


def body(**more):
    return json.dumps({**more, "inputs": [INPUT]}).encode()


def ask(sluice, content, headers=None, path="models/digits"):
    return httpx.post(f"{sluice.url}/v2/{path}/infer", content=content, headers=headers)


def known(sluice):
    return sluice.metric("sluice_cache_known_total")


def learn(sluice, content, **more):
    """Asked often enough that its body is known."""
    before = known(sluice)
    first, *others = (ask(sluice, content, **more) for _ in range(3))
    assert source(first) == "model" and [source(o) for o in others] == ["cache"] * 2
    assert known(sluice) == before + 1
    return others


def plain(answer):
    """What does not tell when it was asked."""
    text = re.sub(r'"age_s":\d+', '"age_s":0', answer.text)
    fields = {k: v for k, v in answer.headers.items() if k not in ("date", "age", "server-timing", "x-request-id", "content-length")}
    return text, fields


BODIES = (
    body(),
    body(id="mine"),
    body(id="another"),
    body(id='"\u00e9', parameters={"theirs": "x"}),
    body(outputs=[{"name": "probabilities"}]),
    body(parameters={"binary_data_output": True}),
)


def test_the_same_answer_to_the_byte(start):
    sluice = start(**ONE)
    outputs = {o["name"] for o in ask(sluice, BODIES[0], {"cache-control": "no-store"}).json()["outputs"]}
    for i, content in enumerate(BODIES):
        content = content.replace(b"probabilities", sorted(outputs)[0].encode())
        once = ask(sluice, content)
        assert once.status_code == 200, once.text
        before, answers = known(sluice), [ask(sluice, content) for _ in range(3)]
        assert [source(a) for a in answers] == ["cache"] * 3 and known(sluice) >= before + 2, i
        assert len({str(plain(a)) for a in answers}) == 1, [plain(a) for a in answers]
        if "octet" not in answers[0].headers["content-type"]:
            one, other = once.json(), answers[2].json()
            assert one["outputs"] == other["outputs"] and other.get("id") == json.loads(content).get("id") == one.get("id")
            assert once.text.split('"outputs":')[1] == answers[2].text.split('"outputs":')[1]
    for answer in (ask_binary(sluice, DIGITS[:1]), ask_grpc(sluice, infer_message("digits", "input", DIGITS[:1]))):
        assert (answer.headers["sluice-source"] if hasattr(answer, "headers") else answer.parameters["sluice-source"].string_param) == "cache"
    (y,) = binary_answer(ask_binary(sluice, DIGITS[:1])).values()
    data = ask(sluice, BODIES[0]).json()["outputs"][0]["data"]
    assert struct.unpack(f"<{len(data)}f", y[1]) == pytest.approx(data, rel=1e-6)


def test_who_is_told_apart(start):
    sluice = start(top='tenant = "header:x-tenant"', **ONE)
    a, b = {"x-tenant": "a"}, {"x-tenant": "b"}
    learn(sluice, BODIES[0], headers=a)
    learn(sluice, BODIES[0], headers=b)  # the first one of b was answered by the model, and was not known
    learn(sluice, BODIES[0])
    for headers in ({"sluice-priority": "2"}, {"sluice-chain": "none"}):  # the same question, and not the same request
        before = known(sluice)
        assert source(ask(sluice, BODIES[0], headers)) == "cache" and known(sluice) == before
        assert source(ask(sluice, BODIES[0], headers)) == "cache" and known(sluice) == before + 1
    before = known(sluice)
    for headers, why in (({"sluice-priority": "x"}, "sluice-priority"), ({"sluice-chain": ""}, "sluice-chain"), ({"x-tenant": ""}, None)):
        answer = ask(sluice, BODIES[0], headers)
        assert (answer.status_code, why in answer.text) == (400, True) if why else answer.status_code == 200
    for headers in ({"cache-control": "no-store"}, {"cache-control": "no-cache"}):
        assert source(ask(sluice, BODIES[0], headers)) == "model"
    for path in ("models/digits/versions/1", "models/digits-small"):
        assert ask(sluice, BODIES[0], path=path).status_code == 200
    assert ask(sluice, BODIES[0], path="models/digits/versions/7").status_code == 404
    assert known(sluice) == before
    assert source(ask(sluice, BODIES[0])) == "cache" and known(sluice) == before + 1


def test_reloads_and_flushes(start):
    sluice = start(**ONE)
    first = learn(sluice, BODIES[1])[1]
    ctl(sluice, "cache", "flush", "digits")
    before = known(sluice)
    assert [source(ask(sluice, BODIES[1])) for _ in range(2)] == ["model", "cache"]  # known, and asked of the model
    assert known(sluice) == before + 2 and plain(ask(sluice, BODIES[1])) == plain(first)
    text, page = sluice.config.read_text(), sluice.status_page()
    taken = sluice.metric("sluice_cache_known_bytes")
    assert 0 < taken < page["cache_leased"]
    for rules, memory, sources in (("enabled = off", "256MiB", ["model"] * 2), ("", "4MiB", ["cache"] * 2), ("", "8MiB", ["cache"])):
        sluice.config.write_text(text.replace('ttl = "10m"', f'ttl = "10m" {rules}') + f'cache {{ memory = "{memory}" }}\n')
        ctl(sluice, "reload")
        before = known(sluice)
        assert [source(ask(sluice, BODIES[1])) for _ in sources] == sources, rules
        assert known(sluice) == before  # switched off; no room for bodies; and they come in anew
        assert (sluice.metric("sluice_cache_known_bytes") == 0) == (memory == "4MiB")
    assert source(ask(sluice, BODIES[1])) == "cache" and known(sluice) == before + 1


def test_a_model_that_is_another_one_now(start, tmp_path):
    def write(columns, weight):
        path = tmp_path / "models" / "m" / "1" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(add_model(tensor("w", [columns], struct.pack(f"<{columns}f", *[weight] * columns)), x=("n", columns), y=("n", columns)))

    def began_again():
        started = len(sluice.find("worker_started"))
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        sluice.wait_event("worker_started", timeout=60, count=started + 1)

    def says(answer):
        return answer.json()["outputs"][0]["data"] if answer.status_code == 200 else answer.status_code

    write(4, 1.0)
    sluice = start(repository=tmp_path / "models", wait_models=("m",), loops=1, models=KEPT.replace("digits", "m"))
    content = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()
    assert [says(a) for a in learn(sluice, content, path="models/m")] == [[2, 3, 4, 5]] * 2
    write(4, 2.0)
    began_again()
    before = known(sluice)
    wait_for(lambda: says(ask(sluice, content, path="models/m")) == [3, 4, 5, 6], 60, "the other one answers")
    answers = [ask(sluice, content, path="models/m") for _ in range(2)]
    assert [(source(a), says(a)) for a in answers] == [("cache", [3, 4, 5, 6])] * 2 and known(sluice) > before
    write(5, 1.0)
    began_again()
    wait_for(lambda: says(ask(sluice, content, path="models/m")) == 400, 60, "it does not fit any more")
    fresh = ask(sluice, content, {"cache-control": "no-store"}, path="models/m")
    assert fresh.status_code == 400 and ask(sluice, content, path="models/m").json() == fresh.json()
