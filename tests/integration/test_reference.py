"""Published models behind the whole gateway: every row of every reference case, alone and in mixed
batches, over JSON and over binary tensors.

Right is what reference.json says, within rtol 1e-3 / atol 1e-4. Over binary, a row that shared a batch must
have the very bits that it has alone: there is no exception, since the kernels sum a row in the same order
whatever stands beside it (engine/README.md).
"""
import concurrent.futures
import http.client
import json
import threading

import numpy as np
import pytest
from conftest import REFERENCE, REFERENCE_MODELS

pytestmark = pytest.mark.reference

SINGLE = ("mnist_cntk", "ultraface_rfb320")  # their first dimension is fixed
BATCHED = [m for m in REFERENCE_MODELS if m not in SINGLE]
CLIENTS = 16


class Case:
    """The rows of one reference case: {name: array} in and out."""

    def __init__(self, name, inputs, outputs):
        self.name, self.inputs, self.outputs = name, inputs, outputs
        self.rows = len(next(iter(inputs.values())))

    def take(self, first, count):
        cut = slice(first, first + count)
        parts = [{k: v[cut] for k, v in side.items()} for side in (self.inputs, self.outputs)]
        return Case(f"{self.name}[{first}:{first + count}]", *parts)


def tensor_of(folder, about):
    assert about["dtype"] == "f32"
    dtype, shape = np.dtype("<f4"), about["shape"]
    if "bin" in about:
        return np.fromfile(folder / about["bin"], dtype).reshape(shape)
    return np.array(about["data"], dtype).reshape(shape)


def cases_of(model):
    folder = REFERENCE / model
    for case in json.loads((folder / "reference.json").read_text())["cases"]:
        sides = [{k: tensor_of(folder, t) for k, t in case[s].items()} for s in ("inputs", "outputs")]
        yield Case(case["name"], *sides)


def rows_of(model):
    return [case.take(i, 1) for case in cases_of(model) for i in range(case.rows)]


# ---- asking ----------------------------------------------------------------------------------------


def json_request(case):
    inputs = [
        {"name": k, "shape": list(v.shape), "datatype": "FP32", "data": v.reshape(-1).tolist()}
        for k, v in case.inputs.items()
    ]
    return json.dumps({"inputs": inputs}).encode(), {}


def binary_request(case):
    inputs, tail = [], b""
    for name, value in case.inputs.items():
        octets = value.tobytes()
        about = {"name": name, "shape": list(value.shape), "datatype": "FP32"}
        inputs.append({**about, "parameters": {"binary_data_size": len(octets)}})
        tail += octets
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head + tail, {"inference-header-content-length": str(len(head))}


def read_answer(body, fields):
    """{name: array}, from either form."""
    n = int(fields.get("inference-header-content-length", len(body)))
    answer, tail, got = json.loads(body[:n]), body[n:], {}
    for out in answer["outputs"]:
        assert out["datatype"] == "FP32"
        if "data" in out:
            got[out["name"]] = np.array(out["data"], "<f4").reshape(out["shape"])
            continue
        size = out["parameters"]["binary_data_size"]
        got[out["name"]] = np.frombuffer(tail[:size], "<f4").reshape(out["shape"])
        tail = tail[size:]
    assert not tail
    return got


class Asker:
    """A connection a thread, kept open; what each batch held is kept too."""

    def __init__(self, sluice, model):
        self.sluice, self.model, self.local = sluice, model, threading.local()
        self.batch_rows = []

    def ask(self, case, binary):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.sluice.port, timeout=60)
        body, fields = binary_request(case) if binary else json_request(case)
        self.local.connection.request("POST", f"/v2/models/{self.model}/infer", body, fields)
        answer = self.local.connection.getresponse()
        octets = answer.read()
        assert answer.status == 200, octets[:300]
        assert answer.headers["sluice-source"] == "model"
        self.batch_rows.append(int(answer.headers["sluice-batch"].split(";")[0]))
        got = read_answer(octets, answer.headers)
        assert got.keys() == case.outputs.keys()
        return got

    def check(self, case, binary):
        got = self.ask(case, binary)
        for name, want in case.outputs.items():
            assert got[name].shape == want.shape, (case.name, name)
            np.testing.assert_allclose(got[name], want, rtol=1e-3, atol=1e-4, err_msg=case.name)
        return got

    def check_all(self, cases, binary, clients=CLIENTS):
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            return list(pool.map(lambda case: self.check(case, binary), cases))


def bits(answer):
    return {name: value.tobytes() for name, value in answer.items()}


# ---- the tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("model", REFERENCE_MODELS)
def test_every_row_alone(reference, model, binary):
    asker = Asker(reference, model)
    asker.check_all(rows_of(model), binary, clients=1)
    assert set(asker.batch_rows) <= {0, 1}


@pytest.mark.parametrize("model", SINGLE)
def test_models_with_a_fixed_first_dimension_are_served_singly(reference, model):
    """However many ask at once; more rows than theirs are refused with the shape that was expected."""
    loaded = reference.find("model_loaded", model=model)
    assert loaded and "singly" in loaded[0]["why"]
    asker = Asker(reference, model)
    rows = (rows_of(model) * 16)[:16]
    for row, got in zip(rows, asker.check_all(rows, True)):
        assert bits(got) == bits(asker.ask(row, True)), row.name
    assert set(asker.batch_rows) <= {0, 1}
    two = Case("two", *({k: np.concatenate([v, v]) for k, v in s.items()} for s in (rows[0].inputs, rows[0].outputs)))
    body, fields = binary_request(two)
    connection = http.client.HTTPConnection("127.0.0.1", reference.port, timeout=60)
    connection.request("POST", f"/v2/models/{model}/infer", body, fields)
    answer = connection.getresponse()
    said = json.loads(answer.read())["error"]
    assert answer.status == 400 and "shape: expected [1," in said and "got [2," in said, said
    connection.close()


def mixed(model, count=96):
    """Requests of one to seven rows, over and over, until each row of each case was in one."""
    pieces, size = [], 0
    while len(pieces) < count:
        for case in cases_of(model):
            first = 0
            while first < case.rows:
                size = size % 7 + 1
                pieces.append(case.take(first, min(size, case.rows - first)))
                first += size
    return pieces


@pytest.mark.parametrize("model", BATCHED)
def test_every_row_in_mixed_batches(reference, model):
    asker = Asker(reference, model)
    alone = {}
    for row in rows_of(model):
        key = tuple(v.tobytes() for v in row.inputs.values())
        alone[key] = bits(asker.ask(row, True))
    asker.batch_rows.clear()
    pieces = mixed(model)
    for piece, got in zip(pieces, asker.check_all(pieces, True)):
        for i in range(piece.rows):
            row = piece.take(i, 1)
            mine = {name: value[i : i + 1].tobytes() for name, value in got.items()}
            assert mine == alone[tuple(v.tobytes() for v in row.inputs.values())], row.name
    most = max(p.rows for p in pieces)
    assert max(asker.batch_rows) > most, "no two requests shared a batch"
    asker.check_all(pieces, False)


@pytest.mark.parametrize("model", BATCHED)
def test_whole_cases(reference, model):
    """Each case as it stands, in one request, as far as the worker takes so many rows at once."""
    most = json.loads(reference.get(f"/v2/models/{model}/config")[1] or b"{}").get("max_batch_size", 0)
    assert most > 1
    asker = Asker(reference, model)
    for case in cases_of(model):
        for first in range(0, case.rows, most):
            for binary in (True, False):
                asker.check(case.take(first, most), binary)


def test_a_stream_whose_state_is_fed_back(reference):
    """silero_vad_v5, whose two branches each hold a network: its cases are one stream, in order."""
    folder, state = REFERENCE / "silero_vad_v5", None
    assert "follow from data" in reference.find("model_loaded", model="silero_vad_v5")[0]["why"]
    connection = http.client.HTTPConnection("127.0.0.1", reference.port, timeout=60)
    for case in json.loads((folder / "reference.json").read_text())["cases"]:
        want = {k: tensor_of(folder, t) for k, t in case["outputs"].items()}
        given = case["inputs"]
        inputs = [
            {"name": "input", "datatype": "FP32", "value": tensor_of(folder, given["input"])},
            {"name": "state", "datatype": "FP32", "value": tensor_of(folder, given["state"]) if state is None else state},
            {"name": "sr", "datatype": "INT64", "value": np.array(given["sr"]["data"], np.int64)},
        ]
        for tensor in inputs:
            value = tensor.pop("value")
            tensor.update(shape=list(value.shape), data=value.reshape(-1).tolist())
        connection.request("POST", "/v2/models/silero_vad_v5/infer", json.dumps({"inputs": inputs}))
        answer = connection.getresponse()
        octets = answer.read()
        assert answer.status == 200, octets[:300]
        got = read_answer(octets, answer.headers)
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4, err_msg=case["name"])
        state = got["stateN"]
    connection.close()
