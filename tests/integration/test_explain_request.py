"""What the gateway says afterwards of one request: GET /v1/requests/ID of the admin listener, and `sluicectl explain ID`."""
import contextlib
import json
import os
import signal
import subprocess
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest
from harness import BUILD, SAMPLES, Wire, infer_body, post, wait_for
from tritonclient.grpc import service_pb2

TOKEN = {"authorization": "Bearer open sesame, please"}
INFER = "/v2/models/digits/infer"
ROW = SAMPLES[0]["input"]


def page(sluice, id_, headers=TOKEN, method="GET"):
    url = f"http://127.0.0.1:{sluice.admin_port}/v1/requests/{urllib.parse.quote(id_)}"
    return httpx.request(method, url, headers=headers, timeout=30)


def remembered(sluice, id_, home=True):
    """What is said of it. The client may have its answer before the loop has told of it, and all parts may be home later still."""

    def told():
        answer = page(sluice, id_)
        assert answer.status_code in (200, 404), answer.text
        said = answer.json() if answer.status_code == 200 else None
        away = said and home and any(not p["home"] for step in said["steps"] for p in step["parts"])
        return None if away else said

    return wait_for(told, 15, f"what became of {id_}")


def ask(sluice, id_, rows=(ROW,), model="digits", **more):
    headers = {"x-request-id": id_} if id_ else {}
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", content=infer_body(rows, **more), headers=headers, timeout=60)


def explain(sluice, *words):
    """sluicectl's exit status and what it printed."""
    words = [BUILD / "sluicectl", "--address", f"127.0.0.1:{sluice.admin_port}", "explain", *words]
    done = subprocess.run(words, env={**os.environ, "SLUICE_TOKEN": "open sesame, please"}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def only_part(said):
    (step,) = said["steps"]
    (part,) = step["parts"]
    return part


@contextlib.contextmanager
def sent(sluice, id_, **more):
    """It is on its way to the gateway, on a connection of its own."""
    with Wire(sluice.port, 60) as wire:
        wire.send(post(fields=b"x-request-id: %s\r\n" % id_.encode(), **more))
        yield wire


# ---- answered ----------------------------------------------------------------------------------------


def test_answered(gateway):
    assert ask(gateway, "one-request", timeout=None).status_code == 200
    said = remembered(gateway, "one-request")
    assert said["id"] == "one-request" and said["client"] == "127.0.0.1" and said["protocol"] == "http/1.1" and said["loop"] in (0, 1)
    assert (said["model"], said["rows"], said["status"], said["outcome"], said["why"], said["whole"]) == ("digits", 1, 200, "ok", None, True)
    assert said["deadline_us"] == 30000000 and 0 < said["left_us"] <= 30000000
    assert said["arrived"] <= said["ended"]
    stages = said["stages"]
    assert stages["compute_us"] > 0 and stages["total_us"] >= stages["queue_us"] + stages["compute_us"]
    standing = {"ready_replicas": 1, "waiting_rows": 0, "running_rows": 0, "charged_rows": 0, "queue_limit_rows": 4096}
    assert said["admitted"] == standing
    (step,) = said["steps"]
    assert (step["model"], step["version"], step["tickets"]) == ("digits", "1", 1)
    part = only_part(said)
    assert (part["rows"], part["home"], part["outcome"], part["replica"]) == (1, True, "ok", "w/0")
    assert (part["sent"], part["losses"], part["deaths"], part["refusals"]) == (1, 0, 0, 0)
    assert part["batch_rows"] == 1 and part["batch_reason"] in ("idle", "full")
    assert (part["queue_us"], part["compute_us"]) == (stages["queue_us"], stages["compute_us"])
    assert 0 < said["left_us"] <= part["left_us"] <= 30000000


def test_by_grpc(gateway):
    request = service_pb2.ModelInferRequest(model_name="digits")
    request.inputs.add(name="input", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend(ROW)
    with grpc.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        call(request.SerializeToString(), timeout=20, metadata=(("x-request-id", "by-grpc"),))
    said = remembered(gateway, "by-grpc")
    assert (said["protocol"], said["outcome"], said["model"]) == ("grpc", "ok", "digits")
    assert 10000000 < said["deadline_us"] <= 21000000  # its client rounds what it has left


@pytest.mark.parametrize("id_", ["a/b?c%d", '"<&>{}', "x" * 128, "%2F", "#1", "..", "a//b/"])
def test_ids_as_clients_choose_them(gateway, id_):
    assert ask(gateway, id_).status_code == 200
    if id_ == "..":  # no path has such a segment
        assert page(gateway, id_).status_code == 404
        return
    assert remembered(gateway, id_)["id"] == id_
    status, text = explain(gateway, id_)
    assert status == 0 and text.startswith(f"{id_}: 200 ok\n"), text


def test_an_id_that_the_gateway_gave(gateway):
    id_ = ask(gateway, None).headers["x-request-id"]
    assert remembered(gateway, id_)["outcome"] == "ok"


def test_sluicectl_says_the_same(gateway):
    assert ask(gateway, "said-twice").status_code == 200
    said = remembered(gateway, "said-twice")
    status, text = explain(gateway, "said-twice", "--json")
    assert status == 0 and json.loads(text) == said
    status, text = explain(gateway, "said-twice")
    lines = text.splitlines()
    assert status == 0 and lines[0] == "said-twice: 200 ok"
    assert lines[1] == f"arrived {said['arrived']} from 127.0.0.1 by http/1.1, loop {said['loop']}: model digits, 1 rows"
    assert lines[-2].split()[:4] == ["PART", "ROWS", "OUTCOME", "REPLICA"] and lines[-1].split()[:5] == ["1", "1", "ok", "w/0", "1"]


def test_with_others_in_a_batch(start):
    """Four go as soon as they are four; a fifth waits in vain for company."""
    sluice = start(models='model "digits" { batch { policy = fixed max_rows = 4 max_wait = "2s" } }')
    ids = [f"of-four-{i}" for i in range(4)]
    sluice.wait_workers()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda i: ask(sluice, i), ids))
    assert {a.status_code for a in answers} == {200}
    parts = [only_part(remembered(sluice, i)) for i in ids]
    assert {(p["batch_rows"], p["batch_reason"]) for p in parts} == {(4, "full")}
    assert ask(sluice, "alone").status_code == 200
    said = remembered(sluice, "alone")
    part = only_part(said)
    assert (part["batch_rows"], part["batch_reason"]) == (1, "wait")
    assert part["queue_us"] >= 2000000 and said["stages"]["queue_us"] == part["queue_us"]
    assert part["left_us"] <= said["deadline_us"] - part["queue_us"]


def test_in_parts(gateway):
    assert ask(gateway, "nine-parts", [ROW] * 540).status_code == 200
    said = remembered(gateway, "nine-parts")
    (step,) = said["steps"]
    parts = step["parts"]
    assert (said["rows"], step["tickets"], len(parts)) == (540, 9, 9)
    assert [p["rows"] for p in parts] == [64] * 8 + [28]
    assert {(p["outcome"], p["replica"], p["sent"]) for p in parts} == {("ok", "w/0", 1)}
    assert [p["batch_rows"] for p in parts] == [64] * 8 + [28]
    assert said["stages"]["queue_us"] == max(p["queue_us"] for p in parts)
    assert said["stages"]["compute_us"] == max(p["compute_us"] for p in parts)
    assert ask(gateway, "many-parts", [ROW] * 1100).status_code == 200
    (step,) = remembered(gateway, "many-parts")["steps"]
    assert (step["tickets"], len(step["parts"])) == (18, 16)
    assert explain(gateway, "many-parts")[1].endswith("\nand 2 parts more\n")


# ---- not answered ------------------------------------------------------------------------------------


def test_refused_before_its_model(gateway):
    assert ask(gateway, "no-such-model", model="nothing").status_code == 404
    said = remembered(gateway, "no-such-model")
    assert (said["status"], said["outcome"], said["why"], said["model"]) == (404, "not_found", "model nothing is not known", "nothing")
    assert said["admitted"] is None and said["steps"] == [] and "deadline_us" not in said
    httpx.post(gateway.url + INFER, content=b"{", headers={"x-request-id": "no-json"})
    said = remembered(gateway, "no-json")
    assert (said["status"], said["outcome"]) == (400, "bad_request") and said["why"]
    httpx.post(gateway.url + "/v2/nothing", headers={"x-request-id": "no-path"})
    assert remembered(gateway, "no-path")["status"] == 404
    status, text = explain(gateway, "no-such-model")
    assert status == 0 and "404 not_found: model nothing is not known\n" in text and "refused before its model was looked at" in text


def test_what_asks_for_no_inference_is_not_remembered(gateway):
    assert httpx.get(gateway.url + "/v2/health/ready", headers={"x-request-id": "a-probe"}).status_code == 200
    assert ask(gateway, "behind-the-probe").status_code == 200
    remembered(gateway, "behind-the-probe")
    assert page(gateway, "a-probe").status_code == 404


def test_the_queue_is_full(start):
    sluice = start(doors=True, models='model "digits" { queue { rows = 2 } }')
    sluice.door("hold digits")
    with sent(sluice, "first"), sent(sluice, "second"):
        wait_for(lambda: sluice.metric("sluice_in_flight") == 2)
        assert ask(sluice, "third").status_code == 503
        said = remembered(sluice, "third")
        assert (said["outcome"], said["why"]) == ("unavailable", "model digits: the queue is full")
        assert (said["admitted"]["charged_rows"], said["admitted"]["queue_limit_rows"], said["steps"]) == (2, 2, [])
        assert page(sluice, "first").status_code == 404  # it has not ended
        sluice.door("release digits")
    assert remembered(sluice, "first")


def test_its_deadline_passed(start):
    """At first its ticket is out; what it says when it comes home late is added."""
    sluice = start(doors=True)
    sluice.door("hold digits")
    sluice.door("drop-cancels w on")
    assert ask(sluice, "late", parameters={"timeout": 1000000}).status_code == 504
    said = remembered(sluice, "late", home=False)
    assert (said["outcome"], said["deadline_us"], said["left_us"]) == ("deadline", 1000000, 0)
    assert said["why"] == "the deadline passed before the model answered" and said["stages"]["total_us"] >= 1000000
    assert only_part(said) == {"rows": 1, "home": False}
    assert "not home" in explain(sluice, "late")[1]
    sluice.door("release digits")
    part = only_part(remembered(sluice, "late"))
    assert (part["outcome"], part["sent"], part["replica"]) == ("ok", 1, "w/0") and 0 < part["left_us"] <= 1000000
    sluice.door("drop-cancels w off")
    sluice.door("hold digits")
    assert ask(sluice, "called", parameters={"timeout": 1000000}).status_code == 504
    part = only_part(remembered(sluice, "called"))  # by its origin, or its home had looked at the clock before
    assert part["outcome"] in ("called_home", "deadline") and part["sent"] == 1 and "batch_rows" not in part
    sluice.door("release digits")


def test_its_client_left(start):
    sluice = start(doors=True)
    sluice.door("hold digits")
    with sent(sluice, "gone"):
        wait_for(lambda: sluice.metric("sluice_running_rows") == 1)
    said = remembered(sluice, "gone")
    assert (said["status"], said["outcome"], said["whole"]) == (499, "client_gone", False)
    assert only_part(said)["outcome"] == "called_home"
    sluice.door("release digits")


def test_its_worker_died(start):
    sluice = start(doors=True)
    sluice.wait_workers()
    sluice.door("hold digits")
    with sent(sluice, "survivor") as wire:
        wait_for(lambda: sluice.metric("sluice_running_rows") == 1)
        os.kill(sluice.worker_pid(), signal.SIGKILL)
        sluice.wait_event("worker_exited")
        sluice.door("release digits")
        assert wire.read_answers(1, 30)[0][0] == 200
    part = only_part(remembered(sluice, "survivor"))
    assert (part["outcome"], part["sent"], part["losses"], part["deaths"]) == ("ok", 2, 1, 1)
    line = explain(sluice, "survivor")[1].splitlines()[-1].split()
    assert line[2:7] == ["ok", "w/0", "2", "1", "0"]


def test_which_replica(start):
    """Two take turns; what is said is what each of them computed."""
    sluice = start(replicas=2, models='model "digits" { batch { max_rows = 1 } }')
    wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2, 30, "two replicas")
    with ThreadPoolExecutor(8) as pool:
        assert {a.status_code for a in pool.map(lambda i: ask(sluice, f"r{i}"), range(40))} == {200}
    assert {only_part(remembered(sluice, f"r{i}"))["replica"] for i in range(40)} == {"w/0", "w/1"}


# ---- what is remembered ------------------------------------------------------------------------------


def test_the_newest_of_an_id(gateway):
    """Whichever loop had it."""
    for model in ("digits", "digits-small") * 3:
        assert ask(gateway, "again", model=model).status_code == 200
        wait_for(lambda m=model: remembered(gateway, "again")["model"] == m)


def test_the_last_ones(tmp_path, start):
    sluice = start(loops=1, log=f'{tmp_path}/access.log" explain = "3')
    for i in range(5):
        assert ask(sluice, f"id-{i}").status_code == 200
    remembered(sluice, "id-4")
    assert [page(sluice, f"id-{i}").status_code for i in range(5)] == [404, 404, 200, 200, 200]


def test_none(tmp_path, start):
    sluice = start(log=f'{tmp_path}/access.log" explain = "0')
    assert ask(sluice, "a").status_code == 200
    answer = page(sluice, "a")
    assert answer.status_code == 404 and answer.json() == {"error": "id: no request is remembered: log.explain is 0"}


def test_without_an_access_log(start):
    sluice = start(log="off")
    assert ask(sluice, "a").status_code == 200
    assert remembered(sluice, "a")["client"] == "127.0.0.1"


def test_a_loop_that_hangs(start):
    """It may be the one that knows: nobody says that nobody does."""
    sluice = start(doors=True, loops=2, top='watchdog = "60s"')
    loops = {}
    while len(loops) < 2:
        id_ = f"id-{len(loops)}-{os.urandom(4).hex()}"
        assert ask(sluice, id_).status_code == 200
        loops[remembered(sluice, id_)["loop"]] = id_
    sluice.door("wedge 1 8000")
    assert page(sluice, loops[0]).status_code == 200
    answer = page(sluice, loops[1])
    assert answer.status_code == 503 and answer.json()["error"] == "id: 1 of 2 loops did not answer in time, and no other remembers it"
    wait_for(lambda: page(sluice, loops[1]).status_code == 200)


# ---- who may -----------------------------------------------------------------------------------------


def test_unknown(gateway):
    answer = page(gateway, "never-seen")
    assert answer.status_code == 404
    assert answer.json() == {"error": "id: nobody remembers it: of each loop's ended requests the last 2048 are (log.explain)"}
    status, text = explain(gateway, "never-seen")
    assert status == 1 and "refused (404): id: nobody remembers it" in text


def test_rights(gateway):
    assert ask(gateway, "secret").status_code == 200
    remembered(gateway, "secret")
    for headers in ({}, {"authorization": "Bearer open sesame, pleasE"}):
        answer = page(gateway, "secret", headers)
        assert answer.status_code == 401 and "secret" not in answer.text
        assert page(gateway, "never-seen", headers).status_code == 401
    assert page(gateway, "secret", {**TOKEN, "host": "example.org"}).status_code == 403
    answer = page(gateway, "secret", method="POST")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"
    assert page(gateway, "secret", method="HEAD").status_code == 200


def test_ids_that_are_none(gateway):
    for id_ in ("x" * 129, "a b", "ä"):
        answer = page(gateway, id_)
        assert answer.status_code == 400 and answer.json() == {"error": "id: expected 1 to 128 visible characters of ASCII"}
    for path in ("/v1/requests/", "/v1/requests", "/v1/requestsx"):
        answer = httpx.get(f"http://127.0.0.1:{gateway.admin_port}{path}", headers=TOKEN)
        assert answer.status_code == 404 and "/v1/requests/" in answer.json()["error"]
