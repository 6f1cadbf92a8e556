"""The mean loss at points of a subspace.

Shape letters: X points along the first axis, Y along the second, and so on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table
from steppe.surfaces.overlays import Arrow, Trajectory

if TYPE_CHECKING:
    import xarray

    from steppe.surfaces.files.directions import Directions

ERRORS = ("rise_stderr", "subset_stderr")  # that a surface may have
LETTERS = "xyz"  # of axes; further ones are x4, x5, ...


def letters_of(axes: int) -> tuple[str, ...]:
    """Names of a number of axes: x, y, z, x4, x5, ..."""
    further = (f"x{i + 1}" for i in range(len(LETTERS), axes))
    return (*LETTERS[:axes], *further)


@dataclass(frozen=True, kw_only=True)
class Values:
    """A quantity at all points of a surface, beside the loss."""

    values: Tensor  # shaped like the loss, float64; NaN where it was not evaluated
    stderr: Tensor | None = None  # standard errors over the samples, same shape
    units: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Surface(AbstractTabulated):
    """Mean loss at points of a subspace; the stderr is over the data samples.

    Tensors have one dimension for each axis and the first axis last, as pictures have
    them: (X,) on a line, (Y, X) on a plane, (Z, Y, X) in a box.
    """

    coordinates: tuple[tuple[float, ...], ...]  # of each axis, x first
    loss: Tensor  # (..., Y, X) float64; NaN and inf stay
    stderr: Tensor  # same shape, standard error of the mean loss over the samples
    samples: int  # loss terms that each point is a mean over; 0 where not known
    rise_stderr: Tensor | None = None  # of the loss minus that at the base point
    # Of the loss on a part of the samples against that on all of them; 0 with all.
    subset_stderr: Tensor | None = None
    computed: Tensor | None = None  # bool; False where interpolated; None: nowhere
    quantities: Mapping[str, Values] = field(default_factory=dict)  # beside the loss
    axes: tuple[str, ...] = ()  # of each axis, its unit in words
    paths: tuple[Trajectory, ...] = ()  # figures draw them on the surface
    arrows: tuple[Arrow, ...] = ()  # likewise
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(len(along) for along in reversed(self.coordinates))
        for name in ("loss", "stderr", *ERRORS, "computed"):
            tensor = getattr(self, name)
            if tensor is not None and tuple(tensor.shape) != shape:
                raise SettingError(
                    f"{name} must have shape {shape}, one length for each axis and x "
                    f"last, got {tuple(tensor.shape)}."
                )
        for path in self.paths:
            self._check_axes(path.coordinates.shape[1], "trajectory")
        for arrow in self.arrows:
            self._check_axes(len(arrow.start), "arrow")

    @property
    def x(self) -> tuple[float, ...]:
        """Coordinates along the first axis, X of them."""
        return self.coordinates[0]

    @property
    def y(self) -> tuple[float, ...]:
        """Coordinates along the second axis, Y of them.

        Raises:
            SettingError: a surface of one axis.
        """
        return self._along(1)

    @property
    def z(self) -> tuple[float, ...]:
        """Coordinates along the third axis.

        Raises:
            SettingError: a surface of fewer axes.
        """
        return self._along(2)

    @property
    def unfinished(self) -> Tensor:
        """Where points are neither evaluated nor interpolated; bool, as the loss."""
        if self.computed is None:
            return torch.zeros_like(self.loss, dtype=torch.bool)
        return ~self.computed & self.loss.isnan()

    @property
    def letters(self) -> tuple[str, ...]:
        """Names of the axes: x, y, z, x4, ..."""
        return letters_of(len(self.coordinates))

    @property
    def off_base(self) -> bool:
        """Whether it is a slice beside the base point, which has no 0 of its own."""
        return any(self.details.get("slice", {}).values())

    def slice(self, **at: float) -> Surface:
        """The line, plane or box at a coordinate of some axes, without these axes.

        Axes of a single coordinate are left out too. The axes that stay are called x,
        y, ... again; their units and the "slice" of the details say which they were.
        Trajectories and arrows stay behind.

        Args:
            **at: a coordinate of the grid by the letter of its axis, such as z=0.0.

        Raises:
            SettingError: no such axis or coordinate, or no axis that stays.

        Example:
            >>> import torch
            >>> loss = torch.arange(8.0).reshape(2, 2, 2)
            >>> axes = ((0.0, 1.0),) * 3
            >>> box = Surface(coordinates=axes, loss=loss, stderr=loss, samples=1)
            >>> box.slice(z=1.0).loss.tolist()
            [[4.0, 5.0], [6.0, 7.0]]
        """
        from steppe.surfaces.slices import slice_of

        return slice_of(self, at)

    def with_path(self, path: Trajectory) -> Surface:
        """The same surface with one more trajectory.

        Raises:
            SettingError: a trajectory on another number of axes.
        """
        return replace(self, paths=(*self.paths, path))

    def with_arrow(self, arrow: Arrow) -> Surface:
        """The same surface with one more arrow.

        Raises:
            SettingError: an arrow on another number of axes.
        """
        return replace(self, arrows=(*self.arrows, arrow))

    def save(
        self,
        path: str | PathLike[str],
        directions: Directions | None = None,
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the surface to a file, whole or not at all.

        Every field comes back bit for bit from `load`; NaN, inf and negative losses do
        too. Files of HDF5 open as netCDF-4, and in readers of the published code of Li
        et al., 2018, arXiv:1712.09913, whose names they have.

        Args:
            path: with the ending .h5, .hdf5 or .nc for HDF5, which needs h5py, or .npz
                for numpy's own format. Missing folders are made.
            directions: of the subspace, such as `plane.stored()`; beyond 256 MB their
                digest and recipe are written alone.
            overwrite: replace a file of another recipe too.

        Raises:
            SettingError: another ending, or a folder.
            DataError: a file that is no surface, or one whose details differ.
            UsageError: h5py is not installed.
            OSError: no space, or no right to write; a file there stays.
        """
        from steppe.surfaces.files.surface_file import save_surface

        save_surface(self, path, directions, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Surface:
        """Read a surface from a file of `save`, or of the published code of Li et al.

        Points that are not finished are NaN, and False in `computed`. A folder of
        points that `landscape(..., out=...)` writes gives those finished so far.

        Raises:
            DataError: no such file, none with a surface, or a damaged one.
            UsageError: h5py is not installed.
        """
        from steppe.surfaces.files.surface_file import load_surface

        return load_surface(path)

    def to_xarray(self) -> xarray.Dataset:
        """The surface as a data set of xarray, with the names of its HDF5 file.

        Dimensions are xcoordinates, ycoordinates, ...; the loss is `train_loss`, and
        points that are not finished are NaN.

        Raises:
            UsageError: xarray is not installed.
        """
        from steppe.surfaces.files.labelled import dataset_of

        return dataset_of(self)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        axes = dict(zip(self.letters, self.coordinates, strict=True))
        quantities = {
            name: {"values": q.values, "stderr": q.stderr, "units": q.units}
            for name, q in self.quantities.items()
        }
        known = {
            **self._further_errors(),
            **({} if self.computed is None else {"computed": self.computed}),
            **({"quantities": quantities} if quantities else {}),
            **({"axes": self.axes} if self.axes else {}),
            **({"paths": self.paths} if self.paths else {}),
            **({"arrows": self.arrows} if self.arrows else {}),
        }
        fields = {
            **axes,
            "loss": self.loss,
            "stderr": self.stderr,
            "samples": self.samples,
            **known,
            "details": self.details,
        }
        return {name: plain(value) for name, value in fields.items()}

    def rows(self) -> list[dict[str, Any]]:
        """One row for each point, x changing fastest."""
        columns: dict[str, Any] = {"loss": self.loss, "stderr": self.stderr}
        columns |= self._further_errors()
        if self.computed is not None:
            columns["computed"] = self.computed
        for name, quantity in self.quantities.items():
            columns[name] = quantity.values
            if quantity.stderr is not None:
                columns[f"{name}_stderr"] = quantity.stderr
        points = itertools.product(*reversed(self.coordinates))
        lists = [column.flatten().tolist() for column in columns.values()]
        return [
            dict(zip(self.letters, reversed(point)))
            | dict(zip(columns, numbers, strict=True))
            for point, *numbers in zip(points, *lists, strict=True)
        ]

    def table(self) -> Table:
        """One row for each point."""
        letters = self.letters
        cells = [
            [f"{row[name]:.5g}" for name in (*letters, "loss", "stderr")]
            for row in self.rows()
        ]
        return Table((*letters, "loss", "standard error"), cells)

    def _check_axes(self, count: int, kind: str) -> None:
        if count != len(self.coordinates):
            raise SettingError(
                f"the {kind} has {count} axes and the surface {len(self.coordinates)}; "
                "project onto the subspace that the surface is of."
            )

    def _further_errors(self) -> dict[str, Tensor]:
        known = {name: getattr(self, name) for name in ERRORS}
        return {name: error for name, error in known.items() if error is not None}

    def _along(self, axis: int) -> tuple[float, ...]:
        if axis < len(self.coordinates):
            return self.coordinates[axis]
        raise SettingError(
            f"a surface of {len(self.coordinates)} axes has no {LETTERS[axis]}; "
            "evaluate a plane or a box for more."
        )
