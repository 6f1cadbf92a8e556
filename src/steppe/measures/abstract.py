"""Measures of flatness: the base class, and the registry of all."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import torch

from steppe.objective import Objective
from steppe.registry.bounds import Ranges, check_bounds
from steppe.registry.registry import Choice, Registry
from steppe.registry.specs import MeasureSpec
from steppe.results import Estimate

MEASURES: Registry[MeasureSpec] = Registry("measure", MeasureSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractMeasure(abc.ABC):
    """Settings of a measure; calling it on an objective is the measurement.

    A measure leaves the model unchanged: parameters, buffers, gradients, modes and
    random state, also after an exception. Randomness comes from the generator alone.
    """

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers

    def __post_init__(self) -> None:
        check_bounds(self.settings(), self.bounds)

    @abc.abstractmethod
    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Measure.

        Args:
            objective: the mean loss to measure at its present parameters.
            generator: of the random draws; None for seed 0 on the CPU.
        """

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return dataclasses.asdict(self)

    def choice(self) -> Choice:
        """Registered name and settings; the class name where it is not registered."""
        names = (entry.name for entry in MEASURES if entry.make is type(self))
        return Choice(next(names, type(self).__name__), self.settings())

    def details(self, objective: Objective, **results: Any) -> dict[str, Any]:
        """Objective and settings that the estimate depends on, with further results."""
        return {**objective.details, **self.settings(), **results}
