"""Table 5: wide, Shake-Shake and pyramidal networks with three augmentations.

Source: the tables of hyper-parameters in the README of devansh20la/LPF-SGD, its logs
and its program, which says what the README does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe_lab.experiments.bisla2022_lpf_sgd.methods import (
    OF_TABLES,
    SAM,
    last_errors,
    lpf_sgd_growing,
)
from steppe_lab.reproduction.published import Cell, Published, Scale

METHODS = ("sgd", "sam", "lpf_sgd")
DATA = ("cifar10", "cifar100")
Numbers = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A network, how it is trained, and one of its kind for a few seconds."""

    model: str
    small: str
    epochs: int
    lr_schedule: str
    lr: float
    weight_decay: float
    lr_cifar100: float | None = None  # where it is not that of CIFAR-10
    runs: int = 2  # behind each number
    note: str = ""  # on each number

    def settings(self, data: str) -> dict[str, Any]:
        """Those of one data set, by the names that `steppe train` has."""
        lr = self.lr
        if data == "cifar100" and self.lr_cifar100 is not None:
            lr = self.lr_cifar100
        return {
            "data": f"{data}:standardise=computed",
            "model": self.model,
            "epochs": self.epochs,
            "batch_size": 128,
            "lr_schedule": self.lr_schedule,
            "base": (
                f"sgd:lr={lr:g},momentum=0.9,weight_decay={self.weight_decay:g},"
                "nesterov=true"
            ),
        }


_STEPS_OF_WRN = "multi_step(milestones=(60,120,160),factor=0.2)"
_STEPS_OF_PYRAMIDNET = "multi_step(milestones=(150,225),factor=0.1)"
_FEW = "of 2 or 3 runs"
_FORMS = (
    f"{_FEW}; the files hold runs of both forms of this network and do not say which "
    "of them the number is of"
)
NETWORKS = {
    "wrn16_8": _Network(
        model="wide_resnet:depth=16,width=8",
        small="wide_resnet:depth=10,width=1",
        epochs=200,
        lr_schedule=_STEPS_OF_WRN,
        lr=0.1,
        weight_decay=5e-4,
        runs=5,
    ),
    "wrn28_10": _Network(
        model="wide_resnet:depth=28,width=10",
        small="wide_resnet:depth=10,width=1",
        epochs=200,
        lr_schedule=_STEPS_OF_WRN,
        lr=0.1,
        weight_decay=5e-4,
        runs=5,
    ),
    "shake_shake": _Network(
        model="shake_shake:depth=26,width=96",
        small="shake_shake:depth=8,width=4",
        epochs=1800,
        lr_schedule="cosine",
        lr=0.2,
        weight_decay=1e-4,
        note=_FEW,
    ),
    "pyramidnet110": _Network(
        model="pyramidnet:depth=110,alpha=270",
        small="pyramidnet:depth=8,alpha=9",
        epochs=300,
        lr_schedule=_STEPS_OF_PYRAMIDNET,
        lr=0.1,
        lr_cifar100=0.5,
        weight_decay=1e-4,
        note=_FORMS,
    ),
    "pyramidnet110_script": _Network(
        model="pyramidnet:depth=110,alpha=200,block=bottleneck",
        small="pyramidnet:depth=11,alpha=9,block=bottleneck",
        epochs=300,
        lr_schedule=_STEPS_OF_PYRAMIDNET,
        lr=0.1,
        lr_cifar100=0.5,
        weight_decay=1e-4,
        note=_FORMS,
    ),
    "pyramidnet272": _Network(
        model="pyramidnet:depth=272,alpha=200,block=bottleneck",
        small="pyramidnet:depth=11,alpha=9,block=bottleneck",
        epochs=300,
        lr_schedule=_STEPS_OF_PYRAMIDNET,
        lr=0.1,
        weight_decay=1e-4,
        note=_FEW,
    ),
}
AUGMENTATIONS = {
    "basic": "basic",
    "cutout": "basic+cutout:size={size},p=0.5",
    "autoaugment": "basic+autoaugment+cutout:size={size},p=0.5",
}
SQUARE = {"cifar10": 16, "cifar100": 8}  # pixels on a side of what cutout takes
# First and last radius of LPF-SGD, the last as a multiple of the first.
RADIUS = (0.0005, 15)
RADII = {
    ("wrn28_10", "cifar10", "basic"): (0.0005, 35),
    ("wrn28_10", "cifar10", "cutout"): (0.0005, 35),
    ("wrn28_10", "cifar10", "autoaugment"): (0.0005, 35),
    ("wrn28_10", "cifar100", "basic"): (0.0005, 25),
    ("wrn28_10", "cifar100", "cutout"): (0.0005, 25),
    ("wrn28_10", "cifar100", "autoaugment"): (0.0007, 15),
}
# Test error in percent and the half width of its interval, in the order of METHODS.
NUMBERS: Mapping[str, Mapping[str, tuple[Numbers, Numbers, Numbers]]] = {
    "cifar10": {
        "wrn16_8": (
            ((4.23, 0.16), (3.77, 0.07), (3.75, 0.03)),
            ((3.86, 0.12), (3.34, 0.07), (3.25, 0.11)),
            ((3.30, 0.06), (2.90, 0.08), (3.13, 0.07)),
        ),
        "wrn28_10": (
            ((3.97, 0.09), (3.22, 0.05), (3.48, 0.10)),
            ((3.11, 0.04), (2.69, 0.07), (2.74, 0.04)),
            ((2.62, 0.06), (2.26, 0.05), (2.51, 0.05)),
        ),
        "shake_shake": (
            ((2.83, 0.05), (2.65, 0.08), (2.54, 0.03)),
            ((2.46, 0.01), (2.19, 0.03), (2.21, 0.05)),
            ((2.07, 0.14), (1.95, 0.13), (1.97, 0.11)),
        ),
        "pyramidnet110": (
            ((3.78, 0.10), (3.15, 0.01), (3.57, 0.13)),
            ((2.94, 0.12), (2.49, 0.19), (2.54, 0.02)),
            ((2.21, 0.03), (2.02, 0.03), (2.08, 0.05)),
        ),
        "pyramidnet272": (
            ((3.34, 0.10), (2.89, 0.12), (3.29, 0.08)),
            ((2.59, 0.02), (2.37, 0.01), (2.34, 0.10)),
            ((2.09, 0.24), (2.00, 0.00), (2.04, 0.05)),
        ),
    },
    "cifar100": {
        "wrn16_8": (
            ((20.56, 0.18), (19.44, 0.21), (18.92, 0.14)),
            ((20.00, 0.08), (18.85, 0.12), (18.27, 0.10)),
            ((19.27, 0.17), (18.07, 0.15), (17.57, 0.10)),
        ),
        "wrn28_10": (
            ((19.07, 0.24), (17.40, 0.04), (17.44, 0.14)),
            ((18.29, 0.12), (17.10, 0.07), (16.87, 0.15)),
            ((17.34, 0.21), (15.85, 0.11), (15.94, 0.09)),
        ),
        "shake_shake": (
            ((17.11, 0.10), (16.91, 0.08), (16.56, 0.29)),
            ((17.00, 0.42), (16.59, 0.21), (16.14, 0.15)),
            ((15.71, 0.12), (15.32, 0.15), (15.00, 0.02)),
        ),
        "pyramidnet110": (
            ((18.45, 0.26), (18.27, 0.17), (18.20, 0.26)),
            ((17.71, 0.15), (17.40, 0.28), (17.34, 0.20)),
            ((16.91, 0.05), (15.84, 0.12), (15.63, 0.04)),
        ),
        "pyramidnet272": (
            ((17.64, 0.17), (16.97, 0.21), (16.71, 0.05)),
            ((16.88, 0.03), (16.08, 0.18), (15.86, 0.04)),
            ((15.05, 0.24), (14.66, 0.23), (14.68, 0.06)),
        ),
    },
}


def settings_of(
    data: str, network: str, augmentation: str, method: str
) -> dict[str, Any]:
    """The recipe of a cell, by the names that `steppe train` has."""
    optimizers = {
        "sgd": "sgd",
        "sam": SAM,
        "lpf_sgd": lpf_sgd_growing(*RADII.get((network, data, augmentation), RADIUS)),
    }
    return {
        **NETWORKS[network].settings(data),
        "augment": AUGMENTATIONS[augmentation].format(size=SQUARE[data]),
        "optimizer": optimizers[method],
    }


def _cell(data: str, network: str, place: int, turn: int) -> Cell:
    augmentation, method = list(AUGMENTATIONS)[place], METHODS[turn]
    own = NETWORKS[network]
    value, half_width = NUMBERS[data][network.removesuffix("_script")][place][turn]
    return Cell(
        name=f"{data}/{network}/{augmentation}/{method}",
        published=Published(
            value=value, half_width=half_width, runs=own.runs, note=own.note
        ),
        settings=settings_of(data, network, augmentation, method),
        scales={"smoke": {"model": own.small}},
    )


CLAIM = last_errors(
    name="table5",
    title="LPF-SGD with a growing radius has a smaller test error than SGD, augmented",
    source="Table 5",
    tolerance=0.3,
    reproduced="The mean test error differs by at most 0.3 points.",
    sizes={
        "full": Scale(seeds=5),
        "laptop": Scale(
            settings={
                "model": "wide_resnet:depth=10,width=1",
                "epochs": 15,
                "lr_schedule": "step(factor=0.2,shares=(0.3,0.6,0.8))",
            },
            cells=("cifar10/wrn16_8/basic",),
            seeds=3,
        ),
        "smoke": Scale(
            settings={
                "train_samples": 320,
                "test_fraction": 0.2,
                "batch_size": 32,
                "epochs": 1,
                "lr_schedule": "cosine",
            },
            cells=(
                "cifar10/wrn16_8/basic",
                "cifar10/wrn28_10/cutout/lpf_sgd",
                "cifar10/shake_shake/autoaugment",
                "cifar10/pyramidnet110/basic/sam",
                "cifar10/pyramidnet110_script/cutout/lpf_sgd",
                "cifar10/pyramidnet272/autoaugment/sgd",
            ),
        ),
    },
    cells=tuple(
        _cell(data, network, place, turn)
        for data in DATA
        for network in NETWORKS
        for place in range(len(AUGMENTATIONS))
        for turn in range(len(METHODS))
    ),
    caveats=(
        *OF_TABLES,
        "SAM is better than LPF-SGD in 11 of the 15 rows of CIFAR-10, LPF-SGD better "
        "than SAM in 12 of the 15 of CIFAR-100.",
        "LPF-SGD evaluates 8 parts of 16 images, each with batch statistics of its "
        "own, as here: what it gains may be owed to them as well as to the noise.",
        "The radius grows from gamma to alpha gamma, as in the program; the formula of "
        "the paper ends at (alpha + 1) gamma.",
        "Pyramidal networks have the 300 epochs of the logs, with drops after 150 and "
        "225; the README says 200, 100 and 150.",
        "The program of pyramidal networks as it was published builds 110 layers with "
        "alpha 200 in bottlenecks, the cells pyramidnet110_script (10,668,722 "
        "parameters); the paper names alpha 270, in basic blocks (28,485,477).",
        "The cosine of Shake-Shake's learning rate is stepped once an epoch in the "
        "published program but is as long as all steps, so that the rate stays at 0.2; "
        "the logs come from another version, and here it falls to 0, as the README "
        "says.",
        "Pixels are standardised with the statistics of the training images; the "
        "program computes them on training and test images together.",
    ),
)
