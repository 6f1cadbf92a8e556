"""Minimum and normalized sharpness of networks that fit shuffled labels of MNIST.

    python docs/measurements/minimum_sharpness_mnist.py --data-dir data --plots .

Networks are trained until they are right on all training samples, with a mean loss of
0.01 at most; labels are shuffled for a share of the samples (Ibayashi et al., 2021,
arXiv:2106.12612). It prints a row for each network and share: means over the seeds with
95 % intervals of Student's t. As published, all would train for as many epochs
(`--epochs`), which leaves easy labels at a far smaller loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import steppe
from steppe import plots
from steppe_lab.datasets import DATASETS, Selection
from steppe_lab.datasets.split import Split
from steppe_lab.models.mlp import mlp as layers
from steppe_lab.statistics.intervals import mean_interval

RATIOS = (0.0, 0.5, 1.0)
MEASURES = ("minimum_sharpness", "normalized_sharpness")
BATCH, LR, EPOCHS = 50, 0.02, 500  # epochs at most
LOSS = 0.01  # that ends a training: curvature shrinks with the loss
Row = Mapping[str, float]


def lenet5(classes: int) -> nn.Module:
    """LeNet-5 of LeCun et al., 1998, with max-pooling and rectified linear units."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, classes),
    )


def mlp(classes: int) -> nn.Module:
    """Two hidden layers of 100 units."""
    return layers((1, 28, 28), classes, hidden=100, depth=2)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {"MLP": mlp, "LeNet": lenet5}


def fit(
    model: nn.Module, data: tuple[Tensor, Tensor], seed: int, epochs: int | None
) -> bool:
    """Train for some epochs, or until the loss is small; whether all are right."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.optim.SGD(model.parameters(), LR, momentum=0.9)
    inputs, targets = data
    right = False
    for _ in range(epochs or EPOCHS):
        for rows in torch.randperm(len(targets), generator=generator).split(BATCH):
            base.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            base.step()
        with torch.no_grad():
            outputs = model(inputs)
            right = bool((outputs.argmax(1) == targets).all())
            small = float(F.cross_entropy(outputs, targets)) <= LOSS
        if epochs is None and right and small:
            return True
    return right and epochs is not None


def measured(name: str, split: Split, seed: int, epochs: int | None) -> Row:
    """Sharpness and error of one network, in percent."""
    torch.manual_seed(seed)
    model = NETWORKS[name](len(split.classes))
    inputs, targets = split.train.batch(torch.arange(len(split.train)))
    fitted = fit(model, (inputs, targets), seed, epochs)
    objective = steppe.Objective(model, (inputs, targets))
    found = steppe.measure(objective, MEASURES)
    inputs, targets = split.test.batch(torch.arange(len(split.test)))
    with torch.no_grad():
        error = 100 * float((model(inputs).argmax(1) != targets).double().mean())
    values = {key: found[key].value for key in MEASURES}
    return {**values, "error": error, "fitted": float(fitted)}


def interval(values: list[float]) -> str:
    """Mean and interval of several values."""
    found = mean_interval(values)
    return f"{found.mean:.3g} [{found.low:.3g}, {found.high:.3g}]"


def main() -> None:
    """Train, measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--test-samples", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of all, in place of one loss")
    parser.add_argument("--plots", type=Path, help="folder for the pictures")
    given = parser.parse_args()
    torch.set_num_threads(1)
    mnist = DATASETS.build("mnist", data_dir=given.data_dir)
    drawn: dict[str, dict[str, list[float]]] = {key: {} for key in MEASURES}
    heads = "network | shuffled | minimum sharpness | normalized sharpness | test error"
    print(f"| {heads} | fitted |\n|{'---|' * 6}")  # noqa: T201
    for name in NETWORKS:
        for ratio in RATIOS:
            rows = []
            for seed in range(given.seeds):
                chosen = Selection(
                    train_samples=given.samples,
                    test_fraction=min(1.0, given.test_samples / 10_000),
                    label_noise=ratio,
                    label_noise_kind="shuffled",
                    seed=seed,
                )
                rows.append(measured(name, chosen.apply(mnist), seed, given.epochs))
            keys = (*MEASURES, "error")
            cells = " | ".join(interval([row[key] for row in rows]) for key in keys)
            fitted = f"{sum(int(row['fitted']) for row in rows)} of {len(rows)}"
            print(f"| {name} | {ratio:.0%} | {cells} | {fitted} |", flush=True)  # noqa: T201
            for key in MEASURES:
                drawn[key][f"{name}, {ratio:.0%}"] = [row[key] for row in rows]
    if given.plots is not None:
        for key, values in drawn.items():
            draw(key, values, given.plots)


def draw(measure: str, values: Mapping[str, list[float]], folder: Path) -> None:
    """One picture of a measure, with a row for each network and share."""
    found = {name: mean_interval(group) for name, group in values.items()}
    figure = plots.dots(
        values,
        xlabel=measure.replace("_", " "),
        intervals={n: (i.mean, i.low, i.high) for n, i in found.items()},
    )
    (folder / f"{measure}_mnist.svg").write_text(plots.save_svg(figure))


if __name__ == "__main__":
    main()
