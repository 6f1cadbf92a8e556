"""Checkpoints: networks, their state_dicts, files of these, read one at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import DataError, SettingError, brief, install
from steppe.state_dicts import check_shapes, tensors_of

State = Mapping[str, Tensor]
# A function reads one when it is called, in whatever format it has.
Checkpoint = nn.Module | State | str | os.PathLike[str] | Callable[[], State]


def listed(checkpoints: Iterable[Checkpoint], least: int) -> list[Checkpoint]:
    """Checkpoints as a list.

    Args:
        checkpoints: in the order of the training.
        least: number that there must be.

    Raises:
        SettingError: fewer, or a single one where several are meant.
    """
    if isinstance(checkpoints, nn.Module | Mapping | str | os.PathLike) or not (
        isinstance(checkpoints, Iterable)
    ):
        raise SettingError(
            "checkpoints must be a list of networks, state_dicts or paths of these, "
            f"got {brief(checkpoints)}."
        )
    several = list(checkpoints)
    if len(several) < least:
        raise SettingError(
            f"there must be at least {least} checkpoints, got {len(several)}."
        )
    return several


def label_of(checkpoint: Checkpoint, number: int) -> str:
    """A short name: that of the file, else the number in the list."""
    named = isinstance(checkpoint, str | os.PathLike)
    return Path(checkpoint).stem if named else str(number)  # type: ignore[arg-type]


def read(checkpoint: Checkpoint, own: Mapping[str, Tensor], label: str) -> State:
    """Tensors of a checkpoint by name.

    Args:
        checkpoint: files are read onto the host, tensors alone, so no code runs.
        own: parameters by name that it must have, of the same shapes; prefixes of all
            names, such as "module." of `DataParallel`, are taken off.
        label: of the checkpoint, for messages.

    Raises:
        SettingError: parameters that are missing or of another shape.
        DataError: a file that cannot be read, or numbers that are not finite.
    """
    content: Any = checkpoint
    if isinstance(checkpoint, str | os.PathLike):
        content = _fitting(_content(Path(checkpoint)), own)
    elif not isinstance(checkpoint, nn.Module | Mapping) and callable(checkpoint):
        content = checkpoint()
    what = f"the checkpoint {label}"
    state = tensors_of(what, content, own)
    check_shapes(what, own, state)
    for name in own:
        if not bool(state[name].isfinite().all()):
            raise DataError(
                f"{what} has numbers in {name} that are not finite; leave it out."
            )
    return state


def check_frozen(model: nn.Module, state: State, label: str) -> None:
    """Refuse a checkpoint with other values of frozen parameters than the model.

    Args:
        model: whose parameters that require a gradient are moved.
        state: of the checkpoint.
        label: of the checkpoint, for messages.
    """
    for name, p in model.named_parameters():
        there = state.get(name)
        if p.requires_grad or there is None:
            continue
        if there.shape != p.shape or not torch.equal(there.to(p), p):
            raise SettingError(
                f"a subspace moves no frozen parameter, but {name} is another in the "
                f"checkpoint {label} than in the model; let it require a gradient."
            )


def _content(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"there is no file {path}; give a state_dict that was saved.")
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise SettingError(
                f"reading {path} needs safetensors; {install('lab')}."
            ) from error
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path) from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises any kind
        raise _unreadable(path) from error


def _unreadable(path: Path) -> DataError:
    return DataError(
        f"{path} cannot be read as tensors; save model.state_dict() with torch.save."
    )


def _fitting(content: Any, own: Mapping[str, Tensor]) -> Any:
    """The state_dict in the content of a file, which may hold other things beside."""
    if not isinstance(content, Mapping) or not set(own).isdisjoint(content):
        return content
    inner: Sequence[Any] = [
        content[key] for key in ("state_dict", "model", "net") if key in content
    ]
    return next((each for each in inner if isinstance(each, Mapping)), content)
