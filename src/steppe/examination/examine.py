"""One call for everything about a minimum: spectrum, flatness, consequences, noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from steppe.cost import NOTHING, Cost
from steppe.errors import (
    SteppeError,
    UsageError,
    check_count,
    check_integer,
    check_positive,
)
from steppe.examination.examination import Examination
from steppe.examination.parts import (
    OF_ESTIMATE,
    OF_LINE,
    OF_PLAN,
    OF_SPECTRUM,
    PLAN,
    SPECTRUM,
    Parts,
)
from steppe.examination.plan import Plan, Price, Units, part_of, planned, timed
from steppe.examination.remarks import remarks_on
from steppe.landscapes.directions.random import has_filters
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.linalg.spectrum import spectrum
from steppe.measures import MEASURES, build, measure, refused
from steppe.measures.measurement import Measurement
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.objective import Objective, check_objective
from steppe.results import Eigenpairs, Estimate, Estimates, Spectrum
from steppe.seeds import seed_of
from steppe.surfaces import Surface

Progress = Callable[[int, int, str], None]

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
    "weight matrices": ("heavy_tails", "stable_rank"),
}
CURVATURE, ALONG_LINES = "curvature", "lines"
LINES, POINTS, RADIUS = 3, 9, 0.5
ALPHA = 1.0  # of the effective dimension, as in the measure
TOLERANCE, FLOOR = 0.05, 0.01  # residual of an eigenvalue, and of one near 0
STEPS, SIGNS, PAIRS = 25, 6, 5  # of the spectrum: products, random signs, eigenvalues

# For the plan: forward passes that the gradient of the mean loss and the checks of a
# loss take, and operations on vectors of all parameters.
GRADIENT, CHECKS = 5, 4
AT_A_POINT, IN_THE_SPECTRUM = 2, 400


def examine(
    objective: Objective,
    *,
    samples: int | None = None,
    curvature_samples: int | None = None,
    seconds: float = 100.0,
    seed: int = 0,
    name: str = "network",
    progress: Progress | None = None,
    known: Mapping[str, str] | None = None,
    finished: Callable[[str, str], object] | None = None,
) -> Examination:
    """Examine the parameters of an objective as they are.

    Loss and gradient, the spectrum of the Hessian, the loss under noise at three
    distances, its rise after rounding and pruning, the noise of the gradients, the
    tails of the weight matrices, the loss along three random lines, and remarks that
    say how to read the numbers.

    Args:
        objective: the mean loss of a network.
        samples: that passes over the data take, drawn by the seed; None for as many as
            about half of the time allows, by pieces of the work that are timed.
        curvature_samples: the same for products with the Hessian, for which the other
            half is.
        seconds: for all of it, about, where the numbers of samples are not given. A
            subject that is too dear even for 8 samples is left out: its measures are
            refused, by a sentence with the seconds that it would take. Figures are
            drawn after that.
        seed: of all draws.
        name: of the network, for table and page.
        progress: called with the number of parts done and of all, and the name of the
            part that is next.
        known: texts of parts that an earlier call with the same arguments handed to
            `finished`, by name; these are not done again, and a spectrum among them
            has no eigenvectors.
        finished: called with the name and the text of each part that is done: the plan,
            each measure, the spectrum, each line.

    Returns:
        Examination: prints as a table, and has `html(path)`, `rows()` and `to_dict()`.
        A measure that the network does not allow says so in a line below the table.

    Raises:
        SettingError: a setting out of range.
        DataError: known texts that `finished` did not get.
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
    start = time.perf_counter()
    parts = Parts(known, finished)
    if (plan := parts.known(PLAN, OF_PLAN)) is None:
        plan = _plan(objective, samples, curvature_samples, seconds, seed)
        parts.done(PLAN, OF_PLAN, plan)
    left_out = {name: _dear(spent, seconds) for name, spent in plan.left_out.items()}
    data = part_of(objective, plan.samples, seed)
    curved = part_of(objective, plan.curvature_samples, seed)
    # The parts may be one objective.
    objectives = {id(part.objective): part.objective for part in (data, curved)}

    def spent() -> Cost:
        return sum((each.cost for each in objectives.values()), NOTHING)

    before = spent()
    wanted = {k: group for k, group in GROUPS.items() if k not in left_out}
    names = [text for group in wanted.values() for text in group]
    texts = [*names, SPECTRUM, "random lines", ""]
    measured = {text: parts.known(text, OF_ESTIMATE) for text in names}
    counted = before

    def keep(text: str, estimate: Estimate) -> None:
        nonlocal counted
        cost, counted = spent() - counted, spent()
        if not estimate.refusal:
            parts.done(text, OF_ESTIMATE, estimate, cost)

    # In one measurement, so that passes of several subjects are made once.
    estimates = measure(
        data.objective,
        names,
        seed=seed,
        known={text: each for text, each in measured.items() if each is not None},
        progress=lambda done, _: _tell(progress, texts, done),
        finished=keep,
    )
    if estimates["loss"].refusal:
        measure(data.objective, ["loss"], seed=seed)  # raises the refusal itself
    groups = {
        subject: Estimates(
            {text: estimates[text] for text in group}
            if subject in wanted
            else {t: refused(build(t), UsageError(left_out[subject])) for t in group}
        )
        for subject, group in GROUPS.items()
    }
    _tell(progress, texts, len(names))
    whole: Spectrum | None = None
    refusal = left_out.get(CURVATURE, "")
    if not refusal and (whole := parts.known(SPECTRUM, OF_SPECTRUM)) is None:
        counted = spent()
        try:
            whole = _spectrum(curved.objective, seed)
        except (SteppeError, torch.OutOfMemoryError) as error:
            refusal = str(error)
        else:
            parts.done(SPECTRUM, OF_SPECTRUM, whole, spent() - counted)
    if whole is not None:
        groups[CURVATURE] = _sums(whole)
    _tell(progress, texts, len(names) + 1)
    lines = _lines(data.objective, seed, parts) if ALONG_LINES not in left_out else []
    _tell(progress, texts, len(names) + 2)
    cost = spent() - before + parts.cost
    remarks = remarks_on(objective.model, groups, whole, data, curved, refusal)
    if ALONG_LINES in left_out:
        remarks.append(f"The random lines were not drawn: {left_out[ALONG_LINES]}")
    return Examination(
        name=name,
        groups=groups,
        spectrum=whole,
        lines=lines,
        remarks=remarks,
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
            **({"left_out": dict(plan.left_out)} if left_out else {}),
        },
    )


def _plan(
    objective: Objective,
    samples: int | None,
    curvature_samples: int | None,
    seconds: float,
    seed: int,
) -> Plan:
    if samples is not None and curvature_samples is not None:
        return Plan(samples, curvature_samples)
    start = time.perf_counter()
    passes, curvature = prices(timed(objective, seed))
    return planned(
        passes,
        curvature,
        max(0.0, seconds - (time.perf_counter() - start)),
        part_of(objective, 1, seed).of,
        samples,
        curvature_samples,
        needed=("loss",),
    )


def prices(units: Units) -> tuple[dict[str, Price], dict[str, Price]]:
    """Prices of the subjects, on samples of the passes and of the products."""
    forward = units.forward.each
    points = {"loss under noise": len(SIGMAS) * DRAWS, ALONG_LINES: LINES * POINTS}
    points["rise after"] = len(GROUPS["rise after"])
    passes = {
        subject: Price(AT_A_POINT * count * units.vector, count * forward)
        for subject, count in points.items()
    }
    passes["loss"] = Price(each=(1 + GRADIENT + CHECKS) * forward)
    passes["gradient noise"] = units.sample_gradients
    passes["weight matrices"] = Price(units.matrices)
    first, each = units.preparation, units.product
    products = STEPS + SIGNS
    return passes, {
        CURVATURE: Price(
            first.fixed + products * each.fixed + IN_THE_SPECTRUM * units.vector,
            first.each + products * each.each,
        )
    }


def _dear(spent: float, seconds: float) -> str:
    """Why a subject is left out."""
    return (
        f"on a few samples it would take about {max(1.0, spent):,.0f} s, too much of "
        f"the {seconds:g} s for all; give more seconds, or the numbers of samples."
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
        "frobenius_norm": whole.frobenius,
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


def _lines(objective: Objective, seed: int, parts: Parts) -> list[Surface]:
    model = objective.model
    if not has_filters(objective.params):
        return []
    ends = (-RADIUS, RADIUS, POINTS)
    lines: list[Surface] = []
    for number in range(LINES):
        name = f"line {number + 1}"
        if (line := parts.known(name, OF_LINE)) is None:
            before = objective.cost
            along = Line.random(model, seed=seed_of(seed, number))
            line = landscape(objective, along, x=ends, samples="all", exact=True)
            parts.done(name, OF_LINE, line, objective.cost - before)
        lines.append(line)
    return lines


def _tell(progress: Progress | None, texts: Sequence[str], done: int) -> None:
    """Report parts that are done, of all, and the next one."""
    if progress is not None:
        progress(done, len(texts) - 1, texts[done])
