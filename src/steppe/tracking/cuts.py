"""The loss along the sharpest directions, cut through at every measurement.

Source: Jastrzebski et al., 2019, arXiv:1807.05031, and its code, whose names and
coordinates these are. Differences: minibatches weigh by their samples, and a row holds
standard errors too.

Shape letters: R rows, X coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError, SettingError, brief, check_count, check_integer
from steppe.landscapes.directions.eigen import (
    EigenUnit,
    check_batches,
    check_unit,
    chosen_vectors,
    step_lengths,
)
from steppe.landscapes.evaluation.grid import coordinates_of
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.eigen import UNITS
from steppe.landscapes.subspaces.line import Line
from steppe.objective import Objective
from steppe.results import Eigenpairs
from steppe.surfaces import Surface

COORDINATES = tuple(
    sorted({0.0, *(sign * 2.0**k for sign in (-1, 1) for k in range(-2, 5))})
)
FILE = "loss_surfaces.npz"
CURVES = ("loss", "stderr", "rise_stderr")  # of a cut, shape (X,) each
FACTS = ("scale", "eigenvalue")  # of a cut, a number each
Cut = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """Settings of cuts along the eigenvectors that a tracker follows.

    Args:
        lr: learning rate of a step, or a function that gives the present one; with the
            unit "step" alone.
        minibatches: the batches of such a step, an objective of the model in training,
            or a function that makes one for each measurement; None for the batches of
            the tracker's own objective.
        indices: of the eigenvectors, 0 the sharpest; None for all that are followed.
        coordinates: along each, in units.
        unit: of the coordinates: "step" is the mean length lr |g.v| of a step of plain
            SGD along the eigenvector v ("by_grad_norm_lr" in the authors' code, or
            "by_grad_norm_<lr>"), "absolute" the distance in parameter space, a number
            that length.
        count: of the minibatches that this length is averaged over.

    Raises:
        SettingError: a setting out of range.
    """

    lr: float | Callable[[], float] | None = None
    minibatches: Objective | Callable[[], Objective] | None = None
    indices: Sequence[int] | None = None
    coordinates: Sequence[float] = COORDINATES
    unit: EigenUnit = "step"
    count: int = 10

    def __post_init__(self) -> None:
        check_unit(self.unit, 1.0 if callable(self.lr) else self.lr)
        check_count("count", self.count, 1)
        coordinates_of(self.coordinates, "coordinates")  # refuses others
        for index in self.indices or ():
            check_integer("indices", index)

    def check_followed(self, k: int) -> None:
        """Refuse directions that a tracker of k eigenpairs does not follow."""
        for index in self.indices or ():
            if not 0 <= index < k:
                raise SettingError(
                    f"indices of cuts must be from 0 to {k - 1} with k={k}, got "
                    f"{index}; follow more with a larger k."
                )

    @property
    def along(self) -> tuple[float, ...]:
        """The coordinates one by one."""
        return coordinates_of(self.coordinates, "coordinates")

    def through(
        self, objective: Objective, pairs: Eigenpairs, number: int
    ) -> dict[int, Cut]:
        """The loss along the eigenvectors at the present parameters.

        Args:
            objective: the mean loss; its model comes back bit for bit.
            pairs: eigenpairs there.
            number: of the measurement, which minibatches are drawn by.

        Returns:
            For each index the "scale", which is the length of a unit, and the curves
            "loss", "stderr" and "rise_stderr", shape (X,). They are NaN where gradients
            have no part along the eigenvector, so that a step has no length.
        """
        indices = self._present(pairs)
        along = self.along
        cuts: dict[int, Cut] = {}
        lengths = self._lengths(objective, pairs, indices, number)
        for index, length in zip(indices, lengths, strict=True):
            nowhere = torch.full(
                (len(along),), math.nan, dtype=torch.float64, device="cpu"
            )
            cut: dict[str, Any] = dict.fromkeys(CURVES, nowhere)
            if length > 0 and math.isfinite(length):
                line = Line.eigen(
                    objective, index, pairs=pairs, unit=length, allow_unconverged=True
                )
                surface = landscape(
                    objective, line, x=list(along), samples="all", exact=True
                )
                cut = {name: getattr(surface, name) for name in CURVES}
            cuts[index] = {**cut, "scale": length}
        return cuts

    def _present(self, pairs: Eigenpairs) -> list[int]:
        """Indices of the pairs; a small network may have fewer than were asked for."""
        count = len(pairs.values)
        wanted = range(count) if self.indices is None else self.indices
        return [index for index in wanted if index < count]

    def _lengths(
        self,
        objective: Objective,
        pairs: Eigenpairs,
        indices: Sequence[int],
        number: int,
    ) -> list[float]:
        if self.unit == "absolute":
            return [1.0] * len(indices)
        if not isinstance(self.unit, str):
            return [float(self.unit)] * len(indices)
        given = self.minibatches
        source = (
            objective
            if given is None
            else (given if isinstance(given, Objective) else given())
        )
        check_batches(objective, source)
        lr = self.lr() if callable(self.lr) else self.lr
        assert lr is not None
        vectors = chosen_vectors(pairs, indices, allowed=True)
        lengths, _ = step_lengths(source, vectors, lr, self.count, seed=number)
        return lengths.tolist()


def row_of(cuts: Mapping[int, Cut]) -> dict[str, float]:
    """The lengths of a unit, as columns `scale_<i>` of a tracker's row."""
    return {f"scale_{index}": float(cut["scale"]) for index, cut in cuts.items()}


def arrays_of(
    measured: Sequence[Mapping[int, Cut]],
    rows: Sequence[Mapping[str, float]],
    settings: Cuts,
    samples: int,
) -> dict[str, Any]:
    """All cuts as arrays of a file, under the names of the authors' code.

    Args:
        measured: cuts of the R measurements.
        rows: of the tracker; the last R of them have cuts.
        settings: of the cuts, with X coordinates.
        samples: loss terms that each value is a mean over.

    Returns:
        `eps` of shape (X,) and its `unit` in words, `epoch` and `step` of shape (R,),
        and for each index `loss_curve_<i>`, `stderr_<i>` and `rise_stderr_<i>` of shape
        (R, X), and `scale_<i>` and `eigenvalue_<i>` of shape (R,).
    """
    # A training that was begun without cuts has rows before the first of them.
    cut = rows[len(rows) - len(measured) :]
    arrays: dict[str, Any] = {
        "eps": np.array(settings.along, dtype=float),
        "unit": np.array(UNITS.get(settings.unit, f"lengths of {settings.unit}")),
        "epoch": np.array([row["epoch"] for row in cut]),
        "step": np.array([row["step"] for row in cut]),
        "samples": np.array(samples),
        "index": np.array(sorted(measured[0])),
    }
    names = dict(zip(CURVES, ("loss_curve", "stderr", "rise_stderr"), strict=True))
    for index in measured[0]:
        for name, written in names.items():
            curves: list[Tensor] = [cuts[index][name] for cuts in measured]
            arrays[f"{written}_{index}"] = torch.stack(curves).cpu().numpy()
        arrays[f"scale_{index}"] = np.array([cuts[index]["scale"] for cuts in measured])
        values = [row[f"top_K_e/{index}"] for row in cut]
        arrays[f"eigenvalue_{index}"] = np.array(values)
    return arrays


def read_cuts(path: str | Path) -> dict[int, list[Surface]]:
    """Cuts that a tracker has written, as lines that figures draw.

    Args:
        path: of `loss_surfaces.npz`, or its folder.

    Returns:
        For each index the surface of one axis of every measurement; its details hold
        the epoch, the step, the scale and the eigenvalue.

    Raises:
        DataError: no such file, or another one.
    """
    place = Path(path)
    place = place / FILE if place.is_dir() else place
    try:
        with np.load(place, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file}
        return {
            int(i): [_line(arrays, int(i), r) for r in range(len(arrays["epoch"]))]
            for i in arrays["index"]
        }
    except (OSError, ValueError, LookupError, EOFError, TypeError) as error:
        raise DataError(
            f"{place} cannot be read as cuts along eigenvectors ({brief(error)}); give "
            f"a {FILE} of a training with --track cuts."
        ) from error


def _line(arrays: Mapping[str, Any], index: int, row: int) -> Surface:
    curves = [
        torch.from_numpy(arrays[f"{name}_{index}"][row].copy())
        for name in ("loss_curve", "stderr", "rise_stderr")
    ]
    facts = {name: float(arrays[f"{name}_{index}"][row]) for name in FACTS}
    return Surface(
        coordinates=(tuple(arrays["eps"].tolist()),),
        loss=curves[0],
        stderr=curves[1],
        rise_stderr=curves[2],
        samples=int(arrays["samples"]),
        axes=(f"{arrays['unit']} along eigenvector {index + 1}",),
        details={
            "subspace": "eigen",
            "index": [index],
            "epoch": int(arrays["epoch"][row]),
            "step": int(arrays["step"][row]),
            **facts,
        },
    )
