"""The grid of 2,916 networks: which measure goes with the gap.

Source: Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, Section 4 and supplement B:
972 residual networks of 18 layers on CIFAR-10 for each of 3 seeds, and 10 measures of
each. They are 36 structures (3 widths, with and without skip connections and batch
norm, 3 batch sizes) of 81 networks.

Paper and published code differ; this study follows the code: at most 500 epochs with
the learning rates 0.005, 0.0075 and 0.01, divided by ten after 150 and 200 epochs,
where the paper says 300 epochs, 0.1, 100 and 200. Both end a training where the mean
loss of the training samples has come down to 0.01, and drop networks that never do.
Convolutions have biases, beside batch norm too. The code's widths 4, 6 and 8 are 32, 48
and 64 channels.

Differences from both: the measures take the gradient of the parameters as they are,
where the code balances each filter first; samples weigh alike in all of them, where in
the code's products batches do.

The scale "laptop" has the same factors with two levels each, on networks of 10 layers
and 400 digits, with the correct variants of the measures on 200 of them. A training
ends there too where its loss has not improved for 25 epochs, which no published one
does. The rule of the scale "smoke" is a loss of 0.1.
"""

from __future__ import annotations

from typing import Any

from steppe_lab.studies.built_in._bisla2022 import CHEAP, PUBLISHED

DIGITS = {
    "data": "digits",
    "train_samples": 400,
    "model": "resnet18:blocks=1,bias=true",
    "lr_schedule": "constant",
    "epochs": 150,
    "patience": 25,
}


def bisla2022_grid() -> dict[str, Any]:
    """The mapping of the study: 2,916 trials at full scale, 384 at that of a laptop."""
    return {
        "name": "bisla2022_grid",
        "base": {
            "data": "cifar10",
            "model": "resnet18:bias=true",
            "optimizer": "sgd",
            "base": "sgd",
            "epochs": 500,
            "lr_schedule": "multi_step(milestones=(150,200),factor=0.1)",
            "stop_at_loss": 0.01,
        },
        "grid": {
            "base.momentum": [0.0, 0.5, 0.9],
            "model.width": [32, 48, 64],
            "base.weight_decay": [0.0, 1e-4, 5e-4],
            "base.lr": [0.005, 0.0075, 0.01],
            "batch_size": [32, 128, 512],
            "model.skip": [False, True],
            "model.batch_norm": [False, True],
        },
        "seeds": 3,
        "measures": list(PUBLISHED),
        "analysis": {"samples": 50_000, "keep": ["train_loss <= 0.01"]},
        "scales": {
            "full": {},
            "laptop": {
                "base": DIGITS,
                "grid": {
                    "base.momentum": [0.0, 0.7],
                    "model.width": [4, 8],
                    "base.weight_decay": [0.0, 5e-4],
                    "base.lr": [0.025, 0.05],
                    "batch_size": [16, 64],
                },
                "measures": list(CHEAP),
                "analysis": {"samples": 200},
            },
            "smoke": {
                "base": {
                    **DIGITS,
                    "train_samples": 100,
                    "epochs": 40,
                    "stop_at_loss": 0.1,
                },
                "grid": {
                    "base.momentum": [0.0, 0.5],
                    "model.width": [4],
                    "base.weight_decay": [5e-4],
                    "base.lr": [0.05],
                    "batch_size": [8],
                },
                "seeds": 2,
                "measures": ["epsilon_sharpness", "lpf:samples=5,scale=balanced"],
                "analysis": {"samples": 100, "keep": ["train_loss <= 0.1"]},
            },
        },
    }
