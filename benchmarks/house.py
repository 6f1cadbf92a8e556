"""Figures of the house: how much a reader has to walk through to understand it.

    python -m benchmarks.house

prints one JSON object. A test holds the figures to their bounds.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

import steppe

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (ROOT / "src" / "steppe", ROOT / "src" / "steppe_lab")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
WHAT = re.compile(r"\bwhat\b", re.IGNORECASE)
FOUND = re.compile(r"\bfound\b")


def figures() -> dict[str, float]:
    """All figures by name."""
    step = files_of_a_step()
    beside = {path for path in step if not is_of_the_method(path)}
    return {
        "modules_on_the_top_floor": top_floor(),
        "layers_of_the_library": layers(),
        "files_of_a_sam_step": len(step),
        "folders_of_a_sam_step": len({path.parent for path in step}),
        "files_beside_the_method": len(beside),
        "folders_beside_the_method": len({path.parent for path in beside}),
        "summaries_with_a_free_what": sum(1 for _ in free_clauses()),
        "uses_of_found": sum(len(FOUND.findall(p.read_text())) for p in files()),
        "comments_per_100_lines": round(comments_per_100_lines(), 2),
    }


def files() -> list[Path]:
    """Python files of library and laboratory."""
    return sorted(path for source in SOURCES for path in source.rglob("*.py"))


def top_floor() -> int:
    """Modules directly in the library's folder, the package's own file left out."""
    return len([p for p in SOURCES[0].glob("*.py") if p.name != "__init__.py"])


def layers() -> int:
    """Layers of the library that import-linter keeps apart."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    library = [c for c in contracts if c.get("containers") == ["steppe"]]
    return len(library[0]["layers"])


def files_of_a_step() -> set[Path]:
    """Files of the library whose functions run in one step of SAM."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = steppe.SAM(torch.optim.SGD([weight], lr=0.1), rho=0.05)

    def step() -> None:
        for _ in optimizer.passes():
            weight.square().sum().backward()
        optimizer.step()

    step()  # the first step also imports
    seen: set[Path] = set()

    def watch(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and SOURCES[0] in path.parents:
            seen.add(path)

    sys.setprofile(watch)
    try:
        step()
    finally:
        sys.setprofile(None)
    return seen


def is_of_the_method(path: Path) -> bool:
    """Whether a file is of SAM itself and its ball; the others serve all methods."""
    return path.relative_to(SOURCES[0]).parts[0] in ("optimizers", "geometry")


def free_clauses() -> Iterator[str]:
    """Summaries that say "what ..." where a noun of the field is due."""
    for path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, DOCUMENTED):
                summary = (ast.get_docstring(node) or "").partition("\n\n")[0]
                if WHAT.search(summary):
                    yield f"{path.name}: {summary}"


def comments_per_100_lines() -> float:
    """Lines with a comment for every 100 lines that are not blank."""
    comments = lines = 0
    for path in files():
        text = path.read_text()
        lines += sum(1 for line in text.splitlines() if line.strip())
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments += len({t.start[0] for t in tokens if t.type == tokenize.COMMENT})
    return 100 * comments / lines


if __name__ == "__main__":
    print(json.dumps(figures(), indent=1))
