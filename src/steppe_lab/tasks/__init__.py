"""Tasks by name: the loss, the metrics and the shape of outputs a network learns.

A task is one module beside this one that adds a class to `TASKS`.
"""

from steppe.registry.packages import discover
from steppe_lab.tasks.abstract import (
    TASKS,
    AbstractTask,
    Metric,
    stored_corpus_metrics,
    stored_headline,
)

__all__ = [
    "TASKS",
    "AbstractTask",
    "Metric",
    "stored_corpus_metrics",
    "stored_headline",
]

discover(__name__)
