"""Random numbers of attacks: those of a sample depend on no other sample.

So a result is the same whatever the size of the batches, and whichever samples an
earlier budget has done with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steppe.adversarial.balls import Ball, along_rows


@dataclass(frozen=True)
class Draws:
    """Streams of random numbers, one for each of B samples.

    Args:
        seed: of all of them.
        places: of the samples, B whole numbers.
    """

    seed: int
    places: Sequence[int]

    def uniform(self, like: Tensor, number: int) -> Tensor:
        """Uniform numbers in [-1, 1), shape (B, ...).

        Args:
            like: B rows of the shape, dtype and device.
            number: of the draw; another one gives other numbers.
        """
        rows = [
            2 * source.random(like.shape[1:], dtype=np.float32) - 1
            for source in self._sources(number)
        ]
        return torch.from_numpy(np.stack(rows)).to(like)

    def in_ball(self, ball: Ball, number: int) -> Tensor:
        """A displacement in a ball of rows, shape (B, ...).

        It is uniform for the norm "inf"; for "2" its direction and its length are.

        Args:
            ball: with one tensor of B rows.
            number: of the draw.
        """
        (like,) = ball.like
        if ball.norm == "inf":
            return ball.radius * self.uniform(like, number)
        rows, lengths = [], []
        for source in self._sources(number):
            rows.append(source.standard_normal(like.shape[1:], dtype=np.float32))
            lengths.append(source.random(dtype=np.float32))
        normal = torch.from_numpy(np.stack(rows)).to(like)
        (way,) = ball.direction([normal], lambda: [normal])
        shares = torch.from_numpy(np.stack(lengths)).to(like)
        return ball.radius * along_rows(shares, like) * way

    def _sources(self, number: int) -> list[np.random.Generator]:
        return [np.random.default_rng((self.seed, p, number)) for p in self.places]
