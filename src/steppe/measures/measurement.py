"""One measurement of an objective, in which every need of its measures is served once.

A served need is a pure function of the objective, the seed and the need itself. So a
measure has the same bits whichever others run, in any order.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from steppe.cost import NOTHING, Cost
from steppe.errors import SteppeError
from steppe.objective import Objective
from steppe.seeds import seed_named, stream

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Weights = nn.Module | Mapping[str, Tensor]  # a network, or its state_dict
Variant = Literal["correct", "published"]  # of a computation


@dataclass(frozen=True)
class Work:
    """Passes over the data, and seconds."""

    cost: Cost = NOTHING
    seconds: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.cost + other.cost, self.seconds + other.seconds)

    def __sub__(self, other: Work) -> Work:
        return Work(self.cost - other.cost, self.seconds - other.seconds)

    def scaled(self, factor: float) -> Work:
        """A share of the work."""
        return Work(self.cost.scaled(factor), factor * self.seconds)

    def rounded(self) -> Work:
        """The same without the rounding of sums, which depends on their order."""
        return Work(self.cost.rounded(), self.seconds)


@dataclass(frozen=True)
class Need(abc.ABC, Generic[T_co]):
    """Something that measures ask of an objective, by settings.

    Needs that are equal are served once. What is served must be a pure function of the
    objective, the seed of the measurement and the settings.
    """

    kind: ClassVar[str]  # in words, as tables name it

    @abc.abstractmethod
    def serve(self, measurement: Measurement) -> T_co:
        """Do the work.

        Args:
            measurement: with the objective, and the needs that this one needs in turn.

        Raises:
            SteppeError: it has no value here; whoever asks meets the refusal.
        """


@dataclass(frozen=True)
class JointNeed(Need[T_co], Generic[T_co]):
    """A need that is served together with others of its family.

    A family is a class that defines `serve_all`, and those that inherit it.
    """

    family: ClassVar[type[JointNeed[Any]]]
    # One pass serves the family, so that each of them costs the whole of it when it is
    # asked for alone; else each costs its share.
    one_pass: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "serve_all" in vars(cls):
            cls.family = cls

    def serve(self, measurement: Measurement) -> T_co:
        """Do the work of this need alone."""
        value: T_co = self.serve_all([self], measurement)[0]
        return value

    @classmethod
    @abc.abstractmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Do the work of several needs of one family.

        Args:
            needs: of the family, all different.
            measurement: with the objective, and the needs that these need in turn.

        Returns:
            A value, or the `SteppeError` that refuses it, for each need.
        """


@dataclass
class Account:
    """Work inside a `with` block, and the needs that were used there."""

    work: Work = field(default_factory=Work)  # without that of needs served inside
    used: dict[Need[Any], None] = field(default_factory=dict)  # an ordered set
    # Passes that serve a family: two of its needs take one of them.
    passes: dict[type[Need[Any]], Work] = field(default_factory=dict)
    nested: Work = field(default_factory=Work)


@dataclass(frozen=True)
class _Served(Generic[T]):
    value: T | None
    error: SteppeError | None
    work: Work  # of this need alone
    used: dict[Need[Any], None]  # itself, and needs that it used in turn
    passes: dict[type[Need[Any]], Work]


class Measurement:
    """Values that measures of one objective share while they run.

    Args:
        objective: the mean loss to measure at its present parameters, which stay.
        seed: of all random streams.
        start: network, or its state_dict, at the start of the training.
        other: second network of the same structure, or its state_dict.
    """

    def __init__(
        self,
        objective: Objective,
        seed: int = 0,
        *,
        start: Weights | None = None,
        other: Weights | None = None,
    ) -> None:
        self.objective = objective
        self.seed = seed
        self.start = start
        self.other = other
        self._served: dict[Need[Any], _Served[Any]] = {}
        self._accounts: list[Account] = []

    def of(self, need: Need[T]) -> T:
        """The value of a need, which is served the first time.

        Raises:
            SteppeError: the refusal with which serving it ended, each time.
        """
        return self.of_all([need])[0]

    def of_all(self, needs: Sequence[Need[T]]) -> list[T]:
        """The same for several needs; those of one family are served together."""
        self.serve(needs)
        served = [cast("_Served[T]", self._served[need]) for need in needs]
        for account in self._accounts[-1:]:
            for each in served:
                account.used.update(each.used)
                account.passes.update(each.passes)
        for each in served:
            if each.error is not None:
                raise each.error
        return [cast("T", each.value) for each in served]

    def serve(self, needs: Sequence[Need[Any]]) -> None:
        """Serve needs that were not served yet; a refusal is kept for who asks."""
        missing = [need for need in dict.fromkeys(needs) if need not in self._served]
        families: dict[type[JointNeed[Any]], list[Need[Any]]] = {}
        for need in missing:
            if isinstance(need, JointNeed):
                families.setdefault(need.family, []).append(need)
            else:
                self._serve([need], partial(_alone, need, self))
        for family, members in families.items():
            serve = partial(family.serve_all, members, self)
            self._serve(members, serve, whole=family.one_pass)

    def stream(self, name: str, *numbers: int) -> torch.Generator:
        """The random stream of a name, such as that of a measure, on the CPU."""
        return stream(seed_named(f"{self.seed}:{name}"), *numbers)

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Count the work inside, apart from that of needs, whoever served them."""
        # Checks of the loss are done once, for whichever measure comes first.
        account, before = Account(), self.objective.cost - self.objective.checks
        start = time.perf_counter()
        self._accounts.append(account)
        try:
            yield account
        finally:
            self._accounts.pop()
            seconds = time.perf_counter() - start
            spent = self.objective.cost - self.objective.checks - before
            whole = Work(spent, seconds)
            account.work = whole - account.nested
            if self._accounts:
                self._accounts[-1].nested += whole

    def work_of(self, account: Account) -> Work:
        """Work of an account, with that of its needs as if it had asked alone."""
        used = [self._served[need].work for need in account.used]
        return sum([*used, *account.passes.values()], account.work).rounded()

    def _serve(
        self,
        needs: Sequence[Need[Any]],
        serve: Callable[[], Sequence[Any]],
        whole: bool = False,
    ) -> None:
        """Serve needs by some work, of which each costs its share or the whole."""
        values: Sequence[Any]
        with self.account() as account:
            try:
                values = serve()
            except SteppeError as error:
                values = [error] * len(needs)
        family = needs[0].family if whole and isinstance(needs[0], JointNeed) else None
        passes = dict(account.passes)
        if family is not None:
            passes[family] = account.work
        work = Work() if whole else account.work.scaled(1 / len(needs))
        for need, value in zip(needs, values, strict=True):
            refused = isinstance(value, SteppeError)
            self._served[need] = _Served(
                value=None if refused else value,
                error=value if refused else None,
                work=work,
                used={need: None, **account.used},
                passes=passes,
            )


def _alone(need: Need[T], measurement: Measurement) -> list[T]:
    return [need.serve(measurement)]
