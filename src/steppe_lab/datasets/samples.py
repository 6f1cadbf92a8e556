"""Samples of a data set in memory: chosen by position, made batches of.

Shape letters: N samples, B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from steppe.torch_internals import tree_map
from steppe_lab.transfer import sent

Batch = tuple[Any, Tensor]  # inputs as the model takes them, and B targets
Numbers = tuple[float, ...]
CHUNK = 4096  # samples standardised at once for a fingerprint
AT_ONCE = 2**26  # bytes of float32 that inputs of all samples are kept in


class AbstractSamples(ABC):
    """N samples, each an input and a target.

    Attributes:
        targets: of all samples, shape (N, ...).
        contiguous: whether they are neighbouring pieces of one text in its order, so
            that a network may carry its state from one to the next.
    """

    if TYPE_CHECKING:  # a field of some samples, made when it is asked for by others

        @property
        def targets(self) -> Tensor: ...

    contiguous: bool = False

    def __len__(self) -> int:
        return self.count()

    @abstractmethod
    def count(self) -> int:
        """Number of inputs, which there must be targets for."""

    @property
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, as far as a model must know it."""

    @abstractmethod
    def chosen(self, positions: Tensor) -> Self:
        """The samples at some positions, in that order."""

    @abstractmethod
    def with_targets(self, targets: Tensor) -> Self:
        """The same inputs with other targets, shape (N, ...)."""

    @abstractmethod
    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Targets at some positions, as in a batch of them; on the host."""

    @abstractmethod
    def batch(self, positions: Tensor | slice) -> Batch:
        """The samples at some positions, as a model takes them; on the host."""

    @abstractmethod
    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Some neighbouring rows of a batch, as a batch."""

    @abstractmethod
    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """All that results depend on, for a fingerprint: a header, then its data."""

    def batches(self, size: int) -> list[Batch]:
        """All samples in their order, `size` in a batch and the rest in the last."""
        return list(self.pieces(size))

    def pieces(self, size: int) -> Iterator[Batch]:
        """The same one by one, so that only one of them is in memory."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size))


@runtime_checkable
class Sequences(Protocol):
    """Samples of unlike lengths."""

    @property
    def lengths(self) -> Tensor:
        """Positions of each sample, (N,), by which their batches may be made."""


@runtime_checkable
class CountedTargets(Protocol):
    """Samples whose targets are tokens, one or more each, known without padding."""

    def token_range(self) -> tuple[int, int]:
        """The smallest and the largest token of all targets."""

    def counts_at(self, positions: Tensor | slice) -> Tensor:
        """Tokens to predict at some positions, (B,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Standardisation:
    """Pixels x become (x / scale - mean) / std in float32, channel by channel."""

    mean: Numbers | Tensor  # (C,), or (C, H, W) of each pixel; after scale
    std: Numbers  # (C,)
    scale: float  # the largest pixel value

    def __call__(self, pixels: Tensor) -> Tensor:
        """Standardise pixels, shape (N, C, H, W)."""
        mean, std, scale = self.constants(pixels.device)
        inputs = pixels.to(torch.float32, copy=True)
        return inputs.div_(scale).sub_(mean).div_(std)

    def constants(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, std and scale on a device, where they stay once they are asked for."""
        if device not in self._on:
            mean, std = (
                self._constant(self.mean, device),
                self._constant(self.std, device),
            )
            # A tensor too: by a number a GPU multiplies with the reciprocal, and bits
            # would depend on where the pixels lie, that is on how much memory was free.
            self._on[device] = mean, std, self._constant((self.scale,), device)
        return self._on[device]

    @cached_property
    def _on(self) -> dict[torch.device, tuple[Tensor, Tensor, Tensor]]:
        return {}

    @staticmethod
    def _constant(values: Numbers | Tensor, device: torch.device) -> Tensor:
        tensor = torch.as_tensor(values, device=device)
        return tensor if tensor.dim() == 3 else tensor.view(-1, 1, 1)


@dataclass(frozen=True, eq=False)
class TensorSamples(AbstractSamples):
    """Samples whose inputs are rows of one tensor, such as images.

    Args:
        stored: inputs as published, shape (N, ...), such as uint8 pixels.
        targets: shape (N, ...).
        standardisation: turns stored inputs into those of a model; None for as they
            are.
    """

    stored: Tensor
    targets: Tensor
    standardisation: Standardisation | None = None

    @property
    def inputs(self) -> Tensor:
        """Inputs of all samples as a model takes them, shape (N, ...)."""
        return self._standardised(slice(None))

    def count(self) -> int:
        """Number of rows of the inputs."""
        return len(self.stored)

    @cached_property
    def standardised(self) -> TensorSamples:
        """The same samples with standardised inputs, which are kept."""
        return replace(self, stored=self.inputs, standardisation=None)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W)."""
        return tuple(self.stored.shape[1:])

    def chosen(self, positions: Tensor) -> Self:
        """The samples at some positions, in that order."""
        return replace(
            self, stored=self.stored[positions], targets=self.targets[positions]
        )

    def with_targets(self, targets: Tensor) -> Self:
        """The same inputs with other targets."""
        return replace(self, targets=targets)

    def on(self, device: torch.device) -> Self:
        """The same samples, stored on a device."""
        return replace(
            self, stored=self.stored.to(device), targets=self.targets.to(device)
        )

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Targets at some positions."""
        return _rows(self.targets, positions)

    def batch(self, positions: Tensor | slice) -> Batch:
        """Standardised inputs (B, ...) and targets (B, ...)."""
        inputs, targets = self.rows(positions)
        standardise = self.standardisation
        return inputs if standardise is None else standardise(inputs), targets

    def rows(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Stored inputs and targets at some positions, where the samples lie."""
        if isinstance(positions, Tensor):
            positions = sent(positions, self.stored.device)
        return _rows(self.stored, positions), _rows(self.targets, positions)

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Views of neighbouring rows."""
        inputs, targets = batch
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        return inputs[place], targets[place]

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Standardised inputs and targets."""
        # In chunks: CIFAR-10 is 600 MB in float32.
        pieces = (self._standardised(slice(i, i + CHUNK)) for i in self._starts())
        dtype = self._standardised(slice(0, 1)).dtype
        yield f"{tuple(self.stored.shape)} {dtype} ", pieces
        yield f"{tuple(self.targets.shape)} {self.targets.dtype} ", iter([self.targets])

    def _starts(self) -> Sequence[int]:
        return range(0, len(self), CHUNK)

    def _standardised(self, positions: Tensor | slice) -> Tensor:
        inputs: Tensor = self.batch(positions)[0]
        return inputs


def _rows(values: Tensor, positions: Tensor | slice) -> Tensor:
    """Rows of a tensor: views of a slice, copies at positions, (B,)."""
    if isinstance(positions, slice):
        return values[positions]
    # It copies whole rows; indexing goes entry by entry, and takes ten times as long.
    return values.index_select(0, positions)


def resident(samples: AbstractSamples, device: torch.device) -> AbstractSamples:
    """Samples stored on a device where a quarter of its free memory holds them.

    Others stay where they are, and so do samples of a CPU, which are there already.
    """
    if device.type != "cuda" or not isinstance(samples, TensorSamples):
        return samples
    size = samples.stored.nbytes + samples.targets.nbytes
    free, _ = torch.cuda.mem_get_info(device)
    return samples.on(device) if size <= free // 4 else samples


def standardised_once(samples: AbstractSamples) -> AbstractSamples:
    """The same samples with standardised inputs, where 64 MiB hold these.

    They are computed at the first call, for all trainings on these samples. Batches at
    positions have the same bits; those of a slice are views, which nobody may write to.
    """
    if not isinstance(samples, TensorSamples) or samples.standardisation is None:
        return samples
    small = 4 * samples.stored.numel() <= AT_ONCE
    return samples.standardised if small else samples


def on_device(batch: Batch, device: str | torch.device) -> Batch:
    """A batch on a device: its tensors, and inputs that know how to move."""

    def moved(leaf: Any) -> Any:
        return leaf.to(device) if hasattr(leaf, "to") else leaf

    inputs, targets = batch
    if isinstance(inputs, Tensor):  # without the tree, whose walk takes longer
        return inputs.to(device), targets.to(device)
    return tree_map(moved, inputs), targets.to(device)
