"""The examination of one run: its settings, its records, its files, its lease."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from steppe.errors import (
    ChangedCodeError,
    SteppeError,
    StoreError,
    TrustError,
)
from steppe.files import leases
from steppe.registry.registry import reading
from steppe_lab.complaints import cause_of, reason_of
from steppe_lab.runs.abstract import run_kinds
from steppe_lab.runs.training import CHECKPOINT, HISTORY, STATE
from steppe_lab.store.store import Store, run_id
from steppe_lab.studies.doctor.files import (
    complaint,
    facts_of,
    is_readable,
    leftovers,
    listed,
    plain,
    read,
    state_complaint,
)
from steppe_lab.studies.doctor.findings import Finding, Repair, Severity
from steppe_lab.training.callbacks.keeping import ENDING, FOLDER, STATE_ENDING
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.settings import SEEDS

_CONFIG, _RESULT = "config.json", "result.json"
_FAILURE, _LEASE = "failure.json", "lease.json"
_SEEDS = range(SEEDS)
AGAIN = "it is done again by the next `steppe study run`"


@dataclass(frozen=True)
class Judgement:
    """Settings as this version of steppe, with the code of today, reads them.

    Args:
        severity: of the finding, where there is one.
        why: they cannot be used, as a clause; "" where they can.
        fix: the way out.
        samples: equal for trainings that choose the same samples.
    """

    severity: Severity = "warning"
    why: str = ""
    fix: str = ""
    samples: str = ""


@dataclass(frozen=True)
class How:
    """How runs are examined."""

    quick: bool = False  # neither weights nor kept measures are read
    trust: Collection[str] = ()  # code of the user that settings may name
    before: float = 0.0  # time of change, in seconds, of what nobody writes any more
    # Runs of a study have settings in common, whose check takes most of the time.
    judged: dict[str, Judgement] = field(default_factory=dict)


@dataclass
class RunFolder:
    """The folder of a run, and the findings in it.

    Args:
        store: that it is in.
        run: its id.
        how: it is examined.
    """

    store: Store
    run: str
    how: How
    findings: list[Finding] = field(default_factory=list)
    status: str = "damaged"
    config: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    samples: str = ""  # equal for trainings that choose the same samples

    @cached_property
    def folder(self) -> Path:
        """Its folder."""
        return self.store.folder(self.run)

    def examine(self) -> None:
        """Look at all files of the run."""
        names, why = listed(self.folder)
        if why:
            self._add("damaged", self.folder, why, "give yourself the right to read it")
            return
        if _LEASE in names and not self._is_stale():
            self.status = "running"  # its files are being written
            self._read_settings()
            return
        self._leases_and_leftovers(names)
        if not names:
            text = f"{self.folder} is empty"
            self._add("warning", self.folder, text, "remove it", "remove")
            self.status = "empty"
            return
        if not self._read_settings():
            return
        self.status = self.store.status(self.run)
        self._records(names)
        if self.config and self.config.get("kind") == "training":
            self._training(names)
        elif not self.how.quick:
            for path in sorted((self.folder / "measures").glob("*.json")):
                self._record(path, "warning", "it is measured again when it is needed")

    def _add(
        self,
        severity: Severity,
        path: Path,
        text: str,
        fix: str,
        repair: Repair = "",
    ) -> None:
        if repair == "set_aside" and not is_readable(path):  # it may be whole
            fix, repair = "give yourself the right to read it, or restore it", ""
        self.findings.append(Finding(severity, path, text, fix, repair, self.run))

    def _is_stale(self) -> bool:
        return leases.is_stale(self.folder / _LEASE, self.store.stale_after)

    def _leases_and_leftovers(self, names: Collection[str]) -> None:
        lease = self.folder / _LEASE
        if _LEASE in names:
            text = f"{lease} is the lease of a process that is gone"
            self._add("warning", lease, text, "free it", "free")
        inside = [self.folder / name for name in names if "." not in name]
        for folder in (self.folder, *inside):  # of measures, of checkpoints
            for path in leftovers(folder, listed(folder)[0], self.how.before):
                text = f"{path} was left by a process that ended while it wrote"
                self._add("warning", path, text, "remove it", "remove")

    def _read_settings(self) -> bool:
        """Whether the settings are those of the id."""
        try:
            self.config = self.store.config(self.run)
        except StoreError as error:
            fix = f"move the folder away, and {AGAIN}"
            self._add("damaged", self.folder, complaint(error), fix, "set_aside")
            return False
        self._validate(self.config)
        return True

    def _validate(self, config: dict[str, Any]) -> None:
        """Note settings that this version of steppe, or the code of today, refuses."""
        path = self.folder / _CONFIG
        key = _without_names(config)
        if key not in self.how.judged:
            self.how.judged[key] = _judgement(config, path, self.how.trust)
        judged = self.how.judged[key]
        self.samples = judged.samples
        if judged.why:
            self._add(judged.severity, path, f"{path} {judged.why}", judged.fix)

    def _record(self, path: Path, severity: Severity, then: str) -> Any:
        record, why = read(path)
        if why:
            self._add(severity, path, why, f"move it away, and {then}", "set_aside")
        return record

    def _records(self, names: Collection[str]) -> None:
        if _RESULT in names:
            self.result = self._record(self.folder / _RESULT, "damaged", AGAIN)
        if _FAILURE in names:
            self._record(self.folder / _FAILURE, "damaged", "its attempts count anew")

    def _training(self, names: Collection[str]) -> None:
        """The network and the history of a training, and the states along it."""
        for name in (CHECKPOINT, HISTORY):
            if _RESULT in names and name not in names:
                text = f"{self.folder / name} is missing beside a result"
                fix = f"move the result away, and {AGAIN}"
                self._add("damaged", self.folder / _RESULT, text, fix, "set_aside")
        if HISTORY in names:
            self._record(self.folder / HISTORY, "damaged", AGAIN)
        if CHECKPOINT in names:
            self._checkpoint(self.folder / CHECKPOINT)
        if self.how.quick:
            return
        states = [self.folder / STATE] if STATE in names else []
        states += sorted((self.folder / FOLDER).glob(f"*{STATE_ENDING}"))
        for path in states:
            if why := state_complaint(path):
                fix = "move it away, and the training begins anew where it is needed"
                self._add("damaged", path, why, fix, "set_aside")
        for path in sorted((self.folder / FOLDER).glob(f"*{ENDING}")):
            if why := facts_of(path, quick=False)[1]:
                fix = "move it away, and train the run again if it is needed"
                self._add("damaged", path, why, fix, "set_aside")

    def _checkpoint(self, path: Path) -> None:
        facts, why = facts_of(path, quick=self.how.quick)
        if facts and run_id({"kind": "training", **facts.recipe}) != self.run:
            why = f"{path} is the network of another run"
        elif facts and self.result and facts.data != self.result.get("data"):
            why = f"{path} was trained on other samples than its result names"
        if why:
            self._add("damaged", path, why, f"move it away, and {AGAIN}", "set_aside")


def _without_names(config: Mapping[str, Any]) -> str:
    """Settings without those that differ between runs which are judged alike."""
    seed = config.get("seed")
    usual = type(seed) is int and seed in _SEEDS
    left_out = {"training", "seed"} if usual else {"training"}
    return plain({key: each for key, each in config.items() if key not in left_out})


def _judgement(
    config: Mapping[str, Any], path: Path, trust: Collection[str]
) -> Judgement:
    kind = run_kinds().get(str(config.get("kind")))
    if kind is None:
        return Judgement(
            why=f"is of a kind of run that is not known: {config.get('kind')}",
            fix="upgrade steppe, or leave the run to the program that made it",
        )
    settings = {key: value for key, value in config.items() if key != "kind"}
    try:
        with reading(path, trust):
            record = kind.record.model_validate(settings)
    except TrustError as error:
        why = complaint(error).removeprefix(f"{path} ")
        return Judgement("note", why, "name it with --trust to compare it")
    except (ValidationError, SteppeError, KeyError, TypeError) as error:
        changed = isinstance(cause_of(error), ChangedCodeError)
        why = complaint(SteppeError(reason_of(error)))
        fix = "restore that code, or begin the study anew with the code of today"
        other = "use it where its settings hold, with the steppe that made it"
        why = f"cannot be used here: {why}"
        return Judgement(why=why, fix=fix if changed else other)
    if isinstance(record, Recipe):
        return Judgement(samples=plain([str(record.data), str(record.selection)]))
    return Judgement()


def orphans(folders: dict[str, RunFolder]) -> Iterator[Finding]:
    """Runs that follow a training which the store has not."""
    for run, each in folders.items():
        training = (each.config or {}).get("training")
        if training is not None and training not in folders:
            yield Finding(
                "warning",
                each.folder,
                f"{each.folder} follows the training {training}, which is gone",
                "restore that run, or delete the folder",
                run=run,
            )


def of_other_data(folders: dict[str, RunFolder]) -> Iterator[Finding]:
    """Trainings on other samples than most of those that chose the same ones."""
    chosen: dict[str, dict[str, list[RunFolder]]] = {}
    for each in folders.values():
        data = (each.result or {}).get("data")
        if each.samples and isinstance(data, str):
            chosen.setdefault(each.samples, {}).setdefault(data, []).append(each)
    for by_data in chosen.values():
        usual, *others = sorted(by_data.values(), key=len, reverse=True)
        for each in (run for runs in others for run in runs):
            yield Finding(
                "damaged",
                each.folder,
                f"{each.folder} was trained on other samples than {len(usual)} runs "
                "with the same settings of the data",
                "restore the data, and delete the folders of runs on the others",
                run=each.run,
            )
