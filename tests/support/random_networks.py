"""Small networks drawn at random, of all that a graph may be made of.

Every number is a network, its data and its loss, the same for ever.
"""

import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

import composite

WIDTH, WORDS, LENGTH = 4, 5, 3
SMOOTH = (nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus, nn.Sigmoid, nn.Mish, nn.CELU)
KINKED = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.PReLU)
LOSSES = {
    "cross_entropy": composite.cross_entropy,
    "mse": composite.mse,
    "log_odds": composite.log_odds,
}


class Residual(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Scalar(nn.Module):
    """A parameter without dimensions that multiplies, and one that is added."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return self.factor * x + self.offset


class Empty(nn.Module):
    """A parameter without entries that is joined to the activations."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0, WIDTH))

    def forward(self, x):
        return x + self.nothing.sum(0)


class Unused(nn.Module):
    """A parameter that has no influence."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x


class Heads(nn.Module):
    """Attention over the positions of a sequence."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v)


class MultiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x, need_weights=False)[0]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, x):
        return self.inner(x)[0]


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


class TiedHead(nn.Module):
    """Words in, words out, by one table."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def forward(self, x):
        return F.linear(x, self.table.weight)


class Tied(nn.Module):
    """A layer used once more, with a bias of its own."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, x):
        return self.layer(x) + self.bias


class Squeezed(nn.Module):
    def forward(self, x):
        return x[:, 0]


@dataclass(frozen=True)
class Network:
    """A model, its data and loss, and the ways of multiplying that suit it."""

    model: nn.Module
    data: tuple
    loss: str
    mode: str
    kinked: bool
    text: str

    @property
    def backends(self):
        ways = ("auto", "retained", "recompute", "func")
        return ways if self.kinked else (*ways, "finite_difference")


def network(seed):
    """The network of a number."""
    draw = random.Random(seed)
    mode = draw.choice(["eval", "eval", "train"])
    kind = draw.choice(["vectors", "words", "pictures"])
    kinked = draw.random() < 0.25
    layers = {"vectors": _vectors, "words": _words, "pictures": _pictures}[kind](
        draw, mode, KINKED if kinked else SMOOTH
    )
    classes = draw.choice([2, 3])
    loss = draw.choice(list(LOSSES))
    if isinstance(layers[-1], Mean) and draw.random() < 0.3:
        classes, head = WORDS, [TiedHead(layers[0])]
    else:
        head = [_linear(draw, _width(kind, layers), classes)]
    if loss == "log_odds":
        head.append(Squeezed())
    model = _drawn(nn.Sequential(*layers, *head), seed)
    data = _data(seed, kind, loss, classes)
    return Network(
        model,
        data,
        loss,
        mode,
        kinked,
        f"{seed} {mode} {loss} {[k for k, _ in model.named_parameters()]} {model}",
    )


def _vectors(draw, mode, activations):
    layers = [_linear(draw, WIDTH, WIDTH)]
    for _ in range(draw.choice([1, 2, 3])):
        layers += _block(draw, mode, activations, _norm)
    if draw.random() < 0.2:
        layers.append(Tied(layers[0]))
    return layers


def _block(draw, mode, activations, norm):
    layer = _linear(draw, WIDTH, WIDTH)
    if draw.random() < 0.4:
        layer = Residual(nn.Sequential(layer, draw.choice(activations)()))
    chosen = [norm(draw), draw.choice(activations)()]
    if mode == "train" and draw.random() < 0.4:
        chosen.append(nn.Dropout(0.3))
    odd = [m() for m in (Scalar, Empty, Unused) if draw.random() < 0.2]
    return [layer, *chosen, *odd]


def _norm(draw):
    affine = draw.random() < 0.7
    bias = draw.random() < 0.7
    makers = [
        lambda: nn.LayerNorm(WIDTH, elementwise_affine=affine, bias=bias),
        lambda: nn.RMSNorm(WIDTH, elementwise_affine=affine),
        lambda: nn.GroupNorm(2, WIDTH, affine=affine),
        lambda: _partial(nn.BatchNorm1d(WIDTH, affine=affine), bias, draw),
        nn.Identity,
    ]
    return draw.choice(makers)()


def _partial(norm, bias, draw):
    """A batch norm that may lack its weight or its bias alone."""
    if norm.affine and not bias:
        name = draw.choice(["weight", "bias"])
        norm.register_parameter(name, None)
    return norm


def _linear(draw, inputs, outputs):
    layer = nn.Linear(inputs, outputs, bias=draw.random() < 0.7)
    return _weight_normed(draw, layer)


def _weight_normed(draw, layer):
    chance = draw.random()
    if chance < 0.12:
        return parametrizations.weight_norm(layer, dim=draw.choice([0, 1, None]))
    if chance < 0.2:
        return _old_weight_norm(layer)
    return layer


def _old_weight_norm(layer):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return weight_norm(layer)


def _words(draw, mode, activations):
    if draw.random() < 0.15:
        how = draw.choice(["sum", "mean", "max"])
        padding = draw.choice([None, 0])
        return [nn.EmbeddingBag(WORDS, WIDTH, mode=how, padding_idx=padding)]
    layers = [nn.Embedding(WORDS, WIDTH, padding_idx=draw.choice([None, None, 0, 2]))]
    mixing = [Heads, MultiHead, Recurrent, nn.Identity]
    for _ in range(draw.choice([1, 2])):
        inner = draw.choice(mixing)()
        layers.append(Residual(inner) if draw.random() < 0.5 else inner)
        layers += _block(draw, mode, activations, _row_norm)
    return [*layers, Mean()]


def _row_norm(draw):
    affine = draw.random() < 0.7
    layer = nn.LayerNorm(WIDTH, elementwise_affine=affine)
    return draw.choice([layer, nn.RMSNorm(WIDTH), nn.Identity()])


def _pictures(draw, mode, activations):
    channels = 2
    layers = [_convolution(draw, 1, channels, 2)]
    for _ in range(draw.choice([1, 2])):
        layers.append(_picture_norm(draw, channels))
        layers.append(draw.choice(activations)())
        inner = _convolution(draw, channels, channels, 1)
        layers.append(Residual(inner) if draw.random() < 0.5 else inner)
    if mode == "train" and draw.random() < 0.3:
        layers.append(nn.Dropout2d(0.3))
    pools = [nn.AvgPool2d(3), nn.AdaptiveAvgPool2d(1)]
    if activations is KINKED:
        pools.append(nn.MaxPool2d(3))
    return [*layers, draw.choice(pools), nn.Flatten()]


def _convolution(draw, inputs, outputs, kernel):
    layer = nn.Conv2d(inputs, outputs, kernel, bias=draw.random() < 0.6)
    return _weight_normed(draw, layer)


def _picture_norm(draw, channels):
    affine = draw.random() < 0.7
    bias = draw.random() < 0.7
    makers = [
        lambda: _partial(nn.BatchNorm2d(channels, affine=affine), bias, draw),
        lambda: nn.InstanceNorm2d(channels, affine=affine),
        lambda: nn.GroupNorm(1, channels, affine=affine),
        nn.Identity,
    ]
    return draw.choice(makers)()


def _width(kind, layers):
    return 2 if kind == "pictures" else WIDTH


def _drawn(model, seed):
    source = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64)
            p.copy_(0.3 + 0.6 * noise)
        for name, buffer in model.named_buffers():
            if "running_" in name:
                low = 0.5 if name.endswith("var") else -0.2
                buffer.uniform_(low, low + 0.9, generator=source)
    return model


def _data(seed, kind, loss, classes):
    source = torch.Generator().manual_seed(1000 + seed)
    n = 5
    shapes = {"vectors": (n, WIDTH), "pictures": (n, 1, 4, 4)}
    if kind == "words":
        x = torch.randint(WORDS, (n, LENGTH), generator=source)
    else:
        x = torch.randn(shapes[kind], generator=source, dtype=torch.float64)
    if loss == "cross_entropy":
        return x, torch.randint(classes, (n,), generator=source)
    if loss == "mse":
        return x, torch.randn(n, classes, generator=source, dtype=torch.float64)
    return x, torch.randint(2, (n,), generator=source).double()
