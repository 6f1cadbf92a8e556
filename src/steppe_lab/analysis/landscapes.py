"""The loss around a checkpoint, or on the line or plane through several."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from steppe.errors import DataError
from steppe.landscapes.checkpoints import read
from steppe.landscapes.directions.eigen import EigenSettings
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.subspaces.frames import Unit
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.landscapes.trajectories.projection import project
from steppe.objective import Objective
from steppe.seeds import seed_of
from steppe.surfaces import Surface, Trajectory
from steppe.surfaces.files.directions import Directions
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.kept_points import NOT_KEPT, kept_folder
from steppe_lab.analysis.replacing import (
    check_same_recipe,
    recipe_of,
    with_recipe,
)
from steppe_lab.analysis.single import (
    Network,
    check_one_loss,
    read_network,
)
from steppe_lab.analysis.training_files import training_files
from steppe_lab.runs.landscape_settings import LandscapeSettings, read_coordinates
from steppe_lab.training.trained_loss import LossKind

Progress = Callable[[int, int], None]
LETTERS = "xy"


@dataclass(frozen=True)
class Evaluated:
    """A surface, the directions that it lies along, and sentences on it."""

    surface: Surface
    directions: Directions | None  # None of a curve
    base: tuple[float, float]  # loss at the first checkpoint, and its standard error
    notes: tuple[str, ...] = ()  # without full stops


def landscape_of(
    checkpoints: Sequence[Path],
    settings: LandscapeSettings,
    store: Path,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    keep: Path | None = None,
    files: Collection[Path] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Evaluated:
    """Loss on a line or plane around a checkpoint, or through two or three.

    Args:
        checkpoints: the first is at 0 of all axes; the others, where the axes lead to
            them, are at 1 of an axis each.
        settings: of the axes and the samples.
        store: the folder of runs that ids are looked for in.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoints may name.
        belongs: of files of another program; None for those that steppe wrote.
        loss: that of checkpoints of steppe: the one trained on, or the plain one.
        keep: folder of all results, where finished points are kept and read again; None
            for nowhere.
        files: that the surface will be written to.
        overwrite: replace files of surfaces of another recipe.
        progress: called with the number of evaluations done and of all.

    Returns:
        Surface with the losses and their standard errors over the samples.

    Raises:
        CheckpointError: a file that is missing, damaged or not of the network.
        DataError: data that are missing, or not the same for all.
        SettingError: networks of unlike parameters, or settings that do not fit their
            number.
        StoreError: finished points cannot be kept.
        UsageError: a file of a surface of another recipe, without `overwrite`.
    """
    dirs, dims = settings.subspace(len(checkpoints))
    # The network itself ends its path.
    along = [
        file
        for file in training_files(settings.checkpoints, store)
        if file.resolve() != checkpoints[0].resolve()
    ]
    networks = [
        read_network(
            path,
            part=settings.part,
            samples=settings.data_samples,
            device=device,
            trust=trust,
            belongs=belongs,
            loss=loss,
            also_test=settings.also_test and number == 0,
        )
        for number, path in enumerate(checkpoints)
    ]
    first = networks[0]
    also = {} if first.test is None else {"test": first.test}
    for other in networks[1:]:
        check_alike(first, other)
    contents = [sha256(file.read_bytes()).hexdigest() for file in along]
    contents += [other.digest for other in also.values()]
    recipe = recipe_of(networks, settings, along=contents)
    if not overwrite:
        check_same_recipe(files, recipe)
    place, notes = _place_of_points(networks, contents, settings, keep)
    along = _without_base(along, first.objective)
    subspace = subspace_of(networks, dirs, dims, settings, along)
    letters = LETTERS[: len(subspace.axes)]
    with warnings.catch_warnings():
        # Sentences about the result say it, with the names of the checkpoints.
        warnings.filterwarnings("ignore", message=".*where the base point is")
        warnings.filterwarnings("ignore", message="the loss is finite at no point")
        surface = landscape(
            first.objective,
            subspace,
            axes=[read_coordinates(getattr(settings, each), each) for each in letters],
            batch_norm=settings.batch_norm,
            quantities=settings.quantities,
            every=settings.every,
            also=also,
            samples=settings.samples,
            seed=settings.seed,
            tolerance=settings.tolerance,
            exact=settings.exact,
            dtype=torch.bfloat16 if settings.dtype == "bfloat16" else None,
            compile=settings.compile,
            out=place,
            progress=progress,
        )
        base = _loss_at_base(surface, first.objective, subspace, settings)
    if along:
        path = project(
            subspace,
            [*along, first.objective.model],
            first.objective,
            labels=[*(file.stem for file in along), first.path.stem],
            batch_norm=settings.batch_norm,
        )
        surface = surface.with_path(path)
    surface = with_recipe(surface, recipe)
    return Evaluated(surface, subspace.stored(), base, (*first.notes, *notes))


def _without_base(files: Sequence[Path], objective: Objective) -> list[Path]:
    """Files whose weights are not those of the base, which counts once."""
    own = dict(objective.model.named_parameters())

    def is_base(file: Path) -> bool:
        state = read(file, own, file.stem)
        return all(
            torch.equal(state[name].to(p.device, p.dtype), p) for name, p in own.items()
        )

    return [file for file in files if not is_base(file)]


def _loss_at_base(
    surface: Surface,
    objective: Objective,
    subspace: Subspace,
    settings: LandscapeSettings,
) -> tuple[float, float]:
    """Loss at the base point and its standard error, also where no grid point is."""
    axes = list(zip(surface.coordinates, subspace.origin, strict=True))
    if not all(base in along for along, base in axes):
        surface = landscape(
            objective,
            subspace,
            axes=[[base] for _, base in axes],
            batch_norm=settings.batch_norm,
            samples=settings.samples,
            seed=settings.seed,
        )
        axes = [((base,), base) for _, base in axes]
    at = tuple(along.index(base) for along, base in reversed(axes))
    return float(surface.loss[at]), float(surface.stderr[at])


def _place_of_points(
    networks: Sequence[Network],
    contents: Sequence[str],
    settings: LandscapeSettings,
    keep: Path | None,
) -> tuple[Path | None, list[str]]:
    """The folder of points of these networks and settings, or a note why none."""
    if keep is None:
        return None, []
    # Whichever grid is asked for, its points are of one folder.
    of_grid = {"x": "", "y": "", "tolerance": 1.0, "exact": False}
    shared = recipe_of(networks, settings.model_copy(update=of_grid), along=contents)
    if shared is None:
        return None, [f"points are not kept: {NOT_KEPT}"]
    return kept_folder(keep, shared), []


def projected(
    surface: Surface,
    file: Path,
    network: Network,
    checkpoints: Sequence[Path],
    progress: Progress | None = None,
) -> tuple[Trajectory, Directions]:
    """The path of checkpoints on a surface, and the directions of the surface.

    Args:
        surface: of one or two axes.
        file: of the surface, with its directions.
        network: at the base of the surface.
        checkpoints: files along a training, one at least.
        progress: called with the number of checkpoints done and of all.

    Raises:
        DataError: directions of another network, or none.
        SettingError: no checkpoint, or one of another network.
    """
    kind: type[Line | Plane] = Line if len(surface.coordinates) == 1 else Plane
    subspace = kind.from_file(file, network.objective.model)
    check_same_data(surface, file, network.objective)
    path = project(
        subspace,
        checkpoints,
        network.objective,
        labels=[each.stem for each in checkpoints],
        progress=progress,
    )
    return path, subspace.stored()


def check_same_data(surface: Surface, file: Path, objective: Objective) -> None:
    """Refuse a surface of other data, samples or another loss than an objective.

    Raises:
        DataError: names the first difference; a surface that says nothing passes.
    """
    for name in ("loss", "data"):
        here, there = objective.details.get(name), surface.details.get(name)
        if here is not None and there is not None and here != there:
            raise DataError(
                f"{file} has {name} {there} and the checkpoint {here}, so that losses "
                "on the path are not those of the surface; give --data, --loss, --part "
                "and --data-samples as for the surface."
            )


def check_alike(first: Network, other: Network) -> None:
    """Refuse networks of other data, samples or another loss than the first.

    Raises:
        DataError: other data or samples.
        SettingError: another loss.
    """
    check_one_loss(first, other)
    if first.objective.digest != other.objective.digest:
        raise DataError(
            f"{first.path} and {other.path} are of other data or samples; a landscape "
            "needs one loss, so give checkpoints of the same data."
        )


def subspace_of(
    networks: Sequence[Network],
    dirs: str,
    dims: int,
    settings: LandscapeSettings,
    files: Sequence[Path] = (),
) -> Subspace:
    """The line or plane of the settings.

    Args:
        networks: the first is the base.
        dirs: kind of the directions.
        dims: number of axes.
        settings: of the directions.
        files: of checkpoints along a training, which components go along.

    Raises:
        SettingError: networks of unlike parameters.
    """
    models = [network.objective.model for network in networks]
    kind: type[Line | Plane] = Line if dims == 1 else Plane
    if dirs == "pca":
        ignore = settings.ignore or ("none",)
        return kind.pca([*files, models[0]], ignore=_one_or_all(ignore))
    if dirs == "eigen":
        return _along_eigenvectors(networks[0].objective, dims, settings)
    if dirs == "file":
        assert settings.dir_file is not None
        return kind.from_file(settings.dir_file, models[0], other_base=True)
    if len(models) == 3:
        return Plane.through(
            *models, orthogonal=settings.orthogonal, unit=settings.unit
        )
    if dims == 1:
        if dirs == "models":
            return Line.between(*models, unit=settings.unit)
        return _random(models[0], settings, 0, unit=settings.unit)
    if dirs == "random" and not (
        settings.y_norm or settings.y_ignore or settings.same_dir
    ):
        return Plane.random(
            models[0],
            settings.norm,
            _one_or_all(settings.ignore or ("biasbn",)),
            settings.seed,
            of=settings.of,
            orthogonal=settings.orthogonal,
            unit=settings.unit,
        )
    first = (
        Line.between(*models) if dirs == "models" else _random(models[0], settings, 0)
    )
    return Plane.of(
        first,
        _random(models[0], settings, 1),
        orthogonal=settings.orthogonal,
        unit=settings.unit,
        parallel=settings.same_dir,
    )


def _random(
    model: nn.Module,
    settings: LandscapeSettings,
    axis: int,
    unit: Unit = "direction",
) -> Line:
    """The random line along an axis; that of the second one is of `Plane.random`."""
    norm, ignore, seed = settings.norm, settings.ignore, settings.seed
    if axis:
        norm, ignore = settings.y_norm or norm, settings.y_ignore or ignore
        seed = seed if settings.same_dir else seed_of(seed, axis)
    ignored = _one_or_all(ignore or ("biasbn",))
    return Line.random(model, norm, ignored, seed, of=settings.of, unit=unit)


def _one_or_all(ignore: tuple[str, ...]) -> Ignore:
    return ignore[0] if len(ignore) == 1 else ignore


def _along_eigenvectors(
    objective: Objective, dims: int, settings: LandscapeSettings
) -> Subspace:
    first, *others = settings.eigenvectors or tuple(range(dims))
    more: EigenSettings = {"seed": settings.seed}
    if settings.lr is not None:
        more |= {"unit": "step", "lr": settings.lr}
    if dims == 1:
        return Line.eigen(objective, first, **more)
    return Plane.eigen(objective, (first, others[0]), **more)
