"""Messages of the command for errors: one sentence, and exit code 2."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable

from pydantic import ValidationError

from steppe.errors import DataError, SteppeError, StoreError, UsageError
from steppe_lab.complaints import sentence_of
from steppe_lab.execution.interrupts import Stopped
from steppe_lab.training.failures import FailedElsewhereError, LostProcessError
from steppe_lab.training.launch import launch

MISTAKE = 2
_LONG = re.compile(r"\S{400,}")  # words that nobody reads


class ParseError(SteppeError):
    """Arguments that the command does not understand."""


def reported(run: Callable[[], int], *, resumes: bool) -> int:
    """Run, and turn mistakes into a sentence on stderr; a bug keeps its traceback.

    Of several processes the first one speaks for all, where it meets the same.

    Args:
        run: the work.
        resumes: the same command goes on where this one is stopped.
    """
    try:
        return run()
    except SteppeError as error:
        return MISTAKE if _is_said_elsewhere(error) else say(str(error))
    except ValidationError as error:
        return MISTAKE if _is_said_elsewhere(error) else say(sentence_of(error))
    except KeyboardInterrupt as error:
        kept = "what is finished is kept, and the same command goes on there"
        if not _is_said_elsewhere(error):
            say(f"stopped; {kept if resumes else 'the same command begins anew'}.")
        # As shells count the end by a signal; Ctrl-C is one of them.
        return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except BrokenPipeError:  # the reader of our output has gone
        return 0
    except OSError as error:
        return say(refusal(error))
    except (SystemExit, GeneratorExit) as error:  # nothing of ours raises them
        kind = type(error).__name__
        return say(f"code of yours ended the program ({kind}); let it raise an error.")
    except MemoryError:
        return say("memory is full; ask for less, such as a smaller --model.")


def refusal(error: OSError) -> str:
    """One sentence for a refusal of the operating system."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is None:
        return f"the output cannot be written: {reason}; write it elsewhere."
    # Python writes these names into its texts as bytes that it cannot read.
    name = os.fsdecode(error.filename) if error.filename else "''"
    fix = "shorten it" if error.errno == errno.ENAMETOOLONG else "name another place"
    return f"cannot use {name}: {reason}; {fix}."


def _is_said_elsewhere(error: BaseException) -> bool:
    """Whether the first of several processes, which is not this one, says it."""
    try:
        rank = launch().rank
    except UsageError:
        return False
    if isinstance(error, LostProcessError):  # the first may be the one that is lost
        return rank > 1 or isinstance(error, FailedElsewhereError)
    return rank > 0 and not isinstance(error, (DataError, StoreError))


def say(text: str) -> int:
    """Write one line to stderr, where that can be written, and give the exit code."""
    whole = _LONG.sub(lambda word: f"{word[0][:60]}...{word[0][-20:]}", text)
    # Names of files may hold bytes that are no letters.
    line = " ".join(whole.split()).encode(errors="backslashreplace").decode()
    with contextlib.suppress(OSError):
        sys.stderr.write(f"steppe: {line}\n")
        sys.stderr.flush()
    return MISTAKE
