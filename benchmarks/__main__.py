"""Run the benchmarks: python -m benchmarks [--rounds N] [--out FILE].

Prints a line per benchmark with its ratio and the bound it is held to, writes all of
it as JSON with the machine and the versions, and exits with 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steppe
from benchmarks.timing import ratios, surroundings
from steppe_lab.models import MODELS

CIFAR = (3, 32, 32)
CASES = {"small_cnn": 128, "resnet18": 16}  # rows per batch
SLOW = {"resnet18"}  # fewer rounds do, since one round is long


def problem(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    rows = CASES[name]
    model = MODELS.build(name, CIFAR, 10)
    return model, torch.randn(rows, *CIFAR), torch.randint(10, (rows,))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)


def sam_step(name: str, rounds: int) -> dict[str, Any]:
    """A SAM step over two gradients and one base step."""
    model, x, y = problem(name)
    base = sgd(model)
    opt = steppe.SAM(base, rho=0.05)

    def gradient() -> None:
        F.cross_entropy(model(x), y).backward()

    def subject() -> None:
        for _ in opt.passes():
            gradient()
        opt.step()

    def reference() -> None:
        for _ in range(2):
            base.zero_grad()
            gradient()
        base.step()

    return ratios(subject, reference, rounds=rounds)


def lpf_sgd_step(name: str, rounds: int) -> dict[str, Any]:
    """An LPF-SGD step (M = 8 shares) over one accumulated gradient and a base step."""
    model, x, y = problem(name)
    base = sgd(model)
    opt = steppe.LPFSGD(base, gamma=0.01, micro_batches=8)

    def subject() -> None:
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            F.cross_entropy(model(xs), ys).backward()
        opt.step()

    def reference() -> None:
        base.zero_grad()
        for xs, ys in zip(x.tensor_split(8), y.tensor_split(8), strict=True):
            (F.cross_entropy(model(xs), ys) / 8).backward()
        base.step()

    return ratios(subject, reference, rounds=rounds)


def hessian_product(name: str, rounds: int) -> dict[str, Any]:
    """A Hessian-vector product on retained graphs over a gradient of the same loss."""
    model, x, y = problem(name)
    objective = steppe.Objective(model, (x, y), batch_size=CASES[name])
    hessian = steppe.Hessian(objective)
    vector = torch.randn(hessian.shape[0])
    model.eval()

    def reference() -> None:
        torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))

    return ratios(lambda: hessian @ vector, reference, rounds=rounds)


BENCHMARKS: list[tuple[Callable[[str, int], dict[str, Any]], dict[str, float]]] = [
    (sam_step, {"small_cnn": 1.10, "resnet18": 1.03}),
    # With 2 rows per share, drawing 11 million normal numbers for each is not small.
    (lpf_sgd_step, {"small_cnn": 1.25, "resnet18": 1.60}),
    (hessian_product, {"small_cnn": 2.5, "resnet18": 2.5}),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for benchmark, bounds in BENCHMARKS:
        for name, bound in bounds.items():
            rounds = max(5, args.rounds // 4) if name in SLOW else args.rounds
            found = benchmark(name, rounds)
            kept = found["ratio"] <= bound
            results.append(
                {"benchmark": benchmark.__name__, "model": name, "bound": bound}
                | {"kept": kept, "rows": CASES[name]}
                | found
            )
            verdict = "ok" if kept else "TOO SLOW"
            print(
                f"{benchmark.__name__:16} {name:10} {found['ratio']:.3f} "
                f"(bound {bound}) {verdict}",
                flush=True,
            )
    day = datetime.date.today().isoformat()
    out = args.out or Path(__file__).parent / "results" / f"cpu-{day}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"date": day, **surroundings(), "results": results}
    out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"written to {out}")
    return 0 if all(result["kept"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
