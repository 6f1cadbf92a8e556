"""Figures of lines: medians and bands, two axes, refusals."""

import math

import numpy as np
import pytest
import torch

from steppe import plots
from steppe.errors import SettingError
from steppe.surfaces import Band, Surface, Values


def line(*loss, x=None, stderr=0.0, **fields):
    values = torch.tensor(loss, dtype=torch.float64)
    x = tuple(float(i) for i in range(len(loss))) if x is None else x
    return Surface(
        coordinates=(x,),
        loss=values,
        stderr=torch.full_like(values, stderr),
        samples=10,
        **fields,
    )


def test_a_band_is_drawn_between_its_quantiles_around_the_median():
    several = [line(1.0, 0.0, float(i)) for i in (1, 2, 3, 4, 10)]
    figure = plots.bands(Band(surfaces=tuple(several), levels=(0.25, 0.75)))
    (axes,) = figure.axes
    (median,) = axes.lines
    assert median.get_ydata().tolist() == [1, 0, 3]
    (between,) = (c.get_paths()[0].vertices for c in axes.collections)
    assert sorted(set(between[between[:, 0] == 2, 1])) == [2, 3, 4] or sorted(
        set(between[between[:, 0] == 2, 1])
    ) == [2, 4]
    (name,) = (text.get_text() for text in figure.legends[0].get_texts())
    assert name == "median of 5, 25 to 75 %"


def test_a_band_has_a_gap_where_its_ends_are_not_finite():
    lost = line(1.0, math.nan, math.inf)
    named = {
        "a": Band(surfaces=(lost, line(1.0, 2.0, 3.0))),
        "b": Band(surfaces=(lost,)),
    }
    first, second = (each.get_ydata() for each in plots.bands(named).axes[0].lines)
    assert first[0] == 1
    assert np.isnan(first[1:]).all()
    assert np.isnan(second[1:]).all()


def test_points_are_drawn_in_the_order_of_the_line():
    mixed = line(3.0, 1.0, 2.0, x=(2.0, 0.0, 1.0))
    for figure in (plots.lines({"a": [mixed]}), plots.bands(Band(surfaces=(mixed,)))):
        drawn = figure.axes[0].lines[-1].get_xydata().tolist()
        assert drawn == [[0, 1], [1, 2], [2, 3]]


ACCURACY = {"accuracy": Values(values=torch.tensor([90.0, 95.0, 10.0]), units="%")}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_loss_and_accuracy_have_an_axis_each(theme):
    surface = line(0.5, 0.1, 2.0, stderr=0.05, quantities=ACCURACY, axes=("steps",))
    figure = plots.profile(surface, quantity="accuracy", theme=theme)
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [0.5, 0.1, 2.0]
    assert right.lines[0].get_ydata().tolist() == [90, 95, 10]
    assert left.get_xlabel() == "x (steps)"
    assert [left.get_ylabel(), right.get_ylabel()] == ["loss", "accuracy (%)"]
    (band,) = left.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.05, 2.05))
    assert not right.collections
    assert "standard error at most 0.05" in figure.get_supxlabel()


def test_several_profiles_share_both_axes():
    surface = line(0.01, 0.1, 2.0, quantities=ACCURACY)
    figure = plots.profile({"SGD": surface, "SAM": surface}, quantity="accuracy")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert figure.axes[0].get_yscale() == "log"
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["SGD, loss", "SAM, loss", "SGD, accuracy (%)", "SAM, accuracy (%)"]


@pytest.mark.parametrize("loss", [(0.0,), (0.0, 0.0), (math.nan, math.inf), (5.0,)])
@pytest.mark.parametrize("log", [True, None])
def test_any_line_becomes_a_picture(loss, log):
    assert plots.profile(line(*loss), log=log).axes
    assert plots.bands({"a": Band(surfaces=(line(*loss),) * 2)}).axes


def test_a_plane_is_no_line():
    plane = Surface(
        coordinates=((0.0, 1.0),) * 2,
        loss=torch.ones(2, 2),
        stderr=torch.zeros(2, 2),
        samples=1,
    )
    with pytest.raises(SettingError, match=r"one axis, got one of 2; plots\.contour"):
        plots.lines({"a": [plane]})
    with pytest.raises(SettingError, match="one axis"):
        plots.bands(Band(surfaces=(plane,)))
    with pytest.raises(SettingError, match="one axis"):
        plots.profile(plane)
    with pytest.raises(SettingError, match=r"bands\(\) draws a Band or Bands"):
        plots.bands({"a": [plane]})


def test_few_points_of_a_line_are_shown_one_by_one():
    for count, marker in ((7, "o"), (41, "")):
        x = tuple(i / 10 for i in range(count))
        values = torch.ones(count)
        surface = Surface(coordinates=(x,), loss=values, stderr=0 * values, samples=1)
        (axes,) = plots.profile(surface).axes
        assert axes.lines[0].get_marker() == marker


def test_names_with_dollar_signs_are_no_formulas():
    name = r"a $\foo$"  # none that matplotlib knows
    beside = {name: Values(values=torch.ones(2, dtype=torch.float64))}
    named = {name: line(1.0, 2.0, quantities=beside, axes=(name,)), "b": line(1.0, 3.0)}
    both = {name: named[name], "b": named[name]}
    band = Band(surfaces=(named[name],))
    for figure in (
        plots.profile(both, quantity=name),
        plots.lines({key: [each] for key, each in named.items()}, xlabel=name),
        plots.bands({name: band, "b": band}),
    ):
        assert plots.save_png(figure, dpi=20)
