"""Small networks and data with a short last batch, shared by the tests.

Shape letters: N samples, B batch.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F

from steppe.objective import Objective
from steppe.parameters import flatten, trainable, unflatten

INPUTS, CLASSES = 4, 3

torch.set_num_threads(1)  # these networks are too small to share out


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(model, seed=0, scale=0.5):
    """The model with all parameters drawn anew, in float64."""
    source = generator(seed)
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, generator=source, dtype=torch.float64)
            p.copy_(scale * noise)
    return model


def mlp(activation=nn.Tanh, bias=True, seed=0):
    layers = (
        nn.Linear(INPUTS, 6, bias=bias),
        activation(),
        nn.Linear(6, 5, bias=bias),
        activation(),
        nn.Linear(5, CLASSES, bias=bias),
    )
    return drawn(nn.Sequential(*layers), seed)


def linear(classes=CLASSES, seed=0):
    return drawn(nn.Linear(INPUTS, classes, bias=False), seed)


def cnn(seed=0):
    """Convolution, batch norm with statistics that are not 0 and 1, a head."""
    layers = (
        nn.Conv2d(1, 3, 2),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(27, CLASSES),
    )
    model = drawn(nn.Sequential(*layers), seed)
    normed(model[1], seed)
    return model


def normed(layer, seed=0):
    """The batch norm with statistics that are not 0 and 1."""
    layer.running_mean.uniform_(-0.2, 0.2, generator=generator(seed))
    layer.running_var.uniform_(0.5, 2.0, generator=generator(seed))
    return layer


class Tied(nn.Module):
    """One matrix used by two layers, and a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(INPUTS, INPUTS)
        self.second = nn.Linear(INPUTS, INPUTS)
        self.second.weight = self.first.weight
        self.head = nn.Linear(INPUTS, CLASSES)
        self.unused = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Recurrent(nn.Module):
    """An LSTM read at its last step."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    """A transformer encoder layer, averaged over the sequence."""

    def __init__(self, dropout=0.0):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


class Flagged(torch.autograd.Function):
    """The square, by an operation without a double backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class Quadratic(nn.Module):
    """Loss 0.5 (w - z)' A (w - z) for each sample z."""

    def __init__(self, matrix, start):
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.w = nn.Parameter(start.clone())

    def forward(self, z):
        apart = self.w - z
        return 0.5 * (apart @ self.matrix * apart).sum(1)


def vectors(n=7, shape=(INPUTS,), seed=1):
    source = generator(seed)
    x = torch.randn((n, *shape), generator=source, dtype=torch.float64)
    return x, torch.randint(CLASSES, (n,), generator=source)


def networks():
    """Name, model and data of every kind of network."""
    return {
        "tanh": (mlp(), vectors()),
        "relu": (mlp(nn.ReLU), vectors()),
        "batch_norm": (cnn(), vectors(shape=(1, 4, 4))),
        "tied": (drawn(Tied()), vectors()),
        "lstm": (drawn(Recurrent()), vectors(shape=(3, 2))),
        "attention": (drawn(Attention()), vectors(shape=(3, 4))),
    }


def objective(model, data, batch_size=3, **settings):
    """Seven samples in batches of three: the last one is short."""
    return Objective(model, data, batch_size=batch_size, **settings)


def bfloat16_autocast():
    return torch.autocast("cpu", torch.bfloat16)


CONTEXTS = (torch.inference_mode, torch.no_grad, bfloat16_autocast)  # around a measure
CONTEXT_NAMES = [context.__name__ for context in CONTEXTS]


def flat(model):
    return flatten([p.detach() for p in trainable(model).values()])


def loss_of(model, data, mode="eval", batch_size=3):
    """Mean loss as a function of the flat parameters, written independently."""
    model = copy.deepcopy(model)
    named = trainable(model)
    model.train(mode == "train")
    x, y = data

    def loss(vector):
        values = dict(zip(named, unflatten(vector, list(named.values())), strict=True))
        total = 0.0
        for i in range(0, len(x), batch_size):
            out = torch.func.functional_call(
                model, values, (x[i : i + batch_size],), strict=False
            )
            total = total + F.cross_entropy(out, y[i : i + batch_size], reduction="sum")
        return total / len(x)

    return loss


def dense_hessian(model, data, mode="eval"):
    """All second derivatives, shape (D, D), by torch's own nested differentiation."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return torch.autograd.functional.hessian(
            loss_of(model, data, mode), flat(model)
        )


def symmetric(values, seed=0):
    """A symmetric matrix with the given eigenvalues, float64."""
    values = torch.as_tensor(values, dtype=torch.float64)
    square = torch.randn(
        (len(values), len(values)), generator=generator(seed), dtype=torch.float64
    )
    rotation = torch.linalg.qr(square)[0]
    return rotation * values @ rotation.T


def state_of(model):
    """Everything a measure must leave as it was, comparable with `assert_same`."""
    return {
        "tensors": {k: v.clone() for k, v in model.state_dict().items()},
        "grads": [p.grad for p in model.parameters()],
        "flags": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "random": torch.get_rng_state(),
    }


def assert_same(now, then):
    for name, value in then["tensors"].items():
        assert torch.equal(now["tensors"][name], value), name
    for new, old in zip(now["grads"], then["grads"], strict=True):
        assert new is old
    assert now["flags"] == then["flags"]
    assert now["modes"] == then["modes"]
    assert torch.equal(now["random"], then["random"])


def outputs_of(model, data, mode="eval", batch_size=3):
    """Outputs of all rows as a function of the flat parameters, batch by batch."""
    model = copy.deepcopy(model)
    named = trainable(model)
    model.train(mode == "train")

    def outputs(vector):
        values = dict(zip(named, unflatten(vector, list(named.values())), strict=True))
        parts = [
            torch.func.functional_call(model, values, (part,), strict=False)
            for part in data[0].split(batch_size)
        ]
        return torch.cat(parts)

    return outputs


def dense_quadratic(model, data, blocks, mode="eval", batch_size=3):
    """Mean over rows of J' M J, with M = `blocks(outputs)`, (rows, C, C); (D, D)."""
    outputs = outputs_of(model, data, mode, batch_size)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        z = outputs(flat(model)).detach()
        J = torch.autograd.functional.jacobian(outputs, flat(model))
    return torch.einsum("nci,nck,nkj->ij", J, blocks(z), J) / len(z)
