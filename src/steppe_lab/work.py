"""The work of a run of any kind; importing this imports all that it needs.

The process that workers are copies of imports it, so that they need not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from steppe.errors import SettingError
from steppe_lab.complaints import reason_of
from steppe_lab.execution.fork_server import DEVICE
from steppe_lab.progress import Report
from steppe_lab.runs.abstract import run_kinds
from steppe_lab.runs.packed import report_of, train_together
from steppe_lab.training.recipe import Recipe

run_kinds()
# Torch imports its compiler, which takes a second, when an optimizer is made.
torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def work(config: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Do one run of a store; the executors call it in their workers."""
    take_device(os.environ.get(DEVICE, ""))
    kind = run_kinds()[config["kind"]]
    return kind.work(_record_of(config), folder, report)


def work_together(
    configs: Sequence[dict[str, Any]],
    folders: Sequence[Path],
    report: Report,
    done: Callable[[int, dict[str, Any] | BaseException], None],
) -> None:
    """Do several runs of a store in one process; each that ends is told at once."""
    take_device(os.environ.get(DEVICE, ""))
    recipes: dict[int, Recipe] = {}
    for index, (config, folder) in enumerate(zip(configs, folders, strict=True)):
        try:
            if config["kind"] == "training":
                recipes[index] = _record_of(config)
                continue
            result: Any = work(config, folder, report_of(folder, report))
        except BaseException as error:
            result = error
        done(index, result)
    places = list(recipes)
    train_together(
        [recipes[place] for place in places],
        [folders[place] for place in places],
        report,
        lambda member, result: done(places[member], result),
    )


def _record_of(config: dict[str, Any]) -> Any:
    """Settings of a run as their record.

    Raises:
        SettingError: they are none, such as code of the user that was edited since.
    """
    settings = {key: value for key, value in config.items() if key != "kind"}
    try:
        return run_kinds()[config["kind"]].record.model_validate(settings)
    except ValidationError as error:
        raise SettingError(f"{reason_of(error)}.") from error


def take_device(name: str) -> None:
    """Let "cuda" be one GPU of several in this process; "" leaves the choice to torch.

    Settings of runs name the kind of device alone, so that ids do not depend on it.
    """
    if name and torch.device(name).type == "cuda":
        torch.cuda.set_device(name)
