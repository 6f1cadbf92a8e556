"""Ids of runs: settings that were stored once name the same run for good."""

from __future__ import annotations

import pytest

from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.runs.scoring import Scoring
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id

# Computed when the first of these runs were stored; a change loses stored results.
TRAININGS = {
    "sgd": "46da755a4bdbdff5",
    "sam:rho=0.1": "433064451f6b9657",
    "lpf_sgd": "b1563aa2cd19a3b7",
    "sam+ema:decay=0.9": "6a439a9652f0583d",
    "nsgd:k=3": "956a8eaf8977f978",
    "adam:lr=0.001": "49f04c860a880847",
}


@pytest.mark.parametrize("optimizer", TRAININGS)
def test_ids_of_stored_trainings_stay(optimizer):
    recipe = recipe_of(TrainingSettings(), optimizer, 1)
    assert run_id(config_of(recipe)) == TRAININGS[optimizer]


def test_the_id_of_a_training_with_many_settings_stays():
    settings = TrainingSettings(
        lr_schedule="step",
        warmup_epochs=2,
        label_noise=0.1,
        held_out="validation",
        base="adamw:lr=0.01",
        evaluate_every=3,
    )
    assert run_id(config_of(recipe_of(settings, "asam", 2))) == "e41d1e3f6fbe652c"


def test_ids_of_what_follows_a_training_stay():
    analysis = Analysis(
        training="0" * 16, measures=("trace:rtol=0.1", "lpf:sigma=0.05")
    )
    assert run_id(config_of(analysis)) == "c4b23370915121c4"
    assert run_id(config_of(Scoring(training="0" * 16))) == "bb74ddddc010f6d3"
