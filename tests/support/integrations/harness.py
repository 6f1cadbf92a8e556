"""Every optimizer in a plain loop over large batches: what a trainer must give too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import loops
import steppe
from steppe.errors import SettingError
from steppe.gates import AdaptiveGate, Every
from steppe.optimizers import OPTIMIZERS

Make = Callable[[nn.Module], torch.optim.Optimizer]


def example(entry: Any) -> Make:
    """The example of a method, on the base with momentum unless it refuses that."""

    def make(model: nn.Module) -> torch.optim.Optimizer:
        try:
            return entry.make(loops.momentum(model), **entry.spec.example)
        except SettingError:
            base = torch.optim.SGD(model.parameters(), lr=0.1)
            return entry.make(base, **entry.spec.example)

    return make


def sam(model: nn.Module) -> torch.optim.Optimizer:
    return steppe.SAM(loops.momentum(model), rho=0.3, model=model)


def lpf_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return steppe.LPFSGD(loops.momentum(model), gamma=0.1, micro_batches=2)


def every_second(model: nn.Module) -> torch.optim.Optimizer:
    return steppe.SAM(loops.momentum(model), rho=0.3, gate=Every(2))


def where_steep(model: nn.Module) -> torch.optim.Optimizer:
    gate = AdaptiveGate(4, start=-1.0, end=1.0)
    return steppe.SAM(loops.momentum(model), rho=0.3, gate=gate)


EXAMPLES = [
    *(pytest.param(example(entry), id=entry.name) for entry in OPTIMIZERS),
    every_second,
    where_steep,
]
METHODS = [sam, lpf_sgd, loops.momentum]
EVERY_EXAMPLE = pytest.mark.parametrize("make", EXAMPLES)
EVERY_METHOD = pytest.mark.parametrize("make", METHODS)


def plain_loop(
    make: Make,
    batches: list[tuple[Tensor, Tensor]],
    *,
    window: int = 1,
    clip: float | None = None,
    decay: float = 1.0,
    model: nn.Module | None = None,
) -> nn.Module:
    """Train on windows of batches joined into one; the learning rate decays by step."""
    model = loops.make_model() if model is None else model
    opt = make(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, decay)
    for i in range(0, len(batches), window):
        x, y = (
            torch.cat(parts) for parts in zip(*batches[i : i + window], strict=True)
        )
        opt.zero_grad()
        for _ in opt.passes() if hasattr(opt, "passes") else [0]:
            xs, ys = opt.take(x, y) if hasattr(opt, "take") else (x, y)
            F.cross_entropy(model(xs), ys).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        opt.step()
        scheduler.step()
    return model


def of_two_ranks(
    batches: list[tuple[Tensor, Tensor]], window: int
) -> list[tuple[Tensor, Tensor]]:
    """One batch per step of two processes that take every second batch each.

    Rows are in the order that gives both halves of the batch, as shares of a method,
    to the shares of the processes.
    """
    steps = []
    for i in range(0, len(batches), 2 * window):
        taken = batches[i : i + 2 * window]
        columns = []
        for column in zip(*taken, strict=True):
            ranks = [torch.cat(column[rank::2]).tensor_split(2) for rank in (0, 1)]
            columns.append(torch.cat([r[half] for half in (0, 1) for r in ranks]))
        steps.append((columns[0], columns[1]))
    return steps


def assert_same(left: nn.Module, right: nn.Module, *, atol: float = 1e-12) -> None:
    for a, b in zip(left.parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


def distance(left: nn.Module, right: nn.Module) -> float:
    """Largest difference of two weights."""
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def assert_same_in_two_processes(
    script: str, make: Any, window: int, folder: Path
) -> None:
    """Start a script of this folder twice; compare the weights that it saves."""
    here = Path(__file__).parent
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [here / script, make.__name__, str(window), folder]
    paths = {"PYTHONPATH": str(here.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, "--nproc-per-node=2", *words],
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    plain = plain_loop(make, of_two_ranks(list(loops.batches(8)), window))
    for rank in (0, 1):
        model = loops.make_model()
        model.load_state_dict(torch.load(folder / f"rank{rank}.pt"))
        assert_same(model, plain)


def run_page(heading: str) -> dict[str, Any]:
    """Run the code under a heading of the page on trainers; gives its names."""
    page = Path(__file__).parents[3] / "docs" / "integrations.md"
    section = page.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    names: dict[str, Any] = {"__name__": "page"}
    for code in re.findall(r"^```python\n(.*?)^```", section, re.M | re.S):
        exec(compile(code, page.name, "exec"), names)
    return names
