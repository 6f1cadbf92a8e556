"""Small trained networks with real data, for everything that measures curvature.

Images are of CIFAR-10 where its folder is given, otherwise the handwritten digits that
come with scikit-learn, enlarged; the text is that of this repository.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.problems import Problem
from steppe_lab.datasets import DATASETS

STEPS, ROWS, POOL = 200, 512, 2000
CONTEXT, SEQUENCES = 64, 16


class Block(nn.Module):
    """Two convolutions with batch norm around a residual connection."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        same = inner == outer and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class Text(nn.Module):
    """A causal language model of bytes: 2 layers of width 128."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, 128)
        self.positions = nn.Parameter(torch.randn(CONTEXT, 128) * 0.02)
        layer = nn.TransformerEncoderLayer(
            128, 4, 512, dropout=0.0, activation="gelu", batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(128, 256)
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens) + self.positions
        hidden = self.layers(hidden, mask=self.mask, is_causal=True)
        return self.head(hidden).transpose(1, 2)


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def resnet8() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


MAKERS = {"lenet": lenet, "resnet8": resnet8, "text": Text}
PIECEWISE = ("lenet", "resnet8")


@cache
def trained(name: str, data_dir: Path | None, steps: int = STEPS) -> Problem:
    """A network after some steps of SGD, with the rows to measure it on."""
    torch.manual_seed(0)
    model = MAKERS[name]()
    x, y = _text() if name == "text" else _images(data_dir)
    _fit(model, x, y, SEQUENCES if name == "text" else 64, steps)
    kept = SEQUENCES if name == "text" else ROWS
    return Problem(name, model, x[:kept], y[:kept])


def trained_model(
    make: Callable[[], nn.Module], data_dir: Path | None, rows: int
) -> tuple[nn.Module, Tensor, Tensor]:
    """Another network, trained on the images that it is measured on."""
    torch.manual_seed(0)
    x, y = (t[:rows] for t in _images(data_dir))
    model = make()
    _fit(model, x, y, 64, STEPS)
    return model, x, y


def _fit(model: nn.Module, x: Tensor, y: Tensor, rows: int, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        batch = torch.randint(len(x), (rows,))
        optimizer.zero_grad()
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    model.eval().zero_grad()


def _images(data_dir: Path | None) -> tuple[Tensor, Tensor]:
    if data_dir is None:
        data = DATASETS.build("digits")
        x = F.interpolate(data.train.inputs, size=(32, 32), mode="bilinear")
        return x.expand(-1, 3, -1, -1)[:POOL], data.train.targets[:POOL]
    data = DATASETS.build("cifar10", data_dir=data_dir)
    return data.train.inputs[:POOL], data.train.targets[:POOL]


def _text() -> tuple[Tensor, Tensor]:
    root = Path(__file__).parent.parent
    pages = [root / name for name in ("ARCHITECTURE.md", "README.md", "CHANGELOG.md")]
    letters = b"".join(page.read_bytes() for page in pages)
    tokens = torch.tensor(list(letters), dtype=torch.long)
    count = (len(tokens) - 1) // CONTEXT
    x = tokens[: count * CONTEXT].view(count, CONTEXT)
    y = tokens[1 : count * CONTEXT + 1].view(count, CONTEXT)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return x[order], y[order]
