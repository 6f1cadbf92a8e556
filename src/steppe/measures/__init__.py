"""Measures of flatness: frozen settings, called on an objective.

A measure is one module in a folder beside this one that adds a class to `MEASURES`; the
class is then `steppe.measures.<Class>`, and its name works in `measure`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from steppe.errors import SettingError, SteppeError, brief, check_integer
from steppe.measures.abstract import MEASURES as MEASURES
from steppe.measures.abstract import AbstractMeasure as AbstractMeasure
from steppe.measures.abstract import seed_from
from steppe.measures.consequences.bfloat16_rounding import (
    Bfloat16Rounding as Bfloat16Rounding,
)
from steppe.measures.consequences.pruning import Pruning as Pruning
from steppe.measures.consequences.rounding import Rounding as Rounding
from steppe.measures.families import ungrouped
from steppe.measures.gradients.batch_sharpness import BatchSharpness as BatchSharpness
from steppe.measures.gradients.critical_sharpness import (
    CriticalSharpness as CriticalSharpness,
)
from steppe.measures.gradients.directional_sharpness import (
    DirectionalSharpness as DirectionalSharpness,
)
from steppe.measures.gradients.empirical_fisher_trace import (
    EmpiricalFisherTrace as EmpiricalFisherTrace,
)
from steppe.measures.gradients.fisher_trace import FisherTrace as FisherTrace
from steppe.measures.gradients.gradient_noise import GradientNoise as GradientNoise
from steppe.measures.gradients.gradient_norm import GradientNorm as GradientNorm
from steppe.measures.gradients.gsnr import GSNR as GSNR
from steppe.measures.gradients.noise_scale import NoiseScale as NoiseScale
from steppe.measures.measurement import Measurement as Measurement
from steppe.measures.measurement import Weights
from steppe.measures.norms.distance_from_start import (
    DistanceFromStart as DistanceFromStart,
)
from steppe.measures.norms.frobenius_norms import FrobeniusNorms as FrobeniusNorms
from steppe.measures.norms.frobenius_over_spectral import (
    FrobeniusOverSpectral as FrobeniusOverSpectral,
)
from steppe.measures.norms.inverse_margin import InverseMargin as InverseMargin
from steppe.measures.norms.pac_bayes_complexity import (
    PACBayesComplexity as PACBayesComplexity,
)
from steppe.measures.norms.pac_bayes_flatness import (
    PACBayesFlatness as PACBayesFlatness,
)
from steppe.measures.norms.parameter_count import ParameterCount as ParameterCount
from steppe.measures.norms.parameter_norm import ParameterNorm as ParameterNorm
from steppe.measures.norms.path_norm import PathNorm as PathNorm
from steppe.measures.norms.spectral_complexity import (
    SpectralComplexity as SpectralComplexity,
)
from steppe.measures.norms.spectral_norms import SpectralNorms as SpectralNorms
from steppe.measures.pairs.barrier import Barrier as Barrier
from steppe.measures.perturbed.epsilon_sharpness import (
    EpsilonSharpness as EpsilonSharpness,
)
from steppe.measures.perturbed.local_entropy import LocalEntropy as LocalEntropy
from steppe.measures.perturbed.local_entropy_gradient import (
    LocalEntropyGradient as LocalEntropyGradient,
)
from steppe.measures.perturbed.lpf import LPF as LPF
from steppe.measures.perturbed.pac_bayes import PACBayes as PACBayes
from steppe.measures.perturbed.pac_bayes_bound import PACBayesBound as PACBayesBound
from steppe.measures.planning import serve_together
from steppe.measures.posterior.llc import LLC as LLC
from steppe.measures.spectral.bottom_eigenvalue import (
    BottomEigenvalue as BottomEigenvalue,
)
from steppe.measures.spectral.effective_dimension import (
    EffectiveDimension as EffectiveDimension,
)
from steppe.measures.spectral.fisher_rao import FisherRao as FisherRao
from steppe.measures.spectral.frobenius_norm import FrobeniusNorm as FrobeniusNorm
from steppe.measures.spectral.minimum_sharpness import (
    MinimumSharpness as MinimumSharpness,
)
from steppe.measures.spectral.normalized_sharpness import (
    NormalizedSharpness as NormalizedSharpness,
)
from steppe.measures.spectral.relative_flatness import (
    RelativeFlatness as RelativeFlatness,
)
from steppe.measures.spectral.ritz_sum import RitzSum as RitzSum
from steppe.measures.spectral.top_eigenvalue import TopEigenvalue as TopEigenvalue
from steppe.measures.spectral.trace import Trace as Trace
from steppe.measures.tails.bulk_excess import BulkExcess as BulkExcess
from steppe.measures.tails.heavy_tails import HeavyTails as HeavyTails
from steppe.measures.tails.log_matrix_norm import LogMatrixNorm as LogMatrixNorm
from steppe.measures.tails.shuffling_distance import (
    ShufflingDistance as ShufflingDistance,
)
from steppe.measures.tails.stable_rank import StableRank as StableRank
from steppe.measures.values.loss import Loss as Loss
from steppe.measures.values.shannon_entropy import ShannonEntropy as ShannonEntropy
from steppe.measures.worst_case.asam_sharpness import ASAMSharpness as ASAMSharpness
from steppe.measures.worst_case.average_sharpness import (
    AverageSharpness as AverageSharpness,
)
from steppe.measures.worst_case.keskar_sharpness import (
    KeskarSharpness as KeskarSharpness,
)
from steppe.measures.worst_case.robust_flatness import RobustFlatness as RobustFlatness
from steppe.measures.worst_case.sam_sharpness import SAMSharpness as SAMSharpness
from steppe.measures.worst_case.surrogate_gap import SurrogateGap as SurrogateGap
from steppe.measures.worst_case.worst_sharpness import WorstSharpness as WorstSharpness
from steppe.objective import Objective, check_objective
from steppe.registry.packages import offer
from steppe.registry.registry import Choice, one_line
from steppe.results import Estimate, Estimates

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
    start: Weights | None = None,
    other: Weights | None = None,
    known: Mapping[str, Estimate] | None = None,
    progress: Callable[[int, int], None] | None = None,
    finished: Callable[[str, Estimate], None] | None = None,
) -> Estimates:
    """Measure several quantities of one objective, which share passes and products.

    A result is the same, to the last bit, whichever other measures run: all random
    streams follow from the seed, and what measures share is a function of it alone.
    The cost of each is that of measuring it alone.

    Args:
        objective: the mean loss to measure at its present parameters.
        measures: names ("lpf"), names with settings ("lpf:sigma=0.02"), measures, or
            groups: "all" or a family such as "spectral".
        generator: where the seed is drawn from, once; None to use `seed`.
        seed: of the random streams of all measures.
        start: network, or its state_dict, at the start of the training, for measures
            that need it.
        other: second network of the same structure, or its state_dict.
        known: estimates of an earlier call, by key; they are not measured again.
        progress: called with the number of measures done and of all.
        finished: called with the key and the estimate of each measure that was
            measured, so that it can be saved.

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
        seed = seed_from(generator)
    # All measures are built before the first one runs, so that a typing error in the
    # last of them does not cost the work of the others.
    wanted = build_all(measures)
    known = known or {}
    todo = {key: built for key, built in wanted.items() if key not in known}
    estimates: dict[str, Estimate] = {}
    errors: list[Exception] = []
    measurement = Measurement(objective, seed, start=start, other=other)
    if todo:
        serve_together(todo.values(), measurement)
    for done, (key, built) in enumerate(wanted.items()):
        if progress is not None:
            progress(done, len(wanted))
        if key in known:
            estimates[key] = known[key]
            continue
        try:
            estimates[key] = built.within(measurement)
        except (SteppeError, torch.OutOfMemoryError) as error:
            # What is finished, and what comes after, is worth having without it.
            errors.append(error)
            estimates[key] = refused(built, error)
        if finished is not None:
            finished(key, estimates[key])
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
    for asked in ungrouped(listed(measures)):
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
        units=measure.units,
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
