"""Repositories as Triton's users have them: config.pbtxt is followed, and what is not is told by name."""
import struct
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.http
from harness import Sluice, Worker, configuration
from onnx_file import add_model, attribute, graph, model, node, number, octets, tensor, value

INT32, STRING = 6, 8
ONES = struct.pack("<4f", 1, 1, 1, 1)

CONFIG = """
name: "eight"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 4 ] } ]
dynamic_batching { max_queue_delay_microseconds: 100 default_queue_policy { max_queue_size: 7 } }
instance_group [ { count: 2 kind: KIND_CPU } ]
model_warmup [ { name: "two" batch_size: 2 count: 3 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 random_data: true } } },
               { name: "file" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 4 input_data_file: "x.bin" } } } ]
parameters { key: "intra_op_thread_count" value { string_value: "4" } }
"""


def put(repository, name, octets, config=None, version="1", file="model.onnx"):
    (repository / name / version).mkdir(parents=True)
    (repository / name / version / file).write_bytes(octets)
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


def ask(worker, name, rows, **more):
    x = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": rows}
    return httpx.post(f"http://127.0.0.1:{worker.port}/v2/models/{name}/infer", json={"inputs": [x], **more})


def test_an_existing_repository_is_served_as_it_is(tmp_path):
    repository = tmp_path / "models"
    one = add_model(tensor("w", [4], ONES))
    put(repository, "eight", one, CONFIG)
    (repository / "eight/warmup").mkdir()
    (repository / "eight/warmup/x.bin").write_bytes(ONES)
    put(repository, "named", one, 'default_model_filename: "net.onnx" max_batch_size: 2', file="net.onnx")
    two = graph([node("Add", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])], [value("x", ("n", 4))], [value("y", ("n", 4)), value("z", ("n", 4))], [tensor("w", [4], ONES)])
    put(repository, "chosen", model(two), 'max_batch_size: 4 output { name: "z" data_type: TYPE_FP32 dims: 4 }')
    free = model(graph([node("Relu", ["x"], ["y"])], [value("x", ("n", "m"))], [value("y", ("n", "m"))]))
    put(repository, "fixed", free, 'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 3 }')
    with Worker(repository) as worker:
        told = worker.wait_event("model_config_not_followed", model="eight")["why"]
        assert told == "dynamic_batching.default_queue_policy (line 7), parameters.intra_op_thread_count (line 11)"
        assert worker.wait_event("model_loaded", model="eight")["why"] == "batched"
        assert httpx.get(f"http://127.0.0.1:{worker.port}/v2/models/eight/config").json()["max_batch_size"] == 8
        assert ask(worker, "eight", [[1, 2, 3, 4]] * 8).json()["outputs"][0]["data"] == [2, 3, 4, 5] * 8
        answer = ask(worker, "eight", [[1, 2, 3, 4]] * 9)
        assert answer.status_code == 400 and answer.json()["error"] == "inputs: expected at most 8 rows for model eight, got 9"
        assert ask(worker, "named", [[1, 2, 3, 4]] * 2).json()["outputs"][0]["data"] == [2, 3, 4, 5] * 2
        assert ask(worker, "named", [[1, 2, 3, 4]] * 3).status_code == 400
        outputs = ask(worker, "chosen", [[-9, 2, 3, 4]]).json()["outputs"]
        assert [o["name"] for o in outputs] == ["z"] and outputs[0]["data"] == [0, 3, 4, 5]
        assert ask(worker, "chosen", [[1, 2, 3, 4]], outputs=[{"name": "y"}]).status_code == 400
        assert ask(worker, "fixed", [[-1, 2, 3]]).json()["outputs"][0]["data"] == [0, 2, 3]
        answer = ask(worker, "fixed", [[1, 2]])
        assert answer.status_code == 400 and "expected [-1,3], got [1,2]" in answer.json()["error"]
        metadata = httpx.get(f"http://127.0.0.1:{worker.port}/v2/models/fixed").json()
        assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]


def test_what_the_log_and_the_index_say_of_a_config_that_is_wrong(tmp_path):
    repository = tmp_path / "models"
    one = add_model(tensor("w", [4], ONES))
    put(repository, "good", one, "max_batch_size: 8")
    put(repository, "misspelt", one, "max_batch_size: 8\nmax_batchsize: 9\n")
    put(repository, "binary", one, "")
    (repository / "binary/config.pbtxt").write_bytes(bytes(range(256)))
    put(repository, "pytorch", one, 'backend: "pytorch"')
    wants = {"misspelt": 'config.pbtxt:2: unknown field "max_batchsize"', "binary": "config.pbtxt:1: this is not text"}
    wants["pytorch"] = 'config.pbtxt: backend: expected onnxruntime, got "pytorch"'
    with Worker(repository) as worker:
        client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{worker.port}")
        lines = {m["name"]: m for m in client.get_model_repository_index()}
        client.close()
        for name, why in wants.items():
            assert worker.wait_event("model_refused", model=name)["why"] == why
            assert lines[name]["state"] == "UNAVAILABLE" and lines[name]["reason"] == why
        assert lines["good"]["state"] == "READY" and ask(worker, "good", [[1, 2, 3, 4]]).status_code == 200


def test_the_first_model_of_every_newcomer(tmp_path):
    """Sum and difference of whole numbers, batched; float32 would round the first two."""
    repository = tmp_path / "models"
    names, nodes = ("INPUT0", "INPUT1"), [node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]), node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"])]
    ports = [[value(n, ("n", 16), INT32) for n in group] for group in (names, ("OUTPUT0", "OUTPUT1"))]
    config = 'name: "simple" platform: "onnxruntime_onnx" max_batch_size: 8\n'
    for kind, group in (("input", names), ("output", ("OUTPUT0", "OUTPUT1"))):
        config += f"{kind} [" + ", ".join(f'{{ name: "{n}" data_type: TYPE_INT32 dims: [ 16 ] }}' for n in group) + "]\n"
    put(repository, "simple", model(graph(nodes, *ports)), config)
    a = np.arange(32, dtype=np.int32).reshape(2, 16)
    b = np.full((2, 16), 3, np.int32)
    b[0, :2] = 2147483647, -2147483646
    with Worker(repository) as worker:
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{worker.port}")
        inputs = [tritonclient.grpc.InferInput(n, [2, 16], "INT32") for n in names]
        for i, x in zip(inputs, (a, b)):
            i.set_data_from_numpy(x)
        answer = client.infer("simple", inputs)
        with np.errstate(over="ignore"):
            assert np.array_equal(answer.as_numpy("OUTPUT0"), a + b) and np.array_equal(answer.as_numpy("OUTPUT1"), a - b)
        client.close()


def words_model():
    """label: the number of a word; again: the words themselves; counts: how often each word is in its row."""
    strings = lambda *words: b"".join(octets(9, w) for w in words)  # noqa: E731
    ml = octets(7, "ai.onnx.ml")
    nodes = [
        node("LabelEncoder", ["x"], ["label"], attribute("keys_strings", 8, strings("yes", "no")) + attribute("values_int64s", 7, number(8, 1) + number(8, 0))) + ml,
        node("Identity", ["x"], ["again"]),
        node(
            "TfIdfVectorizer",
            ["x"],
            ["counts"],
            attribute("mode", 3, octets(4, "TF")) + attribute("pool_strings", 8, strings("yes", "no"))
            + b"".join(attribute(n, 2, number(3, v)) for n, v in (("min_gram_length", 1), ("max_gram_length", 1), ("max_skip_count", 0)))
            + attribute("ngram_counts", 7, number(8, 0)) + attribute("ngram_indexes", 7, number(8, 0) + number(8, 1)),
        ),
    ]  # fmt: skip
    outputs = [value("label", ("n", 3), 7), value("again", ("n", 3), STRING), value("counts", ("n", 2))]
    return model(graph(nodes, [value("x", ("n", 3), STRING)], outputs), opset=17) + octets(8, octets(1, "ai.onnx.ml") + number(2, 2))


def test_strings_in_and_out_batched_through_the_gateway(tmp_path):
    repository = tmp_path / "models"
    put(repository, "words", words_model(), 'max_batch_size: 32 dynamic_batching { max_queue_delay_microseconds: 2000 } model_warmup { name: "w" batch_size: 2 inputs { key: "x" value { data_type: TYPE_STRING dims: 3 zero_data: true } } }')
    rows = [["yes", "no", "yes"], ["", "yes", "\u00e4\u6f22"], ["no", "no", "yes" * 1000]]
    with Sluice(configuration(tmp_path, repository=repository), wait_models=("words",)) as sluice:
        assert sluice.wait_event("model_loaded", model="words")["why"] == "batched"

        def one(i):
            mine = [rows[(i + k) % 3] for k in range(1 + i % 2)]
            x = {"name": "x", "shape": [len(mine), 3], "datatype": "BYTES", "data": mine}
            answer = httpx.post(f"{sluice.url}/v2/models/words/infer", json={"inputs": [x]}, timeout=30)
            assert answer.status_code == 200, answer.text
            out = {o["name"]: o for o in answer.json()["outputs"]}
            flat = [w for row in mine for w in row]
            assert out["again"]["data"] == flat and out["again"]["datatype"] == "BYTES"
            assert out["label"]["data"] == [{"yes": 1, "no": 0}.get(w, -1) for w in flat]
            assert out["counts"]["data"] == [row.count(w) for row in mine for w in ("yes", "no")]

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(one, range(200)))
        client = tritonclient.grpc.InferenceServerClient(sluice.url.removeprefix("http://"))
        x = tritonclient.grpc.InferInput("x", [1, 3], "BYTES")
        x.set_data_from_numpy(np.array([[b"no", b"\xff\x00", b"yes"]], dtype=np.object_))
        answer = client.infer("words", [x])
        assert answer.as_numpy("label").tolist() == [[0, -1, 1]] and answer.as_numpy("again").tolist() == [[b"no", b"\xff\x00", b"yes"]]
        client.close()


def test_a_model_that_takes_more_than_it_may(tmp_path):
    repository = tmp_path / "models"
    put(repository, "small", add_model(tensor("w", [4], ONES)))
    large = tensor("w", [8 << 20], bytes(32 << 20))
    put(repository, "large", model(graph([node("Add", ["x", "w"], ["y"])], [value("x", ("n", 8 << 20))], [value("y", ("n", 8 << 20))], [large])))
    with Worker(repository, "--model-memory", "16") as worker:
        assert "16 MiB" in worker.wait_event("model_refused", model="large")["why"]
        assert ask(worker, "small", [[1, 2, 3, 4]]).status_code == 200


def test_reshape(tmp_path):
    """What clients see is dims; what the model has is the reshape in it: with and without a batch."""
    repository = tmp_path / "models"
    port = '{0} {{ name: "{1}" data_type: TYPE_FP32 dims: [ {2} ] reshape {{ shape: [ {3} ] }} }}\n'
    one = model(graph([node("Relu", ["x"], ["y"])], [value("x", (1, 3, 2))], [value("y", (1, 3, 2))]))
    put(repository, "one", one, "max_batch_size: 0\n" + port.format("input", "x", "3, 2", "1, 3, 2") + port.format("output", "y", "6", "1, 3, 2"))
    many = model(graph([node("Relu", ["x"], ["y"])], [value("x", ("n", "m"))], [value("y", ("n", "m"))]))
    put(repository, "many", many, "max_batch_size: 4\n" + port.format("input", "x", "-1, 1", "-1") + port.format("output", "y", "1, -1, 1", "-1"))
    put(repository, "vector", model(graph([node("Relu", ["x"], ["y"])], [value("x", ("n",))], [value("y", ("n",))])), "max_batch_size: 4\n" + port.format("input", "x", "1", "") + port.format("output", "y", "1", ""))
    put(repository, "wrong", one, port.format("input", "x", "3, 3", "1, 3, 2"))
    put(repository, "other", one, port.format("input", "x", "3, 2", "3, 2, 1"))

    def infer(name, shape, data):
        x = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
        return httpx.post(f"http://127.0.0.1:{worker.port}/v2/models/{name}/infer", json={"inputs": [x]})

    with Worker(repository) as worker:
        out = infer("one", [3, 2], [-1, 2, 3, 4, 5, 6]).json()["outputs"][0]
        assert out["shape"] == [6] and out["data"] == [0, 2, 3, 4, 5, 6]
        assert infer("one", [1, 3, 2], [1] * 6).status_code == 400
        metadata = httpx.get(f"http://127.0.0.1:{worker.port}/v2/models/one").json()
        assert metadata["inputs"][0]["shape"] == [3, 2] and metadata["outputs"][0]["shape"] == [6]
        out = infer("many", [2, 3, 1], [1, -2, 3, 4, 5, 6]).json()["outputs"][0]
        assert out["shape"] == [2, 1, 3, 1] and out["data"] == [1, 0, 3, 4, 5, 6]
        out = infer("vector", [3, 1], [-1, 2, 3]).json()["outputs"][0]
        assert out["shape"] == [3, 1] and out["data"] == [0, 2, 3]
        assert "reshape: not as many elements as dims" in worker.wait_event("model_refused", model="wrong")["why"]
        assert "reshape: the model has [1,3,2]" in worker.wait_event("model_refused", model="other")["why"]


def test_why_a_batch_went(tmp_path):
    repository = tmp_path / "models"
    config = "max_batch_size: 8 dynamic_batching {{ preferred_batch_size: 4 max_queue_delay_microseconds: {} }}"
    put(repository, "waits", add_model(tensor("w", [4], ONES)), config.format(1000))
    put(repository, "goes", add_model(tensor("w", [4], ONES)), "max_batch_size: 8")
    with Worker(repository) as worker:
        for name, rows, reason in (("waits", 1, "wait"), ("waits", 4, "preferred"), ("waits", 8, "full"), ("goes", 1, "idle"), ("goes", 8, "full")):
            answer = ask(worker, name, [[1, 2, 3, 4]] * rows)
            assert answer.headers["sluice-batch"] == f"{rows};reason={reason}"


def test_as_many_dimensions_as_the_engine_has(tmp_path):
    repository = tmp_path / "models"
    port = '{0} {{ name: "{1}" data_type: TYPE_FP32 dims: [ {2} ] }}\n'

    def relu(name, rank, batch, dims):
        shape = ("n",) * bool(batch) + (1,) * (rank - 1 - bool(batch)) + (2,)
        config = f"max_batch_size: {batch}\n" + port.format("input", "x", dims) + port.format("output", "y", dims)
        put(repository, name, model(graph([node("Relu", ["x"], ["y"])], [value("x", shape)], [value("y", shape)])), config)

    relu("nine", 10, 4, "1, " * 8 + "2")
    relu("sixteen", 16, 0, "1, " * 15 + "2")
    relu("more", 16, 4, "1, " * 15 + "2")  # with the batch in front they would be seventeen
    relu("yetmore", 16, 0, "1, " * 16 + "2")
    with Worker(repository) as worker:
        for name, shape in (("nine", [2] + [1] * 8 + [2]), ("sixteen", [1] * 15 + [2])):
            data = list(range(-1, shape[0] * 2 - 1))
            x = {"name": "x", "shape": shape, "datatype": "FP32", "data": data}
            out = httpx.post(f"http://127.0.0.1:{worker.port}/v2/models/{name}/infer", json={"inputs": [x]}).json()["outputs"][0]
            assert out["shape"] == shape and out["data"] == [max(v, 0) for v in data]
        why = 'config.pbtxt:2: input "x": expected at most 16 dimensions, the batch among them, got 17'
        assert worker.wait_event("model_refused", model="more")["why"] == why
        assert worker.wait_event("model_refused", model="yetmore")["why"] == "config.pbtxt:2: dims: expected at most 16"


def test_a_port_that_stands_there_twice(tmp_path):
    """It must not stand in for the one that is missing."""
    repository = tmp_path / "models"
    two = model(graph([node("Add", ["a", "b"], ["y"])], [value("a", ("n", 4)), value("b", ("n", 4))], [value("y", ("n", 4))]))
    put(repository, "inputs", two, 'max_batch_size: 8\ninput [ { name: "a" },\n{ name: "a" } ]')
    put(repository, "outputs", two, 'output { name: "y" }\noutput { name: "y" }')
    value_ = 'value { data_type: TYPE_FP32 dims: 4 zero_data: true }'
    put(repository, "warmup", two, f'max_batch_size: 8\nmodel_warmup {{ name: "w" inputs {{ key: "a" {value_} }}\ninputs {{ key: "a" {value_} }} inputs {{ key: "b" {value_} }} }}')
    put(repository, "stranger", two, f'max_batch_size: 8\nmodel_warmup {{ name: "w" inputs {{ key: "a" {value_} }}\ninputs {{ key: "c" {value_} }} inputs {{ key: "b" {value_} }} }}')
    put(repository, "good", two, f'max_batch_size: 8\ninput [ {{ name: "b" }}, {{ name: "a" }} ]')
    with Worker(repository) as worker:
        for name, why in (("inputs", 'config.pbtxt:3: input "a"'), ("outputs", 'config.pbtxt:2: output "y"'), ("warmup", 'config.pbtxt:3: model_warmup.inputs "a"')):
            assert worker.wait_event("model_refused", model=name)["why"] == f"{why}: stands there twice"
        assert worker.wait_event("model_refused", model="stranger")["why"] == 'config.pbtxt:3: model_warmup: input "c": the model has none such'
        worker.wait_event("model_loaded", model="good")
