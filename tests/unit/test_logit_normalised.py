"""The cross-entropy of normalised logits, by its formula."""

import pytest
import torch
from torch.nn import functional as F

import problems
import steppe
from steppe.errors import DataError, SettingError
from steppe.losses import LogitNormalised
from steppe.objective import Objective


def by_formula(logits, target):
    """The loss of one row of logits, in numbers."""
    centred = logits - sum(logits) / len(logits)
    unit = centred / max(float(centred.square().sum()) ** 0.5, 1e-10)
    return float(unit.exp().sum().log() - unit[target])


def test_it_is_the_loss_of_the_formula():
    model, (x, y) = problems.mlp(), problems.vectors()
    objective = problems.objective(model, (x, y), loss=steppe.LogitNormalised())
    rows = zip(model(x).detach(), y.tolist(), strict=True)
    expected = [by_formula(*row) for row in rows]
    torch.testing.assert_close(objective.losses().tolist(), expected)
    assert objective.details["loss"] == "LogitNormalised"


@pytest.mark.parametrize("factor", [1e-3, 3.0, 1e4])
def test_a_factor_and_a_shift_of_the_logits_change_nothing(factor):
    logits, (_, y) = torch.randn(7, 3).double(), problems.vectors()
    loss = LogitNormalised()
    torch.testing.assert_close(loss(factor * logits + 5.0, y), loss(logits, y))


def test_equal_logits_are_finite_with_their_gradients():
    logits = torch.full((2, 3), 7.0, requires_grad=True)
    losses = LogitNormalised()(logits, torch.tensor([0, 2]))
    torch.testing.assert_close(losses.detach(), torch.full((2,), 3.0).log())
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert gradient.isfinite().all()


def test_ignored_targets_are_no_loss_terms_and_tokens_have_classes_last():
    logits = torch.randn(2, 4, 3)
    targets = torch.tensor([[0, 9, 1, 2], [9, 9, 2, 0]])
    model = torch.nn.Linear(3, 3)
    objective = Objective(model, [(logits, targets)], loss=LogitNormalised(9))
    assert objective.count() == 5
    unit = F.normalize(model(logits) - model(logits).mean(-1, keepdim=True), dim=-1)
    expected = F.cross_entropy(unit[targets != 9], targets[targets != 9])
    torch.testing.assert_close(objective.losses().mean(), expected.detach())


def test_what_is_no_setting_or_no_logits_is_refused():
    with pytest.raises(SettingError, match="ignore_index must be a whole number"):
        LogitNormalised(0.5)
    with pytest.raises(DataError, match="classes along dimension 1"):
        LogitNormalised()(torch.zeros(3), torch.tensor([0, 1, 2]))
