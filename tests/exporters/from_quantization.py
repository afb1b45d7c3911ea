"""onnxruntime's quantization: of files that another exporter has written, by calibration or as they run."""
import pathlib
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType

dice = numpy.random.default_rng(7)
KEPT = []  # folders, until the process ends


def tensor(name, *shape, spread=0.5):
    return numpy_helper.from_array(dice.normal(0, spread, shape).astype(numpy.float32), name)


def file_of(nodes, inputs, outputs, constants):
    KEPT.append(tempfile.TemporaryDirectory())
    file = pathlib.Path(KEPT[-1].name) / "float.onnx"
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in each.items()] for each in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *ports, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def convolutions():
    """Convolutions as an image model has them: plain, depthwise, strided, with a sum around; a pool; a classifier."""
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "w0", "b0"], ["c0"], kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
        n("Relu", ["c0"], ["r0"]),
        n("Conv", ["r0", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1] * 4, group=16),
        n("Clip", ["c1", "zero", "six"], ["r1"]),
        n("Conv", ["r1", "w2"], ["c2"], kernel_shape=[1, 1]),
        n("Add", ["c2", "r0"], ["a"]),
        n("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        n("Conv", ["p", "w3", "b3"], ["c3"], kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4),
        n("Sigmoid", ["c3"], ["s"]),
        n("Mul", ["c3", "s"], ["m"]),
        n("GlobalAveragePool", ["m"], ["g"]),
        n("Flatten", ["g"], ["f"]),
        n("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    constants = [tensor("w0", 16, 3, 3, 3), tensor("b0", 16), tensor("w1", 16, 1, 3, 3), tensor("b1", 16), tensor("w2", 16, 16, 1, 1),
                 tensor("w3", 32, 16, 3, 3), tensor("b3", 32), tensor("w4", 10, 32), tensor("b4", 10),
                 numpy_helper.from_array(numpy.float32(0), "zero"), numpy_helper.from_array(numpy.float32(6), "six")]  # fmt: skip
    return file_of(nodes, {"x": ["N", 3, 32, 32]}, {"y": ["N", 10]}, constants), [1, 3, 32, 32]


def dense():
    """Layers of a transformer: products with constants, products of what was made, gelu, a norm."""
    n = helper.make_node
    nodes = [
        n("MatMul", ["x", "w0"], ["m0"]),
        n("Add", ["m0", "b0"], ["a0"]),
        n("Softmax", ["a0"], ["s"], axis=-1),
        n("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        n("MatMul", ["a0", "t"], ["q"]),
        n("MatMul", ["q", "s"], ["v"]),
        n("LayerNormalization", ["v", "g", "b1"], ["l"]),
        n("MatMul", ["l", "w1"], ["m1"]),
        n("Relu", ["m1"], ["r"]),
        n("MatMul", ["r", "w2"], ["y"]),
    ]
    constants = [tensor("w0", 24, 24), tensor("b0", 24), tensor("g", 24), tensor("b1", 24), tensor("w1", 24, 48), tensor("w2", 48, 8)]
    return file_of(nodes, {"x": ["N", 6, 24]}, {"y": ["N", 6, 8]}, constants), [1, 6, 24]


class Calibration(quantization.CalibrationDataReader):
    def __init__(self, shape):
        self.batches = iter([{"x": dice.normal(size=shape).astype(numpy.float32)} for _ in range(4)])

    def get_next(self):
        return next(self.batches, None)


def quantized(make, **settings):
    def export():
        file, shape = make()
        out = file.parent / "model.onnx"
        quantization.quantize_static(str(file), str(out), Calibration(shape), **settings)
        return finish(file, out, shape)

    return export


def dynamic(make, **settings):
    def export():
        file, shape = make()
        out = file.parent / "model.onnx"
        quantization.quantize_dynamic(str(file), str(out), **settings)
        return finish(file, out, shape)

    return export


def finish(file, out, shape):
    file.unlink()
    rows = [dice.normal(size=[n, *shape[1:]]).astype(numpy.float32) for n in (1, 5)]
    return out, [{"x": x} for x in rows]


S8, U8 = QuantType.QInt8, QuantType.QUInt8
MODELS = {}
for name, make in (("convolutions", convolutions), ("dense", dense)):
    MODELS |= {
        f"{name}_qdq": quantized(make),
        f"{name}_qdq_u8": quantized(make, activation_type=U8, weight_type=S8),
        f"{name}_qdq_u8_channels": quantized(make, activation_type=U8, weight_type=S8, per_channel=True),
        f"{name}_qdq_s8_channels": quantized(make, activation_type=S8, weight_type=S8, per_channel=True),
        f"{name}_qdq_u8u8": quantized(make, activation_type=U8, weight_type=U8),
        f"{name}_qdq_16": quantized(make, activation_type=QuantType.QUInt16, weight_type=S8),
        f"{name}_operators": quantized(make, quant_format=QuantFormat.QOperator, activation_type=U8, weight_type=S8),
        f"{name}_operators_channels": quantized(
            make, quant_format=QuantFormat.QOperator, activation_type=U8, weight_type=S8, per_channel=True
        ),
        f"{name}_dynamic": dynamic(make, weight_type=U8),
        f"{name}_dynamic_s8": dynamic(make, weight_type=S8),
        f"{name}_dynamic_channels": dynamic(make, weight_type=S8, per_channel=True),
    }
