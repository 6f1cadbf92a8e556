"""What steppe raises on purpose: one sentence with the rule, the value and the fix."""


class SteppeError(Exception):
    """Base of every error that steppe raises on purpose.

    Its text is one sentence for the person who made the call; the command line
    prints it without a traceback and exits with code 2.
    """


class SettingError(SteppeError, ValueError):
    """A setting of the wrong name, type or range."""


class UnknownNameError(SteppeError, ValueError):
    """A name that no registry has."""


class TrustError(SteppeError, RuntimeError):
    """Code of the user that a record names and the caller does not."""


class UsageError(SteppeError, RuntimeError):
    """Calls in an order that has no meaning, such as a step without its passes."""


class DataError(SteppeError, ValueError):
    """Data that is missing, damaged or not what its format promises."""


class CheckpointError(SteppeError, ValueError):
    """A checkpoint that cannot be read back as what it says it is."""


class StoreError(SteppeError, RuntimeError):
    """A run store that cannot be read or written."""


def brief(value: object) -> str:
    """A value as a refusal shows it: itself where that is short, else its type.

    Example:
        >>> brief(0.5), brief([0.0] * 1000)
        ('0.5', 'a list of float')
    """
    text = repr(value)
    if len(text) <= 60 and "\n" not in text:
        return text
    kind = f"a {type(value).__name__}"
    several = isinstance(value, list | tuple) and value
    return f"{kind} of {type(value[0]).__name__}" if several else kind  # type: ignore[index]


def install(extra: str) -> str:
    """The command that installs an extra, for the end of a sentence.

    Example:
        >>> install("viz")
        "run pip install '.[viz]' in a clone of steppe"
    """
    # A clone: no package index has steppe, so a name alone would find nothing there.
    return f"run pip install '.[{extra}]' in a clone of steppe"
