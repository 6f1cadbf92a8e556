"""Checkpoints: one safetensors file with the weights and the recipe they came from."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from steppe.errors import (
    ChangedCodeError,
    CheckpointError,
    SettingError,
    SteppeError,
    TrustError,
)
from steppe.registry.registry import reading
from steppe_lab.complaints import cause_of, reason_of
from steppe_lab.training.build import build_model
from steppe_lab.training.digests import bytes_of
from steppe_lab.training.file_kinds import complaint
from steppe_lab.training.recipe import CHOICES, Recipe, check_device

FORMAT = 2  # in format 1 the checksum was of the weights alone


@dataclass(frozen=True)
class Checkpoint:
    """A network as it was saved, with all that is needed to measure it."""

    model: nn.Module
    recipe: Recipe
    in_shape: tuple[int, ...]
    outputs: int  # numbers that the model gives for a sample
    data: str  # fingerprint of the samples trained and judged on
    versions: dict[str, str]
    epoch: int | None = None  # that were over; None at the planned end


@dataclass(frozen=True)
class Facts:
    """The facts beside the weights of a checkpoint."""

    recipe: Mapping[str, Any]  # as it was written
    data: str  # fingerprint of the samples trained and judged on


class _Chosen(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    settings: dict[str, Any]


class _About(BaseModel):
    """Metadata, checked before anything is built from it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: PositiveInt
    recipe: dict[str, Any]
    in_shape: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    classes: PositiveInt  # outputs; files keep the name from when all were classes
    data: str
    versions: dict[str, str]
    epoch: NonNegativeInt | None = None
    sha256: str

    def choices(self) -> dict[str, _Chosen]:
        """The choices of the recipe by kind; those that are None are left out.

        Raises:
            ValueError: one of another form.
        """
        given = {kind: self.recipe.get(kind) for kind in CHOICES}
        augment = self.recipe.get("augment", [])
        if not isinstance(augment, list):
            raise ValueError("recipe.augment is no list")
        given |= {f"augment {place}": each for place, each in enumerate(augment)}
        return {k: _Chosen.model_validate(c) for k, c in given.items() if c is not None}


def versions() -> dict[str, str]:
    """Versions of steppe, torch, numpy and python."""
    return {
        "steppe": _installed(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


@functools.cache
def _installed() -> str:
    # Read from the metadata of the package, which takes milliseconds.
    return version("steppe")


def to_bytes(
    model: nn.Module,
    recipe: Recipe,
    in_shape: tuple[int, ...],
    outputs: int,
    data: str,
    epoch: int | None = None,
) -> bytes:
    """Contents of a checkpoint file.

    Args:
        model: the network.
        recipe: of its training.
        in_shape: of one input.
        outputs: numbers that the network gives for a sample.
        data: fingerprint of the split.
        epoch: number of epochs that were over; None at the planned end.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    about: dict[str, Any] = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "in_shape": list(in_shape),
        "classes": outputs,
        "data": data,
        "versions": versions(),
    }
    if epoch is not None:
        about["epoch"] = epoch
    about["sha256"] = checksum(about, tensors)
    contents: bytes = save(tensors, metadata={"steppe": json.dumps(about)})
    return contents


def load(
    path: Path, *, device: str | None = None, trust: Collection[str] = ()
) -> Checkpoint:
    """Read a checkpoint; no code runs but steppe's own and trusted code.

    Args:
        path: the file.
        device: where the network goes; None for the device it was trained on.
        trust: code of the user, as module:function, that the recipe may name.

    Raises:
        CheckpointError: missing, damaged, of another program or of a newer version,
            a recipe that names code which is not trusted or has changed, or trained
            on a device that torch cannot use here.
        SettingError: `device` is one that torch cannot use here.
    """
    if device:
        check_device(device)
    about, tensors = _read(path)
    settings = {**about.recipe, **({"device": device} if device else {})}
    if not device:
        _check_home(path, settings)
    try:
        with reading(path, trust):
            recipe = Recipe.model_validate(settings)
            model = build_model(recipe, about.in_shape, about.classes)
        model.load_state_dict(tensors)
    except TrustError as error:
        raise CheckpointError(str(error)) from None
    except (ValidationError, SteppeError, KeyError, RuntimeError) as error:
        if isinstance(cause_of(error), ChangedCodeError):  # no other version helps
            raise CheckpointError(f"{path}: {reason_of(error)}.") from None
        raise CheckpointError(
            f"the recipe in {path} does not make the network it was saved with "
            f"({reason_of(error)}); use the steppe version that wrote it, "
            f"{about.versions.get('steppe', 'unknown')}."
        ) from None
    return Checkpoint(
        model,
        recipe,
        about.in_shape,
        about.classes,
        about.data,
        about.versions,
        about.epoch,
    )


def is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint of steppe, sound or not."""
    try:
        with safe_open(path, framework="pt") as file:
            return "steppe" in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def read_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint alone, on the host; its recipe is not looked at.

    Raises:
        CheckpointError: missing, damaged, of another program or of a newer version.
    """
    return _read(path)[1]


def read_facts(path: Path) -> Facts:
    """Facts of a checkpoint, without its weights: their checksum is not compared.

    Raises:
        CheckpointError: missing, cut off, of another program or of a newer version.
    """
    about = _about(path, _metadata(path))
    return Facts(about.recipe, about.data)


def _check_home(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        check_device(str(settings.get("device", "cpu")))
    except SettingError as error:
        raise CheckpointError(
            f"{path} was trained elsewhere: {str(error).rstrip('.')}; name another, "
            "as --device cpu."
        ) from None


def _read(path: Path) -> tuple[_About, dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    said = _metadata(path, tensors)
    about = _about(path, said)
    if about.sha256 != checksum(json.loads(said), tensors):
        raise CheckpointError(
            f"the contents of {path} do not match their checksum; the file is damaged, "
            "so copy it again or train again."
        )
    return about, tensors


def _metadata(path: Path, tensors: dict[str, Tensor] | None = None) -> str:
    """The record in a checkpoint as text; its tensors are put into a dictionary."""
    if not os.path.isfile(path):
        raise CheckpointError(
            f"there is no checkpoint {path}; give a model.safetensors that "
            "`steppe train` or `steppe compare` wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if tensors is not None:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(complaint(path, str(error))) from None
    if "steppe" not in metadata:
        raise CheckpointError(
            f"{path} holds weights without a recipe, so steppe cannot tell which "
            "network and data they belong to; use a file that steppe wrote."
        )
    return metadata["steppe"]


def _about(path: Path, text: str) -> _About:
    try:
        record = json.loads(text)
        version = record.get("format") if isinstance(record, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise CheckpointError(
                f"{path} has checkpoint format {version}, this steppe reads up to "
                f"{FORMAT}; upgrade steppe."
            )
        about = _About.model_validate_json(text)
        about.choices()
    except (ValidationError, ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = reason_of(error) if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} does not say what it holds ({reason}); it is damaged, so copy it "
            "again or train again."
        ) from None
    return about


def checksum(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the weights and of all that is said of them, in hexadecimal.

    Args:
        about: the record beside the weights; its own `sha256` counts as absent.
        tensors: the weights by name.
    """
    total = hashlib.sha256()
    if about["format"] > 1:
        said = {name: value for name, value in about.items() if name != "sha256"}
        total.update(json.dumps(said, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(bytes_of(tensor))
    return total.hexdigest()
