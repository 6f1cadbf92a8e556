"""Tensors of the library have the device that the code says, not torch's default."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src" / "steppe"
FACTORIES = (
    *("zeros", "ones", "eye", "full", "empty", "tensor", "as_tensor", "arange"),
    *("linspace", "logspace", "rand", "randn", "randint", "randperm", "normal"),
)
CALL = re.compile(rf"torch\.({'|'.join(FACTORIES)})\(")


def _unnamed(text: str) -> Iterator[int]:
    """Lines where a tensor is made without a device."""
    for node in ast.walk(ast.parse(text)):
        made = isinstance(node, ast.Call) and CALL.fullmatch(
            f"{ast.unparse(node.func)}("
        )
        if made and not any(word.arg == "device" for word in node.keywords):
            yield node.lineno


def test_every_tensor_that_is_made_names_its_device():
    texts = {path: path.read_text() for path in SOURCES.rglob("*.py")}
    unnamed = [
        f"{path.relative_to(SOURCES)}:{line}"
        for path, text in texts.items()
        if CALL.search(text)
        for line in _unnamed(text)
    ]
    assert unnamed == [], "give device=, as torch.set_default_device moves the others"
