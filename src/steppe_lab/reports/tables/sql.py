"""SQL over tables of studies, which DuckDB answers; nothing outside can be read."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from steppe.errors import SettingError, UsageError, install
from steppe_lab.reports.tables.arrow import arrow_of, check_pyarrow
from steppe_lab.studies.table import StudyTable

RUNS = "runs"  # the table of the study that is asked about
# No file, no network, no extension, no variable of this program, no way back.
_CLOSED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


@dataclass(frozen=True)
class Answer:
    """Rows that a query gives."""

    names: tuple[str, ...]  # of columns, each once
    rows: tuple[tuple[Any, ...], ...]  # of numbers, texts, truth values, lists, None


def check_duckdb() -> None:
    """Refuse where DuckDB or pyarrow is missing.

    Raises:
        SettingError: one of them is not installed.
    """
    if importlib.util.find_spec("duckdb") is None:
        raise SettingError(
            f"SQL needs duckdb, which is not installed; {install('studies')}."
        )
    check_pyarrow("SQL")


def query(text: str, tables: Mapping[str, StudyTable]) -> Answer:
    """Answer a query that reads.

    Args:
        text: one SELECT, or DESCRIBE or SUMMARIZE, in the SQL of DuckDB.
        tables: by name.

    Returns:
        Its rows. A name of a column that comes again has a number behind it.

    Raises:
        UsageError: SQL with a mistake, several statements, or one that writes; the
            message names the columns.
    """
    duckdb: Any = importlib.import_module("duckdb")
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        for name, table in tables.items():
            connection.register(name, arrow_of(table))
        try:
            statements = connection.extract_statements(text)
            kinds = [statement.type for statement in statements]
            if kinds != [duckdb.StatementType.SELECT]:
                raise UsageError(
                    "a query must be one SELECT, which reads, got "
                    f"{_kinds(kinds)}; write it as in SELECT * FROM {RUNS}."
                )
            answer = connection.execute(statements[0])
            names = _once([column[0] for column in answer.description])
            rows = [tuple(map(_plain, row)) for row in answer.fetchall()]
        except duckdb.Error as error:
            raise _refused(error, tables) from error
    return Answer(tuple(names), tuple(rows))


def _kinds(kinds: list[Any]) -> str:
    if len(kinds) > 1:
        return f"{len(kinds)} statements"
    return kinds[0].name if kinds else "none"


def _refused(error: Exception, tables: Mapping[str, StudyTable]) -> UsageError:
    """One sentence with the complaint of DuckDB and the names that there are."""
    # Below the first lines it repeats the query.
    said = " ".join(str(error).partition("\n\n")[0].split()).rstrip(".!?")
    known = "; ".join(
        f'the columns of "{name}" are {", ".join(table.columns)}'
        for name, table in tables.items()
    )
    return UsageError(f"the query cannot be answered ({said}); {known}.")


def _once(names: list[str]) -> list[str]:
    seen: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in seen:
            number += 1
            free = f"{name}_{number}"
        seen[free] = None
    return list(seen)


def _plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return str(value)
