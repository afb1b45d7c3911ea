"""`sluice-worker explain`: what a model becomes, in tables and as a picture, and whether it gives what it gave."""
import json
import re
import struct
import subprocess

import pytest
from harness import MODELS, WORKER
from onnx_file import INT64, attribute, graph, model, node, number, octets, tensor, value

W = tensor("w", [4, 3], struct.pack("<12f", *(i / 8 for i in range(12))))
# y = relu(x w); z = y read as [n, 3] again; unread: never run
NODES = [node("MatMul", ["x", "w"], ["m"], name="product"), node("Relu", ["m"], ["y"], name="cut"), node("Neg", ["y"], ["z"], name="minus")]
SMALL = model(graph(NODES, [value("x", ("n", 4))], [value("y", ("n", 3)), value("z", ("n", 3))], [W]))


def explain(*words, status=0):
    done = subprocess.run([WORKER, "explain", *map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


@pytest.fixture
def small(tmp_path):
    (tmp_path / "model.onnx").write_bytes(SMALL)
    return tmp_path


def test_tables(small):
    out, _ = explain(small, "--rows", 5, "--runs", 3)
    lines = out.splitlines()
    assert lines[:4] == ["input     x FP32 [-1,4]", "output    y FP32 [-1,3]", "output    z FP32 [-1,3]", "batches   yes"]
    assert "fused     1 x Relu into MatMul" in lines
    steps = [line.split() for line in lines if re.match(r" +\d+  ", line)]
    assert [s[1:4] for s in steps][0] == ["MatMul", "+", "Relu"] and "product" in steps[0] and "[5,3]" in steps[0]
    assert steps[1][1:4] == ["Neg", "minus", "[5,3]"] and len(steps) == 2
    assert lines[-1].startswith("a run")
    assert explain(small / "model.onnx")[0].startswith("input     x FP32 [-1,4]")


def test_what_was_folded_and_what_does_not_batch(tmp_path):
    shape = tensor("s", [2], struct.pack("<2q", 2, 2), type_=INT64)
    nodes = [node("Neg", ["s"], ["t"]), node("Abs", ["t"], ["u"]), node("Reshape", ["x", "u"], ["y"])]
    (tmp_path / "model.onnx").write_bytes(model(graph(nodes, [value("x", (1, 4))], [value("y", (2, 2))], [shape])))
    out, _ = explain(tmp_path)
    assert "folded    1 x Neg" in out and "          1 x Abs" in out
    assert 'batches   no: input "x" has a fixed first dimension' in out
    assert re.search(r"0  Reshape .*\[2,2\] +the same", out)


def test_a_picture(small):
    out, _ = explain(small, "--dot")
    assert out.startswith("digraph model {") and out.rstrip().endswith("}")
    assert 's0 [label="MatMul + Relu\\nproduct\\n' in out and re.search(r"v\d+ -> s1;", out)
    assert out.count("{") == out.count("}") and out.count('"') % 2 == 0


def test_shapes_of_one_s_own(tmp_path):
    nodes = [node("Relu", ["x"], ["y"])]
    (tmp_path / "model.onnx").write_bytes(model(graph(nodes, [value("x", ("n", "m", "k"))], [value("y", ("n", "m", "k"))])))
    assert "[2,7,5]" in explain(tmp_path, "--shape", "x=2,7,5")[0]
    assert "[3,9,9]" in explain(tmp_path, "--rows", 3, "--length", 9)[0]
    for wrong in ("x=2,7", "x=2,7,5,1", "x=a,b,c", "x=1,2,-3"):
        assert "expected as many dimensions" in explain(tmp_path, "--shape", wrong, status=2)[1]


def test_every_demo_model(tmp_path):
    for path in sorted(MODELS.glob("*/1/model.onnx")):
        assert "a run" in explain(path)[0]


def recorded(rows, y, dtype="f32"):
    flat = [v for r in rows for v in r]
    out = {"dtype": dtype, "shape": [len(rows), 3], "data": y}
    return {"name": f"{len(rows)} rows", "inputs": {"x": {"dtype": "f32", "shape": [len(rows), 4], "data": flat}}, "outputs": {"y": out}}


def test_checked_against_json(small):
    right = [recorded([[1, 2, 3, 4]], [7.5, 8.75, 10]), recorded([[0, 0, 0, 0]] * 300, [0] * 900)]
    (small / "x.bin").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    by_file = recorded([[1, 2, 3, 4]], [7.5, 8.75, 10.0000001])
    by_file["inputs"]["x"] = {"dtype": "f32", "shape": [1, 4], "bin": "x.bin"}
    (small / "reference.json").write_text(json.dumps({"cases": [*right, by_file]}))
    out, _ = explain(small, "--check", small / "reference.json")
    assert out.splitlines()[-1] == "3 right, 0 wrong"
    cases = [recorded([[1, 2, 3, 4]], [7.5, 8.75, 11]), recorded([[1, 2, 3, 4]], [7, 8, 10], "i32"), right[0]]
    cases.append({**right[0], "inputs": {"nobody": right[0]["inputs"]["x"]}})
    (small / "wrong.json").write_text(json.dumps({"cases": cases}))
    out, _ = explain(small, "--check", small / "wrong.json", status=1)
    lines = out.splitlines()
    assert lines[0].startswith("WRONG   1 rows: y: ") and lines[1] == "WRONG   1 rows: y: FP32 [1,3], expected INT32 [1,3]"
    assert lines[3] == "WRONG   1 rows: x: the data has no such input" and lines[-1] == "1 right, 3 wrong"
    assert explain(small, "--check", small / "wrong.json", "--atol", 2, status=1)[0].splitlines()[0].startswith("right")
    for name, text in (("none.json", None), ("bad.json", "{"), ("empty.json", "{}")):
        if text is not None:
            (small / name).write_text(text)
        assert name in explain(small, "--check", small / name, status=1)[1]


@pytest.mark.parametrize("side", ["inputs", "outputs"])
@pytest.mark.parametrize("dtype, size", [("f32", 4), ("i64", 8)])
def test_a_file_of_data_has_to_fill_its_shape(small, side, dtype, size):
    """Of the model's dtype or of another, too short, too long or empty: never read past its end, nor believed."""
    for n in (0, 1, 4, 3 * size - 1, 4 * size + 1, 5000):
        case = recorded([[1, 2, 3, 4]], [7.5, 8.75, 10])
        (tensor_of_it,) = case[side].values()
        del tensor_of_it["data"]
        tensor_of_it.update(bin="t.bin", dtype=dtype)
        (small / "t.bin").write_bytes(bytes(n))
        (small / "r.json").write_text(json.dumps({"cases": [case]}))
        out, err = explain(small, "--check", small / "r.json", status=1)
        assert err == f"sluice-worker: {'x' if side == 'inputs' else 'y'}: its data does not fill its shape\n" and "right " not in out


def test_no_data_is_data_of_no_elements(tmp_path):
    (tmp_path / "model.onnx").write_bytes(model(graph([node("Relu", ["x"], ["y"])], [value("x", ("n", "m"))], [value("y", ("n", "m"))])))
    empty = {"dtype": "f32", "shape": [1, 0], "bin": "empty.bin"}
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "r.json").write_text(json.dumps({"cases": [{"name": "none", "inputs": {"x": empty}, "outputs": {"y": empty}}]}))
    assert explain(tmp_path, "--check", tmp_path / "r.json")[0] == "right   none: y: 0 of the tolerance\n1 right, 0 wrong\n"


def test_checked_against_test_data(small):
    x, y = tensor("x", [1, 4], struct.pack("<4f", 1, 2, 3, 4)), number(1, 1) + number(1, 3) + number(2, 1) + octets(8, "y")
    for k, last in enumerate((10, 11)):
        (small / f"test_data_set_{k}").mkdir()
        (small / f"test_data_set_{k}/input_0.pb").write_bytes(x)
        (small / f"test_data_set_{k}/output_0.pb").write_bytes(y + octets(4, struct.pack("<3f", 7.5, 8.75, last)))
    out, _ = explain(small, "--check", small, status=1)
    assert [line.split(":")[0] for line in out.splitlines()[:2]] == ["right   test_data_set_0", "WRONG   test_data_set_1"]
    assert explain(small, "--check", small / "test_data_set_0")[0].splitlines()[-1] == "1 right, 0 wrong"
    (small / "test_data_set_0/input_0.pb").write_bytes(x[:-1])
    assert "input_0.pb" in explain(small, "--check", small / "test_data_set_0", status=1)[1]


def test_strings_are_checked_too(tmp_path):
    nodes = [node("StringNormalizer", ["x"], ["y"], attribute("case_change_action", 3, octets(4, "LOWER")))]
    (tmp_path / "model.onnx").write_bytes(model(graph(nodes, [value("x", ("n",), 8)], [value("y", ("n",), 8)])))
    case = {"name": "words", "inputs": {"x": {"dtype": "str", "shape": [2], "data": ["AB", ""]}}, "outputs": {"y": {"dtype": "str", "shape": [2], "data": ["ab", ""]}}}
    (tmp_path / "r.json").write_text(json.dumps({"cases": [case]}))
    assert explain(tmp_path, "--check", tmp_path / "r.json")[0] == "right   words: y: the same\n1 right, 0 wrong\n"


def test_what_cannot_be_explained(tmp_path):
    assert "No such file" in explain(tmp_path / "none.onnx", status=1)[1]
    assert "model.onnx: No such file" in explain(tmp_path, status=1)[1]
    (tmp_path / "model.onnx").write_bytes(b"junk")
    assert "not an ONNX file" in explain(tmp_path, status=1)[1]
    for words in ((), ("a", "b"), ("--rows", "0", "a"), ("--rows", "x", "a"), ("--atol", "-1", "a"), ("--nothing", "a")):
        assert explain(*words, status=2)[1]
    assert "usage" in explain("--help")[0]
