"""Work that writes down when it begins and ends, and a driver of it to be killed."""

import multiprocessing
import os
import sys
import time
from pathlib import Path

from steppe_lab.execution.abstract import Bundles
from steppe_lab.execution.local import run_local
from steppe_lab.store.store import Store

LOG = "log"


def _note(folder, word):
    line = (
        f"{word} {folder.name} {os.getpid()} {multiprocessing.parent_process().pid}\n"
    )
    # One write to a file that is only appended to: lines of processes do not mix.
    log = os.open(folder.parent.parent / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, line.encode())
    os.close(log)


def work(config, folder, report):
    _note(folder, "begin")
    time.sleep(config["seconds"])
    (folder / "weights").write_bytes(bytes([config["number"]]) * 1000)
    _note(folder, "end")
    return {"third": config["number"] / 3}


def work_together(configs, folders, report, done):
    for folder in folders:
        _note(folder, "begin")
    for index, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        time.sleep(config["seconds"])
        (folder / "weights").write_bytes(bytes([config["number"]]) * 1000)
        _note(folder, "end")
        done(index, {"third": config["number"] / 3})


def cut(size, runs):
    return [tuple(runs[at : at + size]) for at in range(0, len(runs), size)]


def drive(root, size):
    """Do all runs of a store with two workers, in bundles of a size."""
    store = Store(root)
    order = store.ids()
    bundles = Bundles(lambda runs: cut(size, runs), "chaos_jobs:work_together")
    run_local(store, order, "chaos_jobs:work", workers=2, bundles=bundles)


if __name__ == "__main__":
    drive(Path(sys.argv[1]), int(sys.argv[2]))
