"""The glossary: its words are used, and public docstrings keep to them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import steppe

ROOT = Path(__file__).resolve().parents[2]
TERMS, _, NOT_USED = (ROOT / "docs" / "glossary.md").read_text().partition("## Not")
NAMES = re.findall(r"\*\*(.+?)\*\*", TERMS)
AVOIDED = re.findall(r"^\| (?!not \|)(\w[^|]*) \|", NOT_USED, re.M)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings() -> Iterator[str]:
    """All docstrings of the library and the laboratory, white space made single."""
    for path in ROOT.glob("src/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, DOCUMENTED):
                yield " ".join((ast.get_docstring(node) or "").split())


def documented() -> Iterator[tuple[str, Any]]:
    """Public names of the library, their methods, and the functions of its rooms."""
    for name in steppe.__all__:
        value = getattr(steppe, name)
        yield name, value
        if inspect.isclass(value) or inspect.ismodule(value):
            for part, of in vars(value).items():
                own = getattr(of, "__module__", "").startswith("steppe")
                if not part.startswith("_") and (own or isinstance(of, property)):
                    yield f"{name}.{part}", of


def test_the_glossary_has_its_terms_and_the_words_that_are_avoided():
    assert len(NAMES) == len(set(NAMES)) >= 30
    assert len(AVOIDED) >= 5


def test_every_term_of_the_glossary_is_used_in_a_docstring():
    text = "\n".join(docstrings()).lower()
    unused = [term for term in NAMES if not re.search(rf"\b{term.lower()}", text)]
    assert not unused


def test_public_docstrings_do_not_use_the_words_that_are_avoided():
    words = "|".join(word for row in AVOIDED for word in row.strip().split(", "))
    avoided = re.compile(rf"\b(?:{words})\b", re.IGNORECASE)
    public = list(documented())
    assert len(public) > 200
    texts = {name: inspect.getdoc(value) or "" for name, value in public}
    assert not {name: w for name, text in texts.items() if (w := avoided.findall(text))}
