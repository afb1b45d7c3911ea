"""Clients of the laboratory: each request has an id, each answer is checked against the model that says it gave it.

What a model answers is factor * x (worker.py), so an answer tells which model computed it; what the head says
must agree. A request belongs to the phase in which it was both sent and answered, if there is one.
"""
import itertools
import json
import struct
import time

from harness import infer_body
from load import Load, Questions, grpc_message
from tritonclient.grpc import service_pb2

NUMBERS = itertools.count(1)  # of requests, over all clients of this process


class Asked(Questions):
    """Endless questions to one model, a row each. With keys=N they have N different rows, else all differ."""

    def __init__(self, model, keys=0, timeout_us=0, columns=2, fields=()):
        self.model, self.keys, self.columns, self.more = model, keys, columns, list(fields)
        self.path = f"/v2/models/{model}/infer"
        self.parameters = {"timeout": timeout_us} if timeout_us else {}
        self.out = {}  # request: when it was asked; until its answer comes

    def following(self, k):
        k = next(NUMBERS)
        self.out[k] = time.monotonic()
        return k

    def row(self, k):
        n = (k % self.keys if self.keys else k) % 100000  # floats hold them, and ten times as many
        return [float(n + i) for i in range(self.columns)]

    def name(self, k):
        return f"lab-{k}"

    def body(self, k):
        return infer_body([self.row(k)], tensor="x", id=self.name(k), parameters=self.parameters)

    def message(self, k):
        parameters = {n: {"int64_param": v} for n, v in self.parameters.items()}
        return grpc_message(self.model, "x", self.row(k), id=self.name(k), parameters=parameters)

    def fields(self, k):
        return [("x-request-id", self.name(k)), *self.more]


class Told:
    """One answer: to which request, from whom, and when it was sent and answered."""

    __slots__ = ("k", "model", "status", "source", "sent", "came", "level", "text")

    def __init__(self, k, model, status, source, sent, came, level, text):
        self.k, self.model, self.status, self.source = k, model, status, source
        self.sent, self.came, self.level, self.text = sent, came, level, text


class Callers(Load):
    """A load on one model. `factors`: {model: factor}; `default`: the row of its static answer."""

    def __init__(self, port, ask, factors, default=None, **more):
        super().__init__(port, ask=ask, **more)
        self.factors, self.default, self.told, self.twice = factors, default, [], []

    # -- what came

    def judge(self, k, status, fields, body):
        said, text = {}, ""
        if status == 200:
            said = json.loads(body)
            output = said["outputs"][0]
            self.check(k, fields, said.get("id"), output["name"], output["data"])
        else:
            text = body.decode(errors="replace")[:300]
        self.note(k, status, fields, text)

    def judge_grpc(self, k, status, fields, answer):
        if status == 200:
            said = service_pb2.ModelInferResponse.FromString(answer)
            raw = said.raw_output_contents[0]
            self.check(k, fields, said.id, said.outputs[0].name, struct.unpack(f"<{len(raw) // 4}f", raw))
        self.note(k, status, fields, answer.decode(errors="replace")[:300] if status != 200 else "")

    def check(self, k, fields, name, output, data):
        source, model = fields.get("sluice-source"), fields.get("sluice-model", "").split(";")[0]
        row = self.ask.row(k)
        if source == "default":
            right = list(data) == self.default
        else:
            right = list(data) == [self.factors[model] * v for v in row]
        fallen = fields.get("sluice-fallback")
        honest = fallen == (None if source != "default" and model == self.ask.model else self.ask.model)
        if not (right and honest and output == "y" and name == self.ask.name(k)):
            self.wrong.append((self.ask.name(k), row, dict(fields), name, list(data)))

    def note(self, k, status, fields, text):
        source = fields.get("sluice-source")
        if status == 200 and source == "model":
            source = fields["sluice-model"].split(";")[0]
        level = fields.get("sluice-degradation")
        with self.lock:
            sent = self.ask.out.pop(k, None)
            if sent is None:
                self.twice.append(k)
            self.outcomes[status] += 1
            self.told.append(Told(k, self.ask.model, status, source if status == 200 else None, sent, time.monotonic(), level, text))
