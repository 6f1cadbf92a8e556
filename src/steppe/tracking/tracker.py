"""The largest eigenvalues along training, and the steps in their directions.

Source: Jastrzebski et al., 2019, arXiv:1807.05031. The names of the columns are those
of the authors' code, so that its figures can be drawn from these files. Differences:
eigenvalues are the algebraically largest, not those of the largest magnitude; the
search starts from the vectors of the last measurement; batches weigh by their samples;
a row holds averages over the steps since the row before, not the last step.

Shape letters: D parameters in all, K eigenpairs, R rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from steppe.curvature.hessian import Hessian
from steppe.curvature.operator import AbstractCurvature
from steppe.errors import SettingError, UsageError, check_count, check_positive
from steppe.files import replace_file
from steppe.linalg.angles import alignment, overlap
from steppe.linalg.lanczos import eigsh
from steppe.linalg.probes import seeded
from steppe.objective import Objective, check_objective
from steppe.parameters import flatten
from steppe.results import Eigenpairs
from steppe.tracking.files import (
    Row,
    cosines_of,
    shares_of,
    write_rows,
    write_vectors,
)
from steppe.tracking.step_decomposition import FACTORS, decomposed

Unit = Literal["epoch", "step"]


class Writer(Protocol):
    """Protocol of a writer of scalars, such as TensorBoard's `SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Take one number."""
        ...


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
    - with `steps=True`, `alex_v_sum` and `alex_v_norm_sum`: the same for the steps.
    - whatever is given to `measure` or `after_epoch`.

    In `folder` it keeps `history.csv` and `lanczos.npz` (`top_K_e` of shape (R, K),
    `residuals`, `epoch`, `step`, `products`), each replaced at once by its next
    version, and with `save_vectors` a `top_K_ev_<step>.npz` for each row: `Ev` of shape
    (D, K), `names` and `shapes` of the tensors.

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
        folder: where the files are kept, made if need be; None for none.
        save_vectors: keep the vectors of every row as a file.
        steps: look at the displacement of every step too; one more copy of the
            parameters.
        writer: is given every number of a row by its column's name.

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
        writer: Writer | None = None,
    ) -> None:
        if isinstance(objective, nn.Module) or not callable(objective):
            check_objective(objective, "SpectrumTracker")
        _check(k, every, unit, tol)
        self.k = k
        self.every = every
        self.unit: Unit = unit
        self.tol = tol
        self.max_products = max_products
        self.save_vectors = save_vectors
        self.steps = steps
        self.pairs: Eigenpairs | None = None
        self.rows: list[Row] = []
        self.products = 0
        self._make = objective
        self._matrix = matrix
        self._folder = None if folder is None else Path(folder)
        self._writer = writer
        self._epoch = self._step = 0
        self._names: tuple[str, ...] = ()
        self._params: tuple[Tensor, ...] = ()
        self._first: list[Tensor] | None = None  # parameters at the first row
        self._basis: Tensor | None = None  # (D, K + 1): directions and gradient
        self._before: Tensor | None = None  # parameters before the step, (D,)
        self._gradients: list[Tensor] = []  # of the steps since the last row
        self._moves: list[Tensor] = []

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
        objective = self._make if isinstance(self._make, Objective) else self._make()
        self._meet(objective)
        operator = self._matrix(objective)
        if operator.ranks.spread:
            raise UsageError(
                "a tracker follows the data of one process; make its matrix without "
                "group=, and track in the first process only."
            )
        old = self.pairs
        try:
            pairs = eigsh(
                operator,
                min(self.k, operator.shape[0]),
                tol=self.tol,
                max_products=self.max_products,
                start=None if old is None else old.vectors,
            )
        finally:
            operator.close()  # retained graphs would share memory with the training
        gradient = flatten([g.detach() for g in objective.gradient()])
        # The row compares with the directions of the last measurement: before they go.
        row = self._row(pairs, gradient, scalars)
        self.pairs, self.products = pairs, self.products + pairs.products
        self.rows.append(row)
        self._basis = torch.cat([pairs.vectors, gradient[:, None]], dim=1)
        self._gradients, self._moves = [], []
        self._before = self._now() if self.steps else None
        self._keep(pairs, row)
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
        objective = self._make if isinstance(self._make, Objective) else self._make()
        if self.pairs is None:
            raise UsageError("there are no directions yet; call measure() before.")
        changes = decomposed(
            objective, gradients, self.pairs.vectors, lr, factors, seeded(generator)
        )
        if self._folder is not None:
            path = self._folder / f"decompose_{self._step}.json"
            replace_file(path, json.dumps(changes).encode())
        return changes

    def observe(self) -> None:
        """Note how the gradient in `p.grad` lies to the directions; before the step."""
        if self._basis is None:
            return
        grads = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in self._params
        ]
        self._gradients.append(self._shares(flatten(grads).detach()))

    def after_step(self, **scalars: float) -> None:
        """Count a step, and measure where one is due.

        Args:
            **scalars: numbers for the row, if there is one.
        """
        self._step += 1
        if self.steps and self._basis is not None:
            now = self._now()
            assert self._before is not None
            self._moves.append(self._shares(now - self._before))
            self._before = now
        if self.unit == "step" and self._step % self.every == 0:
            self.measure(**scalars)

    def after_epoch(self, **scalars: float) -> None:
        """Count an epoch, and measure where one is due.

        Args:
            **scalars: numbers for the row, if there is one.
        """
        self._epoch += 1
        if self.unit == "epoch" and self._epoch % self.every == 0:
            self.measure(**scalars)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on with the same rows."""
        return {
            "epoch": self._epoch,
            "step": self._step,
            "products": self.products,
            "rows": [dict(row) for row in self.rows],
            "pairs": None if self.pairs is None else vars(self.pairs),
            "first": self._first,
            "basis": self._basis,
            "before": self._before,
            "gradients": list(self._gradients),
            "moves": list(self._moves),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self._epoch, self._step = state["epoch"], state["step"]
        self.products = state["products"]
        self.rows = [dict(row) for row in state["rows"]]
        pairs = state["pairs"]
        self.pairs = None if pairs is None else Eigenpairs(**pairs)
        self._first, self._basis = state["first"], state["basis"]
        self._before = state["before"]
        self._gradients, self._moves = list(state["gradients"]), list(state["moves"])
        if isinstance(self._make, Objective):
            self._names, self._params = self._make.names, self._make.params
        elif self._basis is not None:
            objective = self._make()
            self._names, self._params = objective.names, objective.params

    def _now(self) -> Tensor:
        return flatten([p.detach() for p in self._params])

    def _meet(self, objective: Objective) -> None:
        """Know the parameters of the model, and that they are still the same."""
        if self._names and objective.names != self._names:
            raise UsageError(
                "the tracker measured a model with other parameters before; make a new "
                "SpectrumTracker for another model."
            )
        self._names, self._params = objective.names, objective.params
        if self._first is None:
            self._first = [p.detach().clone() for p in self._params]

    def _row(
        self, pairs: Eigenpairs, gradient: Tensor, scalars: Mapping[str, float]
    ) -> Row:
        values = pairs.values.tolist()
        shares = (pairs.residuals / pairs.values.abs().clamp(min=1e-300)).tolist()
        row: Row = {"epoch": self._epoch, "step": self._step, "SN": values[0]}
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
        row |= cosines_of(self._gradients) | shares_of("alex_alpha", self._gradients)
        row |= shares_of("alex_v", self._moves)
        return row | {name: float(value) for name, value in scalars.items()}

    def _distances(self) -> Row:
        assert self._first is not None
        moved = torch.stack(
            [
                (p.detach() - first).double().norm()
                for p, first in zip(self._params, self._first, strict=True)
            ]
        ).tolist()
        named = {f"dist/{n}": d for n, d in zip(self._names, moved, strict=True)}
        return named | {"dist/all": sum(moved)}

    def _shares(self, vector: Tensor) -> Tensor:
        """Parts of a vector along the directions and the gradient, and its norm."""
        assert self._basis is not None
        basis = self._basis.to(vector.dtype)
        lengths = basis.norm(dim=0)
        along = (vector @ basis) / lengths.clamp(min=torch.finfo(basis.dtype).tiny)
        return torch.cat([along, vector.norm()[None]])  # stays on its device

    def _keep(self, pairs: Eigenpairs, row: Row) -> None:
        if self._writer is not None:
            for name, value in row.items():
                self._writer.add_scalar(name, value, self._step)
        if self._folder is None:
            return
        write_rows(self._folder, self.rows)
        if self.save_vectors:
            path = self._folder / f"top_K_ev_{self._step}.npz"
            write_vectors(path, pairs.vectors, self._names, self._params)


def _check(k: int, every: int, unit: str, tol: float) -> None:
    check_count("k", k, 1)
    check_count("every", every, 1)
    if unit not in ("epoch", "step"):
        raise SettingError(f"unit must be 'epoch' or 'step', got {unit!r}.")
    check_positive("tol", tol)
