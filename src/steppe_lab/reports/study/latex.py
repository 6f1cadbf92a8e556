"""Rows of the table of correlations for LaTeX."""

from __future__ import annotations

import math
import re

from steppe_lab.reports.study.results import Bounded, Predictor, StudySummary

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def latex_rows(summary: StudySummary) -> str:
    """A tabular of booktabs: tau with its interval, tau by factor, the mean of those.

    Args:
        summary: of a study.
    """
    factors = summary.table.factors
    heads = ["", r"$\tau$ [95\,\%]", *map(escaped, factors), r"$\Psi$"]
    lines = [
        r"\begin{tabular}{l" + "r" * (len(heads) - 1) + "}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(_row(each, factors) for each in summary.measures),
    ]
    if summary.baselines:
        lines += [r"\midrule", *(_row(each, factors) for each in summary.baselines)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(each: Predictor, factors: tuple[str, ...]) -> str:
    along = [_number(each.by_factor.get(name, math.nan)) for name in factors]
    cells = [escaped(each.name), _bounded(each.tau), *along, _number(each.psi)]
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    r"""A text with signs that LaTeX would obey.

    Example:
        >>> print(escaped("lr_max & 5 %"))
        lr\_max \& 5 \%
    """
    return re.sub(r"[\\~^&%$#_{}]", lambda sign: _SPECIAL[sign[0]], text)


def _bounded(bounded: Bounded) -> str:
    if not bounded.is_defined:
        return "--"
    ends = [_number(bounded.low), _number(bounded.high)]
    known = "--" not in ends
    return _number(bounded.value) + (f" [{', '.join(ends)}]" if known else "")


def _number(value: float) -> str:
    return f"${value:.3f}$" if math.isfinite(value) else "--"
