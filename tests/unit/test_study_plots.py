"""Figures of studies: dots of groups, intervals by name, levels of a setting."""

import math

import pytest

from steppe import plots


def labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_dots_that_are_not_finite_are_left_out_and_wide_ranges_are_logarithmic():
    groups = {
        "sam": ([1.0, math.nan, 100.0], [0.0, 1.0, 2.0]),
        "sgd": ([3.0, 4.0], [1.0, math.inf]),
    }
    figure = plots.scatter(groups, xlabel="trace", ylabel="gap")
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [[1, 0], [100, 2]],
        [[3, 1]],
    ]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["sam", "sgd"]


def test_many_dots_are_pixels_so_that_the_file_stays_small():
    many = [float(i) for i in range(6000)]
    few = plots.save_svg(
        plots.scatter({"": (many[:9], many[:9])}, xlabel="x", ylabel="y")
    )
    text = plots.save_svg(plots.scatter({"": (many, many)}, xlabel="x", ylabel="y"))
    assert "<image" in text
    assert "<image" not in few
    assert len(text) < 400_000


def test_each_name_has_a_value_and_its_interval_in_the_colour_of_its_kind():
    values = {
        "measures": {"trace": (0.5, 0.4, 0.6), "a" * 40: (0.1, -math.inf, math.inf)},
        "baselines": {"lr": (0.6, 0.5, 0.7)},
    }
    figure = plots.intervals(values, xlabel="tau")
    (axes,) = figure.axes
    assert labels(axes.yaxis) == ["trace", "a" * 23 + "…", "lr"]
    bars = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2]
    assert [list(bar) for bar in bars] == [[0, 0], [0.4, 0.6], [0.5, 0.7]]
    assert axes.lines[1].get_color() != axes.lines[-1].get_color()


def test_levels_have_runs_means_and_intervals():
    runs = {0.2: [1.0, 3.0], 0.0: [0.0, math.nan], 0.4: []}
    intervals = {0.0: (0.0, -math.inf, math.inf), 0.2: (2.0, -1.0, 5.0)}
    intervals[0.4] = (math.nan, math.nan, math.nan)
    figure = plots.levels(runs, intervals=intervals, xlabel="noise", ylabel="gap")
    dots, mean, bar = (line.get_xydata().tolist() for line in figure.axes[0].lines)
    assert dots == [[0, 0], [0.2, 1], [0.2, 3]]
    assert mean == [[0, 0], [0.2, 2]]
    assert bar == [[0.2, -1], [0.2, 5]]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_empty_figure_is_drawn(theme):
    for figure in (
        plots.scatter({"": ([], [])}, xlabel="x", ylabel="y", theme=theme),
        plots.intervals({}, xlabel="x", theme=theme),
        plots.levels({}, intervals={}, xlabel="x", ylabel="y", theme=theme),
    ):
        assert plots.save_svg(figure).startswith("<svg")
