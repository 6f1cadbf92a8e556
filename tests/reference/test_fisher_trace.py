"""The trace of the Fisher matrix, against dense derivatives of the outputs."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.curvature.fisher import Fisher
from steppe.errors import UsageError
from steppe.measures import FisherTrace, measure
from steppe.objective import Objective
from steppe.results import Estimate


def exact(model, x):
    """Sum over classes of p |grad log p|^2, for each row."""
    model = copy.deepcopy(model).eval()
    params = list(model.parameters())
    found = []
    for row in x.split(1):
        logs = F.log_softmax(model(row), 1)[0]
        parts = [
            torch.autograd.grad(each, params, retain_graph=True, allow_unused=True)
            for each in logs
        ]
        squares = [
            sum(g.square().sum() for g in part if g is not None) for part in parts
        ]
        found.append((logs.exp() * torch.stack(squares)).sum().detach())
    return torch.stack(found)


@pytest.mark.parametrize("kind", problems.networks())
def test_it_is_the_mean_over_classes_and_samples(kind):
    model, data = problems.networks()[kind]
    rows = exact(model, data[0])
    found = FisherTrace()(problems.objective(model, data))
    assert found.value == pytest.approx(float(rows.mean()), rel=1e-9)
    assert found.stderr == pytest.approx(float(rows.std()) / 7**0.5, rel=1e-9)
    assert found.samples == 7


def test_it_is_the_trace_of_the_matrix():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data)
    dense = Fisher(objective) @ torch.eye(len(problems.flat(model))).double()
    found = FisherTrace()(objective)
    assert found.value == pytest.approx(float(dense.trace()), rel=1e-9)


def test_labels_of_the_data_do_not_matter_unless_they_are_ignored():
    model, (x, y) = problems.mlp(), problems.vectors()
    y = y.clone()
    y[[1, 4]] = -100
    found = FisherTrace()(problems.objective(model, (x, y)))
    rows = exact(model, x)[y != -100]
    assert found.value == pytest.approx(float(rows.mean()), rel=1e-9)
    assert found.samples == 5


def test_log_probabilities_have_the_same_trace():
    model, data = problems.mlp(), problems.vectors()
    logs = nn.Sequential(*model, nn.LogSoftmax(1))
    objective = Objective(logs, data, loss=nn.NLLLoss(reduction="none"))
    expected = FisherTrace()(problems.objective(model, data))
    assert FisherTrace()(objective).value == pytest.approx(expected.value, rel=1e-9)


def test_batch_statistics_are_differentiated_by_the_rows_of_their_outputs():
    model, (x, y) = problems.networks()["batch_norm"]
    found = FisherTrace()(problems.objective(model, (x, y), mode="train"))
    trained = copy.deepcopy(model).train()
    params = list(trained.parameters())
    total = 0.0
    for part in x.split(3):
        logs = F.log_softmax(trained(part), 1)
        for p in logs.flatten():
            # The other factor of the derivative is the probability itself.
            gradient = torch.autograd.grad(p, params, retain_graph=True)
            total += float(p.detach().exp() * sum(g.square().sum() for g in gradient))
    assert found.value == pytest.approx(total / 7, rel=1e-9)
    assert found.details["samples_are"] == "loss terms"


@pytest.mark.slow
def test_drawn_labels_have_the_exact_trace_for_their_mean():
    model, data = problems.mlp(), problems.vectors()
    objective = problems.objective(model, data)
    exact_value = FisherTrace()(objective).value
    drawn = FisherTrace(draws=200)(objective)
    assert drawn.value == pytest.approx(exact_value, rel=0.15)
    one = FisherTrace(draws=1)(objective)
    again = FisherTrace(draws=1)(problems.objective(model, data, batch_size=7))
    assert again.value == pytest.approx(one.value, rel=1e-9)


@pytest.mark.slow
def test_tokens_have_a_draw_each():
    x, _ = problems.vectors(4, shape=(5, problems.INPUTS))
    y = torch.zeros(4, 5, dtype=torch.int64)
    y[0] = y[1, :3] = -100
    model = problems.mlp()
    objective = problems.objective(model, (x, y))
    with pytest.raises(UsageError, match="draw the labels: draws=1"):
        measure(objective, ["fisher_trace"])
    found = FisherTrace(draws=200)(objective)
    expected = exact(model, x[y != -100]).mean()
    assert found.value == pytest.approx(float(expected), rel=0.15)
    assert found.samples == 3


def test_outputs_that_are_no_scores_of_classes_are_refused():
    x, _ = problems.vectors()
    objective = Objective(problems.mlp(), (x, x[:, :3]), loss="mse")
    with pytest.raises(UsageError, match=r"scores of classes, .* loss 'mse'"):
        measure(objective, ["fisher_trace"])

    def loss(model, batch):
        return model(batch).sum(1)

    with pytest.raises(UsageError, match="'cross_entropy' or nll_loss"):
        measure(Objective(problems.mlp(), [x], loss=loss), ["fisher_trace"])


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 1])
def test_intervals_cover_the_value_of_the_population(draws):
    # At weights of zero all classes are alike: |x|^2 (1 - 1 / C), with inputs uniform.
    model = nn.Linear(4, problems.CLASSES, bias=False).double()
    nn.init.zeros_(model.weight)
    truth, source = 4 * (1 - 1 / problems.CLASSES), problems.generator(6)
    covered, repeats = 0, 2000
    for repeat in range(repeats):
        x = torch.rand((60, 4), generator=source, dtype=torch.float64)
        y = torch.zeros(60, dtype=torch.int64)
        objective = Objective(model, (12**0.5 * (x - 0.5), y))
        found = FisherTrace(draws=draws)(
            objective, generator=problems.generator(repeat)
        )
        low, high = Estimate.interval(found)
        covered += low <= truth <= high
    assert 0.93 <= covered / repeats <= 0.97
