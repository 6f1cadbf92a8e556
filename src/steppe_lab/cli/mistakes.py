"""What the command says when something is wrong: one sentence, and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from pydantic import ValidationError

from steppe.errors import SteppeError

INTERRUPTED = 130  # as shells count Ctrl-C
MISTAKE = 2


class ParseError(SteppeError):
    """Arguments that the command does not understand."""


def reported(run: Callable[[], int], *, resumes: bool) -> int:
    """Run, and turn mistakes into a sentence on stderr; a bug keeps its traceback.

    Args:
        run: the work.
        resumes: the same command goes on where this one is stopped.
    """
    try:
        return run()
    except SteppeError as error:
        return _say(str(error))
    except ValidationError as error:
        return _say(sentence(error))
    except KeyboardInterrupt:
        kept = "what is finished is kept, and the same command goes on there"
        _say(f"stopped; {kept if resumes else 'the same command begins anew'}.")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def sentence(error: ValidationError) -> str:
    """The first complaint about a record, in one sentence."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SteppeError):
        return str(cause)
    name = "_".join(str(part) for part in first["loc"]) or "settings"
    rule = str(cause or first["msg"])
    if cause is not None:
        return rule
    rule = rule.removeprefix("Input ").removeprefix("should ")
    return f"{name} must {rule}, got {first['input']!r}."


def _say(text: str) -> int:
    sys.stderr.write(f"steppe: {' '.join(text.split())}\n")
    return MISTAKE
