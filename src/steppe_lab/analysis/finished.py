"""Measurements of checkpoints that are finished, kept so that none is made twice.

One file for each network, data and mode, in which every measurement is a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from steppe.comparisons.runs import Asked
from steppe.measures import MEASURES
from steppe.results import Estimate
from steppe_lab.analysis.kept import Kept
from steppe_lab.analysis.single import Network
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
        self._beside = beside
        self._kept = Kept(
            self.path,
            network.objective,
            "measurement",
            "estimate",
            Estimate.from_dict,
            failed,
        )

    @property
    def before(self) -> int:
        """Estimates of earlier calls that were asked for."""
        return self._kept.before

    def __getitem__(self, asked: Asked) -> Estimate:
        return self._kept[self._key(asked)]

    def __setitem__(self, asked: Asked, estimate: Estimate) -> None:
        self._kept.add(self._key(asked), estimate, estimate.to_dict())

    def __contains__(self, asked: object) -> bool:
        return isinstance(asked, Asked) and self._key(asked) in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def _key(self, asked: Asked) -> str:
        beside = self._beside.get(asked.measure.partition(":")[0], "")
        return digest({**asdict(asked), "beside": beside})


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
