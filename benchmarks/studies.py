"""Studies of small networks over a script that trains one by one, and work per run.

    python -m benchmarks studies

One study, 48 multilayer perceptrons on the digits that ship with scikit-learn, is done
by a script without steppe (`plain_study.py`), and

- by `steppe study run` with two workers, without measures and with ten. Its time for a
  network is that of 48 less that of 6, so that the start of its processes, which is
  beside it, is not in it. The script measures by the published protocol, whose chains
  and products are fewer than those of measures that say how sure they are;
- by one process with networks that train together (`packed_study.py`), without
  measures; its ratio is of CPU times.

The work beside a training, storing and handing out, is timed from the beginning of one
run to that of a later one. Wall times mean something on idle cores alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks import plain_study
from benchmarks.against import ROOT
from benchmarks.commands import Taken, timed
from benchmarks.timing import Benchmark
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Progress, Report
from steppe_lab.runs import training
from steppe_lab.runs.abstract import config_of
from steppe_lab.store.store import Store
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe
from steppe_lab.work import work

NETWORKS, FEW, EPOCHS = 48, 6, 20
ROUNDS = 3  # at most: one takes minutes
FASTER_BY_TWO, FASTER_PACKED = 1.7, 3.0
OVERHEAD = 0.020  # seconds of a run
RUNS = 40  # that it is the mean of
ENVIRONMENT = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
DRAWS, STEPS = plain_study.DRAWS, plain_study.STEPS
MEASURES = (
    "epsilon_sharpness",
    "pac_bayes",
    f"lpf:samples={DRAWS}",
    f"local_entropy:samples={DRAWS}",
    "local_entropy_gradient",
    "shannon_entropy",
    "fisher_rao",
    "frobenius_norm",
    "top_eigenvalue",
    f"ritz_sum:steps={STEPS},starts=1",
)
BASE_OF = "sgd:lr={},momentum=0.9,weight_decay=0"
BASE = {
    "data": "digits",
    "train_samples": plain_study.TRAIN,
    "model": f"mlp:hidden={plain_study.HIDDEN},depth=2",
    "lr_schedule": "constant",
    "batch_size": plain_study.BATCH,
    "epochs": EPOCHS,
}


def recipes(networks: int, epochs: int) -> list[Recipe]:
    """Settings of the trainings, with the rates and seeds of the script."""
    seeds = range(networks // len(plain_study.RATES))
    return [
        Recipe.model_validate(
            {**BASE, "base": BASE_OF.format(rate), "epochs": epochs, "seed": seed}
        )
        for rate, seed in product(plain_study.RATES, seeds)
    ]


def study_file(measures: Sequence[str]) -> dict[str, Any]:
    """The study as its file says it; JSON is YAML, too."""
    return {
        "name": "throughput",
        "base": {**BASE, "base": BASE_OF.format(0.1), "optimizer": "sgd"},
        "grid": {"base.lr": list(plain_study.RATES)},
        "seeds": NETWORKS // len(plain_study.RATES),
        "measures": list(measures),
        "analysis": {"samples": plain_study.ROWS, "batch_size": plain_study.ROWS},
    }


def in_one_process(module: str, *options: str) -> Taken:
    """All networks by one of the scripts; its own seconds, without its imports."""
    words = [str(NETWORKS), str(EPOCHS), *options]
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    lines = timed(command, ROOT, ENVIRONMENT).output.splitlines()
    took = json.loads(lines[-1])
    assert took["networks"] == NETWORKS, "networks are missing"
    return _told(module, Taken(took["seconds"], took["cpu_seconds"], ""))


def study(measures: Sequence[str], networks: int) -> Taken:
    """So many networks by the command with two workers, in a store of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(json.dumps(study_file(measures)))
        limits = ["--workers", "2", "--limit", str(networks), "--out", f"{folder}/out"]
        command = [sys.executable, "-m", "steppe_lab.cli", "study", "run", str(path)]
        taken = timed([*command, *limits], folder, ENVIRONMENT)
        store = Store(f"{folder}/out")
        finished = sum(map(store.is_finished, store.ids()))
    wanted = networks * (2 if measures else 1)
    assert finished == wanted, f"{finished} runs of {wanted}"
    return _told(f"steppe study run, {networks} networks", taken)


def _told(what: str, taken: Taken) -> Taken:
    # At once, as the whole takes minutes and may be cut short.
    print(f"{what}: {taken.wall:.1f} s, CPU time {taken.cpu:.1f} s", flush=True)
    return taken


def _by_two(measures: Sequence[str], rounds: int) -> dict[str, Any]:
    """Wall time of the command with two workers over that of the script."""
    options = ["--measures"] if measures else []
    rows = []
    for _ in range(min(rounds, ROUNDS)):
        script = in_one_process("plain_study", *options)
        few, all_of_them = study(measures, FEW), study(measures, NETWORKS)
        share = NETWORKS / (NETWORKS - FEW)
        rows.append(
            {
                "script": (script.wall, script.cpu),
                "command": (
                    share * (all_of_them.wall - few.wall),
                    share * (all_of_them.cpu - few.cpu),
                ),
                "whole_command": (all_of_them.wall, all_of_them.cpu),
            }
        )
    found = _ratios(rows, "command", "wall")
    whole = median(row["whole_command"][0] for row in rows)
    script = median(row["script"][0] for row in rows)
    return {**found, "ratio_with_the_start": whole / script}


def _packed(rounds: int) -> dict[str, Any]:
    """CPU time of one process whose networks train together over the script's."""
    rows = []
    for _ in range(min(rounds, ROUNDS)):
        ours, script = map(in_one_process, ("packed_study", "plain_study"))
        rows.append(
            {"script": (script.wall, script.cpu), "packed": (ours.wall, ours.cpu)}
        )
    return _ratios(rows, "packed", "cpu")


def _ratios(
    rows: Sequence[Mapping[str, tuple[float, float]]], subject: str, by: str
) -> dict[str, Any]:
    """Medians over those of the script: wall times and CPU times."""
    middle = {
        name: [median(row[name][clock] for row in rows) for clock in (0, 1)]
        for name in rows[0]
    }
    wall, cpu = (middle[subject][c] / middle["script"][c] for c in (0, 1))
    return {
        "ratio": wall if by == "wall" else cpu,
        "ratio_is_of": f"{by} times",
        "ratio_of_wall_times": wall,
        "ratio_of_cpu_times": cpu,
        "networks": NETWORKS,
        "networks_a_minute": {n: 60 * NETWORKS / t[0] for n, t in middle.items()},
        "wall_and_cpu_seconds": rows,
        "rounds": len(rows),
    }


def nothing(_config: Mapping[str, Any], _folder: Path, _report: Any) -> dict[str, Any]:
    """The work of a run that has none."""
    return {"began": _clocks(), "inside": (0.0, 0.0)}


def tiny_training(
    config: dict[str, Any], folder: Path, report: Report
) -> dict[str, Any]:
    """A training, with the time of what is no part of its overhead."""
    began = _clocks()
    inside: list[float] = []

    def timed_training(*args: Any, **more: Any) -> Any:
        before = _clocks()
        trained = train(*args, **more)
        inside[:] = [now - then for now, then in zip(_clocks(), before, strict=True)]
        return trained

    with patch.object(training, "train", timed_training):
        result = work(config, folder, report)
    return {**result, "began": began, "inside": inside}


def _clocks() -> tuple[float, float]:
    """Wall time and CPU time of this process, seconds."""
    return time.perf_counter(), time.process_time()


def _overhead(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of a run beside its work, over what they may be."""
    rows = [_walked(name) for _ in range(min(rounds, ROUNDS))]
    # Other work of the machine only adds to them.
    wall, worker, command = map(min, zip(*rows, strict=True))
    print(
        f"beside {name}: {1000 * wall:.1f} ms of a run, CPU time {1000 * worker:.1f} "
        f"ms of the worker and {1000 * command:.1f} ms of the command",
        flush=True,
    )
    return {
        "ratio": wall / OVERHEAD,
        "ratio_of_cpu_times": (worker + command) / OVERHEAD,
        "wall_milliseconds": [1000 * row[0] for row in rows],
        "cpu_milliseconds_of_the_worker": [1000 * row[1] for row in rows],
        "cpu_milliseconds_of_the_command": [1000 * row[2] for row in rows],
        "rounds": len(rows),
    }


def _walked(name: str) -> tuple[float, float, float]:
    """Wall time, CPU time of the worker and of this process, for a run, seconds.

    From the beginning of the first run to that of the last one, less the work itself.
    """
    recipe = Recipe.model_validate(
        {**BASE, "base": BASE_OF.format(0.1), "epochs": 1, "seed": 0}
    )
    ended: list[float] = []

    def note(event: Progress) -> None:
        if event.state == "finished":
            ended.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        runs = [
            store.add(config_of(recipe.model_copy(update={"seed": seed})))
            for seed in range(RUNS)
        ]
        run_local(store, runs, f"{__name__}:{name}", workers=1, progress=note)
        results = [store.result(run) for run in runs]
    columns = []
    for clock in (0, 1):
        began = [result["began"][clock] for result in results]
        inside = [result["inside"][clock] for result in results[:-1]]
        columns.append((began[-1] - began[0] - sum(inside)) / (RUNS - 1))
    return columns[0], columns[1], (ended[-1] - ended[0]) / (RUNS - 1)


def benchmarks() -> Iterator[Benchmark]:
    run = partial(_by_two, ())
    yield Benchmark("study: 2 workers / script", "mlp", 1 / FASTER_BY_TWO, run)
    run = partial(_by_two, MEASURES)
    yield Benchmark("study, ten measures: 2 workers / script", "mlp", 1.0, run)
    yield Benchmark("study: packed / script", "mlp", 1 / FASTER_PACKED, _packed)
    for name, called in (("nothing", "no work"), ("tiny_training", "a training")):
        run = partial(_overhead, name)
        yield Benchmark(f"run beside {called} / 20 ms", "mlp", 1.0, run)
