"""Data of the user that are no `Dataset`: tensors, loaders, lists of batches.

Shape letters: N samples, B batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset
from torch.utils.data import Dataset as TorchDataset

from steppe.errors import DataError, brief
from steppe.torch_internals import tree_leaves, tree_map
from steppe_lab.datasets.abstract import Dataset
from steppe_lab.datasets.samples import AbstractSamples, TensorSamples
from steppe_lab.datasets.split import positions_of
from steppe_lab.datasets.tokens import TokenSamples

Part = Literal["train", "test"]
PARTS: tuple[Part, Part] = ("train", "test")
ROWS = 256  # of a batch, where the data come without batches
OWN = (
    "load() gives (inputs, targets) as tensors, a Dataset or DataLoader of torch, or a "
    "list of batches; or a dict of two of them, 'train' and 'test'"
)


@dataclass(frozen=True, eq=False)
class OwnData:
    """Training and test data in the form that the user has them in.

    Args:
        name: module:function, for messages.
        parts: by "train" and "test", at least one of them.
    """

    name: str
    parts: Mapping[Part, Any]

    @classmethod
    def of(cls, name: str, value: Any) -> OwnData:
        """Tell training from test data.

        Raises:
            DataError: something that is no data.
        """
        parts = _parts(value)
        for each in parts.values():
            if not (_is_rows(each) or _is_many(each)):
                raise DataError(f"data {name} gave {brief(each)}; {OWN}.")
        return cls(name, parts)

    def batches(self, part: Part, samples: int, *, seed: int = 0) -> list[Any]:
        """Batches of at most so many samples of a part, and of one at least.

        Tensors and data sets are drawn from by the seed; of batches the first ones are
        taken as they are, as long as they fit.

        Raises:
            DataError: there is no such part, or it is empty.
        """
        if part not in self.parts:
            there = ", ".join(self.parts)
            raise DataError(
                f"data {self.name} gives no {part} samples but {there} ones; choose "
                f"--part {there}, or let it give a dict of 'train' and 'test'."
            )
        data = self.parts[part]
        if _is_rows(data):
            batches = _cut(data, positions_of(part, _rows(data), samples, seed=seed))
        elif _is_indexed(data):
            chosen = positions_of(part, len(data), samples, seed=seed).tolist()
            batches = list(DataLoader(Subset(data, chosen), batch_size=ROWS))
        else:
            batches = list(_first(data, samples))
        if not batches:
            raise DataError(f"the {part} data of {self.name} are empty; {OWN}.")
        return [tree_map(_tensor, batch) for batch in batches]

    def dataset(self) -> Dataset:
        """The data as a `Dataset`, to train on.

        Raises:
            DataError: one part alone, or parts that are no tensors.
        """
        if set(self.parts) != set(PARTS):
            raise DataError(
                f"training needs data to judge on, but {self.name} gives "
                f"{', '.join(self.parts)} samples alone; let it give a dict of 'train' "
                "and 'test'."
            )
        train, test = (self._samples(part) for part in PARTS)
        kinds = {each.targets.is_floating_point() for each in (train, test)}
        if kinds == {True}:
            return Dataset(name=self.name, train=train, test=test, task="regression")
        known = max(int(each.targets.max()) for each in (train, test))
        if isinstance(train, TokenSamples) and isinstance(test, TokenSamples):
            known = max(known, int(train.inputs.max()), int(test.inputs.max()))
        classes = tuple(map(str, range(known + 1)))
        task = "classification" if train.targets.dim() == 1 else "next_token"
        return Dataset(
            name=self.name, train=train, test=test, classes=classes, task=task
        )

    def _samples(self, part: Part) -> AbstractSamples:
        given = self.parts[part]
        data: Any = tree_map(_tensor, given) if _is_rows(given) else ()
        if isinstance(data, Tensor) and _is_tokens(data):
            return TokenSamples.from_sequences(data)
        if len(data) != 2 or not all(isinstance(each, Tensor) for each in data):
            raise DataError(
                f"training needs (inputs, targets) as tensors, but the {part} data of "
                f"{self.name} are {brief(given)}; give tensors, or a "
                "steppe_lab.datasets.Dataset."
            )
        inputs, targets = data
        if targets.is_floating_point():
            targets = targets.float().reshape(len(targets), -1)
        elif targets.dim() == 2 and inputs.shape == targets.shape:
            return TokenSamples(inputs, targets.long())
        else:
            targets = targets.long()
        return TensorSamples(inputs, targets)


def _parts(value: Any) -> dict[Part, Any]:
    if isinstance(value, Mapping) and value and set(value) <= set(PARTS):
        return {part: value[part] for part in PARTS if part in value}
    if isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value)):
        return dict(zip(PARTS, value, strict=True))
    return {"train": value}


def _is_whole(value: Any) -> bool:
    """Whether a value is data of its own, and not the inputs or targets of some."""
    pair = isinstance(value, tuple) and len(value) == 2
    return isinstance(value, TorchDataset | DataLoader) or (pair and _is_rows(value))


def _is_rows(value: Any) -> bool:
    """Whether a value is tensors or arrays with one sample in each row."""
    if not isinstance(value, Tensor | np.ndarray | tuple | Mapping):
        return False
    leaves = tree_leaves(_plain(value))
    arrays = all(isinstance(leaf, Tensor | np.ndarray) and leaf.ndim for leaf in leaves)
    return bool(leaves) and arrays and len({len(leaf) for leaf in leaves}) == 1


def _is_many(value: Any) -> bool:
    """Whether a value is a data set or batches, and no single thing."""
    single = isinstance(value, Tensor | np.ndarray | tuple | Mapping | str | bytes)
    return isinstance(value, Iterable | TorchDataset) and not single


def _plain(value: Any) -> Any:
    """A mapping of another library as a dict, which trees are made of."""
    return dict(value) if isinstance(value, Mapping) else value


def _is_indexed(value: Any) -> bool:
    return isinstance(value, TorchDataset) and not isinstance(value, IterableDataset)


def _is_tokens(value: Tensor) -> bool:
    return value.dim() == 2 and not value.is_floating_point()


def _rows(data: Any) -> int:
    return len(tree_leaves(_plain(data))[0])


def _cut(data: Any, positions: Tensor) -> list[Any]:
    """The rows at some positions, ROWS in a batch and the rest in the last."""
    whole = tree_map(_tensor, _plain(data))
    return [
        tree_map(lambda leaf, rows=rows: leaf[rows], whole)
        for rows in torch.split(positions, ROWS)
        if len(rows)  # no rows are split into one batch of none
    ]


def _first(data: Iterable[Any], samples: int) -> Iterator[Any]:
    """The first batches of so many samples in all, and the very first in any case."""
    if isinstance(data, IterableDataset):
        data = DataLoader(data, batch_size=ROWS)
    seen = 0
    for batch in data:
        kept = _plain(batch)
        sized = [x for x in tree_leaves(kept) if isinstance(x, Tensor) and x.dim()]
        count = len(sized[0]) if sized else 1
        if seen and seen + count > samples:
            return
        seen += count
        yield kept


def _tensor(leaf: Any) -> Any:
    return torch.as_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf
