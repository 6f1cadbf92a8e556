"""A number with its standard error, its cost and its settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar, TypeGuard

from steppe.cost import NOTHING, Cost
from steppe.errors import DataError, UsageError, brief
from steppe.results.plain import plain
from steppe.results.student import check_level, student_quantile
from steppe.results.tables import with_error


@dataclass(frozen=True, kw_only=True, repr=False)
class Estimate:
    """A number, and how far to trust it.

    Estimates are added, subtracted and scaled by numbers with their errors, which are
    taken as independent: variances add. For two objectives measured on the same data
    they are not; see `steppe.compare`. The sum of two has as many samples as have its
    degrees of freedom (Satterthwaite, 1946, doi:10.2307/3002019), rounded down.

    As text the number is rounded by its error; a format such as `f"{estimate:.3g}"`
    is that of both numbers, and one without a type, such as `f"{estimate:>20}"`, that
    of the text.

    Example:
        >>> a = Estimate(value=0.2345, stderr=0.03, samples=10, units="loss")
        >>> b = Estimate(value=0.1, stderr=0.04, samples=10, units="loss")
        >>> print(a, f"{a:.3g}", a - b, 100 * a, sep=" | ")
        0.234 ± 0.030 | 0.234 ± 0.03 | 0.13 ± 0.05 | 23.4 ± 3.0
        >>> (a - b).samples  # those of 16.7 degrees of freedom
        17
    """

    value: float
    stderr: float = 0.0  # of `value`; 0.0 when nothing was sampled, inf after one draw
    samples: int = 0  # independent draws behind it; 0 when nothing was sampled
    converged: bool = True  # False when a budget ended before the asked accuracy
    cost: Cost = NOTHING
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of
    refusal: str = ""  # why it could not be measured; the value is NaN then
    units: str = ""  # of the value; empty where they are not known
    # Taken by the measurement alone; two that are equal may have taken other times.
    seconds: float = field(default=0.0, compare=False)

    __array_ufunc__: ClassVar[None] = None  # numbers of numpy leave sums to us

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Ends of the interval that covers the true value with probability `level`.

        Student's t for `samples` - 1 degrees of freedom; the normal distribution where
        a standard error is known without two samples.

        Args:
            level: between 0 and 1.

        Raises:
            SettingError: a level out of range.
        """
        check_level(level)
        if not self.stderr:
            return self.value, self.value
        freedom = self.samples - 1 if self.samples > 1 else math.inf
        half = student_quantile(level, freedom) * self.stderr
        return self.value - half, self.value + half

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**plain({**fields, "cost": dataclasses.asdict(self.cost)})}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Estimate:
        """The estimate that `to_dict` gave.

        A value of None is NaN; so is its standard error, and that of a finite value is
        infinite. The details are plain values.

        Raises:
            DataError: no record of an estimate.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(record, Mapping) or not {"value"} <= set(record) <= names:
            raise DataError(
                "the record of an estimate must be a mapping with a value and fields "
                f"among {', '.join(sorted(names))}, got {brief(record)}."
            )
        fields = dict(record)
        if fields["value"] is None:
            fields["value"] = math.nan
        if "stderr" in fields and fields["stderr"] is None:
            finite = math.isfinite(fields["value"])
            fields["stderr"] = math.inf if finite else math.nan
        return cls(**{**fields, "cost": Cost(**fields.get("cost", {}))})

    def row(self) -> dict[str, Any]:
        """The numbers on one level, as a row of a table has them."""
        return {
            "value": self.value,
            "stderr": self.stderr,
            "samples": self.samples,
            "units": self.units,
            "converged": self.converged,
            **dataclasses.asdict(self.cost),
            "seconds": self.seconds,
            "refusal": self.refusal,
        }

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return format(self, "")

    def __repr__(self) -> str:
        return f"Estimate({self})"

    def __format__(self, spec: str) -> str:
        if spec and spec[-1] not in "eEfFgGn%":
            return format(str(self), spec)
        if self.refusal:
            return f"not measured: {self.refusal}"
        text = with_error(self.value, self.stderr, spec)
        return text if self.converged else f"{text} (unconverged)"

    def __neg__(self) -> Estimate:
        return self * -1

    def __add__(self, other: Estimate | float) -> Estimate:
        if _is_number(other):
            self._check()
            return dataclasses.replace(self, value=self.value + float(other))
        return self._sum(other) if isinstance(other, Estimate) else NotImplemented

    def __sub__(self, other: Estimate | float) -> Estimate:
        if not isinstance(other, Estimate) and not _is_number(other):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: float) -> Estimate:
        if not _is_number(factor):
            return NotImplemented
        self._check()
        return dataclasses.replace(
            self,
            value=self.value * float(factor),
            stderr=self.stderr * abs(float(factor)),
        )

    def __truediv__(self, divisor: float) -> Estimate:
        return self * (1 / divisor) if _is_number(divisor) else NotImplemented

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, number: float) -> Estimate:
        return -self + number

    def _sum(self, other: Estimate) -> Estimate:
        self._check()
        other._check()
        if self.units and other.units and self.units != other.units:
            raise UsageError(
                f"estimates in different units cannot be added: {self.units} and "
                f"{other.units}; scale one of them to the other's units with "
                "dataclasses.replace(estimate, value=..., stderr=..., units=...)."
            )
        shared = {
            name: value
            for name, value in self.details.items()
            if name in other.details and plain(value) == plain(other.details[name])
        }
        return Estimate(
            value=self.value + other.value,
            stderr=math.hypot(self.stderr, other.stderr),
            samples=joint_samples((self, other)),
            converged=self.converged and other.converged,
            cost=self.cost + other.cost,
            details=shared,
            units=self.units or other.units,
        )

    def _check(self) -> None:
        if self.refusal:
            raise UsageError(
                "an estimate that was not measured has no sums or multiples "
                f"({self.refusal.rstrip('.')}); leave it out."
            )


def joint_samples(estimates: tuple[Estimate, ...]) -> int:
    """Samples that have the degrees of freedom of a sum of independent estimates."""
    sampled = [e for e in estimates if e.stderr]
    if not all(math.isfinite(e.stderr) for e in sampled):
        return min(e.samples for e in sampled)
    # An error that is known without two samples is taken as exact.
    doubts = [e for e in sampled if e.samples > 1]
    if not doubts:
        return max((e.samples for e in sampled), default=0)
    largest = max(e.stderr for e in sampled)
    shares = [(e.stderr / largest) ** 2 for e in sampled]
    doubt = sum((e.stderr / largest) ** 4 / (e.samples - 1) for e in doubts)
    if not doubt:  # lost to rounding beside an exact error
        return max(e.samples for e in sampled)
    # A little more, so that rounding does not take one from a whole number.
    return 1 + math.floor(sum(shares) ** 2 / doubt * (1 + 1e-12))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
