"""The contract of executors, which work on runs of a store until each has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from steppe_lab.progress import Report
from steppe_lab.store.store import Failure, Store

Then = Callable[[str, bool], Iterable[str]]


@dataclass(frozen=True)
class Outcome:
    """Finished and failed runs, in the order of the call."""

    finished: tuple[str, ...]
    failed: dict[str, Failure]


class Execute(Protocol):
    """An executor: works on runs until each is finished or has failed."""

    def __call__(
        self,
        store: Store,
        runs: Iterable[str],
        work: str,
        *,
        progress: Report | None = None,
        trust: Collection[str] = (),
        then: Then | None = None,
    ) -> Outcome:
        """Work on runs.

        Args:
            store: where the runs are.
            runs: ids, in the order in which to start them.
            work: `module:function`, called with the settings, the folder of the run and
                a `report(progress)`; the dict it returns is the result.
            progress: called in this process as runs go on; fast reports are thinned.
            trust: code of the user, as module:function, that settings may name.
            then: called when a run has ended, with its id and whether it is finished;
                returns runs to work on when all others have been started.

        Returns:
            Runs of the call, and after them those that `then` returned.
        """
