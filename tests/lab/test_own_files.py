"""A checkpoint, a network, data and a loss of somebody else, from the command line."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import steppe
from own_files import package, saved
from steppe.errors import CheckpointError, DataError
from steppe_lab.analysis.own import loss_of, objective_of, task_of
from steppe_lab.cli import main
from steppe_lab.tasks.loss_option import OwnLoss
from steppe_lab.training.weights import load_into, read_states

NETS = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 5),
    )

def wide(classes=5, *, width: int = 9):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))

def sized(in_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_shape[1] * in_shape[2], classes))

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.layer(left * right)

def not_a_network():
    return 3

ready = build()
"""
DATA = """
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

def load():
    g = torch.Generator().manual_seed(0)
    return torch.randn(40, 1, 8, 8, generator=g), torch.randint(5, (40,), generator=g)

def loader():
    return DataLoader(TensorDataset(*load()), batch_size=16)

def data_set():
    return TensorDataset(*load())

def arrays():
    return tuple(each.numpy() for each in load())

def parts():
    x, y = load()
    return {"train": (x[:30], y[:30]), "test": (x[30:], y[30:])}

def loaders():
    x, y = load()
    return tuple(
        DataLoader(TensorDataset(x[i], y[i]), batch_size=16)
        for i in (slice(30), slice(30, 40))
    )

def mappings():
    return [{"image": x, "labels": y} for x, y in loader()]

def several():
    g = torch.Generator().manual_seed(1)
    left, right = torch.randn(2, 20, 4, generator=g)
    return {"left": left, "right": right, "labels": torch.arange(20) % 3}

def numbers():
    x, _ = load()
    return x, x.flatten(1)[:, :5]

def nothing():
    return 7

def broken():
    raise OSError("no disk")
"""
LOSSES = """
import torch
from torch import nn
from torch.nn import functional as F

def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)

def smooth(outputs, targets, *, by: float = 0.2):
    return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=by)

def of_model(model, batch):
    inputs, targets = batch
    return (model(inputs).sum(1) - targets) ** 2

def of_images(model, batch):
    return F.cross_entropy(model(batch["image"]), batch["labels"], reduction="none")

def mean(outputs, targets):
    return F.cross_entropy(outputs, targets)

def three(outputs, targets, weights):
    return outputs

averaged = nn.CrossEntropyLoss()
criterion = nn.CrossEntropyLoss(reduction="none")
"""


MODULES = {"nets": NETS, "data": DATA, "losses": LOSSES}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "theirs", **MODULES) as folder:
        yield folder


def named(model="build", data="load", **more):
    """Words of a command."""
    words = ["--model", f"theirs.nets:{model}", "--data", f"theirs.data:{data}"]
    for name, value in more.items():
        words += [f"--{name}", value]
    return words


def printed(capsys, *words):
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "data", ["load", "loader", "data_set", "arrays", "parts", "loaders"]
)
def test_numbers_are_those_of_the_library(data, theirs, capsys):
    model = saved("a.pt", wrap=lambda s: {f"module.{n}": t for n, t in s.items()})
    from theirs import data as own

    x, y = own.load()
    few = 30 if data in ("parts", "loaders") else 40
    objective = steppe.Objective(model, (x[:few], y[:few]))
    expected = steppe.measure(objective, ["trace", "lpf:samples=3"], seed=0)
    words = ["measure", "a.pt", "trace", "lpf:samples=3", *named(data=data), "--trust"]
    measured = printed(capsys, *words)
    for name, estimate in expected.items():
        assert measured[name]["value"] == pytest.approx(estimate.value, rel=1e-5)
        assert measured[name]["details"]["terms"] == few


@pytest.mark.parametrize(
    ("option", "loss"),
    [
        ("theirs.losses:loss", lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1)),
        (
            "theirs.losses:smooth:by=0.3",
            lambda z, y: F.cross_entropy(z, y, label_smoothing=0.3),
        ),
        ("theirs.losses:of_model", lambda z, y: ((z.sum(1) - y) ** 2).mean()),
        ("theirs.losses:criterion", F.cross_entropy),
        ("torch.nn.functional:cross_entropy", F.cross_entropy),
        ("cross_entropy", F.cross_entropy),
    ],
)
def test_losses_are_functions_of_outputs_or_of_the_model(option, loss, theirs, capsys):
    model = saved("a.pt")
    from theirs import data

    scores = printed(capsys, "evaluate", "a.pt", *named(data="parts", loss=option))
    x, y = data.load()
    with torch.no_grad():
        expected = loss(model(x[30:]), y[30:]).item()
    assert scores["test_loss"] == pytest.approx(expected, rel=1e-5)
    assert scores["test_loss_stderr"] > 0
    assert ("test_error" in scores) == option.endswith("cross_entropy")


def test_scores_have_errors_and_only_the_parts_there_are(theirs, capsys):
    model = saved("a.pt")
    from theirs import data

    x, y = data.load()
    scores = printed(capsys, "evaluate", "a.pt", *named())
    with torch.no_grad():
        wrong = (model(x).argmax(1) != y).double()
    assert scores["train_error"] == pytest.approx(wrong.mean().item())
    stderr = wrong.std() / 40**0.5
    assert scores["train_error_stderr"] == pytest.approx(stderr.item())
    assert not any(name.startswith("test") for name in scores)
    assert main(["evaluate", "a.pt", *named()]) == 0
    assert "±" in capsys.readouterr().out
    assert main(["measure", "a.pt", *named(), "--part", "test"]) == 2
    assert "gives no test samples but train ones" in capsys.readouterr().err


def test_numbers_are_the_targets_of_a_regression(theirs, capsys):
    saved("a.pt")
    scores = printed(capsys, "evaluate", "a.pt", *named(data="numbers"))
    assert scores["train_mae"] > 0
    few = ["--out", "here", "--steps", "3", "--k", "1"]
    printed(capsys, "spectrum", "a.pt", *named(data="numbers"), *few)
    page = Path("here/spectrum.html").read_text()
    assert "of the mean squared error over" in page
    assert " in a.pt</h1>" in page  # pages of several files have headings of their own
    assert "cross-entropy" not in page


def test_models_of_several_inputs_are_called_by_name(theirs, capsys):
    model = saved("a.pt", "Pair")
    from theirs import data

    rows = data.several()
    words = named("Pair", "several")
    with torch.no_grad():
        logits = model(rows["left"], rows["right"])
    scores = printed(capsys, "evaluate", "a.pt", *words)
    expected = F.cross_entropy(logits, rows["labels"]).item()
    assert scores["train_loss"] == pytest.approx(expected, rel=1e-5)
    folder = ["--out", "here", "--steps", "6", "--k", "1", "--matrix", "ggn"]
    spectrum = printed(capsys, "spectrum", "a.pt", *words, *folder)
    assert spectrum["parameters"] == 15
    assert "of the mean cross-entropy over" in Path("here/spectrum.html").read_text()


def test_a_loss_of_the_model_takes_batches_of_any_kind(theirs, capsys):
    saved("a.pt")
    of_images = named(data="mappings", loss="theirs.losses:of_images")
    assert printed(capsys, "evaluate", "a.pt", *of_images)["train_samples"] == 40


@pytest.mark.parametrize("model", ["sized", "wide:width=7", "ready", "wide"])
def test_networks_are_built_with_sizes_or_without(model, theirs, capsys):
    from theirs import nets

    made = {
        "sized": lambda: nets.sized((1, 8, 8), 5),
        "ready": nets.build,
        "wide": nets.wide,
    }.get(model, lambda: nets.wide(width=7))()
    torch.save(made.state_dict(), "a.pt")
    scores = printed(capsys, "evaluate", "a.pt", *named(model))
    assert scores["train_samples"] == 40


def test_few_samples_are_drawn_or_are_the_first_batches(theirs, capsys):
    saved("a.pt")
    terms = {}
    for data in ("load", "loader"):
        words = ["measure", "a.pt", "trace", *named(data=data), "--samples", "20"]
        terms[data] = printed(capsys, *words)["trace"]["details"]["terms"]
    assert terms == {"load": 20, "loader": 16}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{n}": t for n, t in s.items()},
        lambda s: {f"_orig_mod.{n}": t for n, t in s.items()},
        lambda s: {"module._orig_mod." + n: t for n, t in s.items()},
        lambda s: {"n_averaged": torch.tensor(3), **{f"module.{n}": s[n] for n in s}},
        lambda s: {
            "state_dict": {
                **{f"net.{n}": t for n, t in s.items()},
                "metric.total": torch.ones(2),
            },
            "pytorch-lightning_version": "2.5.0",
            "hyper_parameters": {"lr": 0.1},
            "callbacks": {},
        },
        lambda s: {
            "model": s,
            "args": argparse.Namespace(lr=0.1),
            "best": np.float64(0.5),
            "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": []},
        },
    ],
    ids=["ddp", "compiled", "both", "averaged", "lightning", "with arguments"],
)
def test_checkpoints_of_trainers_are_read(wrap, theirs):
    expected = saved("a.pt", wrap=wrap).state_dict()
    from theirs import nets

    model = nets.build()
    path = Path("a.pt")
    load_into(model, read_states(path), path)
    assert all(torch.equal(expected[n], t) for n, t in model.state_dict().items())


def test_of_several_weights_one_is_named(theirs, capsys):
    def both(state):
        return {"model": state, "ema": {n: 2 * t for n, t in state.items()}}

    saved("a.pt", wrap=both)
    assert main(["evaluate", "a.pt", *named()]) == 2
    assert "model, ema; say which, as --weights model." in capsys.readouterr().err
    losses = {
        name: printed(capsys, "evaluate", "a.pt", *named(weights=name))["train_loss"]
        for name in ("model", "ema")
    }
    assert losses["model"] != losses["ema"]
    assert main(["evaluate", "a.pt", *named(weights="best")]) == 2
    assert "holds no weights 'best'; there is model, ema" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (named("nosuch"), "model 'theirs.nets:nosuch' cannot be imported"),
        (named(data="nosuch"), "data set 'theirs.data:nosuch' cannot be imported"),
        (named(loss="theirs.losses:nosuch"), "loss 'theirs.losses:nosuch' cannot be"),
        (named("not_a_network"), "must give an nn.Module, got int; a model is made by"),
        (named(data="nothing"), "data theirs.data:nothing gave 7; load() gives"),
        (named(data="broken"), "failed (OSError: no disk)"),
        (named("wide"), "of another network"),
        (named("sized"), "of another shape are 1.weight (4,) for (5, 64), 1.bias"),
        (named(loss="theirs.losses:of_images"), "of_images failed on the first batch"),
        (named(loss="theirs.losses:mean"), "one value per sample, shape (B,), got ()"),
        (named(loss="theirs.losses:averaged"), "averages over the batch"),
        (named(loss="theirs.losses:three"), "takes 3 arguments; a loss is a function"),
        (named(loss="torch.nn:CrossEntropyLoss"), "is a class; name a function"),
        (named(loss="nll"), "--loss takes cross_entropy, mse, next_token, "),
        (named(data="mappings"), "unexpected keyword argument 'image'"),
        (["--loss", "mse"], "--model and --data go together, and --loss"),
        ([*named(), "--trust", "trace"], "measures come before options"),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, sentence, theirs, capsys):
    saved("a.pt")
    sentence = sentence.replace("of another network", "the weights in a.pt are not")
    assert main(["measure", "a.pt", "trace", *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("measures", [["b.pt", "trace"], ["trace", "b.pt"], ["a.pt@9"]])
def test_a_second_file_is_no_measure_but_something_to_compare_with(
    measures, theirs, capsys
):
    saved("a.pt")
    saved("b.pt")
    second = next(text for text in measures if ".pt" in text)
    assert main(["measure", "a.pt", *measures, *named()]) == 2
    said = capsys.readouterr().err
    assert (
        f"come after one checkpoint, got {second} too; compare several with --and"
        in said
    )
    assert len(said.splitlines()) == 1


def test_a_measure_is_one_beside_a_file_of_its_name(theirs, capsys):
    saved("a.pt")
    Path("trace").touch()
    assert printed(capsys, "measure", "a.pt", "trace", *named())["trace"]["value"]


def test_a_text_is_refused_with_both_kinds_of_files_that_serve(theirs, capsys):
    Path("a.pt").write_text("import torch")
    assert main(["measure", "a.pt", "trace", *named()]) == 2
    assert "with --model and --data weights that torch.save" in capsys.readouterr().err


def test_a_whole_module_is_refused_with_the_line_that_saves_its_weights(theirs, capsys):
    torch.save(nn.Linear(2, 2), "whole.pt")
    assert main(["measure", "whole.pt", *named(), "--trust"]) == 2
    said = capsys.readouterr().err
    fix = "torch.save(torch.load('whole.pt', weights_only=False).state_dict(), "
    assert fix in said
    code = said.partition("Python: ")[2].strip().rstrip(".")
    exec(code, {"torch": torch})
    assert set(torch.load("weights.pt")) == {"weight", "bias"}


def test_a_file_of_another_size_says_the_shapes(theirs):
    saved("a.pt", "wide")
    from theirs import nets

    with pytest.raises(
        CheckpointError, match=r"\(9, 64\) for \(7, 64\).*sizes that it"
    ):
        load_into(nets.wide(width=7), read_states(Path("a.pt")), Path("a.pt"))


def test_data_of_two_parts_train_a_network(theirs):
    from theirs import data

    from steppe_lab.datasets import load
    from steppe_lab.datasets.own import OwnData

    whole = load("theirs.data:parts")
    assert (len(whole.train), len(whole.test), len(whole.classes)) == (30, 10, 5)
    tokens = torch.arange(24).reshape(4, 6) % 7
    texts = OwnData.of("x:y", {"train": tokens, "test": tokens}).dataset()
    assert (texts.task, len(texts.classes)) == ("next_token", 7)
    numbers = OwnData.of("x:y", {"train": data.numbers(), "test": data.numbers()})
    assert numbers.dataset().task == "regression"


@pytest.mark.slow
def test_the_page_on_your_own_checkpoint_is_walked_through(
    tmp_path, monkeypatch, capsys
):
    page = Path(__file__).parents[2] / "docs" / "your-own-checkpoint.md"
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in zip(("mine", "words"), code[:2], strict=True):
        Path(f"{name}.py").write_text(text)
    names = runpy.run_path("mine.py", run_name="__main__")
    runpy.run_path("words.py")
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.splitlines():
            assert main(shlex.split(line)[1:]) == 0, line
    assert Path("spectrum/spectrum.html").exists()
    capsys.readouterr()
    exec(code[2], names)  # in Python, and the same from the command line
    expected = names["steppe"].measure(names["objective"], ["trace"])["trace"]
    own = ["--model", "mine:build", "--data", "mine:load"]
    capsys.readouterr()
    measured = printed(capsys, "measure", "net0.pt", "trace", *own)
    assert measured["trace"]["value"] == pytest.approx(expected.value, rel=1e-6)
    for name in ("mine", "words"):
        del sys.modules[name]


class Texts(nn.Module):
    """A model of tokens with the call and the output of a Hugging Face one."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 9)

    def forward(self, input_ids, attention_mask=None):
        return SimpleNamespace(logits=self.table(input_ids))


def test_tokens_and_batches_of_tokenizers_are_predicted_token_by_token():
    model, ids = Texts(), torch.randint(9, (4, 6))
    logits = model.table(ids)[:, :-1].flatten(0, 1)
    expected = F.cross_entropy(logits, ids[:, 1:].flatten()).item()
    mask = torch.ones_like(ids)
    for batch in ({"input_ids": ids, "attention_mask": mask}, {"input_ids": ids}):
        objective = objective_of(model, [batch], None)
        assert objective.value().value == pytest.approx(expected, rel=1e-5)
    alone = objective_of(nn.Embedding(9, 9), [[ids]], "next_token")
    assert alone.count() == 20
    assert task_of(alone).headline.name == "perplexity"
    classes = {"input_ids": ids, "labels": ids[:, 0]}
    first = objective_of(
        model, [classes], OwnLoss(of_the_first, "own", takes_model=True)
    )
    assert first.count() == 4


def of_the_first(model, batch):
    return model(batch["input_ids"]).logits[:, 0].logsumexp(1)


@pytest.mark.parametrize(
    ("batch", "loss", "sentence"),
    [
        ({"input_ids": 1, "labels": 1}, None, "say --loss next_token or --loss cross"),
        (("pair", torch.ones(2)), "next_token", "shifts tokens itself"),
        (torch.rand(3, 4), None, "data without targets must be tokens"),
        ((1, 2, 3), None, r"must be \(inputs, targets\), got 3 parts"),
    ],
)
def test_batches_that_say_too_little_are_refused(batch, loss, sentence):
    ids = torch.ones(2, 3).long()
    if isinstance(batch, dict):
        batch = dict.fromkeys(batch, ids)
    with pytest.raises(DataError, match=sentence):
        objective_of(Texts(), [batch], loss)


@pytest.mark.parametrize("left_out", [0, 3])
@pytest.mark.parametrize("loss", [None, F.cross_entropy])
def test_the_error_of_dense_classes_is_that_over_images(left_out, loss):
    targets = (torch.arange(12) % 2).view(12, 1, 1).repeat(1, 4, 5)
    targets[:2, :left_out] = -100
    images = torch.randn(12, 3, 4, 5)
    model = nn.Conv2d(3, 2, 1)
    model.bias.data.copy_(torch.tensor([2.0, -2.0]))  # losses of an image are alike
    batches = list(zip(images.split(5), targets.split(5), strict=True))
    found = loss_of(objective_of(model, batches, loss))
    losses = F.cross_entropy(model(images), targets, reduction="none").detach()
    sums, counts = losses.sum((1, 2)).double(), (targets >= 0).sum((1, 2)).double()
    mean = sums.sum() / counts.sum()
    # The linearised ratio estimator, as in Cochran (1977), section 6.4.
    error = ((sums - mean * counts) ** 2).sum() / 11 * 12
    assert found.value == pytest.approx(mean.item(), rel=1e-6)
    assert found.stderr == pytest.approx(error.item() ** 0.5 / counts.sum().item())
    assert found.samples == 12
    assert found.stderr > 2 * losses.std().item() / counts.sum().item() ** 0.5
