"""A training that is killed, with all that it leaves behind switched on."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from steppe.torch_internals import tree_map
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import INTERVAL, recipe_of, train_network
from steppe_lab.store.store import Store
from steppe_lab.training.callbacks import history
from steppe_lab.training.state import opened

SETTINGS = {
    "model": "small_cnn:width=2,batch_norm=true",
    "train_samples": 64,
    "optimizer": "vasso+ema:decay=0.5",
    "checkpoint_every": 1,
    "checkpoint_optimizer": True,
    "tensorboard": True,
    "held_out": "validation",
    "augment": "shift_flip",
}
TIMES = {"seconds", "samples_per_second"}


class KilledError(BaseException):
    """Nothing catches it on its way."""


def left(folder: Path) -> dict[str, object]:
    """All that a run has left, but for times and the places of its starts."""
    whole = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".safetensors", ".json")
        and path.name not in ("timing.json", "provenance.json")
    }
    rows = csv.DictReader(io.StringIO((folder / "history.csv").read_text()))
    table = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    states = {path.name: state(path) for path in folder.rglob("*.training.pt")}
    return {**whole, "history.csv": table, **states}


def state(path: Path) -> dict[str, object]:
    """The state beside a checkpoint, without times."""
    content = torch.load(io.BytesIO(opened(path.read_bytes())), weights_only=True)
    content.pop("seconds")
    content["callbacks"].pop("history")
    return tree_map(bits, content)


def bits(value: object) -> object:
    """A tensor as what it is bit for bit, and anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    return str(value.dtype), tuple(value.shape), value.numpy().tobytes()


@pytest.mark.parametrize("moments", [3, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_training_killed_at_any_write_leaves_the_same_files(
    moments, tmp_path, monkeypatch
):
    """Before each of its renames once, and half-written files lie about."""
    monkeypatch.setenv(INTERVAL, "0")
    monkeypatch.setattr(history, "WRITE_EVERY", 0.0)
    made = recipe_of(TrainSettings(**SETTINGS, epochs=2), SETTINGS["optimizer"], 0)
    real, calls, moment = os.replace, [], [0]

    def replace(source, target):
        calls.append(target)
        if len(calls) == moment[0]:
            raise KilledError
        return real(source, target)

    monkeypatch.setattr(os, "replace", replace)

    def done(name: str) -> Path:
        store = Store(tmp_path / name)
        folder = store.folder(store.add(config_of(made)))
        calls.clear()
        with contextlib.suppress(KilledError):
            train_network(made, folder, lambda progress: None)
        moment[0] = 0
        train_network(made, folder, lambda progress: None)
        return folder

    straight = left(done("straight"))
    names = {Path(name).name for name in straight}
    assert {"initial.safetensors", "best.safetensors", "last.training.pt"} <= names
    writes = len(calls)
    assert writes > 12
    for number in range(3, writes + 1, max(1, writes // moments)):
        moment[0] = number
        assert left(done(f"{number}")) == straight


def start(folder: Path) -> subprocess.Popen[bytes]:
    options = {name: str(value) for name, value in SETTINGS.items()}
    flags = {name for name, value in SETTINGS.items() if value is True}
    words = [sys.executable, "-m", "steppe_lab.cli", "train", "--epochs", "60"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if name in flags else [value])]
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        words,
        cwd=folder,
        env={**os.environ, INTERVAL: "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)  # twelve processes, one after the other
def test_ten_kills_of_one_training_change_no_bit(tmp_path):
    with start(tmp_path / "calm") as calm:
        assert calm.wait(timeout=300) == 0
    draw, kills = random.Random(0), 0
    while kills < 10:
        before = set(tmp_path.glob("killed/steppe-runs/runs/*/checkpoints/*"))
        with start(tmp_path / "killed") as process:
            # Until it has gone on from where the last one was killed.
            while process.poll() is None:
                now = set(tmp_path.glob("killed/steppe-runs/runs/*/checkpoints/*"))
                if now - before:
                    break
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, 0.2))
            assert process.poll() is None, f"it ended after {kills} kills"
            os.killpg(process.pid, signal.SIGKILL)
        kills += 1
    with start(tmp_path / "killed") as process:
        assert process.wait(timeout=300) == 0
    (calm_run,) = tmp_path.glob("calm/steppe-runs/runs/*")
    (killed_run,) = tmp_path.glob("killed/steppe-runs/runs/*")
    assert left(killed_run) == left(calm_run)
    assert not list(tmp_path.rglob("*.tmp"))
