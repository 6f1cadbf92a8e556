"""Reading pickled arrays without running what a stranger wrote.

A pickle is a program: it may name any importable object and call it. This reader
answers only to the four names an array of numbers needs, and for three of them
with a function of its own that does nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import DataError


def _dtype(code: Any, align: Any = False, copy: Any = False) -> np.dtype[Any]:
    # The official files write the flags as 0 and 1, which newer numpy warns about.
    dtype: np.dtype[Any] = np.dtype(str(code), align=bool(align), copy=bool(copy))
    if dtype.kind not in "biuf":
        raise DataError(f"arrays must hold plain numbers, got the type {dtype}.")
    return dtype


def _encode(text: str, encoding: str = "latin1") -> bytes:
    # How a pickle of protocol 2 written by Python 3 spells its bytes.
    if encoding not in ("latin1", "latin-1"):
        raise DataError(f"bytes must be encoded as latin1, got {encoding!r}.")
    return text.encode("latin1")


def _empty_array(kind: object, shape: object, code: object) -> NDArray[np.uint8]:
    # The shape and the type follow in the state that the pickle sets.
    del kind, shape, code
    return np.empty(0, np.uint8)


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


class _AllowListedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise DataError(
                f"it names {module}.{name}, which an array of numbers does not need"
            ) from None


def read_pickled_dict(path: Path, again: str) -> dict[str, Any]:
    """The dictionary a file holds, its keys as text; foreign classes are refused.

    Args:
        path: a pickle of dicts, lists, numbers, texts and arrays of numbers.
        again: half sentence that says where to get an intact file.

    Raises:
        DataError: the file is damaged, is no pickle of a dictionary, or names a
            class that is not on the allow-list; nothing of it has been executed.
    """
    try:
        stream = io.BytesIO(path.read_bytes())
        held = _AllowListedUnpickler(stream, encoding="latin1").load()
    except DataError as error:
        reason = str(error).rstrip(".")
        raise DataError(
            f"{path} is refused: {reason}; it was not executed; {again}."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(
            f"{path} is a damaged or truncated pickle ({error}); {again}."
        ) from error
    if not isinstance(held, dict):
        raise DataError(
            f"{path} must hold a dictionary, got {type(held).__name__}; {again}."
        )
    return {_text(key): value for key, value in held.items()}


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
