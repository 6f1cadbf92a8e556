"""Quantities of a surface by name, on a grid that rises along both axes.

Shape letters: X points along the first axis, Y along the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steppe.errors import SettingError, brief, check_choice
from steppe.surfaces import Surface
from steppe.surfaces.slices import sliced_to

Array = NDArray[np.float64]
Surfaces = Surface | Mapping[str, Surface]

LOSS, STDERR, RISE, RISE_STDERR = "loss", "stderr", "rise", "rise_stderr"
RATIO = "eigenvalue_ratio"  # |smallest / largest|; computed where a surface lacks it
ENDS = ("smallest_eigenvalue", "top_eigenvalue")  # quantities that it follows from
_WORDS = {
    LOSS: "loss",
    STDERR: "standard error of the loss",
    RISE: "loss minus that at the base point",
    RISE_STDERR: "standard error of the rise",
    RATIO: "|smallest / largest eigenvalue|",
    ENDS[1]: "largest eigenvalue",
}


@dataclass(frozen=True)
class Shown:
    """A quantity on the grid of a plane."""

    x: Array  # (X,) ascending
    y: Array  # (Y,) ascending
    values: Array  # (Y, X); NaN and inf stay
    stderr: Array | None  # (Y, X)
    computed: NDArray[np.bool_]  # (Y, X); False where interpolated
    words: str  # name of the quantity
    in_loss: bool  # whether it is measured in units of the loss

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Where the values are finite, (Y, X)."""
        return np.isfinite(self.values)

    def lowest(self) -> tuple[int, int] | None:
        """Row and column of the least finite value; None where there is none."""
        if not self.finite.any():
            return None
        place = int(np.argmin(np.where(self.finite, self.values, np.inf)))
        row, column = np.unravel_index(place, self.values.shape)
        return int(row), int(column)

    def at(self, x: float, y: float) -> float:
        """The value at a point, bilinear between those around it; NaN outside."""
        if not (self.x[0] <= x <= self.x[-1] and self.y[0] <= y <= self.y[-1]):
            return float("nan")
        i, s = _between(self.x, x)
        j, t = _between(self.y, y)
        weights = np.outer((1 - t, t), (1 - s, s))
        corners = self.values[j : j + 2, i : i + 2]
        # A corner without weight may be infinite.
        return float(np.sum(weights[weights > 0] * corners[weights > 0]))


def by_name(surfaces: Surfaces) -> dict[str, Surface]:
    """Surfaces by name; one alone has an empty name.

    Raises:
        SettingError: neither a surface nor surfaces by name, or none.
    """
    named = {"": surfaces} if isinstance(surfaces, Surface) else surfaces
    if not isinstance(named, Mapping) or not all(
        isinstance(each, Surface) for each in named.values()
    ):
        raise SettingError(
            "surfaces must be a Surface or Surfaces by name, such as "
            f"{{'SGD': a, 'SAM': b}}, got {brief(surfaces)}."
        )
    if not named:
        raise SettingError("surfaces must hold at least one Surface, got none.")
    return dict(named)


def quantities_of(surface: Surface) -> list[str]:
    """Names of all quantities that a surface has, the loss first."""
    names = [LOSS, STDERR]
    if _origin(surface) is not None:
        names.append(RISE)
    if surface.rise_stderr is not None:
        names.append(RISE_STDERR)
    for name, quantity in surface.quantities.items():
        names.append(name)
        if quantity.stderr is not None:
            names.append(f"{name}_stderr")
    if RATIO not in names and all(name in names for name in ENDS):
        names.append(RATIO)
    return names


def words_of(surface: Surface, quantity: str) -> str:
    """A quantity as axes name it, with its unit.

    Raises:
        SettingError: the surface has none of this name.
    """
    check_choice("quantity", quantity, quantities_of(surface))
    kept = surface.quantities.get(quantity)
    units = kept.units if kept is not None else ""
    plain = quantity.replace("_", " ")
    name = _WORDS.get(quantity, plain.replace(" stderr", ", standard error"))
    return f"{name} ({units})" if units and units not in ("loss", name) else name


def tensors_of(surface: Surface, quantity: str) -> tuple[Tensor, Tensor | None]:
    """Values of a quantity in the order of the surface, and their standard errors.

    Raises:
        SettingError: the surface has none of this name.
    """
    check_choice("quantity", quantity, quantities_of(surface))
    if quantity in surface.quantities:
        kept = surface.quantities[quantity]
        return kept.values, kept.stderr
    if quantity == LOSS:
        return surface.loss, surface.stderr
    if quantity == STDERR:
        return surface.stderr, None
    if quantity == RISE:
        return surface.loss - surface.loss[_origin(surface)], surface.rise_stderr
    if quantity == RISE_STDERR and surface.rise_stderr is not None:
        return surface.rise_stderr, None
    if quantity == RATIO:
        low, high = (surface.quantities[name].values for name in ENDS)
        return (low / high).abs(), None
    errors = surface.quantities[quantity.removesuffix("_stderr")].stderr
    assert errors is not None
    return errors, None


def shown(surface: Surface, quantity: str = LOSS, *, figure: str) -> Shown:
    """A quantity of a plane.

    Args:
        surface: of two axes.
        quantity: "loss", "stderr", "rise" (the loss minus that at the base point),
            "rise_stderr", the name of one beside the loss, that name with "_stderr",
            or "eigenvalue_ratio" of a surface with "smallest_eigenvalue" and
            "top_eigenvalue". One that was evaluated on a part of the rows and columns
            is shown on these alone.
        figure: name of the function that needs it, for messages.

    Raises:
        SettingError: not two axes, an axis of one point, or no such quantity.
    """
    _check_plane(surface, figure)
    values, stderr = tensors_of(surface, quantity)
    kept = surface.quantities.get(quantity)
    axes = [np.asarray(along, dtype=np.float64) for along in (surface.y, surface.x)]
    lattices = lattice(surface, quantity)
    # Coordinates in any order, and one that is there twice once.
    (y, rows), (x, columns) = (
        np.unique(along[places], return_index=True)
        for along, places in zip(axes, lattices)
    )
    chosen = np.ix_(lattices[0][rows], lattices[1][columns])

    def on_grid(tensor: Tensor) -> NDArray[np.generic]:
        return tensor.detach().cpu().numpy()[chosen]

    computed = surface.computed
    return Shown(
        x=x,
        y=y,
        values=on_grid(values.double()),  # type: ignore[arg-type]
        stderr=None if stderr is None else on_grid(stderr.double()),  # type: ignore[arg-type]
        computed=np.ones((len(y), len(x)), dtype=bool)
        if computed is None
        else on_grid(computed),  # type: ignore[arg-type]
        words=words_of(surface, quantity),
        in_loss=quantity in (LOSS, STDERR, RISE, RISE_STDERR)
        or (kept is not None and kept.units == "loss"),
    )


def edges(places: Array) -> Array:
    """Edges of the cells around points, halfway between them; one more than points."""
    middles = (places[1:] + places[:-1]) / 2
    first, last = places[0] - (middles[0] - places[0]), 2 * places[-1] - middles[-1]
    return np.concatenate(([first], middles, [last]))


def lattice(surface: Surface, quantity: str) -> list[NDArray[np.intp]]:
    """Places along each axis, the last first, where a quantity has values.

    Quantities that take long are evaluated on every so many rows and columns of the
    grid; a row without any value is none of theirs. The loss has all places.
    """
    values, _ = tensors_of(surface, quantity)
    every = [np.arange(count) for count in values.shape]
    if quantity not in surface.quantities and quantity != RATIO:
        return every
    known = ~np.isnan(values.detach().cpu().double().numpy())
    axes = range(known.ndim)
    kept = [
        np.flatnonzero(known.any(axis=tuple(a for a in axes if a != axis)))
        for axis in axes
    ]
    return kept if all(len(places) > 1 for places in kept) else every


def axis_names(surface: Surface) -> list[str]:
    """Each axis in words: its letter, and its unit in brackets."""
    units: Sequence[str] = surface.axes or ("",) * len(surface.coordinates)
    pairs = zip(surface.letters, units)
    return [f"{letter} ({unit})" if unit else letter for letter, unit in pairs]


def _check_plane(surface: Surface, figure: str) -> None:
    count = len(surface.coordinates)
    if count != 2:
        use = (
            "plots.lines draws a surface of one axis"
            if count == 1
            else f"surface.{sliced_to(surface, 2)} is a plane of it"
        )
        raise SettingError(
            f"{figure} needs a surface of two axes, got one of {count}; {use}."
        )
    for letter, along in zip(surface.letters, surface.coordinates):
        if len(set(along)) < 2:
            raise SettingError(
                f"{figure} needs at least two points along each axis, got one along "
                f"{letter}; evaluate more, or a line."
            )


def _origin(surface: Surface) -> tuple[int, ...] | None:
    """Index of the base point in the tensors of a surface; None off the grid."""
    if surface.off_base or not all(0.0 in along for along in surface.coordinates):
        return None
    return tuple(along.index(0.0) for along in reversed(surface.coordinates))


def _between(places: Array, place: float) -> tuple[int, float]:
    """Index of the place before, and the share of the way to the next."""
    index = int(np.clip(np.searchsorted(places, place) - 1, 0, len(places) - 2))
    step = places[index + 1] - places[index]
    return index, float((place - places[index]) / step)
