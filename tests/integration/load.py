"""Clients that keep asking while a test does harm, and count how each request ended.

    with Load(port, h1=4, h2=2) as load:
        load.wait(500)          # that many answers are in
        ...                     # the harm
    load.outcomes               # Counter: 200, 503, ... , "lost", "again"
    load.wrong                  # answers that are not the function of their own rows

"lost": the octets of a request had left whole, and its connection ended without an answer. "again": HTTP/2
told that the request was not processed (GOAWAY below its stream, REFUSED_STREAM), or nothing of it had been
sent: it may be asked again without harm, and is. "refused": a fresh connection ended before it brought one
octet: nobody had accepted it.
"""
import collections
import json
import math
import socket
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from harness import SAMPLES, infer_body, parse_answers, wait_for

BODIES = [infer_body([s["input"]]) for s in SAMPLES]
PATH = "/v2/models/digits/infer"
HEADS = [
    b"POST %s HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    % (PATH.encode(), len(b))
    for b in BODIES
]


def is_right(k, body):
    try:
        got = json.loads(body)["outputs"][0]["data"]
    except (ValueError, KeyError, IndexError):
        return False
    want = SAMPLES[k]["digits"]
    return len(got) == len(want) and all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(got, want))


class Connection(h2.connection.H2Connection):
    """h2 closes its own state at GOAWAY, but lower streams are still answered (RFC 9113 6.8)."""

    def _receive_goaway_frame(self, frame):
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class Load:
    def __init__(self, port, h1=4, h2=0, streams=16, until_refused=False):
        self.port, self.streams, self.until_refused = port, streams, until_refused
        self.outcomes, self.wrong, self.errors = collections.Counter(), [], []
        self.lock, self.ended = threading.Lock(), threading.Event()
        jobs = [self.h1_client] * h1 + [self.h2_client] * h2
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

    def judge(self, k, status, body):
        self.count(status)
        if status == 200 and not is_right(k, body):
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
            k = (k + 1) % len(BODIES)
            data, sent = b"", False
            try:
                s.sendall(HEADS[k] + BODIES[k])
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
            self.judge(k, status, body)
            if fields.get("connection", "").lower() == "close":
                return

    def h2_client(self, s):
        c = Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        c.initiate_connection()
        c.increment_flow_control_window(1 << 24)
        open_, leaving, k, fresh = {}, False, 0, True  # open_: stream: [k, status, body]
        try:
            while open_ or not (leaving or self.ended.is_set()):
                while len(open_) < self.streams and not (leaving or self.ended.is_set()):
                    k = (k + 1) % len(BODIES)
                    stream = c.get_next_available_stream_id()
                    head = {":method": "POST", ":scheme": "http", ":authority": "sluice", ":path": PATH}
                    c.send_headers(stream, [*head.items(), ("content-type", "application/json")])
                    c.send_data(stream, BODIES[k], end_stream=True)
                    open_[stream] = [k, 0, b""]
                s.sendall(c.data_to_send())
                got = s.recv(65536)
                if not got:
                    break
                fresh = False
                for e in c.receive_data(got):
                    leaving |= self.h2_event(c, e, open_)
        except (ConnectionResetError, BrokenPipeError):
            pass
        if open_:
            self.count("refused" if fresh else "lost", len(open_))

    def h2_event(self, c, e, open_):
        """True: the server wants no more on this connection."""
        if isinstance(e, h2.events.ResponseReceived):
            open_[e.stream_id][1] = int(dict(e.headers)[":status"])
        elif isinstance(e, h2.events.DataReceived):
            open_[e.stream_id][2] += e.data
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
