"""`steppe attack` and its kind of run: results, files, what is kept and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from attack_command import attack_command, refused
from steppe.errors import SettingError, StoreError
from steppe_lab.datasets.loading import load_split
from steppe_lab.progress import silent
from steppe_lab.runs import attacking as attack_runs
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.attack_settings import AttackSettings, budget, separated
from steppe_lab.runs.attacking import Attacking, attack
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.store import Store
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe

QUICK = ("--attacks", "fgsm,pgd:steps=3,apgd:steps=5", "--samples", "60")


def recipe(**more):
    base = {"data": "digits", "model": "mlp:hidden=16,depth=1", "base": "sgd:lr=0.1"}
    return Recipe.model_validate({**base, "train_samples": 200, **more})


def trained(made):
    """A network that has learnt its digits, in a tenth of a second."""
    split = load_split(made)
    torch.manual_seed(0)
    model = build_model(made, split.in_shape, split.outputs)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    inputs, targets = split.train.batch(slice(None))
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return checkpoints.to_bytes(
        model, made, split.in_shape, split.outputs, split.fingerprint
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.safetensors"
    path.write_bytes(trained(recipe()))
    return path


@pytest.fixture
def steppe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return attack_command(monkeypatch, capsys)


def test_budgets_and_attacks_are_read_as_people_write_them():
    texts = ["fgsm,pgd:steps=10,restarts=2,bim", "deepfool:norm=inf"]
    expected = ("fgsm", "pgd:steps=10,restarts=2", "bim", "deepfool:norm=inf")
    assert separated(texts) == expected
    settings = AttackSettings(eps=("8/255", "0,0.01", "0"))
    assert settings.eps == ("0", "0.01", "8/255")
    assert settings.epsilons == (0.0, 0.01, 8 / 255)
    for wrong in ("-1", "x", "1/0", "nan", "inf", "1/2/3"):
        with pytest.raises(SettingError, match="numbers or fractions >= 0"):
            budget(wrong)


def test_a_network_is_attacked_and_all_numbers_agree(steppe, checkpoint, tmp_path):
    options = ("--eps", "0", "8/255", "0.2", "--out", tmp_path / "here")
    code, out, _ = steppe(checkpoint, *QUICK, *options, "--json")
    assert code == 0
    record = json.loads(out)
    assert json.loads((tmp_path / "here" / "attack.json").read_text())
    with np.load(tmp_path / "here" / "attack.npz") as arrays:
        success, wrong = arrays["success"], arrays["clean_wrong"]
        assert arrays["epsilons"].tolist() == record["epsilons"] == [0, 8 / 255, 0.2]
        assert arrays["attacks"].tolist() == [
            each["attack"] for each in record["attacks"].values()
        ]
        labels, positions = arrays["labels"], arrays["positions"]
    assert success.shape == (3, 3, 60)
    split = load_split(recipe())
    assert split.test.targets[positions].tolist() == labels.tolist()
    model = checkpoints.load(checkpoint).model.eval()
    predicted = model(split.test.batch(torch.from_numpy(positions))[0]).argmax(1)
    assert (predicted.numpy() != labels).tolist() == wrong.tolist()
    assert (success[:, 0] == wrong).all()
    assert record["clean_error"] == pytest.approx(wrong.mean())
    for index, key in enumerate(("fgsm", "pgd", "apgd")):
        entry = record["attacks"][key]
        expected = 1 - success[index].mean(1)
        assert entry["robust_accuracy"] == pytest.approx(expected.tolist())
        assert all(
            low <= value <= high
            for low, value, high in zip(
                entry["low"], entry["robust_accuracy"], entry["high"], strict=True
            )
        )
    worst = 1 - success.any(0).mean(1)
    assert record["worst"]["robust_accuracy"] == pytest.approx(worst.tolist())
    assert worst[2] < worst[1] < worst[0]
    page = (tmp_path / "here" / "attack.html").read_text()
    assert f"steppe attack {checkpoint} --attacks fgsm" in page
    assert page.count("data:image/png") == 12
    assert "http-equiv" in page


def test_intervals_are_those_of_wilson(steppe, checkpoint):
    stats = pytest.importorskip("scipy.stats")
    _, out, _ = steppe(checkpoint, *QUICK, "--eps", "0.1", "--json")
    entry = json.loads(out)["attacks"]["fgsm"]
    count = round(60 * entry["robust_accuracy"][0])
    known = stats.binomtest(count, 60).proportion_ci(0.95, method="wilson")
    assert (entry["low"][0], entry["high"][0]) == pytest.approx((known.low, known.high))


def test_the_table_names_attacks_norms_and_budgets(steppe, checkpoint):
    code, out, _ = steppe(checkpoint, "--attacks", "fgm,deepfool", "--samples", "30")
    assert code == 0
    text = " ".join(out.split())
    assert "of 30 samples of the test data are classified rightly" in text
    assert "Within a budget of 8/255 in L2 of pixels from 0 to 1" in text
    assert "The median of the smallest changes of deepfool" in text
    assert "Wilson intervals of 95 %" in text
    assert "Report: steppe-runs/attacks/mlp-" in text


@pytest.mark.slow
def test_attacks_that_are_done_are_not_done_again(steppe, checkpoint, monkeypatch):
    done = []
    real = attack_runs.attacked

    def noted(attack, *args, **kwargs):
        done.append(type(attack).__name__)
        if len(done) == 2:
            raise KeyboardInterrupt
        return real(attack, *args, **kwargs)

    monkeypatch.setattr(attack_runs, "attacked", noted)
    assert steppe(checkpoint, *QUICK)[0] == 130
    assert steppe(checkpoint, *QUICK)[0] == 0
    assert done == ["FGSM", "PGD", "PGD", "APGD"]
    steppe(checkpoint, *QUICK, "--seed", "1")
    assert done[4:] == ["FGSM", "PGD", "APGD"]


@pytest.mark.slow
def test_a_damaged_part_is_made_again(steppe, checkpoint, tmp_path):
    quick = ("--attacks", "fgsm", "--samples", "30", "--json")
    _, before, _ = steppe(checkpoint, *quick)
    (part,) = (tmp_path / "steppe-runs/attacks/done").glob("*/fgsm-*.json")
    for damage in ("{}", part.read_text().replace("A", "B", 3), "\0"):
        part.write_text(damage)
        assert steppe(checkpoint, *quick)[1] == before


def test_the_published_protocol_is_said(steppe, checkpoint):
    options = ("--protocol", "published", "--attacks", "fgsm", "--samples", "30")
    _, out, _ = steppe(checkpoint, *options, "--json")
    record = json.loads(out)
    assert record["protocol"] == "published"
    assert (
        "budgets and the bounds 0 and 1 are those of standardised" in record["notes"][0]
    )
    _, out, _ = steppe(checkpoint, *options)
    assert "protocol published: budgets" in " ".join(out.split()).lower()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--attacks", "pdg"), "unknown attack 'pdg': did you mean 'pgd'?"),
        (("--attacks", "pgd:steps=0"), "steps must be"),
        (("--attacks", "fgsm,fgsm"), "name every attack once"),
        (("--attacks", ","), "got none"),
        (("--eps", "8"), "at most 1, the largest change between the bounds 0 and 1"),
        (("--eps", "-1/255"), "fractions >= 0"),
        (("--bounds", "0", "1"), "inputs of digits have known bounds"),
        (("--bounds", "1", "0"), "name the smaller one first"),
        (("--loss", "plain"), "leave --loss out"),
        (("--samples", "0"), "samples"),
    ],
)
def test_settings_without_a_meaning_are_refused(options, said, steppe, checkpoint):
    assert said in refused(steppe, checkpoint, *options)


def test_a_folder_of_another_network_is_refused(steppe, checkpoint, tmp_path):
    quick = ("--attacks", "fgsm", "--samples", "30", "--out", tmp_path / "here")
    assert steppe(checkpoint, *quick)[0] == 0
    other = tmp_path / "other.safetensors"
    other.write_bytes(trained(recipe(seed=1)))
    assert "holds the attacks on another checkpoint" in refused(steppe, other, *quick)


def test_heartbeats_have_known_bounds(steppe, tmp_path):
    for part in ("train", "test"):
        source = np.random.default_rng(0)
        rows = np.column_stack([source.random((40, 187)), np.arange(40) % 5])
        (tmp_path / f"mitbih_{part}.csv").write_text(
            "\n".join(",".join(f"{x:.6f}" for x in row) for row in rows)
        )
    net = nn.Sequential(nn.Flatten(), nn.Linear(187, 16), nn.ReLU(), nn.Linear(16, 5))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    words = ("net.pt", "--model", "mlp:hidden=16,depth=1", "--data", "heartbeat")
    code, out, err = steppe(
        *words, "--data-dir", tmp_path, "--attacks", "pgd", "--json"
    )
    if code:
        assert code == 0, err
    assert json.loads(out)["bounds"] == [0, 1]


@pytest.fixture
def run_of_a_store(tmp_path, checkpoint):
    store = Store(tmp_path / "store")
    run = store.add(config_of(recipe()))
    store.artefact(run, CHECKPOINT).write_bytes(checkpoint.read_bytes())
    return store, run


def test_a_run_of_attacks_follows_a_training(run_of_a_store, steppe, checkpoint):
    store, run = run_of_a_store
    record = Attacking(
        training=run,
        attacks=("fgsm", "pgd:steps=3"),
        epsilons=(0.0, 8 / 255),
        samples=60,
    )
    config = config_of(record)
    assert config["kind"] == "attack"
    assert "bounds" not in config
    assert (
        Attacking.model_validate({k: v for k, v in config.items() if k != "kind"})
        == record
    )
    folder = store.folder(store.add(config))
    result = attack(record, folder, silent)
    words = (checkpoint, "--attacks", "fgsm,pgd:steps=3", "--eps", "0,8/255")
    told = json.loads(steppe(*words, "--samples", "60", "--json")[1])
    assert result["attacks"] == told["attacks"]
    assert (folder / "attack.npz").exists()


def test_a_run_of_attacks_takes_a_checkpoint_along_the_training(run_of_a_store):
    store, run = run_of_a_store
    settings = {"attacks": ("fgsm",), "epsilons": (0.1,), "samples": 30}
    record = Attacking(training=run, at="best", **settings)
    folder = store.folder(store.add(config_of(record)))
    with pytest.raises(StoreError, match="train with --checkpoint-every to keep it"):
        attack(record, folder, silent)
    kept = store.artefact(run, CHECKPOINT).parent / "checkpoints"
    kept.mkdir()
    (kept / "best.safetensors").write_bytes(
        store.artefact(run, CHECKPOINT).read_bytes()
    )
    assert attack(record, folder, silent)["samples"] == 30
    with pytest.raises(ValueError, match="at"):
        Attacking(training=run, at="../other", **settings)
