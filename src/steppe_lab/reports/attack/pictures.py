"""Figures of attacks: accuracy over budgets, and a few samples before and after."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from steppe import plots
from steppe.adversarial.balls import Norm
from steppe.pages.picture import Picture, pictured
from steppe_lab.analysis.attacking import AttackedNetwork
from steppe_lab.attacks.outcome import Examples
from steppe_lab.reports.attack.words import NORMS, budget_names, changed_things
from steppe_lab.reports.text.numbers import percent

GREY_LEVELS = "/255"  # of budgets, which the axis counts then
COLOURS = (1, 3)  # channels of images that can be shown


@dataclass(frozen=True)
class Shown:
    """An image before and after an attack, and their difference, as addresses."""

    before: str
    after: str
    change: str
    label: str
    predicted: str
    budget: str


def curve_pictures(done: AttackedNetwork) -> list[Picture]:
    """Accuracy over budgets: a picture for each norm, since their units differ."""
    return [_curve(done, norm) for norm in NORMS if norm in done.done.result.norms]


def strongest_examples(done: AttackedNetwork) -> tuple[str, Examples] | None:
    """The attack that most samples do not resist, and samples of it, if any."""
    result = done.done.result
    fooled = result.success[:, -1].sum(axis=1).tolist()
    # Of several equal ones the first, as in the answer.
    ordered = sorted(zip(fooled, result.keys, strict=True), key=lambda pair: -pair[0])
    for _, key in ordered:
        examples = done.done.examples[key]
        if len(examples.places):
            return key, examples
    return None


def shown_images(done: AttackedNetwork, examples: Examples) -> list[Shown]:
    """Images that were fooled; none where inputs are no images."""
    shape = done.target.attacked.samples.in_shape
    if len(shape) != 3 or shape[0] not in COLOURS:
        return []
    attacked, labels = done.target.attacked, done.done.result.labels
    before, after = attacked.pixels(examples.inputs), attacked.pixels(examples.changed)
    made = []
    for index, place in enumerate(examples.places.tolist()):
        change = after[index] - before[index]
        largest = max(float(change.abs().max()), 1e-12)
        made.append(
            Shown(
                _address(before[index]),
                _address(after[index]),
                _address(0.5 + change / (2 * largest)),
                _named(done, int(labels[place])),
                _named(done, int(examples.predicted[index])),
                _budget(done, examples, index),
            )
        )
    return made


def series_picture(
    done: AttackedNetwork, key: str, examples: Examples
) -> Picture | None:
    """A series before and after an attack; None where inputs are no series."""
    if len(done.target.attacked.samples.in_shape) != 1:
        return None
    label = _named(done, int(done.done.result.labels[int(examples.places[0])]))
    predicted = _named(done, int(examples.predicted[0]))
    lines = {
        f"unchanged: {label}": examples.inputs[0].tolist(),
        f"{key}: {predicted}": examples.changed[0].tolist(),
    }
    places = range(done.target.attacked.samples.in_shape[0])
    budget = _budget(done, examples, 0)
    return pictured(
        partial(plots.series, lines, places, xlabel="place", ylabel="value", log=False),
        title="A sample before and after",
        caption=f"The budget is {budget}.",
        alt=f"A series of class {label}, which after {key} with a budget of "
        f"{budget} is classified as {predicted}.",
    )


def _curve(done: AttackedNetwork, norm: Norm) -> Picture:
    result = done.done.result
    levels = any(name.endswith(GREY_LEVELS) for name in budget_names(done))
    factor, unit = (255.0, ", in 255ths") if levels else (1.0, "")
    budgets = [factor * epsilon for epsilon in result.epsilons if epsilon > 0]
    lines: dict[str, Sequence[float]] = {}
    intervals: dict[str, Sequence[tuple[float, float]]] = {}
    said = []
    for index, key in enumerate(result.keys):
        if result.norms[index] == norm:
            robust = result.robust(index)
            attacked = [
                i for e, i in zip(result.epsilons, robust, strict=True) if e > 0
            ]
            every = [result.clean, *attacked]
            lines[key] = [100 * each.mean for each in every]
            intervals[key] = [(100 * each.low, 100 * each.high) for each in every]
            said.append(f"{key} {percent(robust[-1].mean)}")
    return pictured(
        partial(
            plots.series,
            lines,
            [0.0, *budgets],
            xlabel=f"budget in {NORMS[norm]}{unit}",
            ylabel="rightly classified, %",
            intervals=intervals,
            log=False,
        ),
        title=f"Accuracy by budget, {NORMS[norm]}",
        caption=f"Budgets are those of {changed_things(done)}. Bars are intervals of "
        "95 % over the samples; all lines begin at the accuracy of unchanged samples.",
        alt=f"Accuracy falls from {percent(result.clean.mean)} to, at the largest "
        f"budget: {', '.join(said)}.",
    )


def _budget(done: AttackedNetwork, examples: Examples, index: int) -> str:
    """The budget that was enough, as it was asked for."""
    place = done.done.result.epsilons.index(float(examples.epsilons[index]))
    return budget_names(done)[place]


def _named(done: AttackedNetwork, label: int) -> str:
    classes = done.target.classes
    return classes[label] if label < len(classes) else f"class {label}"


def _address(pixels: Tensor) -> str:
    """An image of shape (C, H, W) as the address of a PNG."""
    image = np.moveaxis(pixels.double().numpy(), 0, 2)
    content = plots.pixels_png(image[..., 0] if image.shape[2] == 1 else image)
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"
