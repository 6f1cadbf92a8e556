"""Files of the published code of Li et al., made by h5py as that code makes them."""

import csv
import json
import math
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import torch
import xarray

import surfaces
from steppe.errors import DataError, SettingError
from steppe.surfaces import Surface, Values
from steppe.surfaces.files.convert import convert
from steppe.surfaces.files.directions import (
    Directions,
    load_directions,
    save_directions,
)
from steppe.surfaces.files.projections import load_trajectories, save_trajectory
from steppe.surfaces.files.reference_names import (
    Flags,
    direction_file,
    surface_file,
)
from steppe.surfaces.files.vtp import save_vtp

X, Y = [-1.0, 0.0, 1.0], [0.0, 0.5]
NAN = float("nan")
DIRECTIONS = "net.t7_weights_xignore=biasbn_xnorm=filter.h5"


def at(x, y):
    return 10 + 3 * x + 20 * y + x * y


def published(file, y=Y, unfinished=True, **arrays):
    """A surface as it is there: made (X, Y), filled in the order of the meshgrid."""
    loss = -np.ones((len(X), len(y)))
    mesh_x, mesh_y = np.meshgrid(X, y)
    places = list(zip(mesh_x.ravel(), mesh_y.ravel(), strict=True))
    for index, (a, b) in enumerate(places):
        if not (unfinished and index == 1):
            loss.ravel()[index] = at(a, b)
    with h5py.File(file, "w") as opened:
        opened["dir_file"] = DIRECTIONS
        opened["xcoordinates"], opened["ycoordinates"] = np.array(X), np.array(y)
        opened["train_loss"], opened["train_acc"] = loss, np.where(loss == -1, -1, 50.0)
        for name, values in arrays.items():
            opened[name] = values


@pytest.mark.parametrize("y", [Y, [-1.0, 0.0, 2.0]])
def test_values_are_at_their_coordinates_also_where_the_grid_is_not_square(tmp_path, y):
    published(tmp_path / "s.h5", y)
    surface = Surface.load(tmp_path / "s.h5")
    expected = torch.tensor([[at(a, b) for a in X] for b in y], dtype=torch.float64)
    expected[0, 1] = NAN
    surfaces.assert_same(surface.loss, expected)
    assert (surface.x, surface.y) == (tuple(X), tuple(y))
    assert surface.computed.tolist() == (~expected.isnan()).tolist()
    accuracy = surface.quantities["accuracy"]
    assert accuracy.units == "percent"
    assert accuracy.values[1, 1] == 50
    assert accuracy.values[0, 1].isnan()
    assert surface.samples == 0
    assert surface.details == {
        "dir_file": DIRECTIONS, "dir_type": "weights", "xignore": "biasbn",
        "xnorm": "filter",
    }  # fmt: skip


def test_eigenvalues_and_test_values_are_read_and_go_through_our_own_file(tmp_path):
    least = np.array([[1.0, -3.0], [2.0, 0.5], [-1.0, 1.5]])
    published(
        tmp_path / "s.h5", unfinished=False,
        min_eig=least, max_eig=least + 7, test_loss=least + 3, test_acc=least * 9,
    )  # fmt: skip
    surface = Surface.load(tmp_path / "s.h5")
    assert surface.computed is None
    values = surface.quantities["smallest_eigenvalue"].values
    surfaces.assert_same(
        values, torch.tensor([[NAN, -3, 2], [0.5, -1, 1.5]], dtype=torch.float64)
    )
    surface.save(tmp_path / "ours.h5")
    surfaces.assert_same(Surface.load(tmp_path / "ours.h5"), surface)
    with h5py.File(tmp_path / "ours.h5") as file:
        assert file["test_acc"][()].tolist() == (least * 9).reshape(2, 3).tolist()
        assert file["max_eig"][()].tolist() == (least + 7).reshape(2, 3).tolist()


def test_a_surface_of_eigenvalues_alone_has_no_loss(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["xcoordinates"] = np.array(X)
        file["max_eig"] = np.array([-1.0, 4.0, 2.0])
    surface = Surface.load(tmp_path / "s.h5")
    assert surface.loss.isnan().all()
    assert not surface.computed.any()
    assert surface.quantities["top_eigenvalue"].values.tolist()[1:] == [4, 2]


def test_a_line_is_read(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["xcoordinates"] = np.array(X)
        file["train_loss"] = np.array([3.0, 0.0, -0.5])
    surface = Surface.load(tmp_path / "s.h5")
    assert surface.loss.tolist() == [3, 0, -0.5]
    assert surface.computed is None


def test_arrays_that_do_not_fit_are_refused_in_one_sentence(tmp_path):
    published(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["xcoordinates"]
        file["xcoordinates"] = np.arange(4.0)
    with pytest.raises(DataError, match=r"train_loss has the shape \(3, 2\)"):
        Surface.load(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["train_loss"], file["train_acc"]
    with pytest.raises(DataError, match="has no train_loss"):
        Surface.load(tmp_path / "s.h5")


@pytest.mark.parametrize("method", ["cos", "lstsq"])
def test_projections_are_read(tmp_path, method):
    file = tmp_path / f"directions.h5_proj_{method}.h5"
    with h5py.File(file, "w") as opened:
        opened["proj_xcoord"] = np.array([3.0, 2.0, 0.0])
        opened["proj_ycoord"] = np.array([1.0, -1.0, 0.0])
    [path] = load_trajectories(file)
    assert path.coordinates.tolist() == [[3, 1], [2, -1], [0, 0]]
    assert path.residual.isnan().all()
    assert path.details == {"projection": method}


def test_lengths_along_directions_become_coordinates_beside_their_file(tmp_path):
    """Neither orthogonal nor of norm 1: numpy's least squares are the coordinates."""
    made = directions()
    save_directions(made, tmp_path / "directions.h5")
    x, y = (torch.cat([t.flatten() for t in each]).numpy() for each in made.tensors)
    point = 0.5 * x + 0.25 * y
    lengths = [point @ each / np.linalg.norm(each) for each in (x, y)]
    file = tmp_path / "directions.h5_proj_cos.h5"
    with h5py.File(file, "w") as opened:
        opened["proj_xcoord"], opened["proj_ycoord"] = ([each] for each in lengths)
    [path] = load_trajectories(file)
    expected = np.linalg.lstsq(np.stack([x, y], axis=1), point)[0]
    np.testing.assert_allclose(path.coordinates[0], expected, rtol=1e-5)
    np.testing.assert_allclose(expected, [0.5, 0.25], rtol=1e-5)
    assert path.details == {"projection": "lstsq"}
    # Of parallel directions there are no coordinates: the lengths stay.
    parallel = Directions(tensors=(made.tensors[0],) * 2)
    save_directions(parallel, tmp_path / "directions.h5", overwrite=True)
    [path] = load_trajectories(file)
    assert path.coordinates.tolist() == [[pytest.approx(each) for each in lengths]]
    assert path.details == {"projection": "cos"}


def test_an_unknown_number_of_samples_does_not_mark_points_as_open(tmp_path):
    published(tmp_path / "s.h5", unfinished=False)
    convert(tmp_path / "s.h5", tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5") as file:
        assert "n_samples" not in file
    assert Surface.load(tmp_path / "t.h5").samples == 0


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_projections_are_written_for_its_reader_and_ours(tmp_path, ending):
    path = surfaces.path(2)
    save_trajectory(path, tmp_path / f"p.{ending}")
    surfaces.assert_same(load_trajectories(tmp_path / f"p.{ending}"), (path,))
    if ending == "h5":
        with h5py.File(tmp_path / "p.h5") as file:
            x, y = file["proj_xcoord"], file["proj_ycoord"]
            assert x[()].tolist() == path.coordinates[:, 0].tolist()
            assert y.shape == (5,)
    surfaces.full(3, 3).save(tmp_path / "s.h5")
    assert len(load_trajectories(tmp_path / "s.h5")) == 2
    save_directions(directions(), tmp_path / "d.h5")
    with pytest.raises(DataError, match="has no proj_xcoord"):
        load_trajectories(tmp_path / "d.h5")


def directions(count=2, **fields):
    """Twelve tensors, so that "10" and "11" stand between "1" and "2" as texts."""
    tensors = [
        tuple(surfaces.draws(2, i + 1, seed=100 * k + i).float() for i in range(12))
        for k in range(count)
    ]
    settings = {"names": tuple(f"layer.{i}" for i in range(12)), "base": "0123"}
    return Directions(tensors=tuple(tensors), **settings | fields)


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_directions_come_back_to_the_last_bit(tmp_path, ending):
    written = directions(
        kind="states",
        ends=(True, False),
        mixing=((1.0, 0.5), (0.0, 2.0)),
        batch_norm="freeze",
        details={"norm": "filter", "range": (0, 1)},
        axes=({"unit": "u", "range": (-1.0, 1.0)}, {"unit": "v"}),
    )
    save_directions(written, tmp_path / f"d.{ending}")
    surfaces.assert_same(load_directions(tmp_path / f"d.{ending}"), written)


def test_its_reader_of_directions_reads_ours(tmp_path):
    ratios = [0.7, 0.2]
    written = directions(details={"explained_variance_ratio": ratios})
    save_directions(written, tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5") as file:
        for group, tensors in zip(["xdirection", "ydirection"], written.tensors):
            read = [file[group][str(i)][()] for i in range(len(file[group]))]
            assert [each.dtype for each in read] == [np.float32] * 12
            for one, other in zip(read, tensors, strict=True):
                np.testing.assert_array_equal(one, other)
        assert list(file["explained_variance_ratio_"]) == ratios


def test_its_directions_of_principal_components_and_of_states_are_read(tmp_path):
    folder = tmp_path / "PCA_weights_save_epoch=1"
    folder.mkdir()
    with h5py.File(folder / "directions.h5", "w") as file:
        file["explained_variance_ratio_"] = np.array([0.7, 0.2])
        file["singular_values_"] = np.array([4.0, 2.0])
        for group in ("xdirection", "ydirection"):
            file.create_group(group)["0"] = np.ones((2, 3), np.float32)
    read = load_directions(folder / "directions.h5")
    assert read.kind == "weights"
    assert read.details["explained_variance_ratio"] == [0.7, 0.2]
    assert read.details["singular_values"] == [4, 2]
    surfaces.assert_same(read.tensors, ((torch.ones(2, 3),),) * 2)
    with h5py.File(tmp_path / "net.t7_states_xnorm=filter.h5", "w") as file:
        file.create_group("xdirection")["0"] = np.float32(3)
    read = load_directions(tmp_path / "net.t7_states_xnorm=filter.h5")
    assert (read.kind, read.details) == ("states", {"xnorm": "filter"})
    surfaces.assert_same(read.tensors, ((torch.tensor(3.0),),))


def test_directions_with_missing_tensors_or_none_are_refused(tmp_path):
    save_directions(directions(1), tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file["xdirection/4"][0, 0] += 1
    with pytest.raises(DataError, match="other tensors than were written"):
        load_directions(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        del file["xdirection/4"]
    with pytest.raises(DataError, match="lacks tensors of xdirection"):
        load_directions(tmp_path / "d.h5")
    surfaces.full(3, 3).save(tmp_path / "s.h5")
    with pytest.raises(DataError, match="holds no directions"):
        load_directions(tmp_path / "s.h5")
    save_directions(directions(1), tmp_path / "d.h5", overwrite=True)
    with pytest.raises(DataError, match="has no train_loss"):
        Surface.load(tmp_path / "d.h5")


def test_directions_beyond_the_limit_leave_their_digest_and_recipe(tmp_path):
    written = directions(details={"seed": 4})
    save_directions(written, tmp_path / "d.h5", limit=100)
    read = load_directions(tmp_path / "d.h5")
    assert (read.tensors, read.digest) == ((), written.digest)
    assert (read.details, len(read.digest)) == ({"seed": 4}, 16)
    with h5py.File(tmp_path / "d.h5") as file:
        assert "xdirection" not in file


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_a_surface_and_its_directions_share_a_file(tmp_path, ending):
    file = tmp_path / f"s.{ending}"
    surface, along = surfaces.full(4, 3), directions()
    surface.save(file, along)
    surfaces.assert_same(Surface.load(file), surface)
    surfaces.assert_same(load_directions(file), along)
    if ending == "h5":
        with xarray.open_dataset(file, engine="h5netcdf") as opened:
            np.testing.assert_array_equal(opened.train_loss, surface.loss)
    other = tmp_path / ("t.npz" if ending == "h5" else "t.h5")
    convert(file, other)
    surfaces.assert_same(Surface.load(other), surface)
    surfaces.assert_same(load_directions(other), along)


NAMES = {  # by hand from the description of the published code
    "a/net.t7_weights.h5": {},
    "a/net.t7_states_xignore=biasbn_xnorm=filter.h5": {
        "dir_type": "states", "xignore": "biasbn", "xnorm": "filter"},
    "a/net.t7_weights_xnorm=layer_yignore=biasbn_ynorm=filter_same_dir_idx=2.h5": {
        "xnorm": "layer", "yignore": "biasbn", "ynorm": "filter", "same_dir": True,
        "idx": 2, "y": (-1, 1, 5)},
    "a/net.t7_weights_xnorm=filter_idx=1.h5": {
        "xnorm": "filter", "ynorm": "filter", "idx": 1},
    "a/net.t7_other.t7_weights.h5": {"model_file2": "a/other.t7"},
    "r/a_net.t7_b_other.t7_weights.h5": {
        "model_file": "r/a/net.t7", "model_file2": "r/b/other.t7"},
    "a/net.t7_o.t7_statesa/p.t7.h5": {
        "model_file2": "a/o.t7", "model_file3": "a/p.t7", "dir_type": "states",
        "y": (-1, 1, 5), "ynorm": "filter"},
    "a/net.t7_o.t7_weightsb_p.t7.h5": {
        "model_file2": "a/o.t7", "model_file3": "b/p.t7", "y": (-1, 1, 5)},
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_direction_files(name):
    assert direction_file(Flags(**{"model_file": "a/net.t7"} | NAMES[name])) == name


def test_names_of_surface_files():
    flags = Flags(
        model_file="n.t7", x=(-1, 1.5, 51.0), y=(0, 1, 20), raw_data=True,
        data_split=3, split_idx=1,
    )  # fmt: skip
    ending = "_[-1.0,1.5,51]x[0.0,1.0,20]_rawdata_datasplit=3_splitidx=1.h5"
    assert surface_file(flags) == f"n.t7_weights.h5{ending}"
    assert surface_file(flags, "d.h5") == f"d.h5{ending}"
    assert surface_file(Flags(model_file="n")) == "n_weights.h5_[-1.0,1.0,51].h5"


def plane(values=None):
    loss = torch.tensor([[1.0, 2.0, 4.0], [0.0, -0.2, 100.0]], dtype=torch.float64)
    loss = loss if values is None else values
    return Surface(
        coordinates=(tuple(X), tuple(Y)), loss=loss, stderr=loss.abs(), samples=3,
        quantities={"accuracy": Values(values=loss / 7)},
    )  # fmt: skip


def parsed(file):
    piece = ElementTree.parse(file).getroot().find("PolyData/Piece")
    arrays = {
        f"{section.tag}/{array.get('Name')}": np.array(array.text.split(), float)
        for section in piece
        for array in section
    }
    return piece.attrib, arrays


def test_a_vtp_file_has_all_points_and_quadrangles(tmp_path):
    save_vtp(plane(), tmp_path / "s.vtp")
    attributes, arrays = parsed(tmp_path / "s.vtp")
    assert attributes == {
        "NumberOfPoints": "6", "NumberOfVerts": "0", "NumberOfLines": "0",
        "NumberOfStrips": "0", "NumberOfPolys": "2",
    }  # fmt: skip
    points = arrays["Points/Points"].reshape(6, 3)
    expected = [
        [-1, 0, 1], [0, 0, 2], [1, 0, 4], [-1, 0.5, 0], [0, 0.5, -0.2], [1, 0.5, 100],
    ]  # fmt: skip
    assert points.tolist() == expected
    assert arrays["PointData/zvalue"].tolist() == [1, 2, 4, 0, -0.2, 100]
    assert arrays["Polys/connectivity"].tolist() == [0, 1, 4, 3, 1, 2, 5, 4]
    assert arrays["Polys/offsets"].tolist() == [4, 8]
    means = [(1 + 2 + 0 - 0.2) / 4, (2 + 4 - 0.2 + 100) / 4]
    np.testing.assert_allclose(arrays["CellData/averaged zvalue"], means, rtol=1e-15)


def test_a_vtp_file_is_clipped_before_the_logarithm(tmp_path):
    save_vtp(plane(), tmp_path / "s.vtp", zmax=3.0, log=True)
    _, arrays = parsed(tmp_path / "s.vtp")
    heights = [math.log(v + 0.1) for v in (1, 2, 3, 0)] + [NAN, math.log(3.1)]
    np.testing.assert_allclose(arrays["PointData/zvalue"], heights, rtol=1e-15)


def test_vtp_takes_other_quantities_and_refuses_what_it_cannot_draw(tmp_path):
    file = tmp_path / "s.vtp"
    save_vtp(plane(), file, "accuracy")
    assert parsed(file)[1]["PointData/zvalue"][5] == pytest.approx(100 / 7, rel=1e-15)
    with pytest.raises(SettingError, match=r"no 'speed'; .* loss, accuracy"):
        save_vtp(plane(), file, "speed")
    with pytest.raises(SettingError, match="must be of a plane"):
        save_vtp(surfaces.full(6), file)
    with pytest.raises(SettingError, match="at least two points"):
        save_vtp(surfaces.full(1, 5), file)


def test_csv_and_json_have_all_values(tmp_path):
    surface = surfaces.full(4, 3)
    surface.save(tmp_path / "s.h5")
    convert(tmp_path / "s.h5", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert (float(rows[5]["x"]), float(rows[5]["y"])) == (surface.x[1], surface.y[1])
    for name, tensor in {"loss": surface.loss, "stderr": surface.stderr}.items():
        read = [float(row[name]) for row in rows]
        np.testing.assert_array_equal(read, tensor.flatten())
    convert(tmp_path / "s.h5", tmp_path / "s.json")
    read = json.loads((tmp_path / "s.json").read_text())
    assert read["loss"][0][:2] == [None, None]
    assert read["loss"][2] == surface.loss[2].tolist()


def test_any_source_becomes_any_target(tmp_path):
    published(tmp_path / "s.h5")
    expected = Surface.load(tmp_path / "s.h5")
    for source, target in [("s.h5", "a.npz"), ("a.npz", "b.nc"), ("b.nc", "c.h5")]:
        convert(tmp_path / source, tmp_path / target)
        surfaces.assert_same(Surface.load(tmp_path / target), expected)
    convert(tmp_path / "c.h5", tmp_path / "c.vtp")
    assert parsed(tmp_path / "c.vtp")[0]["NumberOfPoints"] == "6"


def test_conversions_that_cannot_be_are_refused(tmp_path):
    published(tmp_path / "s.h5")
    with pytest.raises(DataError, match=r"s\.h5 exists; .*overwrite=True"):
        convert(tmp_path / "s.h5", tmp_path / "s.h5")
    with pytest.raises(SettingError, match=r"must end in .*\.vtp, got 's\.png'"):
        convert(tmp_path / "s.h5", tmp_path / "s.png")
    (tmp_path / "s.csv").write_text("x,loss\n0,1\n")
    with pytest.raises(DataError, match="neither HDF5 nor npz"):
        convert(tmp_path / "s.csv", tmp_path / "t.h5")
    with pytest.raises(DataError, match="there is no file"):
        convert(tmp_path / "none.h5", tmp_path / "t.h5")
