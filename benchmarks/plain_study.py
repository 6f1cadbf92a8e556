"""A study as a script of PyTorch alone does it: networks trained one after the other.

    python -m benchmarks.plain_study NETWORKS EPOCHS [--measures]

Prints a line of JSON for each network, and one with the seconds from the first network
to the end of the last. Nothing of steppe is imported, and nothing is saved. Samples are
tensors in memory, which is faster than a `DataLoader` here; every epoch ends with the
loss and the error on both parts, as studies record them.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import published_study

HIDDEN, BATCH = 64, 32
RATES = (0.02, 0.05, 0.1)
TRAIN, TEST = 1000, 500
# Cheap settings of the ten measures; those of the study in steppe are the same.
DRAWS, STEPS, ROWS = 20, 20, 500


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Standardised images with their classes, for training and for tests."""
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).float() / 16
    y = torch.from_numpy(labels).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:TRAIN], order[TRAIN : TRAIN + TEST]
    x = (x - x[train].mean()) / x[train].std()
    return (x[train], y[train]), (x[test], y[test])


def network() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
        nn.Linear(HIDDEN, 10),
    )  # fmt: skip


@torch.no_grad()
def score(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Mean loss and share of errors."""
    model.eval()
    outputs = model(x)
    wrong = (outputs.argmax(1) != y).float().mean()
    return F.cross_entropy(outputs, y).item(), wrong.item()


def trained(
    rate: float, seed: int, epochs: int, train: tuple[Tensor, Tensor], test: object
) -> tuple[nn.Module, list[tuple[float, ...]]]:
    """A network, and its scores after each epoch."""
    torch.manual_seed(seed)
    model, history = network(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    x, y = train
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        history.append((*score(model, x, y), *score(model, *test)))  # type: ignore[misc]
    return model, history


def measured(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """The measures of the LPF-SGD study, see `published_study`."""
    study = published_study.Study(model, x[:ROWS], y[:ROWS])
    return {name: float(of()[0]) for name, of in study.measures().items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", type=int)
    parser.add_argument("epochs", type=int)
    parser.add_argument("--measures", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    published_study.DRAWS = DRAWS
    published_study.LANCZOS_STEPS = STEPS
    train, test = digits()
    seeds = range(args.networks // len(RATES))
    wall, cpu = time.perf_counter(), time.process_time()
    for rate, seed in product(RATES, seeds):
        model, history = trained(rate, seed, args.epochs, train, test)
        found = measured(model, *train) if args.measures else {}
        print(json.dumps({"lr": rate, "seed": seed, "last": history[-1], **found}))
    took = {
        "networks": args.networks,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main()
