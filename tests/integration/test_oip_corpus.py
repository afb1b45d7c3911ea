"""A corpus of requests, good and bad, over JSON, binary tensors and gRPC: each is answered as a real Triton answered it (tests/oip),
but for the differences that stand there with their reasons."""
import json
import sys

import pytest
from harness import ROOT, Sluice, configuration
from onnx_file import graph, model, node, value

sys.path.append(str(ROOT / "tests" / "oip"))

from corpus import MODELS, ROWS, ask_all  # noqa: E402
from differences import DIFFERENCES  # noqa: E402

TYPES = {"FP32": 1, "UINT8": 2, "INT32": 6, "INT64": 7, "BYTES": 8, "BOOL": 9, "FP16": 10, "FP64": 11}
RECORDED = json.loads((ROOT / "tests" / "oip" / "answers.json").read_text())["answers"]


def identity(tensors):
    nodes = [node("Identity", [n], ["y_" + n], name=n) for n, _, _ in tensors]
    ports = [[value(prefix + n, ("n", *dims), TYPES[t]) for n, t, dims in tensors] for prefix in ("", "y_")]
    return model(graph(nodes, *ports))


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corpus")
    for name, (tensors, most, versions) in MODELS.items():
        for version in versions:
            folder = directory / "models" / name / version
            folder.mkdir(parents=True)
            (folder / "model.onnx").write_bytes(identity(tensors))
        (directory / "models" / name / "config.json").write_text(json.dumps({"max_batch_size": most}))
    with Sluice(configuration(directory, directory / "models"), list(MODELS)) as s:
        yield ask_all(f"127.0.0.1:{s.port}", f"127.0.0.1:{s.port}")
        assert s.stop() == 0, s.text


def is_error(told):
    return told["status"] >= 400 if isinstance(told["status"], int) else told["status"] != "OK"


def shown(told):
    """What two servers have to agree in: of errors not the words."""
    return (told["status"], bool(told["error"])) if is_error(told) else told


def test_the_corpus_is_whole():
    listed = [name for rows in DIFFERENCES.values() for name, _, _ in rows]
    assert len(ROWS) >= 300 and set(ROWS) == set(RECORDED)
    assert len(listed) == len(set(listed)) and set(listed) <= set(ROWS)


def test_answers_are_tritons(ours):
    different = {name: (their, our) for rows in DIFFERENCES.values() for name, their, our in rows}
    wrong = []
    for name, told in ours.items():
        theirs = RECORDED[name]
        if name in different:
            ok = (theirs["status"], told["status"]) == different[name] and shown(told) != shown(theirs)
        elif theirs["status"] == 500:
            ok = told["status"] == 400 and told["error"]
        else:
            ok = shown(told) == shown(theirs)
        if not ok:
            wrong.append(f"{name}\n  ours:   {str(told)[:200]}\n  theirs: {str(theirs)[:200]}")
    assert not wrong, "\n".join(wrong)


def test_every_refusal_has_its_words(ours):
    assert all(told["error"] for told in ours.values() if is_error(told))
