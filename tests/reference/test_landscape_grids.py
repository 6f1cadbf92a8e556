"""Which points of a grid are evaluated, and the error of those that are not."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import problems
from probes import probe
from steppe.errors import SettingError
from steppe.landscapes.evaluation.grid import Grid, coordinates_of
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.evaluation.levels import levels_of, levels_of_axis
from steppe.landscapes.subspaces.abstract import Axis
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective


def both(objective, subspace, *along, **settings):
    """The surface by levels, and all of its points evaluated."""
    found = landscape(objective, subspace, axes=along, **settings)
    exact = landscape(objective, subspace, axes=along, exact=True)
    assert exact.computed is None
    assert "interpolation" not in exact.details
    computed = found.computed
    if computed is not None:
        same = (found.loss == exact.loss) | exact.loss.isnan()
        assert bool(same[computed].all())
    return found, exact


def true_errors(found, exact, scale=None):
    left = ~found.computed
    apart = (found.loss - exact.loss)[left].abs()
    return apart / (exact.loss[left] if scale is None else scale)


def rms(errors):
    return float(errors.square().mean().sqrt())


def trained(model, data, steps=40):
    """The model after some steps of gradient descent with momentum."""
    x, y = data
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def clusters(shape):
    """Samples of three classes, each around a centre of its own."""
    x, y = problems.vectors(150, shape)
    centres = torch.randn((3, *shape), generator=problems.generator(3)).double()
    return x + centres[y], y


# ---- levels


@pytest.mark.parametrize(("count", "base"), [(51, 25), (50, None), (40, 7), (9, 4)])
def test_levels_are_nested_and_end_with_all_coordinates(count, base):
    levels = levels_of_axis(count, base)
    assert len(levels[0]) == 5
    for coarse, fine in itertools.pairwise(levels):
        assert set(coarse) < set(fine)
        assert np.diff(fine).max() <= (np.diff(coarse).max() + 1) // 2
    assert levels[-1].tolist() == list(range(count))
    for level in levels:
        assert {0, count - 1} <= set(level)
        assert base is None or base in level


def test_levels_of_dyadic_counts_are_even():
    assert [len(level) for level in levels_of_axis(65, 32)] == [5, 9, 17, 33, 65]
    assert levels_of_axis(33, 16)[1].tolist() == list(range(0, 33, 4))


def test_tests_are_centres_of_cells_and_one_is_next_to_the_base():
    axis = tuple(np.linspace(-1, 1, 65))
    *_, level, _, _ = levels_of(Grid((axis, axis), (True, True), (0.0, 0.0)))
    tests = level.tests()
    assert [len(level.nodes[0]), len(tests)] == [17, 64]
    assert (34, 34) in tests
    assert sum(tests.values()) == pytest.approx(16 * 16)  # cells that they stand for
    assert all(place[0] % 4 == place[1] % 4 == 2 for place in tests)
    for axis in (0, 1):  # every row and column has some
        assert len({place[axis] for place in tests}) == 16


# ---- values


def test_a_bowl_is_exact_and_costs_few_points():
    objective, plane = probe(lambda x, y: 3 * x * x + x * y + 2 * y * y)
    found, exact = both(objective, plane, (-1, 1, 51), (-1, 1, 51))
    torch.testing.assert_close(found.loss, exact.loss, rtol=0, atol=1e-12)
    about = found.details["interpolation"]
    assert about["evaluated"] == int(found.computed.sum()) == 25 + 16
    assert about["scale"] == "loss"
    assert about["relative_error"]["loss"]["rms"] < 1e-12
    torch.testing.assert_close(found.stderr, exact.stderr, rtol=0, atol=1e-12)


def test_white_noise_is_evaluated_everywhere_and_nowhere_twice():
    def noise(x, y):
        return 1 + math.sin(1e6 * x + 1e5 * y * y + y) ** 2

    objective, plane = probe(noise)
    found = landscape(objective, plane, (-1, 1, 21), (-1, 2, 31))
    assert found.computed is None
    assert "interpolation" not in found.details
    assert len(objective.model.seen) == 1 + 21 * 31  # the base point and the grid
    assert len(set(objective.model.seen)) == 21 * 31
    places = {(x, y) for x in found.x for y in found.y}
    assert set(objective.model.seen) == places


MODELS = {
    "mlp": lambda: (problems.mlp(), clusters((4,))),
    "batch_norm": lambda: (problems.cnn(), clusters((1, 4, 4))),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tolerance", [0.01, 0.1])
def test_the_tolerance_is_met_on_networks_and_the_error_said_is_the_true_one(
    name, tolerance
):
    model, data = MODELS[name]()
    objective = Objective(trained(model, data), data, batch_size=100)
    found, exact = both(
        objective, Plane.random(model), (-1, 1, 33), (-1, 1, 33), tolerance=tolerance
    )
    errors = true_errors(found, exact)
    about = found.details["interpolation"]
    said = about["relative_error"]["loss"]
    assert 0 < said["rms"] <= tolerance
    assert said["rms"] >= 0.5 * rms(errors)
    assert about["evaluated"] == int(found.computed.sum()) < 33 * 33 / 2


def test_lines_have_levels_too():
    model, data = MODELS["mlp"]()
    objective = Objective(trained(model, data), data, batch_size=150)
    found, exact = both(objective, Line.random(model), (-1, 1, 101))
    assert found.details["interpolation"]["evaluated"] < 51
    assert rms(true_errors(found, exact)) < 0.01


def test_boxes_have_levels_too():
    objective, box = probe(lambda x, y, z: 1 + x * x + y * y * z * z, axes=3)
    found, exact = both(objective, box, (-1, 1, 9), (-1, 2, 10), (0, 1, 11))
    assert found.details["interpolation"]["nodes"] == (5, 5, 5)
    assert rms(true_errors(found, exact)) < 0.01


def test_lists_are_evaluated_at_all_coordinates_and_ranges_beside_them_have_levels():
    listed = [0.3, -0.7, 0.3, 1.0]
    objective, plane = probe(lambda x, y: 2 + math.sin(x) + 1e3 * y * y * (y > 0.5))
    found, exact = both(objective, plane, (-1, 1, 33), listed)
    assert found.y == tuple(listed)
    about = found.details["interpolation"]
    assert about["nodes"] == (5, 4)
    assert bool(found.computed[:, [0, 8, 16, 24, 32]].all())
    assert rms(true_errors(found, exact)) < 0.01
    both_listed = landscape(objective, plane, np.linspace(-1, 1, 33), listed)
    assert both_listed.computed is None


def test_few_points_and_short_ranges_are_all_evaluated():
    objective, plane = probe(lambda x, y: x * x)
    assert landscape(objective, plane, (-1, 1, 5), (-1, 1, 5)).computed is None
    assert landscape(objective, plane, (0, 1, 8), (0, 1, 8)).computed is None
    assert landscape(objective, plane, (1, 1, 9), (1, 1, 9)).computed is None
    objective, line = probe(lambda x: x * x, axes=1)
    assert landscape(objective, line, (0, 1, 25)).computed is None
    assert landscape(objective, line, (0, 1, 26)).computed is not None


# ---- values that are not finite, not positive, or not the loss


def test_nothing_is_interpolated_across_values_that_are_not_finite():
    def overflowing(x, y):
        r = math.hypot(x - 1, y - 1)
        return math.exp(x) + 1 if r > 0.6 else (math.inf if r > 0.3 else math.nan)

    objective, plane = probe(overflowing)
    found, exact = both(objective, plane, (-1, 1, 33), (-1, 1, 33))
    assert found.computed is not None
    finite = exact.loss.isfinite()
    assert torch.equal(found.loss.isnan(), exact.loss.isnan())
    assert torch.equal(found.loss.isfinite(), finite)
    assert bool(found.computed[~finite].all())
    assert rms(true_errors(found, exact)) < 0.01


def test_a_surface_without_any_number_is_evaluated_everywhere():
    objective, line = probe(lambda x: math.nan, axes=1)
    with pytest.warns(UserWarning, match="finite at no point"):
        found = landscape(objective, line, (-1, 1, 33))
    assert found.computed is None
    assert bool(found.loss.isnan().all())


@pytest.mark.parametrize("offset", [0.0, -5.0])
def test_zero_and_negative_losses_are_values_like_others(offset):
    objective, plane = probe(lambda x, y: math.cos(x) * y * y + offset)
    found, exact = both(objective, plane, (-1, 1, 17), (-1, 1, 17))
    assert found.details["interpolation"]["scale"] == "loss"
    reach = float(exact.loss.max() - exact.loss.min())
    assert rms(true_errors(found, exact, scale=reach)) < 0.01
    assert len(objective.model.seen) < 2 * 17 * 17  # none again and again


def test_values_may_reach_the_largest_numbers():
    objective, line = probe(lambda x: math.exp(700 * x), axes=1)
    found, exact = both(objective, line, (-1, 1, 101))
    assert found.details["interpolation"]["scale"] == "logarithm"
    assert rms(true_errors(found, exact)) < 0.01
    objective, line = probe(lambda x: 1.7e308 * math.sin(40 * x), axes=1)
    assert landscape(objective, line, (-1, 1, 33)).computed is None


def test_steps_that_round_to_nothing_are_no_range():
    objective, line = probe(lambda x: x * x, axes=1)
    found = landscape(objective, line, (1, 1 + 1e-15, 101))
    assert found.computed is None
    assert found.loss.tolist() == [x * x for x in found.x]


def test_a_small_rise_above_a_large_loss_is_not_lost():
    objective, line = probe(lambda x: 100 + math.exp(-((8 * x) ** 2)), axes=1)
    found, exact = both(objective, line, (-1, 1, 129))
    assert rms(true_errors(found, exact, scale=1.0)) < 0.01


def test_rounding_error_of_a_flat_surface_is_no_reason_to_go_on():
    objective, plane = probe(lambda x, y: 1 + 1e-7 * math.sin(1e5 * (x + y)))
    found, _ = both(objective, plane, (-1, 1, 33), (-1, 1, 33))
    assert found.details["interpolation"]["nodes"] == (5, 5)


class Step:
    """A quantity that is 1 on one side of a diagonal and 0 on the other."""

    name, units = "step", "fraction"

    def values(self, evaluation):
        at = evaluation.outputs
        return (at > 0).double()


class Sum(nn.Module):
    """The inputs weighed by the parameters."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([1.0, 1.0], dtype=torch.float64))

    def forward(self, x):
        return x @ self.w


def test_other_quantities_have_errors_of_their_own_that_meet_the_tolerance():
    source = problems.generator(4)
    x = torch.randn((400, 2), generator=source, dtype=torch.float64)
    model = Sum()
    objective = Objective(
        model, [(x, x[:, 0])], lambda m, b: (m(b[0]) - b[1]).square(), batch_size=400
    )
    plane = Plane(
        names=("w",),
        base=(model.w.detach().clone(),),
        directions=tuple((each,) for each in torch.eye(2, dtype=torch.float64)),
        axes=(Axis(), Axis()),
    )
    settings = {"quantities": [Step()], "tolerance": 0.02}
    alone = landscape(objective, plane, (-1, 1, 33), (-1, 1, 33), tolerance=0.02)
    found = landscape(objective, plane, (-1, 1, 33), (-1, 1, 33), **settings)
    exact = landscape(
        objective, plane, (-1, 1, 33), (-1, 1, 33), exact=True, **settings
    )
    errors = found.details["interpolation"]["relative_error"]
    assert set(errors) == {"loss", "step"}
    assert max(each["rms"] for each in errors.values()) <= 0.02
    assert int(found.computed.sum()) > int(alone.computed.sum())
    step, true = (each.quantities["step"].values for each in (found, exact))
    apart = (step - true)[~found.computed] / float(true.max() - true.min())
    assert rms(apart) < 2 * 0.02


def test_standard_errors_are_interpolated_and_a_single_sample_keeps_infinite_ones():
    model, data = MODELS["mlp"]()
    trained(model, data)
    objective = Objective(model, data, batch_size=150)
    found, exact = both(objective, Plane.random(model), (-1, 1, 33), (-1, 1, 33))
    for name in ("stderr", "rise_stderr"):
        guess, true = getattr(found, name), getattr(exact, name)
        apart = ((guess - true) / true)[~found.computed]
        assert rms(apart) < 0.05, name
        assert bool((guess >= 0).all())
    single = Objective(model, [tuple(each[:1] for each in data)])
    found = landscape(single, Line.random(model), (-1, 1, 101))
    assert found.computed is not None
    assert found.stderr.isinf().all()


# ---- order, progress, and defects of other programs


def test_points_come_from_the_base_outwards_and_rows_do_not_shift():
    objective, plane = probe(lambda x, y: 1.0)
    found = landscape(objective, plane, (-2, 3, 6), (-1, 1, 3))
    seen = objective.model.seen[1:]
    assert sorted(seen) == sorted((x, y) for x in found.x for y in found.y)
    distances = [(x / 5) ** 2 + (y / 2) ** 2 for x, y in seen]
    assert seen[0] == (0.0, 0.0)
    assert distances == sorted(distances)
    assert found.x == (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # the far edge is in it


@pytest.mark.parametrize("exact", [True, False])
def test_swapped_axes_give_the_transposed_surface(exact):
    def loss(x, y):
        return math.exp(x - 0.3 * y * y)

    along = ((-1, 2, 31), (-2, 1, 25))
    objective, plane = probe(loss)
    straight = landscape(objective, plane, *along, exact=exact)
    objective, plane = probe(lambda x, y: loss(y, x))
    swapped = landscape(objective, plane, *along[::-1], exact=exact)
    torch.testing.assert_close(swapped.loss.T, straight.loss, rtol=1e-12, atol=0)
    assert exact or torch.equal(swapped.computed.T, straight.computed)


def test_a_range_that_goes_down_gives_the_mirrored_surface():
    objective, line = probe(lambda x: math.exp(x), axes=1)
    up = landscape(objective, line, (-1, 1, 33))
    down = landscape(objective, line, (1, -1, 33))
    assert up.computed is not None
    torch.testing.assert_close(down.loss.flip(0), up.loss, rtol=1e-12, atol=0)


def test_progress_becomes_shorter_when_the_tolerance_is_met_and_ends_complete():
    objective, plane = probe(lambda x, y: x * x + y * y)
    seen = []
    landscape(
        objective,
        plane,
        (-1, 1, 33),
        (-1, 1, 33),
        progress=lambda *now: seen.append(now),
    )
    assert seen[0] == (1, 33 * 33)
    assert seen[-1] == (41, 41)
    done = [now[0] for now in seen]
    assert done == sorted(done)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), True, "1%"])
def test_a_tolerance_is_a_positive_number(tolerance):
    objective, line = probe(lambda x: x * x, axes=1)
    with pytest.raises(SettingError, match="tolerance must be"):
        landscape(objective, line, tolerance=tolerance)


@pytest.mark.parametrize("length", [1 / 3, 0.7351, 8.192731, 1e-7 / 3])
def test_a_range_that_is_computed_meets_the_base_point_among_its_steps(length):
    along = coordinates_of((-0.2 * length, 1.2 * length, 8), "x")
    assert along[1] == 0.0
    assert along[0] == -0.2 * length
    assert along[-1] == 1.2 * length
    np.testing.assert_allclose(along, np.linspace(along[0], along[-1], 8), atol=1e-15)
