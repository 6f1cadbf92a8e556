"""Second derivatives of convolutions and batch norm against torch's own."""

import copy
from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import problems
from steppe.curvature.bilinear import BilinearLayers
from steppe.curvature.ggn import GGN
from steppe.curvature.graphs import GradientGraph
from steppe.curvature.hessian import Hessian

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def normed(layer):
    """Statistics that are not 0 and 1."""
    layer.running_mean.uniform_(-0.2, 0.2, generator=problems.generator())
    layer.running_var.uniform_(0.5, 2.0, generator=problems.generator())
    return layer.eval()


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
}
REPLACED = set(LAYERS) - {"conv2d_same", "norm_of_batch"}


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
        with BilinearLayers():
            found = twice(layer, x, chosen)
        torch.testing.assert_close(found, expected, **CLOSE)
        ours = type(found[0].grad_fn).__name__ == "_ForwardBackward"
        assert ours == (name in REPLACED)


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_second_derivatives_of_each_layer_are_finite_differences_of_the_first(name):
    layer, shape = LAYERS[name]
    layer = problems.drawn(copy.deepcopy(layer))
    x, _ = problems.vectors(2, (4, *shape))
    values = [x.requires_grad_(), *layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *params):
        given = dict(zip(names, params, strict=True))
        with BilinearLayers():
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


@pytest.mark.parametrize("backend", ["retained", "recompute"])
@pytest.mark.parametrize("name", NETWORKS)
def test_products_of_unusual_networks_are_those_of_the_dense_hessian(name, backend):
    model, data = problems.drawn(NETWORKS[name]()), problems.vectors(shape=(1, 4, 4))
    H = Hessian(problems.objective(model, data), backend=backend)
    expected = problems.dense_hessian(model, data)
    for _ in range(2):
        found = H @ torch.eye(H.shape[0], dtype=H.dtype)
        torch.testing.assert_close(found, expected, **CLOSE)


def test_under_autocast_torch_keeps_its_own():
    model, x = problems.cnn().float().eval(), problems.vectors(shape=(1, 4, 4))[0]
    with BilinearLayers(), problems.bfloat16_autocast():
        assert model[0](x.float()).dtype == torch.bfloat16


def test_what_torch_refuses_is_refused_in_its_words():
    model, x = problems.cnn().eval(), problems.vectors(shape=(1, 4, 4))[0]
    with BilinearLayers(), pytest.raises(RuntimeError, match="should be the same"):
        model(x.float())
    with BilinearLayers(), pytest.raises(RuntimeError, match="expected input"):
        model(torch.cat([x, x], 1))


def test_outputs_without_gradients_have_no_graph():
    model, x = problems.cnn().eval(), problems.vectors(shape=(1, 4, 4))[0]
    with BilinearLayers(), torch.no_grad():
        assert torch.equal(model(x), model(x))
        assert model(x).grad_fn is None


def layered():
    """Convolution, convolution, head: what each product must compute is known."""
    layers = [nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, problems.CLASSES))
    return problems.drawn(model), problems.vectors(shape=(1, 4, 4))


def calls_of_a_product(kind, **settings):
    H = kind(problems.objective(*layered(), batch_size=7), **settings)
    vector = torch.ones(H.shape[0], dtype=H.dtype)
    H @ vector
    with Calls() as calls:
        H @ vector
    return calls["convolution"], calls["convolution_backward"]


def test_a_product_convolves_no_more_than_its_derivation_says():
    # Tangents: A(x, v) of both layers, A(h, w) of the second. Back: for each layer the
    # backward pass, and the same of the tangents: of the first layer, whose input is
    # constant, there are none by input and weight.
    assert calls_of_a_product(Hessian) == (3, 3)


def test_a_product_of_the_gauss_newton_matrix_takes_no_second_derivatives():
    assert calls_of_a_product(GGN) == (3, 2)


def test_a_block_of_one_layer_leaves_out_what_belongs_to_the_others():
    # A(x, v) of the second layer; its own backward pass, whose input is constant.
    assert calls_of_a_product(GGN, params="2.*") == (1, 1)
    assert calls_of_a_product(Hessian, params="2.*")[0] == 1


def test_a_frozen_weight_has_no_second_derivative():
    model, (x, y) = layered()
    model[2].weight.requires_grad_(False)
    params = [p for p in model.parameters() if p.requires_grad]
    with BilinearLayers():
        losses = F.cross_entropy(model(x), y, reduction="none")
        graph = GradientGraph(losses, params)
    vector = torch.ones(1, sum(p.numel() for p in params), dtype=torch.float64)
    total = torch.zeros_like(vector)
    graph.add_products(vector, total)
    dense = problems.dense_hessian(model, (x, y)) * len(x)
    torch.testing.assert_close(total[0], dense @ vector[0], **CLOSE)
