"""Tasks: regression from data of the user to the report, and losses of many terms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import in_process
from steppe.errors import DataError
from steppe_lab.analysis import single, trained
from steppe_lab.cli import main
from steppe_lab.datasets import Dataset, TensorSamples
from steppe_lab.studies import comparison
from steppe_lab.tasks import TASKS, AbstractTask, Metric
from steppe_lab.tasks.corpus import no_corpus_scores
from steppe_lab.training.evaluation import evaluate

WAVES = """
import torch
from torch import nn
from steppe_lab.datasets import Dataset, TensorSamples

def load(*, data_dir, task: str = "regression"):
    x = torch.linspace(-1, 1, 80).reshape(-1, 1)
    y = torch.cat([2 * x, 1 - x], dim=1)
    train, test = TensorSamples(x[::2], y[::2]), TensorSamples(x[1::2], y[1::2])
    return Dataset(name="waves", train=train, test=test, task=task)

def narrow(in_shape, classes):
    return nn.Linear(in_shape[0], 1)
"""
COMPARE = (
    *("compare", "sgd", "sam", "--data", "waves:load", "--model", "mlp:hidden=4"),
    *("--epochs", "3", "--seeds", "2", "--measures", "trace", "--line-points", "3"),
    *("--base", "sgd:lr=0.05,weight_decay=0", "--workers", "1"),
)


@pytest.fixture
def waves(tmp_path, monkeypatch):
    (tmp_path / "waves.py").write_text(WAVES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for caller in (comparison, trained):
        monkeypatch.setattr(caller, "run_local", in_process.run_local)
    return tmp_path


@pytest.mark.slow
def test_numbers_are_learnt_and_judged_by_their_absolute_error(waves, capsys):
    assert main([*COMPARE, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4
    path = waves / "steppe-runs" / "runs" / rows[0]["training"] / "model.safetensors"
    trust = ("waves:load",)
    loaded, split = single.open_checkpoint(path, device=None, trust=trust)
    with torch.no_grad():
        gap = loaded.model(split.test.inputs) - split.test.targets
    assert rows[0]["test_mae"] == pytest.approx(gap.abs().mean().item(), rel=1e-5)
    assert rows[0]["test_loss"] == pytest.approx((gap**2).mean().item(), rel=1e-5)
    assert main([*COMPARE]) == 0  # sentences, from what is stored
    told = " ".join(capsys.readouterr().out.split())
    assert "sgd's test mean absolute error is" in told
    assert "points" not in told


@pytest.mark.slow
def test_the_better_value_of_a_sweep_is_that_of_the_smaller_error(waves, capsys):
    sweep = ("--sweep", "lr=0.0001,0.05")
    short = [word for word in COMPARE if word != "sam"]
    base = [word for word in short if not word.startswith("sgd:")]
    base.remove("--base")
    assert main([*base, *sweep, "--train-samples", "30"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "lr = 0.05, with a test mean absolute error of" in told
    assert "%" not in told.partition("Chosen on")[2].partition("Report")[0]


def test_one_network_is_trained_scored_and_measured(waves, capsys):
    train = ["train", *COMPARE[3:7], "--epochs", "1"]
    assert main([*train, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["wrong"] is None
    trust = ["--trust", "waves:load", "--json"]
    assert main(["evaluate", done["checkpoint"], *trust]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["test_mae"] == done["last"]["test_mae"]
    assert main(train) == 0
    assert "%" not in capsys.readouterr().out  # no share


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "waves:load:task=classification"], "must be one class for each"),
        (["--model", "waves:narrow"], "must give one number per value of the target"),
        (["--label-noise", "0.1"], "label_noise needs at least 2 classes, got 0"),
    ],
)
def test_what_does_not_fit_numbers_is_one_sentence(waves, capsys, options, sentence):
    chosen = {"--data": "waves:load", "--model": "mlp:hidden=4"}
    chosen |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in chosen.items() for word in pair]
    assert main(["train", *words, "--epochs", "1"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "targets",
    [
        torch.zeros(4),
        torch.zeros(4, 1).double(),
        torch.zeros(3, 1),
        torch.full((4, 1), torch.nan),
    ],
    ids=["no rows", "float64", "too few", "not finite"],
)
def test_targets_without_classes_are_rows_of_finite_numbers(targets):
    samples = TensorSamples(torch.zeros(4, 2), targets)
    with pytest.raises(DataError, match="targets must be"):
        Dataset(name="x", train=samples, test=samples, task="regression")


def test_the_loss_of_a_batch_is_a_mean_of_those_of_its_samples():
    outputs, targets = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    task = TASKS.build("regression")
    each = task.loss(outputs, targets, reduction="none")
    assert torch.allclose(each, ((outputs - targets) ** 2).mean(1))
    assert torch.allclose(task.loss(outputs, targets, reduction="sum"), each.sum())
    mean = task.loss(outputs, targets, reduction="mean")
    assert torch.allclose(mean, F.mse_loss(outputs, targets))


class Tagging(AbstractTask):
    """A class for each position of a sequence; -100 is padding."""

    loss_name: ClassVar[str] = "cross_entropy"
    headline: ClassVar[Metric] = Metric(
        name="error", title="error", units="share", share=True
    )
    corpus_scores = no_corpus_scores

    def loss(self, outputs: Any, targets: Tensor, *, reduction: Any) -> Tensor:
        """Cross-entropy of logits (B, T, C)."""
        return F.cross_entropy(outputs.mT, targets, reduction=reduction)

    def terms(self, targets: Tensor) -> Tensor:
        """Positions that are no padding."""
        return (targets != -100).sum(1)

    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Whether each position is wrong."""
        real = targets != -100
        return {"error": (outputs.argmax(2) != targets)[real]}

    def check_targets(self, targets: Tensor) -> str | None:
        """Nothing is refused."""

    def check_outputs(self, outputs: Any, targets: Tensor, size: int) -> str | None:
        """Nothing is refused."""


def test_scores_of_sequences_are_means_over_positions_that_are_no_padding():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(10, 6, 4, generator=generator)
    targets = torch.randint(0, 3, (10, 6), generator=generator)
    targets[3:, 2:] = -100  # batches of 4 have unlike numbers of positions
    model = nn.Linear(4, 3)
    score = evaluate(model, TensorSamples(inputs, targets), Tagging(), batch_size=4)
    with torch.no_grad():
        logits = model(inputs).flatten(0, 1)
    expected = F.cross_entropy(logits, targets.flatten())
    assert score.loss == pytest.approx(expected.item(), rel=1e-5)
    real = targets.flatten() != -100
    wrong = logits.argmax(1)[real] != targets.flatten()[real]
    assert score.metrics["error"] == pytest.approx(wrong.float().mean().item())
    assert score.wrong is None  # positions of one sequence are not independent
