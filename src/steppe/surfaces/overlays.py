"""Overlays of surfaces: trajectories of checkpoints, and arrows.

Shape letters: T checkpoints, K axes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steppe.errors import SettingError
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table, with_error

# Tensors of a trajectory beside the coordinates, shape (T,) each.
COLUMNS = (
    "residual",
    "relative_residual",
    "loss",
    "stderr",
    "projected_loss",
    "projected_stderr",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Trajectory(AbstractTabulated):
    """Checkpoints in the coordinates of a subspace, and their distance from it.

    The loss is that of the checkpoint itself; the surface below the same coordinates
    has the projected loss, which differs as far as the checkpoint is off the subspace.
    """

    coordinates: Tensor  # (T, K) float64, x first
    residual: Tensor  # (T,) distance to the nearest point of the subspace
    # (T,) the residual over the distance to the base point; 0 at the base point.
    relative_residual: Tensor
    name: str = ""  # in legends; such as that of the run
    labels: tuple[str, ...] = ()  # of the checkpoints, such as "epoch 3"
    loss: Tensor | None = None  # (T,) mean loss at the checkpoints
    stderr: Tensor | None = None  # (T,) its standard error over the samples
    projected_loss: Tensor | None = None  # (T,) at the nearest points of the subspace
    projected_stderr: Tensor | None = None  # (T,)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.coordinates.dim() != 2:
            raise SettingError(
                "coordinates of a trajectory must have the shape (T, K), T checkpoints "
                f"on K axes, got {tuple(self.coordinates.shape)}."
            )
        count = len(self.coordinates)
        for name, column in self.columns().items():
            if tuple(column.shape) != (count,):
                raise SettingError(
                    f"{name} must have the shape ({count},), a number for each "
                    f"checkpoint, got {tuple(column.shape)}."
                )
        if self.labels and len(self.labels) != count:
            raise SettingError(
                f"labels must be one text for each of {count} checkpoints, got "
                f"{len(self.labels)}."
            )

    def columns(self) -> dict[str, Tensor]:
        """All tensors of shape (T,) that there are, by name."""
        named = {name: getattr(self, name) for name in COLUMNS}
        return {name: column for name, column in named.items() if column is not None}

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = {
            "name": self.name,
            "labels": self.labels,
            "coordinates": self.coordinates,
            **self.columns(),
            "details": self.details,
        }
        return {name: plain(value) for name, value in fields.items()}

    def table(self) -> Table:
        """One row for each checkpoint."""
        axes = [f"axis {i + 1}" for i in range(self.coordinates.shape[1])]
        head = ["checkpoint", *axes, "off the subspace"]
        if self.loss is not None:
            head.append("loss")
        return Table(tuple(head), [self._cells(i) for i in range(len(self.residual))])

    def _cells(self, index: int) -> list[str]:
        label = self.labels[index] if self.labels else str(index)
        cells = [label, *(f"{c:.5g}" for c in self.coordinates[index].tolist())]
        cells.append(f"{100 * float(self.relative_residual[index]):.3g} %")
        if self.loss is not None:
            error = 0.0 if self.stderr is None else float(self.stderr[index])
            cells.append(with_error(float(self.loss[index]), error))
        return cells


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A displacement from a point of a subspace, projected onto it."""

    start: tuple[float, ...]  # K coordinates
    vector: tuple[float, ...]  # K coordinates of the nearest displacement within
    # Share of the norm that points out of the subspace: sqrt(1 - cos^2) of the angle
    # between the displacement and the subspace; NaN of a displacement by nothing.
    outside: float
    norm: float = math.nan  # of the whole displacement in parameter space
    name: str = ""  # such as "negative gradient"

    def __post_init__(self) -> None:
        if len(self.start) != len(self.vector):
            raise SettingError(
                "an arrow must have as many coordinates at its start as in its vector, "
                f"got {len(self.start)} and {len(self.vector)}."
            )

    @property
    def end(self) -> tuple[float, ...]:
        """Coordinates of the tip."""
        return tuple(a + b for a, b in zip(self.start, self.vector, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        return {name: plain(value) for name, value in vars(self).items()}
