"""Images in files that are decoded when they are asked for.

Shape letters: N images, B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from steppe_lab.datasets.formats.images import Centre, Cut, decoded, sizes_of
from steppe_lab.datasets.samples import AbstractSamples, Batch, Standardisation


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageFiles(AbstractSamples):
    """Images of any size, of which the middle is seen.

    All files share one list; `files` names those that are samples, so that choosing
    some copies no names.
    """

    folder: Path
    names: tuple[str, ...]  # of all files, below the folder
    bytes: Tensor  # that each of them has, int64
    files: Tensor  # (N,) positions in the list
    targets: Tensor  # (N,) int64
    centre: Centre  # how an image is brought to its size
    standardisation: Standardisation

    def count(self) -> int:
        """Number of images."""
        return len(self.files)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (3, H, W)."""
        return (3, self.centre.side, self.centre.side)

    def chosen(self, positions: Tensor) -> Self:
        """The images at some positions, in that order."""
        return replace(
            self, files=self.files[positions], targets=self.targets[positions]
        )

    def with_targets(self, targets: Tensor) -> Self:
        """The same images with other targets."""
        return replace(self, targets=targets)

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Classes at some positions."""
        return self.targets[positions]

    def batch(self, positions: Tensor | slice) -> Batch:
        """Standardised middles (B, 3, H, W) and classes (B,)."""
        pixels, targets = self.rows(positions)
        return self.standardisation(pixels), targets

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Views of neighbouring rows."""
        inputs, targets = batch
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        return inputs[place], targets[place]

    def rows(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Middles of images, uint8 of shape (B, 3, H, W), and classes (B,)."""
        paths = self._paths(positions)
        pixels = decoded(paths, [self.centre] * len(paths))
        return pixels, self.targets[positions]

    def sizes(self, positions: Tensor | slice) -> Tensor:
        """Rows and columns of images as they are in the files, (B, 2)."""
        return sizes_of(self._paths(positions))

    def cut(self, positions: Tensor | slice, boxes: Tensor) -> Tensor:
        """Boxes of images as they are in the files, uint8 of shape (B, 3, H, W).

        Args:
            positions: of B images.
            boxes: top, left, height and width of each, (B, 4).
        """
        side = self.centre.side
        changes = [
            Cut((left, top, left + width, top + height), side)
            for top, left, height, width in boxes.tolist()
        ]
        return decoded(self._paths(positions), changes)

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Names and sizes of the files, how they become inputs, and the classes.

        They stand for the contents: to read all files of ImageNet takes longer than to
        train on some.
        """
        names = "\n".join(self.names[file] for file in self.files.tolist())
        letters = torch.from_numpy(np.frombuffer(names.encode(), np.uint8).copy())
        standardisation = (self.standardisation.mean, self.standardisation.std)
        how = f"{self.centre} {standardisation} "
        yield f"{self.count()} files {how}", iter([letters, self.bytes[self.files]])
        yield f"{tuple(self.targets.shape)} {self.targets.dtype} ", iter([self.targets])

    def _paths(self, positions: Tensor | slice) -> list[Path]:
        files = self.files[positions].tolist()
        return [self.folder / self.names[file] for file in files]
