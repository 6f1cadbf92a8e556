"""Scores apart for clean and noisy labels, and checkpoints trained with noise."""

from __future__ import annotations

import json

import pytest
import torch

import in_process
from steppe.errors import DataError
from steppe_lab.analysis import trained
from steppe_lab.analysis.evaluated import evaluate_one
from steppe_lab.analysis.measured import Measuring, measured
from steppe_lab.cli import main
from steppe_lab.datasets import Selection, load, load_split
from steppe_lab.models import MODELS
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.studies import comparison
from steppe_lab.tasks.classification import Classification
from steppe_lab.training.evaluation import estimates, evaluate
from steppe_lab.training.loop import train

NOISY = ["--label-noise", "0.3", "--label-noise-kind", "uniform", "--data-noise", "0.2"]
GROUPS = ("clean", "random", "random_true")


@pytest.fixture(autouse=True, scope="module")
def _in_process():
    with pytest.MonkeyPatch.context() as patch:
        for caller in (comparison, trained):
            patch.setattr(caller, "run_local", in_process.run_local)
        yield


@pytest.fixture(scope="module")
def split():
    noisy = Selection(train_samples=300, label_noise=0.4, label_noise_kind="shuffled")
    return noisy.apply(load("digits"))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MODELS.build("mlp:hidden=8", (1, 8, 8), 10)


# ---- scores ----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [7, 256])
def test_groups_are_scored_as_if_they_were_all_samples(batch_size, split, model):
    score = evaluate(
        model,
        split.train,
        Classification(),
        batch_size=batch_size,
        groups=split.train_groups,
    )
    assert tuple(score.groups) == GROUPS
    for name, group in split.train_groups.items():
        places = group.chosen.nonzero().flatten()
        own = split.train.with_targets(group.targets).chosen(places)
        alone = evaluate(model, own, Classification())
        part = score.groups[name]
        assert part.samples == alone.samples == (180 if name == "clean" else 120)
        assert part.metrics == alone.metrics
        assert part.loss == pytest.approx(alone.loss, rel=1e-5)
    apart = [score.groups[name] for name in ("clean", "random")]
    assert score.metrics["error"] == pytest.approx(
        sum(part.samples * part.metrics["error"] for part in apart) / 300
    )


def test_groups_change_nothing_about_the_whole_and_cost_no_second_pass(split, model):
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    try:
        groups = split.train_groups
        whole = evaluate(model, split.train, Classification())
        before = len(passes)
        score = evaluate(model, split.train, Classification(), groups=groups)
        assert len(passes) == 2 * before
    finally:
        handle.remove()
    assert (score.loss, score.metrics, score.wrong) == (
        whole.loss,
        whole.metrics,
        whole.wrong,
    )
    named = [key for key in score.row("train") if "clean" in key or "random" in key]
    assert named == [
        f"train_{group}_{name}" for group in GROUPS for name in ("loss", "error")
    ]


def test_estimates_of_groups_have_errors_over_their_own_samples(split, model):
    groups = split.train_groups
    rows = estimates(model, split.train.batches(50), Classification(), groups)
    with torch.no_grad():
        outputs = model(split.train.inputs)
    for name, group in groups.items():
        wrong = (outputs.argmax(1) != group.targets)[group.chosen].double()
        estimate = rows[f"{name}_error"]
        assert estimate.value == pytest.approx(float(wrong.mean()))
        assert estimate.samples == len(wrong)
        spread = float(wrong.std()) / len(wrong) ** 0.5
        assert estimate.stderr == pytest.approx(spread)
        assert rows[f"{name}_accuracy"].value == pytest.approx(1 - estimate.value)


def history(**settings):
    recipe = recipe_of(
        TrainingSettings(model="mlp:hidden=8", train_samples=200, epochs=1, **settings),
        "sgd+ema",
        0,
    )
    return train(recipe, load_split(recipe)).history


def test_every_row_of_a_history_has_them_where_there_is_label_noise():
    for row in history(label_noise=0.25):
        for average in ("", "average_"):
            clean, noisy = (
                row[f"{average}train_{name}_error"] for name in ("clean", "random")
            )
            share = row[f"{average}train_error"]
            assert share == pytest.approx(0.75 * clean + 0.25 * noisy)
            assert f"{average}train_random_true_loss" in row
    named = history()[-1].keys()
    assert not [name for name in named if "clean" in name or "random" in name]
    all_noisy = history(label_noise=1.0)[-1]
    assert "train_clean_loss" not in all_noisy
    assert all_noisy["train_random_loss"] == all_noisy["train_loss"]


# ---- the command -----------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a network trained with noise of both sorts."""
    out = tmp_path_factory.mktemp("noisy")
    train = ["--optimizer", "sgd", "--model", "mlp:hidden=8", "--epochs", "2"]
    assert main(["train", *train, *NOISY, "--out", str(out)]) == 0
    return out / "runs"


def result(run):
    return json.loads(next(run.rglob("result.json")).read_text())


def test_scores_of_a_checkpoint_are_those_of_its_training(run):
    evaluated = evaluate_one(next(run.rglob("model.safetensors")))
    last = result(run)["last"]
    assert last["train_random_error"] != last["train_clean_error"]
    names = [name for name in last if name.startswith(("train_", "test_"))]
    assert len(names) == 10
    for name in names:
        assert evaluated.scores[name] == pytest.approx(last[name], rel=1e-5)
    assert len(evaluated.notes) == 2


def test_measures_are_of_the_noisy_samples_trained_on(run):
    path = next(run.rglob("model.safetensors"))
    found = measured(Measuring({"net": path}, ["loss"]))
    last = result(run)["last"]
    assert found.estimates["net"]["loss"].value == pytest.approx(
        last["train_loss"], rel=1e-5
    )
    assert found.notes == evaluate_one(path).notes


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["measure", "loss"],
        ["landscape", "--dims", "1", "--x=0,1", "--samples", "50"],
        ["spectrum", "--k", "1", "--steps", "3", "--samples", "50"],
    ],
)
def test_every_verb_says_which_noise_a_checkpoint_was_trained_with(
    words, run, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    verb, *options = words
    place = {"evaluate": "a.json", "measure": "a.json", "landscape": "a.png"}
    out = tmp_path / place.get(verb, "folder")
    assert main([verb, str(run), *options, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Note: 30 % of the training labels are noise, drawn anew from" in printed
    assert "Gaussian noise of standard deviation 0.2 on pixels" in printed
    for page in tmp_path.rglob("*.html"):
        assert "30 % of the training labels are noise" in page.read_text()
        record = json.loads((page.parent / "spectrum.json").read_text())
        assert len(record["notes"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate"],
        ["measure", "loss"],
        ["measure", "loss", "--and", "{run}", "--groups", "2", "--repeats", "2"],
        ["landscape", "--dims", "1", "--x=0,1", "--samples", "50"],
    ],
)
def test_programs_are_told_of_the_noise_too(words, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verb, *options = (word.format(run=run) for word in words)
    options += ["--json"]
    assert main([verb, str(run), *options]) == 0
    record = json.loads(capsys.readouterr().out)
    notes = record["loss"]["notes"] if words == ["measure", "loss"] else record["notes"]
    assert notes[0].startswith("30 % of the training labels are noise, drawn anew")
    assert len(notes) == 2


def test_a_training_prints_both_errors(tmp_path, capsys):
    options = ["--optimizer", "sgd", "--model", "mlp:hidden=8", "--epochs", "1"]
    assert main(["train", *options, *NOISY, "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    last = result(tmp_path)["last"]
    shares = [f"{last[f'train_{name}_error']:.2%}" for name in ("clean", "random")]
    assert "{} on clean labels, {} on labels with noise".format(*shares) in printed


def test_rows_of_a_comparison_have_both_and_the_settings_of_the_noise(tmp_path, capsys):
    options = ["--model", "mlp:hidden=8", "--epochs", "1", "--seeds", "1"]
    options += ["--workers", "1", "--line-points", "3", "--measure-samples", "50"]
    words = ["compare", "sgd", "sam", *options, *NOISY, "--measures", "loss"]
    assert main([*words, "--out", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert (row["label_noise_kind"], row["data_noise"]) == ("uniform", 0.2)
        for start in ("", "best_"):
            for group in GROUPS:
                assert 0 <= row[f"{start}train_{group}_error"] <= 1


def test_other_noise_is_other_data(run, monkeypatch):
    path = next(run.rglob("model.safetensors"))
    monkeypatch.setattr("steppe_lab.datasets.data_noise.seed_named", lambda _: 1)
    with pytest.raises(DataError, match="digits is not the data that was trained on"):
        evaluate_one(path)
