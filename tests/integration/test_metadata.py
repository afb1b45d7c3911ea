"""What an answer says of itself (section 5 of the design), and what the access log says of it."""
import json
import os
import re
import signal

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.http
from harness import GOOD_BODY, SAMPLES, Sluice, Wire, Worker, infer_body, post, wait_for
from tritonclient.grpc import service_pb2

ROWS = [s["input"] for s in SAMPLES]
INFER = "/v2/models/digits/infer"
TIMING = re.compile(r"parse;dur=([\d.]+), queue;dur=([\d.]+), compute;dur=([\d.]+), total;dur=([\d.]+)")
BATCH = re.compile(r"([1-9]\d*);reason=(full|preferred|idle|wait|deadline)")
OURS = re.compile(r"[0-9a-f]{32}")


def timing(text):
    """{stage: ms}; what is told of the parts is not more than the whole."""
    parse, queue, compute, total = map(float, TIMING.fullmatch(text).groups())
    assert total >= compute and total >= queue, text
    return {"parse": parse, "queue": queue, "compute": compute, "total": total}


def check_headers(fields, model="digits", rows=1):
    assert fields["sluice-model"] == f"{model};version=1"
    assert fields["sluice-source"] == "model" and fields["sluice-degradation"] == "0"
    assert int(BATCH.fullmatch(fields["sluice-batch"])[1]) >= rows
    assert timing(fields["server-timing"])["compute"] > 0
    assert not {"sluice-fallback", "sluice-experiment"} & set(fields)


class Grpc:
    """ModelInfer with what stands around it."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.call = self.channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def infer(self, rows, metadata=(), model="digits"):
        """(answer, {name: value} of the initial metadata)"""
        q = service_pb2.ModelInferRequest(model_name=model)
        q.inputs.add(name="input", datatype="FP32", shape=[len(rows), 64])
        q.raw_input_contents.append(np.array(rows, "<f4").tobytes())
        answer, call = self.call.with_call(q, timeout=30, metadata=metadata)
        return answer, dict(call.initial_metadata())


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_headers_and_parameters(gateway, http2):
    with httpx.Client(base_url=gateway.url, http1=not http2, http2=http2) as client:
        for rows in (1, 5):
            answer = client.post(INFER, content=infer_body(ROWS[:rows]))
            check_headers(answer.headers, rows=rows)
            assert OURS.fullmatch(answer.headers["x-request-id"])
            parameters = answer.json()["parameters"]
            for name in ("sluice-source", "sluice-batch"):
                assert parameters[name] == answer.headers[name]
            assert parameters["compute_us"] > 0 and parameters["queue_us"] >= 0
            took = timing(answer.headers["server-timing"])
            assert took["compute"] == parameters["compute_us"] / 1000
            assert took["queue"] == parameters["queue_us"] / 1000


def test_grpc_metadata_and_parameters(gateway):
    with Grpc(gateway.port) as client:
        answer, fields = client.infer(ROWS[:3], [("x-request-id", "by-grpc-1")])
        check_headers(fields, rows=3)
        assert fields["x-request-id"] == "by-grpc-1"
        assert answer.model_name == "digits" and answer.model_version == "1"
        assert answer.parameters["compute_us"].int64_param > 0
        assert answer.parameters["sluice-batch"].string_param == fields["sluice-batch"]


def test_binary_answers_say_it_too(gateway):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{gateway.port}")
    tensor = tritonclient.http.InferInput("input", [1, 64], "FP32")
    tensor.set_data_from_numpy(np.array(ROWS[:1], np.float32), binary_data=True)
    parameters = client.infer("digits", [tensor]).get_response()["parameters"]
    assert parameters["sluice-source"] == "model" and parameters["compute_us"] > 0
    client.close()


IDS = [("a", True), ("x" * 128, True), ("x" * 129, False), ("two words", False), ('"<&>~', True), ("caf\u00e9", False)]


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_request_ids(gateway, http2):
    """The client's own if it is 1 to 128 visible characters, else ours; on every answer, errors and small
    ones too."""
    with httpx.Client(base_url=gateway.url, http1=not http2, http2=http2) as client:
        for value, kept in IDS:
            for path, body in [(INFER, GOOD_BODY), (INFER, b"{"), ("/nowhere", None), ("/v2", None), ("/v2/models/digits", None)]:
                fields = {"x-request-id": value.encode("latin-1")}
                answer = client.get(path, headers=fields) if body is None else client.post(path, content=body, headers=fields)
                got = answer.headers["x-request-id"]
                assert (got == value) if kept else OURS.fullmatch(got), (path, value)
        seen = {client.get("/v2/health/live").headers["x-request-id"] for _ in range(50)}
        assert len(seen) == 50


def test_the_worker_tells_the_same(tmp_path):
    """Its total is not less than its compute, however soon the answer is there."""
    with Worker() as worker:
        for http2 in (False, True):
            with httpx.Client(base_url=f"http://127.0.0.1:{worker.port}", http1=not http2, http2=http2) as client:
                for _ in range(300):
                    check_headers(client.post(INFER, content=GOOD_BODY).headers)
                assert client.get("/v2", headers={"x-request-id": "w"}).headers["x-request-id"] == "w"
        with Grpc(worker.port) as client:
            for _ in range(300):
                check_headers(client.infer(ROWS[:1])[1])
        assert worker.stop() == 0


def test_parts_are_not_more_than_the_whole(gateway):
    with httpx.Client(base_url=gateway.url, http1=False, http2=True) as client, Grpc(gateway.port) as other:
        for _ in range(300):
            check_headers(client.post(INFER, content=GOOD_BODY).headers)
            check_headers(other.infer(ROWS[:1])[1])


def test_a_listener_that_hides_it(start):
    """expose = false: nothing but the id. Errors name no model either."""
    sluice = start(listen="expose = false")
    with httpx.Client(base_url=sluice.url) as client, Grpc(sluice.port) as other:
        answer = client.post(INFER, content=GOOD_BODY, headers={"x-request-id": "hidden-1"})
        assert answer.status_code == 200 and answer.headers["x-request-id"] == "hidden-1"
        message, metadata = other.infer(ROWS[:1])
        error = client.post(INFER, content=b"{")
        for fields in (answer.headers, error.headers, metadata, answer.json().get("parameters", {}), message.parameters):
            assert not [n for n in fields if n.startswith("sluice-") or n == "server-timing" or n.endswith("_us")]


def test_batch_reasons(start):
    """Preferred, full, waited: each is told, and counted."""
    rules = 'model "digits" { batch { policy = fixed max_rows = 8 preferred = {4} max_wait = "50ms" } }'
    sluice = start(models=rules)
    with httpx.Client(base_url=sluice.url, timeout=30) as client:

        def reason(rows):
            return client.post(INFER, content=infer_body(ROWS[:rows])).headers["sluice-batch"]

        assert reason(4) == "4;reason=preferred"
        assert reason(8) == "8;reason=full"
        assert reason(2) == "2;reason=wait"
    for name in ("preferred", "full", "wait"):
        assert sluice.metric("sluice_batches_total", model="digits", reason=name) == 1
    assert sluice.metric("sluice_batches_total", model="digits") == 3


# ---- the access log ------------------------------------------------------------------------------------

ALWAYS = {"time": str, "client": str, "id": str, "protocol": str, "method": str, "path": str, "status": int, "outcome": str}
ALWAYS |= {"in": int, "out": int, "parse_us": int, "total_us": int, "loop": int}
OF_A_MODEL = {"model": str, "version": str, "rows": int, "source": str, "batch": int, "reason": str}
OF_A_MODEL |= {"queue_us": int, "compute_us": int}


def logged(sluice, id_):
    return wait_for(lambda: [e for e in sluice.access_log() if e.get("id") == id_])


def check_line(line, fields):
    assert {k: type(v) for k, v in line.items()} == fields, line
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
    assert line["loop"] in (0, 1)


def test_access_log_lines(gateway):
    for http2, name in ((False, "http/1.1"), (True, "h2")):
        with httpx.Client(base_url=gateway.url, http1=not http2, http2=http2) as client:
            answer = client.post(INFER + "?token=sesame", content=GOOD_BODY, headers={"x-request-id": f"line-{name}"})
            (line,) = logged(gateway, f"line-{name}")
            check_line(line, ALWAYS | OF_A_MODEL)
            assert (line["client"], line["protocol"], line["method"], line["path"]) == ("127.0.0.1", name, "POST", INFER)
            assert (line["status"], line["outcome"], line["source"], line["rows"]) == (200, "ok", "model", 1)
            assert (line["in"], line["out"]) == (len(GOOD_BODY), len(answer.content))
            assert f"{line['batch']};reason={line['reason']}" == answer.headers["sluice-batch"]
            assert line["total_us"] / 1000 >= timing(answer.headers["server-timing"])["total"]
            client.get("/nowhere", headers={"x-request-id": f"small-{name}"})
            (line,) = logged(gateway, f"small-{name}")
            check_line(line, ALWAYS)
            assert (line["status"], line["outcome"], line["in"]) == (404, "not_found", 0)
    with Grpc(gateway.port) as client:
        client.infer(ROWS[:2], [("x-request-id", "line-grpc")])
        (line,) = logged(gateway, "line-grpc")
        check_line(line, ALWAYS | OF_A_MODEL)
        assert (line["protocol"], line["rows"], line["status"]) == ("grpc", 2, 200)
    assert "sesame" not in (gateway.config.parent / "access.log").read_text()


def test_a_client_that_left_is_logged(gateway):
    with Wire(gateway.port) as wire:
        wire.send(post(fields=b"X-Request-Id: left-early\r\n")[:-9])
        wait_for(lambda: gateway.metric("sluice_connections") >= 1)
    (line,) = logged(gateway, "left-early")
    check_line(line, ALWAYS | {"cut": bool})
    assert (line["status"], line["outcome"], line["cut"]) == (499, "client_gone", True)


def test_what_was_refused_is_logged(start):
    """No request came of it, and still somebody sent it: who, and what was wrong. What has a head has one line."""
    sluice = start(limits='max_body = "1KiB"')
    for octets in (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/3.7\r\n\r\n", post(b"x" * 2000, fields=b"X-Request-Id: large\r\n")):
        with Wire(sluice.port) as wire:
            wire.send(octets).read_until_closed()

    def failed():
        return [e for e in sluice.access_log() if e["status"] >= 400 and not e.get("path", "").endswith("/ready")]

    lines = wait_for(lambda: len(failed()) == 3 and failed())
    lines.sort(key=lambda e: e["status"])
    assert [(e["client"], e["outcome"]) for e in lines] == [("127.0.0.1", o) for o in ("bad_request", "too_large", "http_version")]
    assert lines[0]["why"] == "host: missing" and lines[1]["id"] == "large" and "why" not in lines[1]
    check_line(lines[2], {"time": str, "client": str, "status": int, "outcome": str, "why": str, "loop": int})
    sluice.settle()
    assert sluice.metric("sluice_refused_requests_total") == 2
    assert sluice.metric("sluice_requests_total", status="too_large") == 1


def test_reopening_the_log(start):
    """SIGUSR1 after a rename: the old file keeps its lines, the new one gets the rest, none is lost; where no
    file can be opened, the old one goes on."""
    sluice = start()
    log = sluice.config.parent / "access.log"
    old = log.with_name("access.log.1")
    with httpx.Client(base_url=sluice.url) as client:

        def ask(n):
            assert client.post(INFER, content=GOOD_BODY, headers={"x-request-id": f"turn-{n}"}).status_code == 200

        def ids(path):
            found = [json.loads(line)["id"] for line in path.read_text().splitlines()]
            return [i for i in found if i.startswith("turn-")]

        ask(0)
        log.rename(old)
        ask(1)
        wait_for(lambda: ids(old) == ["turn-0", "turn-1"])
        sluice.kill(signal.SIGUSR1)
        wait_for(log.exists)
        ask(2)
        wait_for(lambda: ids(log) == ["turn-2"])
        assert ids(old) == ["turn-0", "turn-1"]
        older = log.with_name("access.log.2")
        log.rename(older)
        log.mkdir()
        sluice.kill(signal.SIGUSR1)
        for n in range(3, 20):
            ask(n)
        wait_for(lambda: ids(older) == [f"turn-{n}" for n in range(2, 20)])
    assert sluice.gateway_pid() and os.path.isdir(log) and not sluice.find("gateway_exited")


def test_failed_requests_are_always_logged(start):
    """sample = 0%: of those that were answered no line, of those that failed each."""
    sluice = start()
    config = sluice.config.read_text()
    assert sluice.stop() == 0
    (sluice.config.parent / "sampled").mkdir()
    path = sluice.config.parent / "sampled" / "gateway.conf"
    path.write_text(config.replace("log { ", 'log { sample = "0%" ').replace("access.log", "sampled/access.log"))
    with Sluice(path) as sampled, httpx.Client(base_url=sampled.url) as client:
        for n in range(20):
            client.post(INFER, content=GOOD_BODY if n % 2 else b"{", headers={"x-request-id": f"s-{n}"})
        want = [f"s-{n}" for n in range(0, 20, 2)]
        wait_for(lambda: [e["id"] for e in sampled.access_log() if e["id"].startswith("s-")] == want)
        assert sampled.stop() == 0
