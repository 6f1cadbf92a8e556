"""A study that many processes work on, each for itself, such as those of an array job.

They know of each other by the leases in the store alone, so that any of them may begin
late, end early or be killed.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from steppe_lab.execution.abstract import Bundles, Outcome
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Progress, Report, silent
from steppe_lab.store.store import Store
from steppe_lab.studies.study import Study


@dataclass
class Share:
    """Runs of a study that one process has done, by kind."""

    finished: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def sentence(self) -> str:
        """All of it in words."""
        parts = [
            f"{sum(counts.values()):,} {word}{_by_kind(counts)}"
            for word, counts in (("finished", self.finished), ("failed", self.failed))
        ]
        return f"this worker: {', '.join(parts)}"


def work_along(
    study: Study,
    *,
    begin: Callable[[], object] | None = None,
    workers: int = 1,
    seconds: float | None = None,
    bundles: Bundles | None = None,
    progress: Report | None = None,
) -> Share:
    """Do runs of a study that nobody else does, until none is left.

    Runs that others work on are left to them, and runs that failed stay failed: each of
    many processes would try them again.

    Args:
        study: its trials and its store.
        begin: called when all checks have passed, before any work.
        workers: processes that this one starts, one thread each.
        seconds: from the call on, after which no run is begun; None for no limit.
        bundles: how runs are done together; None for each by itself.
        progress: called with each event.

    Raises:
        DataError: data that is missing, damaged or not what finished networks were
            trained on; nothing has been done then.
        SettingError: settings that the data or the model refuses, likewise.
    """
    kinds = dict.fromkeys(study.plan, "training") | {
        each: kind for run in study.plan for kind, each in study.followers(run).items()
    }
    share, begun = Share(), set[str]()

    def execute(
        store: Store,
        runs: Iterable[str],
        work: str,
        *,
        progress: Report | None = None,
        **more: Any,
    ) -> Outcome:
        tell = progress or silent

        def note(event: Progress) -> None:
            if event.state == "running":
                begun.add(event.run)
            elif event.ended and event.run in begun:  # others were finished before
                ended = share.finished if event.state == "finished" else share.failed
                ended[kinds[event.run]] += 1
            tell(event)

        return run_local(
            store,
            _turned(list(runs)),
            work,
            workers=workers,
            progress=note,
            patient=False,
            retry=False,
            **{"seconds": seconds, "bundles": bundles, **more},
        )

    study.work(execute, begin=begin, workers=workers, progress=progress)
    return share


def _turned(runs: list[str]) -> list[str]:
    """Runs from any one on, so that not all processes ask for the same first."""
    start = secrets.randbelow(len(runs)) if runs else 0
    return runs[start:] + runs[:start]


def _by_kind(counts: Counter[str]) -> str:
    named = [f"{count:,} {kind}" for kind, count in counts.items()]
    return f" ({', '.join(named)})" if named else ""
