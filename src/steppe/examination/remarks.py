"""Remarks that qualify the numbers of an examination."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from torch import nn

from steppe.examination.plan import Part
from steppe.results import Estimate, Estimates, Spectrum

NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)
DESCENT = 0.02  # share of the loss that a step may gain at a minimum
BENT = 0.05  # share of the largest eigenvalue that a negative one may have
SMALL = 0.01  # a loss near zero
FEW = 32  # samples, which say little of the others


def remarks_on(
    model: nn.Module,
    groups: Mapping[str, Estimates],
    spectrum: Spectrum | None,
    data: Part,
    curved: Part,
    refusal: str,
) -> list[str]:
    """Sentences, the gravest first.

    Args:
        model: that is examined.
        groups: estimates by subject.
        spectrum: of the Hessian; None where it was refused.
        data: samples of the passes.
        curved: samples of the products.
        refusal: of the spectrum.
    """
    sentences: list[str] = []
    loss = groups["loss"]["loss"]
    gradient = groups["loss"].get("gradient_norm")
    if refusal:
        sentences.append(f"The Hessian has no spectrum here: {refusal}")
    if spectrum is not None:
        sentences += _of_a_minimum(loss, gradient, spectrum)
    sentences += _of_the_loss(loss)
    if any(isinstance(module, NORMS) for module in model.modules()):
        sentences.append(
            "Normalisation layers make raw scales meaningless here: a factor on the "
            "filters before one changes eigenvalues, trace and gradient and not the "
            "network. The loss under noise and the lines, relative to the filters, can "
            "be compared between networks."
        )
    sentences += _of_convergence(spectrum)
    sentences += _of_the_samples(data, curved, spectrum is not None)
    return sentences


def _of_a_minimum(
    loss: Estimate, gradient: Estimate | None, spectrum: Spectrum
) -> Iterator[str]:
    top = float(spectrum.top.values[0])
    low = float(spectrum.bottom.values[-1])
    if gradient is not None and not gradient.refusal and top > 0:
        # Along the gradient no curvature is above the largest eigenvalue, so that the
        # quadratic gains at least this.
        gain = gradient.value**2 / (2 * top)
        if gain > max(DESCENT * abs(loss.value), 2 * _finite(loss.stderr)):
            yield (
                f"Not at a minimum: |g| = {gradient.value:.3g}, and a step along the "
                f"gradient would lower the loss by about {gain:.2g} or more; measures "
                "of minima say less here."
            )
    if low < -BENT * abs(top):
        yield (
            f"Not a minimum in all directions: the smallest eigenvalue is {low:.3g}, "
            f"{abs(low / top):.0%} of the largest in magnitude."
        )


def _of_the_loss(loss: Estimate) -> Iterator[str]:
    if 0 <= loss.value < SMALL:
        yield (
            f"The loss is {loss.value:.2g}: near zero, curvature shrinks with the loss "
            "itself, so compare with networks of the same loss."
        )


def _of_convergence(spectrum: Spectrum | None) -> Iterator[str]:
    if spectrum is None:
        return
    top, residual = float(spectrum.top.values[0]), float(spectrum.top.residuals[0])
    low, rest = float(spectrum.bottom.values[-1]), float(spectrum.bottom.residuals[-1])
    if rest > max(BENT * abs(low), BENT / 5 * abs(top)):
        yield (
            f"The smallest eigenvalue, {low:.2g}, is known to {rest:.2g} only: measure "
            "bottom_eigenvalue goes on until it has converged."
        )
    if residual > BENT * abs(top):
        yield (
            f"The largest eigenvalue is known to {residual:.2g} only: "
            f"measure top_eigenvalue goes on until it has converged."
        )


def _of_the_samples(data: Part, curved: Part, spectral: bool) -> Iterator[str]:
    if data.whole and (curved.whole or not spectral):
        return
    parts = [f"passes take {_share(data)}"]
    parts += [f"products with the Hessian {_share(curved)}"] if spectral else []
    yield f"Of the data, {' and '.join(parts)}, drawn at random."
    if spectral and curved.samples < min(FEW, curved.of) and curved.unit == "sample":
        yield (
            f"The spectrum is that of the loss on {curved.samples} samples: others "
            "would have another one; give more seconds, or curvature_samples."
        )


def _share(part: Part) -> str:
    if part.whole:
        return f"all {part.of:,} {_plural(part)}"
    return f"{part.samples:,} of {part.of:,} {_plural(part)}"


def _plural(part: Part) -> str:
    return "batches" if part.unit == "batch" else "samples"


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0
