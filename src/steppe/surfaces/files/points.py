"""A folder of points that are evaluated: written as they finish, read to go on.

A block of points is one file, whole or absent, whose name follows from its points. So a
process that is killed loses the blocks in work alone, and several processes may add
blocks at a time. `recipe.json` says of what the values are; each block names it, and
blocks of another recipe are refused, never mixed in.

Shape letters: K axes.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from steppe.errors import DataError, StoreError
from steppe.files import replace_file
from steppe.surfaces.files.exact_json import from_json, to_json
from steppe.surfaces.surface import Surface, Values

RECIPE = "recipe.json"
BLOCKS = "block-"  # how names of blocks begin
BLOCK = re.compile(rf"{BLOCKS}[0-9a-f]{{16}}\.json")
NEXT = "name another place as out, or pass resume=False to evaluate all points again"
# Entries of a recipe whose names say too little.
WORDS = {
    "means_at_the_base": "the loss and other means at the base point",
    "directions": "the directions",
    "weights": "the weights",
    "data": "the data",
    "networks": "the networks",
    "course": "the course of the curve",
    "way": "the strategy",
}

Point = tuple[float, ...]  # K coordinates
Numbers = Mapping[str, Any]  # of a point, by name


class PointFolder:
    """Numbers at points, in a folder that several processes may share.

    Args:
        path: the folder; missing ones are made.
        recipe: all that the numbers follow from, by name.
        about: further facts for `partial_surface`, such as units.

    Raises:
        DataError: the folder holds points of another recipe.
        StoreError: the folder cannot be read or written.
    """

    def __init__(
        self, path: Path, recipe: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        self.path = path
        self._digest = _digest(recipe)
        self._read: set[str] = set()
        content = {"recipe": dict(recipe), "about": dict(about)}
        if not (path / RECIPE).exists():
            if any(_blocks(path)):
                raise DataError(f"{path} has points but no {RECIPE}; {NEXT}.")
            self._write(RECIPE, content)
        self._check(recipe)

    def block(self, points: Sequence[Point]) -> Path:
        """The file of a block of points."""
        return self.path / f"block-{_digest(list(points))[:16]}.json"

    def add(self, points: Sequence[Point], numbers: Sequence[Numbers]) -> None:
        """Write a block: whole, and synced to disk, or not at all.

        Raises:
            StoreError: no space, or no right to write.
        """
        name = self.block(points).name
        entries = [
            [list(point), dict(values)]
            for point, values in zip(points, numbers, strict=True)
        ]
        self._write(name, {"of": self._digest, "points": entries})

    def new(self) -> dict[Point, Numbers]:
        """Numbers at the points of all blocks that were not read before.

        A damaged block is left out: its points are evaluated again.

        Raises:
            DataError: a block of another recipe.
        """
        found: dict[Point, Numbers] = {}
        for path in _blocks(self.path):
            if path.name in self._read:
                continue
            block = _sealed(path)
            if block is None:
                continue
            if block["of"] != self._digest:
                raise DataError(f"{path} is a block of another recipe; {NEXT}.")
            self._read.add(path.name)
            found |= {tuple(point): values for point, values in block["points"]}
        return found

    def _check(self, recipe: Mapping[str, Any]) -> None:
        stored = _sealed(self.path / RECIPE)
        if stored is None:
            raise DataError(f"{self.path / RECIPE} is damaged; {NEXT}.")
        theirs, ours = stored["recipe"], from_json(to_json(dict(recipe)))
        differing = [
            name
            for name in dict.fromkeys([*ours, *theirs])
            if to_json(theirs.get(name)) != to_json(ours.get(name))
        ]
        if differing:
            raise DataError(
                f"{self.path} holds points of another recipe: "
                f"{_listed(differing)} differ; {NEXT}."
            )

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        text = to_json({**content, "sha256": _digest(content)})
        try:
            replace_file(self.path / name, text.encode())
        except OSError as error:
            raise cannot_write(self.path / name, error) from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(WORDS.get(name, name.replace("_", " ")) for name in names)


def cannot_write(path: Path, error: OSError) -> StoreError:
    """One sentence for a refusal of the operating system."""
    reason = (error.strerror or str(error)).lower()
    return StoreError(
        f"cannot write {path}: {reason}; the points finished before are kept: make "
        "room or rights there, and make the same call again to go on."
    )


def clear_points(path: Path) -> None:
    """Remove the blocks and the recipe of a folder, and nothing else."""
    for file in [*_blocks(path), path / RECIPE]:
        file.unlink(missing_ok=True)


def has_points(path: Path) -> bool:
    """Whether a path is a folder of points."""
    return (path / RECIPE).is_file()


def partial_surface(path: Path) -> Surface:
    """The surface of all points of a folder, NaN where none is evaluated yet.

    Its coordinates are those that some point has.

    Raises:
        DataError: a folder without whole points.
    """
    stored = _sealed(path / RECIPE)
    if stored is None:
        raise DataError(f"{path} has no whole {RECIPE}; name a folder of points.")
    about = stored["about"]
    blocks = [block for block in map(_sealed, _blocks(path)) if block is not None]
    points = {tuple(p): numbers for block in blocks for p, numbers in block["points"]}
    if not points:
        raise DataError(f"no block of points in {path} is finished yet; wait for one.")
    axes = [sorted(set(along)) for along in zip(*points, strict=True)]
    places = [{c: i for i, c in enumerate(along)} for along in axes]
    shape = [len(along) for along in axes]

    def on_grid(of: Any) -> torch.Tensor:
        values = torch.full(shape[::-1], math.nan, dtype=torch.float64, device="cpu")
        for point, numbers in points.items():
            index = [place[c] for place, c in zip(places, point, strict=True)]
            values[tuple(reversed(index))] = of(numbers)
        return values

    return Surface(
        coordinates=tuple(map(tuple, axes)),
        loss=on_grid(lambda n: n["loss"]),
        stderr=on_grid(lambda n: n["stderr"]),
        rise_stderr=on_grid(lambda n: n["rise_stderr"]),
        subset_stderr=on_grid(lambda n: n["subset_stderr"]),
        computed=on_grid(lambda _: 1.0) == 1,
        samples=about["samples"],
        quantities={
            name: Values(
                values=on_grid(lambda n, name=name: n["quantities"][name][0]),
                stderr=on_grid(lambda n, name=name: n["quantities"][name][1]),
                units=units,
            )
            for name, units in about["units"].items()
        },
        axes=tuple(about["axes"]),
        details={**about["details"], "partial": True},
    )


def _blocks(path: Path) -> Iterator[Path]:
    files = sorted(path.iterdir()) if path.is_dir() else []
    return (file for file in files if BLOCK.fullmatch(file.name))


def _sealed(path: Path) -> dict[str, Any] | None:
    """The content of a file, None where it is not the one that was written."""
    try:
        content = from_json(path.read_text())
        seal = content.pop("sha256")
    except (OSError, ValueError, AttributeError, KeyError):
        return None
    return content if seal == _digest(content) else None


def _digest(content: Any) -> str:
    return hashlib.sha256(to_json(content).encode()).hexdigest()
