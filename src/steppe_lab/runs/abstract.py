"""Kinds of runs that a store holds, by name.

A kind is one module beside this one: the record of its settings, whose JSON is the
identity of the run, and the function that does its work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from steppe.registry.packages import discover
from steppe_lab.progress import Report

TIMING = "timing.json"  # seconds that a run took, beside its result

Record = TypeVar("Record", bound=BaseModel)
Work = Callable[[Record, Path, Report], dict[str, Any]]


@dataclass(frozen=True)
class RunKind:
    """A kind of run.

    Args:
        name: in the settings of stored runs.
        record: settings of a run.
        work: called with them, the folder of the run and a report of progress; the
            dictionary it returns is the result.
    """

    name: str
    record: type[BaseModel]
    work: Callable[[Any, Path, Report], dict[str, Any]]


RUNS: dict[str, RunKind] = {}


def run_kind(name: str, record: type[Record]) -> Callable[[Work[Record]], Work[Record]]:
    """Register the work of a kind of run."""

    def register(work: Work[Record]) -> Work[Record]:
        RUNS[name] = RunKind(name, record, work)
        return work

    return register


def config_of(record: BaseModel) -> dict[str, Any]:
    """Settings of a run as the store holds them, which its id follows from."""
    kinds = run_kinds().values()
    (name,) = (kind.name for kind in kinds if kind.record is type(record))
    return {"kind": name, **record.model_dump(mode="json")}


def run_kinds() -> dict[str, RunKind]:
    """All kinds of runs, by name."""
    _import_kinds()
    return RUNS


@cache
def _import_kinds() -> None:
    # Here and not at the top: the modules of the kinds import this one.
    discover("steppe_lab.runs")
