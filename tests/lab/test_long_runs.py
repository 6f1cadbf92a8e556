"""The main job under hard conditions, and on the published data sets."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steppe_lab.datasets.loading import DATA_DIR
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import INTERVAL
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import ComparisonStudy
from steppe_lab.studies.rows import Comparison

STATES = "steppe-runs/runs/*/training.pt"

pytestmark = pytest.mark.slow

SMALL = ["--epochs", "12", "--seeds", "2", "--model", "small_cnn:width=4"]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "steppe_lab.cli", "compare", *SMALL, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", INTERVAL: "0"}
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def changes(folder: Path) -> set[tuple[str, int]]:
    """Kept states and when they were written; they vanish at the end of a training."""
    found = set()
    for path in folder.glob(STATES):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.parent.name, path.stat().st_mtime_ns))
    return found


def wait_for_a_state(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until a training has kept a state to resume from, or everything is done."""
    before = changes(folder)
    while process.poll() is None:
        if changes(folder) - before:
            return
        time.sleep(0.01)


@pytest.mark.timeout(900)  # seven processes, one after the other
def test_five_kills_at_random_moments_change_no_bit(tmp_path):
    with start(tmp_path / "calm") as calm:
        expected = calm.communicate(timeout=280)[0]
    draw = random.Random(0)
    kept = 0
    for _ in range(5):
        with start(tmp_path / "killed") as process:
            wait_for_a_state(tmp_path / "killed", process)
            time.sleep(draw.uniform(0.0, 2.0))
            process.send_signal(signal.SIGKILL)
        kept += len(list(tmp_path.glob("killed/steppe-runs/runs/*/training.pt")))
    assert kept  # so that some trainings did not begin anew
    with start(tmp_path / "killed") as process:
        found = process.communicate(timeout=280)[0]
    assert process.returncode == 0
    rows = [json.loads(line) for line in expected.splitlines()]
    assert len(rows) == 6
    assert found == expected


def compared(data: str, data_dir: Path, tmp_path: Path, monkeypatch) -> Comparison:
    monkeypatch.setenv(DATA_DIR, str(data_dir))
    settings = CompareSettings(
        optimizers=("sgd", "sam"),
        data=data,
        train_samples=600,
        epochs=8,
        seeds=1,
        measure_samples=300,
    )
    return ComparisonStudy(settings, Store(tmp_path)).run(workers=2)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("data", "error"), [("mnist", 0.4), ("fashion_mnist", 0.5), ("cifar10", 0.85)]
)
def test_networks_learn_the_published_data(
    data, error, data_dir, tmp_path, monkeypatch
):
    """Errors far below the 90 % of guessing, after very little training."""
    found = compared(data, data_dir, tmp_path, monkeypatch)
    assert not found.failures
    for row in found.rows:
        assert row.last["test_error"] < error
        assert row.measures["top_eigenvalue"]["value"] > 0
        assert row.measures["top_eigenvalue"]["converged"]
