"""Next tokens: from sequences of unlike lengths to training, scores and measures."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn import functional as F

import in_process
import steppe
from steppe.errors import DataError, SettingError
from steppe_lab.analysis import single, trained
from steppe_lab.cli import main
from steppe_lab.datasets import Dataset, Selection, TokenSamples
from steppe_lab.tasks import TASKS
from steppe_lab.training.step import micro_batch_loss, micro_batch_scale

PACKAGE = """
import torch
from torch import nn
from steppe_lab.datasets import Dataset, TokenSamples

def texts(count, seed):
    '''Counting by a step: each token follows from the two before it.'''
    g = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        start, step = torch.randint(9, (2,), generator=g).tolist()
        length = int(torch.randint(4, 9, (), generator=g))
        rows.append((start + step * torch.arange(length)) % 9)
    return rows

def load(*, data_dir=None):
    train, test = (TokenSamples.from_sequences(texts(n, n), 8) for n in (60, 30))
    return Dataset(
        name="counting", train=train, test=test,
        classes=tuple("abcdefghi"), task="next_token",
    )

def hollow():
    data = load()
    data.test.targets[3] = -100
    return data

class Transformer(nn.Module):
    def __init__(self, length, vocabulary, width):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.1 * torch.randn(length, width))
        self.layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.0, batch_first=True
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        length = tokens.shape[1]
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        h = self.tokens(tokens) + self.places[:length]
        return self.head(self.layer(h, src_mask=future))

def build(in_shape, classes, *, width: int = 8):
    return Transformer(in_shape[0] + 1, classes, width)

def narrow(in_shape, classes):
    return Transformer(in_shape[0] + 1, classes - 1, 4)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "run_local", in_process.run_local)
    return tmp_path


def per_sequence(model, samples):
    """Sum of the losses and number of the tokens of each sequence, one by one."""
    sums, counts = [], []
    for inputs, targets in zip(samples.inputs, samples.targets, strict=True):
        length = int((targets != -100).sum())
        logits = model(inputs[None, :length])[0]
        sums.append(F.cross_entropy(logits, targets[:length], reduction="sum").item())
        counts.append(length)
    return torch.tensor(sums).double(), torch.tensor(counts).double()


def test_a_language_model_is_trained_scored_and_measured(package, capsys):
    command = ["train", "--data", "counting:load", "--model", "counting:build"]
    options = ["--optimizer", "lpf_sgd", "--epochs", "2", "--batch-size", "16"]
    assert main([*command, *options, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["headline"]["name"] == "perplexity"
    trust = ["--trust", "counting:load", "counting:build"]
    assert main(["evaluate", done["checkpoint"], *trust, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    loaded, split = single.open_checkpoint(
        done["checkpoint"], device=None, trust=trust[1:]
    )
    with torch.no_grad():
        sums, counts = per_sequence(loaded.model, split.test)
    loss = (sums.sum() / counts.sum()).item()
    assert scores["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert scores["test_perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert scores["test_perplexity"] == done["last"]["test_perplexity"]
    assert scores["test_token_accuracy"] == pytest.approx(
        1 - scores["test_token_error"]
    )
    # The error of a ratio of means over sequences, by the delta method.
    residuals = (sums - loss * counts) / counts.mean()
    stderr = (residuals.var() / len(sums)).sqrt().item()
    assert scores["test_loss_stderr"] == pytest.approx(stderr, rel=1e-4)
    perplexity = math.exp(loss) * stderr
    assert scores["test_perplexity_stderr"] == pytest.approx(perplexity, rel=1e-4)
    measures = ["measure", done["checkpoint"], "trace:rtol=0.5", *trust, "--json"]
    assert main(measures) == 0
    trace = json.loads(capsys.readouterr().out)["trace:rtol=0.5"]
    assert trace["details"]["terms"] == int((split.train.targets != -100).sum())
    spectrum = ["spectrum", done["checkpoint"], "--steps", "25", "--k", "1", *trust]
    assert main([*spectrum, "--json"]) == 0
    objective = single.objective_on(loaded.model, split, samples=2000, seed=0)
    top = steppe.eigsh(steppe.Hessian(objective), k=1, tol=0.01).values
    pair = json.loads(capsys.readouterr().out)["top"]
    assert abs(pair["values"][0] - top[0]) <= pair["residuals"][0] + 0.02 * top[0]


def test_shares_of_a_batch_add_up_to_the_mean_over_its_tokens():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 3, generator=generator)
    targets = torch.randint(3, (5, 4), generator=generator)
    targets[0, 1:] = targets[3, 2:] = targets[4] = -100
    task = TASKS.build("next_token")
    whole = task.loss(logits, targets, reduction="mean")
    terms = int(task.terms(targets).sum())

    def scaled(outputs, share):
        own = int(task.terms(share).sum())
        scale = micro_batch_scale(len(share), 5, own, terms)
        return micro_batch_loss(task, outputs, share, scale)

    parts = [
        len(share) / 5 * scaled(outputs, share)
        for outputs, share in zip(logits.split(2), targets.split(2), strict=True)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


def test_padding_has_no_influence_and_batches_are_trimmed():
    rows = [torch.arange(3), torch.arange(5), torch.arange(2)]
    samples = TokenSamples.from_sequences(rows, 7)
    assert samples.in_shape == (6,)
    inputs, targets = samples.batch(torch.tensor([2, 0]))
    assert inputs.tolist() == [[0, 1], [0, 1]]
    assert targets.tolist() == [[1, -100], [1, 2]]
    assert len(samples.chosen(torch.tensor([1]))) == 1


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([torch.arange(3), torch.arange(1)], r"of shape \(1,\) at position 1"),
        ([torch.rand(3)], "whole numbers in one dimension, got torch.float32"),
    ],
)
def test_sequences_without_a_next_token_are_refused(rows, sentence):
    with pytest.raises(DataError, match=sentence):
        TokenSamples.from_sequences(rows)


def test_tokens_beyond_the_vocabulary_and_noise_on_them_are_refused():
    samples = TokenSamples.from_sequences([torch.arange(4)])
    names = {"name": "x", "train": samples, "test": samples, "task": "next_token"}
    with pytest.raises(DataError, match="must be 0 to 2 or -100, got 3"):
        Dataset(**names, classes=("a", "b", "c"))
    dataset = Dataset(**names, classes=tuple("abcd"))
    with pytest.raises(SettingError, match="one class for each sample"):
        Selection(label_noise=0.5).apply(dataset)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model", "counting:narrow"], "one number per token of the vocabulary at"),
        (["--data", "digits"], "cannot be called with inputs of digits"),
        (["--data", "counting:hollow"], "test targets of counting:hollow must have a"),
    ],
)
def test_models_and_data_of_other_tasks_are_one_sentence(
    package, capsys, options, sentence
):
    chosen = {"--data": "counting:load", "--model": "counting:build"}
    chosen |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in chosen.items() for word in pair]
    assert main(["train", *words, "--epochs", "1"]) == 2
    assert sentence in capsys.readouterr().err
