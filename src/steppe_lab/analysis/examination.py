"""One checkpoint, examined: all numbers of it at a glance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from steppe.examination.examination import Examination
from steppe.examination.examine import examine
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import Network, read_network
from steppe_lab.runs.settings import ExaminationSettings
from steppe_lab.training.trained_loss import LossKind


@dataclass(frozen=True)
class Examined:
    """The examination of a network."""

    network: Network
    settings: ExaminationSettings
    result: Examination


def examine_one(
    checkpoint: Path,
    settings: ExaminationSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    progress: Callable[[int, int, str], None] | None = None,
) -> Examined:
    """Examine a checkpoint on the data its recipe names.

    Args:
        checkpoint: the file.
        settings: numbers of samples, seed.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoint may name.
        belongs: of a file of another program; None for one that steppe wrote.
        loss: that of a checkpoint of steppe: the one trained on, or the plain one.
        progress: called with the number of parts done and of all, and the name of the
            part that is next.

    Raises:
        CheckpointError: a file that is missing, damaged or not steppe's.
        DataError: data that is missing, damaged or not what was trained on.
    """
    network = read_network(
        checkpoint,
        part=settings.part,
        samples=settings.data_samples,
        mode=settings.mode,
        device=device,
        trust=trust,
        belongs=belongs,
        loss=loss,
    )
    result = examine(
        network.objective,
        samples=settings.samples,
        curvature_samples=settings.curvature_samples,
        seconds=settings.seconds,
        seed=settings.seed,
        name=str(network.path),
        progress=progress,
    )
    return Examined(network, settings, result)
