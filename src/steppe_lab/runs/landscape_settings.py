"""Settings of landscapes, importable without torch so that `--help` is quick."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steppe.errors import SettingError
from steppe_lab.training.settings import SEEDS

Dirs = Literal["random", "models", "eigen", "pca", "file"]
Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "none"]
Picture = Literal["contour", "contourf", "heat", "surface"]

# Networks that a subspace is made from, and the subspace where nothing is said.
DEFAULT_DIRS = {1: "random", 2: "models", 3: "models"}
DEFAULT_DIMS = {1: 2, 2: 1, 3: 2}
MOST = 100_001  # coordinates of an axis
FORM = "START:STOP:COUNT as -1:1:51, coordinates as -1,0,1, auto or auto:COUNT"
AUTO: Literal["auto"] = "auto"
Coordinates = (
    tuple[float, float, int]
    | list[float]
    | Literal["auto"]
    | tuple[Literal["auto"], int]
)


class PictureSettings(BaseModel):
    """How surfaces are drawn."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    pictures: tuple[Picture, ...] = ("contour",)
    """Pictures of a plane: lines of equal loss, the same filled, a heat map, or a
    shaded surface; several have their name before the ending of the file."""
    quantity: str = "loss"
    """The quantity that is drawn: loss, rise (the loss minus that at the checkpoint),
    stderr, or one of --quantities."""
    log: bool = False
    """Levels spread over decades; without it wherever the range asks for that."""
    vmin: float | None = None
    """Least level; published pictures have 0.1."""
    vmax: float | None = None
    """Largest level; published pictures have 10."""
    vlevel: float | None = Field(default=None, gt=0)
    """Distance of the levels; published pictures have 0.5."""

    @field_validator("pictures")
    @classmethod
    def _once(cls, value: tuple[Picture, ...]) -> tuple[Picture, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError(f"name each of --pictures once, got {' '.join(value)}.")
        return value


class LandscapeSettings(BaseModel):
    """Settings that the loss around networks follows from, beside the networks."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    dirs: Dirs | None = None
    """Where the axes lead: in random directions (the default for one network), to the
    other networks (for two and three), along eigenvectors of the Hessian, along
    principal components of --checkpoints, or along the directions of --dir-file."""
    eigenvectors: tuple[int, ...] = ()
    """For dirs=eigen, which eigenvectors: 0 of the largest eigenvalue, 1 of the next,
    -1 of the smallest. The default is 0, and 1 for a second axis."""
    lr: float | None = Field(default=None, gt=0)
    """For dirs=eigen, a learning rate: a coordinate of 1 is the mean step of SGD along
    the eigenvector. The default is a distance of 1."""
    checkpoints: tuple[Path, ...] = ()
    """Checkpoints of a training in their order: files, or the folder of a run with all
    that it kept. Components go along them and the network, which is their end and
    counts once where a file has the same weights; the picture has their path."""
    dims: Literal[1, 2] | None = None
    """Axes: 1 for a line, 2 for a plane. The default is a plane around one network and
    through three, and a line between two."""
    x: str = ""
    """Coordinates along the first axis: -1:1:51 for 51 from -1 to 1; a list as -1,0,1;
    or auto, or auto:33, for a range that ends where the loss is ten times as large. The
    default is 51 over a range that suits the axis."""
    y: str = ""
    """The same along the second axis of a plane."""
    norm: Norm = "filter"
    """Length of a random direction: that of each filter of the network, of each tensor,
    or entry by entry a multiple of the weights; 1 for each filter or each tensor; or as
    it was drawn."""
    ignore: tuple[str, ...] = ()
    """Tensors that directions leave where they are: biasbn for biases and batch norm,
    the default of random ones; none; or patterns of names, such as head.*."""
    y_norm: Norm | None = None
    """The norm of the second random direction, where it is another."""
    y_ignore: tuple[str, ...] = ()
    """The same for --ignore."""
    same_dir: bool = False
    """Both random directions are the same one."""
    of: Literal["parameters", "states"] = "parameters"
    """What random directions move: parameters, or running statistics too."""
    orthogonal: bool = False
    """Take the projection on the first direction out of the second one."""
    unit: Literal["direction", "absolute"] = "direction"
    """A coordinate of 1 is the whole direction, or a distance of 1."""
    dir_file: Path | None = None
    """A file with directions, of steppe or of the published landscape code: that of
    directions alone, or of a surface."""
    batch_norm: Literal["freeze", "interpolate", "reestimate"] | None = None
    """Running statistics at a point: those of the first network (the default around
    one), those between the networks, or re-estimated on the samples, for a pass more at
    each point (the default between networks)."""
    tolerance: float = Field(default=0.01, gt=0)
    """Points are evaluated until the others can be interpolated with a relative error
    of this, root mean square over points that are left out of the interpolation."""
    exact: bool = False
    """Evaluate all points."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of passes through a network of float32. With bfloat16 losses change by
    some tenths of a percent."""
    compile: bool = False
    """Compile the passes, which pays in long jobs alone."""
    data_samples: int = Field(default=10_000, ge=1)
    """Samples that are read, at most; the loss of the checkpoint is that of all of
    them."""
    samples: int = Field(default=2000, ge=1)
    """Samples of those that other points are evaluated on, at most: the same ones
    everywhere, so that their rise above the checkpoint is the more accurate the nearer
    they are."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    also_test: bool = False
    """The loss of test samples too, as the quantity test_loss, and with --quantities
    accuracy test_accuracy, at the same points."""
    quantities: tuple[str, ...] = ()
    """Beside the loss, with commas or blanks between them: accuracy, class_losses;
    gradient_norm, top_eigenvalue, smallest_eigenvalue and eigenvalue_ratio, which take
    much longer."""
    every: int = Field(default=1, ge=1)
    """Gradients and eigenvalues at every so many points along each axis alone."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of random directions, and of the draw of samples."""

    @field_validator("quantities")
    @classmethod
    def _parted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for text in value for name in text.split(",") if name)

    @model_validator(mode="after")
    def _fits(self) -> LandscapeSettings:
        for letter in ("x", "y"):
            read_coordinates(getattr(self, letter), letter)
        if self.y and self.dims == 1:
            raise SettingError(f"a line has no y, got y={self.y} and dims=1.")
        if self.also_test and self.part == "test":
            raise SettingError(
                "also_test sets test samples beside those of training, got part=test; "
                "leave one of them out."
            )
        return self

    def subspace(self, networks: int) -> tuple[str, int]:
        """Kind of the directions and number of axes.

        Args:
            networks: that are given.

        Raises:
            SettingError: such a subspace needs another number of networks.
        """
        default = "file" if self.dir_file else DEFAULT_DIRS[networks]
        dirs = self.dirs or default
        dims = self.dims or (2 if self.y else DEFAULT_DIMS[networks])
        # A second axis may be random where no third network is.
        needed = {2} if dims == 1 else {2, 3}
        if dirs == "models" and networks not in needed:
            raise SettingError(
                f"dirs=models with {dims} axes needs {max(needed)} checkpoints, got "
                f"{networks}."
            )
        if dirs != "models" and networks > 1:
            raise SettingError(
                f"dirs={dirs} goes around one checkpoint, got {networks}; leave dirs "
                "out for the line or plane through them."
            )
        if (dirs == "file") != (self.dir_file is not None):
            raise SettingError(f"dirs=file and dir_file go together, got dirs={dirs}.")
        if dirs == "pca" and not self.checkpoints:
            raise SettingError(
                "dirs=pca needs checkpoints of a training; give --checkpoints."
            )
        if dirs != "eigen" and (self.eigenvectors or self.lr):
            raise SettingError(
                f"eigenvectors and lr go with dirs=eigen, got dirs={dirs}."
            )
        if self.eigenvectors and len(self.eigenvectors) != dims:
            raise SettingError(
                f"eigenvectors must be one for each of {dims} axes, got "
                f"{len(self.eigenvectors)}."
            )
        return dirs, dims


def read_coordinates(text: str, letter: str) -> Coordinates | None:
    """Coordinates along an axis, as `steppe.landscape` takes them; None where unsaid.

    Example:
        >>> read_coordinates("-1:1:51", "x"), read_coordinates("-1,0,1", "x")
        ((-1.0, 1.0, 51), [-1.0, 0.0, 1.0])

    Raises:
        SettingError: a text that is neither, or numbers out of range.
    """
    if not text:
        return None
    start, colon, rest = text.partition(":")
    if text == AUTO:
        return AUTO
    try:
        if start == AUTO:
            return AUTO, int(rest)
        if not colon:
            places = [float(piece) for piece in text.split(",")]
            if all(map(math.isfinite, places)):
                return places
        else:
            stop, _, count = rest.partition(":")
            low, high, points = float(start), float(stop), int(float(count))
            if points == float(count) and math.isfinite(low) and math.isfinite(high):
                return _checked(low, high, points, letter)
    except (ValueError, OverflowError) as error:
        if isinstance(error, SettingError):
            raise
    raise SettingError(f"{letter} takes {FORM}, got '{text}'.")


def _checked(
    low: float, high: float, count: int, letter: str
) -> tuple[float, float, int]:
    if not low < high:
        raise SettingError(
            f"{letter} must start below its stop, got {low:g} and {high:g}."
        )
    if not 2 <= count <= MOST:
        raise SettingError(
            f"{letter} must have from 2 to {MOST:,} coordinates, got {count}."
        )
    return low, high, count
