"""Benchmarks and scripts of the docs import names that are there.

They are run by hand, so that nothing else would say that a name has moved.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("docs/**/*.py")])


def missing(source: str) -> list[str]:
    """Names that a script imports from the project and that are not there."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module
        if node.module.partition(".")[0] in ("steppe", "steppe_lab")
        for alias in node.names
        if not _is_there(node.module, alias.name)
    ]


def _is_there(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(
            importlib.import_module(f"{module}.{name}")
        )
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(
    "script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS]
)
def test_a_script_imports_names_that_are_there(script):
    assert not missing(script.read_text())


def test_a_name_that_has_moved_is_seen():
    assert missing("from steppe.comparisons.compare import _difference") == [
        "steppe.comparisons.compare._difference"
    ]
    assert missing("from steppe import nowhere\nfrom steppe.errors import brief") == [
        "steppe.nowhere"
    ]
