"""Writes ONNX models field by field (numbers of onnx.proto), whole ones and broken ones."""
FLOAT, INT64, STRING = 1, 7, 8


def varint(n):
    n &= (1 << 64) - 1
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n)


def octets(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def value(name, dims, type_=FLOAT):
    """ValueInfoProto; a dimension is a number, or the name of a free one."""
    shape = b"".join(octets(1, octets(2, d) if isinstance(d, str) else number(1, d)) for d in dims)
    return octets(1, name) + octets(2, octets(1, number(1, type_) + octets(2, shape)))


def tensor(name, dims, raw=None, type_=FLOAT, location=None, more=b""):
    out = b"".join(number(1, d) for d in dims) + number(2, type_) + octets(8, name)
    if raw is not None:
        out += octets(9, raw)
    if location is not None:
        out += octets(13, octets(1, "location") + octets(2, location)) + number(14, 1)
    return out + more


def attribute(name, type_, payload):
    return octets(5, octets(1, name) + number(20, type_) + payload)


def node(op, inputs, outputs, attributes=b"", name=""):
    return b"".join(octets(1, i) for i in inputs) + b"".join(octets(2, o) for o in outputs) + octets(3, name or op) + octets(4, op) + attributes


def graph(nodes, inputs, outputs, weights=()):
    out = b"".join(octets(1, n) for n in nodes) + octets(2, "g")
    out += b"".join(octets(5, w) for w in weights)
    return out + b"".join(octets(11, i) for i in inputs) + b"".join(octets(12, o) for o in outputs)


def model(graph_, opset=13):
    return number(1, 8) + octets(7, graph_) + octets(8, octets(1, "") + number(2, opset))


def add_model(*weights, x=("n", 4), y=("n", 4), nodes=None):
    """y = x + w, with any weights in place of a good one."""
    return model(graph(nodes or [node("Add", ["x", "w"], ["y"])], [value("x", x)], [value("y", y)], weights))
