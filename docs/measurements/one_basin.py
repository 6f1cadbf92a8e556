"""One basin, three ways: line, matched line and curve between two networks of MNIST.

    python docs/measurements/one_basin.py --data-dir data --plots .

Two networks of each width differ in their seed alone: first weights and order of the
samples. On the straight line between them the loss rises; with the units of the second
in the order of the first it should rise less the wider they are (Entezari et al., 2022,
arXiv:2110.06296; Ainsworth et al., 2023, arXiv:2209.04836), and along a fitted curve
hardly at any width (Garipov et al., 2018, arXiv:1802.10026). It prints a row for each
width; barriers are of the mean loss with standard errors over the samples.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steppe
from steppe import plots
from steppe.results.tables import with_error
from steppe_lab.datasets import DATASETS, Selection
from steppe_lab.models.mlp import mlp

WIDTHS, PICTURED = (32, 128, 512, 1024), 512
BATCH, LR = 100, 1e-3  # of Adam, for networks and bends
Data = tuple[Tensor, Tensor]


def trained(width: int, depth: int, data: Data, seed: int, epochs: int) -> nn.Module:
    """A network after some epochs of Adam."""
    torch.manual_seed(seed)
    model = mlp((1, 28, 28), 10, hidden=width, depth=depth)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), LR)
    inputs, targets = data
    for _ in range(epochs):
        for rows in torch.randperm(len(targets), generator=generator).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return model


def curve_between(
    a: nn.Module, b: nn.Module, *, data: Data, steps: int
) -> steppe.Curve:
    """The Bezier curve of one bend, fitted on the data that the networks fitted."""
    objective = steppe.Objective(a, data, batch_size=BATCH)
    return steppe.Curve.bezier(a, b).fit(
        objective, steps=steps, optimizer=lambda bends: torch.optim.Adam(bends, LR)
    )


def line_of(barrier: steppe.Estimate, samples: int) -> steppe.Surface:
    """The losses behind a barrier, as figures draw them."""
    losses = torch.tensor(barrier.details["losses"], dtype=torch.float64)
    return steppe.Surface(
        coordinates=(tuple(barrier.details["coordinates"]),),
        loss=losses,
        stderr=torch.zeros_like(losses),
        samples=samples,
    )


def main() -> None:
    """Train, fit, measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=6_000)
    parser.add_argument("--measured", type=int, default=1_500, help="of each part")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--points", type=int, default=21)
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--plots", type=Path, help="folder for the pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    mnist = DATASETS.build("mnist", data_dir=given.data_dir)
    split = Selection(train_samples=given.samples, seed=0).apply(mnist)
    train, test = (
        part.batch(torch.arange(size))
        for part, size in ((split.train, given.samples), (split.test, given.measured))
    )
    parts = {"train": tuple(each[: given.measured] for each in train), "test": test}
    print("| width | samples | ends | line | matched | curve | of line | of ends |")  # noqa: T201
    print(f"|{'---|' * 8}")  # noqa: T201
    for width in given.widths:
        began = time.process_time()
        a, b = (trained(width, given.depth, train, s, given.epochs) for s in (1, 2))
        steps = given.epochs * (given.samples // BATCH)
        curve = curve_between(a, b, data=train, steps=steps)
        for name, data in parts.items():
            found = steppe.barriers(
                steppe.Objective(a, data, batch_size=1000),
                [a, b],
                curve=lambda _a, _b, fitted=curve: fitted,
                points=given.points,
            )
            each = {path: pairs["1", "2"] for path, pairs in found.paths.items()}
            ends = each["straight"].details["losses"][:: given.points - 1]
            highest = max(each["curve"].details["losses"])
            cells = [with_error(e.value, e.stderr) for e in each.values()]
            share = each["matched"].value / each["straight"].value
            shares = f"{100 * share:.2g} % | {highest / max(ends):.3g}"
            shown = " / ".join(f"{end:.3g}" for end in ends)
            print(f"| {width} | {name} | {shown} | {' | '.join(cells)} | {shares} |")  # noqa: T201
            if given.plots and width == PICTURED and name == "train":
                draw({p: line_of(e, given.measured) for p, e in each.items()}, given)
        print(f"width {width}: {time.process_time() - began:.0f} s of CPU time")  # noqa: T201


def draw(lines: dict[str, steppe.Surface], given: argparse.Namespace) -> None:
    """The loss along the three paths, light and dark."""
    given.plots.mkdir(parents=True, exist_ok=True)
    for theme in get_args(plots.Theme):
        figure = plots.lines(
            {path: [line] for path, line in lines.items()},
            theme=theme,
            xlabel="from one network to the other",
            ylabel="train loss",
        )
        path = given.plots / f"one-basin-{theme}.svg"
        path.write_text(plots.save_svg(figure))


if __name__ == "__main__":
    main()
