"""`make gpu` where there is no GPU: a sentence, or the same code at a tiny size."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.gpu")


def test_a_machine_without_a_gpu_is_told_so(gpu, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 0
    assert capsys.readouterr().out == (
        "there is no GPU that torch can use here: nothing was run.\n"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of workers that a DataLoader forks
def test_the_benchmarks_run_at_a_tiny_size(gpu, monkeypatch, tmp_path):
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--size", "tiny", "--out", str(out)])
    assert gpu.main() == 0
    record = json.loads(out.read_text())
    assert record["gpu"] is None
    kinds = [result["benchmark"].split()[0] for result in record["results"]]
    assert kinds == ["training", "hessian", "step"]
    assert all(result["ratio"] > 0 for result in record["results"])
