"""Complaints of records about their values, as sentences; importable without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from steppe.errors import brief

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The words of pydantic for a text that is no number speak of parsing.
_RULES = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type"), "be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "be true or false"),
    "string_type": "be a text",
    "missing": "be there",
}


def cause_of(error: Exception) -> object:
    """The error that a validator of a record raised first, if one did."""
    if not isinstance(error, ValidationError):
        return error
    return error.errors()[0].get("ctx", {}).get("error")


def reason_of(error: Exception) -> str:
    """The first complaint of an error, without its full stop."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0].rstrip(".")
    first = error.errors()[0]
    name = ": ".join(map(str, first["loc"]))
    cause = cause_of(error)
    if cause is not None:
        return f"{name}: {cause}".strip(": .")
    return f"{name or 'the record'} {_rule_of(first)}"


def sentence_of(error: ValidationError) -> str:
    """The first complaint in one sentence; one of ours as it is."""
    cause = cause_of(error)
    return f"{reason_of(error)}." if cause is None else str(cause)


def _rule_of(complaint: ErrorDetails) -> str:
    """Rule of a value, and the value itself: "must be a number, got 'x'"."""
    kind = complaint["type"]
    if kind == "extra_forbidden":
        return "is no setting; leave it out"
    message = complaint["msg"].removeprefix("Input ").removeprefix("should ")
    rule = _RULES.get(kind, f"{message[:1].lower()}{message[1:]}")
    # Of a value that is missing, pydantic names the whole record.
    got = "" if kind == "missing" else f", got {brief(complaint['input'])}"
    return f"must {rule}{got}"
