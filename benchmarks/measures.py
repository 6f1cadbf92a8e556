"""The measures of the LPF-SGD study, planned together, over the published protocol.

Both run once on the same trained network and images; passes are counted by each, and
times are of this process on one thread. Standard errors are compared where both have
one; what differs is that the published search and Lanczos runs go on to the end. Both
local entropies are the published quantities, so that errors compare; the noise of the
first is that of LPF, and a plan draws it once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import steppe
from benchmarks.networks import trained_model
from benchmarks.problems import CIFAR
from benchmarks.published_study import Study
from benchmarks.timing import Benchmark
from steppe.cost import Cost
from steppe_lab.models import MODELS

ROWS = {"small_cnn": 512, "resnet18:width=16": 128}
STUDY = (
    "epsilon_sharpness",
    "pac_bayes",
    "lpf:scale=raw",
    "local_entropy:variant=published",
    "local_entropy_gradient:variant=published",
    "shannon_entropy",
    "fisher_rao",
    "frobenius_norm",
    "top_eigenvalue",
    "trace",
    # alpha is above the negative curvature that so short a training leaves. The run is
    # as long as that which corrects the draws of the norm.
    "effective_dimension:alpha=100,steps=30,starts=1",
)
BOUND = 1 / 3


def benchmarks(data_dir: Path | None = None) -> Iterator[Benchmark]:
    """One for each network, by time; the passes stand beside it."""
    for name in ROWS:
        run = partial(_ratio, name, data_dir)
        yield Benchmark("study / published protocol", name, BOUND, run)


@cache
def _ratio(name: str, data_dir: Path | None, rounds: int) -> dict[str, Any]:
    del rounds  # once: a run takes minutes
    make = partial(MODELS.build, name, CIFAR, 10)
    model, x, y = trained_model(make, data_dir, ROWS[name])
    objective = steppe.Objective(model, (x, y))
    start = time.process_time()
    planned = steppe.measure(objective, STUDY)
    seconds = time.process_time() - start
    study = Study(model, x, y)
    published: dict[str, tuple[float, float]] = {}
    by_measure: dict[str, float] = {}
    for measure, run in study.measures().items():
        begun = time.process_time()
        published[measure] = run()
        by_measure[measure] = time.process_time() - begun
    theirs = sum(by_measure.values())
    counted = Cost(**vars(study.passes))
    own = objective.cost
    return {
        "ratio": seconds / theirs,
        "subject_seconds": seconds,
        "reference_seconds": theirs,
        "ratio_of_passes": own.in_forwards / counted.in_forwards,
        "subject_passes": str(own),
        "reference_passes": vars(study.passes),
        "subject": {k: (e.value, e.stderr, str(e.cost)) for k, e in planned.items()},
        "reference": published,
        "reference_seconds_by_measure": by_measure,
        "rows": len(x),
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": "CIFAR-10" if data_dir else "digits",
    }
