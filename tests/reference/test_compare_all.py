"""Several networks at once: each comparison is that of the two alone."""

import copy
import math

import pytest
import torch
from torch import nn

import problems
import steppe
from steppe.errors import SettingError
from steppe.measures import AbstractMeasure, measure
from steppe.results import Comparison, Comparisons, Difference, Estimate

MEASURES = ["loss", "trace:rtol=0.2", "lpf:samples=4", "minimum_sharpness"]
FEW = {"groups": 3, "repeats": 2, "seed": 5}


@pytest.fixture(scope="module")
def networks():
    """A tanh, a ReLU and another tanh network on the same data."""
    data = problems.vectors()
    made = []
    for kind in (nn.Tanh, nn.ReLU, nn.Tanh):
        model = problems.mlp(kind)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 0.3 * len(made))
        made.append(problems.objective(model, data))
    return made


def numbers(comparison):
    rows = comparison.rows()
    return [{k: v for k, v in row.items() if v == v} for row in rows]


def all_of(networks, **more):
    return steppe.compare_all(networks, MEASURES, names="abc", **FEW, **more)


@pytest.mark.slow
def test_each_is_the_comparison_of_two_to_the_last_bit(networks):
    a, b, c = networks
    several = all_of(networks)
    assert list(several) == ["b", "c"]
    assert several.first == "a"
    for name, other in (("b", b), ("c", c)):
        alone = steppe.compare(a, other, MEASURES, names=("a", name), **FEW)
        assert numbers(several[name]) == numbers(alone)
        assert several[name].cost.products == alone.cost.products
    assert len(several.rows()) == 8
    assert several.to_dict()["c"]["names"] == ["a", "c"]


@pytest.mark.slow
def test_the_table_has_a_row_for_each_network_and_a_line_for_each_refusal(networks):
    lines = str(all_of(networks)).splitlines()
    assert max(map(len, lines)) <= 100
    heads = [line.split()[0] for line in lines[1:13]]
    assert heads == [head for name in MEASURES for head in (name, "b", "c")]
    assert "minimum_sharpness was not compared in b and c:" in " ".join(lines)


def test_an_interval_of_one_draw_is_said_not_to_be_known():
    one = Estimate(value=2.0, stderr=math.inf, samples=1)
    unknown = Difference(
        a=one, b=one, over_data=one, over_draws=one, total=one, bias=0.0, log_ratio=one
    )
    comparison = Comparison(
        by_name={"loss": unknown}, names=("a", "b"), units=2, unit="sample", groups=2
    )
    for text in (
        str(comparison),
        str(Comparisons({"b": comparison, "c": comparison})),
        unknown.verdict(),
    ):
        assert "inf" not in text
        assert "nan" not in text
    assert "7.39 times b (not known)" in str(comparison)


@pytest.mark.slow
def test_one_that_was_interrupted_goes_on_with_what_was_finished(networks):
    whole = all_of(networks)
    known = [{}, {}, {}]

    def stop(done, total):
        assert total == 5
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        all_of(networks, known=known, progress=stop)
    counts = [len(each) for each in known]
    assert counts[1] > 8
    again = all_of(networks, known=known)
    assert 0 < again["b"].cost.products < whole["b"].cost.products / 2
    assert [numbers(each) for each in again.values()] == [
        numbers(each) for each in whole.values()
    ]
    third = all_of(networks, known=known)
    assert third["c"].cost.gradients == third["c"].cost.products == 0


class Distance(AbstractMeasure):
    """Distance to the start, or to a second network."""

    kind: str = "start"

    def needs(self):
        return []

    def estimate(self, measurement):
        from steppe.measures.needs.weights.references import StartWeights

        start = measurement.of(StartWeights())
        params = measurement.objective.params
        squares = [
            float((p - s).detach().square().sum()) for p, s in zip(params, start)
        ]
        return steppe.Estimate(value=sum(squares) ** 0.5)


def test_each_network_has_its_own_start(networks):
    starts = []
    for each in networks:
        start = copy.deepcopy(each.model)
        with torch.no_grad():
            for p in start.parameters():
                p.add_(0.1 * len(starts) + 0.1)
        starts.append(start)
    found = steppe.compare_all(
        networks, [Distance()], names="abc", starts=starts, **FEW
    )
    for name, each, start in zip("bc", networks[1:], starts[1:], strict=True):
        (alone,) = measure(each, [Distance()], start=start).values()
        (one,) = found[name].values()
        assert one.b.value == alone.value > 0
    with pytest.raises(SettingError, match="starts must be those of 3 networks, got 1"):
        steppe.compare_all(networks, names="abc", starts=starts[:1])
    with pytest.raises(SettingError, match="all networks but the first must differ"):
        steppe.compare_all(networks, names="abb")
