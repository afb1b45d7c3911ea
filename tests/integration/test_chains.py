"""Fallback chains: who answers when a model cannot, and how the answer says it. Real workers, that are stopped and killed."""
import json
import os
import signal
import subprocess
import threading

import grpc
import httpx
import numpy
import onnx_file
import pytest
from harness import BUILD, MODELS, SAMPLES, wait_for, worker_command
from test_reload import reload, TOKEN
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROW = [float(v) for v in SAMPLES[0]["input"]]
WRITTEN = [0.1] * 10


def only(directory, name):
    """A repository that has one of the demo models."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to(MODELS / name)
    return directory


def answers(directory, values=WRITTEN):
    directory.mkdir(parents=True, exist_ok=True)
    output = {"name": "probabilities", "datatype": "FP32", "shape": [1, 10], "data": values}
    path = directory / "digits.json"
    path.write_text(json.dumps({"model_name": "digits", "outputs": [output]}))
    return path


@pytest.fixture
def chain(start, tmp_path):
    """digits at a worker of its own, digits-small at another one, a written answer."""

    def one(fallback='"digits-small", "default"', keys="", **more):
        small = worker_command(only(tmp_path / "small", "digits-small"), unless=tmp_path / "no-v")
        written = answers(tmp_path) if "default" in fallback else None
        default = f'default = "{written}"' if written else ""
        return start(
            wait_models=("digits", "digits-small"),
            repository=only(tmp_path / "big", "digits"),
            unless=tmp_path / "no-w",
            models=f'worker "v" {{ command = {{{small}}} }} model "digits" {{ worker = "w" fallback = {{{fallback}}} {default} {keys} }}',
            **more,
        )

    return one


def ask(sluice, rows=1, timeout=20, headers=None, outputs=None, **parameters):
    tensor = {"name": "input", "datatype": "FP32", "shape": [rows, 64], "data": ROW * rows}
    body = {"inputs": [tensor], "parameters": parameters, **({"outputs": outputs} if outputs else {})}
    return httpx.post(f"{sluice.url}/v2/models/digits/infer", json=body, timeout=timeout, headers=headers)


def pid_of(sluice, worker):
    return sluice.find("worker_started", name=worker)[-1]["pid"]


def lose(sluice, worker):
    """Its process is killed; until it is back, which the keeper sees to at once, the model has no replica."""
    os.kill(pid_of(sluice, worker), signal.SIGSTOP)


def steps(answer):
    """["digits;timeout", ...]"""
    return [step.split(";dur=")[0] for step in answer.headers.get("sluice-attempts", "").split(", ") if step]


def test_as_long_as_the_model_answers_nothing_is_said_of_a_chain(chain):
    sluice = chain()
    answer = ask(sluice)
    assert answer.status_code == 200
    assert answer.headers["sluice-model"].startswith("digits;")
    assert answer.headers["sluice-source"] == "model"
    assert not {"sluice-fallback", "sluice-attempts"} & set(answer.headers)
    sluice.settle()
    assert sluice.metric("sluice_fallbacks_total") == 0


def test_a_model_that_hangs_costs_one_step(chain):
    sluice = chain(keys='step_timeout = "300ms"', health='interval = "10s" timeout = "10s" failures = 2')
    lose(sluice, "w")
    answer = ask(sluice, headers={"x-request-id": "fell-back"})
    os.kill(pid_of(sluice, "w"), signal.SIGCONT)
    assert answer.status_code == 200, answer.text
    assert answer.headers["sluice-model"].startswith("digits-small;")
    assert answer.headers["sluice-fallback"] == "digits"
    assert steps(answer) == ["digits;timeout", "digits-small;ok"]
    assert answer.json()["model_name"] == "digits-small"
    assert answer.json()["parameters"]["sluice-fallback"] == "digits"
    sluice.settle()
    assert sluice.metric("sluice_fallbacks_total", model="digits") == 1
    assert sluice.metric("sluice_requests_total", model="digits", status="ok") == 1
    assert sluice.metric("sluice_requests_total", model="digits-small") == 0
    assert sluice.metric("sluice_chain_steps_total", model="digits", outcome="timeout") == 1
    assert sluice.metric("sluice_chain_steps_total", model="digits-small", outcome="ok") == 1
    line = wait_for(lambda: [r for r in sluice.access_log() if r.get("id") == "fell-back"], 10, "its line")[0]
    assert line["model"] == "digits" and line["answered"] == "digits-small"
    assert line["attempts"] == answer.headers["sluice-attempts"]
    sluice.settle()
    said = httpx.get(f"http://127.0.0.1:{sluice.admin_port}/v1/requests/fell-back", headers=TOKEN).json()
    assert said["attempts"] == line["attempts"] and said["steps"][0]["model"] == "digits-small"
    told = subprocess.run(
        [BUILD / "sluicectl", "--address", f"127.0.0.1:{sluice.admin_port}", "explain", "fell-back"],
        env={**os.environ, "SLUICE_TOKEN": "open sesame, please"},
        capture_output=True,
        text=True,
    )
    assert "digits;timeout" in told.stdout, told


def test_a_model_without_a_replica_is_passed_over(chain):
    sluice = chain()
    pid = pid_of(sluice, "w")
    with kept_away(sluice, "w"):
        answer = wait_for(lambda: steps(ask(sluice)) == ["digits;not_ready", "digits-small;ok"], 20, "passed over")
    sluice.wait_model("digits")
    assert pid_of(sluice, "w") != pid
    wait_for(lambda: "sluice-fallback" not in ask(sluice).headers, 20, "back at the model")
    sluice.settle()
    assert answer and sluice.metric("sluice_chain_steps_total", model="digits", outcome="not_ready") > 0


class kept_away:
    """The workers' processes are killed, and end at once as often as the keeper starts them."""

    def __init__(self, sluice, *workers):
        self.sluice, self.workers = sluice, workers
        self.flags = [sluice.config.parent.parent / f"no-{w}" for w in workers]

    def __enter__(self):
        for flag in self.flags:
            flag.touch()
        for worker in self.workers:
            os.kill(pid_of(self.sluice, worker), signal.SIGKILL)

    def __exit__(self, *more):
        for flag in self.flags:
            flag.unlink()


def test_the_written_answer_is_the_last(chain):
    sluice = chain()
    with kept_away(sluice, "w", "v"):
        wait_for(lambda: ask(sluice).headers.get("sluice-source") == "default", 20, "nobody is left")
        answer = ask(sluice, rows=3)
        assert answer.status_code == 200
        assert answer.headers["sluice-fallback"] == "digits" and "sluice-model" not in answer.headers
        assert steps(answer) == ["digits;not_ready", "digits-small;not_ready", "default;ok"]
        output = answer.json()["outputs"][0]
        assert output["shape"] == [3, 10] and output["data"] == pytest.approx(WRITTEN * 3)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{sluice.port}"))
        request = service_pb2.ModelInferRequest(model_name="digits")
        request.inputs.add(name="input", datatype="FP32", shape=[2, 64])
        request.raw_input_contents.append(numpy.array(ROW * 2, numpy.float32).tobytes())
        response, call = stub.ModelInfer.with_call(request, timeout=20)
        got = numpy.frombuffer(response.raw_output_contents[0], numpy.float32)
        assert got == pytest.approx(WRITTEN * 2) and list(response.outputs[0].shape) == [2, 10]
        said = dict(call.initial_metadata())
        assert said["sluice-source"] == "default" and said["sluice-fallback"] == "digits"
        assert response.parameters["sluice-attempts"].string_param == said["sluice-attempts"]
    sluice.settle()
    assert sluice.metric("sluice_requests_total", model="digits", source="default") >= 3


def test_what_is_kept_answers_when_the_model_cannot(chain):
    sluice = chain(fallback='"cached", "digits-small", "default"', keys='cache { ttl = "1ms" stale = "1h" }')
    fresh = ask(sluice)
    assert fresh.headers["sluice-source"] == "model"
    with kept_away(sluice, "w"):
        answer = wait_for(lambda: (a := ask(sluice)).headers.get("sluice-source") == "stale" and a, 20, "from the cache")
        assert answer.json()["outputs"] == fresh.json()["outputs"]
        assert steps(answer)[-1] == "cached;ok" and "sluice-fallback" not in answer.headers
        assert answer.headers["sluice-model"].startswith("digits;") and int(answer.headers["age"]) >= 0
        other = ask(sluice, rows=2)  # nobody has asked that before
        assert steps(other)[-2:] == ["cached;unavailable", "digits-small;ok"], other.headers
    sluice.settle()
    assert sluice.metric("sluice_requests_total", model="digits", source="stale") >= 1


def test_a_full_queue_keeps_nobody_from_what_is_kept(chain):
    sluice = chain(fallback='"cached"', keys='cache { ttl = "1ms" stale = "1h" } queue { rows = 1 } batch { max_rows = 1 }')
    assert ask(sluice).status_code == 200
    with kept_away(sluice, "w"):
        wait_for(lambda: ask(sluice).headers.get("sluice-source") == "stale", 20, "from the cache")
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(sluice).headers.get("sluice-source"))) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert set(answers) <= {"stale", "model", "cache"}, answers


def test_a_step_that_takes_something_else_is_passed_over(start, tmp_path):
    """`other` has another input; the written answer another output. Events say how."""
    other = tmp_path / "other" / "other" / "1"
    other.mkdir(parents=True)
    ports = [onnx_file.value(n, ["n", 64], onnx_file.FLOAT) for n in ("pixels", "probabilities")]
    (other / "model.onnx").write_bytes(onnx_file.model(onnx_file.graph([onnx_file.node("Relu", ["pixels"], ["probabilities"])], ports[:1], ports[1:], [])))
    written = answers(tmp_path)
    written.write_text(written.read_text().replace("probabilities", "guesses"))
    sluice = start(
        wait_models=("digits", "other"),
        repository=only(tmp_path / "big", "digits"),
        unless=tmp_path / "no-w",
        models=f'worker "v" {{ command = {{{worker_command(tmp_path / "other")}}} }} '
        f'model "digits" {{ fallback = {{"other", "default"}} default = "{written}" }}',
    )
    told = sluice.wait_event("chain_step_unfit", model="digits", step="other")
    assert told["why"] == "input pixels: there is none"
    assert sluice.wait_event("chain_step_unfit", model="digits", step="default")["why"] == "output guesses: there is none"
    with kept_away(sluice, "w"):
        answer = wait_for(lambda: "other;unfit" in steps(a := ask(sluice, timeout=60)) and a, 60, "passed over")
    assert "default;unfit" in steps(answer)


def test_who_wants_the_model_or_nothing(chain):
    sluice = chain(health='interval = "10s" timeout = "10s" failures = 2')
    lose(sluice, "w")
    try:
        for said in ({"headers": {"sluice-chain": "none"}}, {"sluice-chain": "none"}):
            body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW}]}
            body["parameters"] = {"timeout": 400000, **({} if "headers" in said else said)}
            answer = httpx.post(f"{sluice.url}/v2/models/digits/infer", json=body, headers=said.get("headers"), timeout=20)
            assert answer.status_code == 504, answer.text
            assert "sluice-attempts" not in answer.headers
    finally:
        os.kill(pid_of(sluice, "w"), signal.SIGCONT)
    wrong = httpx.post(f"{sluice.url}/v2/models/digits/infer", json=body, headers={"sluice-chain": "some"})
    assert wrong.status_code == 400 and wrong.json() == {"error": "sluice-chain: expected none"}


def test_a_priority_may_stand_in_the_head(chain):
    sluice = chain()
    assert ask(sluice, headers={"sluice-priority": "1"}).status_code == 200
    wrong = ask(sluice, headers={"sluice-priority": "high"})
    assert wrong.status_code == 400 and wrong.json() == {"error": "sluice-priority: expected a non-negative integer"}


def test_a_bad_request_is_the_same_at_every_model(chain):
    sluice = chain()
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
    answer = httpx.post(f"{sluice.url}/v2/models/digits/infer", json=body)
    assert answer.status_code == 400
    assert steps(answer) == ["digits;bad_request"]
    assert sluice.metric("sluice_chain_steps_total", model="digits-small") == 0


def test_the_end_of_a_chain_tells_of_each_step(chain):
    sluice = chain(fallback='"digits-small"')
    with kept_away(sluice, "w", "v"):
        answer = wait_for(lambda: (a := ask(sluice, timeout=60)).status_code == 503 and a, 60, "nothing is left")
    error = answer.json()["error"]
    assert error.startswith("nothing of its chain answered: digits: "), error
    assert "; digits-small: " in error and int(answer.headers["retry-after"]) >= 1


def test_killing_a_model_under_load_costs_no_answer(chain):
    sluice = chain(fallback='"digits-small"')
    stop, seen, bad = threading.Event(), [], []

    def client(number):
        n = 0
        with httpx.Client(timeout=30) as http:
            while not stop.is_set():
                n += 1
                tensor = {"name": "input", "datatype": "FP32", "shape": [1, 64], "data": ROW}
                id_ = f"{number}-{n}"
                answer = http.post(f"{sluice.url}/v2/models/digits/infer", json={"id": id_, "inputs": [tensor]})
                good = answer.status_code == 200 and answer.json()["id"] == id_
                (seen if good else bad).append(answer.headers.get("sluice-fallback", "") if good else answer.text)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for kill in range(4):
        count = len(seen)
        wait_for(lambda: len(seen) > count + 40, 30, "answers")
        sluice.wait_event("worker_started", count=kill + 1, timeout=30, name="w")
        sluice.wait_model("digits")
        os.kill(pid_of(sluice, "w"), signal.SIGKILL)
    count = len(seen)
    wait_for(lambda: len(seen) > count + 40, 30, "answers")
    stop.set()
    for t in threads:
        t.join()
    assert not bad, bad[:3]
    assert "digits" in seen  # some were answered by the other model
    sluice.settle()
    total = sluice.metric("sluice_requests_total", model="digits", status="ok")
    assert total == len(seen) and sluice.metric("sluice_fallbacks_total", model="digits") == seen.count("digits")


def test_the_written_answer_is_read_again_by_a_reload(chain, tmp_path):
    sluice = chain(fallback='"default"')
    with kept_away(sluice, "w"):
        wait_for(lambda: ask(sluice).headers.get("sluice-source") == "default", 20, "nobody is left")
        answers(tmp_path, [0.5] * 10)
        assert reload(sluice) == ""
        assert ask(sluice).json()["outputs"][0]["data"] == [0.5] * 10
        (tmp_path / "digits.json").write_text('{"outputs": [{"name": "p", "datatype": "FP32"')
        refused = httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers=TOKEN, timeout=60)
        assert refused.status_code >= 400 and "digits.json: body: " in refused.text
        assert ask(sluice).json()["outputs"][0]["data"] == [0.5] * 10
        (tmp_path / "digits.json").unlink()
        refused = httpx.post(f"http://127.0.0.1:{sluice.admin_port}/v1/reload", headers=TOKEN, timeout=60)
        assert "digits.json: No such file or directory" in refused.text


def test_a_chain_that_comes_with_a_reload(chain):
    sluice = chain()
    text = sluice.config.read_text()
    assert 'fallback = {"digits-small", "default"}' in text
    sluice.config.write_text(text.replace('{"digits-small", "default"}', '{"default"}'))
    assert "fallback: was" in reload(sluice)
    with kept_away(sluice, "w"):
        wait_for(lambda: steps(ask(sluice)) == ["digits;not_ready", "default;ok"], 20, "the new chain")
