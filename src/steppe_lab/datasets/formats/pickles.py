"""Reading pickled arrays without running the code of a stranger.

A pickle is a program: it may name any importable object and call it. Here the program
is read by an interpreter that knows the instructions an array of numbers needs and no
others. It calls nothing: an array is built from its bytes, after their number has been
compared with its shape.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import read_limited

MOST_BYTES = 2**28  # of a file; the official ones have up to 155 MB
MOST_STEPS = 400_000  # of a program; the official ones have 40,000 to 250,000
_MOST_AXES = 4
_SHOWN = 80  # characters of a name in a message

_MARK: Any = object()
# Names the program may hold, and the builders of ours they stand for.
_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = "_reconstruct", "ndarray", "dtype", "encode"
NAMES = {
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,
}


@dataclass(frozen=True)
class _Name:
    """A name from the list; no object that could be called."""

    builder: str


@dataclass
class _Type:
    """The type of an array: a letter, a size, an order of bytes."""

    code: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        plain = type(state) is tuple and len(state) >= 5 and state[1] in (*"<>=|",)
        # Names of fields and types within types would come here.
        if not plain or any(part is not None for part in state[2:5]):
            raise DataError(
                f"arrays must hold plain numbers, not a part of {self.code}"
            )
        self.order = state[1]

    def as_numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


@dataclass
class _Array:
    """An array, known when its state is."""

    held: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise DataError("an array must have a shape, a type and bytes")
        _, shape, kind, columns_first, data = state
        if type(shape) is not tuple or not all(
            type(n) is int and n >= 0 for n in shape
        ):
            raise DataError("the shape of an array must be whole numbers >= 0")
        if not isinstance(kind, _Type) or not isinstance(data, str | bytes):
            raise DataError("an array must be plain numbers, given as bytes")
        dtype = kind.as_numpy()
        if len(shape) > _MOST_AXES or math.prod(shape) * dtype.itemsize != len(data):
            raise DataError(
                f"the shape of an array must fit its {len(data):,} bytes, and have at "
                f"most {_MOST_AXES} axes"
            )
        # Python 2 wrote bytes as text, one character for each byte.
        raw = data.encode("latin1") if isinstance(data, str) else data
        flat = np.frombuffer(raw, dtype)
        by_columns = columns_first is True or columns_first == 1
        rows = flat.reshape(shape[::-1]).T if by_columns else flat.reshape(shape)
        self.held = rows.copy()  # torch wants memory that it may write to


class _Interpreter:
    """Runs a program of which every instruction is one of `_STEPS` or `_VALUES`."""

    def __init__(self, program: bytes) -> None:
        self.program = program
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0  # bytes, which a short program could repeat without end

    def run(self) -> Any:
        """The value on top of the stack at the end of the program."""
        # Of a stream, so that nothing behind the end of the program is looked at.
        steps = pickletools.genops(io.BytesIO(self.program))
        for number, (opcode, argument, _) in enumerate(steps):
            # Bounded by count: instructions can cost more than the bytes they take.
            if number == MOST_STEPS:
                raise DataError(f"it has more than {MOST_STEPS:,} instructions")
            name = opcode.name
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            elif name not in ("PROTO", "FRAME", "STOP"):
                raise DataError(
                    f"it uses {name}, which an array of numbers does not need"
                )
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def push_constant(self, make: Callable[[], Any]) -> None:
        self.stack.append(make())

    def tuple_of(self, count: int) -> None:
        taken = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        self.stack.append(taken)

    def extend(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def update(self, items: list[Any]) -> None:
        held = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A key is hashed: that of nested tuples would overflow the stack of C.
            if type(key) not in (str, bytes, int):
                raise DataError("the keys of a dictionary must be texts")
            held[key] = value

    def set_state(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Type | _Array):
            raise DataError(f"it sets the state of a {_kind(target)}")
        if isinstance(target, _Array) and type(state) is tuple and state:
            self._count(state[-1])
        target.set_state(state)

    def name(self, text: str) -> None:
        if text not in NAMES:
            shown = text.replace(" ", ".")[:_SHOWN]
            raise DataError(
                f"it names {shown}, which an array of numbers does not need"
            )
        self.stack.append(_Name(NAMES[text]))

    def stack_name(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        if type(module) is not str or type(attribute) is not str:
            raise DataError("it names what is no text")
        self.name(f"{module} {attribute}")

    def reduce(self) -> None:
        arguments, target = self.stack.pop(), self.stack.pop()
        if not isinstance(target, _Name) or type(arguments) is not tuple:
            # And a `_Name` is a plain record: nothing here could be called by Python.
            raise DataError(f"it calls a {_kind(target)}")
        self.stack.append(self._built(target.builder, arguments))

    def _built(self, builder: str, arguments: tuple[Any, ...]) -> Any:
        first = arguments[0] if arguments else None
        if builder == _RECONSTRUCT and first == _Name(_NDARRAY):
            return _Array()  # shape and type follow in its state
        if builder == _DTYPE and type(first) in (str, bytes):
            code = _text(first)
            if re.fullmatch("[biuf][1248]", code) and code not in _NO_TYPES:
                return _Type(code)
            raise DataError(
                f"arrays must hold plain numbers, got the type {code[:_SHOWN]}"
            )
        # How a pickle of protocol 2 written by Python 3 spells its bytes.
        if builder == _ENCODE and type(first) is str:
            if arguments[1:] not in (("latin1",), ("latin-1",), ()):
                raise DataError("bytes must be encoded as latin1")
            self._count(first)
            return first.encode("latin1")
        raise DataError(f"it calls {builder} with what makes no array")

    def _count(self, data: Any) -> None:
        self.copied += len(data) if isinstance(data, str | bytes) else 0
        # Recalled from the memo, few instructions could ask for any amount of memory.
        if self.copied > 4 * len(self.program):
            raise DataError("it copies the same bytes again and again")

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise DataError(f"it adds items to a {_kind(self.stack[-1])}")
        return self.stack[-1]


_NO_TYPES = ("b2", "b4", "b8", "f1")
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_Step = Callable[[_Interpreter, Any], None]


def _remember(machine: _Interpreter, at: int) -> None:
    machine.memo[at] = machine.stack[-1]


def _recall(machine: _Interpreter, at: int) -> None:
    machine.stack.append(machine.memo[at])


def _dictionary(machine: _Interpreter, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append({})
    machine.update(items)


_STEPS: dict[str, _Step] = {
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.__delitem__(-1),
    "POP_MARK": lambda m, _: m.since_mark().clear(),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "DICT": _dictionary,
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.update([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m, _: m.update(m.since_mark()),
    "PUT": _remember,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": lambda m, _: _remember(m, len(m.memo)),
    "GET": _recall,
    "BINGET": _recall,
    "LONG_BINGET": _recall,
    "GLOBAL": lambda m, text: m.name(text),
    "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.set_state(),
}


def read_pickled_dict(path: Path, again: str) -> dict[str, Any]:
    """The dictionary a file holds, its keys as text; foreign classes are refused.

    Args:
        path: a pickle of dicts, lists, numbers, texts and arrays of numbers.
        again: half sentence that says where to get an intact file.

    Raises:
        DataError: the file is damaged, is no pickle of a dictionary, or does what an
            array of numbers does not need; nothing of it has been executed.
    """
    raw = read_limited(path, MOST_BYTES, again)
    try:
        held = _Interpreter(raw).run()
    except DataError as error:
        reason = str(error).rstrip(".")
        raise DataError(
            f"{path} is refused: {reason}; it was not executed; {again}."
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        reason = str(error).partition("\n")[0][:_SHOWN] or type(error).__name__
        raise DataError(
            f"{path} is a damaged or truncated pickle ({reason}); {again}."
        ) from error
    if type(held) is not dict:
        raise DataError(f"{path} must hold a dictionary, got {_kind(held)}; {again}.")
    return {_text(key): _whole(value) for key, value in held.items()}


def _whole(value: Any) -> Any:
    return value.held if isinstance(value, _Array) else value


def _kind(value: object) -> str:
    return type(value).__name__.strip("_").lower()


def _text(key: object) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
