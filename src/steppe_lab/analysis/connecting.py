"""A curve of low loss between two networks, and the loss along it and around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steppe.errors import SettingError, UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.curve import Curve, CurveStatistics
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective
from steppe.surfaces import Surface
from steppe.surfaces.files.directions import Directions
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.kept_points import NOT_KEPT, kept_folder
from steppe_lab.analysis.landscapes import check_alike
from steppe_lab.analysis.replacing import (
    RECIPE,
    check_same_recipe,
    recipe_of,
    with_recipe,
)
from steppe_lab.analysis.single import Network, read_network
from steppe_lab.runs.connect_settings import ConnectSettings
from steppe_lab.training.trained_loss import LossKind

Progress = Callable[[int, int], None]
FIT = ("curve", "bends", "curve_steps", "seed")  # settings that a stored curve has
KEPT = "curve.pt"
CURVE, LINE = "curve", "line"  # names of the paths
PATH = 16  # pieces of a path that is drawn on the plane


@dataclass(frozen=True)
class Connected:
    """A curve, the loss along it and along the line, and on the plane of the curve."""

    curve: Curve
    surfaces: dict[str, Surface]  # by name: curve, line, plane; files hold the first
    statistics: dict[str, CurveStatistics]  # by path: curve, line
    length: float  # of the curve over that of the line
    directions: Directions | None = None  # of a plane alone
    notes: tuple[str, ...] = ()  # without full stops


@dataclass(frozen=True)
class Asked:
    """How a connection is made, beside its networks and settings."""

    device: str | None = None  # None for the one trained on
    trust: Collection[str] = ()  # code of the user that the checkpoints may name
    belongs: Belongs | None = None  # of files of another program
    loss: LossKind = "trained"  # of checkpoints of steppe, or the plain one
    stored: Path | None = None  # file of a curve, which is not fitted then
    # Folder of all results, where the fit and finished points are kept and read again.
    keep: Path | None = None
    files: Collection[Path] = ()  # that the first surface or the curve is written to
    overwrite: bool = False  # replace files of another recipe
    fitting: Progress | None = None  # called with the steps of the fit done and of all
    evaluating: Progress | None = None  # the same of evaluations, path by path


def connected(
    first: Path, second: Path, settings: ConnectSettings, asked: Asked
) -> Connected:
    """Fit a curve between two checkpoints on training samples, and evaluate it.

    Args:
        first: checkpoint at 0.
        second: checkpoint at 1.
        settings: of the curve and the samples.
        asked: how it is made.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for both; a stored curve that
            is damaged or of other networks.
        SettingError: networks of unlike parameters or losses, or of the same weights;
            settings of a fit beside a stored curve.
        StoreError: the fit or finished points cannot be kept.
        UsageError: a file of a surface of another recipe, a fit that diverges, or,
            for a plane alone, a bend on the line.
    """
    _check_stored(settings, asked)

    def opened(path: Path, part: str) -> Network:
        return read_network(
            path,
            part="test" if part == "test" else "train",
            samples=settings.samples,
            device=asked.device,
            trust=asked.trust,
            belongs=asked.belongs,
            loss=asked.loss,
        )

    a, b = opened(first, settings.part), opened(second, settings.part)
    check_alike(a, b)
    # A curve that was fitted on the samples it is measured on says little of others.
    fitted_on = a if settings.part == "train" else opened(first, "train")
    models = a.objective.model, b.objective.model
    make = Curve.bezier if settings.curve == "bezier" else Curve.polychain
    straight = make(*models, settings.bends)
    if not straight.length():
        raise SettingError(
            f"{first} and {second} have the same weights; a curve needs two networks."
        )
    about: dict[str, Any] = {}
    stored = None
    if asked.stored is None:
        of_fit = settings.model_dump(include={*FIT, "samples"})
        recipe_of_fit = recipe_of([fitted_on, b], ConnectSettings(**of_fit))
    else:
        stored = Curve.from_file(asked.stored, *models)
        recipe_of_fit = stored.details.get(RECIPE)
        about = {"curve": stored.digests["directions"]}
    recipe = recipe_of([a, b], settings, **about)
    if not asked.overwrite:
        curves = [file for file in asked.files if file.suffix == Path(KEPT).suffix]
        check_same_recipe(curves, recipe_of_fit)
        check_same_recipe(set(asked.files).difference(curves), recipe)
    curve = stored or _fitted(straight, fitted_on, settings, recipe_of_fit, asked)
    place = _place_of_points([a, b], settings, curve, asked)
    options: dict[str, Any] = {
        "batch_norm": settings.batch_norm,
        "samples": "all",
        "progress": asked.evaluating,
    }
    paths = {
        name: with_recipe(
            landscape(
                a.objective,
                along,
                (0, 1, settings.points),
                exact=True,
                out=place and place / name,
                **options,
            ),
            recipe,
        )
        for name, along in ((CURVE, curve), (LINE, Line.between(*models)))
    }
    statistics = {
        CURVE: curve.statistics(paths[CURVE]),
        LINE: straight.statistics(paths[LINE]),
    }
    notes = list(a.notes)
    if asked.keep is not None and place is None:
        notes.append(f"the fit and points are not kept: {NOT_KEPT}")
    plane = None if settings.view == "curve" else _plane(curve, settings, notes)
    length = curve.length() / straight.length()
    if plane is None:
        return Connected(curve, paths, statistics, length, notes=tuple(notes))
    options["out"] = place and place / "plane"
    around = with_recipe(_around(curve, straight, plane, a.objective, options), recipe)
    alone = settings.view == "plane"
    return Connected(
        curve,
        {"plane": around} if alone else {**paths, "plane": around},
        statistics,
        length,
        plane.stored() if alone else None,
        tuple(notes),
    )


def _check_stored(settings: ConnectSettings, asked: Asked) -> None:
    """Refuse settings of a fit beside a curve that is not fitted."""
    default = ConnectSettings()
    set_too = [n for n in FIT if getattr(settings, n) != getattr(default, n)]
    if asked.stored is not None and set_too:
        raise SettingError(
            f"{', '.join(set_too)} belong to the fit of a curve, and {asked.stored} is "
            "of one that is fitted; leave them out."
        )


def _fitted(
    straight: Curve,
    network: Network,
    settings: ConnectSettings,
    recipe: str | None,
    asked: Asked,
) -> Curve:
    out = None
    if asked.keep is not None and recipe is not None:
        out = kept_folder(asked.keep, recipe) / KEPT
    curve = straight.fit(
        network.objective,
        steps=settings.curve_steps,
        seed=settings.seed,
        progress=asked.fitting,
        out=out,
    )
    return replace(curve, details={**curve.details, RECIPE: recipe})


def _place_of_points(
    networks: Sequence[Network],
    settings: ConnectSettings,
    curve: Curve,
    asked: Asked,
) -> Path | None:
    """The folder of points of these networks and settings, whichever are asked for."""
    of_points = ConnectSettings(**settings.model_dump(exclude={"view", "points"}))
    recipe = recipe_of(networks, of_points, points=curve.digests["directions"])
    if asked.keep is None or recipe is None:
        return None
    return kept_folder(asked.keep, recipe)


def _plane(curve: Curve, settings: ConnectSettings, notes: list[str]) -> Plane | None:
    """The plane of the bend; None, and a note, where it is asked for beside others."""
    try:
        return curve.plane()
    except UsageError:
        if settings.view == "plane":
            raise
        notes.append("there is no plane to draw, as the bend is on the line")
        return None


def _around(
    curve: Curve,
    straight: Curve,
    plane: Plane,
    objective: Objective,
    options: dict[str, Any],
) -> Surface:
    """The loss on the plane of a curve, with the curve and the line in it."""
    with warnings.catch_warnings():
        # The path meets both networks, wherever the points of the grid are.
        warnings.filterwarnings("ignore", message=".*where the base point is")
        surface = landscape(objective, plane, **options)
    places = [i / PATH for i in range(PATH + 1)]
    path = replace(curve.path_in(plane, places), labels=())
    # Surfaces with a height show what is between two points as a straight line.
    along = replace(straight.path_in(plane, places), name=LINE, labels=())
    return surface.with_path(path).with_path(along)
