"""Summaries of studies made up number by number, for tests of what reports say."""

import math
import random

from steppe_lab.reports.study.along import along_factors
from steppe_lab.reports.study.coverage import coverage_of
from steppe_lab.reports.study.results import (
    Bounded,
    Environment,
    Information,
    Predictor,
    Split,
    StudySummary,
    Within,
)
from steppe_lab.reports.study.scores import scores_of
from steppe_lab.studies.table import Dropped, StudyTable

WARNING = (
    "Simpson's paradox: tau is 0.70 over all rows but 0.04 inside of the levels of "
    "optimizer."
)


def study_table(rows=60, measures=3, seed=0, name="noise", **fields):
    """A table of a label-noise study with two optimizers and five seeds."""
    draw = random.Random(seed)
    noise = [i % 6 / 10 for i in range(rows)]
    method = ["sgd" if i // 6 % 2 else "sam" for i in range(rows)]
    gap = [30 * x + 2 * (m == "sgd") + draw.gauss(0, 1) for x, m in zip(noise, method)]
    columns = {
        "trial": [f"trial {i:04d}" for i in range(rows)],
        "run": [f"{i:064x}" for i in range(rows)],
        "seed": [i // 12 for i in range(rows)],
        "label_noise": noise,
        "optimizer": method,
        "epochs": [50] * rows,
        "test_error": [g / 100 + 0.02 for g in gap],
        "best_test_error": [g / 100 + 0.01 for g in gap],
        "gap": gap,
    }
    named = [f"measure_{i}" for i in range(measures)]
    for place, measure in enumerate(named):
        columns[measure] = [
            math.exp(g / (5 + place) + draw.gauss(0, 0.2 + place)) for g in gap
        ]
    return StudyTable(
        name,
        columns,
        ("label_noise", "optimizer"),
        tuple(named),
        "gap",
        dropped=fields.pop("dropped", (Dropped("trial x", "failed: out of memory"),)),
    )


def predictor(name, tau=0.5, half=0.1, **fields):
    """A predictor whose numbers follow from its tau, where none are given."""
    given = {
        "count": 60,
        "tau": Bounded(tau, tau - half, tau + half),
        "by_factor": {"label_noise": tau, "optimizer": tau / 2},
        "psi": 0.75 * tau,
        "information": Information(tau**2 / 4, ("label_noise",)),
        "worst": Environment(0.5 - tau / 4, "optimizer sam to sgd", 30),
        "residual": {"raw": tau / 4, "log": tau / 3, "rank": -tau / 5},
        "difference": Bounded(tau - 0.6, tau - 0.65, tau - 0.55),
    }
    given |= fields
    for number in ("tau", "difference"):
        p = 0.001 if given[number].excludes(0.0) else 0.5
        given.setdefault(f"{number}_p", p)
    return Predictor(name=name, **given)


def summary(table=None, *, measures=None, **fields):
    """A summary of a table."""
    table = table or study_table()
    taus = {
        name: 0.7 - 0.2 * i / len(table.measures)
        for i, name in enumerate(table.measures)
    }
    made = measures or [predictor(name, tau) for name, tau in taus.items()]
    given = {
        "best": "label_noise",
        "baselines": (
            predictor("label_noise", 0.6, is_baseline=True, difference=Bounded()),
            predictor("additive model", 0.58, is_baseline=True),
        ),
        "within": tuple(
            Within(
                each.name,
                "optimizer",
                each.tau.value,
                Bounded(0.04, -0.05, 0.13),
                {"sgd": (0.1, 30), "sam": (-0.02, 30)},
                WARNING if place == 0 else "",
            )
            for place, each in enumerate(made)
        ),
        "splits": (
            Split("gap", "base", "adaptive", "not adaptive", 0.2, 0.24, 0.48, (30, 30)),
        ),
    }
    return StudySummary(
        table=table,
        coverage=coverage_of(table),
        measures=tuple(made),
        scores=scores_of(table),
        along=tuple(along_factors(table, (table.gap, *table.measures))),
        **given | fields,
    )
