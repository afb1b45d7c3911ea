"""One script of unmodified clients (tritonclient over HTTP and gRPC, blocking and asyncio; httpx; grpcio's health; where they are
installed KServe's and MLServer's, tests/clients), run against sluice-worker and against the gateway before it: what the clients say
is the same, line by line. Where it is not stands below, with the reason.
"""
import asyncio
import collections
import json
import os
import re
import subprocess
import sys

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import MODELS, ROOT, SAMPLES, Sluice, Worker, configuration, infer_body
from tritonclient.utils import InferenceServerException

ROWS = [s["input"] for s in SAMPLES]
ROW = np.array(ROWS[:1], np.float32)
INFER = "/v2/models/digits/infer"
# What is not compared, or is said in other words; and why. Each must strike somewhere.
RULES = [
    (r'"(queue|compute)_us": (\{"int64_param": "\d+"\}|\d+)', r'"\1_us": …', "no two calls take as long"),
    (r'"sluice-batch": (\{[^}]*\}|"[^"]*")', '"sluice-batch": …', "who was in the batch, too, is chance; an answer by the worker alone is one by its own queue"),
    (r"the worker says: ", "", "the gateway says whose words these are"),
    (r"model (\S+) version (\S+) is not served here", r"model \1 has no version \2", "the gateway speaks of all its workers, a worker of itself"),
    (r"model (\S+) is not served here", r"model \1 is not known", "the same"),
    (r', "sequence", "sequence\(string_id\)"', "", "the gateway keeps a sequence with one replica; sluice-worker has no models with states"),
    (r', "parameters": \{("serial_device": \{"string_value": "true"\})?\}', "", "of a ModelConfig: it says something of one worker"),
    (r'"name": "sluice-worker"', '"name": "sluice"', "who answers"),
]

# ---- how what a client got is written down ---------------------------------------------------------------


def plain(value):
    """As JSON has it; numbers to four places."""
    if hasattr(value, "DESCRIPTOR"):
        value = MessageToDict(value, preserving_proto_field_name=True, always_print_fields_with_no_presence="model_stats" in value.DESCRIPTOR.fields_by_name)
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def outline(value):
    """Names alone: of counts that are each server's own. Of a list what its members have in common."""
    if isinstance(value, dict):
        return {k: outline(v) for k, v in value.items()}
    if isinstance(value, list):
        return sorted({line(outline(v)) for v in value})
    return "…"


def line(value):
    return json.dumps(plain(value), sort_keys=True)


def failure(e):
    if isinstance(e, InferenceServerException):
        return f"{e.status()} {e.message()}"
    return f"{e.code()} {e.details()}"


def result(got):
    """An InferResult of any client: head, and each tensor."""
    head = plain(got.get_response())
    names = [o["name"] for o in head.get("outputs", [])]
    head.pop("raw_output_contents", None)
    return {"head": head, "tensors": {name: got.as_numpy(name) for name in names}}


# ---- the script --------------------------------------------------------------------------------------------


def asked(module, rows=ROW, name="input", datatype="FP32", **more):
    tensor = module.InferInput(name, list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, **more)
    return [tensor]


def wanted(module, name="probabilities", **more):
    return [module.InferRequestedOutput(name, **more)]


def control(c):
    """What every client asks beside inference: (line, call)."""
    for model, version in (("digits", ""), ("digits", "1"), ("digits", "9"), ("digits", "x"), ("nobody", "")):
        of = f"{model}/{version}"
        yield f"ready {of}", lambda m=model, v=version: c.is_model_ready(m, v)
        yield f"metadata {of}", lambda m=model, v=version: c.get_model_metadata(m, v)
        yield f"config {of}", lambda m=model, v=version: c.get_model_config(m, v)
    yield "live", c.is_server_live
    yield "server ready", c.is_server_ready
    yield "server", c.get_server_metadata
    yield "index", c.get_model_repository_index
    yield "statistics", lambda: outline(plain(c.get_inference_statistics("digits")))
    yield "statistics of none", lambda: c.get_inference_statistics("nobody")


def inference(c, module, binary):
    """(line, call); binary: words for tensors of the HTTP client, which has two ways."""
    for n in (1, 3, 20):
        rows = np.array(ROWS[:n], np.float32)
        yield f"{n} rows", lambda r=rows: c.infer("digits", asked(module, r, **binary), outputs=wanted(module, **binary), request_id="7")
    yield "other model", lambda: c.infer("digits-small", asked(module, **binary), request_id='a "b" é')
    yield "default outputs", lambda: c.infer("digits", asked(module, **binary))
    yield "version 1", lambda: c.infer("digits", asked(module, **binary), model_version="1")
    yield "version 9", lambda: c.infer("digits", asked(module, **binary), model_version="9")
    yield "no model", lambda: c.infer("nobody", asked(module, **binary))
    yield "no rows", lambda: c.infer("digits", asked(module, np.zeros((0, 64), np.float32), **binary))
    yield "wrong name", lambda: c.infer("digits", asked(module, name="inpt", **binary))
    yield "wrong shape", lambda: c.infer("digits", asked(module, ROW[:, :63], **binary))
    yield "wrong rank", lambda: c.infer("digits", asked(module, ROW[0], **binary))
    yield "wrong type", lambda: c.infer("digits", asked(module, ROW.astype(np.float64), datatype="FP64", **binary))
    yield "unknown output", lambda: c.infer("digits", asked(module, **binary), outputs=wanted(module, "nothing", **binary))
    yield "twice an input", lambda: c.infer("digits", asked(module, **binary) * 2)
    yield "classes", lambda: c.infer("digits", asked(module, **binary), outputs=wanted(module, class_count=3, **binary))
    yield "parameters", lambda: c.infer("digits", asked(module, **binary), parameters={"a": 1, "b": "x", "c": True})
    yield "priority", lambda: c.infer("digits", asked(module, **binary), priority=2)
    yield "time enough", lambda: c.infer("digits", asked(module, **binary), timeout=20_000_000)


def over_http(port):
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}") as c:
        yield from control(c)
        for words in ({"binary_data": True}, {"binary_data": False}):
            for name, call in inference(c, tritonclient.http, words):
                yield f"{'binary' if words['binary_data'] else 'json'}: {name}", lambda call=call: result(call())
        for coding in ("gzip", "deflate"):
            yield coding, lambda w=coding: result(c.infer("digits", asked(tritonclient.http), request_compression_algorithm=w, response_compression_algorithm=w))
        yield "at once", lambda: [result(r.get_result()) for r in [c.async_infer("digits", asked(tritonclient.http)) for _ in range(10)]]


def over_grpc(port):
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as c:
        yield from control(c)
        for name, call in inference(c, tritonclient.grpc, {}):
            yield name, lambda call=call: result(call())
        yield "gzip", lambda: result(c.infer("digits", asked(tritonclient.grpc), compression_algorithm="gzip"))


def run_aio(module, port, call):
    async def all_of_it():
        async with module.InferenceServerClient(f"127.0.0.1:{port}") as c:
            return await call(c)

    return asyncio.run(all_of_it())


def over_aio(module, of):
    def steps(port):
        async def many(c):
            return [result(r) for r in await asyncio.gather(*[c.infer("digits", asked(of)) for _ in range(20)])]

        yield "metadata", lambda: run_aio(module, port, lambda c: c.get_model_metadata("digits"))
        yield "config", lambda: run_aio(module, port, lambda c: c.get_model_config("digits"))
        yield "at once", lambda: run_aio(module, port, many)
        yield "no model", lambda: run_aio(module, port, lambda c: c.infer("nobody", asked(of)))

    return steps


def over_httpx(port):
    """The protocol by hand, over HTTP/1.1 and HTTP/2: status, what the body is, its words."""
    sent = [
        ("GET", "/v2", None), ("GET", "/v2/health/live", None), ("GET", "/v2/health/ready", None), ("GET", "/v2/models/digits", None), ("HEAD", "/v2/models/digits", None),
        ("GET", "/v2/models/digits/ready", None), ("GET", "/v2/models/digits/versions/1", None), ("GET", "/v2/models/digits/versions/9/ready", None), ("GET", "/v2/models/nobody/ready", None),
        ("GET", "/nothing", None), ("GET", INFER, None), ("DELETE", INFER, None), ("POST", "/v2/models/digits", b""),
        ("POST", INFER, infer_body(ROWS[:2], id="7")), ("POST", INFER, infer_body([ROWS[0]], outputs=[{"name": "probabilities"}])),
        ("POST", INFER, b""), ("POST", INFER, b"{}"), ("POST", INFER, b"hello"), ("POST", INFER, b'{"inputs": []}'), ("POST", INFER, b'{"inputs": [{"name": "input"}]}'),
        ("POST", INFER, infer_body([ROWS[0]]).replace(b"64", b"63")), ("POST", INFER, infer_body([ROWS[0]]).replace(b"FP32", b"FP99")),
    ]  # fmt: skip
    for http2 in (False, True):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", http1=not http2, http2=http2) as c:
            for n, (method, path, body) in enumerate(sent):

                def ask(method=method, path=path, body=body):
                    answer = c.request(method, path, content=body)
                    kept = {k: answer.headers[k] for k in ("content-type", "allow") if k in answer.headers}
                    text = answer.json() if answer.content and "json" in answer.headers["content-type"] else answer.text
                    return [answer.status_code, kept, text]

                yield f"{'h2' if http2 else 'h1'} {n} {method} {path}", ask


def over_health(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "digits", "nobody"):
            yield f"check {service!r}", lambda s=service: stub.Check(health_pb2.HealthCheckRequest(service=s), timeout=10)
            yield f"watch {service!r}", lambda s=service: next(stub.Watch(health_pb2.HealthCheckRequest(service=s), timeout=10))


SCRIPT = {
    "http": over_http,
    "grpc": over_grpc,
    "http.aio": over_aio(tritonclient.http.aio, tritonclient.http),
    "grpc.aio": over_aio(tritonclient.grpc.aio, tritonclient.grpc),
    "httpx": over_httpx,
    "health": over_health,
}


def answers(port):
    """{line's name: what came}"""
    said = {}
    for client, steps in SCRIPT.items():
        for name, call in steps(port):
            assert f"{client} {name}" not in said
            try:
                said[f"{client} {name}"] = line(call())
            except (InferenceServerException, grpc.RpcError) as e:
                said[f"{client} {name}"] = failure(e)
    return said


def compared(said, struck):
    for pattern, words, _ in RULES:
        said, n = re.subn(pattern, words, said)
        struck[pattern] += n
    return said


def both(tmp_path, answers):
    """What answers(port) gives of the worker, and of the gateway before it."""
    with Worker(MODELS) as worker:
        config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{worker.port}"])
        with Sluice(config, wait_models=("digits", "digits-small")) as sluice:
            told = answers(worker.port), answers(sluice.port)
            assert sluice.stop() == 0
    return told


def check_same(directly, through, struck):
    assert set(directly) == set(through)
    differ = [name for name in directly if compared(directly[name], struck) != compared(through[name], struck)]
    told = [f"{name}\n  directly {directly[name][:600]}\n  through  {through[name][:600]}" for name in differ]
    assert not told, "\n".join(told)


def test_the_same_script_gives_the_same_answers(tmp_path):
    directly, through = both(tmp_path, answers)
    struck = collections.Counter()
    check_same(directly, through, struck)
    idle = [pattern for pattern, _, _ in RULES if not struck[pattern]]
    assert len(directly) > 100 and not idle, f"no difference any more: {idle}"


@pytest.mark.parametrize("package, lines", [("kserve", 75), ("mlserver", 4)])
def test_other_clients(tmp_path, package, lines):
    """Each in an environment of its own, if there is one: {package}_PYTHON names its Python (tests/clients/requirements-{package}.txt)."""
    python = os.environ.get(package.upper() + "_PYTHON", sys.executable)
    if subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:
        pytest.skip(f"{python} has no {package}: {package.upper()}_PYTHON names one that has (tests/clients/requirements-{package}.txt)")
    words = [python, "-W", "ignore", ROOT / "tests" / "clients" / f"{package}_says.py"]

    def answers(port):
        done = subprocess.run([*words, str(port), json.dumps(ROWS[:20])], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    directly, through = both(tmp_path, answers)
    assert len(directly) >= lines
    check_same(directly, through, collections.Counter())
