"""Places of averaged tensors in a model, so that a step need not walk through it.

Shape letters: P tensors, parameters and where asked for buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SettingError, UsageError
from steppe.parameters import check_made
from steppe.torch_internals import buffer_table, parameter_table


@dataclass(frozen=True)
class _Place:
    """Attribute of a module that holds a tensor, with its kind, shape and dtype."""

    table: Mapping[str, Tensor | None]
    key: str
    shape: torch.Size
    device: torch.device
    dtype: torch.dtype  # of the average
    buffer: bool


class Places:
    """The floating-point parameters of a model by name, a shared one once.

    Args:
        model: the model.
        buffers: whether floating-point buffers belong to them.
        dtype: of averages; None for float32 where the model has half precision, and
            the model's own type elsewhere. Complex ones keep their type.

    Raises:
        SettingError: a dtype of no real numbers, or no parameters.
    """

    def __init__(
        self, model: nn.Module, *, buffers: bool, dtype: torch.dtype | None
    ) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(
                "an average needs the model itself, not its parameters, got "
                f"{type(model).__name__}."
            )
        if dtype is not None and not dtype.is_floating_point:
            raise SettingError(f"dtype must be of real numbers, got {dtype}.")
        self._model = model
        self._with_buffers = buffers
        self._dtype = dtype
        self._places = dict(self._found())
        # Masks are made with a model; a look at every step would wait for the device.
        self.infinite = tuple(
            i
            for i, place in enumerate(self._places.values())
            if place.buffer and bool(_present("", place).isinf().any())
        )
        if not self._places:
            raise SettingError("the model has no floating-point parameter to average.")

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Names and shapes, in the order of all lists here."""
        return {name: place.shape for name, place in self._places.items()}

    def tensors(self) -> list[Tensor]:
        """The P tensors that the model has now.

        Raises:
            UsageError: one is gone, has another shape, or is on another device.
        """
        return [_present(name, place) for name, place in self._places.items()]

    def weights(self) -> list[Tensor]:
        """Their values in the precision of averages, perhaps in the same memory."""
        pairs = zip(self.tensors(), self._places.values(), strict=True)
        return [tensor.detach().to(place.dtype) for tensor, place in pairs]

    def is_sound(self, name: str, tensor: Tensor) -> bool:
        """Whether values of an average are finite; those of a mask may be infinite."""
        place = self._places.get(name)
        masks = place is not None and place.buffer
        return not bool((tensor.isnan() if masks else ~tensor.isfinite()).any())

    def fitting(self, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Copies of saved values on the model's devices, in the averages' precision."""
        return [
            named[name].to(place.device, place.dtype, copy=True)
            for name, place in self._places.items()
        ]

    def check_names(self) -> None:
        """Refuse a model that has more than when it was looked at.

        Raises:
            UsageError: with the name of what was added.
        """
        new = dict(self._found()).keys() - self._places.keys()
        if new:
            raise UsageError(
                f"{min(new)} was added since the average was made; make a new average."
            )

    def _found(self) -> Iterator[tuple[str, _Place]]:
        seen: set[int] = set()
        for prefix, module in self._model.named_modules():
            tables: list[dict[str, Any]] = [parameter_table(module)]
            if self._with_buffers:
                tables.append(buffer_table(module))
            for table in tables:
                for key, tensor in table.items():
                    # A tied weight has several places and is averaged once.
                    if tensor is None or not is_number(tensor) or id(tensor) in seen:
                        continue
                    seen.add(id(tensor))
                    name = f"{prefix}.{key}" if prefix else key
                    check_made(name, tensor)
                    buffer = table is not tables[0]
                    yield name, self._place(table, key, tensor, buffer)

    def _place(
        self, table: dict[str, Any], key: str, tensor: Tensor, buffer: bool
    ) -> _Place:
        # A mean of many steps in bfloat16 would stop moving: a step of it is smaller
        # than half a unit in the last place.
        wide = self._dtype or torch.promote_types(tensor.dtype, torch.float32)
        dtype = tensor.dtype if tensor.is_complex() else wide
        return _Place(table, key, tensor.shape, tensor.device, dtype, buffer)


def _present(name: str, place: _Place) -> Tensor:
    there = place.key in place.table  # tables of TorchScript have no `get`
    tensor = place.table[place.key] if there else None
    if tensor is None or tensor.shape != place.shape:
        now = "gone" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise UsageError(
            f"{name} had shape {tuple(place.shape)} when the average was made and is "
            f"{now}; make a new average."
        )
    if tensor.device != place.device:
        raise UsageError(
            f"{name} moved from {place.device} to {tensor.device}; move the model "
            "before making its average."
        )
    return tensor


def is_number(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers, which have a mean."""
    return tensor.is_floating_point() or tensor.is_complex()


def first_difference(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]
) -> str:
    """The first name that only one side has or that has two shapes; "" for none."""
    for name in sorted(tensors.keys() | shapes.keys()):
        if name not in tensors or tensors[name].shape != shapes.get(name):
            return name
    return ""
