"""Planes and lines out of boxes: numpy's indices, words, figures, refusals."""

import dataclasses

import numpy as np
import pytest
import torch

import surfaces
from steppe import plots
from steppe.errors import SettingError
from steppe.surfaces import Surface
from steppe.surfaces.files.vtp import save_vtp

FIELDS = ("loss", "stderr", "rise_stderr", "subset_stderr", "computed")


def box(x=(-1.0, 0.0, 1.0), y=(0.0, 0.5), z=(0.0, 0.1 + 0.2, 2.0, 3.0)):
    coordinates = (x, y, z)
    loss = surfaces.draws(*map(len, reversed(coordinates))).abs()
    return Surface(
        coordinates=coordinates,
        loss=loss,
        stderr=loss / 10,
        samples=3,
        axes=("a", "b", "c"),
        details={
            "range": {"x": (-1, 1), "y": (0, 0.5), "z": (0, 3)},
            "cosine": {"xy": 0.1, "xz": 0.2, "yz": 0.3},
        },
    )


@pytest.mark.parametrize(
    ("at", "index"), [({"z": 1}, (1,)), ({"y": 2}, (slice(None), 2)), ({"x": 0}, ...)]
)
def test_a_slice_has_the_numbers_of_the_box(at, index):
    whole = surfaces.full(4, 3, 2)
    (letter, place) = next(iter(at.items()))
    along = whole.coordinates["xyz".index(letter)]
    part = whole.slice(**{letter: along[place]})
    index = (..., place) if index is ... else index
    pairs = [(getattr(part, name), getattr(whole, name)) for name in FIELDS]
    pairs += [
        (q.values, whole.quantities[n].values) for n, q in part.quantities.items()
    ]
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy()[index])
    assert part.coordinates == tuple(c for c in whole.coordinates if c != along)


def test_words_and_details_are_those_of_the_axes_that_stay():
    part = box().slice(y=0.0)
    assert part.axes == ("a", "c")
    assert part.details["range"] == {"x": (-1, 1), "y": (0, 3)}
    assert part.details["cosine"] == 0.2
    assert part.details["slice"] == {"y": 0.0}
    line = box().slice(x=0.0, z=2)
    assert line.details["range"] == (0, 0.5)
    assert line.axes == ("b",)
    assert line.off_base


def test_axes_of_one_coordinate_are_left_out():
    flat = box(z=(0.0,))
    part = flat.slice()
    assert part.loss.shape == (2, 3)
    assert torch.equal(part.loss, flat.loss[0])
    with pytest.raises(SettingError, match=r"surface\.slice\(\) is a plane of it"):
        plots.contour(flat)
    assert plots.contour(part).axes


def test_a_written_coordinate_is_that_of_the_grid():
    assert torch.equal(box().slice(z=0.3).loss, box().loss[1])


def test_a_slice_beside_the_base_point_has_no_mark_of_it():
    at, beside = (plots.contour(box().slice(z=z)) for z in (0.0, 2.0))
    names = [
        [text.get_text() for each in figure.legends for text in each.get_texts()]
        for figure in (at, beside)
    ]
    assert "base point" in names[0]
    assert "base point" not in names[1]
    with pytest.raises(SettingError):
        plots.contour(box().slice(z=2.0), quantity="rise")


def test_whoever_draws_a_box_is_told_how(tmp_path):
    for draw in (plots.contour, plots.heat, plots.surface3d):
        with pytest.raises(SettingError, match=r"surface\.slice\(z=0\.0\) is a plane"):
            draw(box())
    with pytest.raises(SettingError, match=r"surface\.slice\(z=0\.0\) is a plane"):
        save_vtp(box(), tmp_path / "a.vtp")
    with pytest.raises(SettingError, match=r"slice\(y=0\.0, z=0\.0\) is a line"):
        plots.profile(box())


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ({"w": 0.0}, "has no axis 'w'"),
        ({"z": 0.4}, "the nearest is at 0.3"),
        ({"z": "0"}, "z must be a coordinate"),
        ({"x": 0.0, "y": 0.0, "z": 0.0}, "must leave an axis"),
    ],
)
def test_what_is_no_slice_is_refused(at, message):
    with pytest.raises(SettingError, match=message):
        box().slice(**at)


def test_slices_of_slices_remember_both():
    wide = dataclasses.replace(box(), details={})
    part = wide.slice(z=2.0).slice(y=0.5)
    assert torch.equal(part.loss, wide.loss[2, 1])
    assert part.details["slice"] == {"z": 2.0, "y": 0.5}
    again = wide.slice(y=0.5).slice(y=0.0)  # which was z
    assert again.details["slice"] == {"y": 0.5, "z": 0.0}
    assert again.off_base
    assert "slice at y = 0.5, z = 0 of more axes" in plots.alt(again)
