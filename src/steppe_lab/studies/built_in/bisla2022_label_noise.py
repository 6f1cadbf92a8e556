"""Networks trained on labels of which a share is noise: 10 shares, 5 seeds.

Source: Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, Section 4: a residual
network of 18 layers on CIFAR-10, with 0 to 90 % of the labels drawn anew. The question
is which measure rises with the noise, as the gap of generalisation does.

Paper and published code differ; this study follows the code: learning rate 0.1, divided
by ten after 150 and 250 of 350 epochs, where the paper says 150 and 200; a training
ends where 99 % of its samples are classified as labelled, and networks that never come
there are dropped. Labels are drawn from all classes, the true one included. As it was
published the code never hands the share of noise to its data: here it does. The code's
loop has 11 shares, the text 10, as here.

Difference from both: the noisy labels are the same for all seeds.

The scale "laptop" trains a network of 10 layers on 400 digits for at most 100 epochs,
with drops after 60 and 80.
"""

from __future__ import annotations

from typing import Any

from steppe_lab.studies.built_in._bisla2022 import CHEAP, NOISY, NOISY_DIGITS, PUBLISHED


def bisla2022_label_noise() -> dict[str, Any]:
    """The mapping of the study: 50 trials at full scale and at that of a laptop."""
    return {
        "name": "bisla2022_label_noise",
        "base": {**NOISY, "label_noise_kind": "uniform"},
        "grid": {"label_noise": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]},
        "seeds": 5,
        "measures": list(PUBLISHED),
        "analysis": {"samples": 50_000, "keep": ["train_error <= 0.01"]},
        "scales": {
            "full": {},
            "laptop": {
                "base": NOISY_DIGITS,
                "measures": list(CHEAP),
                "analysis": {"samples": 200},
            },
            "smoke": {
                "base": {**NOISY_DIGITS, "train_samples": 100, "epochs": 30},
                "grid": {"label_noise": [0.0, 0.2, 0.4]},
                "seeds": 2,
                "measures": ["shannon_entropy", "lpf:samples=5,scale=balanced"],
                "analysis": {"samples": 100, "keep": ["train_error <= 0.5"]},
            },
        },
    }
