"""Gradient signal-to-noise ratio (GSNR) of the parameters.

Source: Liu et al., 2020, arXiv:2001.07384, section 2.1.

Shape letters: n samples, D parameters in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.sample_gradients import (
    GradientVariances,
    Variances,
    visit_samples,
)
from steppe.results import Estimate

ROUNDINGS = 16  # units of rounding, of the largest gradient, that are no variance


@MEASURES.add(
    "gsnr",
    source="Liu et al., 2020, arXiv:2001.07384, section 2.1",
    units="pure number",
    sharper_is="neither",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs", "gradient", "samples", "sample gradients"),
    cost=Cost(forwards=1, gradients=3),
)
@dataclass(frozen=True, kw_only=True)
class GSNR(AbstractMeasure):
    """Gradient signal-to-noise ratio: mean over parameters of E[g]^2 / Var[g].

    Each parameter has the squared mean over the variance of its gradient, over samples.
    The squared mean is too large by the variance over n, so 1 / n is taken off every
    ratio; the value may be negative where there is no signal. Parameters whose
    gradient is the same for all samples but for rounding, as in units that are never
    active, have no ratio and are left out; `details` has the number of the others. The
    standard error over the samples is that of the delta method, for which all of them
    are differentiated a second time.

    Differences from the paper, which follows a ratio for each parameter along a
    training: here it is their mean at fixed weights, and without bias.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """Means and variances of the gradient."""
        return [GradientVariances()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the parameters."""
        moments = measurement.of(GradientVariances())
        live = varying(moments, measurement.objective.dtype)
        ratios = moments.mean[live].square() / moments.variances[live]
        n = moments.samples
        changes: list[Tensor] = []

        def visit(chunk: Tensor) -> None:
            # The ratios have to be known first, so this is a second pass.
            changes.append(influences(moments.scale * chunk, moments, live).cpu())

        visit_samples(measurement, visit)
        return Estimate(
            value=float(ratios.mean()) - 1 / n,
            stderr=float(torch.cat(changes).std()) / n**0.5,
            samples=n,
            details={
                "samples_are": moments.kind,
                "parameters": len(ratios),
            },
        )


def influences(gradients: Tensor, moments: Variances, live: Tensor) -> Tensor:
    """Influence of each sample on the mean ratio, shape (b,).

    Args:
        gradients: of some samples, shape (b, D).
        moments: over all samples.
        live: numbers of the parameters with a ratio.
    """
    mean, variances = moments.mean[live], moments.variances[live]
    apart = gradients[:, live] - mean
    slope, bend = 2 * mean / variances, (mean / variances).square()
    return (apart @ slope - apart.square() @ bend) / len(mean)


def varying(moments: Variances, dtype: torch.dtype) -> Tensor:
    """Numbers of the parameters whose gradient varies by more than rounding.

    Raises:
        UsageError: there is none.
    """
    largest = (moments.mean.square() + moments.variances).max().sqrt()
    rounding = ROUNDINGS * torch.finfo(dtype).eps * float(largest)
    (live,) = torch.where(moments.variances > rounding**2)
    if not len(live):
        raise UsageError(
            "a signal-to-noise ratio needs gradients that vary between samples, but "
            f"those of all {moments.samples} samples are the same; give different "
            "samples, or take gradient_norm."
        )
    return live
