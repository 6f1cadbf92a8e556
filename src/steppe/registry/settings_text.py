"""Settings as texts: `setting=value,...` with values such as 0.1 or `cosine(0.1, 0)`.

A value is of a plain type, or it is a part: something composable, such as a schedule,
that a registry makes from `name(argument, setting=argument)`. Which registry reads a
text follows from the annotation of the setting.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Protocol, Union

from steppe.errors import SettingError


class Reader(Protocol):
    """Reader of the parts of one annotated type: a registry."""

    kind: str

    def names(self) -> list[str]:
        """Of all parts, sorted."""

    def part(self, value: Any) -> str | None:
        """A part by text or object as canonical text; None if it is none."""

    def make_part(self, text: str, known: typing.Mapping[str, Any]) -> Any:
        """The part that a canonical text says."""


READERS: dict[Any, Reader] = {}  # by annotated type, such as Schedule


def convert(value: Any, kind: Any, name: str) -> Any:
    """Turn a text into the type a signature asks for, or check a value against it.

    A part becomes its canonical text.
    """
    for option in options(kind):
        matches, result = _try(value, option, name)
        if matches and isinstance(result, float) and not math.isfinite(result):
            raise SettingError(f"{name} must be a finite number, got {value}.")
        if matches:
            return result
    descriptions = (_describe(option) for option in options(kind) if _has_text(option))
    wanted = " or ".join(dict.fromkeys(descriptions))
    raise SettingError(f"{name} must be {wanted}, got {value!r}.")


def built(value: Any, kind: Any, known: typing.Mapping[str, Any]) -> Any:
    """A converted value as the method takes it: parts are made, all else is kept.

    Args:
        value: as `convert` gives it.
        kind: annotation of the setting.
        known: arguments of parts that the texts leave out.
    """
    if isinstance(value, str):
        for option in options(kind):
            if option in READERS and READERS[option].part(value) is not None:
                return READERS[option].make_part(value, known)
    return value


def canonical(value: Any, kind: Any) -> Any:
    """A default, a part among them as text."""
    for option in options(kind):
        if option in READERS and not isinstance(value, str):
            text = READERS[option].part(value)
            if text is not None:
                return text
    return value


def is_plain(kind: Any) -> bool:
    """Whether texts can say a value of a type, be it plain or a part."""
    plain = {int, float, bool, str}
    return any(
        option in plain or typing.get_origin(option) is Literal or option in READERS
        for option in options(kind)
    )


def is_tuple(kind: Any) -> bool:
    """Whether a type is a tuple of any length."""
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[1:] == (...,)


def show(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return f"({', '.join(map(show, value))})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def pairs(rest: str, text: str, bare: str = "") -> dict[str, str]:
    """Settings of `setting=value,...`.

    Args:
        rest: what follows the name of the method.
        text: the whole, for messages.
        bare: setting that the first value may be of without saying so; "" for none.
    """
    settings: dict[str, str] = {}
    for piece in pieces(rest):
        key, equals, value = piece.partition("=")
        if not equals and bare and not settings:
            key, value = bare, piece
        elif not equals:
            raise SettingError(
                f"'{piece}' in '{text}' is not a setting; write name:setting=value."
            )
        _add(settings, key, value, text)
    return settings


def _add(settings: dict[str, str], key: str, value: str, text: str) -> None:
    if key.strip() in settings:
        raise SettingError(f"'{text}' gives {key.strip()} twice; give it once.")
    if second := re.search(r"^[^()]*\s([A-Za-z_]\w*)\s*=", value):
        raise SettingError(
            f"a comma is missing before {second[1]} in '{text}'; settings are parted "
            "by commas, as in name:setting=value,setting=value."
        )
    settings[key.strip()] = value.strip()


def pieces(text: str) -> list[str]:
    """Pieces between commas outside parentheses, without empty ones.

    Example:
        >>> pieces("rho=cosine(0.1,0.01),rng=fresh")
        ['rho=cosine(0.1,0.01)', 'rng=fresh']
    """
    texts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if depth < 0:
            break
        if letter == "," and depth == 0:
            texts.append("")
        else:
            texts[-1] += letter
    if depth != 0:
        raise SettingError(f"parentheses must match, got '{text}'.")
    return [piece for piece in texts if piece.strip()]


def is_call(text: str) -> bool:
    """Whether a text has the form `name(...)`."""
    name, opened, _ = text.partition("(")
    return opened != "" and name.strip().isidentifier()


def called(text: str) -> tuple[str, list[str], dict[str, str]]:
    """Name, arguments by place and arguments by name of `name(...)` or `name`."""
    name, opened, rest = text.strip().partition("(")
    if not opened:
        return name, [], {}
    if not rest.endswith(")"):
        raise SettingError(f"'{text}' must end with a parenthesis, as in name(0.1).")
    inside = pieces(rest[:-1])
    placed = [piece.strip() for piece in inside if not _is_named(piece)]
    named = [piece.partition("=") for piece in inside if _is_named(piece)]
    if inside[: len(placed)] != [piece for piece in inside if not _is_named(piece)]:
        raise SettingError(f"in '{text}', arguments with a name must come last.")
    by_name: dict[str, str] = {}
    for key, _, value in named:
        _add(by_name, key, value, text)
    return name.strip(), placed, by_name


def _is_named(piece: str) -> bool:
    return (
        piece.partition("=")[1] != "" and piece.partition("=")[0].strip().isidentifier()
    )


_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _try(value: Any, option: Any, name: str) -> tuple[bool, Any]:
    text = isinstance(value, str)
    if option in READERS:
        part = READERS[option].part(value)
        return part is not None, part
    if option is type(None):
        return value is None or (text and value.lower() == "none"), None
    if typing.get_origin(option) is Literal:
        return value in typing.get_args(option), value
    if option is bool:
        if isinstance(value, bool):
            return True, value
        return (text and value.lower() in _WORDS), _WORDS.get(str(value).lower())
    if option is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return True, value
        return _parsed(int, value) if text else (False, None)
    if option is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return True, float(value)
        return _parsed(float, value) if text else (False, None)
    if is_tuple(option):
        return _try_tuple(value, typing.get_args(option)[0], name)
    if option is str:
        return text, value
    return False, None


def _try_tuple(value: Any, kind: Any, name: str) -> tuple[bool, Any]:
    if isinstance(value, str) and value.startswith("(") and value.endswith(")"):
        value = tuple(piece.strip() for piece in pieces(value[1:-1]))
    if not isinstance(value, tuple):
        return False, None
    return True, tuple(convert(item, kind, f"every entry of {name}") for item in value)


def _parsed(kind: Callable[[str], Any], value: str) -> tuple[bool, Any]:
    try:
        return True, kind(value)
    except ValueError:
        return False, None


def _has_text(option: Any) -> bool:
    return is_plain(option) or is_tuple(option) or option is type(None)


def _describe(option: Any) -> str:
    if option in READERS:
        reader = READERS[option]
        return f"a {reader.kind} ({', '.join(reader.names())})"
    if typing.get_origin(option) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(option)))
    if is_tuple(option):
        return "a list such as (1, 2)"
    names = {float: "a number", int: "a whole number", bool: "true or false"}
    return names.get(option, "none" if option is type(None) else "a text")


def options(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type there is."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)
