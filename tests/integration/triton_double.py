"""A server that says what Triton says while it serves, loads, unloads, breaks, is overloaded and stops.

As a program: triton_double.py --listen ADDRESS [--second S] MODEL... where MODEL is NAME[:KEY=VALUE...], with
takes (seconds a batch computes), max_batch, instances, slots (of a sequence model), state=unloaded|broken,
serial=1 (it computes one batch at a time; else all that come side by side, whatever instances says).
Every model has input x and output y, FP32 [-1, 2], and answers y = 2 x; a sequence model adds up what its
sequence sent. As an actor: with Triton(...) as t: t.load("m", takes=1), t.unload("m"), t.overload(...), ...

What it says was read off Triton 2.51 (PyPI nvidia-pytriton 0.7.0) with its python backend:
- SIGTERM. Port and connections stay until the end. ServerLive and ServerReady are UNAVAILABLE "Server exiting",
  RepositoryIndex and ModelReady UNAVAILABLE "Server not ready", at once and until the end. ModelInfer is
  UNAVAILABLE "Server is stopping, ..." until nothing is in flight, which is looked at once a second (--second)
  from the signal on; calls that run are answered. Then the models are unloaded, which takes two seconds:
  ModelInfer, ModelMetadata and ModelConfig are NOT_FOUND "... has no available versions". Then it exits with 0.
- Start: the port is opened when every model has been loaded or has failed.
- A load blocks nothing: other models are served, the index is answered (LOADING), ServerReady is false meanwhile.
  It is false as well while one model is UNLOADING, broken, or has lost its backend process (strict readiness).
- The index names every model of the repository; one that was never loaded has no version and no state at all.
  With `ready` it names those in state READY only.
- An unload returns at once and calls that run are answered; new ones are NOT_FOUND "... has no available versions".
- A reload serves the old one, READY all along, and then has the new configuration, with no state in between.
- A full queue is UNAVAILABLE "Exceeds maximum queue size". A dead backend process is INTERNAL "Stub process ... is
  not healthy." for ever, while index and ModelReady go on to say READY.
- Sequences: a START opens a slot, or waits in the backlog until an END frees one; without START an unknown
  sequence is INVALID_ARGUMENT; without an id every request is.
"""
import argparse
import collections
import contextlib
import os
import pathlib
import signal
import socket
import sys
import threading
import time

from harness import Program, free_port, wait_for
from tritonclient.grpc import model_config_pb2, service_pb2

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "faults"))  # as a program it is alone

from worker import Code, Refused, Service, answer_of, end_with, metadata, order, rows_of, say, serve, take_orders  # noqa: E402

NO_VERSIONS = "Request for unknown model: '{}' has no available versions"
NOT_FOUND = "Request for unknown model: '{}' is not found"
STOPPING = "[request id: <id_unknown>] Server is stopping, scheduler for model has stopped accepting new inference requests"
FULL = "[request id: <id_unknown>] Exceeds maximum queue size"
DEAD = "Stub process '{}_0_0' is not healthy."
NO_ID = "inference request to model '{}' must specify a non-zero or non-empty correlation ID"
NO_START = "inference request for sequence {} to model '{}' must specify the START flag on the first request of the sequence"
PROBES = ("ServerLive", "ServerReady", "ModelReady", "RepositoryIndex", "ModelMetadata", "ModelConfig")


# ---- models ------------------------------------------------------------------------------------------


class Sequences:
    """The sequence batcher with its direct strategy: a slot belongs to a sequence from its START to its END."""

    def __init__(self, model, slots):
        self.model, self.free, self.sums, self.freed = model, slots, {}, threading.Condition()

    def step(self, request, rows, context):
        """The answer's rows: the sum of all that the sequence has sent."""
        said = request.parameters
        name = said["sequence_id"].int64_param or said["sequence_id"].string_param if "sequence_id" in said else 0
        if not name:
            raise Refused(Code.INVALID_ARGUMENT, NO_ID.format(self.model))
        start, end = (k in said and said[k].bool_param for k in ("sequence_start", "sequence_end"))
        with self.freed:
            if start:
                self.open(name, context)
            if name not in self.sums:
                raise Refused(Code.INVALID_ARGUMENT, NO_START.format(name, self.model))
            total = self.sums[name] = [a + b for a, b in zip(self.sums[name], rows[0])]
            if end:
                del self.sums[name]
                self.free += 1
                self.freed.notify_all()
            return [[v / 2 for v in total]]  # answer_of doubles it again

    def open(self, name, context):
        while name not in self.sums and self.free == 0:
            self.freed.wait(0.05)
            if not context.is_active():
                raise Refused(Code.CANCELLED, "")
        self.free -= name not in self.sums
        self.sums[name] = [0.0, 0.0]


class Model:
    def __init__(self, name, takes=0.0, max_batch=16, instances=1, slots=0, state="READY", serial=0):
        self.facts = {"takes": takes, "max_batch": max_batch, "instances": instances, "slots": slots}
        self.name, self.takes, self.max_batch, self.slots = name, float(takes), int(max_batch), int(slots)
        self.instances = int(instances)
        self.state, self.reason = {"unloaded": ("", ""), "broken": ("UNAVAILABLE", "Internal: it does not start")}.get(state, (state, ""))
        self.sequences = Sequences(name, self.slots)
        self.running = self.peak = 0
        self.device = threading.Lock() if int(serial) else contextlib.nullcontext()
        self.dead = False
        self.described = "well"  # how its metadata is given: DESCRIPTIONS

    def config(self):
        config = model_config_pb2.ModelConfig(name=self.name, max_batch_size=self.max_batch)
        config.instance_group.add(name=self.name + "_0", count=self.instances)
        if self.slots:
            config.sequence_batching.direct.SetInParent()
        return config


def of_columns(columns):
    answer = service_pb2.ModelMetadataResponse(versions=["1"])
    answer.inputs.add(name="x", datatype="FP32", shape=[-1, columns])
    answer.outputs.add(name="y", datatype="FP32", shape=[-1, columns])
    return answer


def of_inputs(inputs):
    answer = service_pb2.ModelMetadataResponse(versions=["1"])
    for i in range(inputs):
        answer.inputs.add(name=f"input_with_a_long_name_{i}", datatype="FP32", shape=[-1, 2])
    return answer


def named(answer, name):
    answer.name = name
    return answer.SerializeToString()


DESCRIPTIONS = {
    "well": metadata,
    "wider": lambda name: named(of_columns(3), name),
    "unreadable": lambda name: b"\xff" * 50,
    "huge": lambda name: named(of_inputs(300), name),
    "endless": lambda name: named(of_inputs(1), name) + b"\x1a\xff\xff\xff\x07" + bytes(1000),
}

# Ways to say "not now": what a worker, or a proxy before it, answers when it has too much to do.
OVERLOADED = {
    "grpc 8": Refused(Code.RESOURCE_EXHAUSTED, "too many requests"),
    "grpc 14": Refused(Code.UNAVAILABLE, FULL),
    "pushback": Refused(Code.UNAVAILABLE, FULL, (("grpc-retry-pushback-ms", "300"),)),
}


# ---- the server --------------------------------------------------------------------------------------


class Double(Service):
    def __init__(self, models, second):
        super().__init__()
        self.models, self.second = {m.name: m for m in models}, second
        self.lock = threading.Lock()
        self.stopping = self.unloaded = False
        self.overloaded, self.overloaded_until = None, 0.0
        self.ready_word = "READY"
        self.rows, self.asked = collections.Counter(), 0.0

    # -- small calls

    def fail_if_stopping(self, text="Server not ready"):
        if self.stopping:
            raise Refused(Code.UNAVAILABLE, text)

    def ServerLive(self, octets, context):
        self.fail_if_stopping("Server exiting")
        return b"\x08\x01"

    def ServerReady(self, octets, context):
        """Strict readiness: every model that was ever asked for is READY, and its backend lives."""
        self.fail_if_stopping("Server exiting")
        fine = all(m.state in ("", "READY") and not m.dead for m in self.models.values())
        return b"\x08\x01" if fine else b""

    def ServerMetadata(self, octets, context):
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0").SerializeToString()

    def RepositoryIndex(self, octets, context):
        self.fail_if_stopping()
        only_ready = service_pb2.RepositoryIndexRequest.FromString(octets).ready
        answer = service_pb2.RepositoryIndexResponse()
        for m in self.models.values():
            if not only_ready or m.state == "READY":
                state = self.ready_word if m.state == "READY" else m.state
                answer.models.add(name=m.name, version="1" if m.state else "", state=state, reason=m.reason)
        return answer.SerializeToString()

    def ModelReady(self, octets, context):
        self.fail_if_stopping()
        m = self.models.get(service_pb2.ModelReadyRequest.FromString(octets).name)
        return b"\x08\x01" if m and m.state == "READY" else b""

    def find(self, name):
        m = self.models.get(name)
        if self.unloaded or (m and m.state not in ("", "READY")):
            raise Refused(Code.NOT_FOUND, NO_VERSIONS.format(name))
        if not m or not m.state:
            raise Refused(Code.NOT_FOUND, NOT_FOUND.format(name))
        return m

    def ModelMetadata(self, octets, context):
        m = self.find(service_pb2.ModelMetadataRequest.FromString(octets).name)
        if not self.unloaded:
            self.fail_if_stopping()
        return DESCRIPTIONS[m.described](m.name)

    def ModelConfig(self, octets, context):
        m = self.find(service_pb2.ModelConfigRequest.FromString(octets).name)
        return service_pb2.ModelConfigResponse(config=m.config()).SerializeToString()

    # -- inference

    def ModelInfer(self, octets, context):
        request = service_pb2.ModelInferRequest.FromString(octets)
        rows = rows_of(request)
        with self.lock:
            m = self.admit(request, rows)
            m.running += 1
            m.peak = max(m.peak, m.running)
        try:
            if m.slots:
                rows = m.sequences.step(request, rows, context)
            with m.device:
                time.sleep(m.takes)
            return answer_of(request, rows)
        finally:
            with self.lock:
                m.running -= 1

    def admit(self, request, rows):
        self.asked = time.monotonic()
        self.rows[request.model_name] += len(rows)
        self.calls["infer " + request.model_name] += 1
        m = self.find(request.model_name)
        self.fail_if_stopping(STOPPING)
        if time.monotonic() < self.overloaded_until:
            raise self.overloaded
        if m.dead:
            raise Refused(Code.INTERNAL, DEAD.format(m.name))
        if m.max_batch and len(rows) > m.max_batch:
            raise Refused(Code.INVALID_ARGUMENT, f"inference request batch-size must be <= {m.max_batch} for '{m.name}'")
        return m

    # -- what the test wants (do_NAME: the line's "do"); each returns what is answered

    def do_load(self, name, takes=0.0, **changes):
        old = self.models[name]
        fresh = Model(name, **{**old.facts, **changes}, state="LOADING")
        if old.state != "READY":  # else the old one serves until the new one can
            self.models[name] = fresh
        time.sleep(takes)
        self.models[name] = fresh
        fresh.state = "READY"

    def do_unload(self, name):
        m = self.models[name]
        m.state, m.reason = "UNLOADING", ""

        def wait_for_its_calls():
            wait_for(lambda: m.running == 0, 60)
            if m.state == "UNLOADING":
                m.state, m.reason = "UNAVAILABLE", "unloaded"

        threading.Thread(target=wait_for_its_calls, daemon=True).start()

    def do_break(self, name, why):
        self.models[name].state, self.models[name].reason = "UNAVAILABLE", why

    def do_lose_backend(self, name, lost=True):
        self.models[name].dead = lost

    def do_overload(self, spelling, seconds):
        self.overloaded, self.overloaded_until = OVERLOADED[spelling], time.monotonic() + seconds

    def do_mute(self, methods):
        self.mute = methods

    def do_describe(self, name, how):
        self.models[name].described = how

    def do_say_ready(self, word):
        self.ready_word = word

    def do_counts(self):
        return {"calls": dict(self.calls), "rows": dict(self.rows), "peak": {m.name: m.peak for m in self.models.values()}}

    # -- the end

    def stop(self):
        """Triton's way to stop. Its calls take longer than ours: who was asked just now has some in flight."""
        busy = time.monotonic() - self.asked < 0.1
        self.stopping = True
        while busy or any(m.running for m in self.models.values()):
            time.sleep(self.second)
            busy = False
        self.unloaded = True
        time.sleep(2 * self.second)


# ---- the program -------------------------------------------------------------------------------------


def listen_for_orders(double):
    listener = socket.create_server(("127.0.0.1", 0))
    take_orders(double, listener)
    return listener.getsockname()[1]


def model_of(words):
    name, *facts = words.split(":")
    return Model(name, **dict(f.split("=") for f in facts))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--liveness-fd", type=int)
    parser.add_argument("--second", type=float, default=1.0)
    parser.add_argument("models", nargs="+", type=model_of)
    args, _ = parser.parse_known_args()
    if args.liveness_fd is not None:
        threading.Thread(target=end_with, args=(args.liveness_fd,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # of every thread: none of them is to take it from this one
    double = Double(args.models, args.second)
    server, port = serve(double, args.listen)
    say("up", port=port, control=listen_for_orders(double))
    signal.sigwait({signal.SIGTERM})
    double.stop()
    os._exit(0)


# ---- the actor ---------------------------------------------------------------------------------------


class Triton(Program):
    """The program with its control line. `again()` is another process on the same port."""

    def __init__(self, *models, port=0, second=0.3):
        self.models, self.second = models, second
        words = [sys.executable, pathlib.Path(__file__), "--listen", f"127.0.0.1:{port or free_port()}", "--second", second]
        super().__init__([*words, *models])
        up = self.wait_event("up", timeout=60)
        self.port, self.control = up["port"], up["control"]

    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def again(self):
        return Triton(*self.models, port=self.port, second=self.second)

    def do(self, what, **words):
        return order(self.control, what, **words)

    def load(self, name, takes=0.0, **changes):
        """It is loaded, or loaded again with other facts; that takes so many seconds."""
        self.do("load", name=name, takes=takes, **changes)

    def unload(self, name):
        self.do("unload", name=name)

    def break_model(self, name, why):
        self.do("break", name=name, why=why)

    def lose_backend(self, name, lost=True):
        self.do("lose_backend", name=name, lost=lost)

    def overload(self, spelling, seconds):
        self.do("overload", spelling=spelling, seconds=seconds)

    def mute(self, *methods):
        self.do("mute", methods=methods)

    def describe(self, name, how):
        self.do("describe", name=name, how=how)

    def say_ready(self, word):
        self.do("say_ready", word=word)

    def calls(self, what="ModelInfer"):
        """How many calls of that method, or of "infer MODEL", came so far."""
        return self.do("counts")["calls"].get(what, 0)

    def rows(self, model):
        return self.do("counts")["rows"].get(model, 0)

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join(5)


if __name__ == "__main__":
    main()
