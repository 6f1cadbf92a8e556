"""Statistics of one study, as its sentences, tables and page read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe_lab.reports.study.along import Along
from steppe_lab.reports.study.coverage import Coverage
from steppe_lab.reports.study.optima import BestLevel
from steppe_lab.reports.study.robust import RobustTable
from steppe_lab.reports.study.scores import ScoreTable
from steppe_lab.studies.table import StudyTable

LEVEL = 0.95  # of all intervals
HELD_OUT = "additive, held out"  # name of a baseline
ALPHA = 0.05  # of tests that are allowed for together


@dataclass(frozen=True)
class Bounded:
    """A number with the ends of its 95 % interval; NaN for one that is not defined."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def is_defined(self) -> bool:
        """Whether there is such a number."""
        return math.isfinite(self.value)

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside of the interval."""
        return self.low > value or self.high < value


@dataclass(frozen=True)
class Environment:
    """The environment in which a measure errs most."""

    error: float = math.nan  # share of wrong signs, 0 to 1
    words: str = ""  # of the environment
    pairs: int = 0


@dataclass(frozen=True)
class Information:
    """The least conditional information of a measure about the gap."""

    value: float = math.nan
    given: tuple[str, ...] = ()  # factors that it is given


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A measure, or a baseline of hyper-parameters alone, as a predictor of the gap."""

    name: str
    is_baseline: bool = False
    count: int = 0  # networks with a value
    tau: Bounded = Bounded()
    tau_p: float = math.nan  # of a tau of 0, allowing for all measures (Holm)
    by_factor: Mapping[str, float] = field(default_factory=dict)
    psi: float = math.nan  # mean over factors
    information: Information = Information()
    worst: Environment = Environment()
    residual: Mapping[str, float] = field(default_factory=dict)  # raw, log, rank
    difference: Bounded = Bounded()  # tau less that of the best baseline
    difference_p: float = math.nan  # of no difference, allowing for all measures (Holm)
    ceiling: float = math.nan  # tau that its own errors leave possible


@dataclass(frozen=True)
class Within:
    """Tau of a measure within the levels of a factor, beside that of all networks."""

    measure: str
    factor: str
    pooled: float
    within: Bounded  # of pairs of one level
    groups: Mapping[Any, tuple[float, int]]  # tau and networks by level
    warning: str = ""  # one sentence on Simpson's paradox, where there is one


@dataclass(frozen=True)
class Split:
    """Two samples of a column, and the Kolmogorov-Smirnov test between them."""

    column: str
    factor: str
    first: str
    second: str
    statistic: float
    p: float
    adjusted_p: float  # allowing for all tests of the factor (Holm)
    counts: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """All that is said of a study."""

    table: StudyTable
    coverage: Coverage
    measures: tuple[Predictor, ...]  # the largest tau first
    baselines: tuple[Predictor, ...]  # the largest tau first, without its sign
    best: str = ""  # name of the baseline that measures are held against
    within: tuple[Within, ...]
    splits: tuple[Split, ...]
    scores: ScoreTable | None
    along: tuple[Along, ...]
    optima: tuple[BestLevel, ...] = ()
    robust: RobustTable | None = None
    notes: tuple[str, ...] = ()  # guesses, columns that were left out

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """Measures, and the baselines after them."""
        return (*self.measures, *self.baselines)

    @property
    def best_measure(self) -> Predictor | None:
        """The measure with the largest tau; None where none has one."""
        return next((each for each in self.measures if each.tau.is_defined), None)

    @property
    def best_baseline(self) -> Predictor | None:
        """The baseline that measures are held against; None where there is none."""
        return next((each for each in self.baselines if each.name == self.best), None)

    @property
    def held_out(self) -> Predictor | None:
        """The additive model on pairs it was not fitted to, where it has a tau."""
        made = (each for each in self.baselines if each.name == HELD_OUT)
        return next((each for each in made if each.tau.is_defined), None)

    @property
    def configurations(self) -> int:
        """Number of different rows of the table but for the seed."""
        columns = [self.table.columns[name] for name in self.table.group]
        if not columns:
            return len(self.table)
        return len(set(zip(*(map(repr, each) for each in columns), strict=True)))
