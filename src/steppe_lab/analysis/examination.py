"""One checkpoint, examined: all numbers of it at a glance."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from steppe.examination.examination import Examination
from steppe.examination.examine import GROUPS, examine
from steppe_lab.analysis.finished import beside, identity
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.kept import Kept
from steppe_lab.analysis.single import Network, read_network
from steppe_lab.runs.settings import ExaminationSettings
from steppe_lab.store.json_files import digest
from steppe_lab.training.trained_loss import LossKind

FOLDER = "examinations"  # below the folder of all results


@dataclass(frozen=True)
class Examined:
    """The examination of a network."""

    network: Network
    settings: ExaminationSettings
    result: Examination
    before: tuple[str, ...] = ()  # on parts that were known, without full stops


def examine_one(
    checkpoint: Path,
    settings: ExaminationSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    keep: Path | None = None,
    failed: Callable[[str], object] = lambda _: None,
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
        keep: folder of all results, where finished parts are kept and read again; None
            for nowhere.
        failed: called with a sentence where they cannot be kept.
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
    path = keep and keep / FOLDER / f"{_identity(network, settings)}.jsonl"
    kept = Kept(path, network.objective, "part", "part", str, failed)
    result = examine(
        network.objective,
        samples=settings.samples,
        curvature_samples=settings.curvature_samples,
        seconds=settings.seconds,
        seed=settings.seed,
        name=str(network.path),
        progress=progress,
        known=kept,
        finished=lambda name, text: kept.add(name, text, text),
    )
    return Examined(network, settings, result, kept.notes)


def _identity(network: Network, settings: ExaminationSettings) -> str:
    """Digest of all that an examination follows from, 16 digits."""
    texts = [text for group in GROUPS.values() for text in group]
    return digest(
        {
            "network": identity(network),
            "settings": settings.model_dump(mode="json"),
            "measures": beside(texts, {}),
        }
    )[:16]
