"""Named arrays and attributes: the content of a file, whatever its format.

Names with a slash lie in a group, such as "xdirection/0".
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FORMAT = "steppe-landscape/1"

Array = NDArray[Any]
Attribute = str | int | float
Wanted = Callable[[str], bool]  # which arrays to read, by name

# Errors of readers of damaged bytes: of numpy, zipfile, h5py, json, and of the values.
DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    tokenize.TokenError,
    zlib.error,
)


@dataclass(frozen=True)
class Variable:
    """An array, the names of its dimensions, and how readers are to take it."""

    values: Array
    dims: tuple[str, ...] = ()  # none for arrays whose dimensions have no names
    fill: float | None = None  # the value of points that are not finished
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True)
class Stored:
    """Arrays by name, in the order of the file, and attributes of the whole."""

    variables: Mapping[str, Variable]
    attributes: Mapping[str, Attribute]


def array_of(tensor: Tensor) -> Array:
    """A tensor as an array of the same type; bfloat16, which no file has, as float32.

    Truth values become int8, as netCDF has them; see `truth`.
    """
    plain = tensor.detach().cpu()
    if plain.dtype == torch.bfloat16:
        plain = plain.float()
    array: Array = np.array(plain.numpy())
    return array.astype(np.int8) if array.dtype == bool else array


def tensor_of(array: Array) -> Tensor:
    """An array as a tensor of the same type, in the byte order of this machine."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def filled(
    values: Array, unfinished: Array, dims: tuple[str, ...], fill: float
) -> Variable:
    """An array with a value in place of NaN at points that are not finished."""
    if (values == fill).any():
        # Readers of netCDF would take finished values for unfinished ones.
        return Variable(values, dims, fill=np.nan)
    marked = np.where(unfinished & np.isnan(values), values.dtype.type(fill), values)
    return Variable(marked, dims, fill=fill)


def without_fill(variable: Variable, computed: Tensor | None) -> Tensor:
    """The values of an array, NaN where they are filled in."""
    values = tensor_of(variable.values)
    if computed is None or variable.fill is None:
        return values
    # A computed value equal to the fill is a value.
    return torch.where((values == variable.fill) & ~computed, torch.nan, values)


def reason(error: BaseException) -> str:
    """The words of an error that fit into one sentence."""
    words = " ".join(str(error).split()) or type(error).__name__
    return (words if len(words) <= 90 else f"{words[:87]}...").rstrip(".")
