"""A curve of low loss between two networks, and the loss along it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.curve import Curve, CurveStatistics
from steppe.landscapes.subspaces.line import Line
from steppe.objective import Objective
from steppe.surfaces import Surface
from steppe.surfaces.files.directions import Directions
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.landscapes import check_alike
from steppe_lab.analysis.replacing import (
    check_same_recipe,
    recipe_of,
    with_recipe,
)
from steppe_lab.analysis.single import Network, read_network
from steppe_lab.runs.connect_settings import ConnectSettings
from steppe_lab.training.trained_loss import LossKind

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Connected:
    """The loss along a curve and along the line, or on the plane of the curve."""

    surfaces: dict[str, Surface]  # the one that files hold first
    statistics: dict[str, CurveStatistics]  # by path: curve, line
    length: float  # of the curve over that of the line
    directions: Directions | None = None  # of a plane
    notes: tuple[str, ...] = ()  # without full stops


def connected(
    first: Path,
    second: Path,
    settings: ConnectSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    files: Collection[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Connected:
    """Fit a curve between two checkpoints on training samples, and evaluate it.

    Args:
        first: checkpoint at 0.
        second: checkpoint at 1.
        settings: of the curve and the samples.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        files: that the first surface will be written to.
        overwrite: replace files of surfaces of another recipe.
        progress: called with the number of steps of the fit done and of all.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for both.
        SettingError: networks of unlike parameters or losses.
        UsageError: a file of a surface of another recipe, a fit that diverges, or,
            for a plane, a bend on the line.
    """

    def read(path: Path, part: str) -> Network:
        return read_network(
            path,
            part="test" if part == "test" else "train",
            samples=settings.samples,
            device=device,
            trust=trust,
            belongs=belongs,
            loss=loss,
        )

    a, b = read(first, settings.part), read(second, settings.part)
    check_alike(a, b)
    recipe = recipe_of([a, b], settings)
    if not overwrite:
        check_same_recipe(files, recipe)
    models = a.objective.model, b.objective.model
    make = Curve.bezier if settings.curve == "bezier" else Curve.polychain
    # A curve that was fitted on the samples it is measured on says little of others.
    fitted_on = a if settings.part == "train" else read(first, "train")
    curve = make(*models, settings.bends).fit(
        fitted_on.objective,
        steps=settings.curve_steps,
        seed=settings.seed,
        progress=progress,
    )
    line = Line.between(*models)
    paths = {
        name: with_recipe(
            landscape(
                a.objective,
                along,
                (0, 1, settings.points),
                batch_norm=settings.batch_norm,
                samples="all",
                exact=True,
            ),
            recipe,
        )
        for name, along in (("curve", curve), ("line", line))
    }
    straight = make(*models, settings.bends)
    statistics = {
        "curve": curve.statistics(paths["curve"]),
        "line": straight.statistics(paths["line"]),
    }
    length = curve.length() / straight.length()
    if settings.view == "curve":
        return Connected(paths, statistics, length, notes=a.notes)
    plane, directions = _plane(curve, a.objective, settings)
    plane = with_recipe(plane, recipe)
    return Connected({"plane": plane}, statistics, length, directions, a.notes)


def _plane(
    curve: Curve, objective: Objective, settings: ConnectSettings
) -> tuple[Surface, Directions]:
    plane = curve.plane()
    with warnings.catch_warnings():
        # The path meets both networks, wherever the points of the grid are.
        warnings.filterwarnings("ignore", message=".*where the base point is")
        surface = landscape(
            objective, plane, batch_norm=settings.batch_norm, samples="all"
        )
    count = settings.points - 1
    places = [i / count for i in range(settings.points)]
    return surface.with_path(curve.path_in(plane, places)), plane.stored()
