"""Rows of an orthonormal basis, in blocks of memory that are never copied.

Shape letters: D numbers of a row, n rows, K columns.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 16  # of a block
CHUNK = 2**20  # entries of the rows that a change of basis takes at a time


class Basis:
    """Rows of D numbers each; more of them need no second place for the others.

    Args:
        size: D.
        dtype: of the rows.
        device: of the rows.
        most: rows there are to be at most.
    """

    def __init__(
        self, size: int, dtype: torch.dtype, device: torch.device, most: int
    ) -> None:
        self.dtype = dtype
        self.device = device
        self._size = size
        self._most = most
        self._blocks: list[Tensor] = []
        self._filled = 0

    def __len__(self) -> int:
        return self._filled

    def append(self, row: Tensor) -> None:
        """Add a row, shape (D,)."""
        if self._filled == sum(map(len, self._blocks)):
            rows = min(ROWS, self._most - self._filled)
            shape = (rows, self._size)
            block = torch.empty(shape, dtype=self.dtype, device=self.device)
            self._blocks.append(block)
        self.row(self._filled).copy_(row)
        self._filled += 1

    def row(self, number: int) -> Tensor:
        """One row, as a view."""
        return self._blocks[number // ROWS][number % ROWS]

    def rows(self, first: int, end: int) -> Tensor:
        """Neighbouring rows, shape (end - first, D); a view where one block has all."""
        block, start = divmod(first, ROWS)
        if start + end - first <= ROWS and block < len(self._blocks):
            return self._blocks[block][start : start + end - first]
        return torch.stack([self.row(number) for number in range(first, end)])

    def along(
        self, vectors: Tensor, count: int | None = None, part: slice = slice(None)
    ) -> Tensor:
        """Inner products of the first n rows with vectors.

        Args:
            vectors: shape (D,) or (D, K); of the entries of the part alone.
            count: n; None for all rows.
            part: entries of a row that count.
        """
        blocks = self._of_first(self._filled if count is None else count)
        products = [rows[:, part] @ vectors for rows in blocks]
        return torch.cat(products) if products else vectors[:0]

    def combined(self, coefficients: Tensor) -> Tensor:
        """Sums of the first n rows, coefficients (n,) or (n, K) to (D,) or (D, K)."""
        wanted = coefficients.to(self.device, self.dtype)
        total = torch.zeros(
            (self._size, *wanted.shape[1:]), dtype=self.dtype, device=self.device
        )
        begins = range(0, len(wanted), ROWS)
        for begin, rows in zip(begins, self._of_first(len(wanted)), strict=True):
            total += rows.mT @ wanted[begin : begin + ROWS]
        return total

    def gram(self, count: int, part: slice) -> Tensor:
        """Inner products of the first n rows over some of their entries, (n, n)."""
        blocks = self._of_first(count)
        columns = [self.along(rows[:, part].mT, count, part) for rows in blocks]
        return torch.cat(columns, dim=1)

    def overlaps(self, count: int, other: Basis, others: int) -> Tensor:
        """Inner products of the first rows of two bases, (count, others)."""
        columns = [self.along(rows.mT, count) for rows in other._of_first(others)]
        return torch.cat(columns, dim=1)

    def change(self, first: int, mix: Tensor) -> None:
        """Replace the n rows from one on by combinations of them, mix (K, n)."""
        end = self._filled
        mix = mix.to(self.device, self.dtype)
        for begin in range(0, self._size, CHUNK):
            columns = slice(begin, begin + CHUNK)
            old = torch.stack([self.row(i)[columns] for i in range(first, end)])
            for number, row in enumerate(mix @ old, first):
                self.row(number)[columns] = row
        self._filled = first + len(mix)

    def _of_first(self, count: int) -> Iterator[Tensor]:
        """Views of the first n rows, block by block."""
        for begin, block in zip(range(0, count, ROWS), self._blocks, strict=False):
            yield block[: count - begin]
