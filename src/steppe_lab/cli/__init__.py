"""The `steppe` command: one module per verb, imported when the verb is used.

A verb has `Args`, a record that tyro parses, and `run(args)`, which calls one function
of the lab and renders what it returns.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from typing import Any, TextIO

from steppe.errors import UsageError, install

HELP, VERSION = ("-h", "--help", "help"), "--version"

GROUPED = {
    "train": {
        "compare": "train several optimizers, measure flatness, write a report",
        "train": "train one network and keep its checkpoint",
    },
    "run studies": {
        "study": "list studies of many networks; run, resume and extend them",
        "reproduce": "test the published numbers of a paper, with verdicts",
    },
    "look at a checkpoint": {
        "evaluate": "score checkpoints on training, validation and test samples",
        "measure": "measure the flatness of checkpoints",
        "examine": "curvature, noise and rounding of a checkpoint on one page",
        "attack": "find changes of inputs, within a budget, that change predictions",
        "spectrum": "find the spectrum of a checkpoint and draw it",
        "landscape": "draw the loss around a checkpoint, or through two or three",
    },
    "look things up": {
        "download": "fetch the published files of data sets",
        "prepare": "learn the vocabulary of a data set of sentences",
        "report": "write the report of a finished comparison again",
        "list": "list optimizers, averages, measures, models, data sets and attacks",
    },
}
VERBS = {verb: about for verbs in GROUPED.values() for verb, about in verbs.items()}
# A verb's first word, where it is one of these and no file, is another command.
SUBCOMMANDS = {
    "landscape": {
        "plot": "draw surfaces from their files, several on one scale",
        "project": "draw the path of a training on a surface from its file",
        "connect": "fit a curve of low loss between two networks",
        "barriers": "measure the rise of the loss between every two networks",
        "convert": "write a surface into files of other formats",
    },
    "study": {
        "run": "train and measure all networks of a study, or go on with them",
        "extend": "give a study more seeds, levels, measures or epochs",
        "status": "show the state of a study, its end and its failures",
        "report": "statistics of a study, or of any table, on one page",
        "export": "write the table of a study into a file",
        "sql": "query the tables of studies",
        "doctor": "look for damage in a store, and mend it",
        "worker": "work on a study beside other processes, as in an array job",
    },
}
# Verbs whose first word may be a file, which comes before a subcommand of its name.
OF_FILES = {"landscape"}
COMMANDS = VERBS | {
    f"{verb} {word}": about
    for verb, words in SUBCOMMANDS.items()
    for word, about in words.items()
}
EXAMPLE = "steppe compare sgd sam lpf_sgd"
# module:function, and not name:setting=value.
CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(?![\w=])")
PARALLEL = "train"  # the verb that torchrun starts in several processes
# Commands that go on where they were stopped.
RESUMING = (
    *("attack", "compare", "examine", "landscape", "landscape barriers"),
    *("measure", "reproduce", "train"),
    *("study run", "study extend", "study worker"),
)
# What the command needs beyond torch and numpy; the extra `lab` installs it.
PACKAGES = (
    "jinja2",
    "matplotlib",
    "PIL",
    "pydantic",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tyro",
    "yaml",
)


def main(argv: list[str] | None = None) -> int:
    """Run a verb.

    The exit code is 0, 1 when some runs failed, 2 for a mistake, 128 and the number of
    the signal that stopped it: 130 after Ctrl-C.
    """
    missing = [name for name in PACKAGES if not _is_installed(name)]
    if missing:
        sys.stderr.write(
            f"steppe: the command needs {', '.join(missing)} beside the library; "
            f"{install('lab')}.\n"
        )
        return 2
    # These need the packages that have just been looked for.
    from steppe_lab.cli.messages import reported
    from steppe_lab.cli.streams import open_streams
    from steppe_lab.execution.interrupts import stop_by_exception

    open_streams()
    if argv is None:
        stop_by_exception()
    arguments = sys.argv[1:] if argv is None else argv
    # Code of the user is looked for in the current folder; last, so that a file there
    # hides no module of Python or of another package, and only where such code is
    # named: torch tries to import what may be missing, and would run a file there.
    if any(map(CODE.search, arguments)):
        sys.path.append(os.getcwd())
    # Known before arguments are parsed, since Ctrl-C may come during imports.
    resumes = bool(arguments) and command_of(arguments)[0] in RESUMING
    last = argv is None  # nothing but the end of the process comes after
    return reported(lambda: _with_results(arguments, last), resumes=resumes)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # one that is being hidden
        return False


def _with_results(arguments: list[str], last: bool) -> int:
    from steppe_lab.cli.streams import results_apart

    with results_apart(for_good=last) as results:
        return _dispatch(arguments, results)


def _dispatch(arguments: list[str], results: TextIO) -> int:
    if not arguments or arguments[0] in HELP:
        results.write(_usage())
        return 0 if arguments else 2
    if arguments[0] == VERSION:
        from importlib.metadata import version

        results.write(f"steppe {version('steppe')}\n")
        return 0
    verb, rest = command_of(arguments)
    if verb not in COMMANDS:
        from steppe.registry.registry import unknown_name

        raise unknown_name("verb", verb, (*VERBS, "--help", VERSION))
    from steppe_lab.cli.parsing import parse
    from steppe_lab.training.launch import launch

    if verb != PARALLEL and launch().count > 1:
        raise UsageError(
            f"{launch().count} processes train one network with steppe {PARALLEL}, got "
            f"steppe {verb}; start it without torchrun."
        )
    _check_subcommand(verb, rest)
    module = verb_module(verb)
    parsed = parse(module.Args, verb, COMMANDS[verb], rest, results)
    code: int = 0 if parsed is None else module.run(parsed, results)
    return code


def command_of(arguments: list[str]) -> tuple[str, list[str]]:
    """The command that arguments begin with, and the rest."""
    verb, *rest = arguments
    if not rest or rest[0] not in SUBCOMMANDS.get(verb, ()):
        return verb, rest
    if verb in OF_FILES and os.path.exists(rest[0]):
        return verb, rest
    return f"{verb} {rest[0]}", rest[1:]


def _check_subcommand(verb: str, rest: list[str]) -> None:
    """Refuse a first word that is no file and nearly a subcommand."""
    import difflib

    words = list(SUBCOMMANDS.get(verb, ()))
    near = difflib.get_close_matches(rest[0], words, 1, 0.7) if rest and words else []
    if near and not (verb in OF_FILES and os.path.exists(rest[0])):
        no = "there is no file" if verb in OF_FILES else f"steppe {verb} has no command"
        raise UsageError(f"{no} {rest[0]}; did you mean `steppe {verb} {near[0]}`?")


def verb_module(verb: str) -> Any:
    """The module of a verb or of its subcommand, with `Args` and `run`."""
    name = verb.replace(" ", "_")
    return importlib.import_module(f"steppe_lab.cli.verbs.{name}")


def _usage() -> str:
    lines = [
        "usage: steppe VERB ...",
        "",
        "Find flat minima, measure how flat they are, see when it matters.",
        "",
        "example:",
        f"  {EXAMPLE}",
    ]
    for group, verbs in GROUPED.items():
        lines += [
            "",
            f"{group}:",
            *(f"  {v:<10} {about}" for v, about in verbs.items()),
        ]
    lines += [
        "",
        "steppe VERB --help shows the options of a verb.",
        "A method is written name or name:setting=value,setting=value.",
    ]
    return "\n".join(lines) + "\n"
