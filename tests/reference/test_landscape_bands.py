"""Random lines of several seeds as a band, and grids without the base point."""

import math
import re
import warnings

import numpy as np
import pytest
import torch

import problems
from steppe.errors import DataError, SettingError
from steppe.landscapes.evaluation.band import band
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.surfaces import Band, Surface

X = (-1, 1, 5)


def scene():
    model = problems.mlp()
    return model, problems.objective(model, problems.vectors())


def test_a_band_is_the_lines_of_its_seeds_and_quantiles_as_numpy_has_them():
    model, objective = scene()
    before = problems.state_of(model)
    found = band(objective, [3, 0, 7, 8], X, norm="layer", levels=(0.2, 0.75))
    problems.assert_same(problems.state_of(model), before)
    losses = []
    for seed, surface in zip([3, 0, 7, 8], found.surfaces, strict=True):
        alone = landscape(objective, Line.random(model, "layer", seed=seed), X)
        assert torch.equal(surface.loss, alone.loss)
        assert surface.details == alone.details
        losses.append(alone.loss.numpy())
    for level, values in [(0.5, found.median), (0.2, found.low), (0.75, found.high)]:
        expected = torch.from_numpy(np.quantile(losses, level, axis=0))
        torch.testing.assert_close(values, expected, rtol=1e-14, atol=0)
    assert found.x == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert found.details["seeds"] == (3, 0, 7, 8)
    assert "seed" not in found.details


def test_all_lines_meet_at_the_base_point():
    _, objective = scene()
    found = band(objective, range(5), X)
    base = objective.value().value
    for values in (found.low, found.median, found.high):
        assert float(values[2]) == pytest.approx(base, rel=1e-14)
    assert bool((found.low[[0, 1, 3, 4]] < found.high[[0, 1, 3, 4]]).all())


def surface(*losses):
    loss = torch.tensor(losses, dtype=torch.float64)
    x = tuple(map(float, range(len(losses))))
    return Surface(coordinates=(x,), loss=loss, stderr=0 * loss, samples=1)


def test_what_is_not_finite_is_above_all_numbers():
    three = (surface(1.0, 2.0), surface(2.0, math.inf), surface(math.nan, math.nan))
    found = Band(surfaces=three, levels=(0.0, 0.75))
    assert found.low.tolist() == [1.0, 2.0]
    assert found.median.tolist() == [2.0, math.inf]
    assert found.high.tolist() == [math.inf, math.inf]
    assert found.to_dict()["high"] == [None, None]


def test_rows_and_table_have_a_line_for_each_point():
    found = Band(surfaces=(surface(1.0, 2.0), surface(3.0, 2.0)))
    assert found.rows()[0] == pytest.approx(
        {"x": 0, "median": 2, "low": 1.2, "high": 2.8}
    )
    assert "quantile 0.1" in repr(found)
    assert len(repr(found).splitlines()) == 3


def test_progress_counts_all_lines_together():
    _, objective = scene()
    seen = []
    band(objective, range(2), [0.0, 1.0], progress=lambda *now: seen.append(now))
    assert seen == [(i + 1, 12) for i in range(12)]


@pytest.mark.parametrize("seeds", [[], [1, 1], 3])
def test_seeds_are_several(seeds):
    _, objective = scene()
    with pytest.raises(SettingError, match="seeds must be one or more whole numbers"):
        band(objective, seeds)


def test_mistakes_are_one_sentence():
    _, objective = scene()
    with pytest.raises(SettingError, match="band needs a steppe"):
        band(objective.model)
    with pytest.raises(SettingError, match="the upper level must be between"):
        band(objective, [0], [0.0], levels=(0.5, 0.4))
    with pytest.raises(SettingError, match="levels must be two numbers"):
        band(objective, levels=0.5)
    with pytest.raises(SettingError, match="2 different grids"):
        Band(surfaces=(surface(1.0), surface(1.0, 2.0)))
    with pytest.raises(SettingError, match="got 'accuracy'; one has loss"):
        Band(surfaces=(surface(1.0),)).quantile(0.5, "accuracy")


@pytest.mark.parametrize("x", [(-1, 1, 4), (-1, 1, np.int64(20)), (-1, 2, 6)])
def test_even_steps_around_the_base_point_are_warned_of(x):
    model, objective = scene()
    with pytest.warns(UserWarning, match="no point along x is at 0") as caught:
        found = landscape(objective, Line.random(model), x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not found.details["has_centre"]


@pytest.mark.parametrize(
    "x", [(-1, 1, 5), (0, 1, 4), (0, -1, 4), [-1.0, 1.0], (-1.0, 0.5, 1.0), None]
)
def test_other_coordinates_are_meant_as_they_are(x):
    model, objective = scene()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape(objective, Line.random(model), x)


def test_a_part_of_a_line_between_networks_is_meant():
    model, objective = scene()
    line = Line.between(model, problems.mlp(seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape(objective, line, (0.5, 1, 3))


@pytest.mark.parametrize(
    "x", [(-1, 1, 4), (1, -1, 6), (-0.4, 1, 9), (-0.2, 1.2, 9), (1, -0.5, 5)]
)
def test_the_count_that_is_advised_has_the_base_point(x):
    model, objective = scene()
    with pytest.warns(UserWarning, match="count of x, such as") as caught:
        landscape(objective, Line.random(model), x)
    (count,) = re.findall(r"count of x, such as (\d+)", str(caught[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landscape(objective, Line.random(model), (*x[:2], int(count)))


def test_a_range_that_no_small_count_helps_has_another_advice():
    model, objective = scene()
    with pytest.warns(UserWarning, match=r"as a list .* such as \(-1, 1, 5\)"):
        landscape(objective, Line.random(model), (-0.123457, 1, 4))


@pytest.mark.parametrize("x", [(0.5, 1, 3), (-0.5, -1, 3)])
def test_a_range_beside_the_base_point_is_warned_of(x):
    model, objective = scene()
    with pytest.warns(UserWarning, match="range of x, .* does not hold 0"):
        landscape(objective, Line.random(model), x)


@pytest.mark.parametrize("where", ["base", "end"])
def test_nan_in_the_weights_is_refused_before_any_point(where):
    model, objective = scene()
    broken = problems.mlp(seed=1)
    with torch.no_grad():
        next(iter(broken.parameters()))[0, 0] = math.nan
    at_base = where == "base"
    line = Line.random(broken) if at_base else Line.between(model, broken)
    with pytest.raises(DataError, match=r"has NaN in 0\.weight"):
        landscape(objective, line, X)


def test_a_grid_without_any_finite_loss_is_warned_of():
    model = problems.mlp()
    inputs, targets = problems.vectors()
    objective = problems.objective(model, (inputs * math.nan, targets))
    with pytest.warns(UserWarning, match="finite at no point of the grid") as caught:
        landscape(objective, Line.random(model), X)
    assert caught[0].filename == __file__


def test_every_axis_of_a_plane_is_looked_at():
    model, objective = scene()
    with pytest.warns(UserWarning, match="along y .* such as 3"):
        landscape(objective, Plane.random(model), [0.0], (-1, 1, 2))


def test_progress_ends_at_all_and_never_goes_back_where_lines_are_interpolated():
    _, objective = scene()
    seen = []
    progress = seen.append
    bands = band(objective, range(3), (-1, 1, 65), progress=lambda *now: progress(now))
    assert all(each.computed is not None for each in bands.surfaces)
    done = [now for now, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1]


def test_the_networks_of_a_plane_are_in_the_details():
    model, objective = scene()
    plane = Plane.through(model, problems.mlp(seed=1), problems.mlp(seed=2))
    found = landscape(objective, plane, [0.0, 1.0], [0.0, 1.0])
    assert found.details["networks"] == [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    assert "networks" not in landscape(objective, Line.random(model), X).details
