"""Figures of groups: bars side by side, boxes, series, tables, several spectra."""

import math
from itertools import pairwise

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.text import Text

import steppe
from steppe import plots
from steppe.plots.canvas import canvas, without_collisions
from steppe.plots.names import cut
from steppe.surfaces import Band, Surface


def texts(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def usual_log_axes():
    """Logarithmic axes as matplotlib makes them."""
    figure, axes = canvas("light")
    axes.loglog(WIDE, WIDE)
    return without_collisions(figure)


def spectrum(*values, k=1):
    matrix = torch.diag(torch.tensor(values, dtype=torch.float64))
    return steppe.spectrum(matrix, steps=len(values), k=k)


def test_bars_of_a_name_stand_side_by_side_in_the_order_of_the_kinds():
    values = {"plain": {"a": 1.0, "b": 2.0}, "SAM": {"b": 3.0, "c": math.nan}}
    (axes,) = plots.grouped_bars(values, xlabel="error").axes
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    assert [bar.get_width() for bar in bars] == [1.0, 2.0, 3.0]
    tops = [bar.get_y() for bar in bars]
    assert all(b - a >= bar.get_height() for (a, b), bar in zip(pairwise(tops), bars))
    assert texts(axes.yaxis) == ["a", "b", "c"]
    low, high = axes.get_ylim()
    assert low > high  # the first at the top


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, 31.0], "log"), ([1.0, 29.0], "linear"), ([0.0, 31.0], "linear")],
)
def test_wide_ranges_of_bars_and_boxes_are_logarithmic(values, scale):
    kinds = {"kind": dict(zip("ab", values))}
    for figure in (
        plots.grouped_bars(kinds, xlabel="x"),
        plots.boxes({"a": values}, xlabel="x"),
    ):
        (axes,) = figure.axes
        assert axes.get_xscale() == scale


def test_a_box_goes_from_quartile_to_quartile_and_whiskers_leave_outliers_out():
    values = [5.0, 1.0, 2.0, 3.0, 4.0, 12.0, math.inf]  # quartiles 2.25, 3.5, 4.75
    (axes,) = plots.boxes({"a": values, "none": []}, xlabel="gap").axes
    (box,) = axes.patches
    assert (box.get_x(), box.get_width()) == pytest.approx((2.25, 2.5))
    low, high, middle, dots = (line.get_xdata() for line in axes.lines)
    assert sorted(low) == [1.0, 2.25]
    assert sorted(high) == [4.75, 5.0]  # 12 is more than 3.75 from the box
    assert list(middle) == [3.5, 3.5]
    assert list(dots) == [1.0, 2.0, 3.0, 4.0, 5.0, 12.0]
    assert texts(axes.yaxis) == ["a", "none"]


def test_whiskers_of_one_value_have_no_length():
    (axes,) = plots.boxes({"a": [2.0]}, xlabel="gap").axes
    assert all(set(line.get_xdata()) == {2.0} for line in axes.lines)


def test_a_series_has_its_places_and_a_gap_where_there_is_no_value():
    values = {"a": [1.0, math.inf, 2.0], "b": [3.0, 4.0, 5.0]}
    figure = plots.series(values, [0.5, 1, 4], xlabel="x", ylabel="y", zero=0.0)
    (axes,) = figure.axes
    zero, a, b = (line.get_xydata().tolist() for line in axes.lines)
    assert [y for _, y in zero] == [0.0, 0.0]
    assert (a[0], a[2], math.isnan(a[1][1])) == ([0.5, 1.0], [4.0, 2.0], True)
    assert b == [[0.5, 3.0], [1.0, 4.0], [4.0, 5.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_intervals_of_a_series_are_bars_where_both_ends_are_finite():
    values = {"a": [9.0, 0.1], "b": [5.0, 4.0]}
    bars = {"a": [(8.0, 10.0), (0.0, 2.0)], "b": [(-math.inf, math.inf), (3.0, 5.0)]}
    figure = plots.series(
        values, [0, 8], xlabel="x", ylabel="y", intervals=bars, log=False
    )
    (axes,) = figure.axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn == [
        [[0, 9], [8, 0.1]],
        *([[0, 8], [0, 10]], [[8, 0], [8, 2]]),
        [[0, 5], [8, 4]],
        [[8, 3], [8, 5]],
    ]
    assert axes.lines[1].get_color() == axes.lines[0].get_color()
    assert len(figure.legends[0].get_texts()) == 2


@pytest.mark.parametrize(
    ("log", "scale"), [(None, "log"), (True, "log"), (False, "linear")]
)
def test_the_axis_of_a_wide_series_is_as_asked_for(log, scale):
    figure = plots.series({"a": [1, 31]}, [0, 1], xlabel="x", ylabel="y", log=log)
    assert figure.axes[0].get_yscale() == scale


def test_a_table_has_a_cell_and_a_number_for_each_value_that_there_is():
    values = {0.1: {16: 1.0, 64: 100.0}, 0.2: {16: 10.0, 64: math.nan}}
    (axes,) = plots.tiles(values, xlabel="batch", ylabel="lr", label="top").axes
    cells = {
        (round(c.get_x() + c.get_width() / 2), round(c.get_y())): c
        for c in axes.patches
    }
    colours = {place: to_hex(cell.get_facecolor()) for place, cell in cells.items()}
    # Over decades: the ends of viridis, and its middle.
    assert colours == {(0, 0): "#440154", (1, 0): "#fde725", (0, 1): "#21918c"}
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): "1", (1, 0): "100", (0, 1): "10"}
    assert (texts(axes.xaxis), texts(axes.yaxis)) == (["16", "64"], ["0.1", "0.2"])


@pytest.mark.parametrize("values", [{}, {"a": {}}, {"a": {"b": math.nan}}])
def test_a_table_without_values_is_drawn(values):
    assert plots.tiles(values, xlabel="x", ylabel="y", label="none").axes


def test_several_spectra_share_a_floor_and_have_a_colour_each():
    several = {"SGD": spectrum(0.0, 4.0), "SAM": spectrum(0.0, 1.0)}
    figure = plots.density(several, sigma=0.5, floor=1e-3)
    (axes,) = figure.axes
    curves, marks = axes.lines[::3], [*axes.lines[1::3], *axes.lines[2::3]]
    for curve, top in zip(curves, (4.0, 1.0)):
        for x, y in curve.get_xydata()[::500].tolist():
            bells = sum(math.exp(-((x - v) ** 2) / 0.5) for v in (0.0, top))
            expected = bells / (2 * 0.5 * math.sqrt(2 * math.pi))
            assert y == pytest.approx(expected + 1e-3, rel=0.004, abs=1e-6)
    ends = [float(mark.get_xdata()[0]) for mark in marks]
    assert ends == pytest.approx([4.0, 1.0, 0.0, 0.0], abs=1e-12)
    colours = [line.get_color() for line in axes.lines]
    assert colours[0] == colours[1] == colours[2] != colours[3] == colours[5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*several]


def test_the_floor_of_several_spectra_is_the_highest_of_theirs():
    several = {"a": spectrum(0.0, 4.0), "b": spectrum(0.0, 100.0)}
    alone = [plots.density(each).axes[0].get_ylim()[0] for each in several.values()]
    (axes,) = plots.density(several).axes
    assert axes.get_ylim()[0] == pytest.approx(max(alone))
    assert min(alone) < max(alone)


def test_a_score_beside_eigenvalues_has_the_right_axis_and_gaps():
    figure = plots.eigenvalues(
        [0, 1, 2], [[3.0], [4.0], [2.0]], beside=("accuracy, %", [math.nan, 50.0, 90.0])
    )
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [3.0, 4.0, 2.0]
    (line,) = right.lines
    assert (line.get_linestyle(), right.get_ylabel()) == ("--", "accuracy, %")
    assert line.get_ydata()[1:].tolist() == [50.0, 90.0]
    assert math.isnan(line.get_ydata()[0])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["largest", "accuracy, %"]


WIDE = [0.002, 3000.0]
LINE = Surface(
    coordinates=((0.0, 1.0),),
    loss=torch.tensor(WIDE, dtype=torch.float64),
    stderr=torch.zeros(2, dtype=torch.float64),
    samples=9,
)
PLANE = Surface(
    coordinates=((0.0, 1.0, 2.0),) * 2,
    loss=torch.logspace(-3, 4, 9, dtype=torch.float64).reshape(3, 3),
    stderr=torch.zeros(3, 3, dtype=torch.float64),
    samples=9,
)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.series({"a": WIDE}, [0, 1], xlabel="x", ylabel="y"),
        lambda: plots.curves({"a": [WIDE]}, ylabel="y"),
        lambda: plots.lines({"a": [LINE]}),
        lambda: plots.profile(LINE),
        lambda: plots.bands(Band(surfaces=(LINE, LINE))),
        lambda: plots.eigenvalues([0, 1], [[w] for w in WIDE], beside=("s", WIDE)),
        lambda: plots.scatter({"a": (WIDE, WIDE)}, xlabel="x", ylabel="y"),
        lambda: plots.levels(
            {x: [x] for x in WIDE},
            intervals=dict.fromkeys(WIDE, (1.0, 0.5, 2.0)),
            xlabel="x",
            ylabel="y",
        ),
        lambda: plots.dots({"a": WIDE}, xlabel="x"),
        lambda: plots.boxes({"a": WIDE}, xlabel="x"),
        lambda: plots.grouped_bars({"a": dict(zip("bc", WIDE))}, xlabel="x"),
        lambda: plots.tiles({1: dict(zip("bc", WIDE))}, xlabel="", ylabel="", label=""),
        lambda: plots.density({"a": spectrum(0.0, 4.0), "b": spectrum(0.0, 100.0)}),
        lambda: plots.contour(PLANE),
        lambda: plots.contourf(PLANE),
        lambda: plots.heat(PLANE),
        lambda: plots.surface3d(PLANE),
        usual_log_axes,
    ],
)
def test_numbers_of_logarithmic_axes_are_no_formulas(draw):
    figure = draw()
    figure.draw_without_rendering()
    every = [text.get_text() for text in figure.findobj(Text)]
    assert any(text.strip() for text in every)
    assert not [text for text in every if "$" in text]


def test_densities_have_plain_numbers_at_their_axis():
    figure = plots.density({"a": spectrum(0.0, 4.0), "b": spectrum(0.0, 100.0)})
    figure.draw_without_rendering()
    named = texts(figure.axes[0].yaxis)
    assert named
    assert all(float(text) > 0 for text in named)


LONG = "lpf_sgd:gamma=0.002,sigma=0.0005,every=100,perturb=weights,norm=filter,seed="
PAIRS = {f"{LONG}{i}": [1.0, 2.0 + i] for i in range(2)}
TABLE = {a: dict(zip(PAIRS, each, strict=True)) for a, each in PAIRS.items()}


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.boxes(PAIRS, xlabel="loss"),
        lambda: plots.grouped_bars(TABLE, xlabel="loss"),
        lambda: plots.series(PAIRS, [1, 2], xlabel="epoch", ylabel="loss"),
        lambda: plots.tiles(TABLE, xlabel="width", ylabel="depth", label="trace"),
    ],
    ids=["boxes", "grouped_bars", "series", "tiles"],
)
def test_names_of_any_length_stay_in_the_figure_and_differ(draw):
    figure = draw()
    figure.draw_without_rendering()
    inside = [
        text
        for text in figure.findobj(Text)
        if "…" in text.get_text() and text.get_visible()
    ]
    assert len({text.get_text() for text in inside}) >= 2
    for text in inside:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("at", ["start", "middle", "end"])
def test_names_that_differ_in_one_place_stay_apart(at):
    grid = [
        f"study-of-widths/rho={rho},steps_in_all=100,lr={lr}/seeds-{seed}-of-a-long-run"
        for rho in ("0.05", "0.1")
        for lr in ("0.01", "0.1", "0.1")
        for seed in range(2)
    ]
    measures = ["local_entropy", "local_entropy_gradient", "lpf"]
    published = [f"{name}:variant=published" for name in measures]
    for names in (grid, published, published[:2]):
        for letters in (4, 12, 24):
            short = cut(names, letters, at)
            assert len(set(short)) == len(set(names))
            assert all(
                len(label) <= letters or label == name
                for label, name in zip(short, names, strict=True)
            )
    assert max(map(len, cut(published, 12, at))) <= 12


def test_numbers_and_names_of_many_columns_do_not_touch():
    columns = {f"setting {j}": 1.23e-5 * (j + 1) for j in range(12)}
    figure = plots.tiles({"a": columns}, xlabel="", ylabel="", label="")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    for row in (axes.texts, axes.get_xticklabels()):
        boxes = [text.get_window_extent() for text in row]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_series_of_another_length_is_one_sentence():
    with pytest.raises(steppe.errors.SettingError, match="each of 2 places, got 3"):
        plots.series({"a": [1, 2, 3]}, [1, 2], xlabel="", ylabel="")
