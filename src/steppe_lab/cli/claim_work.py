"""The work of `steppe reproduce` on several claims: each goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from steppe.errors import SteppeError, StoreError, UsageError
from steppe_lab.cli.messages import say
from steppe_lab.cli.study_work import HOUR, SHOWN, WorkArguments, do_runs
from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.costs import ClaimCost, cost_of
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.results import (
    ClaimResult,
    ExperimentResult,
    results_of,
)
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.store.store import Store
from steppe_lab.studies.estimating import spread_out
from steppe_lab.studies.selecting import selected
from steppe_lab.studies.status import status_of
from steppe_lab.studies.stored import StoredStudy

Result = TypeVar("Result")


class ClaimWork:
    """The runs of claims of one experiment in a store.

    What a claim lacks, such as data, is kept as the reason for which it was not run,
    and does not stop the others; wrong options and a store that cannot be written do.

    Args:
        experiment: whose claims they are.
        request: what is asked of each claim.
        store: where finished runs are kept and looked for.
        args: where and for how long runs are done; hours are for all claims together.
    """

    def __init__(
        self,
        experiment: Experiment,
        request: Request,
        store: Store,
        args: WorkArguments,
    ) -> None:
        self._experiment = experiment
        self._request = request
        self._store = store
        self._args = args
        self._failures: dict[str, str] = {}  # by claim
        self._without_runs: dict[str, Mapping[str, Ours]] = {}  # by claim
        self._run_failed = False

    def do(self, claims: Iterable[AbstractClaim]) -> None:
        """Do the runs that are left, claim by claim."""
        begun, waiting = time.monotonic(), 0
        for claim, study in self._studies(claims):
            args = self._args
            if args.hours is not None:
                gone = (time.monotonic() - begun) / HOUR
                if gone >= args.hours:
                    waiting += study.study.left
                    continue
                args = args.model_copy(update={"hours": args.hours - gone})
            self._guarded(claim, self._runs_of, study, args)
            status = status_of(study.study)
            waiting += status.count("waiting")
            self._say_failures(claim, status.failures)
        if self._args.hours is not None and waiting:
            say(
                f"{self._args.hours:g} h are over; the same command does the runs that "
                "are left."
            )

    def results(
        self, claims: Iterable[AbstractClaim], *, whole: bool = False
    ) -> ExperimentResult:
        """Our numbers as far as they are, beside the published ones.

        Args:
            claims: of the experiment.
            whole: all cells of the scale, whatever was asked for.
        """
        request = replace(self._request, cells=()) if whole else self._request
        return ExperimentResult(
            experiment=self._experiment,
            request=request,
            claims=tuple(self._result(claim, request) for claim in claims),
        )

    def costs(self, claims: Iterable[AbstractClaim]) -> list[ClaimCost]:
        """The cost of each claim."""
        made = []
        before: set[str] = set()  # trainings of the claims that are done first
        for claim in claims:
            study = self._study(claim, self._request)
            cost = self._guarded(claim, cost_of, claim, self._request, study, before)
            before.update(() if study is None else study.plan)
            failure = self._failures.get(claim.name, "")
            made.append(
                ClaimCost(claim=claim.name, cells=0, failure=failure)
                if failure or cost is None
                else cost
            )
        return made

    def exit_code(self, result: ExperimentResult) -> int:
        """1 where a claim could not be tested or a run failed."""
        # Numbers of files are there at once, or lack what they are read from.
        unread = any(
            row.verdict == "not run"
            for each in result.claims
            if not each.study
            for row in each.rows
        )
        return int(bool(self._failures) or self._run_failed or unread)

    def _result(self, claim: AbstractClaim, request: Request) -> ClaimResult:
        study = self._study(claim, request)
        failure = self._failures.get(claim.name, "")
        ours = None
        if study is None and not failure and claim.chosen(request):
            ours = self._ours_without_runs(claim)
        return results_of(claim, request, study, failure, ours=ours)

    def _ours_without_runs(self, claim: AbstractClaim) -> Mapping[str, Ours]:
        """Our numbers from files, read once for the table and for the whole page."""
        if claim.name not in self._without_runs:
            whole = replace(self._request, cells=())
            self._without_runs[claim.name] = claim.ours(whole, None)
        return self._without_runs[claim.name]

    def _studies(
        self, claims: Iterable[AbstractClaim]
    ) -> Iterator[tuple[AbstractClaim, StoredStudy]]:
        """The runs of each claim, and those that go on from them when they are done."""
        for claim in claims:
            study = self._study(claim, self._request)
            while study is not None:
                yield claim, study
                before, study = study, self._study(claim, self._request)
                if study is not None and study.settings == before.settings:
                    break

    def _study(self, claim: AbstractClaim, request: Request) -> StoredStudy | None:
        """The runs of a claim that are asked for; None where there are none."""
        if not claim.chosen(request):
            return None
        study = self._guarded(claim, claim.study, request, self._store)
        if study is None or not (self._args.only or self._args.limit):
            return study
        args = self._args
        plan = selected(study.plan, study.settings, args.only, args.limit)
        return replace(study, plan=plan)

    def _runs_of(self, study: StoredStudy, args: WorkArguments) -> None:
        plan = study.plan
        if args.pilot is not None:
            plan = spread_out(plan, study.settings, args.pilot)
        do_runs(study, plan, args)

    def _guarded(
        self, claim: AbstractClaim, work: Callable[..., Result], *of: object
    ) -> Result | None:
        """Do a piece of work; a claim that cannot be tested is told once."""
        try:
            return work(*of)
        except (UsageError, StoreError):
            raise
        except SteppeError as error:
            if claim.name not in self._failures:
                say(f"{claim.name} is not run: {error}")
            self._failures[claim.name] = str(error).rstrip(".")
            return None

    def _say_failures(self, claim: AbstractClaim, failures: Mapping[str, str]) -> None:
        if failures:
            self._run_failed = True
        for name, reason in list(failures.items())[:SHOWN]:
            say(f"{claim.name}, {name} failed: {reason}")
        if len(failures) > SHOWN:
            say(f"{claim.name}: {len(failures) - SHOWN} more failed.")
