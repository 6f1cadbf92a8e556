"""Subsets of a pool of samples: the pool in an order, of which the first are taken.

So with one seed every smaller subset of a kind lies within every larger one.

Shape letters: N samples of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe_lab.datasets.samples import AbstractSamples

Subset = Literal["random", "first", "stratified", "balanced"]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Samples in the order in which they are taken.

    Args:
        places: of the samples in the pool, shape (N,).
        shares: of the pool, ascending, shape (N,); a subset of a share holds the
            samples whose share is not larger.
        most: samples that may be taken.
        even: the samples that are left over are like those that are taken.
    """

    places: Tensor
    shares: Tensor
    most: int
    even: bool = True

    def count(self, share: float) -> int:
        """Number of samples in a share, rounded; above 0 and at most 1."""
        return int((self.shares <= share).sum())


def check_one_class_each(setting: str, targets: Tensor, classes: int) -> None:
    """Refuse targets that are more, or something else, than one class for each sample.

    Raises:
        SettingError: names the setting that needs classes.
    """
    if classes < 2:
        raise SettingError(
            f"{setting} needs at least 2 classes, got {classes}; leave it out."
        )
    if targets.dim() != 1:
        raise SettingError(
            f"{setting} needs one class for each sample, got targets of shape "
            f"{tuple(targets.shape)}; leave it out."
        )


def rank(
    kind: Subset, samples: AbstractSamples, classes: tuple[str, ...], places: Tensor
) -> Ranking:
    """The order in which a kind of subset takes samples.

    Args:
        kind: random takes them as they come here; first as they lie in the pool;
            stratified class by class in proportion, so that a share holds the rounded
            share of each class; balanced the same number of each class, or one more
            of some.
        samples: the pool.
        classes: names of its classes.
        places: of the samples that may be taken, in random order, shape (N,).

    Raises:
        SettingError: a kind that needs classes, and targets that are none.
    """
    if kind in ("random", "first"):  # whatever the targets are, which are not read
        return _plain(places if kind == "random" else places.sort().values)
    one = samples.targets_at(slice(0, 1))
    check_one_class_each(f"subset {kind}", one, len(classes))
    return _KINDS[kind](samples.targets[places], classes, places)


def _plain(places: Tensor) -> Ranking:
    return Ranking(places, _even_shares(len(places)), len(places))


def _stratified(targets: Tensor, classes: tuple[str, ...], places: Tensor) -> Ranking:
    sizes = targets.bincount(minlength=len(classes))
    # The method of Sainte-Lague: unlike largest remainders it takes no sample back
    # where one more is asked for, so that subsets lie within each other.
    shares = (_rank_in_class(targets) + 0.5) / sizes[targets]
    order = _by(shares, targets)
    return Ranking(places[order], shares[order], len(places))


def _balanced(targets: Tensor, classes: tuple[str, ...], places: Tensor) -> Ranking:
    smallest, rarest = targets.bincount(minlength=len(classes)).min(0)
    if smallest == 0:
        raise SettingError(
            f"subset balanced needs samples of every class, got none of "
            f"{classes[int(rarest)]}; choose stratified."
        )
    most = int(smallest) * len(classes)
    order = _by(_rank_in_class(targets), targets)
    shares = (torch.arange(len(places), dtype=torch.float64) + 0.5) / most
    return Ranking(places[order], shares, most, even=False)


def _even_shares(samples: int) -> Tensor:
    return (torch.arange(samples, dtype=torch.float64) + 0.5) / samples


def _rank_in_class(targets: Tensor) -> Tensor:
    """Number of earlier samples of the same class, float64 of shape (N,)."""
    order = targets.argsort(stable=True)
    sizes = targets.bincount()
    starts = sizes.cumsum(0) - sizes
    ranks = torch.empty(len(targets), dtype=torch.float64)
    ranks[order] = (torch.arange(len(targets)) - starts[targets[order]]).double()
    return ranks


def _by(keys: Tensor, targets: Tensor) -> Tensor:
    """Positions by ascending keys, and by class where keys are equal."""
    by_class = targets.argsort(stable=True)
    return by_class[keys[by_class].argsort(stable=True)]


_KINDS: Mapping[str, Callable[[Tensor, tuple[str, ...], Tensor], Ranking]] = {
    "stratified": _stratified,
    "balanced": _balanced,
}
