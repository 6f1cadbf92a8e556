"""Protocols of a symmetric matrix that algorithms ask for, and its random vectors.

Shape letters: D parameters in all, K columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from steppe.errors import SettingError, UsageError, brief
from steppe.linalg.precision import full_float32
from steppe.results import Diagonal, Estimate

ROUGH = 0.1  # rounding, as a share of the products, that results show as well


class LinearOperator(Protocol):
    """A square symmetric matrix known by its products; a dense tensor is one too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, D)."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors it takes and gives."""
        ...

    @property
    def device(self) -> torch.device:
        """Of the vectors it takes and gives."""
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


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """The generator given, or a fresh one on the CPU with seed 0."""
    if generator is None:
        return torch.Generator().manual_seed(0)
    check_generator(generator)
    return generator


def check_generator(generator: Any) -> None:
    """Refuse anything but a generator, such as a seed."""
    if not isinstance(generator, torch.Generator):
        raise SettingError(
            f"generator must be a torch.Generator, got {brief(generator)}; make one "
            "with torch.Generator().manual_seed(0)."
        )


def check_tensor(name: str, value: Any) -> None:
    """Refuse anything but a tensor of real numbers."""
    if not isinstance(value, Tensor) or value.is_complex():
        raise SettingError(
            f"{name} must be a torch tensor of real numbers, got {brief(value)}."
        )


def gaussian(H: LinearOperator, generator: torch.Generator) -> Tensor:
    """One standard normal vector for H, shape (D,)."""
    size, device = (dimension(H),), generator.device
    # Drawn where the generator lives, so that a CPU seed means the same on a GPU.
    drawn = torch.randn(size, generator=generator, device=device)
    return drawn.to(device=H.device, dtype=H.dtype)


def rademacher(H: LinearOperator, columns: int, generator: torch.Generator) -> Tensor:
    """Vectors of independent random signs for H, shape (D, columns)."""
    # One column per row of the draw: splitting a block keeps the vectors the same.
    size, device = (columns, dimension(H)), generator.device
    bits = torch.randint(0, 2, size, generator=generator, device=device)
    return bits.mul_(2).sub_(1).to(device=H.device, dtype=H.dtype).T
