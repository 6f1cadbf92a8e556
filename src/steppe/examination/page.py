"""An examination as one HTML page."""

from __future__ import annotations

import json
import platform
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import torch

from steppe import plots
from steppe.pages.attachment import attached
from steppe.pages.picture import Picture, pictured
from steppe.pages.templating import template
from steppe.pages.versions import own_version
from steppe.results import Estimate, Estimates

if TYPE_CHECKING:
    from steppe.examination.examination import Examination

NOISE, RISES = "loss under noise", "rise after"
RECORD = "examination.json"


def render(
    result: Examination,
    *,
    command: str = "",
    record: str = "",
    written: date | None = None,
) -> str:
    """The page.

    Args:
        result: to show.
        command: that makes it again; empty for the call of the library.
        record: name of a file beside the page with the same numbers, if there is.
        written: its date; None for today.
    """
    numbers = json.dumps(result.to_dict())
    return template("examination.html.j2", "steppe.examination").render(
        verb="examine",
        title=f"How flat is {result.name}?",
        facts=_facts(result),
        question="In short",
        answer=[*answer(result), *result.remarks],
        contents=[
            ("answer", "Answer"),
            ("figures", "Figures"),
            ("numbers", "Numbers"),
            ("again", "Make it again"),
        ],
        files=[
            attached(
                record or RECORD,
                numbers,
                text="Numbers as JSON",
                what="numbers",
                beside=bool(record),
            )
        ],
        pictures=pictures(result),
        groups=[
            (subject, [(key, e, _small(e)) for key, e in group.items()])
            for subject, group in result.groups.items()
        ],
        cost=str(result.cost),
        seconds=result.seconds,
        command=command or _call(result),
        versions=_versions(),
        origins=[],
        written=(written or date.today()).isoformat(),
    )


def answer(result: Examination) -> list[str]:
    """The curvature, the loss under noise and the consequences, in three sentences."""
    sentences = []
    estimates = result.estimates
    loss = estimates["loss"]
    top = estimates.get("top_eigenvalue")
    if top is not None:
        trace = estimates["trace"]
        sentences.append(
            f"At a loss of {loss} the largest eigenvalue of the Hessian is "
            f"{top.value:.3g} and its trace {trace}."
        )
    else:
        sentences.append(f"The loss is {loss}.")
    noise = _measured(result.groups[NOISE])
    if noise:
        estimate = list(noise.values())[-1]
        rise = estimate.value - loss.value
        share = float(estimate.details["sigma"])
        sentences.append(
            f"Noise of {share:.1%} of each filter's norm raises the loss by {rise:.2g}."
        )
    rises = _measured(result.groups[RISES])
    if rises:
        worst = max(rises, key=lambda key: rises[key].value)
        sentences.append(
            f"Of rounding and pruning, {_words(worst)} costs most: the loss rises by "
            f"{rises[worst]}."
        )
    return sentences


def pictures(result: Examination) -> list[Picture]:
    """Lines, density, and bars of noise and of consequences, as far as there are."""
    made = []
    if result.lines:
        draw = partial(
            plots.lines,
            {result.name: result.lines},
            xlabel="distance relative to the filters' norms",
            band=True,
        )
        ends = [f"{float(line.loss[0]):.3g}" for line in result.lines]
        made.append(
            pictured(
                draw,
                title="Loss along random lines",
                caption="Thin: each line, with a standard error over the samples. "
                "Thick: their mean.",
                alt=f"Loss along {len(ends)} random lines; at the left ends it is "
                f"{', '.join(ends)}.",
            )
        )
    if result.spectrum is not None and result.spectrum.nodes.numel() > 1:
        values = [f"{v:.3g}" for v in result.spectrum.top.values.tolist()]
        made.append(
            pictured(
                partial(plots.density, result.spectrum),
                title="Density of the eigenvalues",
                caption="Share of the eigenvalues of the Hessian per unit, on a "
                "logarithmic axis.",
                alt=f"Density of the eigenvalues; the largest are {', '.join(values)}.",
            )
        )
    for subject, title, xlabel in (
        (NOISE, "Loss under noise on the filters", "loss"),
        (RISES, "Rise of the loss after a change", "rise of the loss"),
    ):
        bars = _measured(result.groups[subject])
        if bars:
            named = {f"{_short(key)}: {e.value:.2g}": e for key, e in bars.items()}
            if subject == NOISE:
                loss = result["loss"]
                named = {f"none: {loss.value:.2g}": loss, **named}
            made.append(_bars(title, xlabel, named))
    return made


def _bars(title: str, xlabel: str, estimates: dict[str, Estimate]) -> Picture:
    numbers = [f"{name} {estimate}" for name, estimate in estimates.items()]
    return pictured(
        partial(
            plots.bars,
            {name: e.value for name, e in estimates.items()},
            stderrs={name: e.stderr for name, e in estimates.items()},
            xlabel=xlabel,
        ),
        title=title,
        caption="Thin lines are standard errors.",
        alt=f"{title}: {', '.join(numbers)}.",
    )


def _measured(group: Estimates) -> dict[str, Estimate]:
    return {key: e for key, e in group.items() if not e.refusal}


def _words(key: str) -> str:
    """The text of a measure in words: "rounding:bits=4" is "rounding to 4 bits"."""
    name, _, settings = key.partition(":")
    values = dict(pair.split("=") for pair in settings.split(",") if pair)
    if name == "rounding":
        return f"rounding to {values['bits']} bits"
    if name == "pruning":
        return f"pruning of {float(values['share']):.0%}"
    if name == "lpf":
        return f"{float(values['sigma']):.1%}"
    return key


def _short(key: str) -> str:
    """The same for a bar of a figure, which has no room for more."""
    words = _words(key).removeprefix("rounding to ")
    share = words.removeprefix("pruning of ")
    return f"{share} pruned" if share != words else words


def _facts(result: Examination) -> list[tuple[str, str]]:
    details = result.details
    shown = [
        ("parameters", f"{details['parameters']:,}"),
        ("loss", str(details["loss"])),
        (details["unit"] + "s", f"{details['samples']:,} of {details['of']:,}"),
        ("for the Hessian", f"{details['curvature_samples']:,}"),
        ("mode", str(details["mode"])),
        ("dtype", str(details["dtype"])),
        ("seed", str(details["seed"])),
        ("data", str(details["data"])),
    ]
    if "batch_norm" in details:
        shown.append(("batch norm", str(details["batch_norm"])))
    return shown


def _small(estimate: Estimate) -> str:
    if estimate.refusal:
        return ""
    words = [estimate.units] if estimate.units else []
    words += [f"{estimate.samples:,} draws or samples"] if estimate.samples else []
    if "residual" in estimate.details:
        words.append(f"residual {estimate.details['residual']:.2g}")
    return "; ".join(words)


def _call(result: Examination) -> str:
    details = result.details
    return (
        f"steppe.examine(objective, samples={details['samples']}, "
        f"curvature_samples={details['curvature_samples']}, seed={details['seed']})"
    )


def _versions() -> dict[str, str]:
    return {
        "steppe": own_version(),
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
