"""The registry of models, and the checks of settings that model files share."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import SettingError
from steppe.registry import Registry, Spec


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """Facts about a model."""


MODELS = Registry("model", ModelSpec)


def at_least(least: int, **settings: int) -> None:
    """Refuse settings below a bound.

    Raises:
        SettingError: names the setting, the bound and the value.
    """
    for name, value in settings.items():
        if value < least:
            raise SettingError(f"{name} must be >= {least}, got {value}.")


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
