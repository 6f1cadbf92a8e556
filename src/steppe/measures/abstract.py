"""Measures of flatness: the base class, and the registry of all."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch

from steppe.errors import UsageError, check_choice, check_switch
from steppe.linalg.probes import check_generator, drawn_seed
from steppe.measures.measurement import Measurement, Need, Weights
from steppe.objective import Objective, check_objective
from steppe.registry.bounds import Ranges, check_bounds
from steppe.registry.registry import Choice, Registry
from steppe.registry.specs import MeasureSpec
from steppe.results import Estimate

MEASURES: Registry[MeasureSpec] = Registry("measure", MeasureSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractMeasure(abc.ABC):
    """Settings of a measure; calling it on an objective is the measurement.

    A measure leaves the model unchanged: parameters, buffers, gradients, modes and
    random state, also after an exception. Randomness comes from the streams of the
    measurement alone.
    """

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers
    uses_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_bounds(self.settings(), self.bounds)
        choices = _choices(type(self))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(each.default, bool):
                check_switch(each.name, value)
            elif each.name in choices:
                check_choice(each.name, value, choices[each.name])

    @abc.abstractmethod
    def needs(self) -> Sequence[Need[Any]]:
        """Needs that are known in advance, so that one pass can serve several."""

    @abc.abstractmethod
    def estimate(self, measurement: Measurement) -> Estimate:
        """Measure within a measurement, whose needs other measures share.

        Args:
            measurement: with the objective, its needs and random streams.

        Returns:
            Value and error; `details` are results beside them. Units, cost and the
            settings are added by `within`.
        """

    def __call__(
        self,
        objective: Objective,
        *,
        generator: torch.Generator | None = None,
        start: Weights | None = None,
        other: Weights | None = None,
    ) -> Estimate:
        """Measure.

        Args:
            objective: the mean loss to measure at its present parameters.
            generator: where the seed of the random draws comes from; None for seed 0.
            start: network, or its state_dict, at the start of the training.
            other: second network of the same structure, or its state_dict.
        """
        check_objective(objective, type(self).__name__)
        seed = seed_from(generator)
        return self.within(Measurement(objective, seed, start=start, other=other))

    def within(self, measurement: Measurement) -> Estimate:
        """The estimate with its cost, its units and all that it is a function of."""
        with measurement.account() as account:
            estimate = self.estimate(measurement)
        if not isinstance(estimate, Estimate):  # of a measure of the user
            raise UsageError(
                f"estimate() of {type(self).__name__} must return a steppe.Estimate, "
                f"got {type(estimate).__name__}; return steppe.Estimate(value=...)."
            )
        work = measurement.work_of(account)
        data = measurement.objective.details if self.uses_data else {}
        return dataclasses.replace(
            estimate,
            cost=work.cost,
            seconds=work.seconds,
            units=self.units,
            details={
                **data,
                "seed": measurement.seed,
                **self.settings(),
                **estimate.details,
            },
        )

    def stream(self, measurement: Measurement) -> torch.Generator:
        """Random stream of this measure alone."""
        return measurement.stream(self.choice().name)

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return dataclasses.asdict(self)

    def choice(self) -> Choice:
        """Registered name and settings; the class name where it is not registered."""
        for entry in MEASURES:
            if entry.make is type(self):
                # As a text would choose it: later settings at defaults are left out.
                return MEASURES.choose(entry.name, self.settings())
        return Choice(type(self).__name__, self.settings())

    @property
    def units(self) -> str:
        """Of the value; empty for a measure that is not registered."""
        name = self.choice().name
        return MEASURES[name].spec.units if name in MEASURES.names() else ""


@functools.cache
def _choices(measure: type) -> dict[str, tuple[Any, ...]]:
    """Values of the settings that are one of a few, by the names of the settings."""
    hints = get_type_hints(measure)
    return {name: get_args(h) for name, h in hints.items() if get_origin(h) is Literal}


def seed_from(generator: torch.Generator | None) -> int:
    """The seed that a generator gives next; 0 for None."""
    if generator is None:
        return 0
    check_generator(generator)
    return drawn_seed(generator)
