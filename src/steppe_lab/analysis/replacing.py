"""Files that a command on landscapes would replace, and the recipes that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from steppe.batches import UNKNOWN
from steppe.errors import SteppeError, UsageError
from steppe.landscapes.subspaces.curve_file import ENDING as CURVE
from steppe.landscapes.subspaces.curve_file import read
from steppe.surfaces import Surface
from steppe.surfaces.files.exact_json import to_json
from steppe.surfaces.files.formats import WRITERS
from steppe_lab.analysis.single import Network
from steppe_lab.store.json_files import digest
from steppe_lab.training.checkpoints import versions

RECIPE = "recipe"  # the name of a recipe's digest in the details of a surface


def recipe_of(
    networks: Sequence[Network], settings: BaseModel, **more: Any
) -> str | None:
    """Digest of all that a surface follows from.

    Args:
        networks: that it leads through.
        settings: of its axes and samples.
        more: further content.

    Returns:
        None for batches that have no digest.
    """
    objective = networks[0].objective
    others = [network.test for network in networks if network.test is not None]
    if any(each.digest.startswith(UNKNOWN) for each in (objective, *others)):
        return None
    said = {
        "networks": [network.digest for network in networks],
        "settings": settings.model_dump(mode="json"),
        "data": objective.digest,
        "device": objective.device.type,
        "versions": versions(),
        **more,
    }
    return digest(said)


def with_recipe(surface: Surface, recipe: str | None) -> Surface:
    """The same surface, whose details have the recipe."""
    return replace(surface, details={**surface.details, RECIPE: recipe})


def check_same_recipe(files: Iterable[Path], recipe: str | None) -> None:
    """Refuse to replace files of surfaces or curves of another recipe.

    Args:
        files: to write; those of other formats are no files of surfaces or curves.
        recipe: of what is to be written; None is another one than any.

    Raises:
        UsageError: a file of another recipe, or of something else.
    """
    for path, details in _present(files):
        if recipe is None or details.get(RECIPE) != recipe:
            raise _another(path)


def check_same_details(files: Iterable[Path], surface: Surface) -> None:
    """Refuse to replace files of surfaces whose details are others.

    Raises:
        UsageError: such a file, or one of no surface.
    """
    own = to_json(dict(surface.details))
    for path, details in _present(files):
        if to_json(dict(details)) != own:
            raise _another(path)


def _present(files: Iterable[Path]) -> Iterable[tuple[Path, Mapping[str, Any]]]:
    """Files of surfaces and curves that are there, and the details of each."""
    for path in files:
        ending = path.suffix.lower()
        if ending not in (*WRITERS, CURVE) or not path.exists():
            continue
        try:
            about = read(path) if ending == CURVE else Surface.load(path)
            yield path, about.details
        except SteppeError:  # a damaged file, or one of something else
            yield path, {"": None}


def _another(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists and was not made of the same networks, data and settings; "
        "name another file, or give --overwrite to replace it."
    )
