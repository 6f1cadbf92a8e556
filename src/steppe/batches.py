"""Batches of an objective, from tensors, loaders, data sets and lists.

Shape letters: B batches.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.torch_internals import tree_leaves, tree_map

ARRAYS = (Tensor, np.ndarray)
MOST_BATCHES = 20_000  # that a stream without a length may have
MOST_BYTES = 2**33
DIGITS = 16  # of a digest that names data
UNKNOWN = "unknown-"  # before a digest of data whose content is not all read


def batches_of(data: Any, batch_size: int) -> Sequence[Any]:
    """Batches of data in any of the forms that an objective takes.

    Args:
        data: a tuple of tensors with one length, a `Dataset`, or an iterable of
            batches, which is read once.
        batch_size: rows per batch of tensors or a `Dataset`.

    Raises:
        DataError: data of another form, none at all, or a stream without an end.
    """
    if isinstance(data, tuple) and any(isinstance(t, ARRAYS) for t in data):
        batches = _rows(data, batch_size)
    elif isinstance(data, torch.utils.data.Dataset):
        batches = _read(torch.utils.data.DataLoader(data, batch_size=batch_size))
    elif isinstance(data, Iterable) and not isinstance(data, (*ARRAYS, Mapping, str)):
        batches = _read(data)
    else:
        raise DataError(
            "data must be a tuple (inputs, targets), a DataLoader or a list of "
            f"batches, got {type(data).__name__}."
        )
    if not batches:
        again = "; an iterator can be read once" if isinstance(data, Iterator) else ""
        raise DataError(f"the data is empty; give at least one sample{again}.")
    return batches


def variance_by_batch(sums: Tensor, counts: Sequence[int]) -> Tensor:
    """Variance of the mean over all terms where those of a batch may share a draw.

    Sums of whole batches are independent all the same: the variance of a cluster
    sample. Source: Cochran, 1977, Sampling Techniques, section 9A.2.

    Args:
        sums: of the terms of each batch, float64, shape (B, ...).
        counts: of the terms of each batch.

    Returns:
        Variances, shape (...); zeros for less than two batches with terms.
    """
    number = sum(count > 0 for count in counts)
    if number < 2:
        return torch.zeros_like(sums[0])
    weights = torch.tensor(counts, dtype=sums.dtype, device=sums.device)
    mean = sums.sum(0) / weights.sum()
    apart = sums - weights.view(-1, *[1] * (sums.dim() - 1)) * mean
    spread: Tensor = apart.square().sum(0) * number / (number - 1)
    return spread / weights.sum() ** 2


def _rows(data: tuple[Any, ...], batch_size: int) -> list[Any]:
    """Batches of tensors that have the samples along dimension 0."""
    for t in data:
        if not isinstance(t, Tensor):
            nested = isinstance(t, Mapping | tuple | list)
            mend = (
                "give a list of batches [(inputs, targets)] and a function loss(model, "
                "batch) that returns one loss for each sample"
                if nested
                else "convert it with torch.from_numpy or torch.as_tensor"
            )
            raise DataError(
                "a tuple (inputs, targets) must hold torch tensors, got "
                f"{type(t).__name__}; {mend}."
            )
        if t.layout != torch.strided:
            raise DataError(
                f"tensors must be dense to be cut into batches, got {t.layout}; give "
                "them as t.to_dense(), or a list of batches."
            )
        if not t.dim():
            raise DataError(
                "tensors must have the samples along dimension 0, got one of no "
                "dimension; give a single sample as x.unsqueeze(0)."
            )
    lengths = {len(t) for t in data}
    if len(lengths) != 1:
        raise DataError(
            f"inputs and targets must have one length, got {sorted(lengths)}."
        )
    rows = range(0, lengths.pop(), batch_size)
    return [tuple(t[i : i + batch_size] for t in data) for i in rows]


def _read(data: Iterable[Any]) -> list[Any]:
    """All batches; a stream of no length is refused where it seems to have no end."""
    try:
        len(data)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        pass
    else:
        return list(data)
    batches, size = [], 0
    for batch in data:
        batches.append(batch)
        size += sum(t.nbytes for t in tree_leaves(batch) if isinstance(t, Tensor))
        if len(batches) > MOST_BATCHES or size > MOST_BYTES:
            raise DataError(
                f"the data has no length and no end after {len(batches)} batches of "
                f"{size / 2**20:.3g} MiB; give a list of those to measure on, such as "
                "list(itertools.islice(data, 100))."
            )
    return batches


def error_of_mean(batches: Sequence[Tensor], dependent: bool) -> float:
    """Standard error of the mean of loss terms, inf where nothing tells it.

    Args:
        batches: the terms of each batch, float64.
        dependent: terms of one batch may share what is random.
    """
    losses = torch.cat(list(batches))
    terms = losses.numel()
    if terms < 2:
        return math.inf
    error: float = float(losses.std()) / terms**0.5
    if not dependent:
        return error
    sums = torch.stack([batch.sum() for batch in batches])
    counts = [batch.numel() for batch in batches]
    return max(error, math.sqrt(float(variance_by_batch(sums, counts))))


def on_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on a device; itself where it lies there already."""
    if type(batch) is tuple and all(_is_there(leaf, device) for leaf in batch):
        return batch
    return tree_map(partial(_moved, device=device), batch)


def _is_there(leaf: Any, device: torch.device) -> bool:
    plain = type(leaf) is Tensor and not leaf.is_inference()
    return plain and leaf.device == device


def _moved(leaf: Any, device: torch.device) -> Any:
    """A tensor of a batch on a device; anything else as it is."""
    if not isinstance(leaf, Tensor):
        return leaf
    there = leaf.to(device, non_blocking=True)
    # Autograd cannot save a tensor that was made under inference mode.
    return there.clone() if there.is_inference() else there


def digest_of(batches: Sequence[Any]) -> str:
    """The start of the SHA-256 of all values in batches, in their order."""
    content, known = hashlib.sha256(), True
    for leaf in tree_leaves(list(batches)):
        if isinstance(leaf, np.ndarray) and leaf.dtype != object:
            leaf = torch.from_numpy(leaf)
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
            content.update(f"{leaf.dtype}{tuple(leaf.shape)}".encode())
            flat = leaf.detach().cpu().contiguous().flatten()
            content.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(leaf, bool | int | float | str | None):
            content.update(repr(leaf).encode())
        else:
            known = False
            content.update(type(leaf).__name__.encode())
    start = content.hexdigest()[:DIGITS]
    return start if known else f"{UNKNOWN}{start}"
