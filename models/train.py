#!/usr/bin/env python3
"""Trains the two demo models on scikit-learn's digits and writes them as ONNX files.

    python3 -m venv /tmp/train && /tmp/train/bin/pip install numpy scikit-learn
    /tmp/train/bin/python models/train.py

`digits` is a small convolutional network, trained here by back-propagation in numpy; `digits-small`
is a perceptron with one hidden layer by scikit-learn. Both take rows of 64 grey values 0..16 (8 x 8,
row by row) and give ten probabilities. Seeds are fixed: the same libraries on the same kind of machine give
the same files, others give files that are right as often.

Beside the models: README.md's table of accuracy (printed), and samples.json, a few rows nobody
trained on, for `make run` and the tests.
"""
import json
import pathlib
import struct

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20
EPOCHS, BATCH, RATE = 150, 32, 3e-3


# ---- ONNX: the dozen protobuf messages that a plain feed-forward model needs ----------------------
# Field numbers from onnx.proto (IR version 8, opset 13).


def varint(n):
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, value):
    """One field: int as varint, float as 32 bits, bytes, str and messages with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(name, array):
    kind = {"float32": 1, "int64": 7}[str(array.dtype)]
    dims = b"".join(field(1, d) for d in array.shape)
    return dims + field(2, kind) + field(8, name) + field(9, array.tobytes())


def attribute(name, value):
    head = field(1, name)
    if isinstance(value, int):
        return head + field(3, value) + field(20, 2)
    return head + b"".join(field(8, v) for v in value) + field(20, 7)


def node(op, inputs, output, **attributes):
    body = b"".join(field(1, i) for i in inputs) + field(2, output)
    body += field(3, output) + field(4, op)
    return body + b"".join(field(5, attribute(k, v)) for k, v in attributes.items())


def value_info(name, columns):
    dims = field(1, field(2, "N")) + field(1, field(1, columns))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))


def write_model(path, name, nodes, weights):
    graph = b"".join(field(1, n) for n in nodes) + field(2, name)
    graph += b"".join(field(5, tensor(k, v)) for k, v in weights.items())
    graph += field(11, value_info("input", 64)) + field(12, value_info("probabilities", 10))
    model = field(1, 8) + field(2, "sluice models/train.py") + field(7, graph)
    model += field(8, field(1, "") + field(2, 13))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    return len(model)


# ---- the convolutional network --------------------------------------------------------------------


def patches(x):
    """[n, c, h, w] -> [n, h, w, c * 9]: the 3 x 3 neighbourhood of each pixel, zeros outside."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    parts = [padded[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return np.stack(parts, axis=2).reshape(n, c * 9, h, w).transpose(0, 2, 3, 1)


def unpatch(g, c):
    """The transpose of patches: gradients of the neighbourhoods, summed into the pixels."""
    n, h, w, _ = g.shape
    g = g.transpose(0, 3, 1, 2).reshape(n, c, 9, h, w)
    padded = np.zeros((n, c, h + 2, w + 2), g.dtype)
    for k in range(9):
        i, j = divmod(k, 3)
        padded[:, :, i : i + h, j : j + w] += g[:, :, k]
    return padded[:, :, 1:-1, 1:-1]


class Conv:
    """3 x 3, padding 1, then Relu, then the greatest of each 2 x 2."""

    def __init__(self, rng, c_in, c_out):
        scale = np.sqrt(2 / (c_in * 9))
        self.w = rng.normal(0, scale, (c_in * 9, c_out)).astype(np.float32)
        self.b = np.zeros(c_out, np.float32)

    def forward(self, x):
        self.c_in, self.cols = x.shape[1], patches(x)
        y = np.maximum(self.cols @ self.w + self.b, 0).transpose(0, 3, 1, 2)
        n, c, h, w = y.shape
        blocks = y.reshape(n, c, h // 2, 2, w // 2, 2)
        pooled = blocks.max(axis=(3, 5))
        first = blocks == pooled[:, :, :, None, :, None]
        self.mask = (first & (blocks > 0)) / np.maximum(first.sum(axis=(3, 5), keepdims=True), 1)
        return pooled

    def backward(self, g):
        g = (self.mask * g[:, :, :, None, :, None]).astype(np.float32)
        n, c, h, _, w, _ = g.shape
        g = g.reshape(n, c, h * 2, w * 2).transpose(0, 2, 3, 1)
        flat = g.reshape(-1, c)
        self.grads = [self.cols.reshape(len(flat), -1).T @ flat, flat.sum(0)]
        return unpatch(g @ self.w.T, self.c_in)


class Dense:
    def __init__(self, rng, n_in, n_out, relu):
        self.w = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        self.b, self.relu = np.zeros(n_out, np.float32), relu

    def forward(self, x):
        self.x, self.y = x, x @ self.w + self.b
        return np.maximum(self.y, 0) if self.relu else self.y

    def backward(self, g):
        if self.relu:
            g = g * (self.y > 0)
        self.grads = [self.x.T @ g, g.sum(0)]
        return g @ self.w.T


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Network:
    def __init__(self, rng):
        self.convs = [Conv(rng, 1, 8), Conv(rng, 8, 16)]
        self.dense = [Dense(rng, 64, 48, True), Dense(rng, 48, 10, False)]

    def forward(self, rows):
        x = (rows / 16).reshape(-1, 1, 8, 8).astype(np.float32)
        for layer in self.convs:
            x = layer.forward(x)
        self.shape = x.shape
        x = x.reshape(len(x), -1)
        for layer in self.dense:
            x = layer.forward(x)
        return softmax(x)

    def backward(self, g):
        for layer in reversed(self.dense):
            g = layer.backward(g)
        g = g.reshape(self.shape)
        for layer in reversed(self.convs):
            g = layer.backward(g)


def shifted(rng, rows):
    """Each picture moved by at most one pixel: six strokes in ten stay where they are."""
    out = rows.reshape(-1, 8, 8).copy()
    for k in np.flatnonzero(rng.random(len(out)) < 0.4):
        dy, dx = rng.integers(-1, 2, 2)
        source = np.pad(out[k], 1)
        out[k] = source[1 + dy : 9 + dy, 1 + dx : 9 + dx]
    return out.reshape(-1, 64)


def train_network(rows, labels):
    rng = np.random.default_rng(SEED)
    net = Network(rng)
    layers = net.convs + net.dense
    moments = [[(np.zeros_like(p), np.zeros_like(p)) for p in (l.w, l.b)] for l in layers]
    step = 0
    for epoch in range(EPOCHS):
        rate = RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        order = rng.permutation(len(rows))
        for at in range(0, len(rows), BATCH):
            pick = order[at : at + BATCH]
            p = net.forward(shifted(rng, rows[pick]))
            p[np.arange(len(pick)), labels[pick]] -= 1
            net.backward((p / len(pick)).astype(np.float32))
            step += 1
            for layer, moment in zip(layers, moments):  # Adam (Kingma & Ba 2015, algorithm 1)
                for value, g, (m, v) in zip((layer.w, layer.b), layer.grads, moment):
                    m += 0.1 * (g - m)
                    v += 0.001 * (g * g - v)
                    unbiased = np.sqrt(v / (1 - 0.999**step)) + 1e-8
                    value -= (rate / (1 - 0.9**step) * m / unbiased).astype(np.float32)
    return net


def write_network(net):
    weights = {"scale": np.array([16], np.float32), "square": np.array([-1, 1, 8, 8], np.int64)}
    weights["flat"] = np.array([-1, 64], np.int64)
    nodes = [node("Div", ["input", "scale"], "scaled")]
    nodes.append(node("Reshape", ["scaled", "square"], "pooled0"))
    for k, conv in enumerate(net.convs, 1):
        kernel = conv.w.T.reshape(-1, conv.w.shape[0] // 9, 3, 3)
        weights[f"conv{k}_w"], weights[f"conv{k}_b"] = np.ascontiguousarray(kernel), conv.b
        inputs = [f"pooled{k - 1}", f"conv{k}_w", f"conv{k}_b"]
        shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}
        nodes.append(node("Conv", inputs, f"conv{k}", **shape))
        nodes.append(node("Relu", [f"conv{k}"], f"relu{k}"))
        pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
        nodes.append(node("MaxPool", [f"relu{k}"], f"pooled{k}", **pool))
    nodes.append(node("Reshape", ["pooled2", "flat"], "features"))
    write = [(d.w, d.b, d.relu) for d in net.dense]
    return write_dense("digits", nodes, weights, "features", write)


def write_dense(name, nodes, weights, source, layers):
    """The rest of a model from `source` on: Gemm and Relu by layer, then Softmax; written out."""
    for k, (w, b, relu) in enumerate(layers, 1):
        weights[f"gemm{k}_w"] = np.ascontiguousarray(w, np.float32)
        weights[f"gemm{k}_b"] = np.ascontiguousarray(b, np.float32)
        nodes.append(node("Gemm", [source, f"gemm{k}_w", f"gemm{k}_b"], f"gemm{k}"))
        source = f"gemm{k}"
        if relu:
            nodes.append(node("Relu", [source], f"hidden{k}"))
            source = f"hidden{k}"
    nodes.append(node("Softmax", [source], "probabilities", axis=1))
    return write_model(HERE / name / "1" / "model.onnx", name.replace("-", "_"), nodes, weights)


def train_perceptron(rows, labels):
    small = MLPClassifier((32,), alpha=0.1, max_iter=1500, random_state=SEED)
    return small.fit((rows - 8) / 8, labels)


def write_perceptron(small):
    weights = {"mean": np.array([8], np.float32), "scale": np.array([8], np.float32)}
    nodes = [node("Sub", ["input", "mean"], "centred"), node("Div", ["centred", "scale"], "scaled")]
    layers = [(w, b, k == 0) for k, (w, b) in enumerate(zip(small.coefs_, small.intercepts_))]
    return write_dense("digits-small", nodes, weights, "scaled", layers)


# ---- all of it ------------------------------------------------------------------------------------


def write_samples(rows, labels, probabilities):
    """For each digit two rows of the held-out part, with what the two models answer."""
    chosen = [k for d in range(10) for k in np.flatnonzero(labels == d)[:2]]
    samples = [
        {
            "label": int(labels[k]),
            "input": [int(v) for v in rows[k]],
            **{name: [float(np.float32(v)) for v in p[k]] for name, p in probabilities.items()},
        }
        for k in chosen
    ]
    text = ",\n".join(json.dumps(s, separators=(",", ":")) for s in samples)
    (HERE / "samples.json").write_text("[\n" + text + "\n]\n")


def main():
    rows, labels = load_digits(return_X_y=True)
    rows = rows.astype(np.float32)
    rows, held, labels, truth = train_test_split(
        rows, labels, test_size=0.2, random_state=SEED, stratify=labels
    )
    net, small = train_network(rows, labels), train_perceptron(rows, labels)
    answers = {"digits": net.forward(held), "digits-small": small.predict_proba((held - 8) / 8)}
    sizes = {"digits": write_network(net), "digits-small": write_perceptron(small)}
    write_samples(held, truth, answers)
    print(f"{len(rows)} rows to train on, {len(held)} held out")
    for name, p in answers.items():
        right = int((p.argmax(axis=1) == truth).sum())
        print(f"{name}: {right} of {len(held)} right ({right / len(held):.2%}), {sizes[name]} bytes")


if __name__ == "__main__":
    main()
