"""Faults of peers, over the wire: rows 85, 103, 104 and 137. test_system.py has 140 to 144."""
import contextlib
import json
import os
import signal
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
from harness import SAMPLES, WORKER_DOUBLE, Program, Sluice, Wire, configuration, infer_body, post, wait_for
from load import is_right
from raw_worker import RawWorker, answer_well, reset, speak_h2
from tritonclient.grpc import service_pb2

INFER = "/v2/models/digits/infer"
ROWS = [s["input"] for s in SAMPLES]


# ---- drain -------------------------------------------------------------------------------------------


def test_drain_finishes_streams_and_batches(start):
    """137: calls over gRPC and HTTP/1.1 that are with a slow worker, some of them in one batch."""
    sluice = start(models='model "digits" { batch { policy = fixed max_rows = 4 } }')
    pid = sluice.worker_pid()
    q = service_pb2.ModelInferRequest(model_name="digits")
    q.inputs.add(name="input", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend(ROWS[0])
    with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel, Wire(sluice.port, 60) as wire:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        assert call(q, timeout=30).model_name == "digits"
        os.kill(pid, signal.SIGSTOP)
        running = [call.future(q, timeout=60) for _ in range(12)]
        wire.send(post(close=False))
        wait_for(lambda: sluice.metric("sluice_in_flight") == 13)
        sluice.kill(signal.SIGTERM)
        sluice.wait_event("draining")
        os.kill(pid, signal.SIGCONT)
        assert all(f.result(60).model_name == "digits" for f in running)
        assert wire.read_answers(1, 30)[0][0] == 200
        assert sluice.wait() == 0
    assert not sluice.find("cut")


# ---- batches -------------------------------------------------------------------------------------------


def test_a_bad_row_harms_no_other(start):
    """104: NaN, infinity and a wrong shape, sent in the moment in which others' batch is filled."""
    sluice = start(models='model "digits" { batch { policy = fixed max_wait = "200ms" preferred = {8} } }')
    good = [infer_body([row]) for row in ROWS[:5]]
    nan = json.loads(good[0])
    nan["inputs"][0]["data"] = ["NaN"] * 32 + ["Infinity"] * 32
    bodies = [*good, json.dumps(nan).encode(), infer_body([[1.0] * 63]), infer_body([[]])]
    batched = []
    with ThreadPoolExecutor(len(bodies)) as pool, httpx.Client(timeout=60) as client:
        for _ in range(5):
            answers = list(pool.map(lambda b: client.post(sluice.url + INFER, content=b), bodies))
            for k in range(5):
                assert answers[k].status_code == 200 and is_right(k, answers[k].content), answers[k].text
            assert answers[5].status_code == 200 and answers[6].status_code == answers[7].status_code == 400
            assert set(answers[5].json()["outputs"][0]["data"]) == {"NaN"}
            batched += [int(a.headers["sluice-batch"].split(";")[0]) for a in answers[:6]]
    assert max(batched) > 1, "nobody shared a batch with it"


def test_calls_cancelled_in_mid_batch(tmp_path):
    """103: over gRPC: RST_STREAM; the others in the batch are answered, the slots are free again."""
    with Program([sys.executable, WORKER_DOUBLE, "--tell", "--listen", "127.0.0.1:0", "slow"]) as worker:
        port = worker.wait_event("up", timeout=30)["port"]
        rules = 'model "slow" { batch { policy = fixed max_wait = "500ms" preferred = {8} } }'
        with Sluice(configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{port}"], models=rules), wait_models=("slow",)) as sluice:
            with grpc.insecure_channel(f"127.0.0.1:{sluice.port}") as channel:
                call = channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelInfer",
                    request_serializer=service_pb2.ModelInferRequest.SerializeToString,
                    response_deserializer=service_pb2.ModelInferResponse.FromString,
                )
                q = service_pb2.ModelInferRequest(model_name="slow")
                q.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([3, 4])
                calls = [call.future(q, timeout=60) for _ in range(8)]
                worker.wait_event("infer", rows=8)
                for f in calls[::2]:
                    f.cancel()
                for f in calls[1::2]:
                    assert struct.unpack("<2f", f.result(60).raw_output_contents[0]) == (6, 8)
            sluice.wait_idle()
            wait_for(lambda: sluice.metric("sluice_requests_total", status="client_gone") == 4)
            assert sluice.stop() == 0
        worker.kill(9)


# ---- a worker that flaps ---------------------------------------------------------------------------------


def test_a_worker_that_flaps(tmp_path):
    """85: its connections are cut every 100 ms: no storm of calls, no storm of connections, each request is
    answered once, and when it stays up all is well."""
    calls, cuts, ended = [0], [0], threading.Event()

    def count(s, c, stream, octets):
        calls[0] += 1
        answer_well(s, c, stream, octets)

    def cut(raw):
        while not ended.wait(0.1):
            cuts[0] += 1
            for s in list(raw.sockets):
                with contextlib.suppress(OSError):
                    reset(s)

    body = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
    with RawWorker(speak_h2(count)) as raw:
        config = configuration(tmp_path, addresses=[raw.address], health='interval = "60s" timeout = "5s" failures = 3')
        with Sluice(config, wait_models=("good",)) as sluice:
            flapping = threading.Thread(target=cut, args=(raw,))
            flapping.start()
            try:
                with ThreadPoolExecutor(4) as pool:
                    ask = lambda _: httpx.post(sluice.url + "/v2/models/good/infer", content=body)
                    statuses = [a.status_code for a in pool.map(ask, range(200))]
            finally:
                ended.set()
                flapping.join()
            assert set(statuses) <= {200, 500, 503}, set(statuses)
            assert calls[0] <= len(statuses) + 4 * (cuts[0] + 1), (calls, cuts, len(statuses))  # four may be aboard at a cut
            assert raw.connections <= 2 * (cuts[0] + 2), (raw.connections, cuts)  # a loop each
            wait_for(lambda: ask(0).status_code == 200, 30)
            assert all(ask(0).status_code == 200 for _ in range(20))
            sluice.wait_idle()
            assert sluice.stop() == 0
