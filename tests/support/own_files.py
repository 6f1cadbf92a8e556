"""A folder with a package of somebody else, and files that they saved."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch


@contextmanager
def package(
    folder: Path, monkeypatch: pytest.MonkeyPatch, called: str, **modules: str
) -> Iterator[Path]:
    """Write modules of a package, importable from this folder alone.

    Names of code are known to a process once and for all: another file of tests takes
    another name.
    """
    home = folder / called
    home.mkdir()
    for name, code in modules.items():
        (home / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    yield folder
    for name in [name for name in sys.modules if name.startswith(called)]:
        del sys.modules[name]


def saved(path, name="build", wrap=lambda state: state, *, seed=1, nets="theirs.nets"):
    """A network of theirs with weights of its own, saved as torch does."""
    torch.manual_seed(seed)
    model = getattr(importlib.import_module(nets), name)()
    torch.save(wrap(model.state_dict()), path)
    return model.eval()
