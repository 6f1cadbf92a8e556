"""Heartbeats of an electrocardiogram in five classes, 87,554 and 21,892 for test.

Source: Kachuee, Fazeli and Sarrafzadeh, 2018, ECG heartbeat classification,
arXiv:1805.00794; the MIT-BIH part of its data, mitbih_train.csv and mitbih_test.csv:
in each line 187 samples at 125 Hz, scaled to 0..1 and filled up with zeros, and the
class. Of the official beats 83 % are normal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.registry.bounds import Range, Ranges
from steppe_lab.datasets.abstract import (
    DATASETS,
    Dataset,
    Size,
    check_labels,
    note_on_count,
)
from steppe_lab.datasets.formats.numbers import read_numbers
from steppe_lab.datasets.formats.published import Published, folder_of
from steppe_lab.datasets.samples import TensorSamples

PUBLISHED = Published(
    name="heartbeat",
    title="The heartbeat data set",
    url="https://www.kaggle.com/datasets/shayanfazeli/heartbeat",
    folders=("heartbeat", "mitbih", "."),
    put_into="heartbeat",
    unpack=True,
)
LENGTH = 187  # samples of a beat
CLASSES = ("normal", "supraventricular", "ventricular", "fusion", "unclassifiable")
OFFICIAL = {"train": 87_554, "test": 21_892}  # beats
# Of the normal beats, which come first, the course project on SAM (CS-439, 2023,
# francpp/sharpness-aware_minimization) reads on from row 71,829 and row 17,956; its
# reader takes the first line for names.
PUBLISHED_NORMAL = {"train": 641, "test": 161}
OFFICIAL_NORMAL = {"train": 72_471, "test": 18_118}
BOUNDS: Ranges = {"max_len": Range(1, LENGTH, whole=True)}


def _size(subset: str, max_len: int) -> Size:
    """The size of the Kaggle files, or of the published part of them."""
    beats = {
        part: count - OFFICIAL_NORMAL[part] + PUBLISHED_NORMAL[part]
        if subset == "published"
        else count
        for part, count in OFFICIAL.items()
    }
    return Size(
        train=beats["train"],
        test=beats["test"],
        in_shape=(max_len,),
        outputs=len(CLASSES),
    )


@DATASETS.add(
    "heartbeat",
    source="Kachuee et al., 2018, arXiv:1805.00794",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    bounds=BOUNDS,
    size=_size,
    inputs_between=(0.0, 1.0),
)
def heartbeat(
    *,
    data_dir: Path | None = None,
    subset: Literal["all", "published"] = "all",
    max_len: int = LENGTH,
) -> Dataset:
    """Heartbeats in five classes, series of 187 samples, from the Kaggle CSV files.

    Args:
        data_dir: folder that holds heartbeat, mitbih or the files.
        subset: all beats; published: of the normal beats the last 641 for training and
            161 for test, as many as of the rarest class, and all others.
        max_len: samples of a beat, from its start; the others are cut off.
    """
    files = {part: f"mitbih_{part}.csv" for part in OFFICIAL}
    folder = folder_of(PUBLISHED, data_dir, list(files.values()))
    parts: dict[str, TensorSamples] = {}
    notes: tuple[str, ...] = ()
    for part, name in files.items():
        beats, targets = _read(folder / name)
        title = "training" if part == "train" else part
        notes += note_on_count(title, len(beats), OFFICIAL[part], "heartbeats")
        if len(beats) != OFFICIAL[part]:
            normal = (targets == 0).double().mean()
            notes += (f"{normal:.0%} of the {title} heartbeats are normal, not 83%",)
        if subset == "published":
            chosen = _published(targets, PUBLISHED_NORMAL[part])
            used = f"{len(chosen):,} of {len(beats):,} {title} heartbeats are used"
            notes += (used,)
            beats, targets = beats[chosen], targets[chosen]
        parts[part] = TensorSamples(beats[:, :max_len], targets)
    return Dataset(
        name="heartbeat",
        train=parts["train"],
        test=parts["test"],
        classes=CLASSES,
        notes=notes,
    )


def _published(targets: Tensor, normal: int) -> Tensor:
    """Positions of the last so many normal beats and of all others, ascending."""
    last = (targets == 0).nonzero().flatten()[-normal:]
    return torch.cat([last, targets.nonzero().flatten()]).sort().values


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Beats (N, 187) and classes (N,) of a file."""
    again = PUBLISHED.fix(path.parent)
    rows = read_numbers(path, np.float32, again, columns=LENGTH + 1)
    if rows.shape[1] != LENGTH + 1:
        raise DataError(
            f"{path} must hold {LENGTH} samples and a class in each line, got "
            f"{rows.shape[1]} numbers; {again}."
        )
    numbers = torch.from_numpy(rows)
    beats, labels = numbers[:, :LENGTH], numbers[:, LENGTH]
    inside = (beats >= 0) & (beats <= 1)  # NaN is not
    if not inside.all():
        line, column = (int(each) for each in (~inside).nonzero()[0])
        raise DataError(
            f"the samples in {path} must be 0 to 1, got {beats[line, column]:g} in "
            f"line {line + 1:,}, column {column + 1}; {again}."
        )
    if not torch.equal(labels, labels.trunc()):
        raise DataError(f"the classes in {path} must be whole numbers; {again}.")
    targets = check_labels(
        labels.to(torch.int64),
        len(CLASSES),
        samples=len(rows),
        where=f"the classes in {path}",
    )
    return beats, targets
