"""Heat map and dendrogram of barriers: cells, order of networks, and merges."""

import math

import pytest
import torch

from steppe import Barriers, Estimate, plots
from steppe.errors import SettingError

MATRIX = torch.tensor(
    [[0, 2.0, 0.1, 3.0], [2.0, 0, 2.5, 0.2], [0.1, 2.5, 0, 4.0], [3.0, 0.2, 4.0, 0]]
)


def made(matrix=MATRIX, names="abcd"):
    pairs = {
        (names[i], names[j]): Estimate(value=float(matrix[i, j]))
        for i in range(len(names))
        for j in range(i + 1, len(names))
    }
    return Barriers(names=tuple(names), paths={"straight": pairs, "matched": pairs})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_cells_stand_in_the_order_of_the_dendrogram(theme):
    figure = plots.barriers(made(), "matched", threshold=1.0, theme=theme)
    heat, tree, bar = figure.axes
    assert [label.get_text() for label in heat.get_yticklabels()] == list("acbd")
    order = [0, 2, 1, 3]
    drawn = torch.tensor(heat.images[0].get_array().filled(0.0))
    torch.testing.assert_close(drawn, MATRIX[order][:, order].double())
    texts = [float(text.get_text()) for text in heat.texts]
    assert len(texts) == 12
    assert sorted(set(texts)) == pytest.approx([0.1, 0.2, 2.0, 2.5, 3.0, 4.0])
    merges = [max(line.get_xdata()) for line in tree.lines[:3]]
    assert merges == pytest.approx([0.1, 0.2, 2.0])
    assert list(tree.lines[3].get_xdata()) == [1.0, 1.0]
    assert bar.get_xlabel() == "barrier, matched"
    page = figure.get_window_extent()
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert page.x0 <= box.x0
        assert page.y0 <= box.y0
        assert box.y1 <= page.y1
    assert heat in figure.axes
    assert len(plots.save_png(figure, theme)) > 5000
    assert plots.save_svg(figure).startswith("<svg")


def test_refused_pairs_are_hatched_and_merge_last():
    matrix = MATRIX.clone()
    matrix[0] = matrix[:, 0] = math.nan
    heat, tree, _ = plots.barriers(made(matrix)).axes
    assert len(heat.texts) == len(heat.collections) == 6
    assert tree.lines[-1].get_linestyle() == "--"


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.0, math.nan])
def test_two_networks_without_a_barrier_or_with_none_are_drawn(value):
    figure = plots.barriers(made(torch.full((2, 2), value), "ab"))
    assert len(plots.save_png(figure)) > 2000


def test_of_many_networks_colours_say_it_alone():
    names = [f"network {i} of a long name" for i in range(12)]
    matrix = torch.arange(144.0).reshape(12, 12)
    heat, *_ = plots.barriers(made(matrix, names)).axes
    assert not heat.texts
    assert heat.get_yticklabels()[0].get_text().endswith("…")


def test_bad_calls_are_one_sentence():
    with pytest.raises(SettingError, match="path must be 'straight' or 'matched'"):
        plots.barriers(made(), "curve")
    with pytest.raises(SettingError, match="threshold must be >= 0"):
        plots.barriers(made(), threshold=-1.0)


def test_names_with_dollar_signs_are_no_formulas():
    names = (r"a $\foo$", "b", "c", "d")
    heat, *_ = plots.barriers(made(names=names)).axes
    assert plots.save_png(heat.figure, dpi=20)
    assert heat.get_yticklabels()[0].get_text() == names[0]
