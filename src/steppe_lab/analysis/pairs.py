"""Two checkpoints of one network: their comparison, and the loss on a line.

Shape letters: X points of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

from steppe.comparisons.compare import compare
from steppe.errors import DataError, SettingError
from steppe.landscapes.evaluate import landscape
from steppe.landscapes.line import Line
from steppe.results import Comparison, Surface
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import (
    Network,
    Noted,
    described,
    read_network,
)
from steppe_lab.datasets.own import digest_of
from steppe_lab.runs.analysis import read_measure
from steppe_lab.runs.settings import LineSettings
from steppe_lab.training.trained_loss import LossKind

Progress = Callable[[int, int], None]


def compare_two(
    checkpoints: tuple[Path, Path],
    measures: Sequence[str],
    *,
    part: Literal["train", "test"] = "train",
    samples: int = 2000,
    groups: int = 20,
    repeats: int = 8,
    seed: int = 0,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    progress: Progress | None = None,
) -> Noted[Comparison]:
    """Differences of two checkpoints in measures, on the same samples and draws.

    Args:
        checkpoints: the files, which both are of the network that `belongs` names, or
            of steppe.
        measures: texts such as "lpf:sigma=0.02".
        part: whose samples are measured on.
        samples: at most so many, drawn by the seed of the data.
        groups: of the samples, left out one at a time for errors over the data.
        repeats: of what is drawn, for errors over the draws.
        seed: of draws and groups.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        progress: called with the number of measurements done and of all.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for both.
        SettingError: a setting that has no meaning.
    """
    for text in measures:
        read_measure(text)
    a, b = (
        read_network(
            path,
            part=part,
            samples=samples,
            device=device,
            trust=trust,
            belongs=belongs,
            loss=loss,
        )
        for path in checkpoints
    )
    _check_one_loss(a, b)
    comparison = compare(
        a.objective,
        b.objective,
        measures,
        groups=groups,
        repeats=repeats,
        names=(str(a.path), str(b.path)),
        seed=seed,
        progress=progress,
    )
    return Noted(comparison, a.notes)


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
        _check_one_loss(a, b)
        if digest_of(a.objective.batches) != digest_of(b.objective.batches):
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
        progress=progress,
    )
    return Noted(surface, a.notes)


def _check_one_loss(a: Network, b: Network) -> None:
    """Refuse networks that are about to be compared in unlike losses.

    Raises:
        SettingError: names both.
    """
    first, second = (described(each.objective) for each in (a, b))
    if first != second:
        raise SettingError(
            f"two checkpoints are compared in one loss, got {first} of {a.path} and "
            f"{second} of {b.path}; give --loss plain."
        )
