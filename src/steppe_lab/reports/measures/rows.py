"""Measures of checkpoints as flat rows, one for each checkpoint and measure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from steppe.measures import MEASURES
from steppe.results import Estimate
from steppe_lab.analysis.measured import Measured

# Details that all measures may have; the settings of each are one text beside them.
TEXTS = ("loss", "penalty", "mode", "batch_norm", "part", "augmentation", "data")
SCALED = ("dtype", "scale", "variant")
NUMBERS = ("terms", "seed")
DIFFERENCES = (
    "difference",
    "difference_stderr",
    "difference_low",
    "difference_high",
    "level",
)


def rows(measured: Measured) -> list[dict[str, Any]]:
    """Value, error, cost and policies, all rows with the same columns.

    The policies are those that a value follows from: loss, penalty, mode and batch
    norm, part, augmentation and digest of the data, loss terms, precision, scale,
    variant, seed, and all settings as text. Of several checkpoints `difference_...` are
    those to the first one. Texts that are not there are "", numbers None.
    """
    return [
        {"checkpoint": checkpoint, "measure": MEASURES.parse(name).name}
        | {key: _number(value) for key, value in estimate.row().items()}
        | policies(name, estimate, measured.references[checkpoint])
        | _difference(measured, checkpoint, name)
        for checkpoint, estimates in measured.estimates.items()
        for name, estimate in estimates.items()
    ]


def policies(
    measure: str, estimate: Estimate, references: Mapping[str, str]
) -> dict[str, Any]:
    """All that a value follows from, beside the checkpoint.

    Args:
        measure: as it was asked for.
        estimate: of a checkpoint.
        references: files of the start and the second network, by need.
    """
    details = estimate.details
    choice = MEASURES.parse(measure)
    spec = MEASURES[choice.name].spec
    needed = {n: references.get(n, "") for n in spec.needs if n in references}
    return {
        **{name: str(details.get(name, "")) for name in (*TEXTS, *SCALED)},
        **{name: details.get(name) for name in NUMBERS},
        "settings": str(choice).removeprefix(choice.name).removeprefix(":"),
        "start": needed.get("start", ""),
        "other": needed.get("other network", ""),
    }


def _difference(measured: Measured, checkpoint: str, name: str) -> dict[str, Any]:
    """Columns of a comparison with the first checkpoint; none of a single one."""
    if measured.comparisons is None:
        return {}
    empty = dict.fromkeys(DIFFERENCES)
    comparison = measured.comparisons.get(checkpoint)
    if comparison is None or comparison[name].refusal:
        return empty
    one = comparison[name]
    low, high = (-end for end in reversed(one.interval))
    values = (-one.total.value, one.total.stderr, low, high, one.level)
    return dict(zip(empty, map(_number, values), strict=True))


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
