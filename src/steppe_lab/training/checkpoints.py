"""Checkpoints: one safetensors file with the weights and the recipe they came from."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from steppe.errors import CheckpointError, SteppeError
from steppe_lab.training.recipe import Recipe

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A network as it was saved, with all that is needed to measure it."""

    model: nn.Module
    recipe: Recipe
    in_shape: tuple[int, ...]
    classes: int
    versions: dict[str, str]


def to_bytes(
    model: nn.Module, recipe: Recipe, in_shape: tuple[int, ...], classes: int
) -> bytes:
    """Contents of a checkpoint file."""
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    about = {
        "format": FORMAT,
        "recipe": recipe.model_dump(mode="json"),
        "in_shape": list(in_shape),
        "classes": classes,
        "versions": {
            "steppe": version("steppe"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "sha256": _checksum(tensors),
    }
    contents: bytes = save(tensors, metadata={"steppe": json.dumps(about)})
    return contents


def load(path: Path, *, device: str | None = None) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Args:
        path: the file.
        device: where the network goes; None for the device it was trained on.

    Raises:
        CheckpointError: missing, damaged, of another program or of a newer version.
    """
    about, tensors = _read(path)
    try:
        settings = {**about["recipe"], **({"device": device} if device else {})}
        recipe = Recipe.model_validate(settings)
        shape = tuple(about["in_shape"])
        model = recipe.make_model(shape, about["classes"])
        model.load_state_dict(tensors)
    except (ValidationError, SteppeError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"the recipe in {path} does not make the network it was saved with "
            f"({reason}); use the steppe version that wrote it, "
            f"{about.get('versions', {}).get('steppe', 'unknown')}."
        ) from None
    return Checkpoint(model, recipe, shape, about["classes"], about["versions"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint {path}; give a model.safetensors that "
            "`steppe train` or `steppe compare` wrote."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({error}); it may be cut off, "
            "so copy it again or train again."
        ) from None
    if "steppe" not in metadata:
        raise CheckpointError(
            f"{path} holds weights without a recipe, so steppe cannot tell which "
            "network and data they belong to; use a file that steppe wrote."
        )
    about: dict[str, Any] = json.loads(metadata["steppe"])
    if about["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {about['format']}, this steppe reads up to "
            f"{FORMAT}; upgrade steppe."
        )
    if about["sha256"] != _checksum(tensors):
        raise CheckpointError(
            f"the weights in {path} do not match their checksum; the file is damaged, "
            "so copy it again or train again."
        )
    return about, tensors


def _checksum(tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
