"""`steppe evaluate`, and weights that another program saved."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bad_files import checkpoint
from steppe.errors import CheckpointError
from steppe_lab.analysis import evaluated
from steppe_lab.analysis.evaluated import evaluate_one
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.cli import main
from steppe_lab.cli.streams import console
from steppe_lab.cli.verbs import evaluate
from steppe_lab.datasets import load
from steppe_lab.datasets.loading import load_split
from steppe_lab.models import MODELS
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import recipe_of, train_network
from steppe_lab.store.store import Store
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.trained_loss import TrainedLoss
from steppe_lab.training.weights import load_into, read_states

MODEL = "mlp:hidden=8"
NAMED = ["--model", MODEL, "--data", "digits"]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(MODEL, (1, 8, 8), 10)


def scored(model, samples):
    """Loss and accuracy by hand."""
    with torch.no_grad():
        outputs = model(samples.inputs)
    right = (outputs.argmax(1) == samples.targets).double().mean()
    return F.cross_entropy(outputs, samples.targets).item(), right.item()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda model: model.state_dict(),
        lambda model: {"acc": 0.5, "state_dict": model.state_dict()},
        lambda model: {"epoch": 3, "model": nn.DataParallel(model).state_dict()},
        lambda model: {
            "state_dict": torch.compile(model, backend="eager").state_dict(),
            "optimizer": {},
        },
    ],
)
def test_weights_that_another_program_saved_are_scored(
    wrapped, model, tmp_path, capsys
):
    path = tmp_path / "theirs.pt"
    torch.save(wrapped(model), path)
    assert main(["evaluate", str(path), *NAMED, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    loss, accuracy = scored(model, load("digits").test)
    assert scores["test_loss"] == pytest.approx(loss, rel=1e-6)
    assert scores["test_accuracy"] == accuracy
    assert scores["test_error"] == pytest.approx(1 - accuracy)
    assert (scores["train_samples"], scores["test_samples"]) == (1000, 500)


def test_they_are_measured_on_the_data_that_is_named(model, tmp_path, capsys):
    path = tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    assert main(["measure", str(path), "trace", *NAMED, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace"]["stderr"] == 0.0


def test_weights_of_another_network_are_refused_by_their_names(model, tmp_path):
    state = model.state_dict()
    state["head.bias"] = state.pop("1.weight")
    state["3.bias"] = torch.zeros(5)
    sentence = (
        r"lacks 1\.weight; it has head\.bias; of another shape are 3\.bias \(5,\)"
    )
    with pytest.raises(CheckpointError, match=sentence):
        load_into(model, {"": state}, tmp_path / "theirs.pt")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("verb", ["evaluate", "measure", "spectrum", "landscape"])
def test_weights_that_are_not_finite_are_refused_in_one_sentence(
    verb, value, model, tmp_path, capsys
):
    theirs, ours = tmp_path / "theirs.pt", tmp_path / "ours.safetensors"
    made = Recipe(data="digits", model=MODEL, base="sgd", train_samples=64)
    split = load_split(made)
    with torch.no_grad():
        model[1].weight[0, :2] = value
    torch.save(model.state_dict(), theirs)
    network = build_model(made, split.in_shape, 10)
    network.load_state_dict(model.state_dict())
    about = (made, split.in_shape, 10, split.fingerprint)
    ours.write_bytes(checkpoints.to_bytes(network, *about))
    capsys.readouterr()
    for path, names in ((theirs, NAMED), (ours, [])):
        assert main([verb, str(path), *names]) == 2
        said = capsys.readouterr().err
        assert f"got 2 of 512 NaN or infinite in 1.weight of {path}; use a" in said
        assert said.count("\n") == 1


def test_the_entry_that_fits_is_taken_and_never_one_of_several(model, tmp_path):
    path, state = tmp_path / "theirs.pt", model.state_dict()
    torch.save({"best": {"accuracy": torch.ones(())}, "model": state}, path)
    assert load_into(model, read_states(path), path) == "model"
    torch.save({"model_ema": state, "model": state}, path)
    with pytest.raises(CheckpointError, match=r"several weights .*: model_ema, model;"):
        load_into(model, read_states(path), path)


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.module.", "net.module."])
def test_prefixes_that_all_names_share_are_taken_off(prefix, model, tmp_path):
    path = tmp_path / "theirs.pt"
    state = {f"{prefix}{n}": t + 1 for n, t in model.state_dict().items()}
    torch.save({"state_dict": state}, path)
    expected = [p + 1 for p in model.state_dict().values()]
    load_into(model, read_states(path), path)
    pairs = zip(model.state_dict().values(), expected, strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_a_checkpoint_of_steppe_needs_no_names(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoint())
    assert main(["evaluate", str(path), *NAMED]) == 2
    assert "leave out --model and --data" in capsys.readouterr().err


def test_a_flipped_bit_is_refused(model, tmp_path):
    path = tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    content = bytearray(path.read_bytes())
    content[content.index(model[1].weight.detach().numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        read_states(path)


def test_a_damaged_pickle_is_one_sentence(model, tmp_path):
    path, source = tmp_path / "theirs.pt", torch.Generator().manual_seed(0)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for place in torch.randint(len(whole), (60,), generator=source).tolist():
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with contextlib.suppress(CheckpointError):
            load_into(model, read_states(path), path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"epoch": 3}, "holds no state_dict"),
        ({0: torch.ones(3)}, "holds no state_dict"),
        ({"w": torch.eye(3).to_sparse()}, "holds no state_dict"),
        ({"w": torch.ones(3, device="meta")}, "holds no state_dict"),
        (nn.Linear(2, 2), "a torch file of Python objects"),
        (None, "there is no file"),
    ],
)
def test_files_without_weights_are_refused(content, sentence, tmp_path):
    path = tmp_path / "theirs.pt"
    for each in [content] if content else []:
        torch.save(each, path)
    with pytest.raises(CheckpointError, match=sentence):
        read_states(path)


@pytest.mark.parametrize("kind", [torch.complex64, torch.int32])
def test_weights_of_another_kind_of_number_are_refused(kind, model, tmp_path):
    state = {n: t.to(kind) for n, t in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"of another kind are 1\.weight"):
        load_into(model, {"": state}, tmp_path / "theirs.pt")


def test_a_model_without_its_data_is_refused(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path / "a.pt"), "--model", MODEL]) == 2
    assert "--model and --data go together" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rows"), [("", 1000), (",score_batch=40", 40), (",score_batch=7", 7)]
)
def test_a_published_protocol_is_scored_in_its_batches(settings, rows, tmp_path):
    torch.manual_seed(0)
    text = f"middle_batch:hidden=8,variant=published{settings}"
    plain = MODELS.build("middle_batch:hidden=8", (1, 8, 8), 10).eval()
    path, test = tmp_path / "theirs.pt", load("digits").test
    torch.save(plain.state_dict(), path)
    scores = evaluate_one(path, belongs=Belongs(text, "digits")).scores
    with torch.no_grad():
        outputs = plain(test.inputs)
    published = torch.cat([part.log_softmax(0) for part in outputs.split(rows)])
    right = (published.argmax(1) == test.targets).double().mean().item()
    assert scores["test_accuracy"] == pytest.approx(right, abs=0.005)
    loss = F.cross_entropy(published, test.targets).item()
    assert scores["test_loss"] == pytest.approx(loss, rel=1e-4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that is judged on validation samples, with checkpoints."""
    store = Store(tmp_path_factory.mktemp("runs") / "steppe-runs")
    settings = TrainSettings(
        model="mlp:hidden=8",
        optimizer="sgd",
        epochs=2,
        train_samples=200,
        held_out="validation",
        checkpoint_every=0,
        l2=0.01,
    )
    made = recipe_of(settings, "sgd", 0)
    folder = store.folder(store.add(config_of(made)))
    store.finish(folder.name, train_network(made, folder, lambda progress: None))
    return folder


def test_several_checkpoints_are_scored_on_all_parts(run, tmp_path, capsys):
    out = tmp_path / "scores.json"
    words = ["evaluate", f"{run}@best", f"{run}@last", f"{run}@initial"]
    assert main([*words, "--json", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == json.loads(out.read_text())
    stems = [Path(row["checkpoint"]).stem for row in rows]
    assert stems == ["best", "model", "initial"]
    digits = load("digits")
    best, last, initial = rows
    for row in rows:
        network = checkpoints.load(Path(row["checkpoint"])).model.eval()
        loss, accuracy = scored(network, digits.test)
        assert row["test_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["test_accuracy"] == pytest.approx(accuracy)
        squares = sum(float(p.detach().square().sum()) for p in network.parameters())
        assert 0 < row["l2_penalty"] <= 0.01 * squares * (1 + 1e-6)
        for part in ("train", "validation", "test"):
            total = row[f"{part}_loss"] + row["l2_penalty"]
            assert row[f"{part}_trained_loss"] == pytest.approx(total)
    assert best["train_samples"] == 200
    assert best["validation_samples"] + 200 <= len(digits.train)
    assert best["test_samples"] == len(digits.test)
    result = json.loads((run / "result.json").read_text())
    # What the training calls its test samples are those it was judged on.
    assert last["validation_error"] == pytest.approx(result["last"]["test_error"])
    assert best["validation_error"] == pytest.approx(result["best"]["test_error"])
    assert initial["train_error"] > last["train_error"]


def test_a_part_is_scored_alone_with_the_same_numbers(run, capsys, monkeypatch):
    assert main(["evaluate", str(run), "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    seen = []
    for part in ("train", "validation", "test"):
        with monkeypatch.context() as patched:
            passes(patched, seen)
            assert main(["evaluate", str(run), "--part", part, "--json"]) == 0
        row = json.loads(capsys.readouterr().out)
        assert {name for name in every if name.startswith(part)} < set(row)
        assert row == {name: every[name] for name in row}
        assert seen.pop() == row[f"{part}_samples"]
        assert not seen


def passes(patched, seen):
    """Note the samples of each pass over some, in estimates of scores."""
    plain = evaluated.estimates

    def counted(*given, **options):
        rows = plain(*given, **options)
        seen.append(rows["loss"].samples)
        return rows

    patched.setattr(evaluated, "estimates", counted)


def test_smoothed_labels_take_no_second_pass(tmp_path, monkeypatch):
    made = Recipe(data="digits", model=MODEL, base="sgd", label_smoothing=0.1)
    split = load_split(made)
    network = build_model(made, split.in_shape, 10)
    path = tmp_path / "model.safetensors"
    about = (made, split.in_shape, 10, split.fingerprint)
    path.write_bytes(checkpoints.to_bytes(network, *about))
    seen = []
    passes(monkeypatch, seen)
    scores = evaluate_one(path, part="test").scores
    assert seen == [500]
    with torch.no_grad():
        outputs = network.eval()(split.test.inputs)
    smoothed = TrainedLoss.of(made, split.task).task
    other = smoothed.loss(outputs, split.test.targets, reduction="none").double()
    assert scores["test_trained_loss"] == pytest.approx(other.mean().item())
    error = other.std().item() / 500**0.5
    assert scores["test_trained_loss_stderr"] == pytest.approx(error)
    assert scores["test_trained_loss"] != scores["test_loss"]


def test_a_part_that_is_not_there_is_refused(model, run, tmp_path, capsys):
    path = tmp_path / "theirs.pt"
    torch.save(model.state_dict(), path)
    assert main(["evaluate", str(path), *NAMED, "--part", "validation"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "--part must be train or test of these data, got validation" in said
    assert main(["evaluate", str(run), "--part", "train", "--texts", "texts"]) == 2
    assert "choose test or validation" in " ".join(capsys.readouterr().err.split())


def test_the_table_of_several_has_a_column_for_each(run, capsys):
    assert main(["evaluate", f"{run}@best", f"{run}@initial"]) == 0
    shown = capsys.readouterr().out
    head = next(line for line in shown.splitlines() if "best" in line)
    assert head.index("best") < head.index("initial")
    assert re.search(r"validation error .*±.*±", shown)


def test_a_score_of_one_batch_has_an_error_that_is_not_known(capsys):
    scores = {"test_loss": 0.5, "test_loss_stderr": math.inf, "test_samples": 1}
    for table in (evaluate._table(scores), evaluate._tables([Path("a.pt")], [scores])):
        console(sys.stdout).print(table)
        shown = capsys.readouterr().out
        assert "0.500 ± not known" in shown
        assert "inf" not in shown


def test_one_of_several_that_is_not_there_is_said_before_any_is_scored(run, capsys):
    assert main(["evaluate", f"{run}@best", f"{run}@none"]) == 2
    assert "no checkpoint none; there is best, half" in capsys.readouterr().err


def test_several_files_of_another_program_are_scored(model, tmp_path, capsys):
    paths = [tmp_path / name for name in ("one.pt", "two.pt")]
    for path in paths:
        torch.save(model.state_dict(), path)
    assert main(["evaluate", *map(str, paths), *NAMED, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.pop("checkpoint") for row in rows] == [str(path) for path in paths]
    assert rows[0] == rows[1]
    # Nobody knows which training samples another program left unused.
    assert "validation_loss" not in rows[0]
