"""How a batch is shared out: to processes, and to loops of passes in each of them.

Shape letters: B samples of a batch, T parts of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import Tensor

from steppe_lab.training.processes import Processes
from steppe_lab.training.recipe import Recipe


@dataclass(frozen=True)
class Part:
    """Samples of a batch whose gradients are taken at weights of their own.

    Args:
        rows: positions in the batch; those that only fill the part up come last.
        real: number of the others.
        weight: of the mean loss over them, so that the mean over processes of the sums
            over their parts is the mean over the batch.
    """

    rows: Tensor
    real: int
    weight: float

    @cached_property
    def places(self) -> Tensor:
        """Positions within the part."""
        return torch.arange(len(self.rows))

    def counted(self, terms: Tensor) -> Tensor:
        """Terms of each sample in the loss, none of those that fill the part up.

        Args:
            terms: of all samples of the batch, (B,); not written to.
        """
        if self.real == len(self.rows) == len(terms):
            return terms
        counts = terms[self.rows]
        counts[self.real :] = 0
        return counts


@dataclass(frozen=True)
class Sharing:
    """Shares a batch out to T parts of neighbouring samples, as alike as can be.

    Several processes take parts of one length, so that all make the same passes; where
    the batch does not divide, a part is filled up by samples that do not count.

    Args:
        processes: this one among all.
        perturbations: parts of a batch that are perturbed apart; 1 for none.
    """

    processes: Processes
    perturbations: int

    @classmethod
    def of(cls, recipe: Recipe, processes: Processes) -> Sharing:
        """The one that a recipe asks for."""
        return cls(processes, recipe.perturbations)

    @property
    def jointly(self) -> bool:
        """Whether all samples of a batch are perturbed alike."""
        return self.perturbations == 1

    @property
    def sync(self) -> Literal["local", "global"] | None:
        """The option of optimizers; None for one process, which has no choice."""
        if self.processes.count == 1:
            return None
        return "global" if self.jointly else "local"

    def rows(self, size: int) -> Tensor:
        """Positions of the samples of all parts of this process, in their order."""
        return torch.cat([part.rows for part in self.parts(size)])

    def parts(self, size: int) -> tuple[Part, ...]:
        """Parts of this process, of a batch of so many samples."""
        return _parts(
            self.processes.rank, self.processes.count, self.perturbations, size
        )


@lru_cache(maxsize=8)  # an epoch has batches of one or two sizes
def _parts(rank: int, count: int, perturbations: int, size: int) -> tuple[Part, ...]:
    each = max(1, perturbations // count)
    every = torch.arange(size).tensor_split(each * count)
    first = rank * each
    own = [rows for rows in every[first : first + each] if count > 1 or len(rows)]
    longest = len(every[0]) if count > 1 else 0
    return tuple(
        Part(_filled(rows, longest), len(rows), count * len(rows) / size)
        for rows in own
    )


def _filled(rows: Tensor, length: int) -> Tensor:
    """Rows, and the first ones of the batch after them up to a length."""
    return torch.cat([rows, torch.arange(max(0, length - len(rows)))])
