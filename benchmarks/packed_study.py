"""The networks of a study trained together in one process, stored as a worker does.

    python -m benchmarks.packed_study NETWORKS EPOCHS

Prints a line of JSON with the seconds from the first network to the end of the last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from typing import Any

import torch

from benchmarks.studies import recipes
from steppe_lab.progress import silent
from steppe_lab.runs.abstract import config_of
from steppe_lab.store.store import Store
from steppe_lab.work import work_together


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", type=int)
    parser.add_argument("epochs", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    errors: list[BaseException] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        configs = [config_of(each) for each in recipes(args.networks, args.epochs)]
        runs = [store.add(config) for config in configs]

        def done(index: int, result: dict[str, Any] | BaseException) -> None:
            if isinstance(result, BaseException):
                errors.append(result)
            else:
                store.finish(runs[index], result)

        wall, cpu = time.perf_counter(), time.process_time()
        work_together(configs, [store.folder(run) for run in runs], silent, done)
        took = {
            "networks": sum(map(store.is_finished, runs)),
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
    for error in errors:
        raise error
    print(json.dumps(took))


if __name__ == "__main__":
    main()
