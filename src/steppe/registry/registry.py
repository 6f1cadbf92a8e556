"""Methods by name, the facts declared about them, and `name:setting=value` texts.

A registry maps a name to something callable together with its `Spec`: facts that
tables, documentation and contract tests read without running the method.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import inspect
import shlex
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from steppe.errors import SettingError, TrustError, UnknownNameError
from steppe.registry.bounds import check_bounds
from steppe.registry.code_settings import check_is_setting
from steppe.registry.settings_text import (
    built,
    canonical,
    convert,
    is_plain,
    is_tuple,
    pairs,
    show,
)
from steppe.registry.specs import OF_THE_CLASS, Spec

LONGEST_LIST = 250  # letters of the names in a message
ALIKE = 8  # names in place of a longer list

# Records that are being read, from the outermost in: what they are, what they may name.
_READINGS: ContextVar[tuple[tuple[str, frozenset[str]], ...]] = ContextVar(
    "readings", default=()
)


class _NotGiven:
    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN: Any = _NotGiven()  # default of a setting that a choice leaves out


@dataclass(frozen=True)
class Default:
    """Value a choice fills in, in the annotation of an entry of a TypedDict.

    `rng: Annotated[Literal["fresh", "replay"], Default("fresh")]`
    """

    value: Any


@dataclass(frozen=True)
class Choice:
    """A registered name with all of its settings; prints as `name:setting=value`."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        pairs = ",".join(f"{key}={show(v)}" for key, v in self.settings.items())
        return f"{self.name}:{pairs}" if pairs else self.name


Made = TypeVar("Made", bound=Callable[..., Any])
SpecT = TypeVar("SpecT", bound=Spec)


@dataclass(frozen=True)
class Entry(Generic[SpecT]):
    """One registered method."""

    name: str
    make: Callable[..., Any]
    spec: SpecT

    @property
    def offered(self) -> Callable[..., Any]:
        """The method's class, where a function that makes it is registered."""
        return self.spec.offers or self.make

    def settings(self) -> dict[str, inspect.Parameter]:
        """Keyword-only parameters that a text can give, with evaluated annotations.

        The entries of a TypedDict that `**keywords` unpack are among them; those whose
        annotation holds no `Default` have the default NOT_GIVEN. A `seed` is none of
        them: it belongs to a run, not to a method.
        """
        return dict(self._settings)

    def arguments(self) -> dict[str, inspect.Parameter]:
        """Parameters of a part that a text can give, in order."""
        return {
            p.name: p
            for p in self._parameters
            if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            and (is_plain(p.annotation) or is_tuple(p.annotation))
        }

    @cached_property  # a study reads the settings of thousands of networks
    def _settings(self) -> dict[str, inspect.Parameter]:
        by_name: dict[str, inspect.Parameter] = {}
        for p in self._parameters:
            if p.kind is p.KEYWORD_ONLY:
                by_name[p.name] = p
            elif p.kind is p.VAR_KEYWORD:
                by_name |= {each.name: each for each in _unpacked(p.annotation)}
        return {
            name: p
            for name, p in by_name.items()
            if name != "seed" and is_plain(p.annotation)
        }

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        hints: dict[str, Any] = {}
        parameters: Iterable[inspect.Parameter] = ()
        # Code of the user may be what Python cannot look into, such as a partial.
        with contextlib.suppress(TypeError, NameError):
            hints = typing.get_type_hints(_signature_owner(self.make))
        with contextlib.suppress(TypeError, ValueError):
            parameters = inspect.signature(self.make).parameters.values()
        return [
            p.replace(annotation=hints.get(p.name, p.annotation)) for p in parameters
        ]

    def source_digest(self) -> str:
        """SHA-256 of the source file, 64 hexadecimal digits; "" where there is none."""
        try:
            file = inspect.getsourcefile(inspect.unwrap(self.make))
            return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
        except (TypeError, OSError):
            return ""


class Registry(Generic[SpecT]):
    """Names of one kind of thing.

    Args:
        kind: what the names are, in words, for messages: "optimizer".
        spec: class of the facts that `add` records.
    """

    def __init__(self, kind: str, spec: type[SpecT]) -> None:
        self.kind = kind
        self._spec = spec
        self._entries: dict[str, Entry[SpecT]] = {}
        self._code: dict[str, Entry[SpecT]] = {}  # of the user; no part of the lists

    def add(self, name: str, **facts: Any) -> Callable[[Made], Made]:
        """Register a class or function under a name, with its facts."""

        def register(make: Made) -> Made:
            if name in self._entries:
                raise SettingError(f"{self.kind} '{name}' is registered twice.")
            known = {**self._declared(make), **facts}
            self._entries[name] = self._entry(name, make, known)
            return make

        return register

    def _entry(self, name: str, make: Any, facts: dict[str, Any]) -> Entry[SpecT]:
        summary = (inspect.getdoc(make) or "").partition("\n")[0]
        return Entry(name, make, self._spec(**{"summary": summary, **facts}))

    def _declared(self, make: Any) -> dict[str, Any]:
        """Facts that a class of steppe has as attributes; a user's may mean others."""
        return {
            fact.name: getattr(make, fact.name)
            for fact in dataclasses.fields(self._spec)
            if fact.metadata == OF_THE_CLASS and hasattr(make, fact.name)
        }

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> typing.Iterator[Entry[SpecT]]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Entry[SpecT]:
        """The entry of a name; `module:function` is imported.

        Raises:
            UnknownNameError: no such name; the nearest one is given.
            TrustError: a record names code that is not trusted; see `reading`.
        """
        if is_code(name):
            _check_trusted(self.kind, name)
        if is_code(name) and name not in self._code:
            make, facts = _imported(self.kind, name), {"source": "code of the user"}
            self._code[name] = self._entry(name, make, facts)
        try:
            return self._code[name] if is_code(name) else self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._entries) from None

    def parse(self, text: str, defaults: Iterable[Choice] = ()) -> Choice:
        """Read `name` or `name:setting=value,setting=value`.

        The name may be `module:function` or `module:Class`, code of the user; hyphens
        are read as underscores. Every setting the method has is filled in, so that the
        result says all of it. A setting `name` may come first and bare, `method:NAME`.

        Args:
            text: what to read.
            defaults: where settings that the text leaves out come from, if a choice
                here has its name; else from the method itself.

        Raises:
            UnknownNameError: no such name; the nearest ones are given.
            SettingError: a setting unknown or of the wrong type.
        """
        name, _, rest = text.partition(":")
        if name not in self._entries and name.replace("-", "_") in self._entries:
            name = name.replace("-", "_")
        function, colon, more = rest.partition(":")
        if name not in self._entries and function.isidentifier():
            name, rest = f"{name}:{function}", more
        elif colon:
            raise SettingError(f"'{text}' has two colons; write name:setting=value.")
        settings: dict[str, Any] = {}
        for default in defaults:
            if default.name == name:
                settings |= default.settings
        bare = "name" if "name" in self[name].settings() else ""
        return self.choose(name, {**settings, **pairs(rest, text, bare)})

    def choose(self, name: str, settings: Mapping[str, Any]) -> Choice:
        """Check names and types of settings, texts converted, defaults filled in."""
        known = self[name].settings()
        for key in settings:
            if key not in known:
                check_is_setting(name, key, self[name]._parameters)
                raise unknown_name(f"setting of {name}", key, known)
        full: dict[str, Any] = {}
        for key, parameter in known.items():
            if key in settings:
                full[key] = convert(settings[key], parameter.annotation, key)
            elif parameter.default is NOT_GIVEN:
                continue
            elif parameter.default is parameter.empty:
                raise SettingError(
                    f"{name} needs the setting {key}; write {name}:{key}=..."
                )
            else:
                full[key] = canonical(parameter.default, parameter.annotation)
        later = {key: known[key].default for key in self[name].spec.later}
        return Choice(
            name,
            {k: v for k, v in full.items() if k not in later or v != later[k]},
        )

    def build(
        self,
        choice: Choice | str,
        *args: Any,
        known: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Any:
        """Make the object that a choice stands for.

        Args:
            choice: a name with settings.
            args: what the method takes beside settings.
            known: arguments that parts among the settings get where their texts leave
                them out, such as the number of steps of a run.
            more: what the method takes beside settings, by name.
        """
        if isinstance(choice, str):
            choice = self.parse(choice)
        entry = self[choice.name]
        kinds = {name: p.annotation for name, p in entry.settings().items()}
        settings = {
            name: built(value, kinds.get(name), known or {})
            for name, value in choice.settings.items()
        }
        check_bounds(
            settings,
            # Schedules are checked by what they are settings of, along the steps.
            {
                name: bound
                for name, bound in entry.spec.bounds.items()
                if isinstance(settings.get(name), int | float | tuple)
            },
        )
        return entry.make(*args, **more, **settings)


@contextlib.contextmanager
def reading(where: Path | str, trust: Collection[str]) -> Iterator[None]:
    """Read a record: of the user's code that it names, only the trusted runs.

    A name in a call is the caller's own; one in a file is anybody's. Within a reading
    every registry refuses the latter before it imports or calls anything.

    Args:
        where: what is read, for the refusal.
        trust: names as module:function; within another reading, the other's hold too.

    Raises:
        TrustError: from any look-up of another name of that kind.
    """
    token = _READINGS.set((*_READINGS.get(), (str(where), frozenset(trust))))
    try:
        yield
    finally:
        _READINGS.reset(token)


def _check_trusted(kind: str, name: str) -> None:
    for where, trust in _READINGS.get():
        if name not in trust:
            raise TrustError(
                f"{where} names {name} as its {kind}, code that reading it would run; "
                "look at that code, and if you trust it name it with --trust "
                f"{shlex.quote(name)}."
            )


def _imported(kind: str, name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    try:
        member = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:  # importing runs code of the user
        raise UnknownNameError(
            f"{kind} '{name}' cannot be imported ({one_line(error)}); give "
            "module:function, such as mine:build for a file mine.py in the present "
            "folder or in one that PYTHONPATH names."
        ) from error
    if not callable(member):
        raise UnknownNameError(f"{kind} '{name}' must be callable, got {member!r}.")
    make: Callable[..., Any] = member
    return make


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """One sentence with the nearest known name, and all of them or those alike."""
    names = sorted(known)
    alike = (name, name.lower(), name.lower().replace("-", "_"))
    near = [difflib.get_close_matches(each, names, n=1, cutoff=0.5) for each in alike]
    best = next(filter(None, near), None)
    hint = f"did you mean '{best[0]}'? " if best else ""
    listed = ", ".join(names) or "nothing"
    if len(listed) > LONGEST_LIST:
        alike_names = difflib.get_close_matches(name, names, n=ALIKE, cutoff=0.0)
        listed = f"{', '.join(sorted(alike_names))} and {len(names) - ALIKE} others"
    return UnknownNameError(f"unknown {kind} '{name}': {hint}there is {listed}.")


def is_code(name: str) -> bool:
    """Whether a name is `module:function`, code of the user."""
    return ":" in name


def one_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _unpacked(annotation: Any) -> list[inspect.Parameter]:
    """The entries of a TypedDict in `**keywords: Unpack[...]`, as parameters."""
    if typing.get_origin(annotation) is not typing.Unpack:
        return []
    (keywords,) = typing.get_args(annotation)
    hints = typing.get_type_hints(keywords, include_extras=True)
    plain = typing.get_type_hints(keywords)
    parameters = []
    for name, hint in hints.items():
        marks = [
            each
            for each in getattr(hint, "__metadata__", ())
            if isinstance(each, Default)
        ]
        default = marks[0].value if marks else NOT_GIVEN
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(
            inspect.Parameter(name, kind, default=default, annotation=plain[name])
        )
    return parameters


def _signature_owner(make: Callable[..., Any]) -> Any:
    return make.__init__ if isinstance(make, type) else make  # type: ignore[misc]
