"""Names that stand for several measures; known without torch, for `--help`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import steppe
from steppe.errors import SettingError

if TYPE_CHECKING:
    from steppe.registry.registry import Entry
    from steppe.registry.specs import MeasureSpec

ALL = "all"
# Beside the families: the measures of a published study.
STUDIES: Mapping[str, tuple[str, ...]] = {
    # Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, supplement B; its "trace" is
    # the sum of Ritz values.
    "lpf-sgd-study": (
        "epsilon_sharpness",
        "pac_bayes",
        "lpf",
        "local_entropy",
        "local_entropy_gradient",
        "shannon_entropy",
        "fisher_rao",
        "frobenius_norm",
        "top_eigenvalue",
        "trace",
        "effective_dimension",
        "ritz_sum",
    ),
}
# Needs that an objective alone does not serve, and the words for what lacks.
REFERENCES: Mapping[str, str] = {
    "start": "the weights at the start of the training",
    "other network": "a second network",
}


@dataclass(frozen=True)
class Asked:
    """Measures by name, and those that a group leaves out."""

    measures: tuple[str, ...]
    left_out: tuple[str, ...] = ()  # a sentence for each need that is not served


def families() -> set[str]:
    """The folders of measures."""
    folder = Path(steppe.__file__).parent / "measures"
    inside = {path.parent.name for path in folder.glob("*/[a-z]*.py")}
    return inside - {"needs"}


def is_group(text: str) -> bool:
    """Whether a name stands for several measures.

    Example:
        >>> is_group("all"), is_group("spectral"), is_group("trace")
        (True, True, False)
    """
    name, _, rest = text.partition(":")
    is_code = rest.partition(":")[0].isidentifier()  # module:Class of the user
    return not is_code and (name == ALL or name in STUDIES or name in families())


def ungrouped(
    texts: Iterable[str], given: Collection[str], passes: float = math.inf
) -> Asked:
    """Measures in place of groups; one that is named itself too keeps its settings.

    Args:
        texts: names of measures, with settings or without, and of groups.
        given: needs among `REFERENCES` that can be served. A group leaves out measures
            of other needs; one that is named itself stays, and is refused.
        passes: price in forward passes above which a group leaves a measure out.

    Raises:
        SettingError: a group of which nothing is left.
    """
    texts = tuple(texts)
    if not any(map(is_group, texts)):
        return Asked(texts)
    from steppe.measures.families import ungrouped as expanded

    lacking: dict[str, dict[str, None]] = {}
    dear: dict[str, float] = {}

    def served(text: str) -> list[Entry[MeasureSpec]]:
        if not is_group(text):
            return []
        left: list[Entry[MeasureSpec]] = []
        for entry in _members(text):
            needs = [need for need in entry.spec.needs if need in REFERENCES]
            lacks = [need for need in needs if need not in given]
            for need in lacks:
                lacking.setdefault(need, {})[entry.name] = None
            price = entry.spec.cost.in_forwards
            if not lacks and price > passes:
                dear[entry.name] = price
            left += [] if lacks or price > passes else [entry]
        if not left and dear:
            raise SettingError(
                f"all measures of {text} cost more than {passes:,.0f} forward passes; "
                f"name them ({', '.join(dear)}), or give a larger --group-passes."
            )
        if not left:
            needed = " or ".join(REFERENCES[need] for need in lacking)
            raise SettingError(
                f"all measures of {text} need {needed}; give {_options(lacking)}."
            )
        return left

    wanted = expanded(texts, served)
    sentences = [
        f"{', '.join(names)} left out: without {REFERENCES[need]} ({_options([need])})"
        for need, names in lacking.items()
    ]
    sentences += [
        f"{name} left out: it costs about {price:,.0f} forward passes, more than "
        f"{passes:,.0f} (name it, or give --group-passes {price:.0f})"
        for name, price in dear.items()
        if name not in _names(wanted)
    ]
    return Asked(tuple(wanted), tuple(sentences))


def _names(texts: Iterable[str]) -> set[str]:
    return {text.partition(":")[0].replace("-", "_") for text in texts}


def _members(group: str) -> list[Entry[MeasureSpec]]:
    from steppe.measures import MEASURES
    from steppe.measures.families import members

    if group in STUDIES:
        return [MEASURES[name] for name in STUDIES[group]]
    study = group.partition(":")[0]
    if study in STUDIES:
        raise SettingError(
            f"a group of measures takes no settings, got '{group}'; give them to one "
            f"of its measures: {', '.join(STUDIES[study])}."
        )
    return members(group)


def _options(needs: Iterable[str]) -> str:
    options = {"start": "--start FILE", "other network": "--other CHECKPOINT"}
    return " and ".join(options[need] for need in needs)
