"""The largest eigenvalues along training, and the steps in their directions.

Source: Jastrzebski et al., 2019, arXiv:1807.05031. The names of the columns are those
of the authors' code, so that its figures can be drawn from these files. Differences:
eigenvalues are the algebraically largest, not those of the largest magnitude; the
search starts from the vectors of the last measurement; batches weigh by their samples;
a row holds averages over the steps since the row before, not the last step.

Shape letters: D parameters in all, K eigenpairs, R rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steppe.curvature.hessian import Hessian
from steppe.curvature.operator import AbstractCurvature
from steppe.errors import UsageError
from steppe.linalg.angles import alignment, overlap
from steppe.linalg.probes import seeded
from steppe.objective import Objective
from steppe.results import Eigenpairs
from steppe.tracking.cuts import Cut, Cuts, row_of
from steppe.tracking.files import TrackFiles, Writer
from steppe.tracking.measurement import Measurement, gradient_of
from steppe.tracking.schedule import MeasurementSchedule, Unit
from steppe.tracking.statistics import Row, StepStatistics
from steppe.tracking.step_decomposition import FACTORS, decomposed


class SpectrumTracker:
    """Follows the largest eigenvalues of the Hessian through a training loop.

    ::

        tracker = steppe.SpectrumTracker(objective, k=5, folder="run")
        tracker.measure()
        for epoch in range(10):
            for x, y in loader:
                ...  # zero_grad, backward
                tracker.observe()  # optional: how the gradient lies to the directions
                opt.step()
                tracker.after_step()
            tracker.after_epoch(loss=loss)

    A value that comes up close to others of a very large network may be missed until it
    stands out: each search starts near the last vectors.

    Each measurement is a row; its statistics of steps are over those since the row
    before, and in the directions of that row. The columns:

    - `epoch`, `step`; `SN`, the largest eigenvalue, and `top_K_e/<i>`, all of them;
      `residual`, the largest as a share of its eigenvalue; `products` and `converged`;
      `overlap` of the directions with those before.
    - `dist/<tensor>`, the distance from the first row, and `dist/all`, their sum.
    - `grad_norm` and `alig/fbg_e<i>`: gradient of the objective, and its cosine with
      direction i.
    - of `observe()`: `alig/<i>_mean`, `_abs_mean` and `_std` of the cosine of the
      gradient in `p.grad` with direction i, the same as `alig/fbg_...` with the
      gradient of the objective, `alex_alpha_sum`, the mean of sum |U'g|, and
      `alex_alpha_norm_sum`, that over the norm of g.
    - with `cuts`, `scale_<i>`, the length of a unit along direction i.
    - with `steps=True`, `alex_v_sum` and `alex_v_norm_sum`: the same for the steps.
    - the numbers that `measure`, `after_step` or `after_epoch` are called with.

    In `folder` it keeps `history.csv` and `lanczos.npz` (`top_K_e` of shape (R, K),
    `residuals`, `epoch`, `step`, `products`), each replaced at once by its next
    version, and with `save_vectors` a `top_K_ev_<step>.npz` for each row: `Ev` of shape
    (D, K), `names` and `shapes` of the tensors. With `cuts` it keeps
    `loss_surfaces.npz`: the coordinates `eps`, and `loss_curve_<i>` of shape
    (R, coordinates), which `steppe.tracking.cuts.read_cuts` gives as lines.

    Args:
        objective: the loss whose Hessian is followed, or a function that makes one for
            each measurement, with samples of its own choice; its model is the one in
            training.
        k: number of eigenpairs.
        every: epochs or steps from one measurement to the next.
        unit: of `every`.
        tol: of the residuals, as in `eigsh`; the error of a value is about its square.
        max_products: of one measurement; None as in `eigsh`.
        matrix: what is followed: an operator class, or a function of an Objective.
        folder: of the files, created where it is missing; None writes none.
        save_vectors: write the vectors of every row to a file.
        steps: look at the displacement of every step too; one more copy of the
            parameters.
        cuts: the loss along the directions at every measurement; None for none.
        writer: takes every number of a row by its column's name.

    Raises:
        SettingError: a setting out of range.

    Attributes:
        pairs: Eigenpairs of the last measurement; None before the first.
        rows: one dictionary for each measurement.
        products: operator-vector products so far.
    """

    def __init__(
        self,
        objective: Objective | Callable[[], Objective],
        *,
        k: int = 5,
        every: int = 1,
        unit: Unit = "epoch",
        tol: float = 1e-2,
        max_products: int | None = None,
        matrix: Callable[[Objective], AbstractCurvature] = Hessian,
        folder: str | os.PathLike[str] | None = None,
        save_vectors: bool = False,
        steps: bool = False,
        cuts: Cuts | None = None,
        writer: Writer | None = None,
    ) -> None:
        self._measurement = Measurement(
            objective=objective, matrix=matrix, k=k, tol=tol, max_products=max_products
        )
        if cuts is not None:
            cuts.check_followed(k)
        self._cuts = cuts
        self._measured: list[dict[int, Cut]] = []  # cuts of each row
        self._schedule = MeasurementSchedule(every, unit)
        self._statistics = StepStatistics(steps)
        place = None if folder is None else Path(folder)
        self._files = TrackFiles(folder=place, save_vectors=save_vectors, writer=writer)
        self.pairs: Eigenpairs | None = None
        self.rows: list[Row] = []
        self.products = 0
        self._params: dict[str, Tensor] = {}  # of the model in training, by name
        self._first: list[Tensor] | None = None  # parameters at the first row

    def directions(self, step: int = 0) -> Tensor | None:
        """The last eigenvectors, shape (D, K); None before the first measurement.

        It can be given to NSGD as it is: `NSGD(base, directions=tracker.directions)`.

        Args:
            step: not used; providers of directions are called with it.
        """
        del step
        return None if self.pairs is None else self.pairs.vectors

    def measure(self, **scalars: float) -> Eigenpairs:
        """Compute the eigenpairs at the present parameters, and write a row.

        Args:
            **scalars: numbers to put in the row, under these names.

        Raises:
            UsageError: the model has other parameters than at the measurement before.
        """
        objective = self._measurement.present()
        self._meet(objective)
        # Little has changed since: a search that begins there takes fewer products.
        old = None if self.pairs is None else self.pairs.vectors
        pairs = self._measurement.eigenpairs(objective, old)
        gradient = gradient_of(objective)
        # The row compares with the directions of the last measurement: before they go.
        row = self._row(pairs, gradient, scalars)
        if self._cuts is not None:
            measured = self._cuts.through(objective, pairs, len(self.rows))
            row = row_of(measured) | row
            self._measured.append(measured)
        self.pairs, self.products = pairs, self.products + pairs.products
        self.rows.append(row)
        # Gradients to come are compared with the new directions, so old ones go.
        self._statistics.restart(pairs.vectors, gradient, self._present())
        self._files.write(self.rows, self._schedule.step, pairs.vectors, self._params)
        if self._cuts is not None:
            self._files.write_cuts(
                self._measured, self.rows, self._cuts, objective.count()
            )
        return pairs

    def decompose(
        self,
        gradients: Tensor,
        lr: float,
        *,
        factors: Sequence[float] = FACTORS,
        generator: torch.Generator | None = None,
    ) -> dict[str, Any]:
        """Change of the loss by each part of a gradient step along the directions.

        Each part alone is taken, times each of the factors; for comparison the part
        along a random direction and the whole step. With a folder the result is kept
        as `decompose_<step>.json`. The cost is a forward pass over the objective for
        each gradient, part and factor.

        Args:
            gradients: of M batches, shape (M, D), as `torch.cat` of the flattened
                gradients in the order of the objective's parameters.
            lr: learning rate of the step.
            factors: of the length of the step.
            generator: of the random direction; None for seed 0 on the CPU.

        Returns:
            "loss" before the step, "factors", and "changes" of the mean loss, averaged
            over the gradients: a list as long as `factors` for each direction "0" to
            K - 1, "random" and "step".

        Raises:
            UsageError: nothing has been measured yet.
            SettingError: gradients of another shape.
        """
        objective = self._measurement.present()
        if self.pairs is None:
            raise UsageError("there are no directions yet; call measure() before.")
        changes = decomposed(
            objective, gradients, self.pairs.vectors, lr, factors, seeded(generator)
        )
        self._files.write_decomposition(changes, self._schedule.step)
        return changes

    def observe(self) -> None:
        """Record cosines of `p.grad` with the directions; call it before the step."""
        self._statistics.observe(self._present())

    def after_step(self, **scalars: float) -> None:
        """Count a step, and measure where one is due.

        Args:
            **scalars: numbers for the row, if there is one.
        """
        self._statistics.after_step(self._present())
        if self._schedule.after_step():
            self.measure(**scalars)

    def after_epoch(self, **scalars: float) -> None:
        """Count an epoch, and measure where one is due.

        Args:
            **scalars: numbers for the row, if there is one.
        """
        if self._schedule.after_epoch():
            self.measure(**scalars)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on with the same rows."""
        return {
            **self._schedule.state_dict(),
            **self._statistics.state_dict(),
            "products": self.products,
            "rows": [dict(row) for row in self.rows],
            **({} if self._cuts is None else {"cuts": list(self._measured)}),
            "pairs": None if self.pairs is None else vars(self.pairs),
            "first": self._first,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._schedule.load_state_dict(state)
        self._statistics.load_state_dict(state)
        self.products = state["products"]
        self.rows = [dict(row) for row in state["rows"]]
        self._measured = list(state.get("cuts", []))
        pairs = state["pairs"]
        self.pairs = None if pairs is None else Eigenpairs(**pairs)
        self._first = state["first"]
        # Samples that are drawn anew are left alone before there was a measurement.
        if self._statistics.started or not self._measurement.drawn_anew:
            self._know(self._measurement.present())

    def _present(self) -> list[Tensor]:
        return list(self._params.values())

    def _know(self, objective: Objective) -> None:
        self._params = dict(zip(objective.names, objective.params, strict=True))

    def _meet(self, objective: Objective) -> None:
        """Know the parameters of the model, and that they are still the same."""
        if self._params and objective.names != tuple(self._params):
            raise UsageError(
                "the tracker measured a model with other parameters before; make a new "
                "SpectrumTracker for another model."
            )
        self._know(objective)
        if self._first is None:
            self._first = [p.detach().clone() for p in self._present()]

    def _row(
        self, pairs: Eigenpairs, gradient: Tensor, scalars: Mapping[str, float]
    ) -> Row:
        values = pairs.values.tolist()
        shares = (pairs.residuals / pairs.values.abs().clamp(min=1e-300)).tolist()
        row: Row = {**self._schedule.state_dict(), "SN": values[0]}
        row |= {f"top_K_e/{i}": value for i, value in enumerate(values)}
        row |= {
            "residual": max(shares),
            "products": pairs.products,
            "converged": int(pairs.converged),
        }
        if self.pairs is not None:
            row["overlap"] = overlap(pairs.vectors, self.pairs.vectors)
        row |= self._distances()
        row["grad_norm"] = float(gradient.double().norm())
        cosines = alignment(gradient, pairs.vectors).tolist()
        row |= {f"alig/fbg_e{i}": cosine for i, cosine in enumerate(cosines)}
        row |= self._statistics.row()
        return row | {name: float(value) for name, value in scalars.items()}

    def _distances(self) -> Row:
        assert self._first is not None
        moved = torch.stack(
            [
                (p.detach() - first).double().norm()
                for p, first in zip(self._present(), self._first, strict=True)
            ]
        ).tolist()
        named = {f"dist/{n}": d for n, d in zip(self._params, moved, strict=True)}
        return named | {"dist/all": sum(moved)}
