"""A penalty of the weights in an objective, and in all that is measured on it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import steppe
from steppe.errors import SettingError
from steppe.losses import L2

X = 0.03


def relu_model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)
    return nn.Sequential(*layers).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (9,), generator=generator)


def objectives(parameters="kernels", model=None):
    """The same loss without and with a penalty."""
    model = model or relu_model()
    plain = steppe.Objective(model, data(), batch_size=4)
    penalty = L2(X, parameters)
    return plain, steppe.Objective(model, data(), batch_size=4, penalty=penalty)


def squares(objective, parameters) -> float:
    return sum(
        float(p.detach().square().sum())
        for name, p in zip(objective.names, objective.params, strict=True)
        if parameters == "all" or name.endswith("weight")
    )


def shift(objective, parameters) -> torch.Tensor:
    """The diagonal that the penalty adds to the Hessian."""
    each = [2 * X * (parameters == "all" or p.dim() > 1) for p in objective.params]
    return torch.cat(
        [
            torch.full((p.numel(),), more, dtype=torch.float64)
            for p, more in zip(objective.params, each, strict=True)
        ]
    )


@pytest.mark.parametrize("parameters", ["kernels", "all"])
def test_the_value_has_it_apart(parameters):
    plain, penalised = objectives(parameters)
    wanted = X * squares(plain, parameters)
    before, value = plain.value(), penalised.value()
    assert value.value == pytest.approx(before.value + wanted, rel=1e-12)
    assert value.details["penalty_value"] == pytest.approx(wanted, rel=1e-12)
    assert value.stderr == before.stderr
    assert torch.equal(penalised.losses(), plain.losses())
    assert value.details["penalty"] == f"L2(coefficient={X}, parameters='{parameters}')"
    assert "penalty" not in before.details


@pytest.mark.parametrize("parameters", ["kernels", "all"])
def test_the_gradient_is_that_of_autograd(parameters):
    _, penalised = objectives(parameters)
    model, (inputs, targets) = penalised.model, data()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss = loss + L2(X, parameters)(model.parameters())
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    for ours, theirs in zip(penalised.gradient(), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("parameters", ["kernels", "all"])
@pytest.mark.parametrize("matrix", [steppe.Hessian, steppe.GGN])
def test_matrices_gain_twice_the_coefficient_on_the_penalised_parameters(
    parameters, matrix
):
    plain, penalised = objectives(parameters)
    diagonal = shift(plain, parameters)
    eye = torch.eye(len(diagonal)).double()
    H = matrix(plain) @ eye
    torch.testing.assert_close(matrix(penalised) @ eye, H + diagonal.diag())
    torch.testing.assert_close(
        matrix(penalised).exact_diagonal().values, H.diagonal() + diagonal
    )
    trace = matrix(penalised).exact_trace()
    assert trace.value == pytest.approx(float(H.trace() + diagonal.sum()), rel=1e-9)
    block = matrix(penalised).block("2.*")
    own = block.shape[0]
    torch.testing.assert_close(
        block @ torch.eye(own).double(), (H + diagonal.diag())[-own:, -own:]
    )


def test_weight_decay_of_an_operator_comes_on_top():
    plain, penalised = objectives()
    eye = torch.eye(len(shift(plain, "kernels"))).double()
    H = steppe.Hessian(plain) @ eye + shift(plain, "kernels").diag() + 0.5 * eye
    torch.testing.assert_close(steppe.Hessian(penalised, weight_decay=0.5) @ eye, H)


@pytest.mark.parametrize("backend", ["recompute", "func", "finite_difference"])
def test_every_way_to_multiply_has_it(backend):
    plain, penalised = objectives()
    v = torch.ones(31).double()
    wanted = steppe.Hessian(plain) @ v + shift(plain, "kernels")
    product = steppe.Hessian(penalised, backend=backend) @ v
    torch.testing.assert_close(product, wanted, rtol=1e-6, atol=1e-8)


def test_fisher_matrices_and_sums_over_samples_leave_it_out_and_say_so():
    plain, penalised = objectives()
    v = torch.ones(31).double()
    for matrix in (steppe.Fisher, steppe.EmpiricalFisher):
        assert torch.equal(matrix(penalised) @ v, matrix(plain) @ v)
        assert matrix(penalised).details["penalty"] == "left out"
    ours, theirs = map(steppe.layer_traces, (penalised, plain))
    assert ours.by_tensor == theirs.by_tensor
    assert ours.details["penalty"] == "left out"
    sharpness = steppe.measure(penalised, ["minimum_sharpness"])["minimum_sharpness"]
    assert sharpness.details["penalty"] == "left out"
    assert sharpness.value == steppe.minimum_sharpness(plain).value
    assert steppe.Hessian(penalised).details["penalty"] == str(L2(X))


@pytest.mark.slow
def test_measures_and_lines_have_it_wherever_they_look():
    plain, penalised = objectives()
    line = steppe.Line.random(plain.model, seed=0)
    bare = steppe.landscape(plain, line, x=(-1, 1, 3))
    full = steppe.landscape(penalised, line, x=(-1, 1, 3))
    moved = copy.deepcopy(plain.model)
    for x, gained in zip(bare.x, full.loss - bare.loss, strict=True):
        with torch.no_grad():
            for p, base, direction in zip(
                moved.parameters(), line.base, line.direction, strict=True
            ):
                p.copy_(base + x * direction)
        there = steppe.Objective(moved, data())
        assert float(gained) == pytest.approx(X * squares(there, "kernels"), rel=1e-9)
    assert torch.equal(full.stderr, bare.stderr)
    # Noise of a width s adds s^2 to the square of each weight, in the mean.
    text = "lpf:sigma=0.1,samples=400,scale=raw"
    noisy, still = (steppe.measure(each, [text])[text] for each in (penalised, plain))
    gained = noisy.value - still.value
    weights = sum(p.numel() for p in plain.params if p.dim() > 1)
    expected = X * (squares(plain, "kernels") + 0.01 * weights)
    assert gained == pytest.approx(expected, rel=0.02)
    assert gained != pytest.approx(X * squares(plain, "kernels"), rel=0.02)


def test_a_comparison_keeps_it_and_refuses_another_one():
    _, one = objectives()
    _, other = objectives(model=relu_model().apply(scaled))
    difference = steppe.compare(one, other, ["loss"], groups=3, repeats=2)["loss"]
    values = one.value().value, other.value().value
    assert (difference.a.value, difference.b.value) == pytest.approx(values, rel=1e-12)
    plain = steppe.Objective(relu_model(), data(), batch_size=4)
    with pytest.raises(SettingError, match="must have one penalty, got L2"):
        steppe.compare(one, plain, ["loss"], groups=3, repeats=2)


def scaled(module: nn.Module) -> None:
    for p in module.parameters(recurse=False):
        p.data.mul_(1.5)


def test_misuse_is_refused():
    with pytest.raises(SettingError, match="coefficient must be >= 0, got -1"):
        L2(-1.0)
    with pytest.raises(SettingError, match="parameters must be"):
        L2(1.0, "weights")  # type: ignore[arg-type]
