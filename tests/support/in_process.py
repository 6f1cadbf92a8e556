"""An executor without processes, which would take most of the time of a test."""

from collections import deque

from steppe_lab.execution.local import Outcome
from steppe_lab.work import work as do


def run_local(store, runs, work, *, then=lambda run, finished: (), **_):
    """Do runs, and what follows them, in this process."""
    waiting, done = deque(runs), []
    while waiting:
        done.append(run := waiting.popleft())
        if not store.is_finished(run):
            settings, folder = store.config(run), store.folder(run)
            store.finish(run, do(settings, folder, lambda *_: None))
        waiting.extend(then(run, True))
    return Outcome(tuple(done), {})
