"""What is said beside the tensors goes through unchanged, both ways: parameters, classes, a model's configuration, and where a
request comes from. The worker is a double that answers what it was told."""
import contextlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import json_format
from harness import ROOT, Sluice, configuration, wait_for
from tritonclient.grpc import model_config_pb2, service_pb2

sys.path.append(str(ROOT / "tests" / "faults"))

from worker import Refused, Service, param, serve  # noqa: E402

INFER = "/v2/models/m/infer"
BATCHES = 'model "m" { batch { policy = fixed max_wait = "10s" max_rows = 4 } }'


def said(parameters):
    return {k: param(v) for k, v in parameters.items()}


def told(request, context):
    metadata = {k: v for k, v in context.invocation_metadata() if k in ("x-request-id", "traceparent", "tracestate")}
    return {
        "version": request.model_version,
        "rows": request.inputs[0].shape[0],
        "parameters": said(request.parameters),
        "inputs": {t.name: said(t.parameters) for t in request.inputs},
        "outputs": {t.name: said(t.parameters) for t in request.outputs},
        "metadata": metadata,
    }


def full_config():
    """As a Triton has it, with something in every corner."""
    c = model_config_pb2.ModelConfig(name="m", platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=16)
    c.version_policy.latest.num_versions = 3
    c.input.add(name="x", data_type=model_config_pb2.TYPE_FP32, dims=[2], optional=True).reshape.shape.extend([1, 2])
    c.output.add(name="told", data_type=model_config_pb2.TYPE_STRING, dims=[1], label_filename="labels.txt")
    group = c.instance_group.add(name="m_0", count=2, kind=model_config_pb2.ModelInstanceGroup.KIND_GPU, gpus=[0, 1])
    group.rate_limiter.resources.add(name="r", count=3)
    c.sequence_batching.oldest.max_candidate_sequences = 4
    c.sequence_batching.oldest.preferred_batch_size.extend([4, 8])
    start = c.sequence_batching.control_input.add(name="START").control.add()
    start.fp32_false_true.extend([0.0, 1.5])
    c.sequence_batching.state.add(input_name="i", output_name="o", dims=[-1]).initial_state.add(name="s", zero_data=True)
    c.model_transaction_policy.decoupled = False
    c.response_cache.enable = True
    c.parameters["note"].string_value = 'größer "als"'
    c.parameters["serial_device"].string_value = "true"
    c.metric_tags["team"] = "search"
    c.cc_model_filenames["8.0"] = "model.plan"
    c.optimization.cuda.graph_spec.add(batch_size=1).input["x"].dim.extend([3, 4])
    c.model_warmup.add(name="w", batch_size=1).inputs["x"].random_data = True
    c.model_metrics.metric_control.add().histogram_options.buckets.extend([0.1, 1e6])
    return c


class Carrier(Service):
    """Model m: one row of x, as many of `told`: what the request said, as JSON. It says something itself, too."""

    def __init__(self):
        super().__init__()
        self.config = service_pb2.ModelConfigResponse(config=full_config()).SerializeToString()
        self.asked = []
        self.answers = None  # other outputs: {name: (datatype, shape, array)}

    def ServerLive(self, octets, context):
        return b"\x08\x01"

    def RepositoryIndex(self, octets, context):
        answer = service_pb2.RepositoryIndexResponse()
        answer.models.add(name="m", version="1", state="READY")
        return answer.SerializeToString()

    def ModelMetadata(self, octets, context):
        answer = service_pb2.ModelMetadataResponse(name="m", versions=["1"], platform="double")
        answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        answer.outputs.add(name="told", datatype="BYTES", shape=[-1, 1])
        answer.outputs.add(name="scores", datatype="FP32", shape=[-1, 3])
        return answer.SerializeToString()

    def ModelConfig(self, octets, context):
        if not self.config:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, "")
        return self.config

    def ModelInfer(self, octets, context):
        request = service_pb2.ModelInferRequest.FromString(octets)
        self.asked.append(told(request, context))
        if self.answers:
            answer = service_pb2.ModelInferResponse(model_name="m", model_version="1")
            for name, (datatype, shape, array) in self.answers.items():
                answer.outputs.add(name=name, datatype=datatype, shape=shape)
                answer.raw_output_contents.append(array.tobytes())
            return answer.SerializeToString()
        rows, wanted = request.inputs[0].shape[0], {o.name: o for o in request.outputs}
        answer = service_pb2.ModelInferResponse(model_name="m", model_version="1")
        answer.parameters["note"].string_param = "from the model"
        answer.parameters["sluice-source"].string_param = "cache"  # ours to say
        answer.parameters["tokens"].int64_param = -7
        text = json.dumps(self.asked[-1]).encode()
        if not wanted or "told" in wanted:
            t = answer.outputs.add(name="told", datatype="BYTES", shape=[rows, 1])
            t.parameters["content_type"].string_param = "str"
            t.parameters["binary_data_size"].int64_param = 1  # how it travels is not for the next one
            answer.raw_output_contents.append(rows * (len(text).to_bytes(4, "little") + text))
        if "scores" in wanted:
            self.add_scores(answer, rows, wanted["scores"].parameters)
        return answer.SerializeToString()

    def add_scores(self, answer, rows, parameters):
        if "classification" not in parameters:
            answer.outputs.add(name="scores", datatype="FP32", shape=[rows, 3])
            answer.raw_output_contents.append(np.tile(np.float32([0.25, 0.5, 0.125]), (rows, 1)).tobytes())
            return
        n = parameters["classification"].int64_param
        classes = [b"0.500000:1:one", b"0.250000:0:nil", b"0.125000:2:two"][:n]
        answer.outputs.add(name="scores", datatype="BYTES", shape=[rows, n])
        answer.raw_output_contents.append(rows * b"".join(len(c).to_bytes(4, "little") + c for c in classes))


@pytest.fixture
def carrier():
    double = Carrier()
    server, double.port = serve(double, "127.0.0.1:0", threads=8)
    yield double
    server.stop(None)


@contextlib.contextmanager
def before(carrier, tmp_path, models="", **more):
    config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{carrier.port}"], models=models, **more)
    with Sluice(config, wait_models=("m",)) as sluice:
        yield sluice
        assert sluice.stop() == 0


def tensor(rows=1, **more):
    return {"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [1, 2] * rows, **more}


def ask(sluice, headers=None, rows=1, inputs=None, outputs=None, **parameters):
    body = {"inputs": [tensor(rows, **({"parameters": inputs} if inputs else {}))]}
    if outputs is not None:
        body["outputs"] = [{"name": "told", "parameters": outputs}]
    if parameters:
        body["parameters"] = parameters
    return httpx.post(sluice.url + INFER, json=body, headers=headers, timeout=30)


def heard(answer):
    assert answer.status_code == 200, answer.text
    return json.loads(answer.json()["outputs"][0]["data"][0])


# ---- parameters --------------------------------------------------------------------------------------

OF_REQUEST = {"temperature": 0.5, "top_k": 3, "stop": "Ω\n", "echo": True, "big": 2**64 - 1}
OF_INPUT = {"content_type": "base64", "scale": -2.25}
OF_OUTPUT = {"content_type": "np", "round": 3, "sure": False}


def check_heard(words):
    assert words["parameters"].pop("timeout") > 0  # what is left of the request's time is always told
    assert words["parameters"] == OF_REQUEST
    assert words["inputs"] == {"x": OF_INPUT} and words["outputs"] == {"told": OF_OUTPUT}


def test_of_rest_requests(carrier, tmp_path):
    """What is for the model reaches it; what says how bytes travel does not."""
    with before(carrier, tmp_path) as sluice:
        check_heard(heard(ask(sluice, inputs=OF_INPUT, outputs=OF_OUTPUT, **OF_REQUEST)))
        binary = ask(sluice, inputs=OF_INPUT, outputs={**OF_OUTPUT, "binary_data": True}, binary_data_output=False, **OF_REQUEST)
        head = int(binary.headers["inference-header-content-length"])
        check_heard(json.loads(binary.content[head + 4 :]))
        told = json.loads(binary.content[:head])["outputs"][0]["parameters"]
        assert told == {"binary_data_size": len(binary.content) - head, "content_type": "str"}
        raw = np.float32([1, 2]).tobytes()
        body = {"inputs": [{**tensor(parameters={**OF_INPUT, "binary_data_size": len(raw)})}], "outputs": [{"name": "told", "parameters": OF_OUTPUT}]}
        del body["inputs"][0]["data"]
        text = json.dumps({**body, "parameters": OF_REQUEST}).encode()
        answer = httpx.post(sluice.url + INFER, content=text + raw, headers={"inference-header-content-length": str(len(text))})
        check_heard(heard(answer))


def set_params(fields, values):
    kinds = {bool: "bool_param", float: "double_param", str: "string_param", int: "int64_param"}
    for k, v in values.items():
        setattr(fields[k], "uint64_param" if v == 2**64 - 1 else kinds[type(v)], v)


def infer_call(port):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    return channel, channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=service_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )


def request_of(of_request=(), of_input=(), of_output=(), rows=1):
    q = service_pb2.ModelInferRequest(model_name="m")
    set_params(q.parameters, dict(of_request))
    set_params(q.inputs.add(name="x", datatype="FP32", shape=[rows, 2]).parameters, dict(of_input))
    set_params(q.outputs.add(name="told").parameters, dict(of_output))
    q.raw_input_contents.append(np.float32([1, 2] * rows).tobytes())
    return q


def test_of_grpc_requests(carrier, tmp_path):
    with before(carrier, tmp_path) as sluice:
        channel, infer = infer_call(sluice.port)
        with channel:
            answer = infer(request_of(OF_REQUEST, OF_INPUT, OF_OUTPUT))
        check_heard(json.loads(answer.raw_output_contents[0][4:]))
        told = said(answer.parameters)
        assert told["note"] == "from the model" and told["tokens"] == -7
        assert told["sluice-source"] == "model" and told["compute_us"] > 0  # ours
        assert said(answer.outputs[0].parameters) == {"content_type": "str"}


def test_of_answers(carrier, tmp_path):
    """What the model says of its answer reaches every client of the batch, beside what we say."""
    with before(carrier, tmp_path, BATCHES) as sluice, ThreadPoolExecutor(4) as pool:
        for answer in pool.map(lambda _: ask(sluice), range(4)):
            told = answer.json()
            assert heard(answer)["rows"] == 4
            assert told["parameters"]["note"] == "from the model" and told["parameters"]["tokens"] == -7
            assert told["parameters"]["sluice-source"] == "model"
            assert told["outputs"][0]["parameters"] == {"content_type": "str"}


def test_of_answers_that_are_kept(carrier, tmp_path):
    with before(carrier, tmp_path, 'model "m" { cache { ttl = "1m" } }') as sluice:
        first, second = ask(sluice, inputs=OF_INPUT), ask(sluice, inputs=OF_INPUT)
        assert second.headers["sluice-source"] == "cache"
        for answer in (first, second):
            assert answer.json()["parameters"]["note"] == "from the model"
            assert answer.json()["outputs"][0]["parameters"] == {"content_type": "str"}
        assert ask(sluice, inputs={"content_type": "np"}).headers["sluice-source"] == "model"  # another question
        assert len(carrier.asked) == 2


def test_who_says_the_same_shares_a_batch(carrier, tmp_path):
    """Equal parameters, in whatever order, share one; others do not, and nobody is told another's."""
    with before(carrier, tmp_path, BATCHES) as sluice, ThreadPoolExecutor(12) as pool:
        one, two = {"a": 1, "b": "x"}, {"b": "x", "a": 1}
        calls = [pool.submit(ask, sluice, inputs=one if i % 2 else two, p=5) for i in range(4)]
        calls += [pool.submit(ask, sluice, inputs=one, p=6) for _ in range(4)]
        calls += [pool.submit(ask, sluice, inputs={"a": 2, "b": "x"}, p=5) for _ in range(4)]
        words = [heard(c.result()) for c in calls]
        assert [w["rows"] for w in words] == [4] * 12 and len(carrier.asked) == 3
        assert [w["parameters"]["p"] for w in words] == [5] * 4 + [6] * 4 + [5] * 4
        assert [w["inputs"]["x"]["a"] for w in words] == [1] * 8 + [2] * 4


def test_large_requests_with_parameters_are_split(carrier, tmp_path):
    with before(carrier, tmp_path, 'model "m" { batch { max_rows = 4 } }') as sluice:
        answer = ask(sluice, rows=40, inputs=OF_INPUT, p=1)
        assert answer.json()["outputs"][0]["shape"] == [40, 1]
        assert len(carrier.asked) >= 3 and all(t["inputs"] == {"x": OF_INPUT} for t in carrier.asked)


MANY = {f"k{i}": i for i in range(65)}
BAD = [
    (dict(inputs=MANY), "inputs[0].parameters: more than 64"),
    (dict(outputs=MANY), "outputs[0].parameters: more than 64"),
    (dict(inputs={"": 1}), "inputs[0].parameters: expected keys of 1 to 1024 bytes"),
    (dict(inputs={"k" * 1025: 1}), "inputs[0].parameters: expected keys of 1 to 1024 bytes"),
    (dict(inputs={"a": {"b": 1}}), "parameters: expected a string, a number, true or false as value, got an object"),
    (dict(outputs={"a": [1]}), "parameters: expected a string, a number, true or false as value, got an array"),
    (dict(inputs={"shared_memory_region": "r"}), "inputs[0].parameters: shared memory is not served over a network"),
]


def test_bad_parameters(carrier, tmp_path):
    """Rows 96, 97: too many, too long, nested, of hostile names: 400 with the field's name on every carrier, or harmless."""
    with before(carrier, tmp_path) as sluice:
        for more, text in BAD:
            answer = ask(sluice, **more)
            assert answer.status_code == 400 and text in answer.json()["error"], (more, answer.text)
        crowd = {"inputs": [tensor()], "outputs": [{"name": f"o{i}", "parameters": dict(list(MANY.items())[:64])} for i in range(17)]}
        answer = httpx.post(sluice.url + INFER, json=crowd)
        assert answer.status_code == 400 and "outputs[16].parameters: more than 1024" in answer.json()["error"]
        channel, infer = infer_call(sluice.port)
        with channel:
            with pytest.raises(grpc.RpcError) as e:
                infer(request_of(of_input=MANY))
            assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "inputs[0].parameters: more than 64" in e.value.details()
        strange = {"__proto__": "\x1f\x7f", '"}],"x":[{': "\\", "é" * 300: "\u2028", "../../etc": "%s%n", "constructor": 1}
        words = heard(ask(sluice, inputs=strange, outputs=strange, **{k: v for k, v in strange.items() if k != "__proto__"}))
        assert words["inputs"]["x"] == strange and words["outputs"]["told"] == strange


# ---- classes -----------------------------------------------------------------------------------------


def test_classes(carrier, tmp_path):
    """A BYTES answer to who asked for classes is no wrong answer, alone or in a batch."""
    with before(carrier, tmp_path, BATCHES) as sluice, ThreadPoolExecutor(4) as pool:
        body = {"inputs": [tensor()], "outputs": [{"name": "scores", "parameters": {"classification": 2}}]}
        for answer in pool.map(lambda _: httpx.post(sluice.url + INFER, json=body, timeout=30), range(4)):
            assert answer.status_code == 200, answer.text
            output = answer.json()["outputs"][0]
            assert output["datatype"] == "BYTES" and output["shape"] == [1, 2]
            assert output["data"] == ["0.500000:1:one", "0.250000:0:nil"]
            assert answer.headers["sluice-batch"].startswith("4;")
        body["inputs"] = [tensor(4)]
        del body["outputs"][0]["parameters"]  # and the tensor, of who did not ask for them
        answer = httpx.post(sluice.url + INFER, json=body).json()["outputs"][0]
        assert answer["datatype"] == "FP32" and answer["shape"] == [4, 3]


def test_classes_by_triton_clients(carrier, tmp_path):
    with before(carrier, tmp_path) as sluice:
        for kind, port in ((tritonclient.http, sluice.port), (tritonclient.grpc, sluice.port)):
            with contextlib.closing(kind.InferenceServerClient(f"127.0.0.1:{port}")) as client:
                x = kind.InferInput("x", [1, 2], "FP32")
                x.set_data_from_numpy(np.float32([[1, 2]]))
                answer = client.infer("m", [x], outputs=[kind.InferRequestedOutput("scores", class_count=3)])
                assert answer.as_numpy("scores").tolist() == [[b"0.500000:1:one", b"0.250000:0:nil", b"0.125000:2:two"]]


# ---- configuration -----------------------------------------------------------------------------------


def as_told(config, max_batch=16):
    """What we say of it: our bounds on top, and nothing of the worker's device."""
    config.max_batch_size = max_batch
    config.parameters.pop("serial_device", None)
    return config


def test_config_whole(carrier, tmp_path):
    with before(carrier, tmp_path) as sluice:
        with contextlib.closing(tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{sluice.port}")) as client:
            assert client.get_model_config("m").config == as_told(full_config())
        answer = httpx.get(sluice.url + "/v2/models/m/config")
        assert answer.status_code == 200
        told = json_format.Parse(answer.text, model_config_pb2.ModelConfig())
        assert told == as_told(full_config())
        # Triton tells defaults, and numbers as numbers.
        words = answer.json()
        assert words["input"][0]["dims"] == [2] and words["input"][0]["format"] == "FORMAT_NONE"
        assert words["instance_group"][0]["kind"] == "KIND_GPU" and words["instance_group"][0]["gpus"] == [0, 1]
        assert words["sequence_batching"]["oldest"]["max_candidate_sequences"] == 4
        assert words["model_transaction_policy"] == {"decoupled": False} and words["batch_input"] == []
        assert words["runtime"] == "" and "dynamic_batching" not in words and "ensemble_scheduling" not in words


def test_who_tells_no_config_is_believed(carrier, tmp_path):
    """MLServer's outputs follow its codecs and the datatype of its inputs, and not its metadata alone."""
    carrier.config = None
    carrier.answers = {"told": ("INT64", [3], np.arange(3)), "more": ("FP32", [1, 2], np.float32([1, 2]))}
    with before(carrier, tmp_path) as sluice:
        answer = ask(sluice)
        assert answer.status_code == 200, answer.text
        assert [(o["name"], o["datatype"], o["shape"], o["data"]) for o in answer.json()["outputs"]] == [
            ("told", "INT64", [3], [0, 1, 2]),
            ("more", "FP32", [1, 2], [1, 2]),
        ]


def names(answer):
    return [o["name"] for o in answer.json()["outputs"]]


def test_outputs_that_a_worker_leaves_out(carrier, tmp_path):
    """MLServer answers what it has of the outputs that were asked for; who tells a ModelConfig has said what it has."""
    carrier.config, carrier.answers = None, {"more": ("FP32", [1, 2], np.float32([1, 2]))}
    with before(carrier, tmp_path) as sluice:
        asked = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}], "outputs": [{"name": "lost"}, {"name": "more"}]}
        answer = httpx.post(sluice.url + INFER, json=asked)
        assert answer.status_code == 200 and names(answer) == ["more"], answer.text
        with contextlib.closing(tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{sluice.port}")) as client:
            x = tritonclient.grpc.InferInput("x", [1, 2], "FP32")
            x.set_data_from_numpy(np.float32([[1, 2]]))
            got = client.infer("m", [x], outputs=[tritonclient.grpc.InferRequestedOutput(n) for n in ("lost", "more")])
            assert got.get_output("lost") is None and list(got.as_numpy("more")[0]) == [1, 2]
        carrier.answers = {}
        assert names(httpx.post(sluice.url + INFER, json={**asked, "outputs": [{"name": "lost"}]})) == []


def test_an_output_that_a_worker_has_and_leaves_out(carrier, tmp_path):
    carrier.answers = {"scores": ("FP32", [1, 3], np.float32([1, 2, 3]))}
    with before(carrier, tmp_path) as sluice:
        answer = ask(sluice, outputs={})
        assert answer.status_code == 502 and answer.json() == {"error": "the worker left out output 0"}


def half(config):
    octets = config.SerializeToString()
    return b"\x0a" + bytes([len(octets) & 0x7F | 0x80, len(octets) >> 7]) + octets[: len(octets) // 2]


def torn(config):
    """Whole outside, and torn inside."""
    return service_pb2.ModelConfigResponse(config=config).SerializeToString()[:-1] + b"\xff"


def wrong_inside():
    inside = full_config().SerializeToString() + b"\x6a\x05\x1a\x0f\x08\x01\x10"  # sequence_batching { direct: more than there is }
    return b"\x0a" + bytes([len(inside) & 0x7F | 0x80, len(inside) >> 7]) + inside


def huge():
    c = full_config()
    for i in range(3000):
        c.parameters[f"key {i}"].string_value = "v" * 20
    return service_pb2.ModelConfigResponse(config=c).SerializeToString()


@pytest.mark.parametrize(
    "config, why",
    [(half(full_config()), "not whole"), (wrong_inside(), "sequence_batching"), (huge(), "more than 64 KiB"), (b"\x0a\x04\x5a\x02\x08", "")],
    ids=["half", "inside", "huge", "short"],
)
def test_config_that_cannot_be_read(carrier, tmp_path, config, why):
    """Said once, in the log and on /status; the model is served singly, and clients are told what is known."""
    carrier.config = config
    with before(carrier, tmp_path) as sluice:
        event = sluice.wait_event("model_config_refused", model="m")
        assert "the worker's configuration: " in event["why"] and why in event["why"]
        assert heard(ask(sluice))["rows"] == 1
        told = httpx.get(sluice.url + "/v2/models/m/config").json()
        assert told["name"] == "m" and told["max_batch_size"] == 0 and "sequence_batching" not in told
        refused = lambda: [w["config_refused"] for loop in sluice.status_page()["loops"] for w in loop["holds"]["workers"]]  # noqa: E731
        assert wait_for(lambda: all("m" in r for r in refused()) and refused())[0]["m"] == event["why"]
        assert len(sluice.find("model_config_refused")) == 1


# ---- where a request comes from ----------------------------------------------------------------------

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_trace_of_one(carrier, tmp_path):
    with before(carrier, tmp_path) as sluice:
        fields = {"traceparent": PARENT, "tracestate": "a=1,b=2", "x-request-id": "mine-1"}
        assert heard(ask(sluice, fields))["metadata"] == fields
        channel, infer = infer_call(sluice.port)
        with channel:
            answer = infer(request_of(), metadata=tuple(fields.items()))
        assert json.loads(answer.raw_output_contents[0][4:])["metadata"] == fields
        answer = ask(sluice)  # ours, when the client has none
        assert heard(answer)["metadata"] == {"x-request-id": answer.headers["x-request-id"]}
        for bad in ({"traceparent": "ü".encode()}, {"traceparent": PARENT, "tracestate": "v" * 1100}):
            told = heard(ask(sluice, {"x-request-id": "r", **bad}))["metadata"]
            assert told == {"x-request-id": "r", **({"traceparent": PARENT} if "tracestate" in bad else {})}
        lines = wait_for(lambda: len(sluice.access_log()) >= 5 and sluice.access_log())
        assert all("batch_id" not in line for line in lines)


def test_trace_of_several(carrier, tmp_path):
    """A batch has an id of its own, by which the lines of its requests are found."""
    with before(carrier, tmp_path, BATCHES) as sluice, ThreadPoolExecutor(4) as pool:
        fields = lambda i: {"traceparent": PARENT, "x-request-id": f"mine-{i}"}  # noqa: E731
        words = [heard(a) for a in pool.map(lambda i: ask(sluice, fields(i)), range(4))]
        assert len(carrier.asked) == 1 and words[0]["rows"] == 4
        (name,) = words[0]["metadata"].items()
        assert name[0] == "x-request-id" and len(name[1]) == 16
        asked = lambda: [line for line in sluice.access_log() if line.get("id", "").startswith("mine-")]  # noqa: E731
        lines = wait_for(lambda: len(asked()) == 4 and asked())
        assert {line["batch_id"] for line in lines} == {name[1]}


# ---- models that are not served ----------------------------------------------------------------------


def not_usable(sluice):
    """Of each loop: {model: why}"""
    return [w["not_usable"] for loop in sluice.status_page()["loops"] for w in loop["holds"]["workers"]]


class Full(Carrier):
    """Models that are served, loaded, refused, and given to others."""

    MODELS = [("m", "READY", ""), ("other", "READY", ""), ("bro ken", "READY", ""), ("loading", "LOADING", ""), ("bad", "UNAVAILABLE", "no such file"), ("away", "", ""), ("gone", "UNAVAILABLE", "unloaded")]

    def RepositoryIndex(self, octets, context):
        answer = service_pb2.RepositoryIndexResponse()
        for name, state, reason in self.MODELS:
            answer.models.add(name=name, version="1", state=state, reason=reason)
        return answer.SerializeToString()

    def ModelReady(self, octets, context):
        return b""


@contextlib.contextmanager
def serving(double, **more):
    server, double.port = serve(double, "127.0.0.1:0", threads=8)
    try:
        yield double
    finally:
        server.stop(None)


def test_each_model_that_is_not_served_is_named(tmp_path):
    """Once in the log, and on /status, with its reason."""
    elsewhere = 'model "other" { worker = "v" } worker "v" { addresses = {"grpc://127.0.0.1:1"} }'
    with serving(Full()) as full, before(full, tmp_path, elsewhere) as sluice:
        assert "another worker" in sluice.wait_event("model_not_served", model="other", worker="w/0")["why"]
        assert "its name is not" in sluice.wait_event("model_not_usable", model="bro ken")["why"]
        assert sluice.wait_event("model_not_usable", model="bad")["why"] == "UNAVAILABLE: no such file"
        unloaded = sluice.wait_event("models_not_loaded")
        assert unloaded["models"] == 3 and set(unloaded["names"].split(", ")) == {"loading", "away", "gone"}
        wait_for(lambda: all(len(w) == 6 for w in not_usable(sluice) if w))
        assert not_usable(sluice)[0]["other"] == sluice.find("model_not_served")[0]["why"]
        rounds = full.calls["RepositoryIndex"]
        wait_for(lambda: full.calls["RepositoryIndex"] > rounds + 5)
        for event in ("model_not_served", "models_not_loaded"):
            assert len(sluice.find(event)) == 1
        assert len(sluice.find("model_not_usable")) == 2


class NoIndex(Carrier):
    def RepositoryIndex(self, octets, context):
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, "")


class Named(Carrier):
    """One model of another name, of many versions."""

    NAME, VERSIONS = "c++@v1~x", ["v1.0", *map(str, range(1, 301)), "2024-01-01+rc"]

    def RepositoryIndex(self, octets, context):
        answer = service_pb2.RepositoryIndexResponse()
        for version in self.VERSIONS:
            answer.models.add(name=self.NAME, version=version, state="State.READY")
        return answer.SerializeToString()

    def ModelMetadata(self, octets, context):
        answer = service_pb2.ModelMetadataResponse.FromString(super().ModelMetadata(octets, context))
        answer.name = self.NAME
        del answer.versions[:]  # as MLServer's: the index has them
        return answer.SerializeToString()


def test_names_and_versions(tmp_path):
    """Names that repositories have, however the client escapes them; versions of any spelling, and all of them."""
    with serving(Named()) as named:
        config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{named.port}"], models=f'model "{Named.NAME}" {{ }}')
        with Sluice(config, wait_models=(Named.NAME,)) as sluice:
            for name in (Named.NAME, "c%2B%2B%40v1%7Ex", "c%2b+@v1~x"):
                for version in ("v1.0", "1", "9", "300", "2024-01-01%2Brc"):
                    answer = httpx.post(f"{sluice.url}/v2/models/{name}/versions/{version}/infer", json={"inputs": [tensor()]})
                    assert heard(answer)["version"] == version.replace("%2B", "+"), answer.text
                    assert answer.headers["sluice-model"].startswith("c++@v1~x;version=")
            answer = httpx.post(f"{sluice.url}/v2/models/{Named.NAME}/versions/301/infer", json={"inputs": [tensor()]})
            assert answer.status_code == 404
            for name in ("c%252B%252B%2540v1~x", "c:x", "c%2Fx", "a%00b", "c++%E9"):  # nothing is unescaped into another name
                assert httpx.post(f"{sluice.url}/v2/models/{name}/infer", json={"inputs": [tensor()]}).status_code in (400, 404)
            assert all(t["version"] != "301" for t in named.asked)
            q = request_of()
            q.model_name, q.model_version = Named.NAME, "v1.0"
            channel, infer = infer_call(sluice.port)
            with channel:
                assert json.loads(infer(q).raw_output_contents[0][4:])["version"] == "v1.0"
            with contextlib.closing(tritonclient.http.InferenceServerClient(f"127.0.0.1:{sluice.port}")) as client:
                assert client.is_model_ready(Named.NAME) and client.get_model_metadata(Named.NAME)["name"] == Named.NAME
            assert sluice.stop() == 0


def test_a_server_without_an_index(tmp_path):
    """KServe's: without sections that name its models nothing of it can be served, and it is said why."""
    with serving(NoIndex()) as double:
        config = configuration(tmp_path, addresses=[f"grpc://127.0.0.1:{double.port}"])
        with Sluice(config, wait_models=()) as sluice:
            assert "RepositoryIndex" in sluice.wait_event("worker_serves_nothing")["why"]
            assert sluice.stop() == 0
