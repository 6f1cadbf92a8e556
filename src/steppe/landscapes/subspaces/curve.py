"""Curves between two networks, such as those along which the loss stays low.

Source: Garipov et al., 2018, arXiv:1802.10026, Equations 1, 2 and 4 (chains and Bezier
curves) and section 3; the published code for chains of several bends, the plane of a
bend and the statistics along a curve. Differences: a curve goes on beyond its ends, a
chain along its first and last piece; the ends are the networks bit for bit.

Shape letters: P parameter tensors, K control points after the first, T points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from steppe.errors import SettingError, UsageError, brief, check_count
from steppe.landscapes.subspaces.abstract import Axis, Subspace
from steppe.landscapes.subspaces.arcs import bezier_length
from steppe.landscapes.subspaces.control_points import ControlPoints, CurveKind
from steppe.landscapes.subspaces.curve_file import curve_at, save_curve
from steppe.landscapes.subspaces.fitting import MakeOptimizer, fitted
from steppe.landscapes.subspaces.networks import Network, through_networks
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective
from steppe.parameters import between
from steppe.surfaces import Surface, Trajectory

# Around the curve in the plane of its bend, where 0.2 was published: grids of 7, 13 and
# 25 points hold both ends, exactly.
MARGIN = 0.25
SQUARES_ROUND = 1e-6  # of squared distances in float32
TINY = 1e-300
ROUNDING = 1e-6  # a bend this share of the length off the line has no direction


@dataclass(frozen=True)
class CurveStatistics:
    """Values along a curve in four numbers."""

    minimum: float
    maximum: float
    mean: float  # of the values at the coordinates given
    arc_mean: float  # integral over the length, by the trapezoidal rule, per length


@dataclass(frozen=True, kw_only=True, repr=False)
class Curve(Subspace):
    """Points `base + sum of coefficients(t) * directions`, with t from 0 to 1.

    The base is one network, and the last direction leads to the other one. Directions
    before it lead to the bends, which `fit` moves. Bends have no running statistics of
    batch norm: `landscape` re-estimates them at every point.
    """

    losses: tuple[float, ...] = ()  # of the fit, one for each step
    recipe: Mapping[str, Any] = field(default_factory=dict)  # that a fit follows from

    dimensions: ClassVar[int] = 1

    @classmethod
    def bezier(cls, model_a: Network, model_b: Network, bends: int = 1) -> Curve:
        """The Bezier curve from one model (0) to another (1), straight before `fit`.

        Args:
            model_a: a network or an objective of one; its parameters that require a
                gradient move.
            model_b: the same, or a state_dict.
            bends: number of control points between the models, >= 1.

        Raises:
            SettingError: no bend, or models that differ in the names or shapes of
                parameters or buffers, or in a parameter that is frozen in `model_a`.
        """
        return cls._straight("bezier", model_a, model_b, bends)

    @classmethod
    def polychain(cls, model_a: Network, model_b: Network, bends: int = 1) -> Curve:
        """The polygonal chain from one model (0) to another (1); see `bezier`.

        All its pieces take the same share of the coordinate: with one bend, that is at
        1/2.
        """
        return cls._straight("polychain", model_a, model_b, bends)

    @classmethod
    def _straight(
        cls, kind: CurveKind, model_a: Network, model_b: Network, bends: int
    ) -> Curve:
        check_count("bends", bends, 1)
        fields = through_networks(model_a, [model_b])
        (whole,), (end,) = fields["directions"], fields["end_buffers"]
        shares = [k / (bends + 1) for k in range(1, bends + 1)]
        start = fields["buffers"]
        changes: dict[str, Any] = {
            "course": ControlPoints(kind, bends + 1),
            "directions": (*(tuple(d * s for d in whole) for s in shares), whole),
            # Bends have no statistics of their own, but those on the line.
            "end_buffers": (
                *({n: between(b, end[n], s) for n, b in start.items()} for s in shares),
                end,
            ),
            "axes": (Axis(unit="along the curve", range=(0.0, 1.0)),),
            "details": {"subspace": kind, "bends": bends},
        }
        return cls(**(fields | changes))

    @property
    def kind(self) -> CurveKind:
        """The kind by its name, "bezier" or "polychain"."""
        assert isinstance(self.course, ControlPoints)
        return self.course.kind

    @property
    def bends(self) -> int:
        """Number of control points between the ends."""
        return len(self.directions) - 1

    def weights(self, t: float) -> list[float]:
        """Weights of all K + 1 control points at a coordinate; their sum is 1."""
        assert isinstance(self.course, ControlPoints)
        return self.course.weights(t)

    def fit(
        self,
        objective: Objective,
        *,
        steps: int,
        optimizer: MakeOptimizer | None = None,
        batches: Iterable[Any] | None = None,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
        out: str | PathLike[str] | None = None,
        resume: bool = True,
    ) -> Curve:
        """A curve with bends that lower the mean loss along it; the ends stay.

        Each step draws a coordinate uniformly from 0 to 1, and takes the gradient of
        the mean loss of one batch there: Equation 2 of the paper. The model runs as in
        training, with dropout and with batch norm by the statistics of the batch; it
        comes back bit for bit, also after an exception. A penalty of the objective is
        one of the weights at the point: `L2(decay / 2, "all")` is the weight decay of
        the published code.

        Args:
            objective: its batches are taken in a random order, each once an epoch.
            steps: number of steps, >= 1.
            optimizer: makes an optimizer of torch from a list of parameters, the bends.
                By default SGD with momentum 0.9 and the learning rate 0.03, which
                falls linearly to a hundredth of it between half and nine tenths of the
                steps, as in the published code.
            batches: in place of those of the objective, such as a `DataLoader` that
                draws augmentations; read again when it ends.
            seed: of coordinates, order and dropout, whatever was drawn before.
            progress: called with the number of steps done and of all.
            out: a file that ends in .pt, written every few seconds and at the end, as
                by `save`. The same call goes on from it to the same bits, and reads the
                curve from it once it is finished. Of code, and of `batches` that are no
                list, it compares names and types; the batches of steps that are done
                are read again, since what they draw from torch follows from the seed
                (a generator of their own has to begin as it did).
            resume: go on from `out`; False begins anew.

        Returns:
            A new curve; its `losses` are those of the steps, without a penalty.

        Raises:
            SettingError: no step, an optimizer that is none of torch or needs a
                closure, as LBFGS does, or an objective of another model.
            UsageError: the loss or a bend is not finite.
            DataError: no batch; or `out` is of another fit, damaged or no curve.
            StoreError: `out` cannot be written.
        """
        return fitted(
            self,
            objective,
            steps=steps,
            make=optimizer,
            batches=batches,
            seed=seed,
            progress=progress,
            out=out,
            resume=resume,
        )

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the curve to a file, which `from_file` reads bit for bit.

        It is a dictionary that `torch.load(path, weights_only=True)` reads: "bends" has
        the weights of each bend by name, "recipe" and "details" are texts, and "ends"
        has digests of the networks, whose weights are not in it.

        Args:
            path: ends in .pt.
            overwrite: replace a file of another curve, or of something else.

        Raises:
            DataError: such a file, without `overwrite`.
            SettingError: another ending, or a folder.
            StoreError: no space, or no right to write; a file there stays.
        """
        save_curve(self, path, overwrite=overwrite)

    @classmethod
    def from_file(
        cls, path: str | PathLike[str], model_a: Network, model_b: Network
    ) -> Curve:
        """The curve of a file between the networks that it was made for.

        Args:
            path: a file of `save`, or of a finished `fit(..., out=path)`.
            model_a: at 0; see `bezier`.
            model_b: at 1.

        Raises:
            DataError: no such file, one that is damaged, of something else, of a fit
                that is not finished, or of a curve between other networks.
            SettingError: see `bezier`.
        """
        return curve_at(path, lambda kind, n: cls._straight(kind, model_a, model_b, n))

    def length(self) -> float:
        """Length of the curve from 0 to 1, as a Euclidean distance of parameters."""
        steps = np.eye(len(self._gram)) - np.eye(len(self._gram), k=-1)
        sides = steps @ self._gram @ steps.T
        if self.kind == "bezier":
            return bezier_length(sides)
        return float(np.sqrt(np.maximum(sides.diagonal(), 0)).sum())

    def distances(self, coordinates: Sequence[float]) -> Tensor:
        """Euclidean distances of neighbouring points, shape (T - 1,), float64."""
        places = np.array([self.coefficients((float(t),)) for t in coordinates])
        steps = np.diff(places, axis=0)
        squares = np.einsum("ti,ij,tj->t", steps, self._gram, steps)
        return torch.from_numpy(np.sqrt(np.maximum(squares, 0)))

    def statistics(self, surface: Surface, quantity: str = "loss") -> CurveStatistics:
        """The least, largest and mean value along the curve.

        Args:
            surface: values at several points of this curve, in their order along it.
            quantity: "loss", or another one of the surface by its name.

        Raises:
            SettingError: an unknown quantity, or values of other than one axis.
        """
        if len(surface.coordinates) != 1 or len(surface.coordinates[0]) < 2:
            raise SettingError(
                "statistics along a curve need values at two or more points of one "
                f"axis, got {tuple(surface.loss.shape)}; evaluate landscape(objective, "
                "curve, (0, 1, 61))."
            )
        if quantity != "loss" and quantity not in surface.quantities:
            known = ", ".join(["loss", *surface.quantities])
            raise SettingError(f"quantity must be one of {known}, got {quantity!r}.")
        chosen = (
            surface.loss if quantity == "loss" else surface.quantities[quantity].values
        )
        sides = self.distances(surface.coordinates[0])
        middles = (chosen[1:] + chosen[:-1]) / 2
        return CurveStatistics(
            minimum=float(chosen.min()),
            maximum=float(chosen.max()),
            mean=float(chosen.mean()),
            arc_mean=float((middles * sides).sum() / sides.sum()),
        )

    def plane(self, bend: int | None = None) -> Plane:
        """The plane through both ends and a bend, in Euclidean distances.

        The first direction is the unit vector u from the first end to the last, the
        second one v that from this line to the bend. A Bezier curve or a chain of one
        bend lies in its plane; of several, one does in general not (`path_in`).

        Args:
            bend: its number from 0; by default that of the largest distance from the
                line.

        Raises:
            SettingError: no bend of this number.
            UsageError: the ends are one point, or the bend is on the line.
        """
        gram = self._gram
        size = math.sqrt(gram[-1, -1])
        along = gram[:-1, -1] / size if size else np.zeros(self.bends)
        off = np.sqrt(np.maximum(gram.diagonal()[:-1] - along**2, 0))
        chosen = int(off.argmax()) if bend is None else bend
        if chosen not in range(self.bends):
            raise SettingError(
                f"bend must be a number from 0 to {self.bends - 1}, got {brief(bend)}."
            )
        if off[chosen] <= ROUNDING * size or not size:
            raise UsageError(
                "the plane of a bend needs one that is off the line between two "
                "different networks; fit the curve first: curve.fit(objective, "
                "steps=...)."
            )
        whole, part = self.directions[-1], self.directions[chosen]
        u = tuple(each / size for each in whole)
        rests = [p - float(along[chosen]) * e for p, e in zip(part, u, strict=True)]
        height = math.sqrt(sum(float(r.double().square().sum()) for r in rests))
        v = tuple(rest / height for rest in rests)
        return Plane(
            names=self.names,
            base=self.base,
            directions=(u, v),
            axes=tuple(
                Axis(unit="distance", range=(-MARGIN * side, (1 + MARGIN) * side))
                for side in (size, height)
            ),
            exact={(size, 0.0): self.exact[(1.0,)]},
            buffers=self.buffers,
            end_buffers=(self.end_buffers[-1], None),
            mixing=((1 / size, 0.0), (0.0, 0.0)),  # along u from one end to the other
            batch_norm=self.batch_norm,
            details={**self.details, "subspace": f"plane of a {self.kind} bend"},
        )

    def path_in(self, plane: Plane, coordinates: Sequence[float]) -> Trajectory:
        """Points of the curve in a plane of `plane()`, and their distances from it.

        `surface.with_path(...)` has figures draw it.

        Args:
            plane: of orthonormal directions and the same base.
            coordinates: of the points along the curve.
        """
        places = torch.tensor(
            [self.coefficients((float(t),)) for t in coordinates],
            dtype=torch.float64,
            device="cpu",
        )
        dots = [[_dot(d, axis) for axis in plane.directions] for d in self.directions]
        projected = places @ torch.tensor(dots, dtype=torch.float64, device="cpu")
        gram = torch.from_numpy(self._gram)
        squares = torch.einsum("ti,ij,tj->t", places, gram, places)
        outside = (squares - projected.square().sum(1)).clamp(min=0)
        # Below this share of a square, the difference of two sums is rounding.
        outside[outside < SQUARES_ROUND * squares] = 0
        return Trajectory(
            coordinates=projected,
            residual=outside.sqrt(),
            relative_residual=(outside / squares.clamp(min=TINY)).sqrt(),
            name=self.kind,
            labels=tuple(f"t = {float(t):.3g}" for t in coordinates),
            details=dict(self.details),
        )

    @cached_property
    def _gram(self) -> Any:
        """Inner products of the directions, shape (K, K), summed in float64."""
        count = len(self.directions)
        gram = np.zeros((count, count))
        for i, j in itertools.combinations_with_replacement(range(count), 2):
            gram[i, j] = gram[j, i] = _dot(self.directions[i], self.directions[j])
        return gram


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    pairs = zip(left, right, strict=True)
    return float(sum(float((a.double() * b.double()).sum()) for a, b in pairs))
