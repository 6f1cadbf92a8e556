"""Measures of one checkpoint, and of several that are compared with the first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

from steppe.comparisons.compare import compare_all
from steppe.comparisons.runs import Asked
from steppe.measures import measure
from steppe.measures.needs.weights.references import OtherNetwork, StartWeights
from steppe.measuring.modes import Mode
from steppe.results import Comparisons, Estimate, Estimates
from steppe_lab.analysis.finished import Finished, beside
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.prices import price_of
from steppe_lab.analysis.references import Reference, start_of, weights_in
from steppe_lab.analysis.single import Network, check_one_loss, read_network
from steppe_lab.progress import Progress, Report, silent
from steppe_lab.runs.analysis import needs, read_measure
from steppe_lab.training.trained_loss import LossKind


@dataclass(frozen=True)
class Measuring:
    """Which checkpoints are measured, and how.

    Args:
        checkpoints: files by their names in tables, all of the network that `belongs`
            names, or of steppe.
        measures: texts such as "lpf:sigma=0.02".
        part: whose samples are measured on.
        samples: at most so many, drawn by the seed of the data.
        mode: of the networks.
        seed: of all random draws, and of the groups of samples.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        start: file with the weights at the start of the training; None for what each
            run kept, or its recipe gives.
        other: a further checkpoint of the same network, for measures of pairs.
        keep: folder of all results, where finished measurements are kept and read
            again; None for nowhere.
        failed: called with a sentence where they cannot be kept.
        long: called with a sentence on the time that measures of one checkpoint will
            take, where that is more than a minute.
        report: called with the progress.
    """

    checkpoints: Mapping[str, Path]
    measures: Sequence[str]
    part: Literal["train", "test"] = "train"
    samples: int = 2000
    mode: Mode = "eval"
    seed: int = 0
    device: str | None = None
    trust: Collection[str] = ()
    belongs: Belongs | None = None
    loss: LossKind = "trained"
    start: Path | None = None
    other: Path | None = None
    keep: Path | None = None
    failed: Callable[[str], object] = field(default=lambda _: None)
    long: Callable[[str], object] = field(default=lambda _: None)
    report: Report = silent


@dataclass(frozen=True)
class Measured:
    """Estimates of each checkpoint, by its name, and comparisons with the first."""

    estimates: Mapping[str, Estimates]
    comparisons: Comparisons | None  # None of a single checkpoint
    references: Mapping[str, Mapping[str, str]]  # names of files by need
    notes: tuple[str, ...] = ()  # sentences without full stops
    before: tuple[str, ...] = ()  # on measurements that were known


@dataclass(frozen=True)
class _Opened:
    network: Network
    references: Mapping[str, Reference]  # by need
    finished: Finished | dict[Asked, Estimate]

    def model(self, need: str) -> nn.Module | None:
        reference = self.references.get(need)
        return reference.model if reference else None


def measured(asked: Measuring) -> Measured:
    """Measure a checkpoint on the data its recipe names.

    Raises:
        CheckpointError: a file that is missing, damaged or not steppe's.
        SettingError: a setting that has no meaning.
        DataError: data that is missing, damaged or not what was trained on.
    """
    (opened,) = _opened(asked)
    network, finished = opened.network, opened.finished
    keys = {t: Asked(str(read_measure(t)), asked.seed) for t in asked.measures}

    def tell(done: int, total: int) -> None:
        text = f"measuring {asked.measures[done]}"
        asked.report(Progress(done, total, text, state="finished", finished=done))

    left = [text for text, key in keys.items() if key not in finished]
    price = price_of(network.objective, left) if left else None
    if price is not None:
        asked.long(price)

    def keep(text: str, estimate: Estimate) -> None:
        if not estimate.refusal:
            finished[keys[text]] = estimate

    estimates = measure(
        network.objective,
        asked.measures,
        seed=asked.seed,
        start=opened.model(StartWeights.kind),
        other=opened.model(OtherNetwork.kind),
        known={text: finished[key] for text, key in keys.items() if key in finished},
        progress=tell,
        finished=keep,
    )
    named = _named(asked, [opened])
    return Measured(
        dict.fromkeys(asked.checkpoints, estimates),
        None,
        named,
        network.notes,
        _before([opened]),
    )


def compared(asked: Measuring, *, groups: int = 20, repeats: int = 8) -> Measured:
    """Measure several checkpoints on the same samples and draws; differences to one.

    Args:
        asked: with two or more checkpoints.
        groups: of the samples, left out one at a time for errors over the data.
        repeats: of what is drawn, for errors over the draws.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for all.
        SettingError: a setting that has no meaning.
    """
    opened = _opened(asked)
    names = list(asked.checkpoints)

    def tell(done: int, total: int) -> None:
        text = f"measuring {len(names)} networks"
        asked.report(Progress(done, total, text))

    comparisons = compare_all(
        [each.network.objective for each in opened],
        asked.measures,
        names=names,
        groups=groups,
        repeats=repeats,
        seed=asked.seed,
        starts=[each.model(StartWeights.kind) for each in opened],
        other=opened[0].model(OtherNetwork.kind),
        known=[each.finished for each in opened],
        progress=tell,
    )
    first = next(iter(comparisons.values()))
    estimates = {names[0]: Estimates({key: one.a for key, one in first.items()})}
    for name, comparison in comparisons.items():
        estimates[name] = Estimates({key: one.b for key, one in comparison.items()})
    return Measured(
        estimates,
        comparisons,
        _named(asked, opened),
        opened[0].network.notes,
        _before(opened),
    )


def _opened(asked: Measuring) -> list[_Opened]:
    """All checkpoints, and the weights that their measures need."""
    choices = [read_measure(text) for text in asked.measures]
    opened: list[_Opened] = []
    for path in asked.checkpoints.values():
        network = read_network(
            path,
            part=asked.part,
            samples=asked.samples,
            mode=asked.mode,
            device=asked.device,
            trust=asked.trust,
            belongs=asked.belongs,
            loss=asked.loss,
        )
        if opened:
            check_one_loss(opened[0].network, network)
        network.objective.about |= {"part": asked.part, "augmentation": "none"}
        references: dict[str, Reference | None] = {}
        if any(needs(choice.name, StartWeights.kind) for choice in choices):
            references[StartWeights.kind] = start_of(network, asked.start)
        if asked.other is not None:
            references[OtherNetwork.kind] = weights_in(asked.other, network)
        given = {need: each for need, each in references.items() if each}
        digests = {need: each.digest for need, each in given.items()}
        finished: Finished | dict[Asked, Estimate] = {}
        if asked.keep is not None:
            extra = beside(asked.measures, digests)
            finished = Finished(network, asked.keep, extra, asked.failed)
        opened.append(_Opened(network, given, finished))
    return opened


def _named(asked: Measuring, opened: Sequence[_Opened]) -> dict[str, dict[str, str]]:
    return {
        name: {need: each.name for need, each in one.references.items()}
        for name, one in zip(asked.checkpoints, opened, strict=True)
    }


def _before(opened: Sequence[_Opened]) -> tuple[str, ...]:
    """A sentence on the measurements that earlier calls had finished."""
    known = [each.finished for each in opened if isinstance(each.finished, Finished)]
    count = sum(each.before for each in known)
    if not count:
        return ()
    where = ", ".join(dict.fromkeys(str(each.path) for each in known if each.before))
    many = f"{count} measurements were" if count > 1 else "1 measurement was"
    return (f"{many} finished before, and read from {where}.",)
