"""Whether the products of an operator are those of a symmetric matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.linalg.probes import gaussian, seeded
from steppe.linalg.protocols import LinearOperator, lengths, uncast

ROUGH = 0.1  # rounding, as a share of the products, that results show as well


def asymmetry(H: LinearOperator) -> float:
    """How far products may be from symmetric by rounding, as a share of their size.

    Infinite for an operator that is not to be checked.
    """
    own: float | None = getattr(H, "asymmetry", None)
    if own is not None:
        return own
    precision: float = torch.finfo(H.dtype).eps ** 0.5
    return precision


def check_symmetry(H: LinearOperator, apart: float, size: float) -> None:
    """Refuse an operator whose products are not those of a symmetric matrix.

    Rounding may be much larger than the precision of the operator says, where terms
    cancel or a model computes in a narrower type by itself. So an operator that has a
    method `symmetric_in_float64` decides what the difference is.

    Args:
        H: the operator.
        apart: difference of two entries, or of two rows, that should be the same.
        size: of the operator, in the same units.

    Raises:
        UsageError: they differ by more than rounding, or rounding is as large as they.
    """
    if apart <= asymmetry(H) * size:
        return
    verify = getattr(H, "symmetric_in_float64", None)
    symmetric: bool | None = False if verify is None else verify()
    if symmetric is not False and apart <= ROUGH * size:
        return
    differs = f"differs by {apart:.2g}, where products have the length {size:.2g}"
    if symmetric:
        raise UsageError(
            "rounding is too large in the products of the operator: what is the same "
            f"by symmetry {differs}; measure a float64 model on float64 inputs, take "
            "an autocast out of its forward, or use another backend."
        )
    raise UsageError(
        f"the operator is not symmetric: what should be the same {differs}; look for "
        "an operation whose derivative is none, such as a custom backward pass that "
        "detaches or rounds, measure in float64 if rounding may be as large, or use "
        "another backend."
    )


def symmetric(H: LinearOperator) -> bool | None:
    """Whether an operator is symmetric but for rounding; None where it is not known."""
    verify = getattr(H, "symmetric_in_float64", None)
    if verify is not None:
        verdict: bool | None = verify()
        return verdict
    with uncast(H):
        return drawn_asymmetry(H) <= asymmetry(H)


def drawn_asymmetry(H: LinearOperator) -> float:
    """Difference of H from its transpose on three random vectors, as a share of H.

    NaN for an operator that multiplies them by zero, or by something not finite.
    """
    generator = seeded(None)
    # No random signs: of a small operator, several may be the same vector.
    vectors = torch.stack([gaussian(H, generator) for _ in range(3)], dim=1)
    images = (H @ vectors).double()
    inner = vectors.mT.double() @ images
    return float((inner - inner.mT).abs().max() / lengths(images).max())


def check_drawn(
    H: LinearOperator, z: Tensor, Hz: Tensor, y: Tensor, Hy: Tensor
) -> None:
    """Compare z' H y with y' H z for random signs, in one column or several.

    Their difference is about as large as that of all entries together.

    Raises:
        UsageError: they differ by more than rounding.
    """
    if not z.numel():
        return
    apart = (z * Hy).sum(0, dtype=torch.float64) - (y * Hz).sum(0, dtype=torch.float64)
    size = torch.maximum(lengths(Hz), lengths(Hy))
    # Products have the same bits in all processes that work on H.
    check_symmetry(H, *torch.stack([apart.abs().max(), size.max()]).tolist())
