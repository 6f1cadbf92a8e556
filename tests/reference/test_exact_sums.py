"""Traces and diagonals that operators know without drawing, against dense matrices."""

import pytest
import torch
from torch import nn

import problems
import steppe
from steppe.curvature.fisher import Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError


def relu(**settings):
    model, data = problems.mlp(nn.ReLU), problems.vectors()
    dense = problems.dense_hessian(model, data)
    return Hessian(problems.objective(model, data), **settings), dense


def test_the_trace_of_a_piecewise_linear_network_is_exact_and_parted_by_tensor():
    H, dense = relu()
    found = steppe.trace(H)
    assert found.value == pytest.approx(float(dense.trace()), rel=1e-10)
    assert (found.stderr, found.samples, H.products) == (0.0, 0, 0)
    assert found.cost.gradients > 0
    for name, rows in H.slices.items():
        tensor = found.details["by_tensor"][name].value
        assert tensor == pytest.approx(float(dense.diagonal()[rows].sum()), rel=1e-9)


def test_the_diagonal_of_a_piecewise_linear_network_is_exact():
    H, dense = relu()
    found = steppe.diagonal(H)
    torch.testing.assert_close(found.values, dense.diagonal(), rtol=0, atol=1e-12)
    assert (float(found.stderr.abs().max()), found.samples) == (0.0, 0)


@pytest.mark.parametrize("settings", [{"params": "2.*"}, {"weight_decay": 0.5}])
def test_chosen_tensors_and_weight_decay_are_in_what_is_exact(settings):
    H, _ = relu(**settings)
    dense = H @ torch.eye(H.shape[0], dtype=torch.float64)
    assert steppe.trace(H).value == pytest.approx(float(dense.trace()), rel=1e-10)
    found = steppe.diagonal(H).values
    torch.testing.assert_close(found, dense.diagonal(), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_smooth_network_is_sampled_and_its_ggn_is_not():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data)
    sampled, exact = steppe.trace(Hessian(objective)), steppe.trace(GGN(objective))
    true = float(problems.dense_hessian(model, data).trace())
    assert sampled.samples > 0
    assert abs(sampled.value - true) < 4 * sampled.stderr
    G = GGN(objective) @ torch.eye(sampled_size(objective), dtype=torch.float64)
    assert exact.value == pytest.approx(float(G.trace()), rel=1e-10)
    assert exact.samples == 0
    assert abs(exact.value - true) > 0.01 * abs(true)


def sampled_size(objective):
    return sum(p.numel() for p in objective.params)


def test_the_exact_fisher_has_the_trace_of_the_ggn_and_a_drawn_one_has_its_own():
    model, data = problems.mlp(nn.ReLU), problems.vectors()
    objective = problems.objective(model, data)
    ggn = steppe.trace(GGN(objective))
    assert steppe.trace(Fisher(objective)).value == ggn.value
    drawn = Fisher(objective, samples=2)
    found = steppe.trace(drawn, rtol=0.02, max_samples=3000)
    dense = drawn @ torch.eye(drawn.shape[0], dtype=torch.float64)
    assert abs(found.value - float(dense.trace())) < 4 * found.stderr + 1e-12


def test_batch_statistics_and_many_outputs_are_sampled():
    model, data = problems.cnn(), problems.vectors(shape=(1, 4, 4))
    H = Hessian(problems.objective(model, data, mode="train"))
    assert H.exact_trace() is None
    wide = problems.linear(classes=101)
    assert Hessian(problems.objective(wide, problems.vectors())).exact_trace() is None


def test_a_spectrum_takes_the_trace_from_there():
    H, dense = relu()
    found = steppe.spectrum(H, steps=10, k=1)
    assert found.trace.stderr == 0
    assert found.trace.value == pytest.approx(float(dense.trace()), rel=1e-10)
    assert found.details["kind"] == "hessian"


class Relu(torch.autograd.Function):
    """Named as an operation of torch, and something else."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 - x.tanh() ** 2)


class Addmm(Relu):
    pass


class Odd(nn.Module):
    """Piecewise linear on full batches only."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        hidden = self.body(x)
        return self.head(hidden.relu() if len(x) == 4 else hidden.tanh())


class Applied(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function.apply(x)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 5), Applied(Relu), nn.Linear(5, 3)),
        nn.Sequential(nn.Linear(4, 5), Applied(Addmm), nn.Linear(5, 3)),
        Odd(),
    ],
    ids=["named as a ReLU", "named as a product", "curved on the second batch"],
)
def test_what_only_looks_piecewise_linear_is_sampled(model):
    source = problems.generator()
    data = torch.randn((7, 4), generator=source), torch.arange(7) % 3
    data = data[0].double(), data[1]
    objective = steppe.Objective(model.double(), data, batch_size=4)
    H = Hessian(objective)
    assert steppe.trace(H, max_samples=20).samples == 20
    assert steppe.diagonal(H, max_samples=20).samples == 20


@pytest.mark.parametrize("ask", [steppe.trace, steppe.diagonal])
def test_what_is_not_finite_is_refused_as_it_is_when_sampled(ask):
    model, data = problems.mlp(nn.ReLU).float(), problems.vectors()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e30)
    H = Hessian(steppe.Objective(model, (data[0].float(), data[1])))
    with pytest.raises(SettingError, match="infinities or NaN"):
        ask(H)


def test_weighed_soft_targets_have_another_fisher_matrix_than_ggn():
    model, (x, _) = problems.linear(), problems.vectors()
    targets = torch.rand((7, 3), generator=problems.generator(), dtype=x.dtype)
    targets /= targets.sum(1, keepdim=True)
    targets[2] = 0  # a sample without a class has no weight
    objective = steppe.Objective(model, (x, targets))
    for kind in (GGN, Fisher):
        H = kind(objective)
        dense = H @ torch.eye(H.shape[0], dtype=H.dtype)
        found = steppe.trace(H, method="auto", rtol=1e-3)
        assert found.value == pytest.approx(float(dense.trace()), rel=1e-2)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("ask", [steppe.trace, steppe.frobenius, steppe.diagonal])
def test_results_say_what_they_are_a_function_of(ask, activation):
    model, data = problems.mlp(activation), problems.vectors()
    H = Hessian(problems.objective(model, data), weight_decay=0.5)
    assert ask(H, rtol=0.5).details.items() >= H.details.items()
