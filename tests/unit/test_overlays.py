"""Trajectories and arrows of surfaces: their shapes, tables and JSON."""

import json
import math

import pytest
import torch

from steppe.errors import SettingError
from steppe.surfaces import Arrow, Surface, Trajectory


def surface():
    loss = torch.zeros((2, 3), dtype=torch.float64)
    axes = ((-1.0, 0.0, 1.0), (0.0, 1.0))
    return Surface(coordinates=axes, loss=loss, stderr=loss, samples=4)


def trajectory(**fields):
    zeros = torch.zeros(2, dtype=torch.float64)
    known = {"residual": zeros, "relative_residual": zeros}
    coordinates = torch.tensor([[0.0, 1.0], [0.5, 0.25]], dtype=torch.float64)
    return Trajectory(coordinates=coordinates, **(known | fields))


def test_a_surface_with_a_path_and_an_arrow_is_the_same_surface_and_json():
    arrow = Arrow(start=(0.0, 1.0), vector=(1.0, 0.5), outside=math.nan)
    path = trajectory(name="sgd", labels=("epoch 1", "epoch 2"))
    plain = surface()
    drawn = plain.with_path(path).with_arrow(arrow)
    assert (plain.paths, plain.arrows) == ((), ())
    assert (drawn.paths, drawn.arrows) == ((path,), (arrow,))
    assert drawn.loss is plain.loss
    written = json.loads(json.dumps(drawn.to_dict()))
    assert written["paths"][0]["coordinates"] == [[0.0, 1.0], [0.5, 0.25]]
    assert written["arrows"][0]["outside"] is None
    assert "paths" not in plain.to_dict()
    assert arrow.end == (1.0, 1.5)


def test_a_table_has_a_row_for_each_checkpoint():
    loss = torch.tensor([2.0, 1.0], dtype=torch.float64)
    share = torch.tensor([0.0, 0.125], dtype=torch.float64)
    path = trajectory(relative_residual=share, loss=loss, stderr=loss / 10)
    text = repr(path)
    assert len(text.splitlines()) == 3
    assert "12.5 %" in text
    assert "1.00 ± 0.10" in text


def test_other_shapes_are_refused():
    with pytest.raises(SettingError, match=r"residual must have the shape \(2,\)"):
        trajectory(residual=torch.zeros(3))
    zeros = torch.zeros(2)
    with pytest.raises(SettingError, match=r"shape \(T, K\)"):
        Trajectory(coordinates=zeros, residual=zeros, relative_residual=zeros)
    with pytest.raises(SettingError, match="one text for each of 2 checkpoints, got 1"):
        trajectory(labels=("a",))
    with pytest.raises(SettingError, match="has 1 axes and the surface 2"):
        surface().with_arrow(Arrow(start=(0.0,), vector=(1.0,), outside=0.0))
