"""The loss on a line around a checkpoint, or to another one.

Shape letters: X points of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from steppe.errors import DataError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.surfaces import Surface
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import (
    Network,
    Noted,
    check_one_loss,
    read_network,
)
from steppe_lab.runs.settings import LineSettings
from steppe_lab.training.trained_loss import LossKind

Progress = Callable[[int, int], None]


def walk(
    checkpoint: Path,
    other: Path | None,
    settings: LineSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    progress: Progress | None = None,
) -> Noted[Surface]:
    """Loss on a random line through a checkpoint, or on the line to another one.

    Args:
        checkpoint: at coordinate 0.
        other: at coordinate 1; None for a random line.
        settings: of the line and the samples.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        progress: called with the number of evaluations done and of all.

    Returns:
        Surface with X losses and their standard errors over the samples.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for both.
        SettingError: networks of unlike parameters.
    """

    def read(path: Path) -> Network:
        return read_network(
            path,
            part=settings.part,
            samples=settings.samples,
            device=device,
            trust=trust,
            belongs=belongs,
            loss=loss,
        )

    a = read(checkpoint)
    if other is None:
        line = Line.random(
            a.objective.model, settings.norm, settings.ignore, settings.seed
        )
    else:
        b = read(other)
        check_one_loss(a, b)
        if a.objective.digest != b.objective.digest:
            raise DataError(
                f"{checkpoint} and {other} are of other data or samples; a line needs "
                "one loss, so give two checkpoints of the same data."
            )
        line = Line.between(a.objective.model, b.objective.model)
    surface = landscape(
        a.objective,
        line,
        x=settings.ends(between=other is not None),
        batch_norm=settings.batch_norm,
        samples="all",
        exact=True,
        progress=progress,
    )
    return Noted(surface, a.notes)
