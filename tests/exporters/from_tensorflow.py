"""TensorFlow and Keras through tf2onnx."""
import numpy
import tensorflow
import tf2onnx
from tensorflow import keras

tensorflow.random.set_seed(7)
dice = numpy.random.default_rng(7)
layers = keras.layers


def function(call, *specs, opset=17):
    """A function of tensors; specs: shape and datatype of each, None is free (and 3 here)."""

    def make():
        signature = [tensorflow.TensorSpec(shape, kind, name=f"x{k}") for k, (shape, kind) in enumerate(specs)]
        proto, _ = tf2onnx.convert.from_function(tensorflow.function(call), input_signature=signature, opset=opset)
        feed = {}
        for k, (shape, kind) in enumerate(specs):
            shape = [3 if n is None else n for n in shape]
            value = dice.random(shape) if "float" in kind else dice.integers(0, 8, shape)
            feed[f"x{k}"] = numpy.asarray(value, kind)
        return proto, [{port.name: feed[port.name.split(":")[0]] for port in proto.graph.input}]

    return make


def net(shape, *stack, kind="float32", opset=17):
    """Layers in a row."""

    def make():
        model = keras.Sequential([keras.Input(shape, dtype=kind), *(layer() for layer in stack)])
        model(tensorflow.zeros([1, *(5 if n is None else n for n in shape)], kind))
        return function(lambda x: model(x, training=False), ([None, *shape], kind), opset=opset)()

    return make


def conv(n, size=3, stride=1, kind=layers.Conv2D, **settings):
    return lambda: keras.Sequential(
        [
            kind(n, size, stride, padding="same", use_bias=False, **settings)
            if kind is layers.Conv2D
            else kind(size, stride, padding="same", **settings),
            layers.BatchNormalization(moving_mean_initializer="random_normal", moving_variance_initializer="ones"),
            layers.ReLU(6.0),
        ]
    )


def arithmetic(x, y):
    t = tensorflow
    return t.sqrt(abs(x)) + t.math.squared_difference(x, y), t.math.floormod(x, 0.3), t.einsum("ij,kj->ik", x, y), \
        t.reduce_logsumexp(x, 1), t.math.l2_normalize(x, 1), t.where(x > y, x, y), t.nn.softmax(x), t.math.top_k(x, 2)[0]


def shapes(x):
    t = tensorflow
    n = t.shape(x)[0]
    return t.reshape(x, [n, -1]), t.transpose(x, [0, 2, 1]), x[:, ::2, 1:], t.tile(x, [1, 2, 1]), t.pad(x, [[0, 0], [1, 1], [0, 2]]), \
        t.concat([x, x], 2), t.stack([x, x], 1), t.reverse(x, [1]), t.cumsum(x, 1), t.one_hot(t.argmax(x, 2), 6), t.gather(x, [0, 2], axis=1)


def resizes(x):
    t = tensorflow.image
    return t.resize(x, (12, 10)), t.resize(x, (5, 6), "nearest"), t.resize(x, (16, 16), "bicubic"), \
        tensorflow.nn.space_to_depth(x, 2), tensorflow.nn.avg_pool2d(x, 3, 2, "SAME"), t.flip_left_right(x)


def loop(x):
    return tensorflow.while_loop(lambda i, _: i < 4, lambda i, y: (i + 1, tensorflow.tanh(y + x)), [0, x])[1]


def attention():
    def make():
        words = keras.Input((None, 16))
        model = keras.Model(words, layers.LayerNormalization()(words + layers.MultiHeadAttention(2, 8)(words, words)))
        return function(lambda x: model(x, training=False), ([None, 7, 16], "float32"))()

    return make


def separable(n):
    return lambda: layers.SeparableConv2D(n, 3, padding="same", activation="swish")


F = "float32"
flatten, pool = layers.Flatten, lambda: layers.MaxPooling2D(2)
MODELS = {
    "mlp": net([10], lambda: layers.Dense(16, "relu"), lambda: layers.Dense(3, "softmax")),
    "mlp_opset9": net([10], lambda: layers.Dense(16, "relu"), lambda: layers.Dense(3, "softmax"), opset=9),
    "lenet": net([28, 28, 1], lambda: layers.Conv2D(6, 5, activation="relu"), pool, flatten, lambda: layers.Dense(10, "softmax")),
    "mobile": net([32, 32, 3], conv(8, stride=2), conv(8, kind=layers.DepthwiseConv2D), conv(16, 1), separable(8), layers.GlobalAveragePooling2D),
    "mobile_free": net([None, None, 3], conv(8, stride=2), conv(8, kind=layers.DepthwiseConv2D), layers.GlobalAveragePooling2D),
    "transposed": net([8, 8, 3], lambda: layers.Conv2DTranspose(4, 3, 2, padding="same"), lambda: layers.UpSampling2D(2)),
    "dilated": net([16, 16, 3], lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same"), lambda: layers.LeakyReLU(), layers.PReLU),
    "conv1d": net([20, 4], lambda: layers.Conv1D(8, 3, padding="causal", activation="swish"), lambda: layers.MaxPooling1D(2), flatten),
    "lstm": net([7, 8], lambda: layers.LSTM(12)),
    "lstm_all": net([7, 8], lambda: layers.Bidirectional(layers.LSTM(12, return_sequences=True)), lambda: layers.Dense(2)),
    "gru": net([7, 8], lambda: layers.GRU(12)),
    "embedding": net([9], lambda: layers.Embedding(20, 6), lambda: layers.GlobalAveragePooling1D(), lambda: layers.Dense(2), kind="int32"),
    "norms": net([6, 8], layers.LayerNormalization, lambda: layers.GroupNormalization(2), lambda: layers.UnitNormalization()),
    "activations": net([10], *(lambda kind=kind: layers.Activation(kind) for kind in ("elu", "selu", "softplus", "swish", "hard_sigmoid"))),
    "attention": attention(),
    "arithmetic": function(arithmetic, ([None, 5], F), ([None, 5], F)),
    "shapes": function(shapes, ([None, 4, 6], F)),
    "resizes": function(resizes, ([None, 8, 8, 3], F)),
    "loop": function(loop, ([None, 4], F)),
}  # fmt: skip
