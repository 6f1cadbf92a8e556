"""Table 3: residual networks without augmentation, five optimizers.

Source: the tables of hyper-parameters in the README of devansh20la/LPF-SGD, its logs
and its program, which says what the README does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe_lab.experiments.bisla2022_lpf_sgd.methods import (
    ASO,
    E_SGD,
    OF_TABLES,
    PASSES,
    SAM,
    last_errors,
    lpf_sgd,
)
from steppe_lab.reproduction.published import Cell, Published, Scale


@dataclass(frozen=True, kw_only=True)
class _Training:
    """How the networks of one data set are trained: a row of the README's tables."""

    data: str
    epochs: int
    milestones: tuple[int, ...]
    lr: float
    lr_entropy: float  # of E-SGD
    weight_decay: float
    batch_size: int
    gamma: float  # of LPF-SGD

    def settings(self, method: str) -> dict[str, Any]:
        """Those of one optimizer, by the names that `steppe train` has."""
        optimizers = {
            "sgd": "sgd",
            "sam": SAM,
            "e_sgd": E_SGD,
            "aso": ASO,
            "lpf_sgd": lpf_sgd(self.gamma),
        }
        lr = self.lr_entropy if method == "e_sgd" else self.lr
        made: dict[str, Any] = {
            "data": self.data,
            "epochs": self.epochs,
            "lr_schedule": f"multi_step(milestones={self.milestones},factor=0.1)",
            "base": f"sgd:lr={lr:g},momentum=0.9,weight_decay={self.weight_decay:g}",
            "batch_size": self.batch_size,
            "optimizer": optimizers[method],
        }
        # Epochs are passes over the data here: its program scores after every fifth.
        return {**made, "evaluate_every": PASSES} if method == "e_sgd" else made


_CIFAR: Mapping[str, Any] = {
    "epochs": 200,
    "milestones": (100, 120),
    "lr": 0.1,
    "lr_entropy": 0.5,
    "weight_decay": 5e-4,
    "batch_size": 128,
    "gamma": 0.002,
}
TRAININGS = {
    "mnist": _Training(
        data="mnist",
        epochs=150,
        milestones=(50, 100),
        lr=0.01,
        lr_entropy=0.05,
        weight_decay=5e-4,
        batch_size=128,
        gamma=0.001,
    ),
    "cifar10": _Training(data="cifar10:standardise=image_std", **_CIFAR),
    "cifar100": _Training(data="cifar100:standardise=image_std", **_CIFAR),
    "tiny_imagenet": _Training(
        data="tiny_imagenet:standardise=image_std",
        epochs=100,
        milestones=(30, 60, 90),
        lr=0.1,
        lr_entropy=0.5,
        weight_decay=1e-4,
        batch_size=128,
        gamma=0.001,
    ),
    "imagenet": _Training(
        data="imagenet",
        epochs=100,
        milestones=(30, 60, 90),
        lr=0.1,
        lr_entropy=0.5,
        weight_decay=1e-4,
        batch_size=256,
        gamma=0.0005,
    ),
}
# The network of each row at full scale, and one of its kind for a few seconds.
NETWORKS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("mnist", "lenet"): ("lenet", "lenet:hidden=16"),
    **{
        (data, f"resnet{depth}"): (
            f"resnet{depth}",
            f"resnet{depth}:width=4,blocks=1",
        )
        for data in ("cifar10", "cifar100")
        for depth in (18, 50, 101)
    },
    **{
        (data, "resnet18"): (
            "resnet18:stem=imagenet",
            "resnet18:width=4,blocks=1,stem=imagenet",
        )
        for data in ("tiny_imagenet", "imagenet")
    },
}
METHODS = ("sgd", "sam", "e_sgd", "aso", "lpf_sgd")
# Test error in percent and the half width of its interval.
NUMBERS: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]] = {
    ("cifar10", "resnet18"): {
        "sgd": (11.49, 0.34),
        "sam": (10.00, 0.14),
        "e_sgd": (10.88, 0.34),
        "lpf_sgd": (9.04, 0.16),
    },
    ("cifar10", "resnet50"): {
        "sgd": (10.21, 0.38),
        "sam": (8.81, 0.28),
        "e_sgd": (10.38, 0.08),
        "lpf_sgd": (8.60, 0.12),
    },
    ("cifar10", "resnet101"): {
        "sgd": (9.49, 0.42),
        "sam": (8.33, 0.27),
        "e_sgd": (9.89, 0.29),
        "lpf_sgd": (8.69, 0.11),
    },
    ("cifar100", "resnet18"): {
        "sgd": (38.29, 0.27),
        "sam": (36.17, 0.18),
        "e_sgd": (38.21, 0.22),
        "lpf_sgd": (30.02, 0.22),
    },
    ("cifar100", "resnet50"): {
        "sgd": (35.55, 0.97),
        "sam": (33.15, 0.95),
        "e_sgd": (34.45, 0.34),
        "lpf_sgd": (30.64, 0.44),
    },
    ("cifar100", "resnet101"): {
        "sgd": (32.88, 0.46),
        "sam": (30.81, 0.35),
        "e_sgd": (33.55, 0.47),
        "lpf_sgd": (29.97, 0.32),
    },
    ("tiny_imagenet", "resnet18"): {
        "sgd": (64.14, 0.07),
        "sam": (63.01, 0.29),
        "e_sgd": (64.72, 0.08),
        "lpf_sgd": (59.12, 0.23),
    },
    ("imagenet", "resnet18"): {
        "sgd": (36.48, 0.08),
        "sam": (35.94, 0.11),
        "lpf_sgd": (35.36, 0.10),
    },
}
_SECOND = "a second series with the same logged arguments has {}"
_KILLED = (
    "planned for 300 epochs and killed after 103 to 120, before its learning rate had "
    "come down: 40 to 41 after its last epoch"
)
NOTES: Mapping[str, str] = {
    "cifar10/resnet50/lpf_sgd": (
        "the best of one to three runs of each seed; all 12 complete runs have 8.93, "
        "the first of each seed 9.04"
    ),
    "cifar10/resnet101/lpf_sgd": (
        "gamma 0.0009 has 9.19 ± 0.37 and gamma 0.001 has 9.34 ± 0.46"
    ),
    "tiny_imagenet/resnet18/sgd": _SECOND.format("58.28 ± 0.25"),
    "tiny_imagenet/resnet18/sam": _SECOND.format("57.58 ± 0.31"),
    "tiny_imagenet/resnet18/lpf_sgd": _SECOND.format("53.19 ± 0.20"),
    "imagenet/resnet18/sgd": _KILLED,
    "imagenet/resnet18/sam": _KILLED,
}


def _cell(data: str, network: str, method: str) -> Cell:
    name = f"{data}/{network}/{method}"
    full, small = NETWORKS[data, network]
    number = NUMBERS.get((data, network), {}).get(method)
    published = None
    if number is not None:
        published = Published(
            value=number[0],
            half_width=number[1],
            runs=3 if method == "e_sgd" else 5,
            note=NOTES.get(name, ""),
        )
    return Cell(
        name=name,
        published=published,
        settings={"model": full, **TRAININGS[data].settings(method)},
        scales={"smoke": {"model": small}},
    )


CLAIM = last_errors(
    name="table3",
    title="LPF-SGD has a smaller test error than SGD, SAM and E-SGD, not augmented",
    source="Table 3",
    tolerance=0.5,
    reproduced="The mean test error differs by at most 0.5 points.",
    sizes={
        "full": Scale(seeds=5),
        "laptop": Scale(
            settings={
                "model": "resnet18:width=8,blocks=1",
                "epochs": 20,
                "lr_schedule": "step(factor=0.1,shares=(0.5,0.6))",
            },
            cells=(
                "cifar10/resnet18/sgd",
                "cifar10/resnet18/sam",
                "cifar10/resnet18/lpf_sgd",
            ),
            seeds=3,
        ),
        "smoke": Scale(
            settings={
                "train_samples": 320,
                "test_fraction": 0.2,
                "batch_size": 32,
                "epochs": 1,
                "evaluate_every": 1,
                "lr_schedule": "constant",
            },
            cells=(
                "mnist/lenet",
                "cifar10/resnet18",
                "cifar10/resnet50/lpf_sgd",
                "cifar10/resnet101/lpf_sgd",
                "tiny_imagenet/resnet18/sgd",
                "tiny_imagenet/resnet18/lpf_sgd",
            ),
        ),
    },
    cells=tuple(
        _cell(data, network, method) for data, network in NETWORKS for method in METHODS
    ),
    caveats=(
        *OF_TABLES,
        "On CIFAR-10 with ResNet-50, LPF-SGD has no advantage over SAM (8.81) without "
        "the selection among its runs.",
        "The program of SAM as it was published augments images and drops the learning "
        "rate after 100 and 150 epochs; the logs that the numbers come from do not, as "
        "here.",
        "The program standardises CIFAR-100 with the statistics of CIFAR-10 and Tiny "
        "ImageNet with those of ImageNet; here each has its own, which differ by less "
        "than a tenth of a standard deviation.",
        "E-SGD has the settings of its logs on CIFAR; of MNIST no learning rate is "
        "published, and it is five times that of the others here, as on CIFAR. Its 200 "
        "epochs here are the 40 of the program, each of which passes five times over "
        "the data.",
        "ASO is uniform noise of one size for all weights, as the program draws it, "
        "which for these networks clears the gradient before the step and so cannot "
        "have made any published number as it stands. Numbers of ASO and of MNIST are "
        "not in the published files.",
        "On CIFAR-100 with ResNet-18 the published eigenvalues have LPF-SGD at the "
        "sharpest of the three minima (5.20, SAM 0.344, SGD 0.716), with a training "
        "error of 3.07 % where the others have 0.02 %: compare sharpness at one "
        "training loss, or beside it.",
    ),
)
