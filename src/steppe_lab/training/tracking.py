"""Trackers by name: `spectrum:k=5,samples=2250,every=1epoch`.

A tracker is made from the network in training and its samples. Following changes no
weight, except through a method that steps along the directions that are found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError
from steppe.objective import Objective
from steppe.optimizers import OPTIMIZERS
from steppe.registry.bounds import POSITIVE, Ranges, at_least, check_bounds
from steppe.registry.registry import Choice, Registry, unknown_name
from steppe.registry.settings_text import pairs
from steppe.registry.specs import Spec
from steppe.tracking.schedule import Unit
from steppe.tracking.tracker import SpectrumTracker
from steppe_lab.datasets import Split
from steppe_lab.training.tensorboard import EventWriter, summary_writer
from steppe_lab.training.trained_loss import TrainedLoss

# Rows of a batch; what a CPU computes again and again is better small.
ROWS, ROWS_ON_CPU = 256, 64
TRACKERS: Registry[Spec] = Registry("tracker", Spec)
BOUNDS: Ranges = {
    "k": at_least(1),
    "samples": at_least(1),
    "tol": POSITIVE,
    "memory": (0.0, math.inf),
}


@TRACKERS.add("spectrum", source="Jastrzebski et al., 2019, arXiv:1807.05031")
def spectrum(
    model: nn.Module,
    split: Split,
    loss: Callable[[], TrainedLoss],
    seed: int,
    folder: Path | None,
    *,
    k: int = 5,
    samples: int = 2250,
    every: str = "1epoch",
    drawn: Literal["once", "anew"] = "once",
    tol: float = 0.01,
    steps: bool = False,
    vectors: bool = False,
    tensorboard: bool = False,
    memory: float = 2.0,
) -> SpectrumTracker:
    """The largest eigenvalues of the Hessian along training, and its directions.

    Args:
        model: the network in training.
        split: its samples.
        loss: gives the one that it is trained on now.
        seed: of the samples that are drawn.
        folder: where the files are kept; None for none.
        k: number of eigenvalues.
        samples: training samples that the loss is averaged over, at most.
        every: from one measurement to the next, such as 2epochs or 100steps.
        drawn: samples drawn once, or anew for each measurement.
        tol: residuals as a share of the eigenvalues.
        steps: look at the steps in the sharpest directions too.
        vectors: keep the eigenvectors of every measurement as a file.
        tensorboard: write every number for TensorBoard too.
        memory: GiB for what products need again and again; what does not fit is
            computed for each of them, at half as much work more.

    Raises:
        SettingError: a setting out of range, or no TensorBoard where it is asked for.
    """
    check_bounds({"k": k, "samples": samples, "tol": tol, "memory": memory}, BOUNDS)
    count, unit = interval(every)
    budget = round(memory * 2**30)

    def objective() -> Objective:
        number = len(tracker.rows) if drawn == "anew" else 0
        chosen = split.some("train", samples, seed=seed + number)
        near = next(model.parameters()).device.type == "cpu"
        batches = chosen.batches(ROWS_ON_CPU if near else ROWS)
        return loss().objective(model, batches)

    tracker = SpectrumTracker(
        objective,
        k=k,
        every=count,
        unit=unit,
        tol=tol,
        matrix=partial(Hessian, budget=budget),
        folder=folder,
        save_vectors=vectors,
        steps=steps,
        writer=EventWriter(folder) if tensorboard and folder else None,
    )
    return tracker


def interval(text: str) -> tuple[int, Unit]:
    """Read how often.

    Example:
        >>> interval("1epoch"), interval("100 steps")
        ((1, 'epoch'), (100, 'step'))

    Raises:
        SettingError: a text of another form.
    """
    match = re.fullmatch(r"([1-9]\d*) ?(epoch|step)s?", text.strip())
    if match is None:
        raise SettingError(
            f"every must be a number of epochs or steps, as 1epoch or 100steps, got "
            f"'{text}'."
        )
    return int(match[1]), "epoch" if match[2] == "epoch" else "step"


def check_tracker(choice: Choice) -> None:
    """Refuse settings out of range, and a TensorBoard that is not there.

    Raises:
        UnknownNameError: code of the user, which cannot be a tracker.
        SettingError: names the setting, the bound and the value.
    """
    if choice.name not in TRACKERS:
        raise unknown_name("tracker", choice.name, TRACKERS.names())
    settings = choice.settings
    check_bounds(settings, BOUNDS)
    interval(settings["every"])
    if settings["tensorboard"]:
        summary_writer()


def is_led(name: str) -> bool:
    """Whether a method steps along directions that a tracker can give it."""
    return OPTIMIZERS[name].spec.takes_directions


def read_led(text: str, track: str) -> tuple[str, Choice]:
    """A method that is led, without its `k`, and the tracker that leads it.

    Args:
        text: such as "nsgd:gamma=0.1,k=5".
        track: the tracker as text; "" for one with the defaults.

    Raises:
        SettingError: two numbers of directions.
    """
    name, _, rest = text.partition(":")
    settings = pairs(rest, text)
    k = settings.pop("k", None)
    known = [] if k is None else [TRACKERS.parse(f"spectrum:k={k}")]
    tracker = TRACKERS.parse(track or "spectrum", known)
    if known and tracker.settings["k"] != known[0].settings["k"]:
        raise SettingError(
            f"{name} has k={k} and the tracker k={tracker.settings['k']}; give it once."
        )
    said = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name}:{said}" if said else name, tracker
