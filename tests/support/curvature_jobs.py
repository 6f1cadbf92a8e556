"""What each of several processes does in the tests of curvature over shards of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import problems
from process_jobs import joined
from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.linalg.lanczos import eigsh

KINDS = {
    "hessian": Hessian,
    "ggn": GGN,
    "fisher": Fisher,
    "empirical": EmpiricalFisher,
}
ROWS = 13


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Thirteen samples, two of which are no loss terms."""
    x, y = problems.vectors(n=ROWS)
    y[[0, 5]] = -100
    return x, y


def shard(rank: int, world: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Shards of 5, 4, 3 and 1 samples, or of 8 and 5."""
    sizes = {2: [8, 5], 4: [5, 4, 3, 1]}[world]
    return tuple(t.split(sizes)[rank] for t in data())


def run(world: int, folder: Path) -> list[dict[str, Any]]:
    mp.spawn(_worker, (world, str(folder)), nprocs=world)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def _worker(rank: int, world: int, folder: str) -> None:
    with joined(rank, world, folder):
        objective = problems.objective(problems.mlp(), shard(rank, world))
        results = {
            name: products(make(objective, group=True), rank)
            for name, make in KINDS.items()
        }
        torch.save(results, f"{folder}/{rank}.pt")


def products(H: Any, rank: int) -> dict[str, Any]:
    """Matrix, eigenpairs and collective calls of an operator in one process."""
    _ = H.terms()
    with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reduced:
        matrix = H @ torch.eye(H.shape[0], dtype=H.dtype)
        block = reduced.call_count
        _ = H @ matrix[:, 0]
        vector = reduced.call_count - block
    found = eigsh(H, 3)
    drawn = H if H.kind != "fisher" else Fisher(H.objective, samples=2, group=True)
    damped = (2 * H.block("0.*")).agreed(torch.tensor(float(rank)))
    return {
        "matrix": matrix,
        "values": found.values,
        "vectors": found.vectors,
        "terms": H.details["terms"],
        "calls": (block, vector),
        "agreed": H.agreed(torch.tensor([rank + 0.5, 2.0], dtype=torch.float64)),
        "agreed sum": damped,
        "drawn": drawn @ torch.ones(H.shape[0], dtype=H.dtype),
    }
