"""Measures of flatness: frozen settings, called on an objective.

A measure is one module beside this one that adds a class to `MEASURES`; the class is
then `steppe.measures.<Class>`, and its name works in `measure`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import torch

from steppe.errors import SettingError, SteppeError, brief, check_integer
from steppe.linalg.probes import check_generator
from steppe.measures.abstract import MEASURES as MEASURES
from steppe.measures.abstract import AbstractMeasure as AbstractMeasure
from steppe.measures.loss import Loss as Loss
from steppe.measures.lpf import LPF as LPF
from steppe.measures.minimum_sharpness import MinimumSharpness as MinimumSharpness
from steppe.measures.top_eigenvalue import TopEigenvalue as TopEigenvalue
from steppe.measures.trace import Trace as Trace
from steppe.objective import Objective, check_objective
from steppe.registry.packages import offer
from steppe.registry.registry import Choice, one_line
from steppe.results import Estimate, Estimates
from steppe.seeds import seed_named, stream

OF_THE_USER = (
    "give module:Class of a steppe.measures.AbstractMeasure, or a function that returns"
    " one"
)

offer(__name__, MEASURES)


def measure(
    objective: Objective,
    measures: Iterable[str | Choice | AbstractMeasure],
    *,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> Estimates:
    """Measure several quantities of one objective, which share operators.

    Every measure has a generator of its own, made from the seed and its name: its
    result does not depend on which others run.

    Args:
        objective: the mean loss to measure at its present parameters.
        measures: names ("lpf"), names with settings ("lpf:sigma=0.02"), or measures.
        generator: where the seed is drawn from, once; None to use `seed`.
        seed: of the generators of all measures.

    Returns:
        An estimate for each, in the order given: a mapping that prints as a table and
        has `to_dict()` and `rows()`. The key is the text given, or
        `name:setting=value,...` for a measure. One that this network or its memory
        does not allow has the value NaN, and its `refusal` says why.

    Raises:
        UnknownNameError: no measure of that name.
        SettingError: a setting of the wrong name, type or range, or a measure that is
            asked for twice.
        SteppeError: the first refusal, where nothing could be measured.
    """
    check_objective(objective, "measure()")
    check_integer("seed", seed)
    if generator is not None:
        check_generator(generator)
        drawn = torch.randint(2**62, (), generator=generator, device=generator.device)
        seed = int(drawn)
    wanted = build_all(measures)
    estimates: dict[str, Estimate] = {}
    errors: list[Exception] = []
    # All measures are built before the first one runs, so that a typing error in the
    # last of them does not cost the work of the others.
    with objective.sharing():
        for key, built in wanted.items():
            try:
                estimate = built(objective, generator=_own(built, seed))
                estimates[key] = dataclasses.replace(estimate, units=_units(built))
            except (SteppeError, torch.OutOfMemoryError) as error:
                # What is finished, and what comes after, is worth having without it.
                errors.append(error)
                estimates[key] = refused(built, error)
    if errors and len(errors) == len(estimates):
        raise errors[0]
    return Estimates(estimates)


def build_all(
    measures: Iterable[str | Choice | AbstractMeasure],
) -> dict[str, AbstractMeasure]:
    """Measures by their text, in the order given.

    Raises:
        UnknownNameError: no measure of that name.
        SettingError: what `build` refuses, or a measure that is asked for twice.
    """
    wanted: dict[str, AbstractMeasure] = {}
    for asked in listed(measures):
        key, built = _keyed(asked)
        if key in wanted:
            raise SettingError(f"'{key}' is asked for twice; give each measure once.")
        wanted[key] = built
    return wanted


def build(given: str | Choice) -> AbstractMeasure:
    """The measure that a text or a choice says.

    Raises:
        UnknownNameError: no measure of that name.
        SettingError: a setting of the wrong name, type or range, or code of the user
            that makes no measure.
    """
    try:
        built = MEASURES.build(given)
    except SteppeError:
        raise
    except (Exception, SystemExit) as error:  # code of the user
        raise SettingError(
            f"measure {given} failed ({one_line(error)}); mend that code; "
            f"{OF_THE_USER}."
        ) from error
    if not isinstance(built, AbstractMeasure):
        raise SettingError(
            f"measure {given} must be a steppe.measures.AbstractMeasure, got "
            f"{brief(built)}; {OF_THE_USER}."
        )
    return built


def refused(measure: AbstractMeasure, error: Exception) -> Estimate:
    """The estimate of a measure that an error ended: NaN, and the reason."""
    return Estimate(
        value=math.nan,
        stderr=math.nan,
        converged=False,
        details=measure.settings(),
        units=_units(measure),
        refusal=str(error) if isinstance(error, SteppeError) else one_line(error),
    )


def listed(measures: Any) -> list[Any]:
    """Measures as a list, one that stands alone too."""
    if isinstance(measures, str | Choice | AbstractMeasure):
        return [measures]
    if not isinstance(measures, Iterable):
        raise SettingError(
            "measures must be a list of names or measures, such as ['trace', 'lpf'], "
            f"got {brief(measures)}."
        )
    return list(measures)


def _keyed(asked: str | Choice | AbstractMeasure) -> tuple[str, AbstractMeasure]:
    if isinstance(asked, AbstractMeasure):
        return str(asked.choice()), asked
    if isinstance(asked, type):
        raise SettingError(
            "a measure is given by name or as an object, got the class "
            f"{asked.__name__}; write {asked.__name__}()."
        )
    if not isinstance(asked, str | Choice):
        raise SettingError(
            "a measure is given by name or as an object such as LPF(sigma=0.02), "
            f"got {brief(asked)}."
        )
    return str(asked), build(asked)


def _units(built: AbstractMeasure) -> str:
    name = built.choice().name
    return MEASURES[name].spec.units if name in MEASURES.names() else ""


def _own(built: AbstractMeasure, seed: int) -> torch.Generator:
    # By name, not by position: a measure draws the same numbers whichever others run.
    return stream(seed_named(f"{seed}:{built.choice().name}"))
