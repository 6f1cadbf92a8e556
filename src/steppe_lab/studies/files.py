"""Study files: YAML, a function that returns the mapping of one, or a built-in study.

YAML is read by the rules of its version 1.2, in which 1e-3 is a number, and on, off,
yes and no are texts. A key that comes twice is refused.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from steppe.errors import SettingError, SteppeError, UnknownNameError
from steppe.registry.registry import is_code, one_line, unknown_name
from steppe_lab.complaints import sentence_of
from steppe_lab.studies.settings import StudySettings

BUILT_IN = "steppe_lab.studies.built_in"
ENDINGS = (".yaml", ".yml")
MOST = 2**24  # bytes of a study file
MOST_VALUES = 2_000_000  # in a study file, those that stand for an anchor each time

# What a scalar without quotes is in YAML 1.2; all else is a text.
_SCALARS = {
    "null": (r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)"
        r"|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Plain values alone, and every key once."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 (yaml reads it so)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise SettingError(f"line {line}: a key must be a text, got {key!r}.")
            if key in seen:
                raise SettingError(
                    f"line {line}: the key {key} comes twice; leave one of them out."
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


for _kind, (_pattern, _begins) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), _begins
    )
_Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node))
)


def read_study(named: str, *, scale: str = "") -> StudySettings:
    """The settings of a study that a file, a function or a built-in name gives.

    They are texts: no code that a file names is run.

    Args:
        named: a YAML file; module:function, which returns the mapping of a file; or
            the name of a built-in study.
        scale: one of its scales; "" for the study as it is.

    Raises:
        SettingError: no such file, one that cannot be read, or a mistake in it, with
            its name.
        UnknownNameError: no such study.
    """
    with naming(named):
        try:
            return StudySettings.model_validate(_content(named)).at_scale(scale)
        except ValidationError as error:
            raise SettingError(sentence_of(error)) from error


def is_file(named: str) -> bool:
    """Whether a name is that of a file, there or not."""
    there = os.path.exists(named) and not os.path.isdir(named)
    return there or named.endswith(ENDINGS)


def built_in_studies() -> list[str]:
    """Names of the studies that come with steppe, sorted."""
    if importlib.util.find_spec(BUILT_IN) is None:
        return []
    folders = importlib.import_module(BUILT_IN).__path__
    files = [path for folder in folders for path in Path(folder).glob("[a-z]*.py")]
    return sorted(path.stem for path in files)


@contextlib.contextmanager
def naming(where: Path | str) -> Iterator[None]:
    """Put the name of a file before the refusal of a value in it."""
    try:
        yield
    except (SettingError, UnknownNameError) as error:
        said = str(error)
        if said.startswith(f"{where}: "):
            raise
        raise type(error)(f"{where}: {said}") from error


def read_scalar(text: str) -> Any:
    """One value as a study file has it: a number, a truth value, null or a text.

    Example:
        >>> read_scalar("1e-3"), read_scalar("sam:rho=0.1"), read_scalar("off")
        (0.001, 'sam:rho=0.1', 'off')
    """
    loader = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text.strip(), (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text.strip()))


def _content(named: str) -> Mapping[str, Any]:
    if is_file(named):
        return _read_yaml(Path(named))
    return _called(named) if is_code(named) else _built_in(named)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MOST:
            raise SettingError(f"a study file has at most {MOST:,} bytes.")
        text = path.read_text(encoding="utf-8")
        loader = _Loader(text)
        node = loader.get_single_node()
        if _size(node, {}) > MOST_VALUES:
            raise SettingError(
                f"a study file has at most {MOST_VALUES:,} values, with those that "
                "aliases stand for; write fewer aliases."
            )
        content = None if node is None else loader.construct_document(node)
    except SettingError:
        raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise SettingError(f"cannot be read: {why}; name a study file.") from error
    except (yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        why = getattr(error, "problem", None) or one_line(error)
        raise SettingError(
            f"{line}this is no YAML ({why}); write key: value, a key on each line."
        ) from error
    return _mapping(content)


def _size(node: Any, sizes: dict[Any, int]) -> int:
    """Values below a node; an alias counts as all that it stands for.

    Raises:
        SettingError: an alias within the value that it stands for.
    """
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if node in sizes:
        if not sizes[node]:
            line = node.start_mark.line + 1
            raise SettingError(f"line {line}: a value must not hold itself.")
        return sizes[node]
    sizes[node] = 0  # it is being counted
    pairs = isinstance(node, yaml.MappingNode)
    inside = [each for pair in node.value for each in pair] if pairs else node.value
    sizes[node] = 1 + sum(_size(each, sizes) for each in inside)
    return sizes[node]


def _called(named: str) -> Mapping[str, Any]:
    module, _, function = named.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
        return _mapping(make())
    except SteppeError:
        raise
    except (Exception, SystemExit) as error:  # code of the user
        raise SettingError(
            f"this function cannot be called ({one_line(error)}); give module:function "
            "of a function without arguments that returns the mapping of a study."
        ) from error


def _built_in(named: str) -> Mapping[str, Any]:
    names = built_in_studies()
    name = named.replace("-", "_")
    if name not in names:
        raise unknown_name("study or study file", named, names)
    return _called(f"{BUILT_IN}.{name}:{name}")


def _mapping(content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise SettingError(
            f"a study is a mapping with name, base, grid, ..., got {kind}."
        )
    return content
