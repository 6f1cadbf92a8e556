"""The networks and batches that benchmarks run on; 32-bit floats, one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe_lab.models import MODELS

CIFAR = (3, 32, 32)
TOKENS, VOCABULARY = 64, 1024


@dataclass(frozen=True)
class Problem:
    """A network with a batch of random inputs and targets."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor

    def on(self, device: str) -> Problem:
        """The same on a device."""
        model = self.model.to(device)
        return Problem(self.name, model, self.x.to(device), self.y.to(device))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.model(x), y)

    def gradient(self) -> None:
        self.loss(self.x, self.y).backward()

    def params(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def facts(self) -> dict[str, int | str]:
        params = self.params()
        return {
            "model": self.name,
            "rows": len(self.x),
            "tensors": len(params),
            "parameters": sum(p.numel() for p in params),
        }


class Transformer(nn.Module):
    """A causal language model of 26 million parameters: 8 layers of width 512."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 512)
        layer = nn.TransformerEncoderLayer(
            512, 8, 2048, dropout=0.0, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(512)
        self.positions = nn.Parameter(torch.randn(TOKENS, 512) * 0.02)
        self.layers = nn.TransformerEncoder(layer, 8, norm, enable_nested_tensor=False)
        self.head = nn.Linear(512, VOCABULARY)
        mask = nn.Transformer.generate_square_subsequent_mask(TOKENS)
        self.register_buffer("mask", mask)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens) + self.positions
        hidden = self.layers(hidden, mask=self.mask, is_causal=True)
        return self.head(hidden).transpose(1, 2)


def _images(name: str, rows: int) -> Problem:
    model = MODELS.build(name, CIFAR, 10)
    return Problem(name, model, torch.randn(rows, *CIFAR), torch.randint(10, (rows,)))


def _tokens(name: str, rows: int) -> Problem:
    tokens = torch.randint(VOCABULARY, (rows, TOKENS + 1))
    return Problem(name, Transformer(), tokens[:, :-1], tokens[:, 1:])


def _deep(name: str, rows: int) -> Problem:
    """100 narrow layers: 200 small tensors, where calls count and not bytes."""
    layers = [nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(100)]
    return Problem(
        name, nn.Sequential(*layers), torch.randn(rows, 64), torch.randint(64, (rows,))
    )


_MAKERS: dict[str, tuple[Callable[[str, int], Problem], int]] = {
    "small_cnn": (_images, 128),
    "deep_mlp": (_deep, 128),
    "resnet18": (_images, 64),
    "transformer": (_tokens, 16),
}
LARGE = {"resnet18", "transformer"}  # fewer rounds do, since one round is long


def problem(name: str, rows: int | None = None) -> Problem:
    """A network with a batch, of the usual number of rows where none is said."""
    torch.manual_seed(0)
    make, usual = _MAKERS[name]
    return make(name, usual if rows is None else rows)


def sgd(of: Problem) -> torch.optim.Optimizer:
    return torch.optim.SGD(of.params(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
