"""Networks trained on images with noise: 20 standard deviations, 5 seeds.

Source: Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, Section 4: a residual
network of 18 layers on CIFAR-10, with Gaussian noise of standard deviation 0 to 3.8 on
pixels between 0 and 1, drawn once, before they are standardised. Test images have none.

Paper and published code differ as in `bisla2022_label_noise`, and this study follows
the code in the same way. As it was published the code calls its program with the whole
sequence of standard deviations as one value: here each has a training of its own.

Difference from both: the noise is the same for all seeds.

The scale "laptop" trains a network of 10 layers on 400 digits, with 10 of the standard
deviations.
"""

from __future__ import annotations

from typing import Any

from steppe_lab.studies.built_in._bisla2022 import CHEAP, NOISY, NOISY_DIGITS, PUBLISHED

STEP = 0.2  # from one standard deviation to the next


def bisla2022_data_noise() -> dict[str, Any]:
    """The mapping of the study: 100 trials at full scale, 50 at that of a laptop."""
    levels = [round(STEP * number, 1) for number in range(20)]
    return {
        "name": "bisla2022_data_noise",
        "base": dict(NOISY),
        "grid": {"data_noise": levels},
        "seeds": 5,
        "measures": list(PUBLISHED),
        "analysis": {"samples": 50_000, "keep": ["train_error <= 0.01"]},
        "scales": {
            "full": {},
            "laptop": {
                "base": NOISY_DIGITS,
                "grid": {"data_noise": levels[::2]},
                "measures": list(CHEAP),
                "analysis": {"samples": 200},
            },
            "smoke": {
                "base": {**NOISY_DIGITS, "train_samples": 100, "epochs": 30},
                "grid": {"data_noise": [0.0, 0.4, 0.8]},
                "seeds": 2,
                "measures": ["shannon_entropy", "lpf:samples=5,scale=balanced"],
                "analysis": {"samples": 100, "keep": ["train_error <= 0.5"]},
            },
        },
    }
