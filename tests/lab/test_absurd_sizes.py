"""Sizes that no computer has: one sentence, before any memory is asked for."""

import json
import time

import pytest
import torch

from steppe.errors import SettingError, SteppeError, StoreError
from steppe_lab.models import MODELS
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import stored_study
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe

STUDIES = {
    "seeds": {"seeds": 10**9},
    "more seeds than a number holds": {"seeds": 10**30},
    "points of a line": {"line_points": 10**9},
    "epochs": {"epochs": 10**30},
    "samples of a batch": {"batch_size": 10**30},
    "epochs between scores": {"evaluate_every": 10**30},
    "samples": {"train_samples": 10**30},
    "epochs of warm-up": {"warmup_epochs": 1e300},
    "values of a sweep": {"optimizers": ["sam"], "sweep": "rho=0.1..1:log1000000000"},
}


@pytest.fixture(autouse=True)
def _soon():
    begun = time.process_time()
    yield
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("case", STUDIES)
def test_a_stored_study_without_measure_is_refused(case, tmp_path):
    (tmp_path / "studies").mkdir()
    path = tmp_path / "studies" / "compare-x.json"
    path.write_text(json.dumps(STUDIES[case]))
    with pytest.raises(StoreError, match=r"compare-x\.json cannot be used") as caught:
        stored_study(Store(tmp_path))
    assert "\n" not in str(caught.value)


NETWORKS = {
    "mlp:hidden=1000000000": ((1, 8, 8), 10),
    "mlp:hidden=10000000000000": ((1, 8, 8), 10),
    "mlp:depth=1000000000": ((1, 8, 8), 10),
    "mlp:hidden=100000,depth=9": ((1, 8, 8), 10),
    "small_cnn:width=1000000": ((1, 8, 8), 10),
    "simple_cnn:hidden=1000000000": ((3, 32, 32), 10),
    "resnet18:width=100000": ((3, 32, 32), 10),
    "mlp:hidden=8": ((10**6, 10**6, 10**6), 10),
    "mlp:hidden=9": ((1, 8, 8), 10**12),
}


@pytest.mark.parametrize("model", NETWORKS)
def test_a_network_without_measure_is_refused(model):
    recipe = Recipe(data="digits", model=model, base="sgd")
    with pytest.raises(SettingError, match=r"memory|must be between 1 and 1000"):
        build_model(recipe, *NETWORKS[model])


@pytest.mark.parametrize(
    "model", ["small_cnn", "mlp", "simple_cnn", "resnet18:width=4"]
)
def test_counting_parameters_draws_no_random_number(model):
    shape = (3, 32, 32)
    recipe = Recipe(data="digits", model=model, base="sgd", seed=3)
    made = build_model(recipe, shape, 10)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        again = MODELS.build(recipe.model, shape, 10)
    pairs = zip(made.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("length", [256, 4000, 100_000])
def test_a_folder_with_no_possible_name_is_one_sentence(length, tmp_path):
    with pytest.raises(SteppeError, match="name too long"):
        Store(tmp_path / ("a" * length)).add({"seed": 1})
