"""Conditions on named values, such as `lr * batch_size <= 12.8 and not skip`.

Python's parser reads a condition, and its nodes are worked out here: names, numbers,
texts, true and false, comparisons, and, or, not, arithmetic, and lists after `in`.
There are no calls, so a file that holds conditions holds no code.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name

MOST = 1000  # letters of a condition
FORMS = (
    "comparisons, and, or, not, + - * / // %, in, names, numbers, texts and lists are "
    "allowed"
)

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_WORDS = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Condition:
    """A condition on named values.

    Args:
        text: as it was written; names may have dots, as in `model.width > 4`.

    Raises:
        SettingError: no expression, or one of a form that is not allowed.

    Example:
        >>> Condition("width in [4, 8] and lr * 2 <= 1").holds({"width": 4, "lr": 0.1})
        True
    """

    text: str
    names: frozenset[str] = field(init=False, compare=False)
    _node: ast.expr = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        node = _parsed(self.text)
        named = {name for each in ast.walk(node) if (name := _name(each))}
        # Of a.b.c, which is one name, a and a.b are parts.
        parts = {
            part
            for each in ast.walk(node)
            if isinstance(each, ast.Attribute) and (part := _name(each.value))
        }
        object.__setattr__(self, "_node", node)
        object.__setattr__(self, "names", frozenset(named - parts - set(_WORDS)))

    def check_names(self, known: Iterable[str], kind: str) -> None:
        """Refuse a name that is none of those known.

        Args:
            known: names that values will have.
            kind: what they are, for the message: "factor".

        Raises:
            UnknownNameError: such a name; the nearest known one is given.
        """
        names = set(known)
        for name in sorted(self.names - names):
            raise unknown_name(f"{kind} in '{self.text}':", name, names)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds for these values, all its names among them.

        Raises:
            SettingError: values that cannot be compared or added, such as a text and a
                number.
        """
        try:
            return bool(_value(self._node, values))
        except (TypeError, ArithmeticError) as error:
            said = ", ".join(
                f"{name} is {values[name]!r}" for name in sorted(self.names)
            )
            raise SettingError(
                f"the condition '{self.text}' has no value where {said} ({error}); "
                "compare values of one kind."
            ) from error

    def why_not(self, values: Mapping[str, Any]) -> str:
        """The condition and the values that it does not hold for."""
        said = ", ".join(
            f"{name} is {_shown(values[name])}" for name in sorted(self.names)
        )
        return f"{self.text} does not hold ({said})"


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _parsed(text: str) -> ast.expr:
    try:
        if len(text) > MOST:
            raise ValueError(f"longer than {MOST} letters")
        node = ast.parse(text.strip(), mode="eval").body
        for each in ast.walk(node):
            _check(each, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SettingError):
            raise
        why = getattr(error, "msg", None) or str(error)
        raise SettingError(
            f"a condition must be an expression such as width <= 8, got '{text[:60]}' "
            f"({why})."
        ) from None
    return node


def _check(node: ast.AST, text: str) -> None:
    """Refuse a form that is not allowed."""
    plain = (ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.List, ast.Tuple, ast.Load)
    allowed = (
        isinstance(node, (*plain, ast.Name, *_ARITHMETIC, *_COMPARED, *_SIGNS))
        or (isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC)
        or (isinstance(node, ast.UnaryOp) and type(node.op) in _SIGNS)
        or (isinstance(node, ast.Attribute) and _name(node) != "")
        or (isinstance(node, ast.Constant) and _is_plain(node.value))
    )
    if not allowed:
        shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        raise SettingError(
            f"the condition '{text}' has a form that is not allowed, '{shown[:60]}'; "
            f"{FORMS}."
        )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _name(node: ast.AST) -> str:
    """A name, or names with dots between them; "" for another node."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _name(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    if name := _name(node):
        return values[name] if name in values else _WORDS[name]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, values) for each in node.elts]
    if isinstance(node, ast.BoolOp):
        wanted = isinstance(node.op, ast.Or)  # the value that ends it
        return any(bool(_value(v, values)) is wanted for v in node.values) is wanted
    if isinstance(node, ast.UnaryOp):
        return _SIGNS[type(node.op)](_value(node.operand, values))
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, values)
    assert isinstance(node, ast.Compare)
    left = _value(node.left, values)
    for sign, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, values)
        if not _COMPARED[type(sign)](left, right):
            return False
        left = right
    return True


def _arithmetic(node: ast.BinOp, values: Mapping[str, Any]) -> Any:
    """A sum, difference, product or quotient of numbers; texts have none."""
    sides = [_value(side, values) for side in (node.left, node.right)]
    for side in sides:
        if not isinstance(side, int | float):
            raise TypeError(f"{side!r} is no number")
    return _ARITHMETIC[type(node.op)](*sides)
