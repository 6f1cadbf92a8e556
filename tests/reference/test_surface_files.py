"""Files of surfaces, opened by h5py and xarray without the library's own reader."""

import contextlib
import dataclasses
import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
import xarray

import surfaces
from steppe.errors import DataError, SettingError, UsageError
from steppe.surfaces import Surface, Values
from steppe.surfaces.files.convert import convert
from steppe.surfaces.files.points import PointFolder

NAN = float("nan")
LOSS = torch.tensor([[3.0, -2.0, NAN], [0.0, NAN, 5.0]], dtype=torch.float64)


def small(**fields):
    """Two rows of three: (0, 2) is not finished, (1, 1) is NaN, (1, 2) interpolated."""
    computed = torch.tensor([[True, True, False], [True, True, False]])
    settings = {
        "coordinates": ((-1.0, 0.0, 2.0), (0.25, 0.75)),
        "loss": LOSS,
        "stderr": LOSS.abs() / 4,
        "samples": 10,
        "computed": computed,
        "quantities": {"accuracy": Values(values=LOSS / 10)},
        "details": {"seed": 3},
    }
    return Surface(**settings | fields)


@pytest.mark.parametrize("ending", ["h5", "nc", "hdf5", "npz", "H5"])
@pytest.mark.parametrize("lengths", [(6,), (4, 3), (1, 5), (3, 2, 4), (2, 3, 1, 2)])
def test_every_field_comes_back_to_the_last_bit(tmp_path, ending, lengths):
    file = tmp_path / "new folder" / f"Fläche 1.{ending}"
    surface = surfaces.full(*lengths)
    surface.save(file)
    surfaces.assert_same(Surface.load(file), surface)
    assert os.listdir(file.parent) == [file.name]


def test_the_surface_of_these_tests_uses_every_field():
    surface = surfaces.full(4, 3)
    for record in (surface, *surface.paths, *surface.arrows):
        for field in dataclasses.fields(record):
            if field.default is not dataclasses.MISSING:
                assert getattr(record, field.name) is not field.default, field.name


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_a_surface_of_little_more_than_losses_comes_back(tmp_path, ending):
    loss = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    surface = Surface(coordinates=((0.0, 0.0),), loss=loss, stderr=loss, samples=2**40)
    surface.save(tmp_path / f"s.{ending}")
    surfaces.assert_same(Surface.load(tmp_path / f"s.{ending}"), surface)


@pytest.mark.parametrize("computed", [None, torch.tensor([True, True])])
def test_files_always_say_which_points_were_evaluated(tmp_path, computed):
    loss = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    axis = ((0.0, 1.0),)
    surface = Surface(
        coordinates=axis, loss=loss, stderr=loss, samples=5, computed=computed
    )
    for ending in ("h5", "npz"):
        surface.save(tmp_path / f"s.{ending}")
        surfaces.assert_same(Surface.load(tmp_path / f"s.{ending}"), surface)
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["computed"][()].tolist() == [True, True]
    assert surface.to_xarray()["computed"].values.tolist() == [True, True]


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_equal_surfaces_give_equal_bytes(tmp_path, ending):
    files = [tmp_path / f"{name}.{ending}" for name in "ab"]
    for file in files:
        surfaces.full(4, 3).save(file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_arrays_have_the_names_and_values_of_the_published_code(tmp_path):
    small().save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["xcoordinates"][()].tolist() == [-1, 0, 2]
        assert file["ycoordinates"][()].tolist() == [0.25, 0.75]
        assert file["xcoordinates"].is_scale
        assert file["train_loss"].dtype == np.float64
        expected = [[3, -2, -1], [0, NAN, 5]]
        np.testing.assert_array_equal(file["train_loss"][()], expected)
        np.testing.assert_array_equal(
            file["train_acc"][()], [[30, -20, -1], [0, NAN, 50]]
        )
        assert file["n_samples"].dtype == np.uint32
        assert file["n_samples"][()].tolist() == [[10, 10, 0], [10, 10, 0]]
        assert file["train_loss"].attrs["_FillValue"].tolist() == [-1]
        assert file.attrs["format"] == "steppe-landscape/1"
        assert '"seed": 3' in file.attrs["recipe"]


def test_its_readers_take_negative_losses_alone_for_unfinished_beside_ours(tmp_path):
    small().save(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5") as file:  # as its plot_2D and its scheduler do
        x, y = np.array(file["xcoordinates"][:]), np.array(file["ycoordinates"][:])
        X, Y = np.meshgrid(x, y)
        Z = np.array(file["train_loss"][:])
        assert X.shape == Y.shape == Z.shape == (2, 3)
        assert (X[1, 2], Y[1, 2], Z[1, 2]) == (2.0, 0.75, 5.0)
        undone = np.array(range(Z.size))[Z.ravel() <= 0]
    assert [(X.ravel()[i], Y.ravel()[i]) for i in undone] == [
        (0, 0.25), (2, 0.25), (-1, 0.75),
    ]  # fmt: skip


@pytest.mark.parametrize("lengths", [(6,), (4, 3), (3, 2, 4)])
def test_xarray_opens_it_with_coordinates_and_unfinished_points_as_nan(
    tmp_path, lengths
):
    surface = surfaces.full(*lengths)
    surface.save(tmp_path / "s.h5")
    with xarray.open_dataset(tmp_path / "s.h5", engine="h5netcdf") as file:
        letters = ["x", "y", "z"][: len(lengths)]
        dims = tuple(f"{letter}coordinates" for letter in reversed(letters))
        assert file.train_loss.dims == dims
        np.testing.assert_array_equal(file.train_loss, surface.loss)
        for name, along in zip(reversed(dims), surface.coordinates, strict=True):
            np.testing.assert_array_equal(file[name], along)
        np.testing.assert_array_equal(file.computed, surface.computed)
        assert file.computed.dtype == bool
        assert file.path_loss.dims == file.proj_xcoord.dims == ("checkpoints",)
        first = surface.paths[0]
        np.testing.assert_array_equal(file.proj_xcoord, first.coordinates[:, 0])
        np.testing.assert_array_equal(file.path_residual, first.residual)
        assert file.xcoordinates.attrs["long_name"] == f"unit {lengths[0]}"


def test_a_loss_of_minus_one_is_not_taken_for_an_unfinished_point(tmp_path):
    surface = small(loss=torch.where(LOSS == 3, -1.0, LOSS))
    surface.save(tmp_path / "s.h5")
    surfaces.assert_same(Surface.load(tmp_path / "s.h5"), surface)
    with xarray.open_dataset(tmp_path / "s.h5", engine="h5netcdf") as file:
        np.testing.assert_array_equal(file.train_loss, surface.loss)


def test_an_accuracy_in_percent_is_the_array_itself(tmp_path):
    percent = {"accuracy": Values(values=LOSS * 9, units="percent")}
    surface = small(quantities=percent)
    surface.save(tmp_path / "s.h5")
    surfaces.assert_same(Surface.load(tmp_path / "s.h5"), surface)
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["train_acc"][0, 0] == 27
        assert "accuracy" not in file


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
    file = tmp_path / "s.h5"
    small().save(file)
    before = file.read_bytes()

    def full_disk(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        small(samples=3).save(file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["s.h5"]


def test_a_file_of_another_recipe_is_replaced_on_demand_alone(tmp_path):
    file = tmp_path / "s.h5"
    small().save(file)
    small(samples=11).save(file)  # the same recipe
    other = small(details={"seed": 4})
    with pytest.raises(DataError, match="seed is 3 in the file and 4 here"):
        other.save(file)
    assert Surface.load(file).samples == 11
    other.save(file, overwrite=True)
    assert Surface.load(file).details == {"seed": 4}
    (tmp_path / "t.h5").write_text("my notes")
    with pytest.raises(DataError, match="neither HDF5"):
        small().save(tmp_path / "t.h5")


@pytest.mark.parametrize("name", ["s.txt", "s", "s.h5.bak"])
def test_other_endings_are_refused(tmp_path, name):
    with pytest.raises(SettingError, match=r"must end in \.h5, \.hdf5, \.nc or \.npz"):
        small().save(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "s.h5").mkdir()
    with pytest.raises(SettingError, match=r"s\.h5 is a folder; name a file"):
        small().save(tmp_path / "s.h5", overwrite=True)
    with pytest.raises(DataError, match="is a folder"):
        Surface.load(tmp_path / "s.h5")


def test_without_h5py_the_way_out_is_said(tmp_path, monkeypatch):
    small().save(tmp_path / "s.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"need h5py, .*\[landscapes\].*\.npz"):
        small().save(tmp_path / "t.h5")
    with pytest.raises(UsageError, match="need h5py"):
        Surface.load(tmp_path / "s.h5")
    small().save(tmp_path / "s.npz")
    surfaces.assert_same(Surface.load(tmp_path / "s.npz"), small())


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_a_file_cut_short_is_refused_in_one_sentence(tmp_path, ending):
    file = tmp_path / f"s.{ending}"
    surfaces.full(4, 3).save(file)
    content = file.read_bytes()
    for length in (0, 7, 100, len(content) // 3, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"^[^\n]*; [^\n]*\.$"):
            Surface.load(file)


def test_damaged_bytes_never_give_another_kind_of_error(tmp_path):
    file = tmp_path / "s.npz"
    surfaces.full(2, 2).save(file)
    content = np.frombuffer(file.read_bytes(), np.uint8)
    draws = np.random.default_rng(0)
    for _ in range(100):
        damaged = content.copy()
        damaged[draws.integers(0, len(content), 20)] = draws.integers(0, 256, 20)
        file.write_bytes(damaged.tobytes())
        with contextlib.suppress(DataError):
            Surface.load(file)


@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_a_changed_bit_of_a_number_is_refused(tmp_path, ending):
    file = tmp_path / f"s.{ending}"
    small(stderr=LOSS + 0.123).save(file)
    content = bytearray(file.read_bytes())
    content[content.index(np.float64(5 + 0.123).tobytes())] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        Surface.load(file)


def test_files_of_others_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*s\.h5"):
        Surface.load(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = np.zeros(3)
    with pytest.raises(DataError, match="it has no train_loss"):
        Surface.load(tmp_path / "s.h5")
    np.savez(tmp_path / "s.npz", images=np.zeros(3))
    with pytest.raises(DataError, match="arrays of another program"):
        Surface.load(tmp_path / "s.npz")
    (tmp_path / "s.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(DataError, match="netCDF of before version 4"):
        Surface.load(tmp_path / "s.nc")


def test_a_later_format_and_a_missing_array_are_refused(tmp_path):
    file = tmp_path / "s.h5"
    small().save(file)
    with h5py.File(file, "r+") as opened:
        del opened["train_loss_se"]
    with pytest.raises(DataError, match=r"no whole surface .*train_loss_se"):
        Surface.load(file)
    with h5py.File(file, "r+") as opened:
        opened.attrs["format"] = "steppe-landscape/9"
    with pytest.raises(DataError, match="the format 'steppe-landscape/9'"):
        Surface.load(file)


def test_readers_do_not_wait_for_whoever_has_the_file_open(tmp_path):
    file = tmp_path / "s.h5"
    small().save(file)
    code = (
        "import h5py, sys\n"
        "with h5py.File(sys.argv[1], 'r+') as file:\n"
        "    print('open', flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout.readline() == "open\n"
        surfaces.assert_same(Surface.load(file), small())
        small(samples=3).save(file)
        holder.communicate("\n")
    assert Surface.load(file).samples == 3
    with h5py.File(file, "r+"), xarray.open_dataset(file, engine="h5netcdf"):
        assert Surface.load(file).samples == 3


@pytest.mark.parametrize("lengths", [(6,), (4, 3), (3, 2, 4)])
def test_the_data_set_of_xarray_is_the_one_that_it_reads_from_the_file(
    tmp_path, lengths
):
    surface = surfaces.full(*lengths)
    surface.save(tmp_path / "s.nc")
    with xarray.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as file:
        xarray.testing.assert_identical(surface.to_xarray(), file)
        assert list(surface.to_xarray()) == list(file)
    assert surface.to_xarray().train_loss.dtype == np.float64


def test_without_xarray_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(UsageError, match="pip install xarray"):
        small().to_xarray()


@pytest.mark.parametrize("ending", ["h5", "npz", "csv"])
def test_a_folder_of_points_is_converted(tmp_path, ending):
    about = {"samples": 3, "units": {}, "axes": [""], "details": {}}
    folder = PointFolder(tmp_path / "points", {"seed": 1}, about)
    numbers = {"stderr": 0.1, "rise_stderr": 0.0, "subset_stderr": 0.0}
    values = [{"loss": loss, **numbers, "quantities": {}} for loss in (2.0, 1.0)]
    folder.add([(0.0,), (1.0,)], values)
    convert(tmp_path / "points", tmp_path / f"s.{ending}")
    if ending != "csv":
        assert Surface.load(tmp_path / f"s.{ending}").loss.tolist() == [2, 1]
