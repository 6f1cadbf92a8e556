"""Barriers between the networks of several checkpoints, or of all runs of a store.

A finished barrier is kept, so that a command that is given again goes on where the last
one ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from steppe.comparisons.barriers import Between, PathName, barriers
from steppe.errors import CheckpointError, DataError
from steppe.landscapes.subspaces.curve import Curve
from steppe.objective import Objective
from steppe.results import Barriers, Estimate
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.kept import Kept
from steppe_lab.analysis.places import checkpoint_at
from steppe_lab.analysis.single import Network, check_one_loss, read_network
from steppe_lab.progress import Progress, Report, silent
from steppe_lab.runs.barrier_settings import BarrierSettings
from steppe_lab.runs.training import CHECKPOINT, is_whole
from steppe_lab.store.json_files import digest
from steppe_lab.store.store import Store
from steppe_lab.training.checkpoints import versions
from steppe_lab.training.trained_loss import LossKind

FOLDER = "barriers"  # below the folder of all results


@dataclass(frozen=True)
class Noted:
    """Barriers with sentences on the samples that they are about."""

    value: Barriers
    notes: tuple[str, ...] = ()  # without full stops


@dataclass(frozen=True)
class Asked:
    """Between which networks, and how.

    Args:
        checkpoints: two or more files of networks of one structure and data.
        settings: of the paths and the samples.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        keep: folder of all results, where finished barriers are kept and read again;
            None for nowhere.
        failed: called with a sentence where they cannot be kept.
        report: called with the progress.
    """

    checkpoints: Sequence[Path]
    settings: BarrierSettings = field(default_factory=BarrierSettings)
    device: str | None = None
    trust: Collection[str] = ()
    belongs: Belongs | None = None
    loss: LossKind = "trained"
    keep: Path | None = None
    failed: Callable[[str], object] = field(default=lambda _: None)
    report: Report = silent


def checkpoints_at(places: Sequence[Path], store: Path) -> list[Path]:
    """The networks of several places, in their order.

    Args:
        places: files, folders and ids of runs; a store stands for all of its finished
            trainings, by optimizer and seed.
        store: the folder of runs that bare ids are looked for in.

    Raises:
        CheckpointError: a place without a network.
    """
    paths: list[Path] = []
    for place in places:
        runs = Store(place)
        ids = runs.ids() if place.is_dir() else []
        if not ids:
            paths.append(checkpoint_at(place, store))
            continue
        configs = {run: runs.config(run) for run in ids}
        trained = [
            runs.artefact(run, CHECKPOINT)
            for run in sorted(ids, key=lambda run: _order(configs[run]))
            if configs[run].get("kind") == "training" and is_whole(runs, run)
        ]
        if not trained:
            raise CheckpointError(
                f"{place} holds no finished training; wait for one, or name a store "
                "that `steppe compare --out` wrote."
            )
        paths += trained
    return paths


def _order(config: Mapping[str, Any]) -> tuple[str, str, int]:
    """Networks of one optimizer stand together, by their seeds."""
    methods = str(config.get("optimizer")), str(config.get("base"))
    return (*methods, int(config.get("seed") or 0))


def barriers_between(asked: Asked) -> Noted:
    """Barriers between every two networks, straight, matched and along a curve.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for all.
        SettingError: fewer than two networks, or some of unlike parameters or losses.
    """
    settings = asked.settings
    first, states, digests = _networks(asked)
    fitted_on = first.objective
    if settings.curve_steps and settings.part != "train":
        # A curve that was fitted on the samples it is measured on says little.
        fitted_on = _read(asked, asked.checkpoints[0], part="train").objective
    paths: list[PathName] = ["straight"]
    paths += [] if settings.no_matched else ["matched"]
    paths += ["curve"] if settings.curve_steps else []
    finished = _Finished(asked, first, digests)
    pairs = [(a, b) for i, a in enumerate(states) for b in list(states)[i + 1 :]]

    def tell(done: int, total: int) -> None:
        a, b = pairs[min(done // len(paths), len(pairs) - 1)]
        text = f"between {a} and {b}"
        asked.report(Progress(done, total, text, finished=done))

    result = barriers(
        first.objective,
        states,
        paths=paths,
        curve=_curve_maker(settings, fitted_on) if settings.curve_steps else None,
        points=settings.points,
        batch_norm=settings.batch_norm,
        seed=settings.seed,
        known=finished,
        progress=tell,
    )
    return Noted(result, (*first.notes, *finished.notes))


def _curve_maker(
    settings: BarrierSettings, objective: Objective
) -> Callable[[nn.Module, nn.Module], Curve]:
    make = Curve.bezier if settings.curve == "bezier" else Curve.polychain

    def fitted(a: nn.Module, b: nn.Module) -> Curve:
        line = make(a, b, settings.bends)
        return line.fit(objective, steps=settings.curve_steps, seed=settings.seed)

    return fitted


def _networks(
    asked: Asked,
) -> tuple[Network, dict[str, dict[str, Tensor]], dict[str, str]]:
    """The first network, the tensors of all by name, and the digests of the files."""
    states: list[dict[str, Tensor]] = []
    names: list[str] = []
    digests: list[str] = []
    first: Network | None = None
    for path in asked.checkpoints:
        network = _read(asked, path, part=asked.settings.part)
        first = first or network
        check_one_loss(first, network)
        if first.objective.digest != network.objective.digest:
            raise DataError(
                f"{first.path} and {path} are of other data or samples; barriers need "
                "one loss, so give checkpoints of the same data."
            )
        state = network.objective.model.state_dict()
        states.append({name: t.detach().clone() for name, t in state.items()})
        made = network.saved is not None
        names.append(f"{network.recipe.label}, seed {network.recipe.seed}" * made)
        digests.append(network.digest)
    assert first is not None
    if "" in names or len(set(names)) < len(names):
        names = _apart(asked.checkpoints)
    return first, dict(zip(names, states)), dict(zip(names, digests))


def _read(asked: Asked, path: Path, *, part: str) -> Network:
    return read_network(
        path,
        part="test" if part == "test" else "train",
        samples=asked.settings.samples,
        device=asked.device,
        trust=asked.trust,
        belongs=asked.belongs,
        loss=asked.loss,
    )


def _apart(paths: Sequence[Path]) -> list[str]:
    """Names of files without the folder that they share."""
    folder = os.path.commonpath([path.absolute().parent for path in paths])
    return [os.path.relpath(path.absolute(), folder) for path in paths]


class _Finished:
    """Barriers that are written as they come, and known to the next call."""

    def __init__(
        self, asked: Asked, first: Network, digests: Mapping[str, str]
    ) -> None:
        self._digests = digests
        self._settings = asked.settings.model_dump(mode="json")
        objective = first.objective
        follows = {
            "data": objective.digest,
            "loss": objective.details["loss"],
            "penalty": str(objective.penalty),
            "device": objective.device.type,
            "versions": versions(),
        }
        path = asked.keep and asked.keep / FOLDER / f"{digest(follows)[:16]}.jsonl"
        read = Estimate.from_dict
        self._kept = Kept(path, objective, "barrier", "barrier", read, asked.failed)

    def __contains__(self, between: object) -> bool:
        return isinstance(between, Between) and self._key(between) in self._kept

    def __getitem__(self, between: Between) -> Estimate:
        return self._kept[self._key(between)]

    def __setitem__(self, between: Between, barrier: Estimate) -> None:
        record = None if barrier.refusal else barrier.to_dict()
        self._kept.add(self._key(between), barrier, record)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence on barriers that were known, without a full stop."""
        return self._kept.notes

    def _key(self, between: Between) -> str:
        """Digest of all that a barrier follows from, beside the data."""
        ignored = {"no_matched"}  # which paths there are beside this one
        if between.path != "curve":
            ignored |= {"curve_steps", "curve", "bends"}
        kept = {k: v for k, v in self._settings.items() if k not in ignored}
        ends = [self._digests[each] for each in (between.first, between.second)]
        return digest({"ends": ends, "path": between.path, **kept})
