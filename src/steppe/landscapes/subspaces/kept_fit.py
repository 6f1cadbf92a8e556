"""The fit of a curve in a file: written along the way, and read to go on.

What is kept is all that further steps follow from, so that they end at the same bits:
the bends, the state of the optimizer and of its schedule, and buffers that training
changes. Coordinates, order and dropout follow from the seed and the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from steppe.batches import digest_of
from steppe.errors import DataError
from steppe.landscapes.subspaces.curve_file import (
    CurveFile,
    State,
    bent_as,
    check_ending,
    ends_of,
    read,
    write,
)
from steppe.objective import Objective
from steppe.surfaces.files.directions import digest_of_tensors
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.files.stored import DAMAGE

if TYPE_CHECKING:
    from steppe.landscapes.subspaces.curve import Curve

EVERY = 10.0  # seconds between two writes, at least
ROUNDING = 1e-3  # share by which one loss differs between machines, at most


class KeptFit:
    """A fit and the file that it is kept in.

    Args:
        path: of the file; None keeps nothing.
        curve: before the fit.
        recipe: all that the fit follows from, by name.
        resume: go on from what is there.

    Raises:
        DataError: a file of another fit, damaged or no curve.
        SettingError: another ending.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None,
        curve: Curve,
        recipe: Mapping[str, Any],
        *,
        resume: bool,
    ) -> None:
        self._path = None if path is None else check_ending(path)
        self._curve, self._recipe = curve, recipe
        self._content: CurveFile | None = None
        self._written = time.monotonic()
        if self._path is not None and resume and self._path.exists():
            self._content = read(self._path)
            self._check(self._content.recipe)

    @property
    def finished(self) -> Curve | None:
        """The curve, where all steps are done."""
        content = self._content
        if self._path is None or content is None or content.fit:
            return None
        return bent_as(content, self._curve, self._path)

    @property
    def losses(self) -> list[float]:
        """Those of the steps that are done."""
        return [] if self._content is None else list(self._content.losses)

    def check_first(self, loss: Tensor) -> None:
        """Refuse to go on with code that has another loss in the first step.

        Raises:
            DataError: it has, by more than rounding on other machines.
        """
        known = self.losses[0]
        if not math.isclose(known, float(loss), rel_tol=ROUNDING):
            raise DataError(
                f"{self._path} is of a fit whose first loss is {known:.4g}, and it is "
                f"{float(loss):.4g} here: the code of the network, the loss or the "
                "batches is another; name another file as out, or pass resume=False to "
                "replace it."
            )

    def restore(
        self,
        bends: Sequence[State],
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler | None,
        buffers: State,
    ) -> None:
        """Put everything into the state after the steps that are done.

        Args:
            bends: parameters of each by name, written to.
            optimizer: of the bends.
            schedule: of its learning rate.
            buffers: of the model by name, written to.
        """
        if self._content is None:
            return
        try:
            with torch.no_grad():
                for bend, kept in zip(bends, self._content.bends, strict=True):
                    for name, parameter in bend.items():
                        parameter.copy_(kept[name])
                for name, buffer in buffers.items():
                    buffer.copy_(self._content.fit["buffers"][name])
            optimizer.load_state_dict(self._content.fit["optimizer"])
            if schedule is not None:
                schedule.load_state_dict(self._content.fit["schedule"])
        except DAMAGE as error:
            raise DataError(
                f"{self._path} holds a damaged fit; pass resume=False to begin anew."
            ) from error

    def keep(
        self,
        losses: Sequence[float],
        bends: Sequence[State],
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler | None,
        buffers: State,
    ) -> None:
        """Write the state after a step, where the last time is some seconds ago.

        Raises:
            StoreError: no space, or no right to write.
        """
        if self._path is None or time.monotonic() - self._written < EVERY:
            return
        content = CurveFile(
            kind=self._curve.kind,
            ends=ends_of(self._curve),
            bends=bends,
            losses=losses,
            recipe=self._recipe,
            details=self._curve.details,
            fit={
                "optimizer": optimizer.state_dict(),
                "schedule": None if schedule is None else schedule.state_dict(),
                "buffers": {name: b.detach().clone() for name, b in buffers.items()},
            },
        )
        write(self._path, content)
        self._written = time.monotonic()

    def finish(self, curve: Curve) -> None:
        """Write the curve of a fit that is done."""
        if self._path is not None:
            curve.save(self._path, overwrite=True)

    def _check(self, stored: Mapping[str, Any]) -> None:
        asked = from_json(to_json(dict(self._recipe)))
        differing = [
            name.replace("_", " ")
            for name in dict.fromkeys([*asked, *stored])
            if to_json(asked.get(name)) != to_json(stored.get(name))
        ]
        if differing:
            raise DataError(
                f"{self._path} holds a curve of another fit: {', '.join(differing)} "
                "differ; name another file as out, or pass resume=False to replace it."
            )


def recipe_of(
    curve: Curve,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any] | None,
    *,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """All that the bends of a fit follow from, by name; of code its names alone."""
    model = objective.model
    moved = set(curve.names)
    fixed = {n: p for n, p in model.named_parameters() if n not in moved}
    groups = [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]
    listed = isinstance(batches, list | tuple)
    of_type = "those of the objective" if batches is None else type(batches).__name__
    return {
        "steppe": metadata.version("steppe"),
        **objective.details,
        "model": type(model).__name__,
        "curve": curve.kind,
        "networks": list(ends_of(curve)),
        "start": curve.digests["directions"],
        "fixed_weights": digest_of_tensors(fixed),
        "buffers": digest_of_tensors(dict(model.named_buffers())),
        "optimizer": [type(optimizer).__name__, groups],
        "batches": digest_of([*batches]) if listed and batches else of_type,
        "steps": steps,
        "seed": seed,
        "device": objective.device.type,
    }
