"""Clients that keep asking while a test does harm, and count how each request ended.

    with Load(port, h1=4, h2=2, grpc=1) as load:
        load.wait(500)          # that many answers are in
        ...                     # the harm
    load.outcomes               # Counter: 200, 503, ... , "lost", "again"; of gRPC "UNAVAILABLE" and the like
    load.texts                  # Counter: what the answers that were not 200 said
    load.wrong                  # answers that are not the function of their own rows

"lost": the bytes of a request had left whole, and its connection ended without an answer. "again": HTTP/2
told that the request was not processed (GOAWAY below its stream, REFUSED_STREAM), or nothing of it had been
sent: it may be asked again without harm, and is. "refused": a fresh connection ended before it brought one
byte: nobody had accepted it.
"""
import collections
import json
import math
import socket
import struct
import threading

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from harness import SAMPLES, infer_body, parse_answers, wait_for
from tritonclient.grpc import service_pb2

INFER = "/inference.GRPCInferenceService/ModelInfer"


def grpc_message(model, tensor, row, **more):
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    request.inputs.add(name=tensor, datatype="FP32", shape=[1, len(row)])
    request.raw_input_contents.append(struct.pack(f"<{len(row)}f", *row))
    return request.SerializeToString()


class Questions:
    """What is asked of one model, a row each, and what is right: pairs of rows (input, output)."""

    def __init__(self, model, pairs, tensor="input"):
        self.path, self.wants = f"/v2/models/{model}/infer", [want for _, want in pairs]
        self.bodies = [infer_body([row], tensor=tensor) for row, _ in pairs]
        self.messages = [grpc_message(model, tensor, row) for row, _ in pairs]

    def following(self, k):
        """The question that a client asks behind question k."""
        return (k + 1) % len(self.wants)

    def body(self, k):
        return self.bodies[k]

    def message(self, k):
        return self.messages[k]

    def fields(self, k):
        """[(name, value)]: of its head, or metadata, beside what every request has."""
        return []

    def http1(self, k):
        fields = [("Host", "sluice"), ("Content-Type", "application/json"), ("Content-Length", len(self.body(k))), *self.fields(k)]
        lines = [f"POST {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body(k)

    def is_right(self, k, got):
        want = self.wants[k]
        return len(got) == len(want) and all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(got, want))

    def is_right_json(self, k, body):
        try:
            return self.is_right(k, json.loads(body)["outputs"][0]["data"])
        except (ValueError, KeyError, IndexError):
            return False

    def is_right_grpc(self, k, octets):
        raw = service_pb2.ModelInferResponse.FromString(octets).raw_output_contents[0]
        return self.is_right(k, struct.unpack(f"<{len(raw) // 4}f", raw))


DIGITS = Questions("digits", [(s["input"], s["digits"]) for s in SAMPLES])
is_right = DIGITS.is_right_json


class Connection(h2.connection.H2Connection):
    """h2 closes its own state at GOAWAY, but lower streams are still answered (RFC 9113 6.8)."""

    def _receive_goaway_frame(self, frame):
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class Load:
    def __init__(self, port, h1=4, h2=0, grpc=0, streams=16, until_refused=False, ask=DIGITS, pause=0.0):
        self.port, self.streams, self.until_refused, self.ask, self.pause = port, streams, until_refused, ask, pause
        self.outcomes, self.texts, self.wrong, self.errors = collections.Counter(), collections.Counter(), [], []
        self.lock, self.ended = threading.Lock(), threading.Event()
        jobs = [self.h1_client] * h1 + [self.h2_client] * h2 + [self.grpc_client] * grpc
        self.threads = [threading.Thread(target=self.run, args=(job,), daemon=True) for job in jobs]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, kind, *_):
        self.ended.set()
        for t in self.threads:
            t.join(60)
        assert kind or not any(t.is_alive() for t in self.threads), f"a client hangs: {self.outcomes}"
        assert kind or not self.errors, self.errors

    def run(self, job):
        while not self.ended.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 30) as s:
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    job(s)
            except ConnectionRefusedError:
                if self.until_refused:
                    return
                self.ended.wait(0.02)
            except TimeoutError:
                self.count("hung")
            except Exception as e:
                self.errors.append(repr(e))
                return

    def count(self, outcome, n=1):
        with self.lock:
            self.outcomes[outcome] += n

    def judge(self, k, status, fields, body):
        self.count(status)
        if status != 200:
            self.texts[f"{status} {body[:200]!r}"] += 1
        if status == 200 and not self.ask.is_right_json(k, body):
            self.wrong.append((k, body[:300]))

    def wait(self, answers, outcome=200, timeout=60):
        """Until that many more requests have had that outcome."""
        until = self.outcomes[outcome] + answers
        wait_for(lambda: self.outcomes[outcome] >= until or self.errors, timeout, f"{answers} x {outcome}")

    @property
    def answers(self):
        return sum(n for outcome, n in self.outcomes.items() if isinstance(outcome, int))

    def h1_client(self, s):
        k, fresh = 0, True
        while not self.ended.is_set():
            k = self.ask.following(k)
            data, sent = b"", False
            try:
                s.sendall(self.ask.http1(k))
                sent = True
                while not parse_answers(data):
                    got = s.recv(65536)
                    if not got:
                        break
                    data += got
            except (ConnectionResetError, BrokenPipeError):
                pass
            answers = parse_answers(data)
            if not answers:
                self.count("again" if not sent else "refused" if fresh and not data else "lost")
                return
            fresh = False
            status, fields, body = answers[0]
            self.judge(k, status, fields, body)
            if len(answers) > 1:
                self.errors.append(f"more than one answer: {data!r}")
            self.ended.wait(self.pause)
            if fields.get("connection", "").lower() == "close":
                return

    def h2_client(self, s):
        c = Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        c.initiate_connection()
        c.increment_flow_control_window(1 << 24)
        open_, leaving, k, fresh = {}, False, 0, True  # open_: stream: [k, status, head, body]
        try:
            while open_ or not (leaving or self.ended.is_set()):
                while len(open_) < self.streams and not (leaving or self.ended.is_set()):
                    k = self.ask.following(k)
                    stream = c.get_next_available_stream_id()
                    head = {":method": "POST", ":scheme": "http", ":authority": "sluice", ":path": self.ask.path}
                    c.send_headers(stream, [*head.items(), ("content-type", "application/json"), *self.ask.fields(k)])
                    c.send_data(stream, self.ask.body(k), end_stream=True)
                    open_[stream] = [k, 0, {}, b""]
                s.sendall(c.data_to_send())
                got = s.recv(65536)
                if not got:
                    break
                fresh = False
                for e in c.receive_data(got):
                    leaving |= self.h2_event(c, e, open_)
                self.ended.wait(self.pause)
        except (ConnectionResetError, BrokenPipeError):
            pass
        if open_:
            self.count("refused" if fresh else "lost", len(open_))

    def h2_event(self, c, e, open_):
        """True: the server wants no more on this connection."""
        if isinstance(e, h2.events.ResponseReceived):
            open_[e.stream_id][2] = dict(e.headers)
            open_[e.stream_id][1] = int(open_[e.stream_id][2][":status"])
        elif isinstance(e, h2.events.DataReceived):
            open_[e.stream_id][3] += e.data
            if e.flow_controlled_length:
                c.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded):
            self.judge(*open_.pop(e.stream_id))
        elif isinstance(e, h2.events.StreamReset):
            mine = open_.pop(e.stream_id, None)
            if mine:
                self.count("again" if e.error_code == h2.errors.ErrorCodes.REFUSED_STREAM else "reset")
        elif isinstance(e, h2.events.ConnectionTerminated):
            for stream in [n for n in open_ if n > e.last_stream_id]:
                del open_[stream]
                self.count("again")
            return True
        return False

    def grpc_client(self, s):
        """A channel of its own; s is only the sign that somebody listens."""
        s.close()
        k, own = 0, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=own) as channel:
            call = channel.unary_unary(INFER)
            while not self.ended.is_set():
                k = self.ask.following(k)
                try:
                    answer, done = call.with_call(self.ask.message(k), timeout=60, metadata=self.ask.fields(k))
                    said = [*done.initial_metadata(), *done.trailing_metadata()]
                    self.judge_grpc(k, 200, dict(said), answer)
                except grpc.RpcError as e:
                    said = [*(e.initial_metadata() or ()), *(e.trailing_metadata() or ())]
                    self.judge_grpc(k, e.code().name, dict(said), (e.details() or "").encode())
                self.ended.wait(self.pause)

    def judge_grpc(self, k, status, fields, answer):
        """The message of an answer; with a status that is not 200, its words."""
        self.count(status)
        if status != 200:
            self.texts[f"{status} {answer.decode()[:200]}"] += 1
        elif not self.ask.is_right_grpc(k, answer):
            self.wrong.append((k, answer[:300]))
