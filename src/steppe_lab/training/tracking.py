"""Trackers by name: `spectrum:k=5,samples=2250,every=1epoch`.

A tracker is made from the network in training and its samples. Following changes no
weight, except through a method that steps along the directions that are followed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError
from steppe.landscapes.directions.eigen import check_unit
from steppe.objective import Objective
from steppe.optimizers import OPTIMIZERS
from steppe.registry.bounds import POSITIVE, Ranges, at_least, check_bounds
from steppe.registry.registry import Choice, Registry, unknown_name
from steppe.registry.settings_text import pairs
from steppe.registry.specs import Spec
from steppe.seeds import seed_named, stream
from steppe.tracking.cuts import Cuts
from steppe.tracking.schedule import Unit
from steppe.tracking.tracker import SpectrumTracker
from steppe_lab.datasets import Split
from steppe_lab.training.rows import ROWS, rows_within
from steppe_lab.training.tensorboard import EventWriter, summary_writer
from steppe_lab.training.trained_loss import TrainedLoss

ROWS_ON_CPU = 64  # what a CPU computes again and again is better small
TRACKERS: Registry[Spec] = Registry("tracker", Spec)
BOUNDS: Ranges = {
    "k": at_least(1),
    "samples": at_least(1),
    "tol": POSITIVE,
    "memory": (0.0, math.inf),
    "lr": POSITIVE,
    "batches": at_least(1),
}
STEP = ("lr", "batches")  # settings of the length of a step, which cuts alone have


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A training that is followed.

    Args:
        model: the network in training.
        split: its samples.
        loss: gives the one that it is trained on now.
        seed: of the samples that are drawn.
        folder: where the files are kept; None for none.
        lr: gives the present learning rate.
        batch_size: of a step.
    """

    model: nn.Module
    split: Split
    loss: Callable[[], TrainedLoss]
    seed: int
    folder: Path | None
    lr: Callable[[], float]
    batch_size: int

    @property
    def rows(self) -> int:
        """Rows of a batch in measurements, at most."""
        near = next(self.model.parameters()).device.type == "cpu"
        return ROWS_ON_CPU if near else ROWS

    def objective(self, samples: int, number: int) -> Objective:
        """The loss on training samples drawn by a number, at most so many."""
        chosen = self.split.some("train", samples, seed=self.seed + number)
        loss = self.loss()
        rows = rows_within(chosen, loss.task, self.rows)
        return loss.objective(self.model, chosen.batches(rows))

    def minibatches(self, count: int, number: int) -> Objective:
        """The loss on whole batches of a step, in an order drawn by a number."""
        pool, size = self.split.train, self.batch_size
        generator = stream(seed_named(f"minibatches {self.seed} {number}", bits=32))
        order = torch.randperm(len(pool), generator=generator)
        whole = max(size, len(pool) // size * size)  # no short one beside others
        chosen = pool.chosen(order[: min(count * size, whole)])
        return self.loss().objective(self.model, chosen.batches(size))


@TRACKERS.add("spectrum", source="Jastrzebski et al., 2019, arXiv:1807.05031")
def spectrum(
    followed: Followed,
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
        followed: the training.
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
    return _tracker(
        followed,
        None,
        Sampled(k=k, samples=samples, every=every, drawn=drawn, tol=tol, memory=memory),
        vectors=vectors,
        steps=steps,
        tensorboard=tensorboard,
    )


@TRACKERS.add("cuts", source="Jastrzebski et al., 2019, arXiv:1807.05031")
def cuts(
    followed: Followed,
    *,
    k: int = 2,
    samples: int = 2250,
    every: str = "1epoch",
    unit: Literal["step", "absolute"] = "step",
    lr: float | None = None,
    batches: int = 10,
    drawn: Literal["once", "anew"] = "once",
    tol: float = 0.01,
    vectors: bool = False,
    tensorboard: bool = False,
    memory: float = 2.0,
) -> SpectrumTracker:
    """The loss along the sharpest directions, along training, and the eigenvalues.

    Args:
        followed: the training.
        k: number of directions.
        samples: training samples that the loss is averaged over, at most.
        every: from one measurement to the next, such as 2epochs or 100steps.
        unit: of the coordinates, from -16 to 16: the mean length of a step of plain
            SGD along the direction, or the distance in parameter space.
        lr: learning rate of such a step; None for the present one.
        batches: random batches of the training that the length is averaged over.
        drawn: samples drawn once, or anew for each measurement.
        tol: residuals as a share of the eigenvalues.
        vectors: keep the eigenvectors of every measurement as a file.
        tensorboard: write every number for TensorBoard too.
        memory: GiB for what products need again and again, as in `spectrum`.

    Raises:
        SettingError: a setting out of range, or no TensorBoard where it is asked for.
    """
    check_bounds({"lr": lr, "batches": batches}, {n: BOUNDS[n] for n in STEP})
    check_unit(unit, _lr_of(unit, lr))
    in_steps = unit == "step"

    def minibatches() -> Objective:
        return followed.minibatches(batches, len(tracker.rows))

    along = Cuts(
        unit=unit,
        lr=(followed.lr if lr is None else lr) if in_steps else None,
        minibatches=minibatches if in_steps else None,
        count=batches,
    )
    tracker = _tracker(
        followed,
        along,
        Sampled(k=k, samples=samples, every=every, drawn=drawn, tol=tol, memory=memory),
        vectors=vectors,
        steps=False,
        tensorboard=tensorboard,
    )
    return tracker


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Settings that all trackers of eigenvalues share."""

    k: int
    samples: int
    every: str
    drawn: str
    tol: float
    memory: float


def _tracker(
    followed: Followed,
    along: Cuts | None,
    settings: Sampled,
    *,
    vectors: bool,
    steps: bool,
    tensorboard: bool,
) -> SpectrumTracker:
    check_bounds(vars(settings), {n: b for n, b in BOUNDS.items() if n not in STEP})
    count, unit = interval(settings.every)

    def objective() -> Objective:
        number = len(tracker.rows) if settings.drawn == "anew" else 0
        return followed.objective(settings.samples, number)

    folder = followed.folder
    tracker = SpectrumTracker(
        objective,
        k=settings.k,
        every=count,
        unit=unit,
        tol=settings.tol,
        matrix=partial(Hessian, budget=round(settings.memory * 2**30)),
        folder=folder,
        save_vectors=vectors,
        steps=steps,
        cuts=along,
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
    check_bounds(settings, {n: b for n, b in BOUNDS.items() if n in settings})
    interval(settings["every"])
    if choice.name == "cuts":
        check_unit(settings["unit"], _lr_of(settings["unit"], settings["lr"]))
    if settings["tensorboard"]:
        summary_writer()


def _lr_of(unit: str, lr: float | None) -> float | None:
    """A learning rate as given; any in place of the present one."""
    return 1.0 if unit == "step" and lr is None else lr


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
