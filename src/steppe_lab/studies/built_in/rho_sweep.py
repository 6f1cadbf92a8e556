"""The radius of SAM and of ASAM: errors on validation samples, eight radii each.

A study of steppe's own. Good radii differ by a factor of 100 between domains and
between the two methods (in the logs of the course project on SAM across domains,
CS-439, 0.01 for SAM on heartbeats and 2.0 for ASAM on CIFAR-10), so that a radius taken
over from a paper says little. Methods are `sam` (Foret et al., 2021, arXiv:2010.01412)
and `asam` (Kwon et al., 2021, arXiv:2102.11600), radii are log-spaced, ten times as
large for ASAM.

Networks are judged on training samples that were set apart, so that the test set is
left for the radius that is chosen: `steppe compare sgd sam:rho=... asam:rho=...`. The
scores in the table have the names of test scores all the same.

The scale "laptop" trains small convolutional networks on 400 digits.
"""

from __future__ import annotations

from typing import Any

RADII = {
    "sam": [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0],
    "asam": [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0],
}


def rho_sweep() -> dict[str, Any]:
    """The mapping of the study: 80 trials at full scale and at that of a laptop."""
    return {
        "name": "rho_sweep",
        "base": {
            "data": "cifar10",
            "model": "resnet18",
            "base": "sgd:lr=0.1,momentum=0.9,weight_decay=0.0005",
            "epochs": 200,
            "batch_size": 128,
            "lr_schedule": "cosine",
            "augment": "basic",
            "held_out": "validation",
            "validation_seed": 0,
        },
        "zip": _methods(RADII),
        "seeds": 5,
        "measures": ["lpf", "top_eigenvalue"],
        "analysis": {"samples": 5000},
        "scales": {
            "full": {},
            "laptop": {
                "base": {
                    "data": "digits",
                    "train_samples": 400,
                    "model": "small_cnn:width=8",
                    "base": "sgd:lr=0.05,momentum=0.9,weight_decay=0.0005",
                    "epochs": 40,
                    "batch_size": 32,
                    "augment": None,
                },
                "measures": ["lpf:samples=20", "top_eigenvalue:tol=0.01"],
                "analysis": {"samples": 200},
            },
            "smoke": {
                "base": {
                    "data": "digits",
                    "train_samples": 100,
                    "model": "small_cnn:width=4,batch_norm=true",
                    "base": "sgd:lr=0.1",
                    "epochs": 10,
                    "batch_size": 16,
                    "augment": None,
                },
                "zip": _methods({"sam": [0.02, 0.1, 0.5], "asam": [0.2, 1.0, 5.0]}),
                "seeds": 2,
                "measures": ["lpf:samples=5"],
                "analysis": {"samples": 100},
            },
        },
    }


def _methods(radii: dict[str, list[float]]) -> dict[str, list[Any]]:
    """Each method with each of its radii."""
    pairs = [(name, rho) for name, several in radii.items() for rho in several]
    return {
        "optimizer": [name for name, _ in pairs],
        "optimizer.rho": [rho for _, rho in pairs],
    }
