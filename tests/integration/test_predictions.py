"""The prediction log: what is recorded, where it lies, and what becomes of it when disks are full, processes die and
configurations change."""
import json
import os
import resource
import signal
import urllib.request

import grpc
import pytest
from harness import GOOD_BODY, SAMPLES, Sluice, configuration, gone, infer_body, wait_for
from load import grpc_message
from prediction_files import assert_ascending, frame, records
from test_levels import pin
from test_reload import reload
from tritonclient.grpc import service_pb2, service_pb2_grpc

FAST = 'flush = "10ms" instance = "gw"'


def started(tmp_path, log=FAST, models="", loops=2, place="p"):
    section = f'predictions {{ file = "{tmp_path}/{place}" {log} }}' if log is not None else ""
    return Sluice(configuration(tmp_path, models=models, loops=loops, top=section))


def ask(sluice, name, body=GOOD_BODY, model="digits", timeout=20, **headers):
    request = urllib.request.Request(f"{sluice.url}/v2/models/{model}/infer", body, {"x-request-id": name, "content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def wait_records(directory, count, timeout=20.0):
    return wait_for(lambda: (lambda r: r if len(r) >= count else None)(records(directory)), timeout, f"{count} records")


def ids(found):
    return sorted(r["id"] for r in found)


def test_a_record_of_each(tmp_path):
    """Whatever its outcome; hashes are equal where values are; and the ids ascend."""
    models = 'model "digits" { predictions { outputs = full } } model "digits-small" { predictions { sample = 0% } }'
    with started(tmp_path, models=models) as sluice:
        sluice.wait_model("digits-small")
        for i in range(6):
            status, answer = ask(sluice, f"r{i}", infer_body([SAMPLES[i % 2]["input"]]))
            assert status == 200
        assert ask(sluice, "small", model="digits-small")[0] == 200
        assert ask(sluice, "late", infer_body([SAMPLES[0]["input"]], parameters={"timeout": 60}))[0] in (200, 504)
        assert ask(sluice, "bad", b"{")[0] == 400
        assert ask(sluice, "unknown", model="nobody")[0] == 404
        found = wait_records(tmp_path / "p", 7)
        assert ids(found) == ["late", "r0", "r1", "r2", "r3", "r4", "r5"]  # what came to no model is no prediction
        assert_ascending(found)
        by_id = {r["id"]: r for r in found}
        one = by_id["r5"]
        assert one["instance"] == "gw" and one["model"] == "digits" and one["outcome"] == "ok" and one["source"] == "model"
        assert one["rows"] == 1 and one["level"] == 0 and one["version"] == "1" and one["batch"] >= 1 and one["total_us"] > 0
        assert one["inputs"] == by_id["r1"]["inputs"] != by_id["r0"]["inputs"] == by_id["r2"]["inputs"]
        assert one["inputs"]["bytes"] == 256 and len(one["inputs"]["hash"]) == 32
        assert one["outputs"] == [{k: o[k] for k in ("name", "datatype", "shape", "data")} for o in answer["outputs"]]
        assert by_id["late"]["outcome"] in ("ok", "deadline")
        wait_for(lambda: sluice.metric("sluice_predictions_written_total") == 7, what="written")
        assert sluice.metric("sluice_predictions_records_total") == 7
        assert sluice.metric("sluice_predictions_dropped_total") == 0
    assert len(list((tmp_path / "p").glob("*.part"))) == 0  # it has ended: closed and renamed
    assert records(tmp_path / "p", closed=True) == found


def test_values_that_are_not_to_be_seen(tmp_path):
    models = 'model "digits" { predictions { inputs = full redact = {"input:input", "tenant"} } }'
    section = f'tenant = "header:x-tenant" predictions {{ file = "{tmp_path}/p" {FAST} outputs = none }}'
    with Sluice(configuration(tmp_path, models=models, top=section)) as sluice:
        assert ask(sluice, 'r"\\', **{"x-tenant": "acme"})[0] == 200
        (one,) = wait_records(tmp_path / "p", 1)
        assert one["id"] == 'r"\\' and "tenant" not in one and "outputs" not in one
        assert one["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [1, 64], "redacted": True, "bytes": 256}]


def test_headers_and_parameters(tmp_path):
    """Those that are wanted, over HTTP and gRPC; what the gateway itself goes by is not a worker's concern."""
    models = 'model "digits-small" { predictions { headers = {"x-other"} redact = {"parameter:key", "header:x-other"} } }'
    said = FAST + ' inputs = full parameters = on headers = {"x-country", "x-empty", "x-secret"} redact = {"header:x-secret"}'
    with started(tmp_path, said, models) as sluice:
        sluice.wait_model("digits-small")
        own = {"key": "k", "n": -3, "on": True, "f": 0.5, "priority": 3, "timeout": 20000000}
        body = json.loads(infer_body([SAMPLES[0]["input"]], parameters=own))
        body["inputs"][0]["parameters"] = {"unit": "mm"}
        body = json.dumps(body).encode()
        fields = {"x-country": "de", "x-empty": "", "x-secret": "s", "x-other": "o"}
        assert ask(sluice, "r1", body, **fields)[0] == 200
        assert ask(sluice, "r2", body, model="digits-small", **fields)[0] == 200
        assert ask(sluice, "r3")[0] == 200
        request = service_pb2.ModelInferRequest.FromString(grpc_message("digits", "input", SAMPLES[0]["input"]))
        request.parameters["key"].string_param = "g"
        request.inputs[0].parameters["unit"].int64_param = 7
        with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            stub.ModelInfer(request, timeout=20, metadata=(("x-request-id", "r4"), ("x-country", "fr")))
        # As many as a request may have, and as long: the answer is as ever, and the record says how many had no room.
        many = {"x" * (k + 1): "y" * 1000 for k in range(64)}
        assert ask(sluice, "r5", infer_body([SAMPLES[0]["input"]], parameters=many))[0] == 200
        r = {one["id"]: one for one in wait_records(tmp_path / "p", 5)}
        assert r["r1"]["headers"] == {"x-country": "de", "x-empty": ""}
        assert r["r1"]["parameters"] == {"key": "k", "n": -3, "on": True, "f": 0.5}
        assert r["r1"]["inputs"][0]["parameters"] == {"unit": "mm"}
        assert "headers" not in r["r2"] and r["r2"]["parameters"] == {"n": -3, "on": True, "f": 0.5}
        assert not {"headers", "parameters", "cut"} & set(r["r3"]) and "parameters" not in r["r3"]["inputs"][0]
        assert r["r4"]["headers"] == {"x-country": "fr"} and r["r4"]["parameters"] == {"key": "g"}
        assert r["r4"]["inputs"][0]["parameters"] == {"unit": 7}
        kept = r["r5"]["parameters"]
        assert 0 < len(kept) < 64 and r["r5"]["cut"] == 64 - len(kept) and all(kept[key] == many[key] for key in kept)


def test_at_level_1_inputs_are_left_out(tmp_path):
    with started(tmp_path, FAST + " inputs = full parameters = on") as sluice:
        pin(sluice, "digits", n=1)
        wait_for(lambda: sluice.metric("sluice_degradation_level", model="digits") == 1, what="level 1")
        assert ask(sluice, "r1", infer_body([SAMPLES[0]["input"]], parameters={"key": "k"}))[0] == 200
        (one,) = wait_records(tmp_path / "p", 1)
        assert one["level"] == 1 and "inputs" not in one and "parameters" not in one and "hash" in one["outputs"]


def test_reloads_turn_it_on_move_it_and_turn_it_off(tmp_path):
    with started(tmp_path, None) as sluice:
        base = sluice.config.read_text()

        def switch(text):
            sluice.config.write_text(base + text)
            reload(sluice)

        assert ask(sluice, "before")[0] == 200
        switch(f'predictions {{ file = "{tmp_path}/p" {FAST} }}')
        assert ask(sluice, "first")[0] == 200
        assert ids(wait_records(tmp_path / "p", 1)) == ["first"]
        switch(f'predictions {{ file = "{tmp_path}/q" {FAST} }}')
        assert ask(sluice, "second")[0] == 200
        assert ids(wait_records(tmp_path / "q", 1)) == ["second"]
        assert ids(records(tmp_path / "p", closed=True)) == ["first"]
        switch("")
        assert ask(sluice, "after")[0] == 200
        wait_for(lambda: ids(records(tmp_path / "q", closed=True)) == ["second"], what="closed")
        switch(f'predictions {{ file = "{tmp_path}/p" {FAST} }}')
        assert ask(sluice, "again")[0] == 200
        found = wait_records(tmp_path / "p", 2)
        assert ids(found) == ["again", "first"]
        # What cannot be had is refused, and nothing changes.
        (tmp_path / "file").write_text("")
        sluice.config.write_text(base + f'predictions {{ file = "{tmp_path}/file" }}')
        sluice.kill(signal.SIGHUP)
        assert "Not a directory" in sluice.wait_event("reload_refused")["why"]
        assert ask(sluice, "still")[0] == 200
        assert ids(wait_records(tmp_path / "p", 3)) == ["again", "first", "still"]
        assert_ascending(records(tmp_path / "p"))


def test_a_gateway_that_is_killed(tmp_path):
    """What was written is whole, the next process closes it, and goes on."""
    with started(tmp_path) as sluice:
        for i in range(20):
            assert ask(sluice, f"a{i}")[0] == 200
        wait_records(tmp_path / "p", 20)
        pid = sluice.gateway_pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: gone(pid), what="gone")
        sluice.wait_event("gateway_started", count=2)
        sluice.wait_model("digits")
        # Closed before the first record comes, by whoever has the directory now.
        wait_for(lambda: len(records(tmp_path / "p", closed=True)) == 20, what="taken over")
        assert ask(sluice, "b")[0] == 200
        found = wait_records(tmp_path / "p", 21)
        assert ids(found) == sorted([f"a{i}" for i in range(20)] + ["b"])
        assert_ascending(found)


def limit(sluice, size):
    resource.prlimit(sluice.gateway_pid(), resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_disk_that_is_full(tmp_path):
    """Requests are answered; it is told once; and when there is room all that was kept is written, once."""
    with started(tmp_path) as sluice:
        assert ask(sluice, "first")[0] == 200
        wait_records(tmp_path / "p", 1)
        limit(sluice, 1)
        for i in range(30):
            assert ask(sluice, f"r{i}")[0] == 200
        sluice.wait_event("predictions_not_written")
        assert len(records(tmp_path / "p")) == 1
        limit(sluice, resource.RLIM_INFINITY)
        sluice.wait_event("predictions_written")
        found = wait_records(tmp_path / "p", 31)
        assert ids(found) == sorted(["first"] + [f"r{i}" for i in range(30)])
        assert_ascending(found)
        assert sluice.metric("sluice_predictions_file_errors_total") > 0
        assert len(sluice.find("predictions_not_written")) == 1


def test_days_are_archived(tmp_path):
    """Closed files of days that are over, tried again when the place is not there, or is full; old days go. Requests go on."""
    place, days = tmp_path / "p", tmp_path / "mnt" / "days"
    place.mkdir()

    def put(name, *ids):
        text = "".join(json.dumps({"record": f"{i}-0", "id": i}) + "\n" for i in ids)
        (place / name).write_bytes(frame(text.encode()))

    put("20250101T100000.000000Z-a.jsonl.zst", "1", "2")
    put("20250101T110000.000000Z-b.jsonl.zst", "3")
    put("20250102T000000.000000Z-a.jsonl.zst", "4")
    with started(tmp_path, FAST + f' archive = "{days}"') as sluice:
        assert "No such file or directory" in sluice.wait_event("predictions_not_archived")["why"]
        limit(sluice, 8)
        days.mkdir(parents=True)
        errors = sluice.metric("sluice_predictions_archive_errors_total")
        wait_for(lambda: sluice.metric("sluice_predictions_archive_errors_total") > errors + 1, 30, "tried again")
        assert len(list(place.glob("2025*"))) == 3 and not list(days.glob("2*"))
        limit(sluice, resource.RLIM_INFINITY)
        assert sluice.wait_event("predictions_archived")["files"] == 3
        assert len(sluice.find("predictions_not_archived")) == 1
        assert [r["id"] for r in records(days)] == ["1", "2", "3", "4"] and not list(place.glob("2025*"))
        assert sluice.metric("sluice_predictions_archived_total") == 3
        assert ask(sluice, "r")[0] == 200
        assert ids(wait_records(place, 1)) == ["r"]
        # A process that was killed has left the beginning of a file; the next one goes on. Then the days are old.
        put("20250102T010000.000000Z-a.jsonl.zst", "5")
        (days / "20250102.jsonl.zst.new").write_bytes(b"the beginning of")
        os.kill(sluice.gateway_pid(), signal.SIGKILL)
        sluice.wait_event("predictions_archived", count=2)
        assert [r["id"] for r in records(days)] == ["1", "2", "3", "4", "5"] and not list(place.glob("2025*"))
        sluice.config.write_text(sluice.config.read_text().replace("archive =", "archive_keep = 30d archive ="))
        reload(sluice)
        assert sluice.wait_event("predictions_archived", count=3)["days_removed"] == 2
        assert not list(days.glob("2*")) and sluice.metric("sluice_predictions_archive_days_removed_total") == 2
        assert ask(sluice, "s")[0] == 200
        assert ids(wait_records(place, 2)) == ["r", "s"]


def test_on_overflow_the_oldest_go_or_requests_are_refused(tmp_path):
    rows = infer_body([SAMPLES[i % 2]["input"] for i in range(64)])
    models = 'model "digits-small" { predictions { required = true } }'
    log = FAST + ' ring = 4MiB inputs = full max_bytes = 1MiB outputs = none'
    with started(tmp_path, log, models, loops=1) as sluice:
        sluice.wait_model("digits-small")
        assert ask(sluice, "first", model="digits-small")[0] == 200
        wait_records(tmp_path / "p", 1)
        limit(sluice, 1)
        dropped = lambda: sluice.metric("sluice_predictions_dropped_total")
        sent = 0
        while dropped() == 0:
            assert sent < 2000
            for _ in range(20):
                assert ask(sluice, f"r{sent:05}", rows)[0] == 200
                sent += 1
        # Those that need not be kept make room for one that must: so long as there are some.
        refused = None
        for i in range(1000):
            status, answer = ask(sluice, f"s{i:05}", rows, model="digits-small")
            if status != 200:
                refused = answer["error"]
                break
        assert status == 503 and "predictions: no room" in refused, (status, refused)
        assert ask(sluice, "others", rows)[0] == 200
        assert sluice.metric("sluice_predictions_refused_total") >= 1
        made = sluice.metric("sluice_predictions_records_total")
        limit(sluice, resource.RLIM_INFINITY)
        wait_for(lambda: sluice.metric("sluice_predictions_written_total") + dropped() == made, what="all written")
        found = records(tmp_path / "p")
        assert len(found) == made - dropped() and len(set(ids(found))) == len(found)
        assert_ascending(found)
        # Every one that was required and answered is there; of the others some of the oldest are not.
        assert [r["id"] for r in found if r["model"] == "digits-small"] == ["first"] + [f"s{k:05}" for k in range(i)]
        wait_for(lambda: ask(sluice, "again", rows, model="digits-small")[0] == 200, what="room again")


def test_two_gateways_of_one_name(tmp_path):
    """They would take each other's files for left behind: the second one says so, and keeps its records until the first has gone."""
    with started(tmp_path) as first:
        assert ask(first, "one")[0] == 200
        wait_records(tmp_path / "p", 1)
        (tmp_path / "b").mkdir()
        second = Sluice(configuration(tmp_path / "b", top=f'predictions {{ file = "{tmp_path}/p" {FAST} }}'))
        with second:
            assert ask(second, "two")[0] == 200
            assert "another gateway" in second.wait_event("predictions_not_written")["why"]
            assert first.stop() == 0
            assert ids(wait_records(tmp_path / "p", 2)) == ["one", "two"]


@pytest.mark.parametrize(
    "section, why",
    [
        ("predictions { }", "expected file, or redis = true"),
        ("predictions { redis = true }", "redis: needs a store section"),
        ('predictions { file = "p" instance = "a/b" }', "instance: expected"),
        ('predictions { file = "p" redact = {"input:"} }', "redact: expected"),
        ('store { redis = "redis://h" } predictions { redis = true archive = "d" }', "archive: needs file"),
        ('predictions { file = "p" archive_keep = 30d }', "archive_keep: needs archive"),
        ('predictions { file = "p" archive = "d" keep = 47h }', "keep: files would be gone"),
        ('predictions { file = "p" headers = {"x-A"} }', "headers: expected names"),
        ('predictions { file = "p" headers = {"cookie"} }', "headers: cookie is a secret"),
        ('predictions { file = "p" } model "digits" { predictions { headers = {"a", "a"} } }', "headers: a came twice"),
        ('predictions { file = "p" inputs = some }', "inputs: expected one of none|hash|full"),
        ('predictions { file = "p" } model "digits" { predictions { redact = {"x"} } }', "redact: expected"),
        ('predictions { file = "p" } model "digits" { predictions { file = "q" } }', "file"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, section, why):
    import subprocess

    from harness import SLUICE

    config = configuration(tmp_path, top=section)
    ended = subprocess.run([str(SLUICE), "-t", "-c", str(config)], capture_output=True, text=True, timeout=20)
    assert ended.returncode != 0 and why in ended.stderr, ended.stderr
