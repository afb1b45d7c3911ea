"""Answers that are kept, and requests that ask the same at once: what clients and operators see of them."""
import concurrent.futures
import json
import threading
import time

import grpc
import httpx
import numpy as np
import pytest
from harness import SAMPLES, Wire, wait_for
from test_split import DIGITS, ask_binary, ask_grpc, ask_json, binary_answer, infer_message
from triton_double import Triton

KEPT = 'model "digits" { cache { ttl = "10m" } }'


def ask(sluice, sample=0, model="digits", headers=None, **more):
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": SAMPLES[sample]["input"]}], **more}
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", json=body, headers=headers, timeout=60)


def source(answer):
    assert answer.status_code == 200, answer.text
    return answer.headers["sluice-source"]


def events(sluice, model="digits"):
    names = ("hit", "stale", "miss", "follower", "store", "eviction")
    return {n: sluice.metric("sluice_cache_events_total", model=model, event=n) for n in names}


# ---- what clients see --------------------------------------------------------------------------------


def test_the_second_one_is_answered_from_the_cache(start):
    sluice = start(models=KEPT)
    first, second = ask(sluice), ask(sluice, id="mine", headers={"x-request-id": "the-second"})
    assert source(first) == "model" and "age" not in first.headers and "sluice-batch" in first.headers
    assert source(second) == "cache" and int(second.headers["age"]) < 60 and "sluice-batch" not in second.headers
    assert second.headers["sluice-model"] == first.headers["sluice-model"]
    a, b = first.json(), second.json()
    assert a["outputs"] == b["outputs"] and b["id"] == "mine"
    assert b["parameters"]["sluice-source"] == "cache" and b["parameters"]["age_s"] == int(second.headers["age"])
    assert source(ask(sluice, 1)) == "model"
    sluice.settle()
    assert events(sluice) == {"hit": 1, "stale": 0, "miss": 2, "follower": 0, "store": 2, "eviction": 0}
    assert sluice.metric("sluice_requests_total", model="digits", source="cache") == 1
    lines = lambda: [line for line in sluice.access_log() if line.get("source") == "cache"]  # noqa: E731
    wait_for(lambda: len(lines()) == 1, 10, "its line")
    assert lines()[0]["age_s"] < 60 and "batch" not in lines()[0]
    assert "\nsource: cache, " in ctl(sluice, "explain", "the-second").out


def test_every_protocol_has_the_same_answers(start):
    sluice = start(models=KEPT)
    rows = DIGITS[:1]
    first = binary_answer(ask_binary(sluice, rows))
    answer = ask_grpc(sluice, infer_message("digits", "input", rows))
    assert answer.parameters["sluice-source"].string_param == "cache"
    assert {o.name: raw for o, raw in zip(answer.outputs, answer.raw_output_contents)} == {n: d for n, (_, d) in first.items()}
    assert source(ask_json(sluice, "digits", rows.tolist(), name="input")) == "cache"


def test_a_request_of_many_rows(start):
    sluice = start(models=KEPT)
    first, second = ask_binary(sluice, DIGITS), ask_binary(sluice, DIGITS)
    assert source(first) == "model" and source(second) == "cache"
    assert binary_answer(first) == binary_answer(second)


def test_those_that_leave_while_their_key_is_made(start):
    """A key of many rows takes several turns. Whoever leaves meanwhile leaves nothing behind (with debug checks a use of the model
    that does not end is an abort at the end)."""
    sluice = start(models=KEPT)
    rows = np.zeros((40000, 64), np.float32)
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": list(rows.shape), "parameters": {"binary_data_size": rows.nbytes}}]})
    fields = f"host: x\r\ninference-header-content-length: {len(head)}\r\ncontent-length: {len(head) + rows.nbytes}\r\n"
    for i in range(20):
        with Wire(sluice.port) as wire:
            wire.send(f"POST /v2/models/digits/infer HTTP/1.1\r\n{fields}\r\n{head}".encode() + rows.tobytes())
            time.sleep(i / 1000)
    sluice.wait_idle()
    assert source(ask(sluice)) == "model"


def test_what_clients_ask_of_caches(start):
    sluice = start(models=KEPT)
    assert source(ask(sluice, headers={"cache-control": "no-store"})) == "model"
    assert source(ask(sluice)) == "model"  # nothing was kept
    assert source(ask(sluice, headers={"cache-control": 'max-age="3,no-store", No-Cache'})) == "model"
    assert source(ask(sluice, headers={"cache-control": "max-stale=3, only-if-x"})) == "cache"
    assert source(ask(sluice, 1, headers={"cache-control": "no-cache"})) == "model"
    assert source(ask(sluice, 1)) == "cache"  # that was
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for metadata, expected in (([("cache-control", "no-store")], "model"), ([], "cache")):
            _, done = call.with_call(infer_message("digits", "input", DIGITS[1:2]), metadata=metadata, timeout=60)
            assert dict(done.initial_metadata())["sluice-source"] == expected


def test_what_is_never_kept(start):
    sluice = start(models=KEPT)
    for _ in range(2):
        wrong = httpx.post(f"{sluice.url}/v2/models/digits/infer", json={"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
        assert wrong.status_code == 400
        assert source(ask(sluice, model="digits-small")) == "model"  # it has no ttl
    assert events(sluice)["store"] == 0 and events(sluice, "digits-small")["miss"] == 0


# ---- one flight --------------------------------------------------------------------------------------


def test_a_thousand_at_once_are_computed_once(start):
    with Triton("m:takes=1:max_batch=8") as worker:
        sluice = start(addresses=[worker.address], models='model "m" { cache { ttl = "10m" } }', wait_models=("m",))
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
        limits = httpx.Limits(max_connections=200)
        with httpx.Client(limits=limits, timeout=60) as client, concurrent.futures.ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(lambda _: client.post(f"{sluice.url}/v2/models/m/infer", json=body), range(1000)))
        assert {a.status_code for a in answers} == {200} and {a.text.split('"data":')[1] for a in answers} == {"[2,4]}]}"}
        sluice.settle()
        assert sluice.metric("sluice_batches_total", model="m") == 1
        seen = events(sluice, "m")
        assert seen["miss"] == 1 and seen["hit"] + seen["follower"] == 999 and seen["follower"] > 0


# ---- what operators see ------------------------------------------------------------------------------


def ctl(sluice, *words):
    from test_ctl import ask as ask_ctl

    said = ask_ctl(sluice, *words)
    assert said.status == 0, said.err
    return said


def test_stats_and_flush(start):
    sluice = start(models=KEPT)
    assert "no model" not in ctl(sluice, "cache", "stats").out
    ask(sluice), ask(sluice), ask(sluice, 1)
    said = ctl(sluice, "cache", "stats")
    row = next(line.split() for line in said.out.splitlines() if line.startswith("digits"))
    assert row[:3] == ["digits", "yes", "2"] and row[-1] == "33.3%"
    (digits,) = ctl(sluice, "cache", "stats", "--json").json["models"]
    assert digits["entries"] == 2 and 0 < digits["bytes"] < 4096 and digits["hit"] == 1
    assert ctl(sluice, "cache", "flush", "digits-small").out == "0 answers of digits-small are not given any more\n"
    assert source(ask(sluice)) == "cache"
    assert ctl(sluice, "cache", "flush", "digits").out == "2 answers of digits are not given any more\n"
    assert source(ask(sluice)) == "model" and source(ask(sluice)) == "cache"
    assert ctl(sluice, "cache", "flush").out.endswith("answers of all models are not given any more\n")
    assert source(ask(sluice)) == "model"
    page = sluice.status_page()
    assert 0 < page["cache_leased"] <= page["cache_limit"] == 256 << 20
    wait_for(lambda: {m["name"]: m["cache_entries"] for m in sluice.status_page()["models"]}["digits"] == 1, 10, "old ones are swept")


def test_a_reload_keeps_what_is_kept(start, tmp_path):
    sluice = start(models=KEPT)
    assert source(ask(sluice)) == "model"
    text = sluice.config.read_text()
    for rules, expected in (("enabled = off", "model"), ("", "cache"), ('ttl = "0"', "model"), ('ttl = "1us"', "model")):
        sluice.config.write_text(text.replace('ttl = "10m"', f'ttl = "10m" {rules}' if "ttl" not in rules else rules))
        assert ctl(sluice, "reload").status == 0
        assert source(ask(sluice)) == expected, rules
