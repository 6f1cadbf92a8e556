"""The entropy of predicted classes."""

import math

import pytest
import torch
from torch import nn

import problems
from steppe.errors import UsageError
from steppe.measures import measure
from steppe.objective import Objective


def entropy(objective):
    (found,) = measure(objective, ["shannon_entropy"]).values()
    return found


def by_hand(logits):
    entropies = []
    for row in logits.reshape(-1, logits.shape[-1]).tolist():
        weights = [math.exp(z - max(row)) for z in row]
        shares = [weight / sum(weights) for weight in weights]
        entropies.append(-sum(share * math.log(share) for share in shares))
    return torch.tensor(entropies, dtype=torch.float64)


def test_it_is_the_mean_over_the_samples_with_its_error():
    model, data = problems.mlp(), problems.vectors(8)
    expected = by_hand(model(data[0]))
    found = entropy(problems.objective(model, data))
    assert found.value == pytest.approx(float(expected.mean()), rel=1e-12)
    assert found.stderr == pytest.approx(float(expected.std()) / 8**0.5, rel=1e-9)
    assert (found.samples, found.units) == (8, "nats")


def test_a_network_that_knows_nothing_has_the_logarithm_of_the_classes():
    model = problems.linear()
    with torch.no_grad():
        model.weight.zero_()
    found = entropy(problems.objective(model, problems.vectors()))
    assert found.value == pytest.approx(math.log(problems.CLASSES), rel=1e-15)
    with torch.no_grad():
        model.weight.normal_(generator=problems.generator()).mul_(1e6)
    sure = entropy(problems.objective(model, problems.vectors()))
    assert sure.value == pytest.approx(0.0, abs=1e-12)


class Tokens(nn.Module):
    """Scores of classes for each token, along the last dimension."""

    def __init__(self):
        super().__init__()
        self.head = problems.linear()

    def forward(self, x):
        return self.head(x)


def test_tokens_are_terms_and_ignored_targets_are_none():
    x = torch.randn(4, 5, problems.INPUTS, generator=problems.generator()).double()
    y = torch.randint(problems.CLASSES, (4, 5), generator=problems.generator())
    y[1, 2:] = -100
    model = Tokens()
    expected = by_hand(model(x))[(y != -100).flatten()]
    found = entropy(Objective(model, (x, y), batch_size=3))
    assert found.value == pytest.approx(float(expected.mean()), rel=1e-12)
    assert found.samples == 17


def test_probabilities_as_targets_and_log_probabilities_as_outputs():
    x, y = problems.vectors()
    model = problems.mlp()
    expected = float(by_hand(model(x)).mean())
    soft = torch.softmax(torch.randn(7, problems.CLASSES).double(), 1)
    found = entropy(problems.objective(model, (x, soft)))
    assert found.value == pytest.approx(expected, rel=1e-12)
    logged = nn.Sequential(model, nn.LogSoftmax(1))
    loss = nn.NLLLoss(reduction="none")
    found = entropy(problems.objective(logged, (x, y), loss=loss))
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_outputs_that_are_no_scores_of_classes_are_refused():
    model, (x, _) = problems.mlp(), problems.vectors()
    objective = Objective(model, (x, torch.zeros(7, 3).double()), loss="mse")
    with pytest.raises(UsageError, match=r"scores of classes, which the loss 'mse'"):
        entropy(objective)
