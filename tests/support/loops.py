"""Small training problems and the loops that optimizers are driven through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 12


def make_model(*, batch_norm: bool = False, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(7)
    layers: list[nn.Module] = [nn.Linear(5, 6), nn.Tanh()]
    if batch_norm:
        layers.insert(1, nn.BatchNorm1d(6))
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(6, 3)).double()


def batches(count: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    for i in range(start, start + count):
        g = torch.Generator().manual_seed(100 + i)
        x = torch.randn(ROWS, 5, generator=g, dtype=torch.float64)
        yield x, torch.randint(3, (ROWS,), generator=g)


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True
    )


def sgd_for(entry: Any, params: Any) -> torch.optim.Optimizer:
    """SGD as a method can wrap it."""
    momentum = 0.0 if entry.spec.base == "plain" else 0.9
    return torch.optim.SGD(params, lr=0.1, momentum=momentum)


def base_for(entry: Any, model: nn.Module) -> torch.optim.Optimizer:
    """A base that a method can wrap, with all that it allows."""
    plain = entry.spec.base == "plain"
    return sgd_for(entry, model.parameters()) if plain else momentum(model)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def loop_step(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        F.cross_entropy(model(xs), ys).backward()
    opt.step()


def closure_step(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    def closure() -> Tensor:
        opt.zero_grad()
        xs, ys = opt.take(x, y)
        loss = F.cross_entropy(model(xs), ys)
        loss.backward()
        return loss

    return opt.step(closure)


def base_step(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    opt.step()


def shared_step(parts: int) -> Callable[[Any, nn.Module, Tensor, Tensor], None]:
    """A base step on gradients accumulated over equal shares of the batch."""

    def step(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
        opt.zero_grad()
        for xs, ys in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            F.cross_entropy(model(xs), ys).backward()
        for p in model.parameters():
            p.grad.mul_(1 / parts)
        opt.step()

    return step


def shares(opt: Any, entry: Any) -> int:
    """Shares of the batch that a step takes gradients of; takes a step of zeros."""
    passes = 0
    for _ in opt.passes():
        passes += 1
        for p in (p for group in opt.param_groups for p in group["params"]):
            p.grad = torch.zeros_like(p)
    return round(passes / entry.spec.grad_evals)


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def identical(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def remembers(entry: Any) -> bool:
    """Whether a step depends on the gradients of earlier ones."""
    model = make_model()
    opt = entry.make(base_for(entry, model), **entry.spec.example)
    for x, y in batches(1):
        loop_step(opt, model, x, y)
    return bool(opt.state_dict()["steppe"]["memory"]["tensors"])
