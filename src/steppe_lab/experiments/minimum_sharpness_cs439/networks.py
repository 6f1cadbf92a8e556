"""Networks of the project: two that it stored, and those that are trained here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from steppe_lab.experiments.minimum_sharpness_cs439.tables import (
    TABLES,
    rows_where,
)
from steppe_lab.reproduction.studied import correlation
from steppe_lab.reproduction.verdicts import Ours, sampled
from steppe_lab.statistics import within_groups
from steppe_lab.statistics.intervals import Interval

if TYPE_CHECKING:
    from steppe_lab.store.store import Store
    from steppe_lab.studies.table import StudyTable

FOLDER = "checkpoints/simple_batch"
NETWORKS = {"sgd": f"{FOLDER}/SGD.pt", "sam": f"{FOLDER}/SAM_SGD.pt"}
DATA = "fashion_mnist:standardise=unit"
TEST_SET = 10_000  # images that the project scored


def check_networks(folder: Path) -> dict[str, Ours]:
    """Accuracies of the two stored networks, by their scores and as published."""
    from steppe_lab.analysis.foreign import Belongs, open_foreign
    from steppe_lab.datasets.loading import load_split
    from steppe_lab.tasks import TASKS
    from steppe_lab.training.evaluation import evaluate

    made = {}
    for name, file in NETWORKS.items():
        values = {}
        for variant in ("plain", "published"):
            belongs = Belongs(f"simple_batch:variant={variant}", DATA)
            foreign = open_foreign(folder / file, belongs, "cpu")
            test = load_split(foreign.recipe).test
            score = evaluate(foreign.model, test, TASKS.build("classification"))
            values[variant] = _accuracy(1 - score.metrics["error"], score.samples)
        made[name] = Ours(value=values["plain"], protocol=values["published"])
    return made


def _accuracy(share: float, samples: int) -> Interval:
    """A share in percent, with the error of a part of the test set for all of it."""
    left_out = max(1 / samples - 1 / TEST_SET, 0.0)
    stderr = (share * (1 - share) * left_out) ** 0.5
    return sampled(100 * share, 100 * stderr, samples)


def accuracy_of(store: Store, runs: Mapping[str, str]) -> float:
    """Test accuracy of a network at the end of its training, a share."""
    return 1.0 - float(store.result(runs["training"])["last"]["test_error"])


def correlations_of(table: StudyTable) -> dict[str, Ours]:
    """The correlations of the tables, for networks that were trained here.

    Scales with one small data set give its numbers for the first one of the project.
    """
    named = [str(each).partition(":")[0] for each in table.columns["data"]]
    made: dict[str, Ours] = {}
    for place, data in enumerate(TABLES):
        of = data if data in named else (named[0] if place == 0 else "")
        kept = [name == of for name in named]
        own = rows_where(table.columns, kept)
        if not any(kept):
            continue
        own["with_sam"] = ["plain" if x == "none" else "sam" for x in own["optimizer"]]
        groups = within_groups(own, "minimum_sharpness", "gap", "with_sam")
        made[f"{data}/pooled"] = correlation(groups)
        for name, each in groups.levels.items():
            made[f"{data}/{name}"] = correlation(each)
    return made
