"""Attacks that are done, kept one by one for whoever asks for the same again.

    attacks/done/<digest>/<attack>-<digest>.json    below a store, or another folder

A folder is of one content: network, samples, budgets, seed and device. Runs of attacks
and `steppe attack` share it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from steppe.errors import StoreError
from steppe.registry.registry import Choice
from steppe_lab.attacks.outcome import Examples, Outcome
from steppe_lab.runs.attacked import Attacked
from steppe_lab.store.json_files import digest, read_record, write_record
from steppe_lab.training.checkpoints import versions

PARTS = "attacks"  # folder of all that is kept of attacks
_FIELDS = ("success", "norms", *Examples.__dataclass_fields__)


def content_of(checkpoint: Path, fingerprint: str, said: Sequence[str] = ()) -> str:
    """SHA-256 of a file with weights, and of all else that its network follows from.

    Args:
        checkpoint: the file.
        fingerprint: of the samples.
        said: names that the network is made by, where the file does not say them.
    """
    content = checkpoint.read_bytes()
    # Of two files with the same bytes, one may be read as another network.
    content += "".join(f"\n{each}" for each in (*said, fingerprint)).encode()
    return hashlib.sha256(content).hexdigest()


def folder_of(
    keep: Path,
    content: str,
    target: Attacked,
    *,
    part: str,
    epsilons: Sequence[float],
    seed: int,
) -> Path:
    """The folder of attacks on the same network, samples and budgets.

    Args:
        keep: a store, or another folder.
        content: from `content_of`.
        target: the network, its samples and its bounds.
        part: of the data, that the samples are of.
        epsilons: budgets, ascending.
        seed: of random numbers.
    """
    device = next(target.model.parameters()).device.type
    said = [part, target.protocol, list(target.bounds), len(target.samples)]
    key = [content, said, list(epsilons), seed, device, versions()]
    return keep / PARTS / "done" / digest(key)[:16]


def read_part(folder: Path, choice: Choice, shape: tuple[int, int]) -> Outcome | None:
    """The outcome of an attack that is done; None where its file is no whole one.

    Args:
        folder: from `folder_of`.
        choice: the attack with all of its settings.
        shape: budgets and samples.
    """
    try:
        record = read_record(_path(folder, choice))
        raw = base64.b64decode(record["arrays"], validate=True)
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            success, norms, *examples = (
                torch.from_numpy(arrays[name]) for name in _FIELDS
            )
    except (StoreError, KeyError, TypeError, ValueError, OSError):
        return None
    except (binascii.Error, zipfile.BadZipFile):
        return None
    if tuple(success.shape) != shape or success.dtype != torch.bool:
        return None
    return Outcome(success, norms, Examples(*examples))


def write_part(folder: Path, choice: Choice, outcome: Outcome) -> None:
    """Keep an attack that is done.

    Raises:
        StoreError: it cannot be written.
    """
    values: dict[str, Any] = {
        "success": outcome.success,
        "norms": outcome.norms,
        **asdict(outcome.examples),
    }
    buffer = io.BytesIO()
    arrays_of: dict[str, Any] = {name: each.numpy() for name, each in values.items()}
    np.savez_compressed(buffer, **arrays_of)
    arrays = base64.b64encode(buffer.getvalue()).decode()
    write_record(_path(folder, choice), {"attack": str(choice), "arrays": arrays})


def _path(folder: Path, choice: Choice) -> Path:
    return folder / f"{choice.name}-{digest(str(choice))[:8]}.json"
