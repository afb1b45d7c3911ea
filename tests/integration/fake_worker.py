"""Workers that misbehave by the name of the model that they are asked for.

As a program it is a server of grpcio: fake_worker.py --listen ADDRESS [--liveness-fd N] MODEL... . Every
model has input x and output y, FP32 [-1, 2], and answers y = 2 x; its name says what else it does (BEHAVIOUR).
Each inference is told on standard error as a line of JSON. RawWorker is for what grpcio is too well brought
up to do: frames and bytes of one's own, on a thread of the test.
"""
import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from concurrent import futures

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from tritonclient.grpc import model_config_pb2, service_pb2

SERVICE = "inference.GRPCInferenceService"
POISON = 666.0  # a row that begins so
MAX_BATCH = 16


# ---- the protocol ------------------------------------------------------------------------------------


def metadata(name):
    answer = service_pb2.ModelMetadataResponse(name=name, versions=["1"], platform="fake")
    answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    answer.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
    return answer.SerializeToString()


def small_call(method, octets, models):
    """The answer to everything that is no inference; None: unknown."""
    if method in ("ServerLive", "ServerReady", "ModelReady"):
        return b"\x08\x01"
    if method == "ServerMetadata":
        return service_pb2.ServerMetadataResponse(name="fake", version="1").SerializeToString()
    if method == "RepositoryIndex":
        answer = service_pb2.RepositoryIndexResponse()
        for name in models:
            answer.models.add(name=name, version="1", state="READY")
        return answer.SerializeToString()
    if method == "ModelMetadata":
        return metadata(service_pb2.ModelMetadataRequest.FromString(octets).name)
    if method == "ModelConfig":
        name = service_pb2.ModelConfigRequest.FromString(octets).name
        config = model_config_pb2.ModelConfig(name=name, max_batch_size=0 if name == "single" else MAX_BATCH)
        return service_pb2.ModelConfigResponse(config=config).SerializeToString()
    return None


def rows_of(request):
    raw = request.raw_input_contents[0] if request.raw_input_contents else None
    flat = struct.unpack(f"<{len(raw) // 4}f", raw) if raw else request.inputs[0].contents.fp32_contents
    return [flat[i : i + 2] for i in range(0, len(flat), 2)]


def answer_of(request, rows, shape=None, name="y", datatype="FP32", cut=0):
    answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    answer.outputs.add(name=name, datatype=datatype, shape=shape or [len(rows), 2])
    octets = b"".join(struct.pack("<2f", 2 * a, 2 * b) for a, b in rows)
    answer.raw_output_contents.append(octets[: len(octets) - cut])
    return answer.SerializeToString()


# ---- misbehaviour ------------------------------------------------------------------------------------


def is_poisoned(rows):
    return any(row[0] == POISON for row in rows)


def fail_if_poisoned(request, rows, context):
    if is_poisoned(rows):
        context.abort(grpc.StatusCode.INTERNAL, "a row that I cannot compute")
    return answer_of(request, rows)


def die_if_poisoned(request, rows, context):
    if is_poisoned(rows):
        os._exit(3)
    return answer_of(request, rows)


def hang(request, rows, context):
    ended = threading.Event()
    if context.add_callback(ended.set):  # else it has been cancelled already, and nobody calls back
        ended.wait(60)
    return answer_of(request, rows)


def slow(request, rows, context):
    time.sleep(0.3)
    return answer_of(request, rows)


def no_outputs(request, rows, context):
    return service_pb2.ModelInferResponse(model_name=request.model_name).SerializeToString()


def refuse(code):
    return lambda request, rows, context: context.abort(code, "not by me")


WORDS = "größer als nötig,\nnämlich " + "€" * 700  # more than 2 KiB of UTF-8


def explain(request, rows, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, WORDS)


BEHAVIOUR = {
    "good": lambda q, rows, c: answer_of(q, rows),
    "single": lambda q, rows, c: answer_of(q, rows),
    "more_rows": lambda q, rows, c: answer_of(q, list(rows) + [(0, 0)]),
    "fewer_rows": lambda q, rows, c: answer_of(q, rows[:-1], shape=[len(rows) - 1, 2]),
    "wide_rows": lambda q, rows, c: answer_of(q, [r for r in rows for _ in range(2)], shape=[len(rows), 4]),
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
    "hangs": hang,
    "slow": slow,
    "refuses": refuse(grpc.StatusCode.UNAVAILABLE),
    "exhausted": refuse(grpc.StatusCode.RESOURCE_EXHAUSTED),
    "explains": explain,
    "blames": refuse(grpc.StatusCode.INVALID_ARGUMENT),
    "crashes_inside": lambda q, rows, c: 1 / 0,
}


# ---- the program ---------------------------------------------------------------------------------------


class Handler(grpc.GenericRpcHandler):
    def __init__(self, models):
        self.models = models

    def service(self, details):
        method = details.method.rsplit("/", 1)[1]
        return grpc.unary_unary_rpc_method_handler(lambda octets, context: self.call(method, octets, context))

    def call(self, method, octets, context):
        if method != "ModelInfer":
            answer = small_call(method, octets, self.models)
            return answer if answer is not None else context.abort(grpc.StatusCode.UNIMPLEMENTED, method)
        request = service_pb2.ModelInferRequest.FromString(octets)
        rows = rows_of(request)
        os.write(2, (json.dumps({"event": "infer", "model": request.model_name, "rows": len(rows)}) + "\n").encode())  # whole: others write there too
        return BEHAVIOUR[request.model_name](request, rows, context)


def end_with(fd):
    os.read(fd, 1)
    os._exit(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--liveness-fd", type=int)
    parser.add_argument("models", nargs="+", choices=list(BEHAVIOUR))
    args, _ = parser.parse_known_args()
    if args.liveness_fd is not None:
        threading.Thread(target=end_with, args=(args.liveness_fd,), daemon=True).start()
    size = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(16), [Handler(args.models)], options=size)
    port = server.add_insecure_port(args.listen)
    server.start()
    os.write(2, (json.dumps({"event": "up", "port": port}) + "\n").encode())  # whole: others write there too
    server.wait_for_termination()


# ---- frames of one's own -------------------------------------------------------------------------------


class RawWorker:
    """Listens on a port; each connection is talk(socket, its number) on a thread, closed when talk returns."""

    def __init__(self, talk):
        self.talk, self.connections, self.sockets, self.ended = talk, 0, [], False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                s = self.listener.accept()[0]
                self.connections += 1
                self.sockets.append(s)
                threading.Thread(target=self.run, args=(s, self.connections), daemon=True).start()

    def run(self, s, n):
        with s, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            self.talk(s, n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # shutdown wakes the threads that wait in accept and recv; close alone does not
        for s in [self.listener, *self.sockets]:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()


def message(octets):
    return struct.pack(">BI", 0, len(octets)) + octets


HEAD = [(":status", "200"), ("content-type", "application/grpc")]
FINE = [("grpc-status", "0")]


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def speak_h2(on_infer, models=("good",), heads=None):
    """A talk() that serves the small calls well and gives ModelInfer to on_infer(s, h2, stream, answer bytes).
    on_infer returns True when the connection is to end. The requests' heads are kept in `heads`."""

    def talk(s, n):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        c.config.validate_outbound_headers = c.config.normalize_outbound_headers = False
        c.initiate_connection()
        s.sendall(c.data_to_send())
        calls = {}
        while octets := s.recv(65536):
            for e in c.receive_data(octets):
                if isinstance(e, h2.events.RequestReceived):
                    if heads is not None:
                        heads.append(dict(e.headers))
                    calls[e.stream_id] = [dict(e.headers)[":path"].rsplit("/", 1)[1], b""]
                elif isinstance(e, h2.events.DataReceived):
                    calls[e.stream_id][1] += e.data
                    c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
                elif isinstance(e, h2.events.StreamEnded):
                    method, body = calls.pop(e.stream_id)
                    if method == "ModelInfer":
                        request = service_pb2.ModelInferRequest.FromString(body[5:])
                        if on_infer(s, c, e.stream_id, answer_of(request, rows_of(request))):
                            return
                    else:
                        c.send_headers(e.stream_id, HEAD)
                        c.send_data(e.stream_id, message(small_call(method, body[5:], models)))
                        c.send_headers(e.stream_id, FINE, end_stream=True)
            s.sendall(c.data_to_send())

    return talk


def answer_well(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets))
    c.send_headers(stream, FINE, end_stream=True)


if __name__ == "__main__":
    main()
