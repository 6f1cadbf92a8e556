"""Figures of planes: what is drawn, on which scale, and in which words.

Shape letters: X points along the first axis, Y along the second.
"""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from steppe import plots
from steppe.errors import SettingError
from steppe.plots.planes.scale import linear_levels, log_levels, scale_of
from steppe.plots.planes.values import quantities_of, shown, words_of
from steppe.surfaces import Arrow, Surface, Trajectory, Values

FIGURES = {
    "contour": plots.contour,
    "contourf": plots.contourf,
    "heat": plots.heat,
    "surface3d": plots.surface3d,
}
EACH = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)


def plane(loss, nx=9, ny=7, x=(-1.0, 1.0), y=(-1.0, 1.0), **fields):
    """A function of x and y on a grid of X by Y points."""
    xs, ys = np.linspace(*x, nx), np.linspace(*y, ny)
    values = torch.from_numpy(loss(*np.meshgrid(xs, ys)) + np.zeros((ny, nx)))
    known = {
        "stderr": torch.zeros_like(values),
        "samples": 10,
        "details": {"batch_norm": "freeze", "cosine": 0.03},
        **fields,
    }
    return Surface(coordinates=(tuple(xs), tuple(ys)), loss=values, **known)


def bowl(x, y):
    return 0.02 + x**2 + 4 * y**2


def holed(x, y):
    return np.where(x + y > 1, np.nan, np.where(x + y < -1.5, np.inf, bowl(x, y)))


def path(*points, loss=None, away=0.0):
    count = len(points)
    return Trajectory(
        coordinates=torch.tensor(points, dtype=torch.float64),
        residual=torch.ones(count),
        relative_residual=torch.linspace(away, 0.0, count),
        loss=None if loss is None else torch.tensor(loss),
        labels=tuple(f"epoch {i}" for i in range(count)),
        name="run",
    )


def panels(figure):
    """Axes of surfaces, without those of colour bars."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def bar(figure):
    (axes,) = (axes for axes in figure.axes if axes.get_label() == "<colorbar>")
    return axes


def numbers(text):
    return text.replace("\N{MINUS SIGN}", "-")


STRANGE = {
    "bowl": plane(bowl),
    "steep": plane(lambda x, y: np.exp(7 * x)),
    "constant": plane(lambda x, y: 0.7),
    "zero": plane(lambda x, y: 0.0),
    "zero in the middle": plane(lambda x, y: x**2 + y**2),
    "negative": plane(lambda x, y: x - 3),
    "holes": plane(holed),
    "nothing finite": plane(lambda x, y: np.nan),
    "one value": plane(lambda x, y: np.where((x == 0) & (y == 0), 1.0, np.nan)),
    "two by two": plane(bowl, nx=2, ny=2),
    "slender": plane(bowl, nx=3, ny=31, x=(-0.01, 0.01)),
    "huge": plane(lambda x, y: 1e30 * bowl(x, y)),
    "tiny": plane(lambda x, y: 1e-30 * bowl(x, y)),
    "off the base": plane(bowl, x=(0.5, 2.0)),
    "overlays": plane(bowl)
    .with_path(path((0.9, 0.8), (3.0, 0.5), (0.0, 0.0), loss=[3.0, math.nan, 1e-9]))
    .with_arrow(Arrow(start=(0.5, 0.5), vector=(-1e-4, 0.0), outside=0.9))
    .with_arrow(Arrow(start=(0.5, 0.5), vector=(0.0, 0.0), outside=math.nan)),
}


# Every plane is drawn as lines; the quick tests draw the strangest in all other ways.
STRANGEST = {"constant", "holes", "nothing finite", "two by two", "overlays"}


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        pytest.param(
            name,
            draw,
            id=f"{name}-{kind}",
            marks=() if kind == "contour" or name in STRANGEST else (pytest.mark.slow,),
        )
        for name in STRANGE
        for kind, draw in FIGURES.items()
    ],
)
def test_any_plane_becomes_a_picture_on_attached_axes(name, draw):
    (axes,) = panels(draw(STRANGE[name]))
    assert axes in axes.figure.axes
    assert axes.collections or axes.lines or axes.texts


@EACH
@pytest.mark.parametrize("name", ["zero", "zero in the middle", "negative", "holes"])
@pytest.mark.slow
def test_a_logarithmic_scale_may_be_asked_for_of_any_plane(draw, name):
    assert panels(draw(STRANGE[name], log=True))


@EACH
def test_the_picture_is_not_blank(draw):
    import io

    from matplotlib.image import imread

    # Axes of a peer were not attached to its figure: the file was a white page.
    content = plots.save_png(draw(plane(bowl, nx=21, ny=21)), dpi=50)
    assert content.startswith(b"\x89PNG")
    pixels = imread(io.BytesIO(content))
    colours = {tuple(p) for p in (pixels[..., :3].reshape(-1, 3) * 15).round()}
    assert len(colours) > 30


@EACH
@pytest.mark.slow
def test_a_picture_is_a_whole_svg_the_same_each_time(draw):
    first, second = (plots.save_svg(draw(STRANGE["overlays"])) for _ in range(2))
    assert first == second
    assert ET.fromstring(first).tag.endswith("svg")


@pytest.mark.slow
@pytest.mark.parametrize("draw", [plots.contour, plots.contourf])
def test_a_figure_in_the_colours_of_the_dark_is_the_dark_figure(draw):
    light, dark = (
        plots.save_svg(draw(STRANGE["overlays"], theme=theme))
        for theme in ("light", "dark")
    )
    # The colour bar is a picture of pixels, which is the same in a filled figure only.
    colours = re.compile("(?:fill|stroke): (#[0-9a-f]{6})\\b")
    assert colours.findall(plots.darkened(light)) == colours.findall(dark)


@pytest.mark.slow
@EACH
def test_several_surfaces_share_one_scale(draw):
    low, high = plane(bowl), plane(lambda x, y: 30 * bowl(x, y), nx=5)
    figure = draw({"SGD": low, "SAM": high})
    assert [axes.get_title() for axes in panels(figure)] == ["SGD", "SAM"]
    ends = bar(figure).get_ylim()
    assert ends == pytest.approx((0.02, 30 * 5.02))
    assert draw({"SGD": low, "SAM": high}, vmin=1, vmax=2).axes[-1].get_ylim() == (1, 2)


def levels(axes):
    (lines,) = (c for c in axes.collections if hasattr(c, "levels"))
    return list(lines.levels), lines.get_edgecolors()


def test_lines_of_all_panels_have_the_same_levels_and_colours():
    figure = plots.contour({"a": plane(bowl), "b": plane(lambda x, y: 2 * bowl(x, y))})
    (first, colours), (second, others) = map(levels, panels(figure))
    assert first == sorted(set(first))
    assert len(first) >= 5
    shared = [level for level in first if level in second]
    assert len(shared) >= 5
    for level in shared:
        assert np.allclose(colours[first.index(level)], others[second.index(level)])


def test_lines_lie_where_the_bowl_has_their_value():
    figure = plots.contour(plane(bowl, nx=201, ny=201), vmin=1, vmax=3, vlevel=1)
    (axes,) = panels(figure)
    (lines,) = (c for c in axes.collections if hasattr(c, "levels"))
    # Lines are cut where their numbers stand; the highest has another end at the edge.
    assert list(lines.levels) == [1, 2, 3]
    for level, drawn in zip(lines.levels, lines.get_paths(), strict=True):
        x, y = drawn.vertices[drawn.codes != 79].T
        assert np.allclose(bowl(x, y), level, atol=2e-3)


def test_heat_has_a_cell_around_each_point_with_x_to_the_right():
    surface = plane(lambda x, y: x + 10 * y, nx=3, ny=2, x=(0, 4), y=(0, 1))
    (axes,) = panels(plots.heat(surface, log=False))
    (mesh,) = (c for c in axes.collections if hasattr(c, "get_coordinates"))
    assert mesh.get_array().tolist() == [[0, 2, 4], [10, 12, 14]]
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-1, 1, 3, 5]
    assert mesh.get_coordinates()[:, 0, 1].tolist() == [-0.5, 0.5, 1.5]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-1, 5), (-0.5, 1.5))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_coordinates_in_any_order_make_the_same_picture(order):
    whole = plane(bowl, nx=4, ny=4)
    x = tuple(whole.x[i] for i in order)
    mixed = dataclasses.replace(
        whole, coordinates=(x, x), loss=whole.loss[order][:, order]
    )
    first, second = (shown(s, figure="heat").values for s in (whole, mixed))
    assert np.array_equal(first, second)


def test_the_lowest_and_the_base_point_are_marked_where_they_are():
    surface = plane(lambda x, y: bowl(x - 0.5, y), nx=9, ny=9)
    (axes,) = panels(plots.contour(surface))
    marks = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines}
    assert marks == {"P": [[0, 0]], "v": [[0.5, 0]]}
    accuracy = Values(values=-surface.loss)
    other = dataclasses.replace(surface, quantities={"accuracy": accuracy})
    (axes,) = panels(plots.heat(other, quantity="accuracy"))
    (lowest,) = (line for line in axes.lines if line.get_marker() == "v")
    assert lowest.get_xydata().tolist() == [[0.5, 0]]  # of the loss, as before
    (axes,) = panels(plots.contour(plane(bowl, x=(0.5, 2))))
    assert [line.get_marker() for line in axes.lines] == ["v"]


def test_evaluated_points_are_shown_when_asked_for():
    computed = torch.zeros(7, 9, dtype=torch.bool)
    computed[::2, ::2] = True
    surface = plane(bowl, computed=computed)
    (axes,) = panels(plots.contourf(surface, points=True))
    (dots,) = (line for line in axes.lines if line.get_marker() == "o")
    assert len(dots.get_xdata()) == int(computed.sum()) == 20
    assert "20 of 63 points evaluated, the others interpolated" in footer_of(
        plots.contourf(surface)
    )


@pytest.mark.parametrize(("draw", "cells"), [(plots.heat, 1), (plots.contour, 4)])
def test_what_has_no_finite_value_is_hatched_and_counted(draw, cells):
    surface = plane(lambda x, y: np.where((x == 0) & (y == 0), np.nan, bowl(x, y)))
    figure = draw(surface)
    (axes,) = panels(figure)
    (hatched,) = (c for c in axes.collections if c.get_hatch())
    assert len(hatched.get_paths()) == cells  # the cell, or those around the point
    assert "1 point not finite (hatched)" in footer_of(figure)


def footer_of(figure):
    return " ".join(figure.get_supxlabel().split())


def test_the_footer_has_the_recipe_and_facts_that_differ_by_name():
    first = plane(bowl, stderr=torch.full((7, 9), 0.25))
    second = dataclasses.replace(first, samples=5000, details={"batch_norm": "freeze"})
    text = footer_of(plots.contour({"a": first, "b": second}))
    assert text == (
        "a: 10 samples; b: 5,000 samples · batch norm frozen at the base point · "
        "standard error at most 0.25 · 63 points · a: cosine of the axes 0.03"
    )


def test_checkpoints_have_the_colour_of_their_loss_and_pale_with_their_residual():
    surface = plane(bowl).with_path(
        path((0.9, 0.8), (0.5, 0.5), (0.0, 0.0), loss=[5.0, 1.0, 0.05], away=0.8)
    )
    figure = plots.contour(surface)
    (axes,) = panels(figure)
    (dots,) = (c for c in axes.collections if len(c.get_offsets()) == 3)
    colours = dots.get_facecolors()
    assert colours[:, 3].tolist() == pytest.approx([0.4, 0.7, 1.0])
    assert len({tuple(c) for c in colours[:, :3]}) == 3
    assert dots.get_offsets().tolist() == [[0.9, 0.8], [0.5, 0.5], [0, 0]]
    sizes = dots.get_sizes()
    assert list(sizes) == sorted(sizes)
    assert {t.get_text() for t in axes.texts} >= {"epoch 0", "epoch 2"}
    assert "run is off the plane by at most 80 %" in footer_of(figure)


@pytest.mark.parametrize(
    ("length", "name"),
    [(0.5, "arrow"), (1e-4, "arrow, × 1e4"), (50.0, "arrow, × 1e-2")],
)
def test_an_arrow_is_drawn_to_scale_or_by_a_power_of_ten_that_is_named(length, name):
    surface = plane(bowl).with_arrow(
        Arrow(start=(0.0, 0.0), vector=(length, 0.0), outside=0.0)
    )
    (legend,) = plots.contour(surface).legends
    assert name in [text.get_text() for text in legend.get_texts()]


def test_the_height_is_cut_at_a_quantile_and_the_footer_says_so():
    surface = plane(lambda x, y: np.where(x == 1, 5022.0, y), nx=41)
    figure = plots.surface3d(surface, log=False)
    (axes,) = panels(figure)
    assert axes.get_zlim() == (-1, 1)
    assert "cut off above 1; the highest value is 5,022" in footer_of(figure)
    whole = plots.surface3d(surface, log=False, clip=1.0)
    assert panels(whole)[0].get_zlim() == (-1, 5022)
    assert "cut off" not in footer_of(whole)
    with pytest.raises(SettingError, match="clip must be between 0 and 1, got 2"):
        plots.surface3d(surface, clip=2)


def test_decades_of_the_loss_are_the_height_on_a_logarithmic_axis():
    (axes,) = panels(plots.surface3d(plane(lambda x, y: 10.0 ** (2 * x))))
    assert axes.get_zlim() == pytest.approx((-2, 2))
    labels = [numbers(t.get_text()) for t in axes.get_zticklabels()]
    assert {"0.01", "100"} <= set(labels) | {"0.01", "100"}


QUANTITIES = {
    "accuracy": Values(values=torch.full((7, 9), 0.5), units="%"),
    "smallest_eigenvalue": Values(values=torch.full((7, 9), -1.0)),
    "top_eigenvalue": Values(values=torch.full((7, 9), 4.0), stderr=torch.ones(7, 9)),
}


def test_quantities_are_drawn_by_name_and_named_in_words():
    surface = plane(bowl, quantities=QUANTITIES, rise_stderr=torch.ones(7, 9))
    names = quantities_of(surface)
    assert names == [
        *("loss", "stderr", "rise", "rise_stderr", "accuracy", "smallest_eigenvalue"),
        *("top_eigenvalue", "top_eigenvalue_stderr", "eigenvalue_ratio"),
    ]
    figure = plots.heat(surface, quantity="accuracy")
    assert bar(figure).get_ylabel() == "accuracy (%)"
    words = [words_of(surface, name) for name in names]
    assert words[-1] == "|smallest / largest eigenvalue|"
    assert len(set(words)) == len(words)
    ratio = shown(surface, "eigenvalue_ratio", figure="heat")
    assert (ratio.values == 0.25).all()
    rise = shown(surface, "rise", figure="heat")
    assert rise.values.min() == 0
    assert np.array_equal(rise.values, surface.loss.numpy() - bowl(0, 0))
    with pytest.raises(
        SettingError, match=r"quantity must be 'loss', 'stderr', .*'acc'"
    ):
        plots.heat(surface, quantity="acc")


def test_a_quantity_of_every_second_point_is_drawn_on_these_alone():
    values = torch.full((7, 9), math.nan)
    values[::3, ::2] = 1.0
    values[0, 0] = math.nan  # one of them has failed
    values[3, 2] = math.inf
    surface = plane(bowl, quantities={"trace": Values(values=values)})
    coarse = shown(surface, "trace", figure="heat")
    assert coarse.values.shape == (3, 5)
    assert coarse.x.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert coarse.y.tolist() == [-1, 0, 1]
    text = footer_of(plots.heat(surface, quantity="trace"))
    assert "15 points · 2 points not finite (hatched)" in text
    lost = plane(lambda x, y: np.where(x < 0, np.nan, x + y))
    assert shown(lost, figure="heat").values.shape == (7, 9)  # the loss has all


def test_the_footer_says_how_far_interpolated_points_may_be_off():
    computed = torch.zeros(7, 9, dtype=torch.bool)
    computed[::2, ::2] = True
    errors = {"loss": {"rms": 0.001, "max": 0.0123}}
    surface = plane(
        bowl,
        computed=computed,
        details={
            "interpolation": {"relative_error": errors},
            "evaluated_terms": 10,
            "terms": 1000,
        },
    )
    text = footer_of(plots.heat(surface))
    assert "10 of 1,000 samples" in text
    surface.details["evaluated_terms"] = 2  # batches
    assert "10 samples drawn" in footer_of(plots.heat(surface))
    assert "interpolated (relative error at most 1.2 % where tested)" in text


@EACH
def test_a_surface_that_no_plane_is_gets_one_sentence(draw):
    line = Surface(
        coordinates=((0.0, 1.0),),
        loss=torch.ones(2),
        stderr=torch.zeros(2),
        samples=1,
    )
    with pytest.raises(SettingError, match=r"two axes, got one of 1; plots\.lines"):
        draw(line)
    thin = plane(bowl, nx=1)
    with pytest.raises(SettingError, match=r"at least two points .*one along x"):
        draw(thin)
    for wrong in ([plane(bowl)], {"a": 1.0}, {}):
        with pytest.raises(SettingError, match="surfaces must"):
            draw(wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vmin": 2, "vmax": 1}, "vmin must be < vmax, got 2 and 1"),
        ({"vmin": 0, "log": True}, "vmin of a logarithmic scale must be > 0, got 0"),
        ({"vlevel": 0}, "vlevel must be > 0, got 0"),
        ({"vlevel": 1e-9}, "vlevel must make at most 200 levels"),
        ({"vmax": math.nan}, "vmax must be finite, got nan"),
    ],
)
def test_a_scale_that_is_none_gets_one_sentence(settings, message):
    with pytest.raises(SettingError, match=message):
        plots.contour(plane(bowl), **settings)


def test_the_published_look_has_levels_at_its_distance():
    scale = scale_of(
        [np.array([0.001, 50.0])], vmin=0.1, vmax=10, vlevel=0.5
    )  # linspace of the published code: 0.1, 0.6, ... below 10
    assert not scale.log
    assert scale.levels == pytest.approx(np.arange(0.1, 10, 0.5))


@pytest.mark.parametrize("low", [1e-9, 0.0312, 1.0, 7.7, 1e6])
@pytest.mark.parametrize("factor", [1.001, 1.5, 31.0, 1e4, 1e11])
@pytest.mark.parametrize("make", [log_levels, linear_levels])
def test_levels_are_ascending_within_the_range_and_neither_few_nor_many(
    low, factor, make
):
    made = make(low, low * factor)
    assert made == sorted(set(made))
    assert 2 < len(made) <= 13
    room = 1e-9 * low * factor
    assert low - room <= made[0] <= made[-1] <= low * factor + room


def test_colours_of_levels_stand_out_and_rise_in_lightness():
    from steppe.plots.canvas import gradient, page_of

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in channels
        ]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for theme in ("light", "dark"):
        bright = [luminance(c) for c in gradient(theme)]
        assert bright == sorted(bright)
        page = luminance(page_of(theme))
        for value in bright:
            a, b = sorted((value, page))
            assert (b + 0.05) / (a + 0.05) >= 3


def test_a_figure_in_words_has_its_extremes_and_its_recipe():
    text = plots.alt({"SGD": plane(bowl, axes=("norms of the filters",) * 2)})
    assert text == (
        "SGD: loss over x (norms of the filters) from -1 to 1 and y (norms of the "
        "filters) from -1 to 1. It is lowest, 0.02, at (0, 0), and highest, 5.02, at "
        "(-1, -1). One basin. 10 samples; batch norm frozen at the base point; 63 "
        "points; cosine of the axes 0.03."
    )
    assert "It is 0.7 everywhere." in plots.alt(plane(lambda x, y: 0.7))
    assert "No value is finite." in plots.alt(plane(lambda x, y: np.nan))


def test_the_lowest_loss_stands_above_the_base_point_where_both_meet():
    for draw in (plots.contour, plots.surface3d):
        (axes,) = panels(draw(plane(bowl, nx=9, ny=9)))
        marks = {line.get_marker(): line for line in axes.lines}
        places = {
            mark: line.get_transform().transform((0, 0)) for mark, line in marks.items()
        }
        inches = (places["v"] - places["P"]) / axes.figure.dpi
        assert inches == pytest.approx([0, 8 / 72])


@pytest.mark.parametrize("n", [3, 5, 6])
def test_facets_of_a_surface_have_the_colours_of_their_middles(n):
    # Light and eye are on one diagonal, so that both sides of it are alike.
    surface = plane(lambda x, y: x**2 + y**2, nx=n, ny=n)
    # An end that has no facet where one colour goes over into the next.
    (axes,) = panels(plots.surface3d(surface, vmax=2.0321, azimuth=-45))
    shades = np.unique(axes.collections[0].get_facecolor().round(6), axis=0)
    assert len(shades) <= (n - 1) * n // 2  # pairs, and those on the diagonal


@EACH
def test_several_trajectories_have_names_and_colours_of_their_own(draw):
    walks = (path((0.5, 0.5), (0.0, 0.0)), path((-0.5, 0.5), (0.1, 0.0)))
    walks = tuple(dataclasses.replace(each, name="") for each in walks)
    figure = draw(plane(bowl, paths=walks))
    (legend,) = figure.legends
    lines = {
        text.get_text(): handle
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    both = [lines[f"trajectory {number}"].get_color() for number in (1, 2)]
    assert both[0] != both[1]


@pytest.mark.parametrize("draw", [plots.contour, plots.contourf, plots.heat])
def test_networks_that_a_plane_goes_through_are_marked(draw):
    surface = plane(bowl)
    surface.details["networks"] = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    figure = draw(surface)
    (axes,) = panels(figure)
    letters = {t.get_text(): t.xy for t in axes.texts if t.get_text() in "ABC"}
    assert letters == {"A": (0, 0), "B": (1, 0), "C": (0, 1)}
    (legend,) = figure.legends
    assert "networks" in [text.get_text() for text in legend.get_texts()]


def test_no_number_on_a_line_is_cut_by_the_edge():
    surface = plane(lambda x, y: np.exp(3 * x + 2 * y), nx=21, ny=21)
    (axes,) = panels(figure := plots.contour(surface))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) > 2
    for box in boxes:
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1
        assert axes.bbox.y0 <= box.y0 <= box.y1 <= axes.bbox.y1


def test_numbers_of_both_axes_do_not_meet_in_the_corner():
    (axes,) = panels(figure := plots.contour(plane(bowl, nx=9, ny=9)))
    figure.draw_without_rendering()
    beside, below = (axis.get_ticklabels()[0] for axis in (axes.yaxis, axes.xaxis))
    assert below.get_window_extent().y1 <= beside.get_window_extent().y0


def test_the_footer_stays_within_the_figure():
    named = {"SGD": plane(bowl), "SAM": plane(lambda x, y: 2 * bowl(x, y))}
    for surface in named.values():
        surface.details.update(evaluated_terms=10, terms=1000, cosine=0.0051)
    figure = plots.contour(named)
    figure.draw_without_rendering()
    (footer,) = (text for text in figure.texts if "cosine" in text.get_text())
    box = footer.get_window_extent()
    assert 0 < box.x0 < box.x1 < figure.bbox.x1


def test_a_lit_surface_has_the_colours_of_the_bar():
    from matplotlib import colormaps

    surface = plane(lambda x, y: 0.1 + 20 * (x**2 + y**2), nx=21, ny=21)
    (axes,) = panels(plots.surface3d(surface))
    (lit,) = axes.collections
    shades = lit.get_facecolor()[:, None, :3]
    map_of = colormaps["viridis"](np.linspace(0, 1, 256))[None, :, :3]
    off = np.abs(shades - map_of).max(axis=2).min(axis=1)
    assert off.max() < 0.15


FORMULA = r"a $\foo$"  # none that matplotlib knows


@EACH
def test_names_with_dollar_signs_are_no_formulas(draw):
    loss = plane(bowl).loss
    named = plane(
        bowl,
        axes=(FORMULA,) * 2,
        quantities={FORMULA: Values(values=loss, units=FORMULA)},
        paths=(dataclasses.replace(path((0.5, 0.5), (0.0, 0.0)), name=FORMULA),),
    )
    labelled = dataclasses.replace(named.paths[0], labels=(FORMULA, FORMULA))
    surface = dataclasses.replace(named, paths=(labelled,))
    figure = draw({FORMULA: surface, "b": surface}, quantity=FORMULA)
    assert plots.save_png(figure, dpi=20)
    assert panels(figure)[0].get_title() == FORMULA


def test_points_that_are_not_evaluated_yet_are_neither_interpolated_nor_lost():
    values = torch.tensor([[1.0, 2.0, math.nan], [math.nan, math.nan, 3.0]])
    computed = torch.tensor([[True, False, False], [False, True, True]])
    surface = Surface(
        coordinates=((0.0, 1.0, 2.0), (0.0, 1.0)),
        loss=values.double(),
        stderr=torch.zeros(2, 3),
        samples=0,
        computed=computed,
    )
    said = plots.alt(surface)
    assert "3 of 6 points evaluated, 1 interpolated; 2 points not evaluated" in said
    assert "1 point not finite" in said
    assert "sample" not in said


@pytest.mark.slow
@EACH
def test_a_long_name_of_an_axis_ends_beside_it(draw):
    unit = "distance along component 2, which has 1.27 % of the variance"
    figure = draw(plane(bowl, axes=(unit, unit)))
    for axes in panels(figure):
        name = axes.yaxis.label.get_window_extent()
        assert name.height <= 1.2 * axes.bbox.height


def test_no_number_on_a_line_lies_below_a_mark():
    surface = plane(lambda x, y: 0.1 + 40 * (x**2 + y**2), nx=21, ny=21)
    (axes,) = panels(figure := plots.contour(surface))
    figure.draw_without_rendering()
    for line in axes.lines:
        (place,) = line.get_transform().transform(line.get_xydata())
        for text in axes.texts:
            assert not text.get_window_extent().contains(*place)


def test_axes_of_one_unit_share_it_whatever_else_their_names_say():
    names = ("distance, eigenvalue 147", "distance, eigenvalue 106")
    (axes,) = panels(plots.contour(plane(bowl, axes=names, details={"cosine": -9e-9})))
    assert axes.get_aspect() == 1
    assert "cosine of the axes 0" in footer_of(axes.figure)
    (axes,) = panels(plots.contour(plane(bowl, axes=("distance", "steps"))))
    assert axes.get_aspect() == "auto"
