"""Subspaces from files of directions, ours and those of the published code."""

import copy
import dataclasses

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import problems
import surfaces
from steppe.errors import DataError, SettingError, UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.box import Box
from steppe.landscapes.subspaces.curve import Curve
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.surfaces import Surface
from steppe.surfaces.files.directions import load_directions, save_directions

GRID = {"x": [-0.5, 0.0, 1.0], "y": [0.25, 1.0]}


def norm_network(seed=0):
    model, data = problems.networks()["batch_norm"]
    model = problems.drawn(copy.deepcopy(model), seed)
    problems.normed(model[1], seed)
    model[1].num_batches_tracked.fill_(3 + seed)
    return model.eval(), data


MADE = {
    "plane": lambda m: Plane.random(m, seed=3),
    "orthogonal": lambda m: Plane.random(m, orthogonal=True, unit="absolute"),
    "states": lambda m: Plane.random(m, of="states", ignore="none"),
    "eigenvectors, a line": lambda m: Line.random(m, norm="layer"),
    "box": lambda m: Box.random(m, 4),
}


@pytest.mark.parametrize("ending", ["h5", "npz"])
@pytest.mark.parametrize("name", MADE)
def test_a_random_subspace_comes_back_to_the_last_bit(tmp_path, name, ending):
    model, _ = norm_network()
    subspace = MADE[name](model)
    subspace.save(tmp_path / f"d.{ending}")
    read = type(subspace).from_file(tmp_path / f"d.{ending}", model)
    for field in dataclasses.fields(subspace):
        surfaces.assert_same(getattr(read, field.name), getattr(subspace, field.name))


def test_its_surface_has_the_same_bits(tmp_path):
    model, data = norm_network()
    plane = Plane.random(model, of="states", ignore="none")
    objective = problems.objective(model, data)
    surface = landscape(objective, plane, **GRID)
    surface.save(tmp_path / "s.h5", plane.stored())
    read = Plane.from_file(tmp_path / "s.h5", model)
    surfaces.assert_same(landscape(objective, read, **GRID), surface)
    surfaces.assert_same(Surface.load(tmp_path / "s.h5"), surface)


def test_half_precision_is_not_lost(tmp_path):
    model = problems.mlp().bfloat16()
    plane = Plane.random(model)
    plane.save(tmp_path / "d.h5")
    read = Plane.from_file(tmp_path / "d.h5", model)
    surfaces.assert_same(read.directions, plane.directions)
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["xdirection/0"].dtype == np.float32


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_plane_through_networks_has_their_buffers_and_meets_them(
    tmp_path, orthogonal
):
    models = [norm_network(seed)[0] for seed in range(3)]
    models[2][1].num_batches_tracked.fill_(3)
    plane = Plane.through(*models, orthogonal=orthogonal)
    plane.save(tmp_path / "d.h5")
    read = Plane.from_file(tmp_path / "d.h5", models[0])
    assert (read.axes, read.details) == (plane.axes, plane.details)
    assert (read.mixing, read.batch_norm) == (plane.mixing, plane.batch_norm)
    for place in [(0.0, 0.0), (0.25, 0.5), *plane.exact]:
        torch.testing.assert_close(read.point(*place), plane.point(*place))
        torch.testing.assert_close(
            read.changed_buffers(*place), plane.changed_buffers(*place)
        )


def published(file, model, kind, count=2):
    """Directions as the published code stores them; and the tensors it would move."""
    tensors = (
        list(model.parameters())
        if kind == "weights"
        else [*model.state_dict().values()]
    )
    directions = []
    with h5py.File(file, "w") as opened:
        for k, group in enumerate(["xdirection", "ydirection"][:count]):
            row = [
                surfaces.draws(*t.shape, seed=50 * k + i).mul(0.1).float()
                for i, t in enumerate(tensors)
            ]
            row = [torch.zeros(()) if not d.dim() else d for d in row]
            made = opened.create_group(group)
            for number, direction in enumerate(row):
                made[str(number)] = direction.numpy()
            directions.append(row)
    return directions


@pytest.mark.parametrize("kind", ["weights", "states"])
def test_directions_of_the_published_code_move_what_it_moves(tmp_path, kind):
    model, data = norm_network()
    file = tmp_path / f"net.t7_{kind}_xnorm=layer.h5"
    directions = published(file, model, kind)
    plane = Plane.from_file(file, model)
    found = landscape(problems.objective(model, data), plane, **GRID)
    for i, b in enumerate(GRID["y"]):
        for j, a in enumerate(GRID["x"]):
            moved = copy.deepcopy(model)
            own = (
                moved.parameters()
                if kind == "weights"
                else (t for t in moved.state_dict().values())
            )
            with torch.no_grad():
                for tensor, dx, dy in zip(own, *directions, strict=True):
                    tensor.add_((a * dx.double() + b * dy.double()).to(tensor.dtype))
            expected = problems.objective(moved, data).value().value
            assert float(found.loss[i, j]) == pytest.approx(expected, rel=1e-12)
    assert plane.axes[0].unit == plane.axes[1].unit == "norms of the layers"
    assert plane.details["subspace"] == "file"


def test_the_published_code_moves_the_same_along_ours(tmp_path):
    model = problems.mlp()
    plane = Plane.random(model, ignore="none")
    plane.save(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5") as file:
        rows = [
            [file[group][str(i)][()] for i in range(len(file[group]))]
            for group in ("xdirection", "ydirection")
        ]
    expected = plane.point(0.5, -2.0)
    for p, dx, dy, moved in zip(model.parameters(), *rows, expected, strict=True):
        by_hand = p.detach() + torch.from_numpy(0.5 * dx - 2 * dy)
        torch.testing.assert_close(by_hand, moved, rtol=1e-14, atol=1e-15)


def test_an_old_file_of_one_axis_does_not_pass_for_a_plane(tmp_path):
    model = problems.mlp()
    published(tmp_path / "d.h5", model, "weights", count=1)
    with pytest.raises(DataError, match="holds one direction, and the subspace has 2"):
        Plane.from_file(tmp_path / "d.h5", model)
    assert Line.from_file(tmp_path / "d.h5", model).details == {"subspace": "file"}
    assert len(Box.from_file(tmp_path / "d.h5", model).axes) == 1


def test_directions_of_other_models_are_refused(tmp_path):
    model = problems.mlp()
    file = tmp_path / "d.h5"
    published(file, model, "weights")
    with pytest.raises(DataError, match=r"of 6 tensors, and the model has 1 weights"):
        Plane.from_file(file, problems.linear())
    wide = nn.Sequential(*model[:4], nn.Linear(5, 9))
    with pytest.raises(DataError, match=r"4\.weight is of shape \(9, 5\) in the model"):
        Plane.from_file(file, wide)
    model[0].bias.requires_grad_(False)
    with pytest.raises(DataError, match=r"moves 0\.bias, which is frozen"):
        Plane.from_file(file, model)
    with h5py.File(file, "r+") as opened:
        opened["xdirection/1"][...] = opened["ydirection/1"][...] = 0
    assert "0.bias" not in Plane.from_file(file, model).names


def test_directions_around_other_weights_are_taken_on_demand_alone(tmp_path):
    model, other = problems.mlp(seed=1), problems.mlp(seed=2)
    plane = Plane.random(model)
    plane.save(tmp_path / "d.h5")
    with pytest.raises(DataError, match=r"around other parameters .*other_base=True"):
        Plane.from_file(tmp_path / "d.h5", other)
    read = Plane.from_file(tmp_path / "d.h5", other, other_base=True)
    surfaces.assert_same(read.directions, plane.directions)
    surfaces.assert_same(read.base, tuple(p.detach() for p in other.parameters()))


def test_tied_tensors_move_once(tmp_path):
    model = problems.Tied().double()
    file = tmp_path / "tied_states.h5"
    published(file, model, "states", count=1)
    with pytest.raises(DataError, match=r"first\.weight and second\.weight diff"):
        Line.from_file(file, model)
    names = list(model.state_dict())
    first, second = (names.index(f"{n}.weight") for n in ("first", "second"))
    with h5py.File(file, "r+") as opened:
        opened[f"xdirection/{second}"][...] = opened[f"xdirection/{first}"][...]
    line = Line.from_file(file, model)
    assert line.names == tuple(n for n, _ in model.named_parameters())
    Line.random(model).save(tmp_path / "ours.h5")
    Line.from_file(tmp_path / "ours.h5", model)


def test_files_are_not_replaced_by_mistake(tmp_path):
    model = problems.mlp()
    plane, file = Plane.random(model), tmp_path / "d.h5"
    plane.save(file)
    plane.save(file)
    with pytest.raises(DataError, match="seed is 0 in the file and 1 here"):
        Plane.random(model, seed=1).save(file)
    Plane.random(model, seed=1).save(file, overwrite=True)
    surfaces.full(3, 3).save(tmp_path / "s.h5", plane.stored())
    with pytest.raises(DataError, match="holds a surface"):
        plane.save(tmp_path / "s.h5")
    with pytest.raises(SettingError, match="must end in"):
        plane.save(tmp_path / "d.pt")


def test_a_curve_has_no_directions():
    curve = Curve.bezier(problems.mlp(seed=1), problems.mlp(seed=2))
    with pytest.raises(UsageError, match="a curve has no directions"):
        curve.stored()


def test_directions_that_are_too_large_are_known_by_their_digest(tmp_path):
    model = problems.mlp()
    plane = Plane.random(model, seed=4)
    save_directions(plane.stored(), tmp_path / "d.h5", limit=10)
    with h5py.File(tmp_path / "d.h5") as file:
        assert "xdirection" not in file
    with pytest.raises(DataError, match="make the subspace anew from its recipe"):
        Plane.from_file(tmp_path / "d.h5", model)
    anew = Plane.random(model, seed=4).stored()
    assert load_directions(tmp_path / "d.h5").digest == anew.digest
    assert Plane.random(model, seed=5).stored().digest != anew.digest


def test_a_parameter_that_the_file_does_not_move_is_named(tmp_path):
    model = problems.mlp()
    model[0].bias.requires_grad_(False)
    Plane.random(model).save(tmp_path / "d.h5")
    model[0].bias.requires_grad_(True)
    with pytest.raises(DataError, match=r"around other parameters"):
        Plane.from_file(tmp_path / "d.h5", model)
    with pytest.raises(DataError, match=r"no direction of 0\.bias"):
        Plane.from_file(tmp_path / "d.h5", model, other_base=True)


def test_surfaces_name_the_weights_buffers_and_directions_that_they_are_of(tmp_path):
    model, data = norm_network()
    objective = problems.objective(model, data)
    plane = Plane.random(model, of="states", ignore="none")

    def digests(subspace):
        details = landscape(objective, subspace, **GRID).details
        return [details[name] for name in ("weights", "buffers", "directions")]

    first = digests(plane)
    assert first == digests(Plane.random(model, of="states", ignore="none"))
    landscape(objective, plane, **GRID).save(tmp_path / "s.h5")
    changes = {
        "weights": {"base": tuple(2 * t for t in plane.base)},
        "buffers": {"buffers": {n: 2 * b for n, b in plane.buffers.items()}},
        "directions": {"buffer_directions": ({}, plane.buffer_directions[1])},
    }
    for position, (name, change) in enumerate(changes.items()):
        other = dataclasses.replace(plane, **change)
        found = digests(other)
        assert [a != b for a, b in zip(first, found, strict=True)] == [
            i == position for i in range(3)
        ]
        with pytest.raises(DataError, match=f"another recipe.*: {name} is"):
            landscape(objective, other, **GRID).save(tmp_path / "s.h5")
