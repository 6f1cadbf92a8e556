"""Points on a part of the samples: the estimates, and how often intervals hold."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import DataError, SettingError
from steppe.landscapes.evaluation.evaluator import Evaluator
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.evaluation.moments import with_all_rows
from steppe.landscapes.subspaces.line import Line
from steppe.objective import Objective

NEAR, FAR = 0.1, 1.0


def population(n=4000):
    """A network that fits most of many samples."""
    source = problems.generator(3)
    model = problems.mlp()
    x = torch.randn((n, problems.INPUTS), generator=source, dtype=torch.float64)
    with torch.no_grad():
        logits = 4 * model(x)
        model[4].weight.mul_(4)
        model[4].bias.mul_(4)
    y = torch.multinomial(logits.softmax(1), 1, generator=source)[:, 0]
    return model, (x, y)


def losses_at(model, line, coordinate, data):
    named = dict(zip(line.names, line.point(coordinate), strict=True))
    outputs = torch.func.functional_call(model, named, (data[0],), strict=True)
    return F.cross_entropy(outputs, data[1], reduction="none").detach()


def test_a_part_gives_the_loss_of_the_base_and_the_mean_rise_with_their_errors():
    model, data = population(400)
    line = Line.random(model)
    objective = Objective(model, data, batch_size=128)
    found = landscape(objective, line, x=[0.0, 0.4], samples=60, seed=5)
    drawn = torch.randperm(400, generator=problems.generator(5))[:60]
    base, there = (losses_at(model, line, c, data) for c in found.x)
    rises = (there - base)[drawn]
    expected = float(base.mean() + rises.mean())
    assert float(found.loss[1]) == pytest.approx(expected, rel=1e-12)
    left = (1 - 60 / 400) * float(rises.var()) / 60
    whole = float(there[drawn].var()) / 400
    assert float(found.subset_stderr[1]) == pytest.approx(math.sqrt(left), rel=1e-10)
    assert float(found.stderr[1]) == pytest.approx(math.sqrt(whole + left), rel=1e-10)
    assert float(found.rise_stderr[1]) == pytest.approx(
        float(rises.std()) / 60**0.5, rel=1e-10
    )
    assert float(found.loss[0]) == objective.value().value
    assert float(found.subset_stderr[0]) == float(found.rise_stderr[0]) == 0
    assert (found.samples, found.details["terms"]) == (60, 400)
    assert found.details["subset_seed"] == 5
    passes, checks = 1 + 3 * 60 / 400, 2 / len(objective.batches)
    assert objective.cost.forwards == pytest.approx(passes + checks + 1)  # of value()


@pytest.mark.slow
def test_intervals_cover_the_loss_of_all_samples_as_often_as_they_say():
    model, data = population()
    line = Line.random(model)
    exact = [float(losses_at(model, line, c, data).mean()) for c in (NEAR, FAR)]
    hits, repeats = torch.zeros(2), 200
    objective = Objective(model, data, batch_size=4000)
    for seed in range(repeats):
        evaluator = Evaluator(objective, line, samples=250, seed=seed)
        found = evaluator.evaluate([(NEAR,), (FAR,)])
        for place, (values, truth) in enumerate(zip(found, exact, strict=True)):
            hits[place] += abs(values.loss - truth) <= 1.96 * values.subset_stderr
        near = found[0]
        assert near.rise_stderr < 0.5 * near.stderr * (4000 / 250) ** 0.5
        assert near.rise_stderr <= near.stderr
    assert all(0.90 <= share <= 0.98 for share in (hits / repeats).tolist())


def test_all_samples_leave_no_error_of_a_part():
    model, data = population(100)
    line = Line.random(model)
    objective = problems.objective(model, data, 30)
    found = [
        landscape(objective, line, x=[0.0, 0.3, 0.6], samples=samples)
        for samples in (None, "all", 100, 5000)
    ]
    for surface in found:
        assert not surface.subset_stderr.any()
        assert torch.equal(surface.loss, found[0].loss)
        assert "subset_seed" not in surface.details
        assert surface.samples == 100


def test_every_point_and_every_model_has_the_same_samples():
    model, data = population(100)
    seen = []

    def loss(model, batch):
        seen.append(batch[0])
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    objective = Objective(model, data, loss)
    evaluator = Evaluator(objective, Line.random(model), samples=10)
    evaluator.evaluate([(0.3,), (0.6,)])
    assert torch.equal(seen[-1], seen[-2])
    other = Objective(problems.mlp(seed=1), data, loss)
    again = Evaluator(other, Line.random(other.model), samples=10)
    assert torch.equal(again.part.objective.batches[0][0], seen[-1])


def contrast(model, batch):
    """A loss of pairs within a batch."""
    outputs = model(batch[0])
    return (outputs @ outputs.T).logsumexp(1)


def test_losses_of_pairs_and_opaque_batches_are_drawn_as_whole_batches():
    model, (x, y) = population(200)
    line = Line.random(model)
    pairs = Objective(model, (x, y), contrast, batch_size=10)
    opaque = [{"parts": [part], "name": "a"} for part in x.split(10)]
    listed = Objective(model, opaque, lambda m, b: m(b["parts"][0]).square().sum(1))
    for objective in (pairs, listed):
        evaluator = Evaluator(objective, line, samples=100)
        found = evaluator.evaluate([(0.0,), (0.5,)])
        assert len(evaluator.part.objective.batches) == 10
        assert evaluator.part.by_batch
        assert found[0].loss == pytest.approx(objective.value().value, rel=1e-15)
        assert found[1].subset_stderr > 0


def test_random_masks_of_a_batch_stay_its_own():
    model = nn.Sequential(nn.Dropout(0.5), problems.mlp())
    objective = Objective(model, population(200)[1], mode="train", batch_size=10)
    part = Evaluator(objective, Line.random(model), samples=100).part
    for number, index in enumerate(part.objective.numbers):
        with objective.measuring():
            expected = objective.batch_values(index)
        with part.objective.measuring():
            assert torch.equal(part.objective.batch_values(number), expected)


def test_a_base_point_without_a_finite_loss_leaves_plain_means():
    model, data = population(300)
    broken = problems.mlp()
    with torch.no_grad():
        broken[0].weight.fill_(math.inf)
    line = Line.between(broken, model)
    objective = Objective(broken, data)
    found = landscape(objective, line, x=[0.0, 1.0], samples=100)
    drawn = torch.randperm(300, generator=problems.generator(0))[:100]
    losses = Objective(model, data).losses()[drawn]
    assert math.isnan(float(found.loss[0]))
    assert float(found.loss[1]) == pytest.approx(float(losses.mean()), rel=1e-12)
    error = (1 - 100 / 300) * float(losses.var()) / 100
    assert float(found.subset_stderr[1]) == pytest.approx(error**0.5, rel=1e-10)


@pytest.mark.parametrize("samples", [0, -3, 2.5, True, "few"])
def test_a_number_of_samples_that_is_none_is_one_sentence(samples):
    model, data = population(20)
    with pytest.raises(SettingError, match="samples must be a whole number >= 1, or"):
        landscape(Objective(model, data), Line.random(model), samples=samples)


def test_a_loss_with_more_terms_at_some_points_is_one_sentence():
    model, data = population(20)

    def loss(model, batch):
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return losses[losses < 3]

    with pytest.raises(DataError, match="same number of terms at every point"):
        landscape(Objective(model, data, loss), Line.random(model), x=[-9.0, 9.0])


def test_a_class_without_a_sample_in_the_subset_has_no_value_and_is_no_obstacle():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 30))
    objective = Objective(model, (torch.randn(300, 6), torch.arange(300) % 30))
    line = Line.random(model)
    settings = {"samples": 40, "quantities": "class_losses", "tolerance": 0.1}
    surface = landscape(objective, line, (-1, 1, 65), **settings)
    values = [each.values for each in surface.quantities.values()]
    absent = [each for each in values if bool(each.isnan().any())]
    assert absent
    assert all(bool(each.isnan().all()) for each in absent)
    assert "interpolation" in surface.details


@pytest.mark.parametrize("terms", [1, 5, 200_000])
def test_sums_of_accelerators_have_one_shape_and_the_same_values(terms):
    pairs = [torch.randn(2, k, terms, dtype=torch.float64) for k in (1, 3, 10)]
    filled = [with_all_rows(pair) for pair in pairs]
    assert len({each.shape for each in filled}) == 1
    for pair, each in zip(pairs, filled, strict=True):
        assert torch.equal(each[:, : pair.shape[1]], pair)
        assert not each[:, pair.shape[1] :].any()
