"""The command that makes a result again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from steppe_lab.cli.parsing import Arguments
from steppe_lab.training.settings import option_of

UNSAID = {"as_json", "overwrite"}  # no result depends on them


def command_of(args: Arguments, verb: str) -> str:
    """The command of arguments, quoted for a shell; defaults are left out.

    Args:
        args: of the verb.
        verb: its name, such as "landscape plot".
    """
    fields = type(args).model_fields
    placed = [name for name in fields if args.is_placed(name)]
    words = ["steppe", *verb.split()]
    for name in placed:
        words += _values(getattr(args, name))
    for name, field in fields.items():
        value = getattr(args, name)
        default = field.get_default(call_default_factory=True)
        if name in UNSAID or name in placed or value == default:
            continue
        option = option_of(name)
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
            continue
        first, *others = _values(value) or [""]
        # A value that begins with - is no option when it is joined to its own.
        joined = first.startswith("-")
        words += [f"--{option}={first}"] if joined else [f"--{option}", first]
        words += others
    return shlex.join(words)


def _values(value: Any) -> list[str]:
    return list(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, tuple | list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)
