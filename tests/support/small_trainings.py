"""A recipe and samples for trainings of a second, and whether two ended alike."""

from __future__ import annotations

import torch
from torch import nn

from steppe.seeds import stream
from steppe_lab.datasets import Split, TensorSamples
from steppe_lab.training.loop import Trained
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe


def recipe(optimizer: str = "sam:rho=0.05", **more: object) -> Recipe:
    base = "sgd:lr=0.05,momentum=0.9,weight_decay=0"
    settings = {
        "data": "digits",
        "model": "small_cnn:width=2,batch_norm=true",
        "epochs": 2,
        "batch_size": 16,
        **read_optimizer(optimizer, base),
        **more,
    }
    return Recipe.model_validate(settings)


def split(samples: int = 40) -> Split:
    """Noise with brighter columns in one of the two classes, 20 test samples beside."""
    count = samples + 20
    pictures = torch.randn((count, 1, 8, 8), generator=stream(0))
    targets = torch.arange(count) % 2
    pictures[targets == 1, :, :3] += 1
    every = TensorSamples(pictures, targets)
    return Split(
        train=every.chosen(torch.arange(samples)),
        test=every.chosen(torch.arange(samples, count)),
        clean=every.chosen(torch.arange(samples)),
        positions=torch.arange(samples),
        noisy=torch.zeros(samples, dtype=torch.bool),
        classes=("no", "yes"),
        task="classification",
    )


def same(left: Trained, right: Trained) -> bool:
    """Whether two trainings ended with the same weights, bit for bit."""
    return same_weights(left.model, right.model)


def same_weights(left: nn.Module, right: nn.Module) -> bool:
    """Whether two networks have the same parameters and buffers, bit for bit."""
    states = (each.state_dict().values() for each in (left, right))
    return all(torch.equal(a, b) for a, b in zip(*states, strict=True))
