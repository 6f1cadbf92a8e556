"""Symmetric operators that can be scaled, added and handed to other libraries.

Shape letters: D parameters in all, K columns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from steppe.errors import SettingError, UsageError
from steppe.linalg.protocols import LinearOperator, agreed, dimension
from steppe.linalg.symmetry import asymmetry, symmetric


class AbstractOperator(ABC):
    """A square symmetric matrix known by its products, with arithmetic.

    `a * H`, `H / a`, `-H`, `H + G` and `H - G` are operators again, where G is another
    operator, a dense tensor or anything else with `shape`, `dtype`, `device` and `@`.
    """

    __array_ufunc__ = None  # numpy leaves arithmetic with its numbers to this class

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(D, D)."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Of its vectors and products."""

    @abstractmethod
    def _multiply(self, block: Tensor) -> Tensor:
        """Product with a block, shape (D, K), of the dtype and on the device."""

    @property
    def T(self) -> Self:  # noqa: N802
        """The transpose, which is the operator itself."""
        return self

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Product with a vector, shape (D,), or a block, shape (D, K).

        Raises:
            SettingError: another shape, or no tensor of real numbers.
        """
        size = self.shape[0]
        if not isinstance(other, Tensor) or other.is_complex():
            kind = other.dtype if isinstance(other, Tensor) else type(other).__name__
            raise SettingError(
                f"an operator multiplies a torch tensor of real numbers, got {kind}; "
                "to_scipy() gives one that takes arrays of numpy."
            )
        if other.dim() not in (1, 2) or other.shape[0] != size:
            raise SettingError(
                f"H of shape {self.shape} multiplies a vector ({size},) or a "
                f"block ({size}, K), got {tuple(other.shape)}."
            )
        block = other.to(device=self.device, dtype=self.dtype).detach()
        products = self._multiply(
            block.reshape(size, -1) if other.dim() == 1 else block
        )
        return products[:, 0] if other.dim() == 1 else products

    def __rmatmul__(self, other: Tensor, /) -> Tensor:
        """Product of a row vector, shape (D,), or of rows, shape (K, D), with this."""
        return (self.T @ other.T).T if other.dim() == 2 else self.T @ other

    def __mul__(self, factor: float) -> Combination:
        return Combination([(_number(factor), self)])

    def __rmul__(self, factor: float) -> Combination:
        return self * factor

    def __truediv__(self, divisor: float) -> Combination:
        if not _number(divisor):
            raise SettingError("an operator cannot be divided by 0.")
        return self * (1 / _number(divisor))

    def __neg__(self) -> Combination:
        return self * -1.0

    def __add__(self, other: LinearOperator) -> Combination:
        return Combination([(1.0, self), (1.0, _matrix(other))])

    def __radd__(self, other: LinearOperator) -> Combination:
        return Combination([(1.0, _matrix(other)), (1.0, self)])

    def __sub__(self, other: LinearOperator) -> Combination:
        return Combination([(1.0, self), (-1.0, _matrix(other))])

    def __rsub__(self, other: LinearOperator) -> Combination:
        return Combination([(1.0, _matrix(other)), (-1.0, self)])

    def to_scipy(self, dtype: Any = np.float32) -> Any:
        """The same operator for `scipy.sparse.linalg`, on arrays in main memory.

        Args:
            dtype: of the arrays. Single precision needs fewer products in `eigsh` of
                scipy than double, which asks for 16 digits of an operator of 7.

        Raises:
            UsageError: scipy is not installed.
        """
        try:
            from scipy.sparse.linalg import LinearOperator as ScipyOperator
        except ImportError as error:
            raise UsageError(
                "to_scipy needs scipy: pip install scipy, or use steppe.eigsh."
            ) from error

        def multiply(array: Any) -> Any:
            block = torch.from_numpy(np.ascontiguousarray(array))
            return (self @ block).to("cpu").numpy().astype(dtype, copy=False)

        return ScipyOperator(
            self.shape,
            matvec=lambda vector: multiply(vector.reshape(-1)),
            rmatvec=lambda vector: multiply(vector.reshape(-1)),
            matmat=multiply,
            rmatmat=multiply,
            dtype=np.dtype(dtype),
        )


class Combination(AbstractOperator):
    """A sum of operators, each with a factor.

    Args:
        terms: factors and operators; anything with `shape`, `dtype`, `device` and `@`.

    Raises:
        SettingError: operators of different shapes, dtypes or devices.
    """

    def __init__(self, terms: Sequence[tuple[float, LinearOperator]]) -> None:
        flat: list[tuple[float, LinearOperator]] = []
        for factor, term in terms:
            inner = term.terms if isinstance(term, Combination) else ((1.0, term),)
            flat.extend((factor * a, part) for a, part in inner)
        self.terms: tuple[tuple[float, LinearOperator], ...] = tuple(flat)
        first = self.terms[0][1]
        for _, other in self.terms:
            for fact in ("shape", "dtype", "device"):
                mine, its = getattr(first, fact), getattr(other, fact)
                if tuple(mine) != tuple(its) if fact == "shape" else mine != its:
                    raise SettingError(
                        f"operators that are added must have one {fact}, got {mine} "
                        f"and {its}."
                    )

    @property
    def shape(self) -> tuple[int, int]:
        """(D, D)."""
        size = dimension(self.terms[0][1])
        return size, size

    @property
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""
        return self.terms[0][1].dtype

    @property
    def device(self) -> torch.device:
        """Of its vectors and products."""
        return self.terms[0][1].device

    @property
    def asymmetry(self) -> float:
        """How far products may be from symmetric; infinite where terms may cancel."""
        # A difference of large matrices has rounding errors of their size, not its own.
        if any(factor < 0 for factor, _ in self.terms) and len(self.terms) > 1:
            return math.inf
        return max(asymmetry(term) for _, term in self.terms)

    def symmetric_in_float64(self) -> bool | None:
        """Whether all terms are symmetric but for rounding; None where not known."""
        verdicts = [symmetric(term) for _, term in self.terms]
        return False if False in verdicts else None if None in verdicts else True

    def agreed(self, values: Tensor) -> Tensor:
        """The same values in every process that works on one of the terms."""
        for _, term in self.terms:
            values = agreed(term, values)
        return values

    def _multiply(self, block: Tensor) -> Tensor:
        total = torch.zeros_like(block)
        for factor, term in self.terms:
            total.add_(term @ block, alpha=factor)
        return total


class Rescaled(AbstractOperator):
    """An operator in other coordinates: S H S with a diagonal matrix S.

    Args:
        inner: H.
        scales: diagonal of S, shape (D,), of the dtype and on the device of H.
    """

    def __init__(self, inner: LinearOperator, scales: Tensor) -> None:
        self.inner = inner
        self.scales = scales

    @property
    def shape(self) -> tuple[int, int]:
        """(D, D)."""
        size = dimension(self.inner)
        return size, size

    @property
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""
        return self.inner.dtype

    @property
    def device(self) -> torch.device:
        """Of its vectors and products."""
        return self.inner.device

    @property
    def asymmetry(self) -> float:
        """How far products may be from symmetric by rounding: as those of H."""
        return asymmetry(self.inner)

    def symmetric_in_float64(self) -> bool | None:
        """Whether H is symmetric but for rounding; None where that is not known."""
        return symmetric(self.inner)

    def agreed(self, values: Tensor) -> Tensor:
        """The same values in every process that works on H."""
        return agreed(self.inner, values)

    def _multiply(self, block: Tensor) -> Tensor:
        scales = self.scales.unsqueeze(1)
        rescaled: Tensor = scales * (self.inner @ (scales * block))
        return rescaled


class _Sized(AbstractOperator):
    """An operator of a stated shape, dtype and device."""

    def __init__(
        self, size: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        if size < 1:
            raise SettingError(f"size must be >= 1, got {size}.")
        if not dtype.is_floating_point:
            raise SettingError(f"an operator must have a floating dtype, got {dtype}.")
        self._size = size
        self._dtype = dtype
        self._device = torch.empty(0, device=device).device

    @property
    def shape(self) -> tuple[int, int]:
        """(D, D)."""
        return self._size, self._size

    @property
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Of its vectors and products."""
        return self._device


class Identity(_Sized):
    """The identity matrix, such as for damping: `H + 0.1 * Identity(size)`.

    Args:
        size: D.
        dtype: of the vectors.
        device: of the vectors.

    Raises:
        SettingError: a size below 1, or no floating dtype.

    Example:
        >>> (2 * Identity(2) @ torch.tensor([1.0, 3.0])).tolist()
        [2.0, 6.0]
    """

    def __init__(
        self,
        size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(size, dtype, device)

    def _multiply(self, block: Tensor) -> Tensor:
        return block.clone()


class _Closure(_Sized):
    def __init__(
        self,
        times: Callable[[Tensor], Tensor],
        size: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        super().__init__(size, dtype, device)
        self._times = times

    def _multiply(self, block: Tensor) -> Tensor:
        products = torch.empty_like(block)
        for column, vector in enumerate(block.unbind(1)):
            product = self._times(vector)
            if not isinstance(product, Tensor) or product.shape != vector.shape:
                shape = getattr(product, "shape", type(product).__name__)
                raise SettingError(
                    "the function of an operator must give a vector like the one it "
                    f"takes, shape ({len(vector)},), got {shape}."
                )
            products[:, column] = product
        return products


def operator(
    times: Callable[[Tensor], Tensor],
    size: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> AbstractOperator:
    """A symmetric operator from a function that multiplies a vector with it.

    Args:
        times: gives the product, shape (D,), with a vector, shape (D,).
        size: D.
        dtype: of the vectors.
        device: of the vectors.

    Raises:
        SettingError: a size below 1, or no floating dtype.

    Example:
        >>> H = operator(lambda vector: 3 * vector, 2)
        >>> (H @ torch.tensor([1.0, 2.0])).tolist()
        [3.0, 6.0]
    """
    return _Closure(times, size, dtype, device)


def _number(factor: Any) -> float:
    try:
        number = float(factor)
    except (TypeError, ValueError) as error:
        raise SettingError(
            "an operator is scaled by one number, got "
            f"{type(factor).__name__}; products with vectors are written H @ v."
        ) from error
    if not math.isfinite(number):
        raise SettingError(f"an operator is scaled by a finite number, got {number}.")
    return number


def _matrix(other: Any) -> LinearOperator:
    if not all(hasattr(other, name) for name in ("shape", "dtype", "device")):
        raise SettingError(
            f"an operator is added to operators and matrices, got "
            f"{type(other).__name__}; a number b is added as b * Identity(size)."
        )
    matrix: LinearOperator = other
    return matrix
