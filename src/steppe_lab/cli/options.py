"""Options that several verbs share, and where their things lie."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steppe_lab.studies.store import Store

OUT = Path("steppe-runs")


def use_data_dir(data_dir: Path | None) -> None:
    """Tell this process and the workers it starts where the data is."""
    from steppe_lab.studies.trials import DATA_DIR

    if data_dir is not None:
        os.environ[DATA_DIR] = str(data_dir.resolve())


def open_store(out: Path) -> Store:
    """The run store in a folder."""
    from steppe_lab.studies.store import Store

    return Store(out)


def cores() -> int:
    """Processes that can run at once here."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
