"""Facts about a method, in words, from its registry and its class."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast

from docs.generator.memory import FEW, MANY, copies, plain_base_only
from steppe.averaging import AverageSpec
from steppe.registry.bounds import Range
from steppe.registry.composed import part_registries
from steppe.registry.registry import NOT_GIVEN, Choice, Entry, Registry
from steppe.registry.settings_text import READERS, canonical, options, show
from steppe.registry.specs import OptimizerSpec
from steppe.stepping.options import CheckedOptions, OptimizerOptions
from steppe_lab.training.recipe import CHOICES

Facts = dict[str, str]
AVERAGES_IN_LOOPS = "../../loops.md#averages-of-the-weights"
WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


def facts(entry: Entry[Any]) -> Facts:
    """What is declared or counted of a method, by what it is."""
    spec = entry.spec
    if isinstance(spec, OptimizerSpec):
        return _of_an_optimizer(entry)
    if isinstance(spec, AverageSpec):
        return _of_an_average(spec)
    return {}


def memory(entry: Entry[Any]) -> tuple[str, str]:
    """Copies of the parameters beyond what is there without the method.

    Returns:
        During backward passes, and at the most.
    """
    if isinstance(entry.spec, AverageSpec):
        return entry.spec.memory, entry.spec.memory
    while_passing, most = (copies(entry.name, rows) for rows in (MANY, FEW))
    return _tenths(while_passing), _tenths(max(while_passing, most))


def command(registry: Registry[Any], entry: Entry[Any]) -> str:
    """How the method is written for `steppe compare`; "" where it cannot be."""
    spec = entry.spec
    choice = str(Choice(entry.name, getattr(spec, "example", {})))
    if registry not in CHOICES.values():
        return ""
    if isinstance(spec, AverageSpec):
        held_out = " --held-out validation" if spec.validates else ""
        return f"steppe compare sgd+{choice}{held_out}"
    if isinstance(spec, OptimizerSpec) and _is_its_base(spec):
        return ""
    plain = isinstance(spec, OptimizerSpec) and plain_base_only(entry.name)
    base = " --base sgd:momentum=0,weight_decay=0" if plain else ""
    return f"steppe compare {choice}{base}"


def settings(registry: Registry[Any], entry: Entry[Any]) -> list[tuple[str, str, str]]:
    """Settings that a text can give: name, default and what they may be.

    Those of every optimizer are left out.
    """
    if registry in part_registries():
        found = entry.arguments()
    elif registry in CHOICES.values():
        found = entry.settings()
    else:
        return []
    common = OptimizerOptions.__annotations__ if registry.kind == "optimizer" else ()
    return [row_of_setting(p) for name, p in found.items() if name not in common]


def optimizer_options(entry: Entry[Any]) -> list[tuple[str, str, str]]:
    """The same for the settings that every optimizer has."""
    found = entry.settings()
    return [
        row_of_setting(found[name])
        for name in OptimizerOptions.__annotations__
        if name in found
    ]


def limits_of(bound: Range | tuple[float, float] | None) -> str:
    """The range of a setting in signs; empty for one that is no number."""
    if bound is None:
        return ""
    limits = bound if isinstance(bound, Range) else Range(*bound)
    kind = ", whole" if limits.whole else ""
    if limits.low == -math.inf and limits.high == math.inf:
        return f"finite{kind}"
    if limits.high == math.inf:
        return f"{'>' if limits.above else '>='} {limits.low:g}{kind}"
    first, last = "(" if limits.above else "[", ")" if limits.below else "]"
    return f"in {first}{limits.low:g}, {limits.high:g}{last}{kind}"


def call(name: str, example: Mapping[str, Any], first: str) -> str:
    """A call in Python with example settings."""
    given = [first, *(f"{key}={value!r}" for key, value in example.items())]
    return f"{name}({', '.join(given)})"


def signature(name: str, made: Any) -> str:
    """A call in Python with all arguments and their defaults."""
    parameters = inspect.signature(made).parameters.values()
    bare = [each.replace(annotation=each.empty) for each in parameters]
    return f"{name}{inspect.Signature(bare)}"


def _of_an_optimizer(entry: Entry[Any]) -> Facts:
    spec, make = entry.spec, cast(Any, entry.make)
    first = make.running_statistics == "first"
    passing, most = memory(entry)
    found = {
        "Gradients per step": f"{spec.grad_evals:g}, of the whole batch"
        + (f", and {spec.beside}" if spec.beside else ""),
        "Memory beyond the base": "none by default"
        if _is_its_base(spec)
        else f"in copies of the parameters: {passing} during backward passes, "
        f"{most} at most",
        "Counted with": _settings(spec.example),
        "Ranges": "; ".join(_range(*each) for each in spec.bounds.items()),
        "Becomes, bit for bit": "; ".join(_limit(limit) for limit in spec.limits),
        "Running statistics": "with `model=`, those of "
        + ("the first pass" if first else "all passes"),
        "First pass": "at the unperturbed weights"
        if make.looks_first
        else "not at the unperturbed weights: gates that look at the gradient "
        "(`AdaptiveGate`) do not go with it",
        "Loss scaling": "nothing to do"
        if make.scale_free
        else "with a `GradScaler` pass `scaler=scaler`",
        "Several loops per step": "`passes(accumulate=True)` adds micro-batches up"
        if make.accumulates
        else "one loop per step: run all micro-batches inside each pass",
        "Random numbers": "its own, by `seed` or `generator`" if make.random else "",
    }
    return {name: text for name, text in found.items() if text}


def _of_an_average(spec: AverageSpec) -> Facts:
    found = {
        "Gradients per step": f"{spec.grad_evals:g}",
        "Memory": f"in copies of the parameters: {spec.memory}",
        "Running statistics": f"to be re-estimated, see [loops]({AVERAGES_IN_LOOPS})"
        if spec.reestimate
        else "averaged like parameters by default",
        "Validation losses": "wanted, by `validate(loss)`" if spec.validates else "",
    }
    return {name: text for name, text in found.items() if text}


def _is_its_base(spec: OptimizerSpec) -> bool:
    """Whether a method does nothing but for what no text can say."""
    return any(not limit.settings and limit.equals == "base" for limit in spec.limits)


def _tenths(number: float) -> str:
    return f"{abs(round(number, 1)):g}"


def _range(name: str, bound: Range | tuple[float, float]) -> str:
    return f"{name} {limits_of(bound)}"


def _limit(limit: Any) -> str:
    other = "the base" if limit.equals == "base" else f"`{limit.equals}`"
    return f"{other} with {_settings(limit.settings)}"


def _settings(settings: Mapping[str, Any]) -> str:
    """Settings as they are typed."""
    pairs = ",".join(f"{key}={show(value)}" for key, value in settings.items())
    return f"`{pairs}`" if pairs else "default settings"


def row_of_setting(parameter: inspect.Parameter) -> tuple[str, str, str]:
    """Name, default, and the texts that a setting takes."""
    return parameter.name, _default(parameter), _may_be(parameter.annotation)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "needed"
    if parameter.default is NOT_GIVEN:
        return f"`{show(getattr(CheckedOptions, parameter.name)).lower()}`"
    return f"`{show(canonical(parameter.default, parameter.annotation)).lower()}`"


def _may_be(kind: Any) -> str:
    """What texts a setting takes; types that no text can say are left out."""
    found: dict[str, None] = {}
    for option in options(kind):
        if option in READERS:
            found[f"a {READERS[option].kind}"] = None
        elif typing.get_origin(option) is Literal:
            found |= {f"`{value}`": None for value in typing.get_args(option)}
        elif typing.get_origin(option) is tuple:
            found["a list such as `(1, 2)`"] = None
        elif option in WORDS:
            found[WORDS[option]] = None
        elif option is type(None):
            found["`none`"] = None
    return ", ".join(found)
