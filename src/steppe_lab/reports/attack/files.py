"""Attacks as files: numbers for programs, and a page for people."""

from __future__ import annotations

import shlex
from pathlib import Path

from steppe_lab.analysis.attacking import AttackedNetwork, Target
from steppe_lab.reports.attack.page import RECORD, render
from steppe_lab.reports.text.provenance import made_with
from steppe_lab.runs.attack_parts import PARTS, folder_of
from steppe_lab.runs.attack_settings import AttackSettings
from steppe_lab.runs.attacking import ARRAYS
from steppe_lab.store.json_files import (
    cannot,
    digest,
    write_atomically,
    write_json,
)
from steppe_lab.training.settings import options_of

PAGE = "attack.html"


def folder_for(target: Target, settings: AttackSettings, runs: Path) -> Path:
    """The folder of attacks where none is named: another for other settings."""
    same = folder_of(
        runs,
        target.digest,
        target.attacked,
        part=settings.part,
        epsilons=settings.epsilons,
        seed=settings.seed,
    )
    key = digest([same.name, list(map(str, target.attacks))])
    safe = "".join(c if c.isalnum() else "_" for c in target.recipe.model.name)
    return runs / PARTS / f"{safe}-{key[:8]}"


def publish_attacks(
    done: AttackedNetwork, folder: Path, *, data_dir: Path | None = None
) -> dict[str, Path]:
    """Write the files; the record comes last, so that all is there where it is.

    Args:
        done: the attacks.
        folder: gets attack.npz with the success of each attack on each sample at each
            budget, attack.html and attack.json.
        data_dir: folder with the files of data sets, for the command in the page.

    Returns:
        The paths, by what is there.

    Raises:
        StoreError: a file cannot be written.
    """
    paths = {
        "arrays": folder / ARRAYS,
        "page": folder / PAGE,
        "record": folder / RECORD,
    }
    page = render(done, command=command_of(done, data_dir), versions=made_with())
    # While files are written there is no record, so that none speaks of older ones.
    try:
        paths["record"].unlink(missing_ok=True)
    except OSError as error:
        raise cannot("write", paths["record"], error) from error
    write_atomically(paths["arrays"], done.done.result.to_npz())
    write_atomically(paths["page"], page.rstrip().encode() + b"\n")
    files = {name: path.name for name, path in paths.items() if name != "record"}
    write_json(paths["record"], {**done.record(), "files": files})
    return paths


def command_of(done: AttackedNetwork, data_dir: Path | None = None) -> str:
    """The command that makes the same numbers; DIR for an unnamed data folder."""
    target = done.target
    words = ["steppe", "attack", str(target.path), *options_of(done.settings)]
    words += target.belongs.options() if target.belongs else []
    if target.recipe.reads_files or data_dir is not None:
        words += ["--data-dir", str(data_dir or "DIR")]
    trusted = () if target.belongs else target.recipe.code
    words += ["--trust", *trusted] if trusted else []
    return shlex.join(words)
