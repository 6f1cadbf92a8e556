"""Tables of studies as Arrow has them: columns with types, and facts beside them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from typing import Any

from steppe.errors import SettingError, install
from steppe.measures import MEASURES
from steppe_lab.studies.table import STDERR, StudyTable

FACTS = b"steppe"  # key of the facts in the metadata of a schema


def check_pyarrow(purpose: str) -> None:
    """Refuse where pyarrow is missing.

    Args:
        purpose: that it is needed for, as the subject of the sentence.

    Raises:
        SettingError: it is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise SettingError(
            f"{purpose} needs pyarrow, which is not installed; {install('studies')}."
        )


def arrow_of(table: StudyTable) -> Any:
    """The table as a `pyarrow.Table`.

    Measures, their standard errors and the gap are doubles. Other columns have the
    type of their values; values of several types, and those that Arrow has no type
    for, become texts, which are JSON but for texts themselves.

    Args:
        table: of a study.

    Returns:
        Columns in the order of the table. The metadata of the schema has its facts as
        JSON below the key `steppe`: see `facts_of`.
    """
    arrow: Any = importlib.import_module("pyarrow")
    numbers = {name for m in table.measures for name in (m, m + STDERR)} | {table.gap}
    columns = {
        name: _column(arrow, values, name in numbers)
        for name, values in table.columns.items()
    }
    facts = json.dumps(facts_of(table)).encode()
    made = arrow.table(columns)
    return made.replace_schema_metadata({FACTS: facts})


def facts_of(table: StudyTable) -> dict[str, Any]:
    """The facts of a table that are in no column, as plain values.

    They are the study, the names of factors, measures, gap and group, the units of
    measures where they are known, the trials that were dropped with their reasons, and
    the version of steppe.
    """
    return {
        "study": table.name,
        "factors": list(table.factors),
        "measures": list(table.measures),
        "gap": table.gap,
        "group": list(table.group),
        "units": {name: u for name in table.measures if (u := _units(name))},
        "dropped": [{"trial": d.trial, "reason": d.reason} for d in table.dropped],
        "steppe": importlib.metadata.version("steppe"),
    }


def _units(column: str) -> str:
    """The units of a measure; "" for one that steppe does not know."""
    name = column.partition(":")[0]
    known = any(entry.name == name for entry in MEASURES)
    return MEASURES[name].spec.units if known else ""


def _column(arrow: Any, values: Sequence[Any], number: bool) -> Any:
    plain = list(values)
    if number and all(isinstance(v, float | int | None) for v in plain):
        return arrow.array(plain, type=arrow.float64())
    kinds = {type(value) for value in plain if value is not None}
    if len(kinds) == 1 or kinds == {int, float}:
        try:
            return arrow.array(plain)
        except (arrow.ArrowException, OverflowError):  # whole numbers over 64 bits
            pass
    return arrow.array([_text(value) for value in plain], type=arrow.string())


def _text(value: Any) -> str | None:
    return value if isinstance(value, str | None) else json.dumps(value, default=str)
