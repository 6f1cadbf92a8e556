"""Parts of methods as texts: a registry reads and makes `name(argument, ...)`.

A part is a composable setting, such as a schedule of the radius. Its classes are in a
registry like all methods; `register_reader` says which annotated type of a setting
the registry reads. Arguments are written as in Python, by place or by name; those that
a run knows may be left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from steppe.errors import SettingError
from steppe.registry.registry import Entry, Registry, unknown_name
from steppe.registry.settings_text import (
    READERS,
    built,
    called,
    convert,
    is_call,
    options,
    show,
)

# Arguments that a run knows: a text may leave them out.
OF_THE_RUN = ("steps", "max_lr", "seed")


def register_reader(annotation: Any, registry: Registry[Any]) -> None:
    """Let a registry read settings of an annotated type, or of each of a union."""
    for option in options(annotation):
        READERS[option] = _Parts(registry)


def read_part(registry: Registry[Any], text: str, known: Collection[str]) -> str | None:
    """Canonical text of a part; None if it is none.

    Args:
        registry: of the kind of part.
        text: what to read.
        known: names of arguments that the text may leave out.

    Raises:
        UnknownNameError: `name(...)` with a name or an argument that is unknown.
        SettingError: an argument missing, too many of them, or one of the wrong type.
    """
    return _Parts(registry, known).part(text)


def part_registries() -> list[Registry[Any]]:
    """All registries of parts that have been imported, by kind."""
    registries = {r.kind: r.registry for r in READERS.values() if isinstance(r, _Parts)}
    return [registries[kind] for kind in sorted(registries)]


class _Parts:
    """Reads the parts of one registry."""

    def __init__(
        self, registry: Registry[Any], known: Collection[str] = OF_THE_RUN
    ) -> None:
        self.registry = registry
        self.known = known  # names of arguments that texts may leave out
        self.kind = registry.kind

    def names(self) -> list[str]:
        """Of all parts, sorted."""
        return self.registry.names()

    def part(self, value: Any) -> str | None:
        """A part by text or object as canonical text; None if it is none.

        Raises:
            UnknownNameError: `name(...)` with a name or an argument that is unknown.
            SettingError: an argument missing, too many of them, or one of the wrong
                type or range.
        """
        if not isinstance(value, str):
            return self._text_of(value)
        if not is_call(value) and value not in self.registry:
            return None
        name, placed, named = called(value)
        entry = self.registry[name]
        arguments = entry.arguments()
        if len(placed) > len(arguments):
            raise SettingError(
                f"{name} takes at most {len(arguments)} arguments "
                f"({', '.join(arguments)}), got {len(placed)} in '{value}'."
            )
        values: dict[str, Any] = dict(zip(arguments, placed))
        for key, text in named.items():
            if key not in arguments:
                raise unknown_name(f"argument of {name}", key, arguments)
            if key in values:
                raise SettingError(f"'{value}' gives {key} twice; leave one out.")
            values[key] = text
        return self._checked(entry, values)

    def make_part(self, text: str, known: Mapping[str, Any]) -> Any:
        """Make the part that a canonical text says.

        Args:
            text: as `part` gives it.
            known: arguments for where the text leaves them out.

        Raises:
            SettingError: an argument that neither has.
        """
        name, placed, named = called(text)
        entry = self.registry[name]
        arguments = entry.arguments()
        values = {key: known[key] for key in arguments if key in known}
        for key, argument in {**dict(zip(arguments, placed)), **named}.items():
            kind = arguments[key].annotation
            values[key] = built(
                convert(argument, kind, f"{key} of {name}"), kind, known
            )
        for key, parameter in arguments.items():
            if key not in values and parameter.default is parameter.empty:
                raise SettingError(
                    f"{name} needs {key}, which is not known here; write "
                    f"{name}(..., {key}=...)."
                )
        return entry.make(**values)

    def _call(self, entry: Entry[Any]) -> str:
        """Arguments as they are written: by name where the first one is known here.

        What is known is left out then, and no place is that of the first argument.
        """
        arguments = entry.arguments()
        if next(iter(arguments)) not in self.known:
            return ", ".join(arguments)
        return ", ".join(
            f"{name}=..."
            for name, parameter in arguments.items()
            if name not in self.known and parameter.default is parameter.empty
        )

    def _checked(self, entry: Entry[Any], values: Mapping[str, Any]) -> str:
        """The text of a part, made once if it says all that is needed."""
        shown: list[str] = []
        by_place = complete = True
        for key, parameter in entry.arguments().items():
            needed = parameter.default is parameter.empty
            value = parameter.default
            if key in values:
                title = f"{key} of {entry.name}"
                value = convert(values[key], parameter.annotation, title)
            elif needed and key not in self.known:
                call = f"{entry.name}({self._call(entry)})"
                raise SettingError(f"{entry.name} needs {key}; write {call}.")
            if value is parameter.default or (
                not needed and value == parameter.default
            ):
                complete, by_place = complete and not needed, False
            else:
                shown.append(show(value) if by_place else f"{key}={show(value)}")
        text = f"{entry.name}({', '.join(shown)})"
        if complete:
            self.make_part(text, {})  # a value out of range shows when it is read
        return text

    def _text_of(self, part: Any) -> str | None:
        """Text of an object that a class of the registry made."""
        for entry in self.registry:
            if type(part) is entry.make:
                values = {key: getattr(part, key) for key in entry.arguments()}
                return self._checked(entry, values)
        return None
