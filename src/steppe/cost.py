"""Work that a measurement takes, in passes over the data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

GRADIENT, PRODUCT = 3.0, 7.0  # forward passes that one takes, about


@dataclass(frozen=True)
class Cost:
    """Work done, in passes over the whole data of an objective."""

    forwards: float = 0.0
    gradients: float = 0.0  # a forward and a backward pass each
    products: float = 0.0  # Hessian-vector products

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forwards + other.forwards,
            self.gradients + other.gradients,
            self.products + other.products,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.forwards, -other.gradients, -other.products)

    def scaled(self, factor: float) -> Cost:
        """The same work on data of another size."""
        return Cost(*(factor * number for number in dataclasses.astuple(self)))

    def rounded(self) -> Cost:
        """The same to nine decimals, so that sums do not depend on their order."""
        return Cost(*(round(number, 9) for number in dataclasses.astuple(self)))

    @property
    def in_forwards(self) -> float:
        """About as many forward passes as take the time of all of the work."""
        return self.forwards + GRADIENT * self.gradients + PRODUCT * self.products

    def __str__(self) -> str:
        names = ("forward pass", "gradient", "Hessian product")
        ends = ("es", "s", "s")
        said = (
            f"{n:.4g} {name}{'' if n == 1 else end}"
            for n, name, end in zip(dataclasses.astuple(self), names, ends, strict=True)
            if n
        )
        return ", ".join(said) or "nothing"


NOTHING = Cost()
