"""Second derivatives of layers with a rule of their own against torch's."""

import contextlib
import copy
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import problems
from steppe.curvature.double_backward.mode import FastDoubleBackward
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.products.retained import GradientGraph

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def normed(layer):
    """As it is evaluated, with statistics that are not 0 and 1."""
    return problems.normed(layer).eval()


# Layers of 4 channels in, and the shape of what they are given.
LAYERS = {
    "conv1d": (nn.Conv1d(4, 3, 2, stride=2), (7,)),
    "conv2d": (nn.Conv2d(4, 3, (2, 3), padding=(1, 0), dilation=(1, 2)), (4, 6)),
    "conv3d": (nn.Conv3d(4, 2, 2), (3, 2, 3)),
    "conv2d_groups": (nn.Conv2d(4, 6, 2, groups=2, bias=False), (3, 3)),
    "conv2d_depthwise": (nn.Conv2d(4, 4, 2, groups=4), (3, 3)),
    "conv2d_valid": (nn.Conv2d(4, 3, 2, padding="valid"), (3, 3)),
    "conv2d_same": (nn.Conv2d(4, 3, 3, padding="same"), (3, 3)),
    "conv2d_circular": (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), (3, 3)),
    "transposed1d": (nn.ConvTranspose1d(4, 3, 2, stride=2, output_padding=1), (3,)),
    "transposed2d": (nn.ConvTranspose2d(4, 2, 2, groups=2, dilation=2), (2, 3)),
    "transposed3d": (nn.ConvTranspose3d(4, 2, 2, padding=1), (2, 2, 3)),
    "norm0d": (normed(nn.BatchNorm1d(4)), ()),
    "norm1d": (normed(nn.BatchNorm1d(4)), (3,)),
    "norm2d": (normed(nn.BatchNorm2d(4)), (2, 3)),
    "norm3d": (normed(nn.BatchNorm3d(4)), (2, 1, 2)),
    "norm_plain": (normed(nn.BatchNorm2d(4, affine=False)), (2, 3)),
    "norm_of_batch": (nn.BatchNorm2d(4, track_running_stats=False), (2, 3)),
    "layer_norm": (nn.LayerNorm(3), (2, 3)),
    "layer_norm_no_bias": (nn.LayerNorm(3, eps=0.1, bias=False), (3,)),
    "layer_norm_plain": (nn.LayerNorm(3, elementwise_affine=False), (3,)),
    "layer_norm_many": (nn.LayerNorm((2, 3)), (2, 3)),
    "gelu": (nn.GELU(), (3,)),
    "gelu_tanh": (nn.GELU(approximate="tanh"), (3,)),
    "silu": (nn.SiLU(), (3,)),
    "silu_in_place": (nn.Sequential(nn.Linear(3, 3), nn.SiLU(inplace=True)), (3,)),
    "mish": (nn.Mish(), (3,)),
    "softplus": (nn.Softplus(beta=2), (3,)),
    "elu": (nn.ELU(alpha=0.5), (3,)),
    "selu": (nn.SELU(), (3,)),
    "celu": (nn.CELU(alpha=2.0), (3,)),
}
REPLACED = set(LAYERS) - {"conv2d_same", "norm_of_batch", "silu_in_place"}
REPLACED -= {"layer_norm_plain", "layer_norm_many"}
OURS = ("BilinearBackward", "ElementwiseBackward", "LayerNormBackward")
recent = pytest.mark.skipif(
    not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"),
    reason="before torch 2.8 there are no rules",
)


def ours(out):
    """Whether a rule has made this, and not torch."""
    return type(out.grad_fn).__name__ in OURS


class Calls(TorchDispatchMode):
    """Counts what torch is asked to compute."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def __getitem__(self, name):
        return self.counts[name]


def twice(layer, x, chosen):
    """Derivatives in random directions, of derivatives in a random direction."""
    source = problems.generator(1)

    def like(tensors):
        return [torch.randn(t.shape, generator=source, dtype=t.dtype) for t in tensors]

    variables = [x, *layer.parameters()]
    out = layer(x)
    u = like([out])[0].requires_grad_()
    first = torch.autograd.grad(out, variables, u, create_graph=True)
    taken = [first[i] for i in chosen]
    second = torch.autograd.grad(
        taken, [*variables, u], like(taken), materialize_grads=True
    )
    return [out, *first, *second]


@recent
@pytest.mark.parametrize("name", LAYERS)
def test_second_derivatives_of_each_layer_are_those_of_torch(name):
    layer, shape = LAYERS[name]
    layer = problems.drawn(copy.deepcopy(layer))
    x, _ = problems.vectors(3, (4, *shape))
    x.requires_grad_()
    count = 1 + len(list(layer.parameters()))
    everything = range(count)
    for chosen in [everything, *([i] for i in everything)]:
        expected = twice(layer, x, chosen)
        with FastDoubleBackward():
            found = twice(layer, x, chosen)
        torch.testing.assert_close(found, expected, **CLOSE)
        assert ours(found[0]) == (name in REPLACED)
        assert not ours(expected[0])


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_second_derivatives_of_each_layer_are_finite_differences_of_the_first(name):
    layer, shape = LAYERS[name]
    layer = problems.drawn(copy.deepcopy(layer))
    x, _ = problems.vectors(2, (4, *shape))
    values = [x.requires_grad_(), *layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *params):
        given = dict(zip(names, params, strict=True))
        with FastDoubleBackward():
            return torch.func.functional_call(layer, given, (x,))

    assert torch.autograd.gradcheck(run, values)
    assert torch.autograd.gradgradcheck(run, values)


class Hyper(nn.Module):
    """A weight that is computed, used twice, and an input that is a parameter."""

    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(torch.empty(2, 2, 1))
        self.image = nn.Parameter(torch.empty(1, 1, 4, 4))
        self.head = nn.Linear(18, problems.CLASSES)

    def forward(self, x):
        weight = torch.tanh(self.code @ self.code.mT).unsqueeze(1)
        of_image = F.conv2d(self.image, weight, stride=1)
        return self.head((F.conv2d(x, weight) * of_image).flatten(1))


class Twice(nn.Module):
    """A part that runs again during the backward pass."""

    def __init__(self):
        super().__init__()
        self.body = problems.cnn()[:3]
        self.head = nn.Linear(27, problems.CLASSES)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False).flatten(1))


class Vmapped(nn.Module):
    """Convolutions under a transform of `torch.func`, and of one image alone."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.head = nn.Linear(18, problems.CLASSES)

    def forward(self, x):
        mapped = torch.func.vmap(self.conv, chunk_size=2)(x)
        single = torch.stack([self.conv(row) for row in x])
        return self.head(torch.tanh(mapped * single).flatten(1))


NETWORKS = {"hyper": Hyper, "checkpoint": Twice, "vmap": Vmapped}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["retained", "recompute"])
@pytest.mark.parametrize("name", NETWORKS)
def test_products_of_unusual_networks_are_those_of_the_dense_hessian(name, backend):
    model, data = problems.drawn(NETWORKS[name]()), problems.vectors(shape=(1, 4, 4))
    H = Hessian(problems.objective(model, data), backend=backend)
    expected = problems.dense_hessian(model, data)
    for _ in range(2):
        found = H @ torch.eye(H.shape[0], dtype=H.dtype)
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(REPLACED))
def test_any_choice_of_variables_is_served_alone(name, dtype):
    """As the biases alone: torch may compute more than it is asked for."""
    layer, shape = LAYERS[name]
    layer = problems.drawn(copy.deepcopy(layer)).to(dtype)
    x = problems.vectors(3, (4, *shape))[0].to(dtype).requires_grad_()
    for chosen in [x, *layer.parameters()]:
        found = []
        for mode in (contextlib.nullcontext(), FastDoubleBackward()):
            with mode:
                out = layer(x)
            seed = torch.ones_like(out).requires_grad_()
            (first,) = torch.autograd.grad(out, chosen, seed, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), seed)
            found.append((first, second))
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", ["conv2d", "norm2d", "layer_norm", "gelu"])
def test_second_derivatives_come_in_batches_too(name):
    layer, shape = LAYERS[name]
    layer = problems.drawn(copy.deepcopy(layer))
    x = problems.vectors(2, (4, *shape))[0].requires_grad_()
    found = []
    for mode in (contextlib.nullcontext(), FastDoubleBackward()):
        with mode:
            out = layer(x)
        (g,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        few, eye = g.flatten()[:3], torch.eye(3, dtype=x.dtype)

        def along(v, few=few, **more):
            return torch.autograd.grad(few, x, v, retain_graph=True, **more)[0]

        found.append(
            [
                along(eye, is_grads_batched=True),
                torch.func.vmap(along)(eye),
                torch.func.vmap(lambda v, f=along: f(v, create_graph=True))(eye),
            ]
        )
    torch.testing.assert_close(*found, **CLOSE)


def test_bytes_of_a_graph_are_those_that_stay():
    """What is made to find derivatives of an activation, and dropped, is not kept."""
    layers = [layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.SiLU())]
    model = problems.drawn(nn.Sequential(*layers))
    H = Hessian(problems.objective(model, problems.vectors(64), batch_size=64))
    H @ torch.ones(H.shape[0], dtype=H.dtype)
    activation = 64 * 4 * 8  # bytes
    assert H.retained_bytes < 8 * 3 * activation


class Penalised(nn.Module):
    """A loss with the norm of its gradient by the input, for third derivatives."""

    def __init__(self, activation, batched=False):
        super().__init__()
        convolution, norm = nn.Conv2d(1, 2, 2), normed(nn.BatchNorm2d(2))
        self.body = nn.Sequential(convolution, norm, activation, nn.Flatten())
        self.head = nn.Linear(18, problems.CLASSES)
        self.batched = batched

    @torch.enable_grad()
    def forward(self, x):
        x = x.clone().requires_grad_()
        out = self.head(self.body(x))
        seeds = torch.eye(problems.CLASSES, dtype=x.dtype)[:, None].expand(
            -1, *out.shape
        )
        slopes = torch.autograd.grad(
            out,
            x,
            seeds if self.batched else seeds[0],
            create_graph=True,
            is_grads_batched=self.batched,
        )[0]
        return out + slopes.square().sum()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["retained", "recompute"])
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.GELU(), nn.LayerNorm(3)])
def test_a_loss_that_holds_a_gradient_has_its_third_derivatives(activation, backend):
    model, data = Penalised(activation), problems.vectors(shape=(1, 4, 4))
    model = problems.drawn(model)
    H = Hessian(problems.objective(model, data), backend=backend)
    found = H @ torch.eye(H.shape[0], dtype=H.dtype)
    expected = problems.dense_hessian(model, data)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [nn.Tanh(), nn.GELU(), nn.LayerNorm(3)])
def test_a_loss_that_holds_gradients_in_batches_has_its_third_derivatives(activation):
    model = problems.drawn(Penalised(activation, batched=True))
    data = problems.vectors(shape=(1, 4, 4))
    H = Hessian(problems.objective(model, data), backend="recompute")
    found = H @ torch.eye(H.shape[0], dtype=H.dtype)
    expected = problems.dense_hessian(model, data)
    torch.testing.assert_close(found, expected, **CLOSE)


class Aside(TorchFunctionMode):
    """A mode of the user that counts convolutions."""

    seen = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen += func is torch.conv2d
        return func(*args, **(kwargs or {}))


def forward_derivative(model, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(model(dual)).tangent


@recent
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # of torch's own
def test_what_is_out_of_the_ordinary_is_left_to_torch():
    model, x = problems.cnn().eval()[0], problems.vectors(shape=(1, 4, 4))[0]
    with FastDoubleBackward():
        assert ours(model(x))
        with problems.bfloat16_autocast():
            assert not ours(model(x))
        with torch.autograd.graph.save_on_cpu():
            assert not ours(model(x))
        assert not ours(model(x[:0]))
        assert not ours(model(x[0]))
        assert forward_derivative(model, x) is not None
        mapped = torch.func.vmap(model)(x.unsqueeze(1))
        torch.testing.assert_close(mapped.squeeze(1), model(x))
    with Aside() as aside, FastDoubleBackward():
        assert not ours(model(x))
    assert aside.seen == 1
    with torch.device("cpu"), FastDoubleBackward(), FastDoubleBackward():
        assert ours(model(x))
    numbers = (np.int64(1), np.int64(0), np.int64(1), np.int64(1))
    with FastDoubleBackward():
        assert ours(F.conv2d(x, model.weight, None, *numbers))
    with FastDoubleBackward(), torch.no_grad():
        assert not model(x).requires_grad


def test_a_part_without_rows_has_no_curvature():
    """As an expert of a mixture that gets none of the samples."""
    model, (x, _) = problems.cnn().eval()[:2], problems.vectors(shape=(1, 4, 4))
    params = list(model.parameters())
    with FastDoubleBackward():
        out = model(x[:0])
        grads = torch.autograd.grad(out.sum(), params, create_graph=True)
        again = torch.autograd.grad(
            sum(g.sum() for g in grads), params, materialize_grads=True
        )
    assert all(not bool(g.any()) for g in again)


def test_what_torch_refuses_is_refused_in_its_words():
    model, x = problems.cnn().eval(), problems.vectors(shape=(1, 4, 4))[0]
    with FastDoubleBackward(), pytest.raises(RuntimeError, match="should be the same"):
        model(x.float())
    with FastDoubleBackward(), pytest.raises(RuntimeError, match="expected input"):
        model(torch.cat([x, x], 1))
    with (
        FastDoubleBackward(),
        pytest.raises(RuntimeError, match="should contain 2 elements"),
    ):
        model[1](torch.ones(2, 2, 3, 3, dtype=x.dtype))
    with FastDoubleBackward(), pytest.raises(RuntimeError, match="padding"):
        F.conv2d(x, model[0].weight, padding="full")


def test_statistics_that_change_before_the_backward_pass_are_noticed():
    layer = problems.drawn(normed(nn.BatchNorm2d(4)))
    x = problems.vectors(3, (4, 2, 2))[0]
    with FastDoubleBackward():
        out = layer(x)
        layer.running_mean.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


def layered():
    """Convolution, convolution, head: what each product must compute is known."""
    layers = [nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, problems.CLASSES))
    return problems.drawn(model), problems.vectors(shape=(1, 4, 4))


def calls_of_a_product(kind, *names, made=layered, **settings):
    H = kind(problems.objective(*made(), batch_size=7), **settings)
    vector = torch.ones(H.shape[0], dtype=H.dtype)
    H @ vector
    with Calls() as calls:
        H @ vector
    return tuple(calls[name] for name in names)


CONVOLUTIONS = ("convolution", "convolution_backward")
NORMS = ("native_batch_norm", "native_batch_norm_backward")


@recent
def test_a_product_convolves_no_more_than_its_derivation_says():
    # Tangents: A(x, v) of both layers, A(h, w) of the second. Back: for each layer the
    # backward pass, and the same of the tangents: of the first layer, whose input is
    # constant, there are none by input and weight.
    assert calls_of_a_product(Hessian, *CONVOLUTIONS) == (3, 3)


@recent
def test_a_product_of_the_gauss_newton_matrix_takes_no_second_derivatives():
    assert calls_of_a_product(GGN, *CONVOLUTIONS) == (3, 2)


@recent
def test_a_block_of_one_layer_leaves_out_what_belongs_to_the_others():
    # A(x, v) of the second layer; its own backward pass, whose input is constant.
    assert calls_of_a_product(GGN, *CONVOLUTIONS, params="2.*") == (1, 1)
    assert calls_of_a_product(Hessian, *CONVOLUTIONS, params="2.*") == (1, 1)


def normal():
    """Batch norm of an input that depends on parameters, and an activation."""
    layers = [nn.Conv2d(1, 3, 2), normed(nn.BatchNorm2d(3)), nn.GELU(), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(27, problems.CLASSES))
    return problems.drawn(model), problems.vectors(shape=(1, 4, 4))


@recent
def test_batch_norm_takes_no_more_passes_than_its_derivation_says():
    norm, backward = calls_of_a_product(Hessian, *NORMS, made=normal)
    assert (norm, backward) == (2, 2)
    norm, backward = calls_of_a_product(GGN, *NORMS, made=normal)
    assert (norm, backward) == (2, 1)


@recent
def test_an_activation_takes_three_multiplications():
    def without():
        model, data = normal()
        model[2] = nn.Identity()
        return model, data

    (more,) = calls_of_a_product(Hessian, "mul", made=normal)
    (fewer,) = calls_of_a_product(Hessian, "mul", made=without)
    (forward,) = calls_of_a_product(Hessian, "gelu", made=normal)
    assert (more - fewer, forward) == (3, 0)


def test_a_frozen_weight_has_no_second_derivative():
    model, (x, y) = layered()
    model[2].weight.requires_grad_(False)
    params = [p for p in model.parameters() if p.requires_grad]
    with FastDoubleBackward():
        losses = F.cross_entropy(model(x), y, reduction="none")
        graph = GradientGraph(losses, params)
    vector = torch.ones(1, sum(p.numel() for p in params), dtype=torch.float64)
    total = torch.zeros_like(vector)
    graph.add_products(vector, total)
    dense = problems.dense_hessian(model, (x, y)) * len(x)
    torch.testing.assert_close(total[0], dense @ vector[0], **CLOSE)
