"""The contract of executors, which work on runs of a store until each has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe_lab.progress import Report
from steppe_lab.store.store import Failure, Store

Then = Callable[[str, bool], Iterable[str]]


@dataclass(frozen=True)
class Bundles:
    """Runs that one worker does together, such as networks that train as one.

    A member that fails does so alone. When a worker dies, members that have ended stay
    and the others are tried again in halves, until the one that kills is alone.

    Args:
        cut: called with ids of runs that are to be done, in order; returns tuples of
            them with each id once. A tuple of one is an ordinary run.
        work: `module:function`, called with the settings of several runs, their
            folders, a `report(progress)` and `done(index, result)`, which takes the
            dict or the exception that a member has ended with as soon as it has. A
            progress whose `run` is the name of a folder is of that member, one
            without is of all that have not ended.
    """

    cut: Callable[[Sequence[str]], Iterable[tuple[str, ...]]]
    work: str


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
        bundles: Bundles | None = None,
        seconds: float | None = None,
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
            bundles: how runs are done together; None for each by itself.
            seconds: from the call on, after which no run is begun; those that go on
                may end. None for no limit.

        Returns:
            Runs of the call, and after them those that `then` returned. Those that a
            limit of time left out are in neither part.
        """
