"""A trained network and its samples as attacks see them: budgets of pixels.

What is attacked is the way from a pixel to the scores: standardising is part of it, so
that a budget of 8/255 is one of pixels whatever the statistics are. Shape letters: N
samples, B rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from steppe.adversarial.balls import Norm
from steppe.errors import DataError, SettingError
from steppe.measuring.model_state import unwritten
from steppe.parameters import preserved
from steppe_lab.attacks.outcome import ROWS
from steppe_lab.attacks.soundness import check_sound, is_flat, sound
from steppe_lab.attacks.victim import Victim
from steppe_lab.datasets.image_files import ImageFiles
from steppe_lab.datasets.samples import (
    AbstractSamples,
    Standardisation,
    TensorSamples,
)
from steppe_lab.runs.attack_settings import Protocol

UNIT = (0.0, 1.0)  # bounds of pixels
PUBLISHED = (
    "budgets and the bounds {low:g} and {high:g} are those of standardised inputs, as "
    "published scripts have it, and not of pixels"
)
IN_INPUTS = (
    "budgets are in units of the inputs, which lie between {low:g} and {high:g}, and "
    "not of pixels from 0 to 1, so that results do not compare with those of pixels; "
    "for budgets of pixels standardise inside the network, and give --bounds 0 1"
)
FLAT = (
    "the gradient of the loss by the inputs is zero for each of the first {count} "
    "samples, so that attacks which follow it find nothing: their accuracies say "
    "nothing of robustness, while uniform needs no gradient"
)
OTHERS = (
    "attacks change inputs that are numbers between two bounds, such as images and "
    "series, of networks that give each sample a class"
)
Bounds = tuple[float, float]


@dataclass(frozen=True)
class Attacked:
    """A network, its samples, and the bounds of its inputs."""

    model: nn.Module
    victim: Victim
    samples: AbstractSamples  # N, all of which are attacked
    positions: Tensor  # (N,) int64, places in the part of the data
    inputs: Callable[[Tensor], Tensor]  # stored inputs as they are changed
    pixels: Callable[[Tensor], Tensor]  # changed inputs as pixels from 0 to 1
    protocol: Protocol
    flat: int = 0  # first samples, all of which have a gradient of zero

    def rows(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs as they are changed, and labels, of the samples at some places."""
        stored, labels = _stored(self.samples, places)
        device = next(self.model.parameters()).device
        return self.inputs(stored.to(device)), labels.to(device)

    @property
    def bounds(self) -> Bounds:
        """Of the inputs that are changed."""
        return self.victim.low, self.victim.high

    @property
    def units(self) -> Literal["pixels", "inputs", "published"]:
        """Units of budgets: the protocol, or inputs between other bounds than 0 and 1.

        Inputs of the user may be standardised, whatever the bounds are.
        """
        other = self.protocol == "pixels" and self.bounds != UNIT
        return "inputs" if other else self.protocol

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences without full stops that every result must say."""
        low, high = self.bounds
        notes = (FLAT.format(count=self.flat),) if self.flat else ()
        if self.units == "inputs":
            return (IN_INPUTS.format(low=low, high=high), *notes)
        if self.units == "published":
            published = PUBLISHED.format(low=low, high=high)
            return (f"protocol published: {published}", *notes)
        return notes

    def check_budget(self, epsilon: float, norm: Norm, attack: str) -> None:
        """Refuse a budget that no change within the bounds can have.

        Raises:
            SettingError: the largest one is said.
        """
        low, high = self.bounds
        entries = math.prod(self.samples.in_shape)
        most = (high - low) * (1.0 if norm == "inf" else math.sqrt(entries))
        if epsilon > most and self.protocol == "pixels":
            fix = f"write {epsilon:g}/255 for grey levels"
            if self.units == "inputs":
                fix = "give it in units of the inputs"
            raise SettingError(
                f"eps of {attack} must be at most {most:g}, the largest change between "
                f"the bounds {low:g} and {high:g}, got {epsilon:g}; {fix}."
            )

    @contextmanager
    def attackable(self) -> Iterator[None]:
        """The network in eval mode; all of it is put back, whatever happens inside."""
        with torch.inference_mode(False), preserved(self.model), unwritten(self.model):
            self.model.eval()
            for p in self.model.parameters():
                p.requires_grad_(False)
            yield


def attacked_of(
    model: nn.Module,
    samples: AbstractSamples,
    positions: Tensor,
    *,
    name: str,
    task: str = "classification",
    known: Bounds | None = None,
    given: Bounds | None = None,
    protocol: Protocol = "pixels",
) -> Attacked:
    """A network on samples as attacks see it.

    Args:
        model: gives scores of inputs as `samples` make them.
        samples: N of them, all of which are attacked.
        positions: their places in the part of the data, shape (N,).
        name: of the data, for messages.
        task: that the network was made for.
        known: bounds of inputs that come without a standardisation, as the data set
            says them.
        given: bounds that the user says.
        protocol: whose changes have budgets.

    Raises:
        SettingError: data that cannot be attacked, or bounds that are not known.
        DataError: inputs that are not finite, or beyond the bounds.
        UsageError: scores that are no numbers, random, not one for each class, or not
            those of each sample alone.
    """
    if not isinstance(samples, TensorSamples | ImageFiles) or task != "classification":
        raise SettingError(f"{OTHERS}, got {name}; name other data.")
    if hasattr(model, "score_batch"):
        raise SettingError(
            "attacks change each sample alone, but scores of this network depend on "
            "the other samples of a batch; name its variant plain."
        )
    standardise = samples.standardisation
    first, _ = _stored(samples, torch.tensor([0]))
    if standardise is None and not first.is_floating_point():
        fix = "name other data"
        # Tokens are int64, in rows; images have two dimensions or more.
        if first.dtype == torch.uint8 or first.dim() > 2:
            fix = (
                "give images as inputs.float() / 255, with --bounds 0 1, or bounds: "
                "[0, 1] in a study"
            )
        raise SettingError(f"{OTHERS}, got whole numbers of {name}; {fix}.")
    low, high = _bounds(standardise, protocol, known, given, name)
    inputs, scores, pixels = _ways(model, standardise, protocol, (low, high))
    made = Attacked(
        model,
        Victim(sound(scores), low, high),
        samples,
        positions,
        inputs,
        pixels,
        protocol,
    )
    # Grey levels are within their scale.
    if first.is_floating_point():
        _check_inputs(made, name)
    with made.attackable():
        few, _ = made.rows(torch.arange(min(ROWS, len(samples))))
        check_sound(made.victim.scores, few)
        flat = len(few) if is_flat(made.victim.scores, few) else 0
    return replace(made, flat=flat)


def _ways(
    model: nn.Module,
    standardise: Standardisation | None,
    protocol: Protocol,
    bounds: Bounds,
) -> tuple[
    Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]
]:
    """From stored to changed inputs, from those to scores, and to pixels."""

    def unchanged(inputs: Tensor) -> Tensor:
        return inputs

    def scaled(inputs: Tensor) -> Tensor:
        low, high = bounds
        return (inputs - low) / (high - low)

    if standardise is None:
        return unchanged, model, scaled

    def constants(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return standardise.constants(inputs.device)[:2]

    def pixels_of(standardised: Tensor) -> Tensor:
        mean, std = constants(standardised)
        return standardised * std + mean

    if protocol == "published":
        return standardise, model, pixels_of

    def from_stored(stored: Tensor) -> Tensor:
        return stored.to(torch.float32) / standardise.constants(stored.device)[2]

    def scores(pixels: Tensor) -> Tensor:
        mean, std = constants(pixels)
        # The steps of `Standardisation` itself, so that clean scores have its bits.
        outputs: Tensor = model((pixels - mean) / std)
        return outputs

    return from_stored, scores, unchanged


def _bounds(
    standardise: Standardisation | None,
    protocol: Protocol,
    known: Bounds | None,
    given: Bounds | None,
    name: str,
) -> Bounds:
    if protocol == "published":
        return given or UNIT
    if standardise is not None or known is not None:
        if given is not None:
            raise SettingError(
                f"inputs of {name} have known bounds, got --bounds {given[0]:g} "
                f"{given[1]:g}; leave it out, or give it with --protocol published."
            )
        return UNIT if known is None else known
    if given is None:
        raise SettingError(
            f"nothing says between which bounds inputs of {name} lie; give their "
            "least and largest value, as --bounds 0 1, or bounds: [0, 1] in a study."
        )
    return given


def _check_inputs(made: Attacked, name: str) -> None:
    """Refuse inputs that are not finite, or beyond the bounds of pixels."""
    low, high = made.bounds
    for places in torch.split(torch.arange(len(made.samples)), ROWS):
        inputs, _ = made.rows(places)
        if not bool(inputs.isfinite().all()):
            raise DataError(
                f"inputs of {name} must be finite, got NaN or infinity; leave them out."
            )
        inside = bool(((inputs >= low) & (inputs <= high)).all())
        if made.protocol == "pixels" and not inside:
            least, most = float(inputs.min()), float(inputs.max())
            raise DataError(
                f"inputs of {name} must lie between the bounds {low:g} and {high:g}, "
                f"got {least:g} to {most:g}; give other --bounds, or samples without "
                "noise."
            )


def _stored(samples: AbstractSamples, places: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(samples, TensorSamples | ImageFiles)
    return samples.rows(places)
