"""Statistics of the gradients of single samples, all from one pass over the data.

With s_i the gradient of the summed loss terms of sample i, of n samples with N terms
in all, the gradient of a sample is g_i = (n / N) s_i, so that their mean is the
gradient of the mean loss; with one loss term for each sample it is that of its loss.
The number of terms is taken as fixed. A penalty is no part of them.

Shape letters: n samples, b samples of a chunk, D parameters in all.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.curvature.products.context import twice_differentiable
from steppe.errors import UsageError
from steppe.measures.measurement import JointNeed, Measurement
from steppe.measures.needs.gradients.gradients import LossGradient
from steppe.measures.needs.gradients.row_gradients import (
    KindOfSamples,
    RowGradients,
    SampleKind,
)
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.objective import Objective
from steppe.samples import rows_of

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Pass:
    """Facts of a pass that turn sums over s_i into statistics of g_i.

    Attributes:
        kind: of samples, rows or loss terms.
        samples: their number n.
        scale: n / N.
        mean: gradient of the mean loss without a penalty, shape (D,), float64.
        centre: subtracted from s_i, shape (D,); near their mean.
        off: the mean of s_i less the centre, as a share of the centre.
    """

    kind: SampleKind
    samples: int
    scale: float
    mean: Tensor
    centre: Tensor
    off: float


@dataclass(frozen=True)
class OverSamples(JointNeed[T_co], Generic[T_co]):
    """A statistic of the gradients of all samples."""

    kind: ClassVar[str] = "sample gradients"
    one_pass: ClassVar[bool] = True
    summed: ClassVar[bool]  # over the samples; else there is a row for each

    @abc.abstractmethod
    def of_chunk(self, gradients: Tensor, apart: Tensor, centre: Tensor) -> Tensor:
        """Numbers of some samples.

        Args:
            gradients: of their summed loss terms, shape (b, D), float64.
            apart: the same without the centre.
            centre: shape (D,).
        """

    @abc.abstractmethod
    def combined(self, numbers: Tensor, facts: Pass) -> T_co:
        """The statistic, from the sum of the numbers or all of them."""

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Differentiate all samples once."""
        objective = measurement.objective
        losses = measurement.of(LossTerms())
        mean = _without_penalty(objective, measurement.of(LossGradient()))
        kind = measurement.of(KindOfSamples())
        terms = sum(len(each) for each in losses)
        rows = sum(rows_of(batch) or 0 for batch in objective.batches)
        likely = rows if kind == "rows" else terms
        centre = mean * (terms / likely)
        numbers: dict[Any, list[Tensor]] = {need: [] for need in needs}
        samples = 0

        def visit(chunk: Tensor) -> None:
            nonlocal samples
            samples += len(chunk)
            apart = chunk - centre
            for need in needs:
                parts = numbers[need]
                parts.append(need.of_chunk(chunk, apart, centre))
                if need.summed and len(parts) > 1:
                    parts[:] = [parts[0] + parts[1]]

        visit_samples(measurement, visit)
        off = likely / samples - 1
        facts = Pass(kind, samples, samples / terms, mean, centre, off)
        return [_combined(need, numbers[need], facts) for need in needs]


@dataclass(frozen=True)
class Norms:
    """Numbers of each sample, shape (n,), float64, on the host.

    Attributes:
        kind: of samples, rows or loss terms.
        squares: squared norm of its gradient.
        noise: squared distance of its gradient to the mean.
        along: inner product of that difference with the mean.
        mean_square: squared norm of the mean gradient.
    """

    kind: SampleKind
    squares: Tensor
    noise: Tensor
    along: Tensor
    mean_square: float

    @property
    def samples(self) -> int:
        """Their number n."""
        return len(self.squares)


@dataclass(frozen=True)
class GradientNorms(OverSamples[Norms]):
    """Norms of the gradients of samples, and of their distances to the mean."""

    summed: ClassVar[bool] = False

    def of_chunk(self, gradients: Tensor, apart: Tensor, centre: Tensor) -> Tensor:
        """Squares, squares of the differences, and these along the centre, (b, 3)."""
        squares = [torch.einsum("bd,bd->b", g, g) for g in (gradients, apart)]
        return torch.stack([*squares, apart @ centre], 1)

    def combined(self, numbers: Tensor, facts: Pass) -> Norms:
        """Moved from the centre to the mean, and scaled."""
        squares, noise, along = numbers.cpu().unbind(1)
        # Differences to the mean are those to the centre, less `off` times the centre.
        size = float(facts.centre.square().sum())
        noise = noise - 2 * facts.off * along + facts.off**2 * size
        along = (along - facts.off * size) * (1 + facts.off)
        return Norms(
            facts.kind,
            facts.scale**2 * squares,
            facts.scale**2 * noise,
            facts.scale**2 * along,
            float(facts.mean.square().sum()),
        )


@dataclass(frozen=True)
class Variances:
    """Mean and unbiased variance of each entry of the gradient, shape (D,), float64.

    Attributes:
        kind: of samples, rows or loss terms.
        samples: their number n.
        scale: n / N.
        mean: over the samples.
        variances: over the samples.
    """

    kind: SampleKind
    samples: int
    scale: float
    mean: Tensor
    variances: Tensor


@dataclass(frozen=True)
class GradientVariances(OverSamples[Variances]):
    """Variance of the gradient over the samples, parameter by parameter."""

    summed: ClassVar[bool] = True

    def of_chunk(self, _gradients: Tensor, apart: Tensor, _centre: Tensor) -> Tensor:
        """Sums of squares, shape (D,)."""
        return apart.square().sum(0)

    def combined(self, numbers: Tensor, facts: Pass) -> Variances:
        """Divided by the degrees of freedom.

        Raises:
            UsageError: a single sample.
        """
        check_several(facts.samples, facts.kind)
        beside = facts.samples * (facts.off * facts.centre).square()
        squares = facts.scale**2 * (numbers - beside)
        variances = squares / (facts.samples - 1)
        return Variances(facts.kind, facts.samples, facts.scale, facts.mean, variances)


def check_several(samples: int, kind: SampleKind) -> None:
    """Refuse a single sample, which has no variance.

    Raises:
        UsageError: there is one.
    """
    if samples < 2:
        raise UsageError(
            "the noise of a gradient needs at least 2 samples, got 1 of the "
            f"{kind}; give more data, or a loss with a term for each row of a batch."
        )


def visit_samples(measurement: Measurement, visit: Callable[[Tensor], None]) -> None:
    """Differentiate all samples once.

    Args:
        measurement: with the objective.
        visit: called with gradients of the summed loss terms of samples, in the order
            of the data, shape (b, D), float64.
    """
    objective = measurement.objective
    losses = measurement.of(LossTerms())
    kind = measurement.of(KindOfSamples())
    rows = RowGradients(objective, kind, objective.losses_on)
    with objective.measuring(), twice_differentiable(objective.model):
        for index, known in enumerate(losses):
            for chunk in rows.of_losses(index, known):
                visit(chunk.detach().double())
    objective.cost += Cost(gradients=1)


def _without_penalty(objective: Objective, gradient: Sequence[Tensor]) -> Tensor:
    """The gradient of the mean over the loss terms, shape (D,), float64."""
    parts = [g.double() for g in gradient]
    if objective.penalty is not None:
        slopes = [objective.penalty.curvature(p) for p in objective.params]
        weights = [p.detach().double() for p in objective.params]
        parts = [
            part - slope * p
            for part, slope, p in zip(parts, slopes, weights, strict=True)
        ]
    return torch.cat([part.flatten() for part in parts])


def _combined(need: OverSamples[Any], numbers: list[Tensor], facts: Pass) -> Any:
    try:
        return need.combined(torch.cat(numbers), facts)
    except UsageError as error:
        return error
