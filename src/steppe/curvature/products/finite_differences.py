"""Products by central differences, for operations that torch cannot differentiate.

The two points lie a cube root of the rounding unit from the parameters along the
vector, where truncation and rounding weigh alike. Between them a network with
kinks (ReLU, max pooling) may have crossed many, and the difference of its gradients
is then no derivative: in float32 such products are wrong by factors.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from steppe.curvature.double_backward.corrections import constant_padding
from steppe.curvature.products.autograd import differentiate
from steppe.curvature.products.retained import AbstractProducts, Metric
from steppe.parameters import displace_, restored, unfollowed

Value = TypeVar("Value")


class AbstractDifferences(AbstractProducts):
    """A part that moves the parameters a step along a vector, forwards and back.

    Args:
        run: gives what is differentiated of one batch, at the present parameters.
        params: P tensors to differentiate by.
        padded: those of them that are embeddings with a row for padding.
    """

    share = 1.0  # of the usual step

    def __init__(
        self,
        run: Callable[[], Tensor],
        params: Sequence[torch.nn.Parameter],
        padded: Collection[Tensor],
    ) -> None:
        super().__init__(params)
        self._run = run
        self._padded = padded


class GradientDifferences(AbstractDifferences):
    """Second derivatives of a sum of losses, as differences of its gradients.

    Args:
        run: gives the loss terms of one batch at the present parameters.
        params: P tensors to differentiate by.
        padded: those of them that are embeddings with a row for padding.
    """

    def _times(self, pieces: Sequence[Tensor]) -> list[Tensor] | None:
        step = self.share * _step(pieces)
        if not step:
            return None
        padded = self._padded
        up, down = _ends(self._params, pieces, step, padded, self._gradient)
        return [(u - d) / (2 * step) for u, d in zip(up, down, strict=True)]

    def _gradient(self) -> list[Tensor]:
        loss = self._run().sum()
        if not loss.requires_grad:
            return [torch.zeros_like(p) for p in self._params]
        return differentiate((loss,), self._params, (torch.ones_like(loss),))


class JacobianDifferences(AbstractDifferences):
    """J' M J where the derivative along a vector is a difference of outputs.

    Args:
        metric: gives M w, shaped like the outputs, for w of that shape.
        run: gives the outputs of one batch at the present parameters.
        params: P tensors to differentiate by.
        padded: those of them that are embeddings with a row for padding.
    """

    def __init__(
        self,
        metric: Metric,
        run: Callable[[], Tensor],
        params: Sequence[torch.nn.Parameter],
        padded: Collection[Tensor],
    ) -> None:
        super().__init__(run, params, padded)
        self._metric = metric

    def _times(self, pieces: Sequence[Tensor]) -> list[Tensor] | None:
        step = self.share * _step(pieces)
        if not step:
            return None
        with unfollowed(self._params):  # a loss may differentiate by something else
            up, down = _ends(self._params, pieces, step, self._padded, self._run)
        jvp = (up - down).detach() / (2 * step)
        z = self._run()  # moving the parameters has spoilt every older graph
        if not z.requires_grad:
            return None
        return differentiate((z,), self._params, (self._metric(jvp),))


def _step(pieces: Sequence[Tensor]) -> float:
    """Factor that makes a vector, in P pieces, as long as a step; 0 for zeros."""
    length = float(torch.linalg.vector_norm(torch.cat([p.flatten() for p in pieces])))
    spacing: float = torch.finfo(pieces[0].dtype).eps ** (1 / 3)
    return spacing / length if length else 0.0


def _ends(
    params: Sequence[Tensor],
    pieces: Sequence[Tensor],
    step: float,
    padded: Collection[Tensor],
    evaluate: Callable[[], Value],
) -> tuple[Value, Value]:
    """Values a step forwards and a step backwards along the pieces."""
    with _moved(params, pieces, step, padded):
        up = evaluate()
    with _moved(params, pieces, -step, padded):
        return up, evaluate()


@contextmanager
def _moved(
    params: Sequence[Tensor],
    pieces: Sequence[Tensor],
    factor: float,
    padded: Collection[Tensor],
) -> Iterator[None]:
    with restored(params) as here:
        displace_(params, pieces, factor)
        pairs = zip(params, here, strict=True)
        with constant_padding([(p, old) for p, old in pairs if p in padded]):
            yield
