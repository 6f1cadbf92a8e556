"""Dense matrices of small networks in float64, from elementary operations alone.

Layers are written out as products, sums and roots, and their first derivatives are
differentiated row by row by torch's rules for these: no fused operation has a part in
the second derivatives, nor has anything of the library.

Shape letters: B batch, C outputs, D parameters in all.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steppe.parameters import flatten, trainable


def normalised(x, dims, eps, centre=True):
    x = x - x.mean(dims, keepdim=True) if centre else x
    return x / (x.square().mean(dims, keepdim=True) + eps).sqrt()


def scaled(x, weight, bias, shape):
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    dims = tuple(range(-len(normalized_shape), 0))
    y = scaled(normalised(x, dims, eps), weight, bias, tuple(normalized_shape))
    return y.contiguous()  # as torch's: masks are drawn in the order of memory


def rms_norm(x, normalized_shape, weight=None, eps=None):
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    dims = tuple(range(-len(normalized_shape), 0))
    shape = tuple(normalized_shape)
    return scaled(normalised(x, dims, eps, centre=False), weight, None, shape)


def channels(x):
    return (1, x.shape[1], *[1] * (x.dim() - 2))


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    groups = x.reshape(len(x), num_groups, -1)
    whitened = normalised(groups, (2,), eps).reshape(x.shape)
    return scaled(whitened, weight, bias, channels(x))


def batch_norm(
    x, mean, var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    if training or mean is None:
        dims = (0, *range(2, x.dim()))
        return scaled(normalised(x, dims, eps), weight, bias, channels(x))
    shape = channels(x)
    whitened = (x - mean.reshape(shape)) / (var.reshape(shape) + eps).sqrt()
    return scaled(whitened, weight, bias, shape)


def instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, *_, eps=1e-5, **__
):  # fmt: skip
    dims = tuple(range(2, x.dim()))
    return scaled(normalised(x, dims, eps), weight, bias, channels(x))


def weight_norm(v, g, dim=0):
    dims = [d for d in range(v.dim()) if d != dim % v.dim() or dim == -1]
    return v * (g / v.square().sum(dims, keepdim=True).sqrt())


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    kernel = weight.shape[2:]
    patches = F.unfold(x, kernel, dilation, padding, stride)
    y = (weight.flatten(1) @ patches).unflatten(2, (-1, 1))
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, p, d, s in zip(
            x.shape[2:], kernel, _two(padding), _two(dilation), _two(stride)
        )
    ]
    return scaled(y.reshape(len(x), len(weight), *size), None, bias, (1, -1, 1, 1))


def _two(setting):
    return setting if isinstance(setting, tuple) else (setting, setting)


def embedding(x, weight, padding_idx=None, *_, **__):
    """Rows of the table; that of the padding is a constant, as torch documents it."""
    chosen = F.one_hot(x, len(weight)).to(weight.dtype)
    if padding_idx is None:
        return chosen @ weight
    padding = torch.zeros(len(weight), 1, dtype=torch.bool)
    padding[padding_idx] = True
    return chosen @ torch.where(padding, weight.detach(), weight)


def embedding_bag(x, weight, *_, mode="mean", padding_idx=None, **__):
    """What the rows of a bag come to, those of the padding left out."""
    rows = embedding(x, weight)
    kept = torch.ones_like(x, dtype=torch.bool)
    kept = kept if padding_idx is None else x != padding_idx
    if mode == "max":
        full = torch.where(kept[..., None], rows, rows.new_tensor(-torch.inf))
        return torch.where(kept.any(1)[:, None], full.amax(1), 0.0)
    total = (rows * kept[..., None]).sum(1)
    return total / kept.sum(1).clamp(min=1)[:, None] if mode == "mean" else total


def gelu(x, approximate="none"):
    if approximate == "tanh":
        inner = (2 / torch.pi) ** 0.5 * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1 + torch.tanh(inner))
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def silu(x, inplace=False):
    return x / (1 + torch.exp(-x))


def softplus(x, beta=1, threshold=20):
    return torch.log1p(torch.exp(x))


def elu(x, alpha=1.0, inplace=False):
    return torch.where(x > 0, x, torch.exp(x) - 1)


def attention(q, k, v, *_, **__):
    weights = torch.exp(q @ k.mT / q.shape[-1] ** 0.5)
    return weights / weights.sum(-1, keepdim=True) @ v


COMPOSITE = {
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    F.group_norm: group_norm,
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    torch._weight_norm: weight_norm,
    F.linear: linear,
    torch.conv2d: conv2d,
    F.embedding: embedding,
    F.embedding_bag: embedding_bag,
    F.gelu: gelu,
    F.silu: silu,
    F.softplus: softplus,
    F.elu: elu,
    F.scaled_dot_product_attention: attention,
}


class Composite(TorchFunctionMode):
    """While it is entered, layers are computed from elementary operations."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return COMPOSITE.get(func, func)(*args, **(kwargs or {}))


def cross_entropy(z, y):
    return torch.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]


def mse(z, y):
    return (z - y).square().flatten(1).mean(1)


def log_odds(z, y):
    return torch.log1p(torch.exp(z)) - y * z


class Dense:
    """Value, gradient, Hessian and Gauss-Newton matrix of a mean loss.

    Args:
        model: in float64, and of no further use: its mode and statistics change.
        data: inputs and targets.
        loss: gives the loss terms of outputs and targets.
        mode: "eval" or "train", with the random masks of an objective of seed 0.
        batch_size: rows of a batch.
    """

    def __init__(self, model, data, loss, mode="eval", batch_size=3):
        model.train(mode == "train")
        params = list(trainable(model).values())
        size = sum(p.numel() for p in params)
        self.value = torch.zeros((), dtype=torch.float64)
        self.gradient = torch.zeros(size, dtype=torch.float64)
        self.hessian = torch.zeros(size, size, dtype=torch.float64)
        self.ggn = torch.zeros(size, size, dtype=torch.float64)
        x, y = data
        with torch.random.fork_rng(devices=[]):
            for index, start in enumerate(range(0, len(x), batch_size)):
                rows = slice(start, start + batch_size)
                torch.manual_seed(index)
                with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
                    with Composite():
                        z = model(x[rows])
                self._add(z, loss(z, y[rows]).sum(), params, loss, y[rows])
        for name in ("value", "gradient", "hessian", "ggn"):
            setattr(self, name, getattr(self, name) / len(x))

    def _add(self, z, total, params, loss, y):
        self.value += total.detach()
        gradient = _joined(total, params)
        self.gradient += gradient.detach()
        self.hessian += _rows(gradient, params)
        at = z.detach().requires_grad_()
        curved = _rows(_joined(loss(at, y).sum(), [at]), [at])
        J = _rows(z.flatten(), params)
        self.ggn += J.T @ curved @ J


def _joined(total, params):
    if not total.requires_grad:
        return torch.zeros(sum(p.numel() for p in params), dtype=torch.float64)
    grads = torch.autograd.grad(
        total, params, create_graph=True, materialize_grads=True
    )
    return flatten(grads)


def _rows(values, params):
    """Derivatives of some numbers by the parameters, shape (numbers, D)."""
    size = sum(p.numel() for p in params)
    rows = torch.zeros(len(values), size, dtype=torch.float64)
    if values.requires_grad and size:
        for row, value in zip(rows, values):
            grads = torch.autograd.grad(
                value, params, retain_graph=True, materialize_grads=True
            )
            row.copy_(flatten(grads))
    return rows
