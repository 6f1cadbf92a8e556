"""The `steppe` command: one module per verb, imported when the verb is used.

A verb has `Args`, a record that tyro parses, and `run(args)`, which calls one function
of the lab and renders what it returns.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

VERBS = {
    "compare": "train several optimizers, measure flatness, write a report",
    "train": "train one network and keep its checkpoint",
    "measure": "measure the flatness of a checkpoint",
    "spectrum": "find the spectrum of a checkpoint and draw it",
    "report": "write the report of a finished comparison again",
    "list": "list optimizers, averages, measures, models and data sets",
}
RESUMING = ("compare", "train")  # verbs that go on where they were stopped


def main(argv: list[str] | None = None) -> int:
    """Run a verb.

    The exit code is 0, 1 when some runs failed, 2 for a mistake, 130 after Ctrl-C.
    """
    from steppe_lab.cli.mistakes import reported

    arguments = sys.argv[1:] if argv is None else argv
    # Code of the user is found in the current folder; last, so that a file there
    # hides no module of Python or of another package.
    sys.path.append(os.getcwd())
    resumes = bool(arguments) and arguments[0] in RESUMING
    return reported(lambda: _dispatch(arguments), resumes=resumes)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())  # noqa: T201
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"steppe {version('steppe')}")  # noqa: T201
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        from steppe.registry import unknown_name

        raise unknown_name("verb", verb, VERBS)
    from steppe_lab.cli.parsing import parse

    module = verb_module(verb)
    result: int = module.run(parse(module.Args, verb, VERBS[verb], rest))
    return result


def verb_module(verb: str) -> Any:
    """The module of a verb, with `Args` and `run`."""
    return importlib.import_module(f"steppe_lab.cli.{verb}_verb")


def _usage() -> str:
    lines = [
        "usage: steppe VERB ...",
        "",
        "Find flat minima, measure how flat they are, see when it matters.",
        "",
        *(f"  {verb:<9} {what}" for verb, what in VERBS.items()),
        "",
        "steppe VERB --help shows the options of a verb.",
        "A method is written name or name:setting=value,setting=value.",
    ]
    return "\n".join(lines)
