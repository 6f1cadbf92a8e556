"""Protocols of a symmetric matrix known by its products.

Shape letters: D parameters in all, K columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from steppe.errors import SettingError, brief
from steppe.linalg.precision import full_float32
from steppe.results import Diagonal, Estimate


class LinearOperator(Protocol):
    """A square symmetric matrix known by its products; a dense tensor is one too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, D)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""
        ...

    @property
    def device(self) -> torch.device:
        """Of its vectors and products."""
        ...

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Product with a vector, shape (D,), or a block, shape (D, K)."""
        ...


# Abilities beyond products. An operator has one by having its attribute; a dense tensor
# or an operator of a user has none of them, and works all the same.


@runtime_checkable
class SupportsExactTrace(Protocol):
    """An operator that may know its trace without products."""

    def exact_trace(self) -> Estimate | None:
        """The trace; None where it is not known after all."""
        ...


@runtime_checkable
class SupportsExactDiagonal(Protocol):
    """An operator that may know its diagonal without products."""

    def exact_diagonal(self) -> Diagonal | None:
        """The diagonal; None where it is not known after all."""
        ...


@runtime_checkable
class Distributed(Protocol):
    """An operator whose data is spread over processes."""

    def agreed(self, values: Tensor) -> Tensor:
        """The values of the first process, in all of them."""
        ...


@runtime_checkable
class Described(Protocol):
    """An operator that names the objective and settings its products depend on."""

    @property
    def details(self) -> Mapping[str, Any]:
        """Settings by name."""
        ...


def dimension(H: LinearOperator) -> int:
    """Number D of rows of a square operator.

    Raises:
        SettingError: no operator, or one not square or not of a floating dtype.
    """
    parts = (getattr(H, name, None) for name in ("dtype", "device", "shape"))
    if not isinstance(next(parts), torch.dtype) or None in parts:
        raise SettingError(
            "an operator is needed, with shape, dtype, device and @, such as "
            "steppe.Hessian(steppe.Objective(model, data)) or a dense tensor, got "
            f"{brief(H)}."
        )
    if not H.dtype.is_floating_point:
        raise SettingError(
            f"an operator must have a floating dtype, got {H.dtype}; keep the real and "
            "imaginary parts of a complex parameter as two."
        )
    shape = tuple(H.shape)
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise SettingError(
            f"an operator must have the shape (D, D) with D >= 1, got {shape}."
        )
    return shape[0]


def widened(H: LinearOperator) -> LinearOperator:
    """A dense tensor in half precision as float32; all other operators as they are.

    The widened matrix is the same one, but its products are rounded less.
    """
    if isinstance(H, Tensor) and torch.finfo(H.dtype).bits < 32:
        return H.float()
    return H


@contextmanager
def uncast(H: LinearOperator) -> Iterator[None]:
    """Keep all bits of float32, whatever autocast or TF32 surrounds the work."""
    plain = torch.autocast(H.device.type, enabled=False, cache_enabled=False)
    with plain, full_float32():
        yield


def product(H: LinearOperator, vectors: Tensor) -> Tensor:
    """`H @ vectors`, refused where it holds an infinity or a NaN.

    Raises:
        SettingError: the product is not finite.
    """
    image = H @ vectors
    if not bool(torch.isfinite(image).all()):
        raise SettingError(
            "the operator gave a product with infinities or NaN; check that the loss "
            "is finite at these parameters, or use a wider dtype such as float64."
        )
    return image


def lengths(vectors: Tensor) -> Tensor:
    """Norms of a vector, shape (), or of columns, shape (K,), in float64.

    Squares of 1e-23 or 1e20 are out of the range of float32.
    """
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=0, dtype=torch.float64)
    return norms


def agreed(H: LinearOperator, values: Tensor) -> Tensor:
    """The same values in every process that works on H, those of the first one.

    Processes that decide on values of their own, which may differ in the last bit,
    would stop at different steps, and wait for each other for ever.
    """
    return H.agreed(values) if _is_distributed(H) else values


def _is_distributed(H: LinearOperator) -> TypeGuard[Distributed]:
    # Asked several times for each product: the answer is cached by class, while
    # isinstance of a protocol looks at all attributes of the object every time.
    return issubclass(type(H), Distributed)


def details_of(H: LinearOperator) -> dict[str, Any]:
    """Objective and settings that the numbers of an operator depend on, if any."""
    return dict(H.details) if isinstance(H, Described) else {}


def check_tensor(name: str, value: Any) -> None:
    """Refuse anything but a tensor of real numbers."""
    if not isinstance(value, Tensor) or value.is_complex():
        raise SettingError(
            f"{name} must be a torch tensor of real numbers, got {brief(value)}."
        )
