"""A worker that does what its script says: any number of models, each as fast, as right and as well as it is told.

    worker.py --listen ADDRESS [--liveness-fd N] [--orders DIRECTORY] [--script FILE] [NAME...]

SCRIPT is JSON: {"models": {NAME: facts}, and what holds for the whole process: PROCESS}. A model's facts are
those of FACTS; every one of them may be changed while it runs, by an order (a line of JSON to the Unix socket
DIRECTORY/PID): {"do": "set", "model": NAME or null (all), facts}, {"do": "process", ...}, {"do": "counts"}.

Of the calls of a model the shares that `acts` names are misdone, each in its way (ACTS, and every status of
gRPC by its name); the rest is answered well: output y = factor * x, FP32 [-1, columns]. A NAME on the command line
is a model that does nothing but the act it is named after; every datatype in small letters echoes (x to y), and
`told` answers what the request said of itself. With --tell each inference is told on standard error.
"""
import argparse
import array
import collections
import contextlib
import json
import os
import pathlib
import random
import socket
import threading
import time
from concurrent import futures

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2

POISON = 666.0  # a row that begins so
MAX_BATCH = 16
DATATYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split()
WORDS = "größer als nötig,\nnämlich " + "€" * 700  # more than 2 KiB of UTF-8
Code = grpc.StatusCode

FACTS = {
    "takes": 0,  # how long a batch computes: a distribution (draw)
    "row_takes": 0,  # and each of its rows
    "acts": {},  # {act: share of the calls}
    "max_batch": MAX_BATCH,
    "columns": 2,
    "factor": 2.0,
    "echoes": None,  # a datatype: it echoes, and does not compute
    "state": "READY",  # in the index; another than READY is not served
    "reason": "",
    "cold": 0,  # seconds from the start in which it is slower,
    "cold_times": 5,  # at first so many times
}
PROCESS = {
    "start": 0.0,  # seconds before the port is opened
    "serial": False,  # one device for all models: a batch at a time
    "room": 0,  # calls at once; more are refused: RESOURCE_EXHAUSTED. 0: any number
    "crash_after": 0,  # the process ends in its N-th inference. 0: never
    "mute": [],  # methods that are not answered
    "device_lost": False,  # a device that fell off: every model says so until the process is another one
}


class Refused(Exception):
    """What the call is answered instead."""

    def __init__(self, code, text, trailers=()):
        super().__init__(text)
        self.code, self.text, self.trailers = code, text, trailers


class Service:
    """Answers calls by methods of their names: method(bytes, context) gives bytes, or refuses. Calls of the methods
    in `mute` are not answered; `calls` counts."""

    def __init__(self):
        self.calls, self.mute = collections.Counter(), ()

    def call(self, method, octets, context):
        self.calls[method] += 1
        if method in self.mute:
            stay_silent(context)
        answer = getattr(self, method, None)
        try:
            if not answer:
                raise Refused(Code.UNIMPLEMENTED, method)
            return answer(octets, context)
        except Refused as r:
            if r.trailers:
                context.set_trailing_metadata(r.trailers)
            return context.abort(r.code, r.text)


# ---- messages ----------------------------------------------------------------------------------------


def metadata(name, columns=2, datatype="FP32", answers="FP32"):
    answer = service_pb2.ModelMetadataResponse(name=name, versions=["1"], platform="scripted")
    answer.inputs.add(name="x", datatype=datatype, shape=[-1, columns])
    answer.outputs.add(name="y", datatype=answers, shape=[-1, columns])
    return answer.SerializeToString()


def rows_of(request):
    """The rows of x as lists of floats."""
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    flat = array.array("f", raw) if raw else list(request.inputs[0].contents.fp32_contents)
    columns = request.inputs[0].shape[1]
    return [flat[i : i + columns] for i in range(0, len(flat), columns)]


def answer_of(request, rows, shape=None, name="y", datatype="FP32", cut=0, factor=2.0):
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    answer.outputs.add(name=name, datatype=datatype, shape=shape or [len(rows), len(rows[0]) if rows else 2])
    octets = array.array("f", [factor * v for row in rows for v in row]).tobytes()
    answer.raw_output_contents.append(octets[: len(octets) - cut])
    return answer.SerializeToString()


def param(p):
    return getattr(p, p.WhichOneof("parameter_choice"))


def told(q):
    outputs = [{"name": o.name, **{k: param(v) for k, v in o.parameters.items()}} for o in q.outputs]
    said = {"id": q.id, "version": q.model_version, "outputs": outputs, "parameters": {k: param(v) for k, v in q.parameters.items()}}
    return json.dumps(said).encode()


def echo(request):
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    if request.model_name == "told":
        text = told(request)
        answer.outputs.add(name="y", datatype="BYTES", shape=[1, 1])
        answer.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
    else:
        answer.outputs.add(name="y", datatype=request.inputs[0].datatype, shape=request.inputs[0].shape)
        answer.raw_output_contents.append(request.raw_input_contents[0])
    return answer.SerializeToString()


# ---- misbehaviour ------------------------------------------------------------------------------------


def is_poisoned(rows):
    return any(row[0] == POISON for row in rows)


def fail_if_poisoned(request, rows, context):
    if is_poisoned(rows):
        raise Refused(Code.INTERNAL, "a row that I cannot compute")
    return answer_of(request, rows)


def die(*_):
    os._exit(3)


def die_if_poisoned(request, rows, context):
    return die() if is_poisoned(rows) else answer_of(request, rows)


def stay_silent(context):
    ended = threading.Event()
    if context.add_callback(ended.set):  # else it has been cancelled already, and nobody calls back
        ended.wait(60)


def hang(request, rows, context):
    stay_silent(context)
    return answer_of(request, rows)


def slow(request, rows, context):
    time.sleep(0.3)
    return answer_of(request, rows)


def no_outputs(request, rows, context):
    return service_pb2.ModelInferResponse(model_name=request.model_name).SerializeToString()


def refuse(code, text="not by me"):
    def act(request, rows, context):
        raise Refused(code, text)

    return act


# What a call may come to: act(request, rows, context) gives the bytes of its answer, or refuses.
ACTS = {
    "good": lambda q, rows, c: answer_of(q, rows),
    "single": lambda q, rows, c: answer_of(q, rows),
    "more_rows": lambda q, rows, c: answer_of(q, [*rows, [0] * len(rows[0])]),
    "fewer_rows": lambda q, rows, c: answer_of(q, rows[:-1], shape=[len(rows) - 1, len(rows[0])]),
    "wide_rows": lambda q, rows, c: answer_of(q, [r for r in rows for _ in range(2)], shape=[len(rows), 2 * len(rows[0])]),
    "no_rank": lambda q, rows, c: answer_of(q, rows, shape=[2 * len(rows)]),
    "short_data": lambda q, rows, c: answer_of(q, rows, cut=4),
    "negative_shape": lambda q, rows, c: answer_of(q, rows, shape=[-len(rows), -2]),
    "wrapping_shape": lambda q, rows, c: answer_of(q, rows, shape=[len(rows), 2, 1 << 62, 4]),
    "wrong_type": lambda q, rows, c: answer_of(q, rows, datatype="FP99"),
    "wrong_name": lambda q, rows, c: answer_of(q, rows, name="z"),
    "no_outputs": no_outputs,
    "garbage": lambda q, rows, c: b"\xff" * 50,
    "empty": lambda q, rows, c: b"",
    "huge": lambda q, rows, c: bytes(4 << 20),
    "poison_error": fail_if_poisoned,
    "poison_dies": die_if_poisoned,
    "dies": die,
    "hangs": hang,
    "slow": slow,
    "refuses": refuse(Code.UNAVAILABLE),
    "exhausted": refuse(Code.RESOURCE_EXHAUSTED),
    "explains": refuse(Code.INVALID_ARGUMENT, WORDS),
    "blames": refuse(Code.INVALID_ARGUMENT),
    "crashes_inside": lambda q, rows, c: 1 / 0,
    **{code.name: refuse(code) for code in Code if code != Code.OK},
}


def seconds(text):
    """0.005, "5ms", "2s" or "300us"."""
    if not isinstance(text, str):
        return float(text)
    for unit, size in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0)):
        if text.endswith(unit):
            return float(text[: -len(unit)]) * size
    raise ValueError(f"not a duration: {text}")


def draw(distribution, rng):
    """A time from it: 0.005 or "5ms"; "exp 5ms"; "uniform 2ms 8ms"; "tail 5ms 0.02 200ms" (2 % take 200 ms)."""
    kind, *args = str(distribution).split() if isinstance(distribution, str) else ["", distribution]
    if kind == "exp":
        return rng.expovariate(1 / seconds(args[0]))
    if kind == "uniform":
        return rng.uniform(seconds(args[0]), seconds(args[1]))
    if kind == "tail":
        return seconds(args[2] if rng.random() < float(args[1]) else args[0])
    return seconds(args[0] if args else kind)


# ---- the server --------------------------------------------------------------------------------------


def checked(facts, known):
    strange = set(facts) - set(known)
    if strange:
        raise ValueError(f"unknown: {', '.join(sorted(strange))}; known are {', '.join(known)}")
    return facts


class Model:
    def __init__(self, name, facts=None):
        self.name = name
        vars(self).update({**FACTS, **checked(facts or {}, FACTS)})

    def act(self, rng):
        """The name of what becomes of this call; None: it is answered well."""
        left = rng.random()
        for act, share in self.acts.items():
            if left < share:
                return act
            left -= share
        return None

    def metadata(self):
        if not self.echoes:
            return metadata(self.name, self.columns)
        return metadata(self.name, -1, self.echoes, "BYTES" if self.name == "told" else self.echoes)


def named(name):
    """The model that a NAME on the command line means."""
    datatype = "FP32" if name == "told" else name.upper()
    if datatype in DATATYPES:
        return Model(name, {"echoes": datatype, "max_batch": 0 if name == "told" else MAX_BATCH})
    if name not in ACTS:
        raise argparse.ArgumentTypeError(f"{name}: not one of {', '.join([*ACTS, *map(str.lower, DATATYPES), 'told'])}")
    return Model(name, {"acts": {name: 1}, "max_batch": 0 if name == "single" else MAX_BATCH})


class Worker(Service):
    def __init__(self, models, process=None, tell=False):
        super().__init__()
        self.models, self.tell = {m.name: m for m in models}, tell
        vars(self).update({**PROCESS, **checked(process or {}, PROCESS)})
        self.rng, self.began = random.Random(os.getpid()), time.monotonic()
        self.device, self.lock = threading.Lock(), threading.Lock()
        self.rows, self.running = collections.Counter(), 0

    def state_of(self, m):
        return ("UNAVAILABLE", "the device is lost") if self.device_lost else (m.state, m.reason)

    def ServerLive(self, octets, context):
        return b"\x08\x01"

    def ServerReady(self, octets, context):
        return b"" if self.device_lost else b"\x08\x01"

    def ServerMetadata(self, octets, context):
        return service_pb2.ServerMetadataResponse(name="scripted", version="1").SerializeToString()

    def RepositoryIndex(self, octets, context):
        answer = service_pb2.RepositoryIndexResponse()
        for m in self.models.values():
            state, reason = self.state_of(m)
            answer.models.add(name=m.name, version="1", state=state, reason=reason)
        return answer.SerializeToString()

    def ModelReady(self, octets, context):
        m = self.models.get(service_pb2.ModelReadyRequest.FromString(octets).name)
        return b"\x08\x01" if m and self.state_of(m)[0] == "READY" else b""

    def find(self, name):
        if name not in self.models:
            raise Refused(Code.NOT_FOUND, f"no model {name}")
        return self.models[name]

    def ModelMetadata(self, octets, context):
        return self.find(service_pb2.ModelMetadataRequest.FromString(octets).name).metadata()

    def ModelConfig(self, octets, context):
        m = self.find(service_pb2.ModelConfigRequest.FromString(octets).name)
        config = model_config_pb2.ModelConfig(name=m.name, max_batch_size=m.max_batch)
        return service_pb2.ModelConfigResponse(config=config).SerializeToString()

    def ModelInfer(self, octets, context):
        request = service_pb2.ModelInferRequest.FromString(octets)
        m = self.find(request.model_name)
        if m.echoes:
            return echo(request)
        rows = rows_of(request)
        with self.lock:
            self.admit(m, rows)
            self.running += 1
        try:
            return self.infer(m, request, rows, context)
        finally:
            with self.lock:
                self.running -= 1

    def admit(self, m, rows):
        self.rows[m.name] += len(rows)
        if self.tell:
            say("infer", model=m.name, rows=len(rows))
        if self.device_lost:
            raise Refused(Code.INTERNAL, "the device is lost")
        if m.state != "READY":
            raise Refused(Code.UNAVAILABLE, f"{m.name} is {m.state}")
        if self.room and self.running >= self.room:
            raise Refused(Code.RESOURCE_EXHAUSTED, "too many requests")
        if self.crash_after and self.calls["ModelInfer"] >= self.crash_after:
            die()

    def infer(self, m, request, rows, context):
        act = m.act(self.rng)
        if act:
            self.calls[act] += 1
            return ACTS[act](request, rows, context)
        took = draw(m.takes, self.rng) + len(rows) * draw(m.row_takes, self.rng)
        age = time.monotonic() - self.began
        if age < seconds(m.cold):
            took *= 1 + (m.cold_times - 1) * (1 - age / seconds(m.cold))
        with self.device if self.serial else contextlib.nullcontext():
            if took and context.is_active():  # what was cancelled before it began is not computed
                time.sleep(took)
        return answer_of(request, rows, factor=m.factor)

    # -- orders (do_NAME: the line's "do"); each returns what is answered

    def do_set(self, model=None, **facts):
        for m in self.models.values() if model is None else [self.models[model]]:
            vars(m).update(checked(facts, FACTS))

    def do_process(self, **facts):
        vars(self).update(checked(facts, PROCESS))

    def do_counts(self):
        return {"calls": dict(self.calls), "rows": dict(self.rows)}


class Handler(grpc.GenericRpcHandler):
    """Every call as bytes to double.call(method, bytes, context)."""

    def __init__(self, double):
        self.double = double

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        return grpc.unary_unary_rpc_method_handler(lambda octets, context: self.double.call(method, octets, context))


# ---- the program -------------------------------------------------------------------------------------


def say(event, **fields):
    os.write(2, (json.dumps({"event": event, **fields}) + "\n").encode())  # whole: others write there too


def end_with(fd):
    os.read(fd, 1)
    os._exit(0)


def obey(double, s):
    """A line is {"do": NAME, ...}; it is answered by a line once it is done."""
    with s, s.makefile("r") as lines:
        for line in lines:
            words = json.loads(line)
            answer = getattr(double, "do_" + words.pop("do"))(**words)
            s.sendall((json.dumps(answer) + "\n").encode())


def take_orders(double, listener):
    def accept():
        while True:
            threading.Thread(target=obey, args=(double, listener.accept()[0]), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def order(where, what, **words):
    """Tells the process that listens there (a port, or the path of a Unix socket); gives its answer."""
    family, address = (socket.AF_INET, ("127.0.0.1", where)) if isinstance(where, int) else (socket.AF_UNIX, str(where))
    with socket.socket(family) as s:
        s.settimeout(60)
        s.connect(address)
        with s.makefile("r") as answers:
            s.sendall((json.dumps({"do": what, **words}) + "\n").encode())
            return json.loads(answers.readline())


def serve(double, address, threads=64):
    """Its port, 0 for a Unix socket."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(threads), [Handler(double)], options=options)
    port = server.add_insecure_port(address)
    server.start()
    return server, port


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--liveness-fd", type=int)
    parser.add_argument("--orders", type=pathlib.Path)
    parser.add_argument("--script", type=pathlib.Path)
    parser.add_argument("--tell", action="store_true")
    parser.add_argument("models", nargs="*", type=named)
    args, _ = parser.parse_known_args()
    if args.liveness_fd is not None:
        threading.Thread(target=end_with, args=(args.liveness_fd,), daemon=True).start()
    script = json.loads(args.script.read_text()) if args.script else {}
    models = [Model(name, facts) for name, facts in script.pop("models", {}).items()]
    worker = Worker([*models, *args.models], script, args.tell)
    time.sleep(worker.start)
    if args.orders:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(args.orders / str(os.getpid())))
        listener.listen()
        take_orders(worker, listener)
    server, port = serve(worker, args.listen)
    say("up", port=port)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
