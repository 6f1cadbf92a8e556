"""Where the command finds a checkpoint, and spellings that it takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bad_files import checkpoint
from steppe.errors import CheckpointError
from steppe_lab.analysis.places import checkpoint_at
from steppe_lab.cli import main
from steppe_lab.store.store import Store
from steppe_lab.training.recipe import Recipe


@pytest.fixture
def store(tmp_path):
    """Two runs with a network each, and an analysis of the first."""
    made = Store(tmp_path / "steppe-runs")
    for seed in (0, 1):
        run = made.add({"kind": "training", "seed": seed})
        made.artefact(run, "model.safetensors").write_bytes(checkpoint())
    made.add({"kind": "analysis", "training": first(made)})
    return made


def first(store: Store) -> str:
    return next(r for r in store.ids() if store.config(r).get("seed") == 0)


def test_a_file_a_folder_and_an_id_name_the_same_checkpoint(store):
    run = first(store)
    analysis = next(r for r in store.ids() if store.config(r)["kind"] == "analysis")
    file = store.folder(run) / "model.safetensors"
    elsewhere = Path("elsewhere")
    assert checkpoint_at(file, elsewhere) == file
    assert checkpoint_at(file.parent, elsewhere) == file
    assert checkpoint_at(Path(run), store.root) == file
    assert checkpoint_at(Path(run[:8]), store.root) == file
    assert checkpoint_at(store.root / run[:8], elsewhere) == file
    assert checkpoint_at(Path(analysis), store.root) == file


def test_a_store_with_several_checkpoints_says_which(store):
    with pytest.raises(CheckpointError, match="holds 2 checkpoints; give one of") as e:
        checkpoint_at(store.root, Path("elsewhere"))
    assert first(store) in str(e.value)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("optimisers", "optimizers"),
        ("optimizer", "optimizers"),
        ("model", "models"),
        ("datasets", "data"),
    ],
)
def test_kinds_are_listed_in_other_spellings_too(capsys, given, kind):
    assert main(["list", given, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert main(["list", kind, "--json"]) == 0
    assert said == json.loads(capsys.readouterr().out)


def test_hyphens_in_a_name_are_read_as_underscores():
    settings = {"model": "small-cnn:width=2", "base": "sgd"}
    recipe = Recipe.model_validate({"data": "fashion-mnist", **settings})
    assert (recipe.data.name, recipe.model.name) == ("fashion_mnist", "small_cnn")
