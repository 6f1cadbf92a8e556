"""Batch norm's statistics by the mode of the objective, and names of its data."""

import copy

import pytest
import torch
from torch import nn

import problems
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.measures import LPF, measure
from steppe.measuring.batch_norm import reestimate
from steppe.objective import Objective
from steppe.seeds import seed_named, seed_of


def network():
    return problems.networks()["batch_norm"]


def refitted(model, data):
    """A copy with the statistics of all of the data."""
    model = copy.deepcopy(model)
    reestimate(model, [data])
    return model


def test_a_re_estimated_value_is_that_of_the_network_with_statistics_of_the_data():
    model, data = network()
    objective = problems.objective(model, data, mode="reestimate", batch_size=3)
    expected = problems.objective(refitted(model, data), data)
    assert objective.value().value == pytest.approx(expected.value().value, rel=1e-10)
    for ours, theirs in zip(objective.gradient(), expected.gradient(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    assert objective.details["batch_norm"] == "re-estimated on the data"


@pytest.mark.parametrize("name", ["trace", "top_eigenvalue"])
def test_second_derivatives_take_the_statistics_for_constants(name):
    model, data = network()
    ours = measure(problems.objective(model, data, mode="reestimate"), [name])
    theirs = measure(problems.objective(refitted(model, data), data), [name])
    assert ours[name].value == pytest.approx(theirs[name].value, rel=1e-6)


def test_the_statistics_follow_the_weights_to_every_point():
    """The mean over draws of losses of networks that are refitted one by one."""
    model, data = network()
    lpf = LPF(sigma=0.3, samples=4, scale="raw")
    ours = lpf(problems.objective(model, data, mode="reestimate"))
    losses = []
    for draw in range(4):
        moved = copy.deepcopy(model)
        source = torch.Generator().manual_seed(0)
        noise = noise_of(draw, moved, source)
        with torch.no_grad():
            for p, each in zip(moved.parameters(), noise, strict=True):
                p.add_(0.3 * each)
        losses.append(problems.objective(refitted(moved, data), data).value().value)
    assert ours.value == pytest.approx(sum(losses) / 4, rel=1e-9)
    running = lpf(problems.objective(model, data))
    assert running.value != pytest.approx(ours.value, rel=1e-3)


def noise_of(draw, model, source):
    source.manual_seed(seed_of(seed_named("0:perturbation"), draw))
    return [torch.empty_like(p).normal_(generator=source) for p in model.parameters()]


def test_a_pass_is_counted_for_every_new_point_and_none_for_the_same_one():
    model, data = network()
    objective = problems.objective(model, data, mode="reestimate")
    objective.value()
    objective.value()
    assert objective.cost.forwards == 3
    LPF(samples=5)(objective)
    assert objective.cost.forwards == 3 + 1 + 2 * 5


def test_along_a_line_every_point_has_statistics_of_its_own():
    model, data = network()
    line = Line.random(model, seed=1)
    ends = (-0.5, 0.5, 3)
    ours = landscape(problems.objective(model, data, mode="reestimate"), line, x=ends)
    plain = problems.objective(model, data)
    theirs = landscape(plain, line, x=ends, batch_norm=lambda m: reestimate(m, [data]))
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-9, atol=0)


def test_it_leaves_no_trace():
    model, data = network()
    before = problems.state_of(model)
    measure(problems.objective(model, data, mode="reestimate"), ["lpf", "trace"])
    problems.assert_same(problems.state_of(model), before)


def test_without_batch_norm_the_modes_are_the_same_and_none_is_named():
    model, data = problems.mlp(), problems.vectors()
    plain, again = (
        problems.objective(model, data, mode=mode) for mode in ("eval", "reestimate")
    )
    assert again.value().value == plain.value().value
    assert again.cost == plain.cost
    assert "batch_norm" not in again.details


def test_equal_samples_have_one_digest_and_other_ones_another():
    model, (x, y) = problems.mlp(), problems.vectors()
    digest = Objective(model, (x, y)).digest
    assert digest == Objective(problems.mlp(seed=3), (x.clone(), y)).digest
    assert Objective(model, (x, y)).details["data"] == digest
    changed = x.clone()
    changed[3, 1] += 1e-15
    others = [(changed, y), (x.flip(0), y.flip(0)), (x.float(), y), (x[:-1], y[:-1])]
    digests = {Objective(model, each).digest for each in others} | {digest}
    assert len(digests) == 5


def test_batches_of_foreign_things_say_that_their_content_is_unknown():
    class Graph:
        def __init__(self, x):
            self.x = x

    def loss(model, graph):
        return model(graph.x).square().sum(1)

    objective = Objective(nn.Linear(2, 1), [Graph(torch.eye(2))], loss=loss)
    assert objective.digest.startswith("unknown-")


def test_further_facts_are_in_every_result():
    model, data = problems.mlp(), problems.vectors()
    objective = Objective(model, data, about={"augmentation": "none"})
    estimates = measure(objective, ["loss", "lpf:samples=2"])
    assert {e.details["augmentation"] for e in estimates.values()} == {"none"}
