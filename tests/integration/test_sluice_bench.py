"""sluice-bench: load in an open loop, and a prediction log played again to another configuration."""
import json
import subprocess

import pytest
from harness import BUILD, GOOD_BODY, SAMPLES, Sluice, configuration, infer_body, wait_for
from prediction_files import records
from test_ctl import run as ctl
from test_predictions import FAST, ask, started, wait_records

BENCH = BUILD / "sluice-bench"
DONE, NOT_ALL, NOT_ASKED = 0, 1, 2


def bench(*words, stdin=None):
    return subprocess.run([BENCH, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=120)


def figures(*words, status=DONE, **more):
    said = bench(*words, "--json", **more)
    assert said.returncode == status, (said.stdout, said.stderr)
    return json.loads(said.stdout)


def test_at_a_rate(tmp_path):
    (tmp_path / "body").write_bytes(GOOD_BODY)
    with started(tmp_path, None) as sluice:
        words = [sluice.url, "--model", "digits", "--body", tmp_path / "body", "--rate", 400, "--requests", 200]
        got = figures(*words)
        assert got["requests"] == 200 and got["status"] == {"200": 200}
        took = got["took_us"]
        assert 0 < took["p50"] <= took["p90"] <= took["p99"] <= took["p99.9"] <= took["max"]
        said = bench(*words, "--seed", 2)
        assert said.returncode == DONE and "200     200" in said.stdout and "p99.9" in said.stdout
        # Its gaps follow from the seed alone: the last request is due when it is.
        assert got["seconds"] > 200 / 400 / 2
        refused = figures(sluice.url, "--model", "nobody", "--body", tmp_path / "body", "--rate", 1000, "--requests", 20, status=NOT_ALL)
        assert refused["status"] == {"404": 20} and refused["took_us"]["p50"] == 0
    away = figures(*words, "--requests", 5, status=NOT_ALL)
    assert away["status"] == {"none": 5}


def test_a_log_played_again(tmp_path):
    """To the same model nothing is different; to another one it is; what the log does not have in full is passed over."""
    log = FAST + " inputs = full outputs = full"
    models = 'model "digits-small" { predictions { inputs = hash } }'
    with started(tmp_path, log, models) as sluice:
        sluice.wait_model("digits-small")
        for i in range(20):
            assert ask(sluice, f"r{i}", infer_body([SAMPLES[i % len(SAMPLES)]["input"]]))[0] == 200
        assert ask(sluice, "hashed", model="digits-small")[0] == 200
        wait_records(tmp_path / "p", 21)
        exported = ctl("log", "export", tmp_path / "p").out
    (tmp_path / "log.jsonl").write_text(exported)
    with Sluice(configuration(tmp_path / "b")) as other:
        other.wait_model("digits-small")
        got = figures(other.url, "--replay", tmp_path / "log.jsonl", "--speed", 4)
        assert got["status"] == {"200": 20}
        assert got["replay"] == {"equal": 20, "different": 0, "not_compared": 0, "passed_over": 1, "largest_difference": got["replay"]["largest_difference"]}
        assert got["replay"]["largest_difference"] < 1e-4
        got = figures(other.url, "--replay", "-", "--model", "digits-small", stdin=exported, status=NOT_ALL)
        assert got["replay"]["different"] == 20 and got["replay"]["largest_difference"] > 0.01
        got = figures(other.url, "--replay", "-", "--model", "digits-small", "--tolerance", 1000, stdin=exported)
        assert got["replay"]["equal"] == 20
        said = bench(other.url, "--replay", tmp_path / "log.jsonl", "--speed", 4)
        assert said.returncode == DONE and "equal         20" in said.stdout


def test_parameters_headers_and_tenants_are_sent_again(tmp_path):
    """What the second gateway records of them is what the first one has."""
    log = FAST + ' inputs = full outputs = full parameters = on headers = {"x-country", "content-type"}'
    top = f'tenant = "header:x-tenant" predictions {{ file = "%s" {log} }}'
    with Sluice(configuration(tmp_path / "a", top=top % (tmp_path / "p"))) as sluice:
        sluice.wait_model("digits")
        for i in range(6):
            body = json.loads(infer_body([SAMPLES[0]["input"]], parameters={"k": i, "text": f"t{i}"}))
            body["inputs"][0]["parameters"] = {"unit": "mm"}
            fields = {"x-country": f"c{i}", "x-tenant": f"who{i % 2}"}
            assert ask(sluice, f"r{i}", json.dumps(body).encode(), **fields)[0] == 200
        wait_records(tmp_path / "p", 6)
        exported = ctl("log", "export", tmp_path / "p").out
    with Sluice(configuration(tmp_path / "b", top=top % (tmp_path / "q"))) as other:
        other.wait_model("digits")
        words = [other.url, "--replay", "-", "--speed", 100]
        assert figures(*words, "--tenant-header", "x-tenant", stdin=exported)["replay"]["equal"] == 6
        assert figures(*words, stdin=exported)["replay"]["equal"] == 6
        again = wait_records(tmp_path / "q", 12)
    said = lambda r, keys: json.dumps([r.get(key) for key in keys])  # noqa: E731
    keys = ("parameters", "headers", "inputs")
    first = records(tmp_path / "p")
    assert sorted(said(r, keys) for r in again) == sorted(2 * [said(r, keys) for r in first])
    assert sorted(said(r, (*keys, "tenant")) for r in again if "tenant" in r) == sorted(said(r, (*keys, "tenant")) for r in first)
    assert sum("tenant" in r for r in again) == 6


@pytest.mark.parametrize(
    "words, why",
    [
        (["http://h:1", "--tenant-header", "x", "--model", "m", "--body", "/nowhere"], "--tenant-header: expected"),
        (["http://h:1", "--replay", "x", "--tenant-header", "a: b"], "--tenant-header: expected"),
        ([], "expected http://HOST:PORT"),
        (["http://h:1"], "expected --replay FILE, or --model"),
        (["http://h:1", "--replay", "/nowhere"], "No such file"),
        (["http://h:1", "--replay", "/dev/null"], "no record was answered"),
        (["http://h:1", "--model", "m", "--body", "/nowhere"], "No such file"),
        (["http://h:1", "--rate", "fast"], "--rate: expected a number from 0.001"),
        (["http://h:1", "--requests", "0"], "--requests: expected a number from 1"),
        (["http://h:1", "--replay", "x", "--body", "y"], "--body goes without --replay"),
        (["http://h:1", "--nonsense"], "nonsense"),
    ],
)
def test_what_is_wrong_is_said(words, why):
    said = bench(*words)
    assert said.returncode == NOT_ASKED and why in said.stderr, said.stderr


def test_records_that_are_none():
    said = bench("http://127.0.0.1:1", "--replay", "-", stdin="nonsense\n")
    assert said.returncode == NOT_ASKED and "no record" in said.stderr
    one = {"record": "1-0", "time": "2025-01-01T00:00:00.000001Z", "model": "m", "outcome": "ok", "total_us": 1}
    for inputs in (None, [], {"hash": "x"}, [{"name": "x", "raw": "AA=="}], [{"name": "x", "data": [1], "cut": True}]):
        said = bench("http://127.0.0.1:1", "--replay", "-", stdin=json.dumps({**one, "inputs": inputs}))
        assert said.returncode == NOT_ASKED and "no record was answered and has its inputs in full" in said.stderr
