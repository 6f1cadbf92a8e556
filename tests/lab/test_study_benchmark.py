"""The benchmark of studies: the file is a study of the networks that the script has."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from steppe_lab.studies.expansion import plan_of_study
from steppe_lab.studies.settings import StudySettings


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.studies")


def test_the_file_is_a_study_of_the_same_networks(benchmark):
    settings = StudySettings.model_validate(benchmark.study_file(benchmark.MEASURES))
    plan = plan_of_study(settings)
    assert len(plan) == benchmark.NETWORKS
    trained = [trial.recipe for trial in plan.values()]
    by_one_process = benchmark.recipes(benchmark.NETWORKS, benchmark.EPOCHS)
    assert sorted(map(str, trained)) == sorted(map(str, by_one_process))
    (analysis,) = plan.followers(next(iter(plan))).values()
    assert len(analysis["measures"]) == 10


@pytest.mark.slow
def test_the_work_beside_a_run_is_a_small_positive_time(benchmark, monkeypatch):
    monkeypatch.setattr(benchmark, "RUNS", 4)
    wall, worker, command = benchmark._walked("nothing")
    assert wall >= worker > 0
    assert 0 < command < 1
