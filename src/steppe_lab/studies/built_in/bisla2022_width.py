"""Networks of growing width on labels with noise: double descent, 64 widths, 5 seeds.

Source: Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, Section 4, with the
trainings of Nakkiran et al., 2020, arXiv:1912.02292: residual networks of 18 layers
with k, 2 k, 4 k and 8 k channels, k from 1 to 64, on CIFAR-10 with a fifth of the
labels drawn anew; Adam with learning rate 1e-4 for 4,000 epochs. The question is which
measure goes with the test error, which falls, rises and falls again.

The text has 64 widths and 5 seeds, as here; the published results are those of one seed
and about 30 widths (`--only seed=0`). As the code does, labels are drawn from all
classes, the true one included. No network is dropped.

Difference from both: scores are computed every 10 epochs, which changes no weight.

The scale "laptop" trains networks of 10 layers and 1 to 12 channels on 400 digits for
150 epochs with learning rate 0.003.
"""

from __future__ import annotations

from typing import Any

from steppe_lab.studies.built_in._bisla2022 import CHEAP, PUBLISHED

DIGITS = {
    "data": "digits",
    "train_samples": 400,
    "model": "resnet18:blocks=1",
    "base": "adam:lr=0.003",
    "epochs": 150,
    "batch_size": 64,
}


def bisla2022_width() -> dict[str, Any]:
    """The mapping of the study: 320 trials at full scale, 27 at that of a laptop."""
    return {
        "name": "bisla2022_width",
        "base": {
            "data": "cifar10",
            "model": "resnet18",
            "optimizer": "adam",
            "base": "adam:lr=0.0001",
            "label_noise": 0.2,
            "label_noise_kind": "uniform",
            "epochs": 4000,
            "batch_size": 128,
            "lr_schedule": "constant",
            "evaluate_every": 10,
        },
        "grid": {"model.width": list(range(1, 65))},
        "seeds": 5,
        "measures": list(PUBLISHED),
        "analysis": {"samples": 50_000},
        "scales": {
            "full": {},
            "laptop": {
                "base": DIGITS,
                "grid": {"model.width": [1, 2, 3, 4, 5, 6, 8, 10, 12]},
                "seeds": 3,
                "measures": list(CHEAP),
                "analysis": {"samples": 200},
            },
            "smoke": {
                "base": {**DIGITS, "train_samples": 100, "epochs": 10},
                "grid": {"model.width": [1, 2, 3]},
                "seeds": 2,
                "measures": ["shannon_entropy", "lpf:samples=5,scale=balanced"],
                "analysis": {"samples": 100},
            },
        },
    }
