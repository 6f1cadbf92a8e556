"""One module for each paper whose claims can be tested, each with an `EXPERIMENT`."""

from __future__ import annotations

import importlib
from pathlib import Path

from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.experiment import Experiment


def experiment_names() -> list[str]:
    """Names of the experiments, sorted."""
    files = [file for folder in __path__ for file in Path(folder).glob("[a-z]*.py")]
    return sorted(file.stem for file in files)


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
