"""The figure of a curve between two networks: its two parts and what they share."""

import dataclasses

import numpy as np
import pytest
import torch

from steppe import plots
from steppe.errors import SettingError
from steppe.surfaces import Surface, Trajectory

TS = np.linspace(0, 1, 9)


def surface(loss, *coordinates, **details):
    values = torch.as_tensor(loss, dtype=torch.float64)
    return Surface(
        coordinates=tuple(map(tuple, coordinates)),
        loss=values,
        stderr=torch.full_like(values, 0.01),
        samples=10,
        details={"batch_norm": "reestimate", **details},
    )


def trajectory(name, heights, labels=()):
    away = torch.zeros(len(TS))
    points = torch.from_numpy(np.stack([TS, heights], 1))
    return Trajectory(
        coordinates=points,
        residual=away,
        relative_residual=away,
        name=name,
        labels=labels,
    )


PATHS = {
    "bezier": surface(0.1 + TS * (1 - TS), TS),
    "line": surface(0.1 + 4 * TS * (1 - TS), TS),
}
X, Y = np.linspace(-0.25, 1.25, 7), np.linspace(-0.2, 0.8, 5)
PLANE = (
    surface(0.1 + np.add.outer((Y - 0.5) ** 2, X**2), X, Y, networks=[(0, 0), (1, 0)])
    .with_path(trajectory("bezier", TS * (1 - TS), [f"t = {t:.3g}" for t in TS]))
    .with_path(trajectory("line", 0 * TS))
)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_path_has_one_colour_along_it_and_on_the_plane(theme):
    figure = plots.connection(PATHS, PLANE, theme=theme)
    along, plane, _ = figure.axes
    for name, path, place in zip(PATHS, PLANE.paths, (0, 1), strict=True):
        line = along.lines[place]
        np.testing.assert_allclose(line.get_ydata(), PATHS[name].loss)
        (drawn,) = (
            each
            for each in plane.lines
            if np.array_equal(each.get_xydata(), path.coordinates.numpy())
        )
        assert drawn.get_color() == line.get_color()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["bezier", "line", "base point", "lowest loss", "networks"]
    assert "line lies in the plane" in figure.get_supxlabel()


def test_the_name_of_a_network_stands_alone():
    names = [f"t = {t:.3g}" for t in TS]
    rounded = trajectory("bezier", TS * (1 - TS) - 3e-7, names)
    for surface in (PLANE, dataclasses.replace(PLANE, paths=(rounded,))):
        _, plane, _ = plots.connection(PATHS, surface).axes
        assert {text.get_text() for text in plane.texts} == {"A", "B"}
    apart = dataclasses.replace(PLANE, details={})
    _, plane, _ = plots.connection(PATHS, apart).axes
    assert {text.get_text() for text in plane.texts} == {"t = 0", "t = 1"}


def test_values_that_are_not_finite_leave_gaps_and_hatches():
    loss = PLANE.loss.clone()
    loss[2, 3] = np.nan
    holed = dataclasses.replace(PLANE, loss=loss)
    lost = dataclasses.replace(PATHS["line"], loss=PATHS["line"].loss * np.nan)
    figure = plots.connection({**PATHS, "line": lost}, holed)
    assert "plane: 1 point not finite (hatched)" in figure.get_supxlabel()
    assert plots.save_png(figure).startswith(b"\x89PNG")


def test_surfaces_of_other_axes_are_refused():
    with pytest.raises(SettingError, match="connection needs surfaces of one axis"):
        plots.connection({"plane": PLANE}, PLANE)
    with pytest.raises(SettingError, match="connection"):
        plots.connection(PATHS, PATHS["line"])
