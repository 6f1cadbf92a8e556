"""Points at once: the losses are those of one after the other, or it falls back."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.landscapes.evaluation.evaluator import Evaluator
from steppe.landscapes.evaluation.strategies import LOSS, OneByOne
from steppe.landscapes.evaluation.vmapped import Vmapped
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective

POINTS = [(0.01 * i, 0.4 - 0.02 * i) for i in range(50)]


@pytest.mark.parametrize("at_once", [4, 16, 64])
@pytest.mark.parametrize("name", [*problems.networks()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_at_once_have_the_losses_of_single_ones(name, at_once, dtype):
    model, (x, y) = problems.networks()[name]
    model, x = model.to(dtype), x.to(dtype)
    before = problems.state_of(model)
    objective = problems.objective(model, (x, y))
    plane = Plane.random(model, ignore="none")
    with Walk(objective, plane, "freeze").begun() as walk:
        single = OneByOne(walk)
        together = Vmapped(walk, single, at_once)
        for index in range(len(objective.batches)):
            one = rows_of(single.on_batch(index, POINTS, [{}] * 50))
            all_of_them = rows_of(together.on_batch(index, POINTS, [{}] * 50))
            rtol = 1e-5 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(all_of_them, one, rtol=rtol, atol=1e-6)
    problems.assert_same(problems.state_of(model), before)
    # A recurrent network has no rule in torch and goes one by one.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    assert together.name == ("one by one" if recurrent else f"vmapped by {at_once}")


def rows_of(blocks):
    return torch.cat([values[LOSS].view(number, -1) for number, values in blocks])


class Branching(nn.Sequential):
    """Another way where its outputs are large: control flow that data decide."""

    def forward(self, x):
        z = super().forward(x)
        return z if float(z.abs().mean()) < 1e9 else -z


class Masked(nn.Sequential):
    """Dropout that is on in evaluation mode, drawn from one seed."""

    def forward(self, x):
        torch.manual_seed(3)
        return F.dropout(super().forward(x), 0.5, training=True)


def ignoring():
    x, y = problems.vectors()
    return problems.mlp(), (x, torch.where(torch.arange(7) % 3 > 0, y, -100))


def own(model, batch):
    """A loss that calls the model with other arguments."""
    outputs = model(batch["x"], scale=batch["scale"])
    return F.cross_entropy(outputs, batch["y"], reduction="none")


class Scaling(nn.Sequential):
    def forward(self, x, scale=1.0):
        return scale * super().forward(x)


def with_own_loss():
    x, y = problems.vectors()
    batches = [{"x": x, "y": y, "scale": 2.0}] * 14
    return Objective(Scaling(*problems.mlp()), batches, own)


KINDS = {
    "branching": lambda: many(Branching(*problems.mlp()), problems.vectors()),
    "random masks": lambda: many(Masked(*problems.mlp()), problems.vectors()),
    "ignored targets": lambda: many(*ignoring()),
    "an own loss": with_own_loss,
    "train mode": lambda: many(*problems.networks()["batch_norm"], mode="train"),
    "batch norm": lambda: many(*problems.networks()["batch_norm"]),
    "mlp": lambda: many(problems.mlp(), problems.vectors()),
    "lstm": lambda: many(*problems.networks()["lstm"]),
}


def many(model, data, **settings):
    """Enough batches for timing to pay."""
    return Objective(model, [data] * 14, **settings)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.slow
def test_the_fastest_way_never_changes_a_loss_by_more_than_rounding(make):
    objective = make()
    plane = Plane.random(objective.model)
    plain = Evaluator(objective, plane, strategy="one_by_one").evaluate(POINTS)
    evaluator = Evaluator(objective, plane, strategy="fastest")
    found = evaluator.evaluate(POINTS)
    for one, other in zip(found, plain, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-9)
        assert one.stderr == pytest.approx(other.stderr, rel=1e-6)
    used = evaluator.used
    assert used.startswith(("vmapped", "one by one", "shared first layer"))


@pytest.mark.slow
def test_networks_at_points_and_buffers_of_points_go_singly():
    a, b = problems.networks()["batch_norm"][0], problems.cnn(seed=1)
    objective = many(a, problems.networks()["batch_norm"][1])
    points = [(0.02 * i,) for i in range(51)]
    for mode in ("interpolate", "reestimate", "freeze"):
        line = Line.between(a, b)
        settings = {"batch_norm": mode}
        plain = Evaluator(objective, line, **settings).evaluate(points)
        found = Evaluator(objective, line, strategy="fastest", **settings)
        for one, other in zip(found.evaluate(points), plain, strict=True):
            assert one.loss == pytest.approx(other.loss, rel=1e-9)
