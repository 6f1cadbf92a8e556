"""Columns of attacks in the table of a study.

Their names are names of Python and SQL, so that conditions and queries take them as
they are: `robust_accuracy_pgd_8_of_255` is the share of the samples that resist pgd
within a budget of 8/255.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steppe_lab.studies.table import STDERR

CLEAN = "clean_accuracy"  # of the same samples, unchanged
ROBUST = "robust_accuracy_"  # begins the names of all others
WORST = "worst"  # in the place of an attack: all of them together
_OF = "_of_"


def robust_column(attack: str, budget: str) -> str:
    """The column of an attack at a budget.

    Args:
        attack: its name, or its text where two have one name.
        budget: a number or a fraction, as text.

    Example:
        >>> robust_column("pgd", "8/255"), robust_column("fgm", ".5")
        ('robust_accuracy_pgd_8_of_255', 'robust_accuracy_fgm_0_5')
    """
    parts = [_number(part) for part in budget.split("/")]
    return f"{ROBUST}{_word(attack)}_{_OF.join(map(_word, parts))}"


def robust_cells(
    attacks: Sequence[str], budgets: Sequence[str], result: Mapping[str, Any] | None
) -> dict[str, float | None]:
    """Accuracies of a run of attacks, each with its standard error over the samples.

    Args:
        attacks: by their keys in the result.
        budgets: as they were asked for, in the order of the result.
        result: of the run; None for one that is not finished, whose cells are empty.
    """
    if result is None:
        names = [robust_column(a, b) for a in (*attacks, WORST) for b in budgets]
        return dict.fromkeys(n + end for n in (CLEAN, *names) for end in ("", STDERR))
    cells: dict[str, float | None] = {}
    shares: dict[str, float] = {CLEAN: result["clean_accuracy"]}
    by_attack = {**{a: result["attacks"][a] for a in attacks}, WORST: result[WORST]}
    for attack, each in by_attack.items():
        for budget, share in zip(budgets, each["robust_accuracy"], strict=True):
            shares[robust_column(attack, budget)] = share
    for name, share in shares.items():
        error = math.sqrt(share * (1.0 - share) / result["samples"])
        cells |= {name: share, name + STDERR: error}
    return cells


def robust_columns(names: Iterable[str]) -> list[str]:
    """Those of columns that are accuracies under attack, and the one unchanged first.

    Columns of standard errors are left out. Without attacks there are none.
    """
    own = [name for name in names if not name.endswith(STDERR)]
    attacked = [name for name in own if name.startswith(ROBUST)]
    return [*(name for name in own if attacked and name == CLEAN), *attacked]


def shown(column: str) -> str:
    """A column of attacks in short, with its budget as a fraction.

    Example:
        >>> shown("robust_accuracy_pgd_8_of_255"), shown("clean_accuracy")
        ('pgd_8/255', 'unchanged')
    """
    if column == CLEAN:
        return "unchanged"
    return column.removeprefix(ROBUST).replace(_OF, "/")


def _number(text: str) -> str:
    """A number in short where that is the same number, so that .5 is not 5."""
    value = float(text)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
