"""Figures draw in both themes, whatever the data, and without global state."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest
import torch

import steppe
from steppe import plots
from steppe.errors import UsageError
from steppe.surfaces import Surface

THEMES = ["light", "dark"]


def surface(*loss):
    x = tuple(float(i) for i in range(len(loss)))
    loss = torch.tensor(loss, dtype=torch.float64)
    return Surface(
        coordinates=(x,), loss=loss, stderr=torch.zeros_like(loss), samples=10
    )


def draw_lines(theme, *loss):
    made = [surface(*loss), surface(*loss)]
    return plots.lines({"sgd": made, "sam": [surface(*loss)], "lost": []}, theme=theme)


def spectrum(*values, k=2):
    """The whole spectrum of a diagonal matrix."""
    matrix = torch.diag(torch.tensor(values, dtype=torch.float64))
    return steppe.spectrum(matrix, steps=len(values), k=k)


@pytest.mark.parametrize(
    "theme", ["light", pytest.param("dark", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "draw",
    [
        lambda theme: draw_lines(theme, 3.0, 1.0, 2.0),
        lambda theme: plots.curves(
            {"sgd": [[1.0, 0.5], [1.0, 0.7, 0.1]], "sam": []},
            ylabel="loss",
            theme=theme,
        ),
        lambda theme: plots.curves({"sgd": [[1.0]]}, ylabel="loss", theme=theme),
        lambda theme: plots.dots(
            {"sgd": [1.0, 2.0, math.nan], "sam:rho=0.1,many=words": [3.0], "none": []},
            xlabel="trace",
            stderrs={"sgd": [0.1, 0.0, math.nan]},
            intervals={"sgd": (1.5, -4.0, 7.0), "sam:rho=0.1,many=words": (3.0,) * 3},
            theme=theme,
        ),
        lambda theme: plots.dots({"sgd": []}, xlabel="trace", theme=theme),
        lambda theme: plots.density(spectrum(-1.0, 0.0, 0.1, 9.0), theme=theme),
        lambda theme: plots.density(spectrum(2.0, 2.0, k=0), floor=1e-7, theme=theme),
        lambda theme: plots.bars(
            {"conv": 3.0, "a.very.long.name.of.a.layer": -1.0, "lost": math.nan},
            xlabel="trace",
            stderrs={"conv": 0.5, "lost": math.inf},
            theme=theme,
        ),
        lambda theme: plots.bars({}, xlabel="trace", theme=theme),
        lambda theme: plots.eigenvalues(
            [0, 1], [[3.0, 2.0, 1.0], [90.0, 2.0, 1.0]], theme=theme
        ),
        lambda theme: plots.eigenvalues([1], [[3.0]], theme=theme),
        lambda theme: plots.eigenvalues([], [], theme=theme),
        lambda theme: plots.dots(
            {"sgd": [0.0]},
            xlabel="trace",
            intervals={"sgd": (0.0, -math.inf, math.inf)},
            theme=theme,
        ),
    ],
)
def test_a_figure_becomes_a_whole_svg_the_same_each_time(draw, theme):
    first, second = (plots.save_svg(draw(theme)) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")
    assert "http://www.w3.org/2000/svg" in first


@pytest.mark.parametrize(
    ("low", "scale"), [(0.1, "linear"), (0.01, "log"), (0.0, "linear")]
)
def test_the_loss_axis_is_logarithmic_beyond_a_factor_of_thirty(low, scale):
    (axes,) = draw_lines("light", 1.0, low, 0.5).axes
    assert axes.get_yscale() == scale


def test_values_over_decades_make_a_logarithmic_axis_of_dots():
    made = plots.dots(
        {"a": [0.01, 10.0]}, xlabel="x", intervals={"a": (5.0, -60.0, 70.0)}
    )
    (axes,) = made.axes
    assert axes.get_xscale() == "log"
    assert 0 < axes.get_xlim()[0] < 0.01


def test_the_themes_differ_and_names_look_different_without_colour():
    assert plots.save_svg(draw_lines("light", 1.0)) != plots.save_svg(
        draw_lines("dark", 1.0)
    )
    from steppe.plots.canvas import looks

    found = looks(map(str, range(8)), "light").values()
    assert len({str(look.dash) for look in found}) == 8
    assert len({look.marker for look in found}) == 8
    assert len({look.colour for look in found}) == 8


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize(("theme", "page"), [("light", "#f5f7f9"), ("dark", "#1a2027")])
def test_every_colour_stands_out_from_the_page(theme, page):
    from steppe.plots.canvas import looks

    for look in looks(map(str, range(8)), theme).values():
        a, b = sorted([luminance(look.colour), luminance(page)])
        assert (b + 0.05) / (a + 0.05) >= 3


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"pip install '\.\[viz\]' in a clone"):
        draw_lines("light", 1.0)


@pytest.mark.slow
def test_matplotlib_is_imported_by_the_first_plot_and_pyplot_never():
    code = (
        "import sys, steppe.plots as p;"
        "assert 'matplotlib' not in sys.modules;"
        "p.save_svg(p.curves({'a': [[1.0, 2.0]]}, ylabel='loss'));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def lines_of(figure):
    (axes,) = figure.axes
    return axes.lines


def test_the_curve_of_the_density_is_the_smoothed_spectrum_and_a_floor():
    curve, *_ = lines_of(plots.density(spectrum(0.0, 4.0), sigma=0.5, floor=1e-3))
    for x, y in curve.get_xydata()[::500].tolist():
        bells = sum(math.exp(-((x - value) ** 2) / 0.5) for value in (0.0, 4.0))
        expected = bells / (2 * 0.5 * math.sqrt(2 * math.pi))
        assert y == pytest.approx(expected + 1e-3, rel=0.004, abs=1e-6)


def test_eigenvalues_at_both_ends_are_marked_on_the_curve():
    curve, top, bottom = lines_of(plots.density(spectrum(-1.0, 0.0, 2.0, 9.0)))
    assert top.get_xdata() == pytest.approx([9.0, 2.0])
    assert bottom.get_xdata() == pytest.approx([0.0, -1.0])
    on_curve = dict(zip(curve.get_xdata().tolist(), curve.get_ydata().tolist()))
    assert set(top.get_ydata()) <= set(on_curve.values())


def test_one_eigenvalue_of_many_stands_above_the_floor():
    values = torch.full((2000,), 0.1, dtype=torch.float64)
    values[0] = 100.0
    found = steppe.spectrum(torch.diag(values), steps=4, k=1, probes=20)
    (axes,) = plots.density(found, sigma=1.0).axes
    (height,) = axes.lines[1].get_ydata()
    assert height > 3 * min(axes.lines[0].get_ydata())


@pytest.mark.parametrize(
    ("sigma", "highest"),
    [
        (1e-6, lambda step: 1 / step),  # all of it in one cell of the grid
        (0.02, lambda step: 1 / (0.02 * math.sqrt(2 * math.pi))),
    ],
)
def test_the_floor_is_a_tenth_of_one_eigenvalue_however_narrow_it_is(sigma, highest):
    found = spectrum(*torch.linspace(0, 9, 10).tolist())
    curve, *_ = lines_of(plots.density(found, sigma=sigma))
    step = curve.get_xdata()[1] - curve.get_xdata()[0]
    assert min(curve.get_ydata()) == pytest.approx(highest(step) / 10 / 10, rel=1e-3)


def test_bars_are_as_long_as_their_values_and_stand_in_order():
    (axes,) = plots.bars({"a": 3.0, "b": -1.0}, xlabel="trace").axes
    assert [bar.get_width() for bar in axes.patches] == [3.0, -1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    low, high = axes.get_ylim()
    assert low > high  # the first at the top


def test_every_eigenvalue_has_its_line_along_training():
    made = plots.eigenvalues([0, 2], [[3.0, 1.0], [4.0, 0.5]])
    found = [line.get_xydata().tolist() for line in lines_of(made)]
    assert found == [[[0, 3], [2, 4]], [[0, 1], [2, 0.5]]]


@pytest.mark.parametrize("theme", THEMES)
def test_a_png_is_the_same_each_time_and_stands_on_its_own_page(theme):
    figure = plots.bars({"a": 3.0}, xlabel="trace", theme=theme)
    first, second = (plots.save_png(figure, theme) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


def names_that_are_cut(figure):
    """Names of axes that reach beyond the figure."""
    figure.draw_without_rendering()
    labels = [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    boxes = {
        t: label.get_window_extent() for label in labels if (t := label.get_text())
    }
    whole = figure.bbox
    assert boxes
    return [
        text
        for text, box in boxes.items()
        if not whole.x0 <= box.x0 <= box.x1 <= whole.x1
        or not whole.y0 <= box.y0 <= box.y1 <= whole.y1
    ]


def test_long_names_of_axes_stay_in_the_figure():
    name = "mean loss under Gaussian noise on the weights minus the loss, loss per step"
    runs = {"lpf_sgd:gamma=0.01,micro_batches=4": [1.0, 2.0], "sgd": [1.5, 2.5]}
    assert names_that_are_cut(plots.dots(runs, xlabel=name)) == []
    assert names_that_are_cut(plots.curves({"a": [[1.0, 2.0]]}, ylabel=name)) == []


def labels_that_touch(figure):
    """Pairs of tick labels of one figure whose boxes overlap, and names cut off."""
    figure.draw_without_rendering()
    boxes = []
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for label, place in zip(axis.get_ticklabels(), axis.get_majorticklocs()):
            if label.get_text() and low <= place <= high:
                boxes.append((label.get_text(), label.get_window_extent()))
    assert len(boxes) >= 2
    return [(a, b) for (a, x), (b, y) in combinations(boxes, 2) if x.overlaps(y)]


# Values whose labels matplotlib draws over each other in a figure of this width.
LONG_LABELS = [[-1.234567e-4, 4e-5, 1.2e-4], [0.0, 1e-4], [1.0, 1e6], [6.2e-5, 1.1e-4]]


@pytest.mark.parametrize("values", LONG_LABELS)
def test_labels_of_ticks_never_touch(values):
    names = [f"sam:rho={i},adaptive=true,ascent_steps={i}" for i in range(3)]
    dots = plots.dots(dict.fromkeys(names, values), xlabel="x")
    assert labels_that_touch(dots) == []


def test_labels_of_ticks_on_lines_and_bars_never_touch():
    assert labels_that_touch(draw_lines("light", 98765.0, 98765.001, 98765.0005)) == []
    bars = plots.bars({"a": 1.234567e-4, "b": -9.1e-5}, xlabel="trace")
    assert labels_that_touch(bars) == []
    made = plots.eigenvalues([0, 30000, 60000], [[1e-7], [3e-7], [2e-7]])
    assert labels_that_touch(made) == []


def test_dots_and_intervals_stay_within_what_is_possible():
    named = {"a": [99.0, 100.0], "b": [0.0, 1.0]}
    spans = {"a": (99.5, 80.0, 119.0), "b": (0.5, -30.0, 31.0)}
    figure = plots.dots(named, xlabel="%", intervals=spans, bounds=(0.0, 100.0))
    (axes,) = figure.axes
    assert axes.get_xlim() == (0.0, 100.0)
    drawn = [x for line in axes.lines for x in line.get_xdata()]
    assert (min(drawn), max(drawn)) == (0.0, 100.0)


def test_a_figure_in_the_colours_of_the_dark_is_the_dark_figure():
    light, dark = (plots.save_svg(draw_lines(theme, 3.0, 1.0, 2.0)) for theme in THEMES)
    colours = re.compile("#[0-9a-f]{6}\\b")
    assert colours.findall(plots.darkened(light)) == colours.findall(dark)


def test_an_interval_that_leaves_the_picture_has_an_arrow():
    spans = {"a": (1.5, -90.0, 93.0), "b": (1.5, 1.0, 2.0)}
    figure = plots.dots({"a": [1.0, 2.0], "b": [1.0, 2.0]}, xlabel="x", intervals=spans)
    arrows = [line.get_marker() for line in lines_of(figure)]
    assert [arrow for arrow in arrows if arrow in "<>"] == ["<", ">"]


LONG = "smallest trace of the Hessian among rescalings of the layers, " * 3


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("letters", [60, 105, 160])
def test_a_long_name_of_an_axis_leaves_room_for_empty_axes_too(letters, count):
    runs = {f"run {i}": [] for i in range(count)}
    figure = plots.dots(runs, xlabel=LONG[:letters])
    (axes,) = figure.axes
    name, page = axes.xaxis.label.get_window_extent(), figure.bbox
    assert page.x0 <= name.x0 < name.x1 <= page.x1
    assert axes.get_window_extent().width > page.width / 2
    assert axes.get_window_extent().height > page.height / 4
