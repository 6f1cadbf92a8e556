"""Figures draw in both themes, whatever the data, and without global state."""

import math
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import torch

from steppe import plots
from steppe.errors import UsageError
from steppe.results import Surface

THEMES = ["light", "dark"]


def surface(*loss):
    x = tuple(float(i) for i in range(len(loss)))
    loss = torch.tensor(loss, dtype=torch.float64)
    return Surface(x=x, loss=loss, stderr=torch.zeros_like(loss), samples=10)


def draw_lines(theme, *loss):
    made = [surface(*loss), surface(*loss)]
    return plots.lines({"sgd": made, "sam": [surface(*loss)], "lost": []}, theme=theme)


@pytest.mark.parametrize("theme", THEMES)
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
    with pytest.raises(UsageError, match=r"pip install 'steppe\[viz\]'"):
        draw_lines("light", 1.0)


def test_importing_the_plots_does_not_import_matplotlib():
    code = "import sys, steppe.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_pyplot_is_never_needed():
    code = (
        "import sys, steppe.plots as p;"
        "p.save_svg(p.curves({'a': [[1.0, 2.0]]}, ylabel='loss'));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
