"""Six optimizers with and without SAM: minimum sharpness beside the gap.

Source: the course project on the minimum sharpness of learning algorithms (CS-439,
2022, IrinaMBejan/OptimizationML), with the measure of Ibayashi, Hamaguchi and Imaizumi,
2021, arXiv:2106.12612: three convolutional networks with batch norm on Fashion-MNIST
and CIFAR-10, pixels between 0 and 1, batches of 128, at most 200 epochs.

A training ends where the mean loss of the steps of an epoch is below 0.01; for SAM it
is that at the perturbed weights. So the measured networks are those that the project
calls converged. PHB is SGD with learning rate 0.01 and momentum 0.8, as in its code;
its text has 0.1 too.

Differences: the project takes the log-softmax of the outputs over the batch, which
makes the scores of a sample depend on the others; here outputs are scores of their own
(`variant=published` of these networks is the project's). Its sharpness leaves the
parameters of batch norm out and is not minimised to the end, so that its values, 1e4 to
7e5, are not those of the measure here.

The scale "laptop" trains the smallest of the three networks on 2,000 samples of
Fashion-MNIST for at most 15 epochs, with 3 seeds in place of one.
"""

from __future__ import annotations

from typing import Any

BASES = [
    "sgd:lr=0.1,momentum=0,weight_decay=0",
    "sgd:lr=0.01,momentum=0.8,weight_decay=0",
    "adagrad",
    "adam",
    "adashift:lr=0.01",
    "adabound",
]


def minimum_sharpness_cs439() -> dict[str, Any]:
    """The mapping of the study: 72 trials at full scale, 36 at that of a laptop."""
    return {
        "name": "minimum_sharpness_cs439",
        "base": {
            "epochs": 200,
            "batch_size": 128,
            "lr_schedule": "constant",
            "stop_at_loss": 0.01,
            "stop_on": "running_perturbed_loss",
        },
        "grid": {
            "data": [
                "fashion_mnist:standardise=unit",
                "cifar10:standardise=unit",
            ],
            "model": ["simple_batch", "middle_batch", "complex_batch"],
            "base": BASES,
            "optimizer": [None, "sam:rho=0.05"],
        },
        "measures": ["minimum_sharpness"],
        "analysis": {"samples": 60_000},
        "scales": {
            "full": {},
            "laptop": {
                "base": {"train_samples": 2000, "test_fraction": 0.2, "epochs": 15},
                "grid": {
                    "data": ["fashion_mnist:standardise=unit"],
                    "model": ["simple_batch:hidden=32"],
                },
                "seeds": 3,
                "analysis": {"samples": 500},
            },
            "smoke": {
                "base": {"train_samples": 100, "epochs": 10, "batch_size": 16},
                "grid": {
                    "data": ["digits:standardise=unit"],
                    "model": ["small_cnn:width=4,batch_norm=true"],
                    "base": [BASES[0], "adam"],
                },
                "analysis": {"samples": 100},
            },
        },
    }
