"""Arguments into the record of a verb; mistakes as one sentence."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from typing import Any, TextIO, TypeVar

import tyro
from pydantic import BaseModel, ValidationError, model_validator

from steppe_lab.cli.mistakes import ParseError, sentence


class Arguments(BaseModel):
    """Arguments of a verb; what is wrong with them is one sentence."""

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ParseError(sentence(error)) from None


Record = TypeVar("Record", bound=Arguments)


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
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            raise ParseError(_complaint(said.getvalue(), verb)) from None
        return None


def check_options(record: type[Arguments], verb: str, arguments: list[str]) -> None:
    """Refuse an option that does not exist, and name the nearest one."""
    names = [field.removeprefix("as_") for field in record.model_fields]
    known = {"--help", *(f"--{name.replace('_', '-')}" for name in names)}
    for argument in arguments:
        given = argument.partition("=")[0].replace("_", "-")
        if given.startswith("--") and given not in known:
            near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ParseError(
                f"unknown option {given}: {hint}`steppe {verb} --help` lists them."
            )


def _complaint(box: str, verb: str) -> str:
    """What tyro says in the box that it draws, up to the first rule inside."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│|╭╮╰╯+ ") for line in plain.splitlines()]
    if lines and not _is_rule(lines[0]):
        lines = lines[1:]  # the title in the upper border
    told: list[str] = []
    for line in lines:
        if _is_rule(line) and told:
            break
        if not _is_rule(line):
            told.append(line)
    text = " ".join(told).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}; `steppe {verb} --help` lists the options."


def _is_rule(line: str) -> bool:
    return set(line) <= set("─- ")
