"""Checkpoints in the coordinates of a subspace.

Source: Li et al., 2018, arXiv:1712.09913, section 7. The published code gives the
lengths <d, x> / |x| along each direction x ("cos"), which are coordinates where the
directions are orthogonal unit vectors alone; here they are those of the nearest point,
by least squares ("lstsq" there), and the distance from it stands beside them.

Shape letters: T checkpoints, K axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.landscapes.buffers import BatchNorm, check_batch_norm
from steppe.landscapes.checkpoints import (
    Checkpoint,
    State,
    check_frozen,
    label_of,
    listed,
    read,
)
from steppe.landscapes.evaluation.evaluator import Evaluator, Progress
from steppe.landscapes.evaluation.walk import in_modes, refit_of
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.trajectories.least_squares import LeastSquares
from steppe.measuring.batch_norm import has_statistics
from steppe.objective import Objective, check_objective
from steppe.parameters import BufferSnapshot, copy_, overwrite_, restored
from steppe.results import Estimate
from steppe.seeds import seed_of
from steppe.surfaces import Trajectory


def project(
    subspace: Subspace,
    checkpoints: Iterable[Checkpoint],
    objective: Objective | None = None,
    *,
    name: str = "",
    labels: Sequence[str] | None = None,
    batch_norm: BatchNorm | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Coordinates of checkpoints in a subspace, and their distances from it.

    Args:
        subspace: a line, plane or box; its directions may have any length and angle.
        checkpoints: T networks, state_dicts, paths of files, or functions that read
            one, in the order of the training; one of them is in memory at a time.
        objective: for the loss at each checkpoint and at the nearest point of the
            subspace; None for neither. Its model comes back bit for bit.
        name: of the trajectory, in legends.
        labels: of the checkpoints; None for the names of files, else numbers from 0.
        batch_norm: running statistics at the points of the subspace; see `landscape`.
            Checkpoints have those of "reestimate" or of a function too, so that their
            losses compare with the surface, and otherwise the ones that they were saved
            with. The details name the mode.
        progress: called with the number of checkpoints done and of all.

    Returns:
        Trajectory with the coordinates, shape (T, K). The loss of a checkpoint is that
        of the surface below it as far as its residual is 0.

    Raises:
        SettingError: checkpoints of another network, a curve, or not as many labels.
        UsageError: directions that are 0 or dependent.
        DataError: a file that cannot be read, or numbers that are not finite.

    Example:
        >>> import copy, steppe
        >>> start, end = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> line = steppe.Line.between(start, end)
        >>> path = steppe.project(line, [start, end])
        >>> [round(c, 6) for c in path.coordinates.flatten().tolist()]
        [0.0, 1.0]
    """
    solver = LeastSquares(subspace)
    several = listed(checkpoints, 1)
    known = [label_of(each, i) for i, each in enumerate(several)]
    names = known if labels is None else list(map(str, labels))
    if len(names) != len(several):
        raise SettingError(
            f"labels must be one text for each of {len(several)} checkpoints, got "
            f"{len(names)}."
        )
    if objective is not None:
        check_objective(objective, "project")
        subspace.check_belongs(objective)
    mode = subspace.batch_norm if batch_norm is None else batch_norm
    check_batch_norm(mode)
    base = dict(zip(subspace.names, subspace.base, strict=True))
    coordinates, residuals, shares, values = [], [], [], []
    for number, checkpoint in enumerate(several):
        state = read(checkpoint, base, known[number])
        at, left, total = solver.coordinates(partial(_apart, state, base))
        coordinates.append(at)
        residuals.append(left)
        shares.append(left / total if total else 0.0)
        if objective is not None:
            values.append(_value_at(objective, state, known[number], mode))
        if progress is not None:
            progress(number + 1, len(several))
    at_nearest = torch.stack(coordinates)
    return Trajectory(
        name=name,
        coordinates=at_nearest,
        residual=torch.tensor(residuals, dtype=torch.float64, device="cpu"),
        relative_residual=torch.tensor(shares, dtype=torch.float64, device="cpu"),
        labels=tuple(names),
        details={
            "method": "lstsq",
            "gram": solver.gram.tolist(),
            **_statistics(objective, mode),
        },
        **_losses(objective, values, subspace, at_nearest, mode),
    )


def _apart(state: State, base: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Differences of the parameters from the base, on the host in float64."""
    for name, start in base.items():
        yield state[name].detach().cpu().double() - start.detach().cpu().double()


def _statistics(objective: Objective | None, mode: BatchNorm) -> dict[str, str]:
    """Whose running statistics the losses of checkpoints are with, in words."""
    if objective is None or not any(map(has_statistics, objective.model.modules())):
        return {}
    if objective.mode == "train":
        return {"statistics": "those of each batch"}
    if refit_of(objective, mode) is None and objective.mode != "reestimate":
        return {"statistics": "those of the checkpoint"}
    return {"statistics": "estimated anew at the checkpoint"}


def _value_at(
    objective: Objective, state: State, label: str, mode: BatchNorm
) -> Estimate:
    """The loss of a checkpoint, with its own buffers or those of its weights."""
    model = objective.model
    check_frozen(model, state, label)
    refit, modes = refit_of(objective, mode), {m: m.training for m in model.modules()}
    buffers = dict(model.named_buffers())
    fitting = [
        n for n, b in buffers.items() if n in state and state[n].shape == b.shape
    ]
    before = BufferSnapshot(model)
    try:
        with restored(objective.params), torch.no_grad():
            overwrite_(
                objective.params,
                [
                    state[n].detach().to(p)
                    for n, p in zip(objective.names, objective.params, strict=True)
                ],
            )
            copy_(
                [buffers[n] for n in fitting],
                [state[n].to(buffers[n]) for n in fitting],
            )
            if refit is None:
                return objective.value()
            with objective.measuring():
                torch.manual_seed(seed_of(objective.seed))
                with in_modes(modes):
                    refit(model)
                return objective.value()
    finally:
        before.put_back()


def _losses(
    objective: Objective | None,
    values: Sequence[Estimate],
    subspace: Subspace,
    coordinates: Tensor,
    batch_norm: BatchNorm,
) -> Mapping[str, Tensor]:
    """Losses of the checkpoints and of the points nearest to them, by field."""
    if objective is None:
        return {}
    points = [tuple(row) for row in coordinates.tolist()]
    nearest = Evaluator(objective, subspace, batch_norm).evaluate(points)
    columns = {
        "loss": [each.value for each in values],
        "stderr": [each.stderr for each in values],
        "projected_loss": [each.loss for each in nearest],
        "projected_stderr": [each.stderr for each in nearest],
    }
    return {
        n: torch.tensor(c, dtype=torch.float64, device="cpu")
        for n, c in columns.items()
    }
