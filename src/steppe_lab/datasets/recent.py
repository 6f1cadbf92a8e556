"""Splits that this process has read before, for the many runs that share one.

A split is given again where all that it follows from is the same: data set, selection,
folder, the code of the user by its digest, and of published files their names, sizes
and times. What is in a split that somebody has written to is read again. Files that
code of the user reads are not known: a process reads them once.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from steppe.registry.registry import is_code
from steppe.torch_internals import version
from steppe_lab.datasets.abstract import DATASETS
from steppe_lab.datasets.graphs import GraphSamples
from steppe_lab.datasets.loading import DataSettings, folder_of_data, load_split
from steppe_lab.datasets.pairs import PairSamples, Sentences
from steppe_lab.datasets.samples import AbstractSamples, TensorSamples
from steppe_lab.datasets.split import Split
from steppe_lab.datasets.texts import TextSamples
from steppe_lab.datasets.tokens import TokenSamples

BYTES = 2**28  # of several splits at once; a larger one is held alone
MOST_FILES = 1000  # in the folders of a data set, which are looked at for each run
_IN_MEMORY = (TensorSamples, TokenSamples, TextSamples, GraphSamples, PairSamples)


class RunSettings(DataSettings, Protocol):
    """Settings that also name the code of the user, such as a recipe."""

    @property
    def code(self) -> dict[str, str]:
        """Digests of its source files, by name."""


@dataclass(frozen=True)
class _Held:
    split: Split
    versions: tuple[int, ...]  # of its tensors
    bytes: int


_HELD: OrderedDict[Hashable, _Held] = OrderedDict()  # the last one used is the last


def recent_split(settings: RunSettings) -> Split:
    """The split that settings name, as `load_split` reads it.

    Args:
        settings: data set, selection and code.

    Raises:
        DataError: as `load_split`.
        SettingError: as `load_split`.
    """
    key = _key(settings)
    held = _HELD.get(key)
    if held is not None and _versions(held.split) == held.versions:
        _HELD.move_to_end(key)
        return held.split
    _HELD.pop(key, None)
    if sum(each.bytes for each in _HELD.values()) > BYTES:
        _HELD.clear()  # before another one needs as much memory
    split = load_split(settings)
    # The files are looked at before and after: what is written meanwhile is new.
    if key is not None and _key(settings) == key:
        _hold(key, split)
    return split


def forget_splits() -> None:
    """Let go of all splits."""
    _HELD.clear()


def _hold(key: Hashable, split: Split) -> None:
    versions = _versions(split)
    if versions is None:
        return
    size = sum(tensor.nbytes for tensor in _tensors(split) or ())
    _HELD[key] = _Held(split, versions, size)
    while len(_HELD) > 1 and sum(each.bytes for each in _HELD.values()) > BYTES:
        _HELD.popitem(last=False)


def _key(settings: RunSettings) -> Hashable:
    """All that a split follows from; None where that cannot be known."""
    name, folder = settings.data.name, folder_of_data()
    source = settings.code.get(name)
    files = () if is_code(name) else _files(name, settings.data.settings, folder)
    if files is None or (is_code(name) and not source):
        return None
    return str(settings.data), settings.selection, str(folder), source, files


def _files(
    name: str, settings: Mapping[str, object], folder: Path | None
) -> tuple[Hashable, ...] | None:
    """Names, sizes and times of all files that the data set may lie in."""
    spec = DATASETS[name].spec
    if not spec.needs_files:
        return ()
    if folder is None or spec.published is None or spec.published.of_folders:
        return None
    known: list[Hashable] = []
    for each in spec.published.named(settings).folders:
        try:
            with os.scandir(folder / each) as entries:
                for entry in entries:
                    about = entry.stat()
                    known.append((entry.path, about.st_size, about.st_mtime_ns))
                    if len(known) > MOST_FILES:
                        return None
        except OSError:  # most data sets lie in one of several folders
            continue
    return tuple(sorted(known, key=str))


def _versions(split: Split) -> tuple[int, ...] | None:
    """Number of writes to each tensor so far; None where nobody counts them."""
    tensors = _tensors(split)
    if tensors is None or any(tensor.is_inference() for tensor in tensors):
        return None
    return tuple(map(version, tensors))


def _tensors(split: Split) -> list[Tensor] | None:
    """All tensors of a split; None for samples that read files, or are the user's."""
    parts: tuple[AbstractSamples, ...] = (split.train, split.test, split.clean)
    if not all(type(part) in _IN_MEMORY for part in parts):
        return None
    values = [value for part in parts for value in vars(part).values()]
    values += [v.tokens for v in values if isinstance(v, Sentences)]
    values += [split.positions, split.noisy]
    return list({id(v): v for v in values if isinstance(v, Tensor)}.values())
