"""Requests of more rows than a batch takes: they go in parts, and are answered, logged and counted as one."""
import json
import os
import signal
import socket
import struct
import threading

import grpc
import httpx
import numpy
import onnx_file
import pytest
from harness import SAMPLES, SANITIZED, wait_for
from raw_worker import HEAD, RawWorker, answer_well, speak_h2
from triton_double import Triton
from tritonclient.grpc import service_pb2

ROWS = 540  # of digits, which takes 64 at a time
DIGITS = numpy.resize(numpy.array([s["input"] for s in SAMPLES], numpy.float32), (ROWS, 64))


def binary_request(rows, name="input", datatype="FP32"):
    """As the binary tensor extension has it, with a binary answer: (content, fields)."""
    data = b"".join(rows) if datatype == "BYTES" else numpy.ascontiguousarray(rows).tobytes()
    shape = [len(rows), 1] if datatype == "BYTES" else list(rows.shape)
    tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


def binary_answer(answer):
    """{output: (shape, bytes)}"""
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    at, outputs = length, {}
    for o in json.loads(answer.content[:length])["outputs"]:
        size = o["parameters"]["binary_data_size"]
        outputs[o["name"]] = (o["shape"], answer.content[at : at + size])
        at += size
    assert at == len(answer.content)
    return outputs


def ask_binary(sluice, rows, model="digits", timeout=60, **more):
    content, fields = binary_request(rows, **more)
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", content=content, headers=fields, timeout=timeout)


def ask_json(sluice, model, rows, name="x", timeout_us=None, timeout=60):
    tensor = {"name": name, "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": [v for r in rows for v in r]}
    parameters = {"parameters": {"timeout": timeout_us}} if timeout_us else {}
    return httpx.post(f"{sluice.url}/v2/models/{model}/infer", json={"inputs": [tensor], **parameters}, timeout=timeout)


def infer_message(model, name, rows):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype="FP32", shape=list(rows.shape))
    request.raw_input_contents.append(rows.tobytes())
    return request.SerializeToString()


def ask_grpc(sluice, message):
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
        return service_pb2.ModelInferResponse.FromString(channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(message, timeout=60))


def row_by_row(sluice, rows):
    answers = [binary_answer(ask_binary(sluice, rows[i : i + 1])) for i in range(len(rows))]
    return {name: b"".join(a[name][1] for a in answers) for name in answers[0]}


# ---- one answer --------------------------------------------------------------------------------------


def test_all_rows_have_the_bits_that_they_have_alone(start):
    sluice = start()
    requests = lambda: sluice.metric("sluice_requests_total", model="digits", status="ok")
    few = row_by_row(sluice, DIGITS[: len(SAMPLES)])
    before = requests()
    want = {name: (data * ROWS)[: ROWS * len(data) // len(SAMPLES)] for name, data in few.items()}
    whole = binary_answer(ask_binary(sluice, DIGITS))
    for name, data in want.items():
        assert whole[name][0][0] == ROWS and whole[name][1] == data, name
    answer = ask_grpc(sluice, infer_message("digits", "input", DIGITS))
    for output, raw in zip(answer.outputs, answer.raw_output_contents):
        assert output.shape[0] == ROWS and raw == want[output.name], output.name
    answer = ask_json(sluice, "digits", DIGITS.tolist(), name="input")
    assert answer.status_code == 200, answer.text
    for output in answer.json()["outputs"]:
        got = numpy.array(output["data"], numpy.float32)
        assert output["shape"][0] == ROWS and got.tobytes() == want[output["name"]], output["name"]
    wait_for(lambda: requests() == before + 3, what="all three counted")
    lines = lambda: [line for line in sluice.access_log() if line.get("rows") == ROWS]
    wait_for(lambda: len(lines()) == 3, 10, "a line each")
    assert {(line["status"], line["batch"]) for line in lines()} == {(200, 64)}


def echo_model(directory):
    """s: texts, as they are."""
    ports = [onnx_file.value(n, ["n", 1], onnx_file.STRING) for n in "sy"]
    path = directory / "echo" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(onnx_file.model(onnx_file.graph([onnx_file.node("Identity", ["s"], ["y"])], ports[:1], ports[1:], [])))


def test_texts_of_any_length(start, tmp_path):
    echo_model(tmp_path / "models")
    sluice = start(wait_models=("echo",), repository=tmp_path / "models")
    rows = [struct.pack("<I", n := i * i % 97) + bytes([65 + i % 26]) * n for i in range(333)]
    whole = binary_answer(ask_binary(sluice, rows, "echo", name="s", datatype="BYTES"))
    assert whole == {"y": ([333, 1], b"".join(rows))}
    texts = [f"row {i}" for i in range(200)]
    body = {"inputs": [{"name": "s", "datatype": "BYTES", "shape": [200, 1], "data": texts}]}
    answer = httpx.post(f"{sluice.url}/v2/models/echo/infer", json=body, timeout=60)
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == texts, answer.text


# ---- bounds ------------------------------------------------------------------------------------------


def test_more_rows_than_may_wait(start):
    sluice = start(models='model "digits" { queue { rows = 500 } }')
    answer = ask_binary(sluice, DIGITS)
    assert answer.status_code == 413, answer.text
    assert answer.json()["error"] == "inputs: expected at most 500 rows, as many as may wait for model digits, got 540"
    assert ask_binary(sluice, DIGITS[:500]).status_code == 200
    with pytest.raises(grpc.RpcError) as refused:
        ask_grpc(sluice, infer_message("digits", "input", DIGITS))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_many_parts_are_in_the_accounts(start):
    """A row a batch: what the parts take is more than the request itself, and refused before it is there."""
    with Triton("single:max_batch=1") as triton:
        rules = 'model "single" { queue { rows = 1000000 } }'
        sluice = start(wait_models=("single",), addresses=[triton.address], models=rules, limits='max_body = "1MiB" bytes_in_flight = "16MiB"')
        answer = ask_binary(sluice, numpy.zeros((100000, 2), numpy.float32), "single", name="x")
        assert answer.status_code == 503 and "no room for a request of so many rows" in answer.text, answer.text
        assert "retry-after" in answer.headers
        sluice.wait_idle()
        assert sluice.metric("sluice_bytes_in_flight") < 4 << 20
        assert ask_binary(sluice, numpy.ones((50, 2), numpy.float32), "single", name="x").status_code == 200


def test_what_goes_alone_is_not_split(start):
    sluice = start()
    tensor = {"name": "input", "datatype": "FP32", "shape": [65, 64], "data": DIGITS[:65].ravel().tolist()}
    body = {"inputs": [tensor], "parameters": {"sequence_id": 5, "sequence_start": True}}
    answer = httpx.post(f"{sluice.url}/v2/models/digits/infer", json=body, timeout=60)
    assert answer.status_code == 400 and "at most 64 rows for model digits in a request that goes alone, got 65" in answer.text


# ---- parts that fail ---------------------------------------------------------------------------------


def pairs(n):
    return [[float(i), 0.5 * i] for i in range(n)]


def refuse(c, stream, why):
    c.send_headers(stream, [*HEAD, ("grpc-status", "3"), ("grpc-message", why)], end_stream=True)


def test_a_part_that_fails_fails_the_request_with_its_reason(start):
    """Sixteen rows at a time; the third call is refused, whatever comes of the others."""
    calls = []

    def on_infer(s, c, stream, octets):
        calls.append(stream)
        if len(calls) == 3:
            refuse(c, stream, "not these rows")
        else:
            answer_well(s, c, stream, octets)

    with RawWorker(speak_h2(on_infer)) as raw:
        sluice = start(wait_models=("good",), addresses=[raw.address])
        answer = ask_json(sluice, "good", pairs(70))
        assert answer.status_code == 400 and "not these rows" in answer.text, answer.text
        answer = ask_json(sluice, "good", pairs(70))
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2 * v for r in pairs(70) for v in r]
        sluice.wait_idle()


def test_a_deadline_between_two_parts(start):
    """A batch of two takes a fifth of a second; there is time for a few of fifteen."""
    with Triton("slow:takes=0.2:max_batch=2:serial=1") as triton:
        sluice = start(wait_models=("slow",), addresses=[triton.address])
        answer = ask_json(sluice, "slow", pairs(30), timeout_us=700000)
        assert answer.status_code == 504, answer.text
        sluice.wait_idle()
        assert triton.rows("slow") < 30  # those that were late never went
        answer = ask_json(sluice, "slow", pairs(5))
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2 * v for r in pairs(5) for v in r]


def test_its_client_leaves(start):
    with Triton("slow:takes=0.2:max_batch=2:serial=1") as triton:
        sluice = start(wait_models=("slow",), addresses=[triton.address])
        tensor = {"name": "x", "datatype": "FP32", "shape": [40, 2], "data": [v for r in pairs(40) for v in r]}
        body = json.dumps({"inputs": [tensor]}).encode()
        with socket.create_connection(("127.0.0.1", sluice.port), 30) as s:
            s.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            wait_for(lambda: triton.rows("slow") >= 2, 20, "a part is there")
        sluice.wait_idle()
        sluice.settle()
        assert triton.rows("slow") < 40
        assert sluice.metric("sluice_requests_total", model="slow", status="client_gone") == 1


def test_a_worker_dies_under_a_part(start):
    """Its rows go to the other one; no request is lost, and no answer has a row of another."""
    sluice = start(replicas=2)
    wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2, 30, "two replicas")
    want = binary_answer(ask_binary(sluice, DIGITS))
    told, ended = [], threading.Event()

    def ask_on():
        while not ended.is_set():
            told.append(ask_binary(sluice, DIGITS))

    clients = [threading.Thread(target=ask_on, daemon=True) for _ in range(3)]
    for c in clients:
        c.start()
    try:
        for _ in range(1 if SANITIZED else 3):
            before = len(told)
            wait_for(lambda n=before: len(told) >= n + 6, 60, "answers")
            started = len(sluice.find("worker_started"))
            os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
            sluice.wait_event("worker_started", count=started + 1, timeout=30)
            wait_for(lambda: sluice.metric("sluice_ready_replicas", model="digits") == 2, 30, "two replicas")
    finally:
        ended.set()
        for c in clients:
            c.join(60)
    assert {a.status_code for a in told} == {200}, [a.text for a in told if a.status_code != 200][:3]
    assert all(binary_answer(a) == want for a in told)
