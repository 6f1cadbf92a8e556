"""A store of many runs: its overhead for each run, and the time to read it as a whole.

    python -m benchmarks.store [--trials 3000] [--measures 40] [--folder DIR] [--out F]

Makes a study of synthetic results (no network is trained) with an analysis for each
training, then times all that reads it. `wall_ms` and `cpu_ms` of a single run are
medians; on a busy disk the first is mostly waiting. Times of the whole are in seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import surroundings
from steppe_lab.reports.tables.formats import export
from steppe_lab.reports.tables.sql import query
from steppe_lab.runs.analysis import keys_of, read_measure
from steppe_lab.store.json_files import write_atomically, write_record
from steppe_lab.store.store import Store
from steppe_lab.studies.doctor.examine import examine
from steppe_lab.studies.expansion import completed
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.stored import StoredStudy, open_study, remember
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model

EPOCHS = 20  # of a synthetic history
SINGLE = 200  # runs that the overhead is a median of


def settings_of(trials: int, measures: int) -> StudySettings:
    levels = -(-trials // 9)
    raw = {
        "name": "synthetic",
        "base": {"data": "digits", "model": "small_cnn:width=2", "epochs": EPOCHS},
        "grid": {
            "base.lr": [0.1 * (n + 1) / levels for n in range(levels)],
            "batch_size": [16, 32, 64],
        },
        "seeds": 3,
        "measures": [f"lpf:sigma={0.001 * (n + 1):g}" for n in range(measures)],
    }
    return completed(StudySettings.model_validate(raw))


def scores(draw: random.Random, epoch: int) -> dict[str, float]:
    names = ("train_loss", "train_error", "test_loss", "test_error", "running_loss")
    return {"epoch": float(epoch), "lr": 0.1, **{name: draw.random() for name in names}}


def fill(study: StoredStudy) -> None:
    """Results of all runs, written without waiting for the disk."""
    store, plan, draw = study.store, study.study.plan, random.Random(0)
    keys = keys_of([read_measure(text) for text in study.settings.measures[0]])
    recipe = next(iter(plan.values())).recipe
    model = build_model(recipe, (1, 8, 8), 10)
    followers = [config for run in plan for config in plan.followers(run).values()]
    store.add_all([trial.config for trial in plan.values()])
    store.add_all(followers)
    for run, trial in plan.items():
        history = [scores(draw, epoch + 1) for epoch in range(EPOCHS)]
        contents = checkpoints.to_bytes(model, trial.recipe, (1, 8, 8), 10, "0" * 64)
        folder = store.folder(run)
        write_atomically(folder / "model.safetensors", contents, survives="nothing")
        write_record(folder / "history.json", {"epochs": history}, survives="nothing")
        write_record(folder / "result.json", result(history), survives="nothing")
        for follower in study.study.followers(run).values():
            record = {"measures": {key: estimate(draw) for key in keys}}
            path = store.folder(follower) / "result.json"
            write_record(path, record, survives="nothing")


def result(history: list[dict[str, float]]) -> dict[str, Any]:
    return {
        "last": history[-1],
        "best": history[-2],
        "gradients": 1.0,
        "wrong": list(range(0, 500, 5)),
        "parameters": 602,
        "train_samples": 1000,
        "test_samples": 500,
        "notes": [],
        "data": "0" * 64,
        "task": "classification",
        "versions": checkpoints.versions(),
    }


def estimate(draw: random.Random) -> dict[str, Any]:
    return {
        "value": draw.lognormvariate(0, 2),
        "stderr": draw.random(),
        "samples": 100,
        "converged": True,
        "cost": {"forward": 100.0, "gradients": 0.0, "products": 0.0},
        "details": {"sigma": draw.random(), "draws": 100, "loss": draw.random()},
        "refusal": "",
    }


def single(folder: Path, measures: int) -> dict[str, dict[str, float]]:
    """Milliseconds that the store takes of a run, one after another."""
    draw, store, spent = random.Random(1), Store(folder), {}
    wholes = [
        {"measures": {str(n): estimate(draw) for n in range(measures)}}
        for _ in range(SINGLE)
    ]
    runs: list[str] = []

    def put_down(n: int) -> None:
        runs.append(store.add({"seed": n}))

    def work(n: int) -> None:
        lease = store.claim(runs[n])
        assert lease is not None
        with lease:
            store.finish(runs[n], wholes[n])

    for name, act in {"add": put_down, "claim_finish_release": work}.items():
        walls, cpus = [], []
        for n in range(SINGLE):
            wall, cpu = time.perf_counter(), time.process_time()
            act(n)
            walls.append(1e3 * (time.perf_counter() - wall))
            cpus.append(1e3 * (time.process_time() - cpu))
        spent[name] = {
            "wall_ms": statistics.median(walls),
            "cpu_ms": statistics.median(cpus),
        }
    configs = [{"many": n} for n in range(SINGLE)]
    wall, cpu = time.perf_counter(), time.process_time()
    store.add_all(configs)
    spent["add_all"] = {
        "wall_ms": 1e3 * (time.perf_counter() - wall) / SINGLE,
        "cpu_ms": 1e3 * (time.process_time() - cpu) / SINGLE,
    }
    return spent


def whole(root: Path, exports: Path) -> dict[str, dict[str, float]]:
    """Seconds of all that reads a store."""
    spent: dict[str, dict[str, float]] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        value = act()
        spent[name] = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
        }
        print(f"{name:16} {spent[name]['cpu_s']:7.2f} s of CPU", flush=True)
        return value

    store = Store(root)
    timed("ids", store.ids)
    timed("rows", lambda: list(store.rows()))
    study = timed("open_study", lambda: open_study(store))
    timed("study", lambda: study.study)
    timed("left", lambda: study.study.left)
    table = timed("table_of", study.table)
    for form in ("parquet", "csv", "json", "jsonl", "pkl"):
        path = exports / f"table.{form}"
        timed(f"export {form}", lambda p=path, f=form: export(table, p, f))
    text = "SELECT lr, avg(gap), corr(gap, epochs) FROM runs GROUP BY lr"
    timed("sql", lambda: query(text, {"runs": table}))
    timed("doctor --quick", lambda: examine(root, quick=True))
    timed("doctor", lambda: examine(root))
    return spent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store")
    parser.add_argument("--trials", type=int, default=3000)
    parser.add_argument("--measures", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="of the store, which is kept")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "store"
        if not folder.exists():
            wall = time.perf_counter()
            store = Store(folder)
            remember(store, settings_of(args.trials, args.measures))
            fill(open_study(store))
            print(f"made in {time.perf_counter() - wall:.0f} s", flush=True)
        record = {
            **surroundings(),
            "trials": args.trials,
            "measures": args.measures,
            "single": single(Path(temporary) / "single", args.measures),
            "whole": whole(folder, Path(temporary)),
        }
    text = json.dumps(record, indent=2) + "\n"
    if args.out:
        args.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
