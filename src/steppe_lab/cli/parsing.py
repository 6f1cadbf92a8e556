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
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from steppe_lab.cli.messages import ParseError, say
from steppe_lab.complaints import sentence_of
from steppe_lab.training.settings import option_of


class Arguments(BaseModel):
    """Arguments of a verb; an error in them is one sentence."""

    # The text below a field is its help.
    model_config = ConfigDict(use_attribute_docstrings=True)

    example: ClassVar[str]  # of a command, for its help
    spellings: ClassVar[Mapping[str, str]] = {}  # other words for arguments
    bare: ClassVar[frozenset[str]] = frozenset()  # options that may have no value

    @classmethod
    def understood(cls, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Arguments as the options have them, and notes without full stops.

        A verb that takes flags of another program translates them here.
        """
        return arguments, []

    @classmethod
    def is_placed(cls, name: str) -> bool:
        """Whether a field is set by its place, without an option."""
        return _PLACED in cls.model_fields[name].metadata

    @model_validator(mode="wrap")
    @classmethod
    def _one_sentence(cls, value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            raise ParseError(sentence_of(error)) from None


Record = TypeVar("Record", bound=Arguments)

_OPTION = re.compile(r"--?[A-Za-z]")  # a number may be negative
_NEGATIVE = re.compile(r"-[\d.]")
(_PLACED,) = get_args(tyro.conf.Positional[int])[1:]  # marks arguments without a name
_PATHS = (Path, Path | None)
_NEAR = 0.7  # likeness of two words, below which one is not meant for the other
# Words of other programs for our options.
_SYNONYMS = {
    **dict.fromkeys(("store", "output", "dir", "folder", "runs", "save"), "out"),
    **dict.fromkeys(("dataset", "data-set", "task"), "data"),
    **dict.fromkeys(("test-samples", "test-size"), "test-fraction"),
    **dict.fromkeys(("net", "network", "arch", "architecture"), "model"),
    **dict.fromkeys(("jobs", "processes", "threads", "n-jobs", "cores"), "workers"),
    **dict.fromkeys(("gpu", "cuda", "cpu"), "device"),
    **dict.fromkeys(("schedule", "scheduler", "lr-scheduler"), "lr-schedule"),
    **dict.fromkeys(("lr", "learning-rate", "momentum", "weight-decay"), "base"),
    **dict.fromkeys(("noise", "corruption"), "label-noise"),
    **dict.fromkeys(("augmentation", "data-augmentation", "transform"), "augment"),
    **dict.fromkeys(("metrics", "measure"), "measures"),
    **dict.fromkeys(("against", "versus", "compare-with"), "and"),
    **dict.fromkeys(("repeats", "repetitions", "n-seeds"), "seeds"),
    **dict.fromkeys(("bs", "batch"), "batch-size"),
    **dict.fromkeys(("smoothing",), "label-smoothing"),
    **dict.fromkeys(("l2-penalty", "l2-loss", "kernel-regularizer"), "l2"),
    **dict.fromkeys(
        ("clip", "grad-clip", "gradient-clip", "max-grad-norm"), "clip-norm"
    ),
    **dict.fromkeys(("early-stopping", "early-stopping-patience"), "patience"),
    **dict.fromkeys(("early-stopping-threshold", "threshold"), "min-delta"),
    **dict.fromkeys(("tolerance", "tol", "stop-loss", "target-loss"), "stop-at-loss"),
    **dict.fromkeys(("iterations", "lanczos-steps"), "steps"),
    **dict.fromkeys(("usage", "h"), "help"),
}


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
    arguments, notes = record.understood(arguments)
    if verb.startswith("study ") and "store" not in record.model_fields:
        # Verbs of studies that write a file beside the store have --store for it.
        arguments = [re.sub("^--store(?==|$)", "--out", each) for each in arguments]
    # Before tyro, whose complaint about an option would fill a screen.
    check_options(record, verb, arguments)
    if {"-h", "--help"}.intersection(arguments):
        from steppe_lab.cli.help import help_page

        results.write(help_page(record, verb, about))
        return None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(results):
            words = _joined(arguments)
            parsed = tyro.cli(
                record,
                prog=f"steppe {verb}",
                args=[record.spellings.get(each, each) for each in words],
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        raise ParseError(_complaint(record, said.getvalue(), verb)) from stop
    for note in notes:  # before the work, which may be long
        say(f"note: {note}.")
    return parsed


def _joined(arguments: list[str]) -> list[str]:
    """Arguments with a negative value joined to its option: it may be no number."""
    words: list[str] = []
    for argument in arguments:
        before = words[-1] if words else ""
        if _NEGATIVE.match(argument) and _OPTION.match(before) and "=" not in before:
            words[-1] = f"{before}={argument}"
        else:
            words.append(argument)
    return words


def check_options(record: type[Arguments], verb: str, arguments: list[str]) -> None:
    """Refuse options that do not exist, come twice, or lack or do not take a value."""
    known: dict[str, Any] = {"--help": None} | {
        f"--{option_of(name)}": field.annotation
        for name, field in record.model_fields.items()
        if not record.is_placed(name)
    }
    from steppe_lab.cli import VERBS

    lists = f"`steppe {verb} --help` lists the options."
    seen = set()
    for argument, after in pairwise([*arguments, "--end"]):
        option, equals, value = argument.partition("=")
        given = option.replace("_", "-")
        if not _OPTION.match(option) or given in ("--help", "-h"):
            continue
        if given not in known:
            meant = _meant(given[2:], [name[2:] for name in known])
            hint = f"did you mean --{meant}? " if meant else ""
            if given[2:] in VERBS:
                hint = f"did you mean the verb `steppe {given[2:]}`? "
            raise ParseError(f"unknown option {given}: {hint}{lists}")
        if given in seen:
            raise ParseError(f"{given} is given twice; give it once.")
        seen.add(given)
        if given in record.bare and not equals:
            continue
        _check_value(given, known[given], value if equals else after, equals != "")


def _meant(word: str, options: list[str]) -> str:
    """The option that a word is near to, or another word for; "" for none."""
    if _SYNONYMS.get(word) in options:
        return _SYNONYMS[word]
    near = difflib.get_close_matches(word, options, n=1, cutoff=_NEAR)
    return near[0] if near else ""


def _check_value(option: str, kind: Any, value: str, joined: bool) -> None:
    if kind is bool:
        if joined:
            raise ParseError(f"{option} takes no value, got '{value}'; leave it out.")
    elif not joined and _OPTION.match(value):
        raise ParseError(f"{option} needs a value; write it after {option}.")
    elif kind in _PATHS and not value:
        raise ParseError(f"{option} must name a place, got ''; leave it out.")


def _complaint(record: type[Arguments], box: str, verb: str) -> str:
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
    text = _in_our_words(record, " ".join(message).rstrip(". "))
    # tyro lists the choices; the nearest one saves reading them.
    if wrong := re.search(r"invalid choice '(.*?)'.*?one of \((.*?)\)", text):
        choices = re.findall(r"'(.*?)'", wrong[2])
        near = difflib.get_close_matches(wrong[1], choices, n=1, cutoff=0.5)
        text += f"; did you mean '{near[0]}'?" if near else ""
    return f"{text[:1].lower()}{text[1:]}; `steppe {verb} --help` lists the options."


def _in_our_words(record: type[Arguments], text: str) -> str:
    """Complaints of the parser about numbers and missing options, shorter."""
    from steppe_lab.cli.help import metavar

    if text.startswith("Missing from"):
        fields = record.model_fields
        names = [metavar(n, f.annotation) for n, f in fields.items() if f.is_required()]
        return f"missing: {', '.join(names)}; write it as in `{record.example}`"
    wrong = re.search(r"(--\S+): (invalid literal for int|could not convert)", text)
    value = re.search(r": ('.*')$", text)
    if wrong and value:
        kind = "whole number" if "int" in wrong[2] else "number"
        return f"{wrong[1]} takes a {kind}, got {value[1]}"
    return text


def _is_rule(line: str) -> bool:
    return set(line) <= set("─- ")
