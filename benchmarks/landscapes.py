"""The landscape of a plane over the procedure of Li et al., 2018, on 51 x 51 points.

Their published code goes through the points outside and a `DataLoader` inside, which
decodes and standardises every image anew at every point; the stand-in here does so with
tensors alone, without files of pictures. It is timed at a few points, and its seconds
are multiplied by the number of all of them. Our surface is that of the defaults:
points of nested grids until a spline meets the tolerance. The further benchmark is all
points of a small grid over bare forward passes on data that is resident.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import steppe
from benchmarks.networks import lenet, resnet8, trained_model
from benchmarks.timing import Benchmark, ratios

SIDE, TIMED, SMALL = 51, 3, 5
BATCH = 128
TOLERANCE = 0.01  # rms of relative errors of the spline


def mlp() -> nn.Module:
    """A network whose first layer has nearly all of the work."""
    layers = (nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Linear(16, 10))
    return nn.Sequential(*layers)


MAKERS = {"mlp": mlp, "lenet": lenet, "resnet8": resnet8}
ROWS = {"mlp": 512, "lenet": 512, "resnet8": 128}
BOUNDS = {"mlp": 1 / 50, "lenet": 1 / 10, "resnet8": 1 / 10}
OVER_FORWARDS = 1.15


def benchmarks(data_dir: Path | None = None) -> Iterator[Benchmark]:
    """A whole job for each network, and the evaluation of points alone."""
    for name, bound in BOUNDS.items():
        run = partial(_job, name, data_dir)
        yield Benchmark("landscape / published procedure", name, bound, run)
    for name in ("lenet", "resnet8"):
        run = partial(_points, name, data_dir)
        yield Benchmark("landscape / bare forwards", name, OVER_FORWARDS, run)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images of bytes, standardised one by one when they are asked for."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        low, span = float(x.min()), float(x.max() - x.min())
        self.bytes = ((x - low) / span * 255).round().to(torch.uint8)
        # The standardised images are those that the network was trained on.
        self.mean, self.std = -low / span, 1 / span
        self.labels = y.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.bytes[index].float().div(255)
        return image.sub_(self.mean).div_(self.std), self.labels[index]

    def all(self) -> tuple[Tensor, Tensor]:
        """All images at once, standardised alike."""
        images = self.bytes.float().div(255).sub_(self.mean).div_(self.std)
        return images, torch.tensor(self.labels)


@cache
def _network(name: str, data_dir: Path | None) -> tuple[nn.Module, Pictures]:
    model, x, y = trained_model(MAKERS[name], data_dir, ROWS[name])
    return model, Pictures(x, y)


def _job(name: str, data_dir: Path | None, rounds: int) -> dict[str, Any]:
    del rounds  # once: a job takes up to half a minute
    model, pictures = _network(name, data_dir)
    objective = steppe.Objective(model, pictures.all())
    plane = steppe.Plane.random(model)
    start = time.process_time()
    surface = steppe.landscape(objective, plane, tolerance=TOLERANCE)
    seconds = time.process_time() - start
    timed = _published(model, plane, pictures)
    theirs = timed / TIMED * SIDE**2
    computed = surface.computed
    evaluated = SIDE**2 if computed is None else int(computed.sum())
    return {
        "ratio": seconds / theirs,
        "subject_seconds": seconds,
        "reference_seconds": theirs,
        "reference_points_timed": TIMED,
        "points": SIDE**2,
        "points_evaluated": evaluated,
        "interpolation": surface.details.get("interpolation"),
        "strategy": surface.details["strategy"],
        "rows": len(pictures),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def _published(model: nn.Module, plane: steppe.Plane, pictures: Pictures) -> float:
    """Seconds of some points by the published procedure."""
    loader = DataLoader(pictures, batch_size=BATCH)
    params = list(model.parameters())
    weights = [p.clone() for p in params]
    start = time.process_time()
    for step in range(TIMED):
        _move(params, weights, plane, (-1 + 0.04 * step, -1.0))
        total = 0.0
        for x, y in loader:
            total += float(F.cross_entropy(model(x), y)) * len(x)
    seconds = time.process_time() - start
    for p, weight in zip(params, weights, strict=True):
        p.copy_(weight)
    return seconds


def _points(name: str, data_dir: Path | None, rounds: int) -> dict[str, Any]:
    model, pictures = _network(name, data_dir)
    x, y = pictures.all()
    objective = steppe.Objective(model, (x, y), batch_size=BATCH)
    plane = steppe.Plane.random(model)
    along = [-1 + 2 * (i + 0.5) / SMALL for i in range(SMALL)]
    params = list(model.parameters())
    weights = [p.clone() for p in params]

    def ours() -> None:
        steppe.landscape(objective, plane, along, along, exact=True)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(SMALL**2 + 1):  # with the base point, which has to be known
            for rows in range(0, len(x), BATCH):
                at = slice(rows, rows + BATCH)
                F.cross_entropy(model(x[at]), y[at], reduction="none")

    found = ratios(ours, bare, rounds=min(rounds, 4))
    for p, weight in zip(params, weights, strict=True):
        assert torch.equal(p, weight)
    return {**found, "points": SMALL**2, "rows": len(x)}


def _move(
    params: list[nn.Parameter],
    weights: list[Tensor],
    plane: steppe.Plane,
    point: tuple[float, float],
) -> None:
    for p, weight, dx, dy in zip(params, weights, *plane.directions, strict=True):
        p.copy_(weight + dx * point[0] + dy * point[1])
