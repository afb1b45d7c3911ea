"""HTTP/2 by hand: frames of any shape, and a connection that keeps what came back."""
import struct
import time

import hpack
from harness import Wire

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NO_ERROR, PROTOCOL, INTERNAL, FLOW, TIMEOUT, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, CONNECT, CALM = range(12)
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A field without index and Huffman coding, whatever its bytes are."""

    def text(t):
        t = t.encode("latin-1") if isinstance(t, str) else t
        return (bytes([len(t)]) if len(t) < 127 else b"\x7f" + varint(len(t) - 127)) + t

    return b"\x00" + text(name) + text(value)


def varint(n):
    out = b""
    while n >= 128:
        out, n = out + bytes([n % 128 | 128]), n // 128
    return out + bytes([n])


def block(fields):
    return b"".join(literal(n, v) for n, v in fields)


def head(stream, fields, end=True):
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


class H2:
    """A connection that sends any frames; what came back is kept."""

    def __init__(self, target, settings=b"", begin=True):
        self.wire, self.frames, self.left = Wire(target.port), [], b""
        self.decoder = hpack.Decoder()
        self.headers, self.bodies, self.resets, self.goaway = {}, {}, {}, None
        if begin:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings) + frame(SETTINGS, ACK))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.socket.close()

    def send(self, octets):
        self.wire.send(octets)
        return self

    def read(self, timeout):
        seen = len(self.wire.data)
        more = self.wire.take(timeout)
        self.left += self.wire.data[seen:]
        while len(self.left) >= 9 and len(self.left) >= 9 + int.from_bytes(self.left[:3], "big"):
            n = int.from_bytes(self.left[:3], "big")
            kind, flags = self.left[3], self.left[4]
            stream = int.from_bytes(self.left[5:9], "big")
            self.take_frame(kind, flags, stream, self.left[9 : 9 + n])
            self.left = self.left[9 + n :]
        return more

    def take_frame(self, kind, flags, stream, payload):
        self.frames.append((kind, flags, stream, payload))
        if kind == HEADERS:
            self.headers.setdefault(stream, {}).update(dict(self.decoder.decode(payload)))
        elif kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        elif kind == RST:
            self.resets[stream] = struct.unpack(">I", payload)[0]
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">II", payload[:8])[1]

    def status(self, stream):
        return int(self.headers.get(stream, {}).get(":status", 0))

    def until(self, condition, timeout=40.0):
        until = time.monotonic() + timeout
        while not condition() and not self.wire.closed and time.monotonic() < until:
            self.read(0.2)
        return condition()

    def is_over(self, stream):
        """Refused or answered with an error, and not with what was asked for."""
        return stream in self.resets or self.goaway is not None or self.status(stream) >= 400 or self.wire.closed

    def ends(self, timeout=40.0):
        self.until(lambda: self.wire.closed, timeout)
        return self.wire.closed
