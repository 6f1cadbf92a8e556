"""Measurements of checkpoints that are finished, kept so that none is made twice.

One file for each network, data and mode, in which every measurement is a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from steppe.batches import UNKNOWN
from steppe.comparisons.runs import Asked
from steppe.errors import StoreError
from steppe.measures import MEASURES
from steppe.results import Estimate
from steppe_lab.analysis.single import Network
from steppe_lab.store import journal
from steppe_lab.store.json_files import digest
from steppe_lab.training.checkpoints import versions

FOLDER = "measures"  # below the folder of all results


class Finished:
    """Estimates of one network, which are written as they come.

    Args:
        network: on the samples that it is measured on.
        folder: of all results.
        beside: of each measure, by its name: all else that its estimates follow from.
        failed: called once with the reason where nothing can be kept.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        beside: Mapping[str, str],
        failed: Callable[[str], object],
    ) -> None:
        self.path = folder / FOLDER / f"{identity(network)}.jsonl"
        self.before = 0  # estimates that were asked for and known
        self._beside = beside
        self._failed: Callable[[str], object] | None = failed
        self._estimates: dict[str, Estimate] = {}
        if network.objective.digest.startswith(UNKNOWN):
            self._give_up("batches of other things than tensors cannot be recognized")
            return
        try:
            for record in journal.records(self.path):
                estimate = Estimate.from_dict(record["estimate"])
                self._estimates[record["asked"]] = estimate
        except StoreError as error:
            self._give_up(str(error))

    def __getitem__(self, asked: Asked) -> Estimate:
        estimate = self._estimates[self._key(asked)]
        self.before += 1
        return estimate

    def __setitem__(self, asked: Asked, estimate: Estimate) -> None:
        key = self._key(asked)
        self._estimates[key] = estimate
        if self._failed is None:
            return
        try:
            journal.append(self.path, {"asked": key, "estimate": estimate.to_dict()})
        except StoreError as error:
            self._give_up(str(error))

    def __contains__(self, asked: object) -> bool:
        return isinstance(asked, Asked) and self._key(asked) in self._estimates

    def __len__(self) -> int:
        return len(self._estimates)

    def _key(self, asked: Asked) -> str:
        beside = self._beside.get(asked.measure.partition(":")[0], "")
        return digest({**asdict(asked), "beside": beside})

    def _give_up(self, reason: str) -> None:
        if self._failed is not None:
            self._failed(f"finished measurements are not kept: {reason}")
        self._failed = None


def identity(network: Network) -> str:
    """Digest of all that measurements of a network follow from, 16 digits."""
    objective = network.objective
    return digest(
        {
            "checkpoint": network.digest,
            "data": objective.digest,
            "mode": objective.mode,
            "device": objective.device.type,
            "versions": versions(),
        }
    )[:16]


def beside(measures: Collection[str], references: Mapping[str, str]) -> dict[str, str]:
    """By name of each measure: its code, and the networks that it needs.

    Args:
        measures: texts.
        references: digest of the start and of the other network, by kind of need.
    """
    all_beside: dict[str, str] = {}
    for text in measures:
        choice = MEASURES.parse(text)
        entry = MEASURES[choice.name]
        needed = [f"{n} {references[n]}" for n in entry.spec.needs if n in references]
        built = MEASURES.build(choice).choice().name
        all_beside[built] = "\n".join([choice.name, entry.source_digest(), *needed])
    return all_beside
