"""Norms, inner products and scaling of all tensors of a model as one vector.

Shape letters: P tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steppe.parameters import whole


def joint_norm(tensors: list[Tensor]) -> Tensor:
    """L2 norm over all entries of all tensors, shape (), summed in float32 or more."""
    if not tensors:
        return torch.zeros((), device="cpu")
    tensors = [t.coalesce().values() if t.is_sparse else t for t in tensors]
    device = tensors[0].device
    # In half precision the sum of squares overflows (float16) or stops growing at 256
    # equal terms (bfloat16).
    half = {torch.float16, torch.bfloat16}
    dtypes = [torch.float32 if t.dtype in half else None for t in tensors]
    if any(dtypes):
        norms = [
            torch.linalg.vector_norm(t, dtype=dtype)
            for t, dtype in zip(tensors, dtypes, strict=True)
        ]
    else:
        norms = list(torch._foreach_norm(tensors))
    widest = max((n.dtype for n in norms), key=lambda dtype: dtype.itemsize)
    joined = torch.stack([n.to(device, widest) for n in norms])
    return whole(torch.linalg.vector_norm(joined))


def joint_dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Inner product over all entries, shape (), summed in float32 or more.

    A complex entry counts as two real ones, as it does in `joint_norm`.
    """
    if not left:
        return torch.zeros((), device="cpu")
    parts = [_dot(a, b) for a, b in zip(left, right, strict=True)]
    return whole(torch.stack([part.to(parts[0].device) for part in parts]).sum())


def _dot(one: Tensor, other: Tensor) -> Tensor:
    if one.is_complex():
        one, other = (torch.view_as_real(t.resolve_conj()) for t in (one, other))
    wide = torch.promote_types(one.dtype, torch.float32)
    flat = one.is_contiguous() and other.is_contiguous()
    if flat and one.dtype == wide and not hasattr(one, "to_local"):
        return torch.dot(one.view(-1), other.view(-1))  # needs no copy
    return (one.to(wide) * other).sum()


def scaled_(tensors: list[Tensor], rho: Sequence[float], norm: Tensor) -> list[Tensor]:
    """Multiply tensors by rho / norm in place, without a host sync on a GPU.

    A norm of zero gives zero; on a CPU, so does one that is not finite.

    Args:
        tensors: P tensors.
        rho: P factors.
        norm: shape ().
    """
    if norm.device.type == "cpu" and not norm.isfinite():
        # Elsewhere this look would be a host sync; there NaN moves the weights, which
        # come back, as running statistics do where the optimizer knows the model.
        torch._foreach_zero_(tensors)
        return tensors
    inverse = 1.0 / (norm + 1e-12)
    # One kernel for all tensors of a radius and device, instead of one for each.
    kinds: dict[tuple[float, torch.device], list[Tensor]] = {}
    for tensor, radius in zip(tensors, rho, strict=True):
        kinds.setdefault((radius, tensor.device), []).append(tensor)
    for (radius, device), group in kinds.items():
        torch._foreach_mul_(group, (inverse * radius).to(device))
    return tensors
