"""What both of PyTorch's exporters are given: modules in the ways that people write them, with inputs."""
import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(7)
torch.backends.mha.set_fastpath_enabled(False)  # one op of PyTorch's own for a whole layer


def image(*shape):
    return torch.rand(shape)


def conv(ins, outs, size=3, **settings):
    block = nn.Sequential(nn.Conv2d(ins, outs, size, padding=size // 2, **settings), nn.BatchNorm2d(outs), nn.ReLU())
    nn.init.uniform_(block[1].running_mean, -0.5, 0.5)  # as after some training
    nn.init.uniform_(block[1].running_var, 0.5, 2)
    return block


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, fn, **parts):
        super().__init__()
        self.fn = fn
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, y=None, z=None):
        return self.fn(self, *(each for each in (x, y, z) if each is not None))


class Residual(nn.Module):
    def __init__(self, ins, outs, stride=1):
        super().__init__()
        self.way = nn.Sequential(conv(ins, outs, stride=stride), nn.Conv2d(outs, outs, 3, padding=1), nn.BatchNorm2d(outs))
        self.short = nn.Conv2d(ins, outs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return functional.relu(self.way(x) + self.short(x))


class Inverted(nn.Module):
    """MobileNetV3's block: expansion, depthwise, squeeze and excitation, projection."""

    def __init__(self, n):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(n, 2 * n, 1), nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(2 * n, 2 * n, 5, padding=2, groups=2 * n), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(2 * n, n, 1), nn.ReLU(), nn.Conv2d(n, 2 * n, 1), nn.Hardsigmoid()
        )
        self.project = nn.Conv2d(2 * n, n, 1)

    def forward(self, x):
        y = self.depth(self.expand(x))
        return x + self.project(y * self.squeeze(y))


class UNet(nn.Module):
    def __init__(self, up):
        super().__init__()
        self.down, self.bottom, self.out = conv(3, 8), conv(8, 16), conv(24, 4)
        self.up = nn.ConvTranspose2d(16, 16, 2, 2) if up == "transposed" else nn.Upsample(scale_factor=2, mode=up)

    def forward(self, x):
        a = self.down(x)
        b = self.up(self.bottom(functional.max_pool2d(a, 2)))
        return torch.sigmoid(self.out(torch.cat([a, b], 1)))


class Swin(nn.Module):
    """Windows, rolled, as vision transformers have them."""

    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.qkv, self.out = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        x = self.patch(x).permute(0, 2, 3, 1)
        x = torch.roll(x, (-1, -1), (1, 2))
        b, h, w, c = x.shape
        x = x.reshape(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = self.qkv(self.norm(x)).reshape(-1, 4, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1) * 8**-0.5).softmax(-1)
        x = self.out((a @ v).transpose(1, 2).reshape(-1, 4, c))
        return x.reshape(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c).mean((1, 2))


class RootMeanSquare(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.scale = nn.Parameter(1 + 0.1 * torch.randn(n))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale


class Decoder(nn.Module):
    """A block of a language model: RMS norm, rotary embedding, causal attention, SwiGLU."""

    def __init__(self, n=32, heads=4):
        super().__init__()
        self.heads, self.words = heads, nn.Embedding(50, n)
        self.norm, self.norm2 = RootMeanSquare(n), RootMeanSquare(n)
        self.qkv, self.out = nn.Linear(n, 3 * n, bias=False), nn.Linear(n, n, bias=False)
        self.gate, self.up, self.down = nn.Linear(n, 64), nn.Linear(n, 64), nn.Linear(64, n)
        self.head = nn.Linear(n, 50, bias=False)

    def turn(self, x):
        n = x.shape[-1] // 2
        at = torch.arange(x.shape[-2], dtype=torch.float32)[:, None] * 10000 ** (-torch.arange(n) / n)
        a, b = x[..., :n], x[..., n:]
        return torch.cat([a * at.cos() - b * at.sin(), b * at.cos() + a * at.sin()], -1)

    def forward(self, ids):
        x = self.words(ids)
        b, t, n = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a = functional.scaled_dot_product_attention(self.turn(q), self.turn(k), v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(b, t, n))
        y = self.norm2(x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        return self.head(x)


class Masked(nn.Module):
    """BERT's way: words, places, kinds; a mask of ones and zeros."""

    def __init__(self, n=32):
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(60, n), nn.Embedding(64, n), nn.LayerNorm(n)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(n, 4, 64, activation="gelu", batch_first=True) for _ in range(2))
        self.pool = nn.Linear(n, n)

    def forward(self, ids, mask):
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device)))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=mask == 0)
        m = mask.unsqueeze(-1).to(x.dtype)
        return torch.tanh(self.pool(x[:, 0])), (x * m).sum(1) / m.sum(1).clamp(min=1e-9)


class Recurrent(nn.Module):
    def __init__(self, kind, **settings):
        super().__init__()
        self.net = getattr(nn, kind)(8, 12, batch_first=True, **settings)

    def forward(self, x):
        y, state = self.net(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)


def activations(_, x):
    f = functional
    plain = [f.elu, f.selu, f.celu, f.gelu, f.silu, f.mish, f.softplus, f.softsign, f.hardtanh, f.hardswish, f.hardsigmoid]
    plain += [f.leaky_relu, f.relu6, f.logsigmoid, f.tanhshrink, f.hardshrink, f.softshrink, torch.erf, torch.tanh]
    return torch.stack([fn(x) for fn in plain] + [f.gelu(x, approximate="tanh")])


def arithmetic(_, x, y):
    return x.pow(2) + torch.sqrt(x.abs() + 1) - torch.rsqrt(y.abs() + 1) + torch.log1p(x.abs()) / (y.exp() + 1), \
        torch.atan2(x, y), x // 0.3, torch.remainder(x, 0.7), torch.fmod(x, 0.7), torch.maximum(x, y), torch.lerp(x, y, 0.3)


def reductions(_, x):
    return x.sum(1), x.mean((2, 3)), x.amax(-1), x.amin((1, 2)), x.prod(2), x.std(1), x.var((2, 3), unbiased=False), \
        x.norm(dim=1), torch.logsumexp(x, 3), x.argmax(1), x.cumsum(2), x.max(2).values


def shapes(_, x):
    return x.flatten(1), x.unsqueeze(1).expand(-1, 2, -1, -1, -1), x.transpose(1, 3).contiguous().view(x.shape[0], -1), \
        x[:, 1:, ::2, -3:], x.flip(2), x.chunk(2, 3)[1], torch.roll(x, 1, 2), x.repeat(1, 2, 1, 1), x.narrow(3, 1, 2), \
        functional.pad(x, (1, 2, 0, 1)), functional.pad(x, (1, 1, 1, 1), mode="reflect"), \
        functional.pad(x, (1, 1, 2, 2), mode="replicate")


def choices(_, x, ids):
    one = functional.one_hot(ids, 8).float()
    best = torch.topk(x, 3, dim=1)
    return best.values, best.indices, torch.sort(x, 1, descending=True).values, x.gather(1, ids), torch.index_select(x, 1, ids[0]), \
        torch.where(x > 0.5, x, -x), x.masked_fill(x > 0.5, 0.0), torch.zeros_like(x).scatter(1, ids, 1.0), one, x.triu(), \
        torch.clamp(x, 0.2, 0.8), (x > 0.5) & (x < 0.9), torch.bucketize(x, torch.tensor([0.2, 0.4]))


def products(_, x, y):
    return torch.einsum("bij,bkj->bik", x, y), torch.bmm(x, y.transpose(1, 2)), torch.cdist(x, y), x @ y[0].T, \
        torch.baddbmm(torch.ones(1), x, y.transpose(1, 2)), functional.cosine_similarity(x, x + 1, -1), torch.outer(x[0, 0], y[0, 0])


def sizes(_, x):
    return [functional.interpolate(x, size=(11, 7), mode="bilinear"), functional.interpolate(x, scale_factor=2, mode="nearest"),
            functional.interpolate(x, size=(9, 9), mode="bilinear", align_corners=True),
            functional.interpolate(x, scale_factor=(1.5, 2), mode="bicubic"), functional.adaptive_avg_pool2d(x, 2),
            functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True), functional.max_pool2d(x, 3, 2, 1), functional.lp_pool2d(x, 2, 2),
            functional.pixel_shuffle(x, 2), functional.pixel_unshuffle(x, 2), functional.unfold(x, 3)]  # fmt: skip


def antialias(_, x):
    return functional.interpolate(x, size=(5, 6), mode="bilinear", antialias=True)


def own_norms(m, x):
    return m.norm(x), functional.rms_norm(x, (8,))


def rows_where(_, x):
    return x[x[:, 0] > 0.5]


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            y = x + 1
        else:
            y = x * 2
        return y


class Steps(nn.Module):
    def forward(self, x):
        y = torch.zeros_like(x[:, 0])
        for i in range(x.shape[1]):
            y = torch.tanh(y + x[:, i])
        return y


def linear(*sizes):
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


B = {0: "batch"}
PICTURE = {0: "batch", 2: "height", 3: "width"}
TOKENS = {0: "batch", 1: "tokens"}
ids = torch.randint(0, 8, (2, 8))

# name: (module, inputs, what is free of each)
MODULES = {
    "mlp": (linear(10, 16, 16, 3), [image(4, 10)], [B]),
    "mlp_fixed": (linear(10, 16, 3), [image(4, 10)], None),
    "lenet": (
        nn.Sequential(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                      nn.Flatten(), nn.Dropout(), nn.Linear(256, 10), nn.LogSoftmax(1)),
        [image(2, 1, 28, 28)], [B],
    ),
    "residual": (nn.Sequential(conv(3, 16), Residual(16, 16), Residual(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                               nn.Linear(32, 5)), [image(2, 3, 32, 32)], [B]),
    "residual_free": (nn.Sequential(conv(3, 16), Residual(16, 32, 2)), [image(2, 3, 32, 48)], [PICTURE]),
    "inverted": (nn.Sequential(conv(3, 16, stride=2), Inverted(16), Inverted(16)), [image(2, 3, 32, 32)], [B]),
    "unet_transposed": (UNet("transposed"), [image(1, 3, 32, 32)], [PICTURE]),
    "unet_nearest": (UNet("nearest"), [image(1, 3, 32, 32)], [PICTURE]),
    "unet_bilinear": (UNet("bilinear"), [image(2, 3, 32, 32)], [B]),
    "conv1d": (nn.Sequential(nn.Conv1d(4, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.GELU(), nn.Conv1d(8, 8, 3, dilation=2), nn.MaxPool1d(2)),
               [image(2, 4, 50)], [{0: "batch", 2: "samples"}]),
    "conv3d": (nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.ConvTranspose3d(4, 2, 2, 2)),
               [image(2, 2, 8, 8, 8)], [B]),
    "conv_grouped": (nn.Sequential(nn.Conv2d(8, 8, 3, groups=4, padding="same"), nn.Conv2d(8, 16, 3, 2, dilation=2)),
                     [image(2, 8, 20, 20)], [B]),
    "norms": (nn.Sequential(nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm([8, 6, 6]), nn.LocalResponseNorm(3)),
              [image(2, 8, 6, 6)], [B]),
    "activations": (Fn(activations), [torch.randn(3, 10)], [B]),
    "prelu": (nn.Sequential(nn.Linear(4, 6), nn.PReLU(6), nn.GLU()), [image(3, 4)], [B]),
    "arithmetic": (Fn(arithmetic), [torch.randn(3, 10), torch.randn(3, 10)], [B, B]),
    "reductions": (Fn(reductions), [image(2, 3, 5, 4)], None),
    "shapes": (Fn(shapes), [image(2, 4, 6, 6)], [B]),
    "choices": (Fn(choices), [image(2, 8), ids], None),
    "products": (Fn(products), [image(2, 4, 6), image(2, 5, 6)], [B, B]),
    "sizes": (Fn(sizes), [image(2, 4, 8, 8)], [B]),
    "own_norms": (Fn(own_norms, norm=nn.RMSNorm(8)), [torch.randn(3, 5, 8)], [B]),
    "antialias": (Fn(antialias), [image(1, 3, 16, 16)], None),
    "grid_sample": (Fn(lambda _, x, g: functional.grid_sample(x, g, align_corners=False)), [image(2, 3, 8, 8), 2 * image(2, 5, 5, 2) - 1], [B, B]),
    "affine": (Fn(lambda _, x, t: functional.grid_sample(x, functional.affine_grid(t, (2, 3, 6, 6)))), [image(2, 3, 8, 8), image(2, 2, 3)], None),
    "embedding_bag": (nn.Sequential(nn.EmbeddingBag(20, 6, mode="mean"), nn.Linear(6, 2)), [torch.randint(0, 20, (3, 7))], None),
    "embedding_mean": (Fn(lambda m, i: m.fc(m.words(i).mean(1)), words=nn.Embedding(20, 6), fc=nn.Linear(6, 2)), [torch.randint(0, 20, (3, 7))], [TOKENS]),
    "lstm": (Recurrent("LSTM"), [image(2, 7, 8)], [TOKENS]),
    "lstm_deep": (Recurrent("LSTM", num_layers=2, bidirectional=True), [image(2, 7, 8)], [TOKENS]),
    "gru": (Recurrent("GRU"), [image(2, 7, 8)], [TOKENS]),
    "gru_deep": (Recurrent("GRU", num_layers=2, bidirectional=True), [image(2, 7, 8)], [TOKENS]),
    "rnn": (Recurrent("RNN", nonlinearity="relu"), [image(2, 7, 8)], [TOKENS]),
    "lstm_cell": (Fn(lambda m, x, h, c: m.cell(x, (h, c)), cell=nn.LSTMCell(8, 12)), [image(2, 8), image(2, 12), image(2, 12)], [B, B, B]),
    "encoder": (nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2), [image(2, 6, 16)], [TOKENS]),
    "encoder_decoder": (nn.Transformer(16, 4, 1, 1, 32, batch_first=True), [image(2, 6, 16), image(2, 4, 16)], None),
    "attention": (Fn(lambda m, x: m.net(x, x, x), net=nn.MultiheadAttention(16, 4, batch_first=True)), [image(2, 6, 16)], [B]),
    "bert": (Masked(), [torch.randint(0, 60, (2, 9)), torch.tensor([[1] * 9, [1] * 5 + [0] * 4])], [TOKENS, TOKENS]),
    "decoder": (Decoder(), [torch.randint(0, 50, (2, 9))], [TOKENS]),
    "swin": (Swin(), [image(2, 3, 32, 32)], [B]),
    "half": (linear(10, 16, 3).half(), [image(4, 10).half()], [B]),
    "half_conv": (nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(512, 2)).half(), [image(2, 3, 8, 8).half()], [B]),
    "double": (linear(10, 16, 3).double(), [image(4, 10).double()], [B]),
    "spectrum": (Fn(lambda _, x: torch.stft(x, 16, 8, window=torch.hann_window(16), return_complex=True).abs()), [image(2, 64)], None),
    "rows_where": (Fn(rows_where), [image(6, 3)], [B]),
    "branch": (torch.jit.script(Branch()), [image(2, 3)], [B]),
    "steps": (torch.jit.script(Steps()), [image(2, 5, 3)], [TOKENS]),
    "two_inputs": (Fn(lambda m, a, b: (m.fc(torch.cat([a, b], 1)), a.mean()), fc=nn.Linear(7, 2)), [image(3, 4), image(3, 3)], [B, B]),
    "dictionary": (Fn(lambda m, x: {"scores": m.fc(x).softmax(-1), "best": m.fc(x).argmax(-1)}, fc=nn.Linear(7, 4)), [image(3, 7)], [B]),
}  # fmt: skip


def feeds_for(file, inputs):
    """By the names that the file gives them, in their order."""
    import onnx

    ports = onnx.load(str(file), load_external_data=False).graph.input
    return [{port.name: x.numpy() for port, x in zip(ports, inputs)}]
