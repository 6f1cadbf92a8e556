"""Arguments into the record of a verb; mistakes as one sentence."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TextIO, TypeVar, get_args

import tyro
from pydantic import BaseModel, ValidationError, model_validator

from steppe_lab.cli.messages import ParseError, sentence


class Arguments(BaseModel):
    """Arguments of a verb; an error in them is one sentence."""

    spellings: ClassVar[Mapping[str, str]] = {}  # other words for arguments

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ParseError(sentence(error)) from None


Record = TypeVar("Record", bound=Arguments)

_OPTION = re.compile(r"--?[A-Za-z]")  # a number may be negative
(_PLACED,) = get_args(tyro.conf.Positional[int])[1:]  # marks arguments without a name
_PATHS = (Path, Path | None)


def parse(
    record: type[Record],
    verb: str,
    about: str,
    arguments: list[str],
    results: TextIO,
) -> Record | None:
    """Read the arguments of a verb; None when they ask for help, which is then given.

    Raises:
        ParseError: an option that does not exist, or a value that makes no sense.
    """
    check_options(record, verb, arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(results):
            return tyro.cli(
                record,
                prog=f"steppe {verb}",
                description=about[0].upper() + about[1:] + ".",
                args=[record.spellings.get(each, each) for each in arguments],
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            raise ParseError(_complaint(said.getvalue(), verb)) from None
        return None


def check_options(record: type[Arguments], verb: str, arguments: list[str]) -> None:
    """Refuse options that do not exist, come twice, or lack or do not take a value."""
    known: dict[str, Any] = {"--help": None} | {
        f"--{name.removeprefix('as_').replace('_', '-')}": field.annotation
        for name, field in record.model_fields.items()
        if _PLACED not in field.metadata
    }
    lists = f"`steppe {verb} --help` lists the options."
    seen = set()
    for argument, after in pairwise([*arguments, "--end"]):
        option, equals, value = argument.partition("=")
        given = option.replace("_", "-")
        if not _OPTION.match(option) or given in ("--help", "-h"):
            continue
        if given not in known:
            near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ParseError(f"unknown option {given}: {hint}{lists}")
        if given in seen:
            raise ParseError(f"{given} is given twice; give it once.")
        seen.add(given)
        _check_value(given, known[given], value if equals else after, equals != "")


def _check_value(option: str, kind: Any, value: str, joined: bool) -> None:
    if kind is bool:
        if joined:
            raise ParseError(f"{option} takes no value, got '{value}'; leave it out.")
    elif not joined and _OPTION.match(value):
        raise ParseError(f"{option} needs a value; write it after {option}.")
    elif kind in _PATHS and not value:
        raise ParseError(f"{option} must name a place, got ''; leave it out.")


def _complaint(box: str, verb: str) -> str:
    """The message in the box that tyro draws, up to the first rule inside."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│|╭╮╰╯+ ") for line in plain.splitlines()]
    if lines and not _is_rule(lines[0]):
        lines = lines[1:]  # the title in the upper border
    message: list[str] = []
    for line in lines:
        if _is_rule(line) and message:
            break
        if not _is_rule(line):
            message.append(line)
    text = " ".join(message).rstrip(". ")
    if wrong := re.search(r"invalid choice '(.*?)'.*?one of \((.*?)\)", text):
        choices = re.findall(r"'(.*?)'", wrong[2])
        near = difflib.get_close_matches(wrong[1], choices, n=1, cutoff=0.5)
        text += f"; did you mean '{near[0]}'?" if near else ""
    return f"{text[:1].lower()}{text[1:]}; `steppe {verb} --help` lists the options."


def _is_rule(line: str) -> bool:
    return set(line) <= set("─- ")
