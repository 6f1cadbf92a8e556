"""One call for everything about a minimum: spectrum, flatness, consequences, noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from steppe.cost import Cost
from steppe.errors import (
    SteppeError,
    UsageError,
    check_count,
    check_integer,
    check_positive,
)
from steppe.examination.examination import Examination
from steppe.examination.plan import affordable, part_of
from steppe.examination.remarks import remarks_on
from steppe.landscapes.directions.random import has_filters
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.linalg.spectrum import spectrum
from steppe.measures import MEASURES, measure
from steppe.measures.measurement import Measurement
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.objective import Objective, check_objective
from steppe.results import Eigenpairs, Estimate, Estimates, Spectrum
from steppe.seeds import seed_of
from steppe.surfaces import Surface

Progress = Callable[[int, int], None]

SIGMAS = (0.003, 0.01, 0.03)  # of the noise, as a share of the norm of a filter
DRAWS = 8  # of each of them
GROUPS: Mapping[str, Sequence[str]] = {
    "loss": ("loss", "gradient_norm"),
    "loss under noise": [f"lpf:sigma={s},samples={DRAWS}" for s in SIGMAS],
    "rise after": (
        "rounding:bits=4",
        "rounding:bits=3",
        "rounding:bits=2",
        "pruning:share=0.5",
    ),
    "gradient noise": ("gradient_noise", "noise_scale"),
    "weight matrices": ("tail_exponent", "stable_rank"),
}
CURVATURE = "curvature"
LINES, POINTS, RADIUS = 3, 9, 0.5
ALPHA = 1.0  # of the effective dimension, as in the measure
TOLERANCE, FLOOR = 0.05, 0.01  # residual of an eigenvalue, and of one near 0
STEPS, SIGNS, PAIRS = 25, 6, 5  # of the spectrum: products, random signs, eigenvalues

# Forward passes that the parts take; a gradient counts 3, a product 7.
PASSES = 1 + 3 + len(SIGMAS) * DRAWS + 4 + 9 + LINES * POINTS + 4
PASSES_OF_CURVATURE = 3 + 7 * (STEPS + SIGNS)


def examine(
    objective: Objective,
    *,
    samples: int | None = None,
    curvature_samples: int | None = None,
    seconds: float = 100.0,
    seed: int = 0,
    name: str = "network",
    progress: Progress | None = None,
) -> Examination:
    """Examine the parameters of an objective as they are.

    Loss and gradient, the spectrum of the Hessian, the loss under noise at three
    distances, its rise after rounding and pruning, the noise of the gradients, the
    tails of the weight matrices, the loss along three random lines, and remarks that
    say how to read the numbers.

    Args:
        objective: the mean loss of a network.
        samples: that passes over the data take, drawn by the seed; None for as many as
            half of the time allows, which the first batch tells.
        curvature_samples: the same for products with the Hessian, for which the other
            half is.
        seconds: for all of it, about, where the numbers of samples are not given; the
            figures are drawn after that.
        seed: of all draws.
        name: of the network, for table and page.
        progress: called with the number of parts done and of all.

    Returns:
        Examination: prints as a table, and has `html(path)`, `rows()` and `to_dict()`.
        A measure that the network does not allow says so in a line below the table.

    Raises:
        SettingError: a setting out of range.
        UsageError: a parameter that is not finite.
        SteppeError: the first refusal, where not even the loss could be measured.
    """
    check_objective(objective, "examine()")
    for setting, number in (
        ("samples", samples),
        ("curvature_samples", curvature_samples),
    ):
        if number is not None:
            check_count(setting, number, 1)
    check_positive("seconds", seconds)
    check_integer("seed", seed)
    _check_finite(objective)
    start, half = time.perf_counter(), seconds / 2
    samples = samples or affordable(objective, PASSES, half)
    curvature_samples = curvature_samples or affordable(
        objective, PASSES_OF_CURVATURE, half
    )
    data = part_of(objective, samples, seed)
    curved = part_of(objective, curvature_samples, seed)
    before = data.objective.cost
    names = [text for group in GROUPS.values() for text in group]
    parts = len(names) + 2
    # In one measurement, so that passes of several subjects are made once.
    estimates = measure(
        data.objective, names, seed=seed, progress=partial(_tell, progress, parts)
    )
    if estimates["loss"].refusal:
        measure(data.objective, ["loss"], seed=seed)  # raises the refusal itself
    groups = {
        subject: Estimates({text: estimates[text] for text in group})
        for subject, group in GROUPS.items()
    }
    _tell(progress, parts, len(names))
    whole: Spectrum | None = None
    refusal = ""
    curved_before = curved.objective.cost
    try:
        whole = _spectrum(curved.objective, seed)
        groups[CURVATURE] = _sums(whole)
    except (SteppeError, torch.OutOfMemoryError) as error:
        refusal = str(error)
    _tell(progress, parts, parts - 1)
    lines = _lines(data.objective, seed)
    _tell(progress, parts, parts)
    cost = data.objective.cost - before
    if curved.objective is not data.objective:
        cost += curved.objective.cost - curved_before
    return Examination(
        name=name,
        groups=groups,
        spectrum=whole,
        lines=lines,
        remarks=remarks_on(objective.model, groups, whole, data, curved, refusal),
        cost=cost.rounded(),
        seconds=time.perf_counter() - start,
        details={
            **data.objective.details,
            "seed": seed,
            "samples": data.samples,
            "curvature_samples": curved.samples,
            "of": data.of,
            "unit": data.unit,
            "parameters": sum(p.numel() for p in objective.params),
        },
    )


def _check_finite(objective: Objective) -> None:
    for name, p in zip(objective.names, objective.params, strict=True):
        count = int((~torch.isfinite(p.detach())).sum())
        if count:
            raise UsageError(
                f"an examination needs finite parameters, got {count} of {p.numel()} "
                f"numbers in {name} that are NaN or infinite; take weights from before "
                "the training diverged."
            )


def _spectrum(objective: Objective, seed: int) -> Spectrum:
    measurement = Measurement(objective, seed)
    hessian = measurement.of(HessianOfLoss())
    steps = min(STEPS, hessian.shape[0])
    return spectrum(
        hessian,
        steps=max(2, steps),
        draws=SIGNS,
        k=min(PAIRS, steps),
        generator=measurement.stream("spectrum"),
    )


def _sums(whole: Spectrum) -> Estimates:
    """Numbers of the spectrum, under the names of the measures that they estimate."""
    largest = float(whole.top.values[0].abs())
    numbers = {
        "top_eigenvalue": _end(whole.top, 0, largest),
        "bottom_eigenvalue": _end(whole.bottom, -1, largest),
        "trace": whole.trace,
        "frobenius": whole.frobenius,
        "effective_dimension": whole.effective_dimension(ALPHA),
    }
    cost = Cost(products=whole.products)
    return Estimates(
        {
            name: replace(estimate, units=MEASURES[name].spec.units, cost=cost)
            for name, estimate in numbers.items()
        }
    )


def _end(pairs: Eigenpairs, place: int, largest: float) -> Estimate:
    """An eigenvalue at an end; its doubt is the residual, which the details have."""
    value, residual = (float(t[place]) for t in (pairs.values, pairs.residuals))
    return Estimate(
        value=value,
        converged=residual <= TOLERANCE * max(abs(value), FLOOR * largest),
        details={"residual": residual},
    )


def _lines(objective: Objective, seed: int) -> list[Surface]:
    model = objective.model
    if not has_filters(objective.params):
        return []
    ends = (-RADIUS, RADIUS, POINTS)
    lines = [Line.random(model, seed=seed_of(seed, i)) for i in range(LINES)]
    return [
        landscape(objective, line, x=ends, samples="all", exact=True) for line in lines
    ]


def _tell(progress: Progress | None, parts: int, done: int, _of: int = 0) -> None:
    """Report parts that are done, of all; measures count themselves alone."""
    if progress is not None:
        progress(done, parts)
