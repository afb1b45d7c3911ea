"""Rows 118, 119 and 121 of hostile input: model files. A bad one is refused with its reason, the rest serve."""
import os
import signal
import struct

import httpx
import pytest
from harness import GOOD_BODY, MODELS, SANITIZED, Sluice, Worker, configuration, copy_model, memory_kib, wait_for
from onnx_file import INT64, add_model, attribute, graph, model, node, number, octets, tensor, value, varint

INFER = "/v2/models/digits/infer"
ONES = struct.pack("<4f", 1, 1, 1, 1)
GOOD = add_model(tensor("w", [4], ONES))


def nested(depth):
    """A subgraph in a subgraph in ..."""
    inner = b""
    for _ in range(depth):
        inner = octets(1, node("If", ["c"], ["y"], attribute("then_branch", 5, octets(6, inner))))
    return inner


BROKEN = {
    "dim_negative": add_model(tensor("w", [-4], ONES)),
    "dim_wraps": add_model(tensor("w", [1 << 32, 1 << 32], ONES)),
    "dim_wraps_bytes": add_model(tensor("w", [1 << 62], ONES)),
    "dim_more_than_data": add_model(tensor("w", [1 << 30], ONES)),
    "data_short": add_model(tensor("w", [4], ONES[:-1])),
    "data_long": add_model(tensor("w", [4], ONES * 2)),
    "no_data": add_model(tensor("w", [4])),
    "many_dims": add_model(tensor("w", [1] * 1000, ONES[:4])),
    "no_type": add_model(tensor("w", [4], ONES, type_=0)),
    "strange_type": add_model(tensor("w", [4], ONES, type_=99)),
    "twice": add_model(tensor("w", [4], ONES), tensor("w", [4], ONES)),
    "input_negative": add_model(tensor("w", [4], ONES), x=("n", -4)),
    "input_wraps": add_model(tensor("w", [1], ONES[:4]), x=("n", 1 << 31, 1 << 31, 4), y=("n", 1 << 31, 1 << 31, 4)),
    "shapes_differ": add_model(tensor("w", [3], ONES[:12])),
    "no_such_input": add_model(nodes=[node("Add", ["x", "nobody"], ["y"])]),
    "circle": add_model(nodes=[node("Add", ["x", "b"], ["a"]), node("Add", ["x", "a"], ["b"]), node("Relu", ["a"], ["y"])]),
    "output_twice": add_model(nodes=[node("Relu", ["x"], ["y"]), node("Relu", ["x"], ["y"])]),
    "many_inputs": add_model(nodes=[node("Concat", ["x"] * 100000, ["y"], attribute("axis", 2, number(3, 1)))]),
    "nested": model(nested(5000)),
    "graph_in_attribute": add_model(nodes=[node("If", ["x"], ["y"], attribute("then_branch", 5, octets(6, nested(200))))]),
    "opset_of_the_future": model(graph([node("Relu", ["x"], ["y"])], [value("x", ["n", 4])], [value("y", ["n", 4])]), opset=9999),
    "foreign_domain": add_model(nodes=[node("Relu", ["x"], ["y"]) + octets(7, "com.example")]),
    "no_graph": number(1, 8),
    "length_2_63": b"\x3a" + varint(1 << 63),
    "groups": b"\x0b" * 10000,
    "perm_out_of_range": add_model(nodes=[node("Transpose", ["x"], ["y"], attribute("perm", 7, number(8, 0) + number(8, 7)))]),
    "pads_negative": add_model(
        tensor("w", [1, 1, 3, 3], bytes(36)),
        x=("n", 1, 8, 8),
        y=("n", 1, 8, 8),
        nodes=[node("Conv", ["x", "w"], ["y"], attribute("pads", 7, b"".join(number(8, -(1 << 40)) for _ in range(4))))],
    ),
    "stride_zero": add_model(
        tensor("w", [1, 1, 3, 3], bytes(36)),
        x=("n", 1, 8, 8),
        y=("n", 1, 8, 8),
        nodes=[node("Conv", ["x", "w"], ["y"], attribute("strides", 7, number(8, 0) + number(8, 0)))],
    ),
    "kernel_huge": add_model(
        x=("n", 1, 8, 8),
        y=("n", 1, 8, 8),
        nodes=[node("MaxPool", ["x"], ["y"], attribute("kernel_shape", 7, number(8, 1 << 40) + number(8, 1 << 40)))],
    ),
    "reshape_wraps": add_model(
        tensor("w", [3], struct.pack("<3q", 1 << 32, 1 << 32, 4), type_=7), nodes=[node("Reshape", ["x", "w"], ["y"])]
    ),
}


def put(repository, name, data):
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def x_body():
    return b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A worker that was offered all of them."""
    repository = tmp_path_factory.mktemp("broken") / "models"
    put(repository, "good", GOOD)
    for name, data in BROKEN.items():
        put(repository, name, data)
    with Worker(repository) as worker:
        yield worker
        assert worker.stop() == 0, worker.text


def test_the_file_that_is_right_is_served(broken):
    answer = httpx.post(f"http://127.0.0.1:{broken.port}/v2/models/good/infer", content=x_body())
    assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2, 3, 4, 5]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_refused_with_its_reason(broken, name):
    """119"""
    assert len(broken.wait_event("model_refused", model=name)["why"]) > 10
    assert httpx.get(f"http://127.0.0.1:{broken.port}/v2/models/{name}").status_code == 404


def test_what_was_refused_left_no_memory(broken):
    assert SANITIZED or memory_kib(broken.pid) < 200 << 10


def test_external_data_is_read_within_the_repository_only(tmp_path):
    """118: links within it are followed; a parent, an absolute path, a link that leads out are refused by name."""
    repository = tmp_path / "models"
    secret = tmp_path / "secret"
    secret.write_bytes(ONES)
    place = "expected a path below the model's folder"
    out = "a link leads out of the repository"
    refused = {"parent": ("../../../secret", place), "sibling": ("../../right/1/right.bin", place), "absolute": (str(secret), place)}
    refused |= {"device": ("/dev/zero", place), "empty": ("", place), "missing": ("missing.bin", "No such file")}
    refused |= {"link": ("link.bin", out), "far": ("far/secret", out), "pipe": ("pipe.bin", "not a regular file")}
    refused |= {"folder": ("sub", "not a regular file"), "short": ("short.bin", "too short"), "loop": ("loop.bin", "Too many levels")}
    served = {"right": "right.bin", "below": "sub/w.bin", "near": "near.bin", "shared": "shared/w.bin"}
    for name, location in served.items() | {n: p for n, (p, _) in refused.items()}.items():
        put(repository, name, add_model(tensor("w", [4], location=location)))
    (repository / "link/1/link.bin").symlink_to(secret)
    (repository / "far/1/far").symlink_to("../../..")
    os.mkfifo(repository / "pipe/1/pipe.bin")
    (repository / "folder/1/sub").mkdir()
    (repository / "short/1/short.bin").write_bytes(ONES[:15])
    (repository / "loop/1/loop.bin").symlink_to("loop.bin")
    (repository / "right/1/right.bin").write_bytes(ONES)
    (repository / "below/1/sub").mkdir()
    (repository / "below/1/sub/w.bin").write_bytes(ONES)
    (repository / ".blobs").mkdir()
    (repository / ".blobs/w.bin").write_bytes(ONES)
    (repository / "near/1/near.bin").symlink_to("../../.blobs/w.bin")
    (repository / "shared/1/shared").symlink_to("../../.blobs")
    with Worker(repository) as worker:
        for name, (_, want) in refused.items():
            why = worker.wait_event("model_refused", model=name)["why"]
            assert why.startswith('tensor "w": ') and want in why, why
        for name in served:
            answer = httpx.post(f"http://127.0.0.1:{worker.port}/v2/models/{name}/infer", content=x_body())
            assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [2, 3, 4, 5], name


def test_external_data_of_more_than_two_gigabytes(tmp_path):
    """A file that protobuf could not hold, of which the model wants a part behind 2^31 and one behind 2^32."""
    repository = tmp_path / "models"
    places = [(1 << 31) + 4, (1 << 32) + 64]
    where = lambda at: octets(13, octets(1, "location") + octets(2, "w.bin")) + octets(13, octets(1, "offset") + octets(2, str(at))) + number(14, 1)  # noqa: E731
    weights = [tensor(n, [4], more=where(at)) for n, at in zip("wv", places)]
    put(repository, "large", add_model(*weights, nodes=[node("Add", ["x", "w"], ["s"]), node("Add", ["s", "v"], ["y"])]))
    with open(repository / "large/1/w.bin", "wb") as f:  # sparse: it takes no room
        for at in places:
            f.seek(at)
            f.write(ONES)
    with Worker(repository) as worker:
        answer = httpx.post(f"http://127.0.0.1:{worker.port}/v2/models/large/infer", content=x_body())
        assert answer.status_code == 200 and answer.json()["outputs"][0]["data"] == [3, 4, 5, 6]
        assert SANITIZED or memory_kib(worker.pid, "VmHWM") < 200 << 10


def test_links_of_models_and_versions(tmp_path):
    """118: within the repository they are followed. A model's directory may lie elsewhere, as operators lay them
    out; then what is in it has to be within that."""
    real = tmp_path / "real"
    copy_model(MODELS / "digits/1/model.onnx", real, "digits")
    repository = tmp_path / "models"
    copy_model(MODELS / "digits/1/model.onnx", repository, "whole_here")
    (repository / "version/1").parent.mkdir()
    (repository / "version/1").symlink_to(real / "digits/1")
    (repository / "version_here").mkdir()
    (repository / "version_here/1").symlink_to("../whole_here/1")
    (repository / "file/1").mkdir(parents=True)
    (repository / "file/1/model.onnx").symlink_to(real / "digits/1/model.onnx")
    (repository / "whole").symlink_to(real / "digits")
    (real / "digits/2").mkdir()
    (real / "digits/2/model.onnx").symlink_to("../1/model.onnx")
    (real / "digits/3").symlink_to("../../models/whole_here/1")
    with Worker(repository) as worker:
        worker.wait_event("model_loaded", model="whole", version="1")
        worker.wait_event("model_loaded", model="whole", version="2")
        worker.wait_event("model_loaded", model="version_here")
        for name, version in (("file", "1"), ("version", "1"), ("whole", "3")):
            why = worker.wait_event("model_refused", model=name, version=version)["why"]
            assert "a link leads out of the repository" in why


def test_a_file_that_changes_while_it_serves(tmp_path):
    """121: what serves was read whole and checked. A worker that starts again takes what is there then."""
    repository = tmp_path / "models"
    for name in ("digits", "digits-small"):
        copy_model(MODELS / name / "1/model.onnx", repository, name)
    path = repository / "digits/1/model.onnx"
    whole = path.read_bytes()
    with Sluice(configuration(tmp_path, repository=repository), wait_models=("digits", "digits-small")) as sluice:
        with httpx.Client(base_url=sluice.url, timeout=30) as client:
            right = client.post(INFER, content=GOOD_BODY).json()["outputs"]
            for change in (b"", whole[:100], bytes(len(whole)), b"\xff" * 10):
                path.write_bytes(change)  # in place: a mapping would see it, or die of SIGBUS
                for _ in range(5):
                    assert client.post(INFER, content=GOOD_BODY).json()["outputs"] == right
            os.kill(sluice.worker_pid(), signal.SIGKILL)
            sluice.wait_event("model_refused", model="digits")
            sluice.wait_model("digits-small")
            wait_for(lambda: client.post("/v2/models/digits-small/infer", content=GOOD_BODY).status_code == 200)
            assert client.post(INFER, content=GOOD_BODY).status_code in (404, 503)
            path.write_bytes(whole)
            os.kill(sluice.find("worker_started")[-1]["pid"], signal.SIGKILL)
            wait_for(lambda: client.post(INFER, content=GOOD_BODY).status_code == 200, 30)
            assert client.post(INFER, content=GOOD_BODY).json()["outputs"] == right
        assert sluice.stop() == 0


def test_a_list_longer_than_any_batch(tmp_path):
    """What a model makes of all its input at once has no rows: 6,000 elements are one request, and their places come back."""
    repository = tmp_path / "models"
    places = model(graph([node("NonZero", ["x"], ["y"])], [value("x", ["n"])], [value("y", [1, "k"], INT64)]))
    put(repository, "places", places)
    copy_model(MODELS / "digits" / "1" / "model.onnx", repository, "digits")
    x = [float(i % 3 == 0) for i in range(6000)]
    body = {"inputs": [{"name": "x", "shape": [6000], "datatype": "FP32", "data": x}]}
    with Sluice(configuration(tmp_path / "gateway", repository), wait_models=("digits", "places")) as sluice:
        for _ in range(3):
            got = httpx.post(sluice.url + "/v2/models/places/infer", json=body, timeout=30)
            assert got.status_code == 200, got.text
            out = got.json()["outputs"][0]
            assert out["shape"] == [1, 2000] and out["data"] == list(range(0, 6000, 3))
        assert sluice.stop() == 0, sluice.text
