"""Translations: from pairs of sentences to training, BLEU and the files of texts."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import in_process
import sentences
from sentences import PIECES, Backwards, drawn, pairs
from steppe.errors import DataError
from steppe_lab.analysis import trained
from steppe_lab.cli import main
from steppe_lab.cli.training_log import Lines
from steppe_lab.datasets import TokenSamples
from steppe_lab.progress import Progress
from steppe_lab.reports.study.scores import scores_of
from steppe_lab.studies import comparison
from steppe_lab.studies.table import StudyTable
from steppe_lab.tasks import TASKS
from steppe_lab.training.callbacks.history import unit_of
from steppe_lab.training.callbacks.monitor import monitored_columns
from steppe_lab.training.evaluation import evaluate, judge

PACKAGE = """
import torch
from sentences import Backwards, load
from torch import nn

def data(*, data_dir=None):
    return load()

def build(in_shape, classes, *, slips: int = 0):
    return Backwards(2.0, slips)

def mute(in_shape, classes):
    class Mute(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Embedding(classes, classes)

        def forward(self, inputs):
            return self.head(inputs[1])

    return Mute()
"""
COMMAND = ["train", "--data", "digits_read:data", "--model", "digits_read:build"]
COMMAND += ["--base", "sgd:lr=1", "--epochs", "2", "--batch-size", "16"]
TRUST = ["--trust", "digits_read:data", "digits_read:build"]


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "digits_read.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for module in (trained, comparison):
        monkeypatch.setattr(module, "run_local", in_process.run_local)
    return tmp_path


def test_a_training_is_judged_by_bleu_and_shows_a_sentence(package, capsys):
    assert main([*COMMAND, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["headline"]["name"] == "perplexity"
    assert [metric["name"] for metric in done["corpus_metrics"]] == ["bleu"]
    assert done["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    assert any(done["signatures"]["bleu"] in note for note in done["notes"])
    assert done["decoding"] == {"beam": 1, "length_penalty": 0.6, "longer": 50}
    assert done["last"]["test_bleu"] == pytest.approx(100.0)
    assert "train_bleu" not in done["last"]
    run = package / "steppe-runs" / "runs" / done["run"]
    history = json.loads((run / "history.json").read_text())["epochs"]
    assert [row["test_bleu"] for row in history] == pytest.approx([100.0, 100.0])
    lines = (run / "sample_texts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2]
    reference = sentences.load().test.references[0]
    assert {row["hypothesis"] for row in rows} == {reference}
    assert rows[0]["reference"] == reference


def test_texts_of_an_evaluation_have_its_bleu_by_the_command_of_sacrebleu(
    package, capsys
):
    words = [*COMMAND, "--json"]
    words[4] += ":slips=3"
    assert main(words) == 0
    run = json.loads(capsys.readouterr().out)["checkpoint"]
    options = ["--task", "translation:beam=3,longer=2", "--texts", "texts", *TRUST]
    assert main(["evaluate", run, *options, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["task"] == "translation:beam=3,longer=2"
    assert scores["signatures"]["test_bleu"].startswith("nrefs:1|")
    assert scores["decoding"] == {"beam": 3, "length_penalty": 0.6, "longer": 2}
    assert 10 < scores["test_bleu"] < 90
    assert 0 < scores["test_bleu_stderr"] < 10
    files = [f"texts/test.{name}" for name in ("reference", "hypothesis")]
    command = [sys.executable, "-m", "sacrebleu", files[0], "-i", files[1], "-b"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(printed.stdout) == pytest.approx(scores["test_bleu"], abs=0.05)
    sources = (package / "texts" / "test.source").read_text().splitlines()
    assert tuple(sources) == sentences.load().test.sources


def test_a_table_of_scores_has_bleu_beside_those_of_training_samples(package, capsys):
    assert main([*COMMAND]) == 0
    said = capsys.readouterr().out
    assert "BLEU" in said.partition("(last)")[0]
    (run,) = package.glob("steppe-runs/runs/*/model.safetensors")
    assert main(["evaluate", str(run), *TRUST]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if "bleu" in line)
    assert "100" in line
    said = " ".join(said.split())
    assert "BLEU has the signature nrefs:1|" in said
    assert "of texts searched for with beam=1, length_penalty=0.6, longer=50" in said


@pytest.mark.slow
def test_a_comparison_has_a_row_of_bleu_where_larger_is_better(package, capsys):
    words = ["compare", "sgd", "lpf_sgd", *COMMAND[1:], "--seeds", "1"]
    words += ["--measures", "loss", "--measure-samples", "16", "--line-points", "3"]
    assert main(words) == 0
    assert "test BLEU" in capsys.readouterr().out


REFUSED = {
    "--task classification": "learnt, translation, with settings, got 'classification'",
    "--task translation:beam=0": "beam must be >= 1, got 0",
    "--task translation:width=2": "unknown setting of translation 'width'",
    "other --texts texts": "--texts takes one checkpoint, got 2",
}


def test_an_option_of_texts_that_does_not_fit_is_one_sentence(package, capsys):
    assert main([*COMMAND, "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["checkpoint"]
    for words, sentence in REFUSED.items():
        assert main(["evaluate", run, *words.split(), *TRUST]) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert said.count("\n") == 1


def test_a_task_without_texts_writes_none(package, capsys):
    train = ["train", "--data", "digits", "--model", "mlp:hidden=2", "--epochs", "1"]
    assert main([*train, "--train-samples", "32", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)["checkpoint"]
    assert main(["evaluate", run, "--texts", "texts"]) == 2
    assert "--texts is for tasks whose metrics are of texts" in capsys.readouterr().err


def test_a_model_that_cannot_decode_is_refused_before_it_is_trained(package, capsys):
    words = [*COMMAND]
    words[4] = "digits_read:mute"
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "a model of translations needs encode(source)" in said
    assert "epoch" not in said


def test_scores_of_judged_samples_have_the_metrics_of_the_corpus_too():
    samples, task = pairs(drawn(20, 0)), TASKS.build("translation")
    model = Backwards(3.0)
    means = evaluate(model, samples, task)
    judged = judge(model, samples, task)
    assert judged.metrics.pop("bleu") == pytest.approx(100.0)
    assert judged == means
    assert task.corpus_scores(model, samples).texts["source"] == samples.sources


def test_a_rule_may_look_at_bleu_of_judged_samples_alone():
    columns = monitored_columns(TASKS.build("translation"), averaged=True)
    assert columns["test_bleu"] == columns["average_test_bleu"] == "larger"
    assert "train_bleu" not in columns
    assert columns["test_perplexity"] == "smaller"
    assert unit_of("average_test_bleu", TASKS.build("translation")) == "points"


def test_loss_and_metrics_are_those_of_the_next_token():
    _, targets = pairs(drawn(9, 1)).batch(slice(None))
    logits = torch.randn(*targets.shape, len(PIECES))
    tasks = [TASKS.build(name) for name in ("translation", "next_token")]
    losses = {task.loss(logits, targets, reduction="mean").item() for task in tasks}
    assert len(losses) == 1
    one, other = (task.metrics(logits, targets) for task in tasks)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert tasks[0].check_targets(pairs(drawn(9, 1)).targets) is None  # int16


def test_samples_that_are_no_pairs_are_refused():
    samples = TokenSamples.from_sequences([torch.arange(4)])
    with pytest.raises(DataError, match="needs pairs of sentences, got TokenSamples"):
        TASKS.build("translation").corpus_scores(Backwards(1.0), samples)


def test_lines_of_texts_hold_no_commands_and_end_with_the_terminal():
    row = {"epoch": 1.0, "lr": 0.1, "running_loss": 1.0, "samples_per_second": 5.0}
    texts = {"source": "ein\x1b[2J Hund", "hypothesis": "a dog " * 20}
    lines = Lines("test", 60)
    report = Progress(1, 1, "epoch 1/1", row=row | {"seconds": 1.0}, texts=texts)
    *_, source, hypothesis = lines.of(report)
    assert source == "      source: ein [2J Hund"
    assert hypothesis.startswith("  hypothesis: a dog")
    assert len(hypothesis) == 60


def test_a_study_of_translations_is_a_table_of_bleu():
    columns = {"method": ["adam", "sam"], "seed": [0, 0], "gap": [1.0, 2.0]}
    for name in ("test_loss", "test_perplexity", "test_bleu"):
        columns |= {name: [3.0, 4.0], f"best_{name}": [3.5, 4.5]}
    table = scores_of(StudyTable("x", columns, ("method",), (), "gap"))
    assert table.score == "test_bleu"
    assert [row.best.interval.mean for row in table.rows] == [3.5, 4.5]
