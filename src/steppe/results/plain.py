"""Values as JSON has them: texts, finite numbers, true, false, null, lists, objects."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from numbers import Integral, Real
from typing import Any


def plain(value: Any) -> Any:
    """A value as JSON has it.

    Numbers that are not finite are null, for which JSON has no word; tensors and arrays
    are lists, and what has `to_dict` is the dictionary it gives. Anything else is its
    text.

    Example:
        >>> plain({"sigma": math.nan, "x": (1, 2.5)})
        {'sigma': None, 'x': [1, 2.5]}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(item) for item in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "to_dict"):
        return value.to_dict()
    # Tensors, and arrays and numbers of numpy, without an import of either.
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
