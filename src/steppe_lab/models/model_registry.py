"""The registry of models, and the checks of settings that model files share."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from steppe.errors import SettingError, SteppeError
from steppe.registry.bounds import Ranges, at_least, check_bounds
from steppe.registry.registry import Choice, Registry, is_code
from steppe.registry.specs import Spec


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """Facts about a model."""

    inputs: Literal["images", "graphs", "series", "tokens"] = "images"  # it takes
    carrying: bool = False  # it can carry a state from batch to batch
    # by another library, whose code may need the values of what it builds
    built_elsewhere: bool = False


MODELS = Registry("model", ModelSpec)


CLASSES: Ranges = {"classes": at_least(1)}


def check_settings(bounds: Ranges, **settings: float) -> None:
    """Refuse a number of classes or a setting of a model out of its range.

    Args:
        bounds: of the settings, as registered.
        settings: by name, `classes` among them.

    Raises:
        SettingError: names the setting, the rule and the value.
    """
    check_bounds(settings, {**CLASSES, **bounds})


def check_fits(choice: Choice, in_shape: tuple[int, ...], classes: int) -> None:
    """Refuse a network of ours that the memory here cannot hold, before it is filled.

    Raises:
        SettingError: there is no room for its weights and their gradients.
    """
    if is_code(choice.name) or MODELS[choice.name].spec.built_elsewhere:
        return
    try:
        with without_values():
            model: nn.Module = MODELS.build(choice, in_shape, classes)
    except (RuntimeError, TypeError, OverflowError) as error:
        if isinstance(error, SteppeError):
            raise
        raise SettingError(
            f"{choice} has more weights than memory can hold; choose smaller settings."
        ) from error
    size = 2 * sum(p.numel() * p.element_size() for p in model.parameters())
    if size > _memory():
        raise SettingError(
            f"{choice} needs {size / 2**30:,.0f} GiB of memory for its weights and "
            f"gradients, there are {_memory() / 2**30:,.0f}; choose smaller settings."
        )


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Build networks of shapes alone: nothing is drawn and no memory is filled."""
    with torch.device("meta"), _NoValues():
        yield


class _NoValues(TorchFunctionMode):
    """Leaves parameters as they are where they would get their initial values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        # On shapes alone these would import seconds of torch to compute nothing.
        if func.__name__ in ("normal_", "uniform_", "zero_", "fill_"):
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _memory() -> float:
    """Bytes of this computer; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def image_shape(
    model: str, in_shape: tuple[int, ...], *, least_side: int
) -> tuple[int, int, int]:
    """Channels, height and width of an input.

    Raises:
        SettingError: inputs are no images, or too small ones for the model.
    """
    if len(in_shape) != 3 or in_shape[0] < 1 or min(in_shape[1:]) < least_side:
        raise SettingError(
            f"{model} needs inputs of shape (channels, height, width) with sides "
            f">= {least_side}, got {tuple(in_shape)}."
        )
    channels, height, width = in_shape
    return channels, height, width
