"""A module or package, with an `EXPERIMENT`, for each paper whose claims are tested."""

from __future__ import annotations

import importlib
import pkgutil

from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.experiment import Experiment


def experiment_names() -> list[str]:
    """Names of the experiments, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_experiment(name: str) -> Experiment:
    """The experiment of a name; hyphens stand for underscores.

    Raises:
        UnknownNameError: no such experiment, with the nearest one.
    """
    known = experiment_names()
    named = name.replace("-", "_")
    if named not in known:
        raise unknown_name("experiment", name, known)
    experiment = importlib.import_module(f"{__name__}.{named}").EXPERIMENT
    assert isinstance(experiment, Experiment)
    return experiment
