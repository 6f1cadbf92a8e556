"""JSON that gives back the values that were written, not only their texts.

Plain JSON wherever that suffices. An object of one key beginning with "$" stands for a
value that JSON has no word for: tuples, tensors, numbers that are not finite, and
dictionaries whose keys are not texts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steppe.results.plain import plain

TUPLE, TENSOR, NUMBER, ITEMS = "$tuple", "$tensor", "$number", "$items"


def to_json(value: Any) -> str:
    """The text of a value; of other types than those above, the text of `plain`.

    Example:
        >>> to_json({"range": (-1, 1), "loss": math.nan})
        '{"range": {"$tuple": [-1, 1]}, "loss": {"$number": "nan"}}'
    """
    text = json.dumps(_tagged(value), allow_nan=False, ensure_ascii=False)
    # Halves of characters, as names of files may hold, are escaped: UTF-8 has none.
    return text.encode(errors="backslashreplace").decode()


def from_json(text: str) -> Any:
    """The value of a text.

    Raises:
        ValueError: the text is no JSON of this kind.

    Example:
        >>> from_json('{"range": {"$tuple": [-1, 1]}}')
        {'range': (-1, 1)}
    """
    try:
        return _untagged(json.loads(text))
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _tagged(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {NUMBER: repr(float(value))}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return _tagged_mapping(value)
    if isinstance(value, tuple):
        return {TUPLE: [_tagged(item) for item in value]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, Tensor) and not value.is_complex():
        values = _tagged(value.detach().cpu().tolist())
        return {TENSOR: {"dtype": str(value.dtype)[6:], "values": values}}
    return plain(value)


def _tagged_mapping(value: Mapping[Any, Any]) -> Any:
    texts = all(type(key) is str for key in value)
    ambiguous = len(value) == 1 and str(next(iter(value))).startswith("$")
    if texts and not ambiguous:
        return {key: _tagged(item) for key, item in value.items()}
    return {ITEMS: [[_tagged(key), _tagged(item)] for key, item in value.items()]}


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        [(tag, content)] = value.items()
        if tag == TUPLE:
            return tuple(_untagged(item) for item in content)
        if tag == NUMBER:
            return float(content)
        if tag == ITEMS:
            return {_untagged(key): _untagged(item) for key, item in content}
        if tag == TENSOR:
            dtype = getattr(torch, content["dtype"])
            return torch.tensor(_untagged(content["values"]), dtype=dtype, device="cpu")
    return {key: _untagged(item) for key, item in value.items()}
