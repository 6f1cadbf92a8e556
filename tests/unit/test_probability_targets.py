"""Targets of floating point for losses over classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import steppe
from steppe.errors import DataError

LOSSES = ["cross_entropy", nn.CrossEntropyLoss(reduction="none"), F.cross_entropy]
NO_PROBABILITIES = {
    "numbers": torch.randn(6, 3, generator=torch.Generator().manual_seed(0)),
    "labels": torch.tensor([[1.0, 1.0, 0.0]]).repeat(6, 1),
    "below zero": torch.tensor([[1.5, -0.5, 0.0]]).repeat(6, 1),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", NO_PROBABILITIES)
@pytest.mark.parametrize("places", [(), (2, 2)])
def test_targets_that_are_no_probabilities_are_refused(loss, name, places):
    targets = NO_PROBABILITIES[name]
    targets = targets.view(6, 3, *[1] * len(places)).expand(6, 3, *places)
    model = nn.Conv2d(3, 3, 1) if places else nn.Linear(3, 3)
    objective = steppe.Objective(model, (torch.randn(6, 3, *places), targets), loss)
    with pytest.raises(DataError, match="do not sum to 1 along dimension 1"):
        steppe.measure(objective, ["loss"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_probabilities_are_taken_and_so_are_samples_without_a_class(dtype):
    targets = torch.rand(6, 50).softmax(1).to(dtype)
    targets[2] = 0.0
    model = nn.Linear(4, 50).to(dtype)
    x = torch.randn(6, 4).to(dtype)
    loss = steppe.measure(steppe.Objective(model, (x, targets)), ["loss"])["loss"]
    expected = F.cross_entropy(model(x), targets).item()
    assert loss.value == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("loss", [lambda o, t: (o - t) ** 2, F.pairwise_distance])
def test_a_loss_of_outputs_and_targets_is_said_to_get_model_and_batch(loss):
    def own(*pair: object) -> torch.Tensor:
        return loss(*pair)

    data = (torch.randn(4, 3), torch.randn(4, 3))
    with pytest.raises(DataError, match=r"as it is called with \(model, batch\)"):
        steppe.measure(steppe.Objective(nn.Linear(3, 3), data, own), ["loss"])


@pytest.mark.parametrize("inputs", [{"x": torch.ones(4, 3)}, (torch.ones(4, 3),) * 2])
def test_inputs_of_several_tensors_are_said_to_want_batches_and_a_loss(inputs):
    with pytest.raises(DataError, match=r"\[\(inputs, targets\)\] and a function loss"):
        steppe.Objective(nn.Linear(3, 3), (inputs, torch.ones(4)))
