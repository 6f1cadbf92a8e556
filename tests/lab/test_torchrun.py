"""`torchrun ... steppe train`: one run, written once, ended when a process dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from steppe.errors import DataError, SettingError, UsageError
from steppe_lab.cli import main
from steppe_lab.cli.messages import reported
from steppe_lab.training.failures import FailedElsewhereError, LostProcessError

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
SMALL = ["--model", "small_cnn:width=2", "--train-samples", "64", "--optimizer", "sam"]
LONG = ["--epochs", "100000", "--evaluate-every", "10000"]


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    port = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = ["-m", "steppe_lab.cli", "train", *SMALL, *arguments]
    return subprocess.Popen(
        [*TORCHRUN, *port, *command, "--out", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STEPPE_KEEP_EVERY": "0", "OMP_NUM_THREADS": "1"},
    )


def process_of(launcher: int, rank: int) -> int:
    """The process of a rank among the children of a launcher."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    for child in children:
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank} among {children}")


@pytest.mark.slow
def test_two_processes_write_one_run(tmp_path):
    started = torchrun(tmp_path, "--epochs", "2", "--json")
    out, errors = started.communicate(timeout=250)
    assert started.returncode == 0, errors
    record = json.loads(out)  # one object: the second process prints nothing
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [record["run"]]
    config = json.loads((tmp_path / "runs" / record["run"] / "config.json").read_text())
    assert config["processes"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_all_end_when_one_is_killed(rank, tmp_path):
    started = torchrun(tmp_path, *LONG)
    patience = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/training.pt")):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < patience
        time.sleep(0.2)
    os.kill(process_of(started.pid, rank), signal.SIGKILL)
    _, errors = started.communicate(timeout=25)
    assert started.returncode != 0
    said = [line for line in errors.splitlines() if line.startswith("steppe: ")]
    assert len(said) <= 1
    if rank == 1:
        assert "the same command goes on" in said[0]
    (run,) = (tmp_path / "runs").iterdir()
    patience = time.monotonic() + 10
    while list(run.glob("*lease*")) and time.monotonic() < patience:
        time.sleep(0.2)
    assert not list(run.glob("*lease*"))


@pytest.fixture
def second(monkeypatch):
    """The environment of the second of three processes."""
    names = {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1"}
    for name, value in (names | {"MASTER_ADDR": "a", "MASTER_PORT": "1"}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    ("error", "rank", "speaks"),
    [
        (SettingError("a"), "0", True),
        (SettingError("a"), "1", False),
        (KeyboardInterrupt(), "1", False),
        (DataError("a"), "1", True),  # its files may lie elsewhere
        (LostProcessError("a"), "1", True),
        (LostProcessError("a"), "2", False),
        (FailedElsewhereError("a"), "1", False),
        (UsageError("a"), "x", True),
    ],
)
def test_one_process_speaks_for_all(error, rank, speaks, monkeypatch, capsys):
    monkeypatch.setenv("RANK", rank)

    def fail() -> int:
        raise error

    assert reported(fail, resumes=True) != 0
    assert bool(capsys.readouterr().err) is speaks


@pytest.mark.usefixtures("second")
def test_other_verbs_are_no_work_for_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    assert main(["compare", "sgd", "sam"]) == 2
    assert "3 processes train one network with steppe train" in capsys.readouterr().err
