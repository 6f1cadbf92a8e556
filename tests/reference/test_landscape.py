"""The loss along lines: exact bowls, filter norms, and what it leaves behind."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

import problems
from steppe.errors import DataError, SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.objective import Objective
from steppe.parameters import flatten

A = problems.symmetric([4.0, 3.0, 1.0, 0.5, -0.2])
START = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)


def bowl():
    """Quadratic loss around seven samples, in batches of five and two."""
    z = torch.randn((7, 5), generator=problems.generator(), dtype=torch.float64)
    model = problems.Quadratic(A, START)
    objective = Objective(model, [z[:5], z[5:]], loss=lambda model, z: model(z))
    return objective, z


def toward_origin(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.w.zero_()
    return Line.between(model, other)


def test_a_quadratic_loss_gives_its_parabola_and_the_error_of_its_mean():
    objective, z = bowl()
    found = landscape(objective, toward_origin(objective.model), x=(-1, 2, 13))
    points = torch.stack([START * (1 - c) for c in found.x])
    apart = points[:, None] - z
    losses = 0.5 * torch.einsum("xni,ij,xnj->xn", apart, A, apart)
    torch.testing.assert_close(found.loss, losses.mean(1), rtol=1e-12, atol=1e-12)
    stderr = losses.std(1) / 7**0.5
    torch.testing.assert_close(found.stderr, stderr, rtol=1e-10, atol=1e-12)
    assert found.samples == 7


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7])
def test_batches_change_nothing(batch_size):
    model, data = problems.networks()["batch_norm"]
    line = Line.random(model)
    whole = landscape(problems.objective(model, data, 7), line, x=(-1, 1, 5))
    split = landscape(problems.objective(model, data, batch_size), line, x=(-1, 1, 5))
    torch.testing.assert_close(split.loss, whole.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(split.stderr, whole.stderr, rtol=1e-10, atol=0)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_centre_is_the_loss_itself_and_nothing_has_moved(mode):
    model, data = problems.networks()["batch_norm"]
    model[0].weight.grad = torch.ones_like(model[0].weight)
    objective = problems.objective(model, data, mode=mode)
    value = objective.value()
    before = problems.state_of(model)
    found = landscape(objective, Line.random(model), x=[0.7, 0.0, -1.0])
    problems.assert_same(problems.state_of(model), before)
    assert float(found.loss[1]) == pytest.approx(value.value, rel=1e-14)
    assert float(found.stderr[1]) == pytest.approx(value.stderr, rel=1e-12)


def test_an_exception_half_way_leaves_no_trace():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data, mode="train")
    before = problems.state_of(model)

    def stop(done, total):
        assert total == 3 * 5
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(objective, Line.random(model), x=(-1, 1, 5), progress=stop)
    problems.assert_same(problems.state_of(model), before)


def test_progress_counts_every_evaluation_once():
    objective, _ = bowl()
    seen = []
    line = toward_origin(objective.model)
    landscape(objective, line, x=[0, 1, 2], progress=lambda *now: seen.append(now))
    assert seen == [(i, 6) for i in range(1, 7)]
    counting, checking = 1, 2 / len(objective.batches)
    assert objective.cost.forwards == pytest.approx(3 + counting + checking)


def test_points_are_computed_from_the_base_and_do_not_drift():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    line = Line.random(model)
    alone = [landscape(objective, line, x=[c]).loss for c in (-0.3, 0.1, 0.9)]
    together = landscape(objective, line, x=[0.9, -0.3, 0.1, 0.9]).loss
    assert torch.equal(together, torch.cat([alone[2], *alone]))


def test_the_line_stays_where_it_was_when_the_model_moves_on():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    line = Line.random(model)
    before = landscape(objective, line, x=[0.0, 0.5]).loss
    with torch.no_grad():
        model[0].weight.add_(1)
    assert torch.equal(landscape(objective, line, x=[0.0, 0.5]).loss, before)


def test_a_line_between_models_meets_both():
    a, b = problems.mlp(seed=1), problems.mlp(seed=2)
    data = problems.vectors()
    found = landscape(problems.objective(a, data), Line.between(a, b), x=[0, 1])
    ends = [problems.objective(m, data).value().value for m in (a, b)]
    assert found.loss.tolist() == pytest.approx(ends, rel=1e-12)


class Swapped(nn.Module):
    """The layers of another network, registered from last to first."""

    def __init__(self, model):
        super().__init__()
        for name, child in reversed(list(model.named_children())):
            self.add_module(name, child)

    def forward(self, x):
        for _, child in sorted(self.named_children()):
            x = child(x)
        return x


def test_parameters_are_told_apart_by_name_and_not_by_order():
    square = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh())
    model = problems.drawn(square)
    swapped, data = Swapped(model), problems.vectors(shape=(3,))
    line = Line.random(model, ignore="none")
    expected = landscape(problems.objective(model, data), line, x=(-1, 1, 5))
    found = landscape(problems.objective(swapped, data), line, x=(-1, 1, 5))
    assert torch.equal(found.loss, expected.loss)
    other = problems.drawn(copy.deepcopy(model), seed=5)
    line = Line.between(swapped, other)
    end = problems.objective(other, data).value().value
    found = landscape(problems.objective(model, data), line, x=[1.0])
    assert float(found.loss[0]) == pytest.approx(end, rel=1e-12)


def test_a_line_that_would_not_meet_a_frozen_parameter_is_refused():
    a, b = problems.mlp(seed=1), problems.mlp(seed=2)
    a[0].requires_grad_(False)
    with pytest.raises(SettingError, match=r"no frozen parameter, but 0\.\w+ differs"):
        Line.between(a, b)
    b[0].load_state_dict(a[0].state_dict())
    data = problems.vectors()
    found = landscape(problems.objective(a, data), Line.between(a, b), x=[1])
    end = problems.objective(b, data).value().value
    assert float(found.loss[0]) == pytest.approx(end, rel=1e-12)


def test_ignored_targets_are_left_out_also_when_they_fill_the_first_batch():
    model, (x, y) = problems.mlp(), problems.vectors()
    y = torch.cat([torch.full((3,), -100), y[3:]])
    found = landscape(problems.objective(model, (x, y)), Line.random(model), x=[0.0])
    value = problems.objective(model, (x, y)).value()
    assert float(found.loss[0]) == pytest.approx(value.value, rel=1e-12)
    assert float(found.stderr[0]) == pytest.approx(value.stderr, rel=1e-10)
    assert found.samples == 4
    nothing = problems.objective(model, (x, torch.full_like(y, -100)))
    with pytest.raises(DataError, match="no loss term"):
        landscape(nothing, Line.random(model), x=[0.0])


def test_one_sample_says_nothing_of_the_error():
    model, (x, y) = problems.mlp(), problems.vectors()
    objective = problems.objective(model, (x[:1], y[:1]))
    found = landscape(objective, Line.random(model), x=[0.0, 1.0])
    assert found.stderr.tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_a_context_around_it_changes_nothing(context):
    model, (x, y) = problems.mlp().float(), problems.vectors()
    line = Line.random(model)
    expected = landscape(problems.objective(model, (x.float(), y)), line, x=[0, 1])
    with context():
        found = landscape(problems.objective(model, (x.float(), y)), line, x=[0, 1])
    assert torch.equal(found.loss, expected.loss)


class Halved(nn.Sequential):
    """A network with an autocast of its own."""

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


def test_the_autocast_of_a_model_stays_and_keeps_no_weights_of_other_points():
    model, (x, y) = Halved(*problems.mlp().float()), problems.vectors()
    # With gradients, autocast would cache the weights of the first point.
    objective = problems.objective(model, (x.float(), y), batch_size=7)
    line = Line.random(model, norm="none")
    both = landscape(objective, line, x=[0.0, 1.0]).loss
    assert torch.equal(both[1:], landscape(objective, line, x=[1.0]).loss)
    assert both[0] == objective.losses().double().mean()
    exact = landscape(problems.objective(nn.Sequential(*model), (x.float(), y)), line)
    assert float(both[0]) != float(exact.loss[25])


def test_filter_norm_gives_every_row_the_length_of_the_parameters_row():
    model = problems.cnn()
    line = Line.random(model, norm="filter", seed=3)
    for w, d in zip(line.base, line.direction, strict=True):
        if w.dim() > 1:
            rows, lengths = w.flatten(1).norm(dim=1), d.flatten(1).norm(dim=1)
            torch.testing.assert_close(lengths, rows, rtol=1e-8, atol=0)
        else:
            assert not d.any()


def test_layer_norm_gives_every_tensor_the_length_of_the_parameters():
    line = Line.random(problems.cnn(), norm="layer")
    for w, d in zip(line.base, line.direction, strict=True):
        if w.dim() > 1:
            torch.testing.assert_close(d.norm(), w.norm(), rtol=1e-8, atol=0)


def test_without_a_norm_it_is_the_draw_of_the_seed_in_the_order_of_names():
    model = problems.mlp(bias=False)
    torch.rand(3)  # what was drawn before has no influence
    line = Line.random(model, norm="none", seed=7)
    source = torch.Generator().manual_seed(7)
    expected = [torch.randn(p.shape, generator=source) for p in model.parameters()]
    assert torch.equal(flatten(line.direction), flatten(expected).double())


def test_vectors_are_their_own_direction_when_none_is_ignored():
    model = problems.cnn()
    line = Line.random(model, ignore="none")
    for w, d in zip(line.base, line.direction, strict=True):
        assert torch.equal(w, d) == (w.dim() <= 1)


def test_a_zero_filter_has_a_zero_direction():
    model = problems.linear()
    with torch.no_grad():
        model.weight[1] = 0
    direction = Line.random(model).direction[0]
    assert not direction[1].any()
    assert bool(torch.isfinite(direction).all())


def curve(model, norm):
    objective = problems.objective(model, problems.vectors())
    return landscape(objective, Line.random(model, norm=norm), x=(-1, 1, 5)).loss


@pytest.mark.parametrize(
    ("norm", "layers", "rows"),
    [("filter", True, True), ("layer", True, False), ("none", False, False)],
)
def test_only_filter_norm_follows_a_rescaling_of_single_filters(norm, layers, rows):
    model = problems.mlp(nn.ReLU, bias=False)
    by_layer, by_row = copy.deepcopy(model), copy.deepcopy(model)
    scales = torch.tensor([4.0, 1.0, 0.5, 2.0, 0.3]).double()
    with torch.no_grad():
        by_layer[2].weight.mul_(5)
        by_layer[4].weight.div_(5)
        by_row[2].weight.mul_(scales[:, None])
    expected = curve(model, norm)
    assert torch.allclose(curve(by_layer, norm), expected, rtol=1e-7) == layers
    # Filters are rows: a factor on a row of one layer scales that row's direction.
    line, scaled = Line.random(model, norm=norm), Line.random(by_row, norm=norm)
    follows = scales[:, None] * line.direction[1]
    assert torch.allclose(scaled.direction[1], follows, rtol=1e-7) == rows


def test_frozen_parameters_do_not_move():
    model = problems.mlp()
    model[0].requires_grad_(False)
    line = Line.random(model)
    assert line.names == ("2.weight", "2.bias", "4.weight", "4.bias")
    assert len(line.point(0.5)) == 4


def test_a_point_is_base_plus_coordinate_times_direction():
    line = Line.random(problems.mlp())
    expected = flatten(line.base) - 0.25 * flatten(line.direction)
    torch.testing.assert_close(flatten(line.point(-0.25)), expected, rtol=1e-14, atol=0)


def test_a_symmetric_range_has_its_centre_at_zero_and_lists_stand_for_themselves():
    objective, _ = bowl()
    line = toward_origin(objective.model)
    for count in (3, 21, 51):
        assert landscape(objective, line, x=(-0.7, 0.7, count)).x[count // 2] == 0.0
    fine = landscape(objective, line, x=(-1, 1, 5))
    coarse = landscape(objective, line, x=[-1, 0, 1])
    assert fine.x == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert torch.equal(coarse.loss, fine.loss[::2])
    assert landscape(objective, line, x=(-1.0, 0.0, 1.0)).x == coarse.x
    assert landscape(objective, line, x=(-1, 1, np.int64(5))).x == fine.x


def test_the_details_say_what_the_curve_is_a_function_of():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    line = Line.random(model, seed=4)
    found = landscape(objective, line, x=[0.5, 1.0])
    assert found.details == {
        **objective.details,
        "subspace": "random",
        "norm": "filter",
        "ignore": "biasbn",
        "seed": 4,
        "strategy": "shared first layer",
        "length": pytest.approx(float(flatten(line.direction).norm()), rel=1e-12),
        **line.digests,
        "range": (0.5, 1.0),
        "has_centre": False,
    }


def test_mistakes_are_one_sentence():
    model = problems.mlp()
    objective, line = problems.objective(model, problems.vectors()), Line.random(model)
    with pytest.raises(SettingError, match=r"norm must be 'filter', .* or 'none'"):
        Line.random(model, norm="row")
    with pytest.raises(SettingError, match=r"count .* must be >= 2, got 1"):
        landscape(objective, line, x=(-1, 0, 1))
    with pytest.raises(SettingError, match=r"must be an integer, got 5\.0.* list"):
        landscape(objective, line, x=(-1, 1, 5.0))
    with pytest.raises(SettingError, match="at least one coordinate"):
        landscape(objective, line, x=[])
    with pytest.raises(SettingError, match="all finite"):
        landscape(objective, line, x=[0.0, float("nan")])
    with pytest.raises(SettingError, match="same parameters: weight"):
        landscape(objective, Line.random(problems.linear()))
    with pytest.raises(SettingError, match=r"0\.weight is of shape \(6, 4\)"):
        Line.between(model, nn.Sequential(nn.Linear(4, 5)))


class SharedNoise(torch.nn.Module):
    """One draw for all samples of a pass in training."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 1))

    def forward(self, x):
        return x @ self.weight + torch.randn(()) * self.training


def test_errors_know_of_noise_that_a_batch_shares():
    data = [torch.zeros(20, 1) for _ in range(6)]
    model = SharedNoise()
    objective = Objective(model, data, lambda m, x: m(x)[:, 0], mode="train")
    surface = landscape(objective, Line.random(model), x=[0.0, 1.0])
    expected = objective.value().stderr
    assert expected > 0.1
    assert surface.stderr.tolist() == pytest.approx([expected] * 2, rel=1e-6)


def test_a_line_prints_how_it_was_made_and_no_weights():
    model = nn.Linear(3, 2)
    drawn = Line.random(model, seed=4)
    assert repr(drawn) == (
        "Line(subspace='random', norm='filter', ignore='biasbn', seed=4, parameters=8)"
    )
    assert len(str(Line.between(model, nn.Linear(3, 2)))) < 80
