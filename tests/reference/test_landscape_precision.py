"""Passes in bfloat16 and compiled ones: their losses, and when they are refused."""

import copy

import pytest
import torch
from torch.nn import functional as F

import problems
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane


def network():
    model, (x, y) = problems.mlp().float(), problems.vectors(500)
    return model, problems.objective(model, (x.float(), y), 128)


def test_passes_in_bfloat16_have_losses_of_rounded_weights_and_inputs():
    model, objective = network()
    plane = Plane.random(model)
    exact = landscape(objective, plane, x=(-1, 1, 5), y=[0.0, 0.5])
    found = landscape(
        objective, plane, x=(-1, 1, 5), y=[0.0, 0.5], dtype=torch.bfloat16
    )
    assert found.details["dtype"] == "bfloat16"
    assert exact.details["dtype"] == "float32"
    assert not torch.equal(found.loss, exact.loss)
    torch.testing.assert_close(found.loss, exact.loss, rtol=1e-2, atol=0)
    # By hand at one point: the network under autocast.
    moved, (x, y) = copy.deepcopy(model), problems.vectors(500)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for p, to in zip(moved.parameters(), plane.point(0.5, 0.5), strict=True):
            p.copy_(to)
        expected = F.cross_entropy(moved(x.float()), y)
    assert float(found.loss[1, 3]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dtype": torch.float16}, r"must be torch.bfloat16 or None, got torch\.float"),
        ({"dtype": "bf16"}, "must be torch.bfloat16 or None, got 'bf16'"),
        ({"dtype": torch.bfloat16, "x": [0.0, 1e-4]}, "rounds steps below 2.-9"),
        ({"compile": "yes"}, "compile must be True or False"),
        ({"strategy": "vmap"}, "strategy must be 'auto', 'one_by_one' or 'fastest'"),
    ],
)
def test_mistakes_are_one_sentence(settings, said):
    model, objective = network()
    with pytest.raises(SettingError, match=said):
        landscape(objective, Line.random(model), **{"x": [0.0, 1.0], **settings})


def test_bfloat16_is_for_float32_and_not_along_eigenvectors():
    objective = network()[1]
    line = Line.eigen(objective)
    with pytest.raises(SettingError, match="not go with a subspace of eigenvectors"):
        landscape(objective, line, dtype=torch.bfloat16)
    double = problems.mlp()
    with pytest.raises(SettingError, match=r"must go with a network in torch\.float32"):
        landscape(
            problems.objective(double, problems.vectors()),
            Line.random(double),
            dtype=torch.bfloat16,
        )


@pytest.mark.parametrize("works", [True, False])
def test_compiled_passes_have_the_same_losses(works, monkeypatch):
    model, objective = network()
    plane = Plane.random(model)
    plain = landscape(objective, plane, x=(-1, 1, 3), y=[0.0, 0.5])
    usual = torch.compile

    def quick(function):
        """Without code generation, which takes half a minute."""

        def broken(batch):
            raise RuntimeError("no compiler")

        return usual(function, backend="aot_eager") if works else broken

    monkeypatch.setattr(torch, "compile", quick)
    found = landscape(objective, plane, x=(-1, 1, 3), y=[0.0, 0.5], compile=True)
    torch.testing.assert_close(found.loss, plain.loss, rtol=1e-6, atol=0)
    assert found.details["strategy"] == ("compiled" if works else "one by one")
