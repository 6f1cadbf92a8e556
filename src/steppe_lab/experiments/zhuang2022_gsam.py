"""Surrogate gap guided sharpness-aware minimization: its tables of test errors.

Source: Zhuang et al., 2022, Surrogate gap minimization improves sharpness-aware
training, ICLR, and the PyTorch code of its authors (juntang-zhuang/GSAM).
"""

from __future__ import annotations

from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import Cell, Published, Quantity, Scale
from steppe_lab.reproduction.trained import TrainedClaim

NAME = "zhuang2022_gsam"

CIFAR10 = TrainedClaim(
    experiment=NAME,
    name="cifar10",
    title="GSAM has a smaller test error than ASAM, SAM and SGD on CIFAR-10",
    source="README of the code",
    quantity=Quantity(
        name="best_test_error",
        title="test error at the best epoch",
        units="%",
        factor=100.0,
    ),
    tolerance=0.3,
    reproduced="The mean test error differs by at most 0.3 points.",
    base={
        "data": "cifar10",
        "model": "wide_resnet:depth=16,width=8,form=davda54",
        "base": "sgd:lr=0.1,momentum=0.9,weight_decay=5e-4",
        "augment": "basic+cutout",
        "label_smoothing": 0.1,
        "epochs": 200,
        "batch_size": 128,
        "lr_schedule": "step",
    },
    sizes={
        "full": Scale(),
        "smoke": Scale(
            settings={
                "model": "wide_resnet:depth=10,width=1,form=davda54",
                "train_samples": 256,
                "test_fraction": 0.05,
                "epochs": 1,
            },
        ),
    },
    cells=(
        Cell(
            name="sgd", published=Published(value=3.20), settings={"optimizer": "sgd"}
        ),
        Cell(
            name="sam", published=Published(value=2.86), settings={"optimizer": "sam"}
        ),
    ),
)

EXPERIMENT = Experiment(
    name=NAME,
    title="Surrogate gap minimization improves sharpness-aware training",
    source="Zhuang et al., 2022, ICLR",
    claims=(CIFAR10,),
)
