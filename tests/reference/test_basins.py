"""Basins against grids drawn by hand, labels of each level, and closed forms.

Shape letters: X points along the first axis, Y along the second.
"""

import math

import numpy as np
import pytest
import torch

import steppe
from steppe.errors import SettingError
from steppe.plots import alt
from steppe.surfaces import Surface, Values


def surface(loss, coordinates=None, stderr=None, **fields):
    values = torch.as_tensor(loss, dtype=torch.float64)
    if coordinates is None:
        sizes = reversed(values.shape)
        coordinates = tuple(tuple(map(float, range(n))) for n in sizes)
    errors = torch.zeros_like(values) if stderr is None else torch.as_tensor(stderr)
    return Surface(
        coordinates=coordinates, loss=values, stderr=errors, samples=10, **fields
    )


def depths(found):
    return [basin.depth for basin in found.basins]


def test_two_pits_by_hand():
    found = steppe.basins(
        surface([[9, 9, 9, 9, 9], [9, 1, 5, 2, 9], [9, 9, 9, 9, 9]]),
        neighbours="faces",
    )
    deep, other = found.basins
    assert (deep.point, deep.value, deep.depth, deep.saddle) == (
        (1, 1),
        1,
        math.inf,
        None,
    )
    assert (other.point, other.value, other.depth) == ((3, 1), 2, 3)
    assert (other.saddle, other.parent, other.points) == ((2, 1), 0, 1)
    assert not deep.at_edge
    assert found.sentence() == "2 basins; the one at (3, 1) is 3 deep."
    assert steppe.basins(surface(found_rows()), threshold=3.0).shallow == 1


def found_rows():
    return [[9, 9, 9, 9, 9], [9, 1, 5, 2, 9], [9, 9, 9, 9, 9]]


def test_points_touch_along_diagonals_or_not():
    rows = [[0, 9, 9], [9, 1, 9], [9, 9, 0.5]]
    assert depths(steppe.basins(surface(rows))) == [math.inf, 0.5]
    faces = steppe.basins(surface(rows), neighbours="faces")
    assert depths(faces) == [math.inf, 8.5, 8]


def test_a_plateau_is_one_basin_and_a_constant_too():
    assert depths(steppe.basins(surface([[1, 1, 1], [1, 1, 1]]))) == [math.inf]
    rows = [0, 0, 3, 1, 1, 1, 3, 2]
    found = steppe.basins(surface(rows))
    assert depths(found) == [math.inf, 2, 1]
    assert [basin.points for basin in found.basins] == [8, 3, 1]
    assert [basin.at_edge for basin in found.basins] == [True, False, True]


def test_values_that_are_not_finite_are_left_out_and_may_part_the_grid():
    found = steppe.basins(surface([3, 1, math.nan, 2, 5, 4, math.inf]))
    assert depths(found) == [math.inf, math.inf, 1]
    assert [basin.parent for basin in found.basins] == [None, None, 1]
    assert found.left_out == 2
    none = steppe.basins(surface([math.nan, math.inf]))
    assert (none.basins, none.sentence()) == ((), "No value is finite.")


def counts_by_labels(values, levels, structure):
    """Connected components of each sub-level set, by another library."""
    from scipy import ndimage

    return [ndimage.label(values <= level, structure)[1] for level in levels]


@pytest.mark.parametrize("neighbours", ["faces", "corners"])
@pytest.mark.parametrize("shape", [(40,), (9, 14), (5, 4, 6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_components_of_every_level_are_those_of_labelled_images(
    neighbours, shape, seed
):
    from scipy import ndimage

    drawn = np.random.default_rng(seed).integers(0, 12, shape).astype(float)
    drawn[drawn == 7] = np.nan  # some without a value
    rank = 1 if neighbours == "faces" else len(shape)
    structure = ndimage.generate_binary_structure(len(shape), rank)
    levels = np.arange(12)
    expected = counts_by_labels(np.nan_to_num(drawn, nan=1e9), levels, structure)
    found = steppe.basins(surface(drawn), neighbours=neighbours)
    # A component lives from its minimum until just below its saddle.
    lives = [(b.value, b.value + b.depth) for b in found.basins]
    assert [sum(low <= v < end for low, end in lives) for v in levels] == expected
    assert (
        sum(b.points for b in found.basins if b.parent is None)
        == np.isfinite(drawn).sum()
    )


@pytest.mark.parametrize("tilt", [0.0, 0.1, 0.3])
def test_a_double_well_has_the_depth_of_its_closed_form(tilt):
    x = np.linspace(-1.5, 1.5, 601)
    y = np.linspace(-1, 1, 21)
    X, Y = np.meshgrid(x, y)
    loss = (X**2 - 1) ** 2 + tilt * X + 3 * Y**2
    found = steppe.basins(surface(loss, (tuple(x), tuple(y))))
    # Stationary points along x: 4 x^3 - 4 x + tilt = 0.
    left, top, right = sorted(np.roots([4, 0, -4, tilt]).real)

    def height(at):
        return (at**2 - 1) ** 2 + tilt * at

    lowest, other = found.basins
    assert other.depth == pytest.approx(height(top) - height(right), abs=1e-4)
    assert other.point == pytest.approx((right, 0), abs=0.006)
    assert other.saddle == pytest.approx((top, 0), abs=0.006)
    assert lowest.point == pytest.approx((left, 0), abs=0.006)


def test_no_second_minimum_is_a_convex_bowl():
    x = np.linspace(-1, 1, 31)
    X, Y = np.meshgrid(x, x)
    # Along faces alone, points of a valley across the grid would not touch.
    found = steppe.basins(surface(1e3 * (X - Y) ** 2 + (X + Y) ** 2, (tuple(x),) * 2))
    assert found.sentence() == "One basin."
    assert (len(found.basins), found.shallow) == (1, 0)


def test_a_minimum_within_its_errors_does_not_count():
    loss = [1.0, 0.0, 0.5, 0.3, 1.0]
    assert len(steppe.basins(surface(loss)).basins) == 2
    noisy = surface(loss, stderr=[0.06] * 5)  # 2 * (0.06 + 0.06) > 0.2
    found = steppe.basins(noisy)
    assert (len(found.basins), found.shallow) == (1, 1)
    assert found.sentence() == "One basin; the next minimum is 0.2 deep."
    paired = surface(loss, stderr=[0.06] * 5, rise_stderr=torch.full((5,), 0.01))
    assert steppe.basins(paired).basins[1].stderr == pytest.approx(0.02)
    assert len(steppe.basins(noisy, errors=1.0).basins) == 2
    infinite = surface(loss, stderr=[math.inf] * 5)
    assert len(steppe.basins(infinite).basins) == 2  # of one sample: not known


def test_coordinates_in_any_order_and_other_quantities():
    mixed = surface([0.5, 0.0, 2.0], ((3.0, 1.0, 2.0),))
    assert steppe.basins(mixed).basins[1].depth == 1.5
    other = Values(values=torch.tensor([1.0, 0.0, 3.0]))
    named = surface([0.0, 1.0, 2.0], quantities={"error": other})
    assert steppe.basins(named, "error").basins[0].point == (1.0,)


def test_basins_as_rows_and_in_captions():
    found = steppe.basins(surface(found_rows()))
    record = found.to_dict()
    assert record["basins"][0]["depth"] is None
    assert record["basins"][1]["saddle"] == [2.0, 1.0]
    assert "2 basins" in str(found)
    assert "2 basins; the one at (3, 1) is 3 deep." in alt(surface(found_rows()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantity": "acc"}, "quantity must be 'loss', got 'acc'"),
        ({"threshold": -1}, "threshold must be >= 0, got -1"),
        ({"errors": math.nan}, "errors must be >= 0, got nan"),
        ({"neighbours": 8}, "neighbours must be 'corners' or 'faces', got 8"),
    ],
)
def test_wrong_settings_get_one_sentence(settings, message):
    with pytest.raises(SettingError, match=message):
        steppe.basins(surface([1.0, 2.0]), **settings)
    with pytest.raises(SettingError, match=r"basins\(\) needs a Surface, got"):
        steppe.basins([1.0, 2.0])
