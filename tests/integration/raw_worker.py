"""A worker of frames and bytes of one's own, on a thread of the test: for what grpcio is too well brought up to do."""
import contextlib
import socket
import struct
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from tritonclient.grpc import service_pb2
from worker import Model, Refused, Worker, answer_of, rows_of


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


def worker_of(models):
    """A model named single does not batch."""
    return Worker([Model(m, {"max_batch": 0} if m == "single" else {}) for m in models])


def small_call(c, stream, worker, method, octets):
    c.send_headers(stream, HEAD)
    try:
        c.send_data(stream, message(getattr(worker, method)(octets, None)))
        c.send_headers(stream, FINE, end_stream=True)
    except Refused as r:
        c.send_headers(stream, [("grpc-status", str(r.code.value[0])), ("grpc-message", r.text)], end_stream=True)


def speak_h2(on_infer, models=("good",), heads=None):
    """A talk() that serves the small calls well (worker.py) and gives ModelInfer to on_infer(s, h2, stream, answer bytes).
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
                        small_call(c, e.stream_id, worker_of(models), method, body[5:])
            s.sendall(c.data_to_send())

    return talk


def answer_well(s, c, stream, octets):
    c.send_headers(stream, HEAD)
    c.send_data(stream, message(octets))
    c.send_headers(stream, FINE, end_stream=True)

