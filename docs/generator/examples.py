"""`python -m docs.generator.examples [NAME ...]`: run the examples, write their pages.

An example is a script of cells in the percent format of jupytext, which a notebook
opens as well. Here its cells run one after the other with the same names, as in a
notebook: what they print stands below them, and a figure that ends a cell is drawn,
once for light and once for dark pages. nbclient would need a Jupyter kernel for that.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
from matplotlib.figure import Figure
from PIL import Image

from steppe import plots
from steppe_lab.datasets.loading import DATA_DIR

FOLDER = Path(__file__).resolve().parents[1] / "examples"
IMAGES = "images"
LARGEST = 60_000  # bytes of a picture of paths
DPI, COLOURS = 150, 64  # of one of pixels
PATH, DIGITS = re.compile(r' d="[^"]*"'), re.compile(r"(\d\.\d\d)\d+")
MAGIC = "%"  # begins a line for notebooks alone
HEAD = (
    "*Written by `make examples` from [`{name}.py`]({name}.py), which runs as it is "
    "(`python docs/examples/{name}.py`) and opens as a notebook with jupytext.*"
)


@dataclass(frozen=True)
class Cell:
    """A cell of an example."""

    source: str
    is_code: bool
    title: str = ""  # of a code cell: the figure in words


def names() -> list[str]:
    """All examples."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def cells(name: str) -> Iterator[Cell]:
    """Cells of an example, without what is for notebooks alone."""
    script = jupytext.read(FOLDER / f"{name}.py", fmt="py:percent")
    for cell in script.cells:
        lines = cell.source.splitlines()
        source = "\n".join(line for line in lines if not line.startswith(MAGIC))
        is_code = cell.cell_type == "code"
        if source.strip():
            yield Cell(source.strip(), is_code, cell.metadata.get("title", ""))


def executed(source: str, scope: dict[str, Any], file: str) -> tuple[str, Any]:
    """Run a cell: what it prints, and the value of the expression that ends it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, file, "exec"), scope)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), scope)
    if value is not None and not isinstance(value, Figure):
        printed.write(f"{value}\n")
    return printed.getvalue(), value


def shortened(svg: str) -> str:
    """A picture whose paths have places to a hundredth of a point."""
    return PATH.sub(lambda path: DIGITS.sub(r"\1", path[0]), svg)


def pixels(figure: Figure) -> bytes:
    """A picture as PNG of a few colours, a third as large as one of all."""
    image = Image.open(io.BytesIO(plots.save_png(figure, dpi=DPI)))
    written = io.BytesIO()
    image.convert("RGB").quantize(COLOURS).save(written, "PNG", optimize=True)
    return written.getvalue()


def drawn(figure: Figure, stem: str, alt: str) -> tuple[str, dict[str, bytes]]:
    """What shows a figure on the page, and its files.

    One that takes much room as paths is of pixels, on a light page in both themes.
    """
    width = round(100 * figure.get_figwidth())
    light = shortened(plots.save_svg(figure))
    if len(light) > LARGEST:
        image = f'<img alt="{alt}" src="{IMAGES}/{stem}.png" width="{width}">'
        return image, {f"{stem}.png": pixels(figure)}
    dark = plots.darkened(light)
    shown = (
        "<picture>\n"
        '  <source media="(prefers-color-scheme: dark)" '
        f'srcset="{IMAGES}/{stem}-dark.svg">\n'
        f'  <img alt="{alt}" src="{IMAGES}/{stem}-light.svg" width="{width}">\n'
        "</picture>"
    )
    return shown, {
        f"{stem}-light.svg": light.encode(),
        f"{stem}-dark.svg": dark.encode(),
    }


def page(name: str) -> tuple[str, dict[str, bytes]]:
    """The page of an example, and its pictures by file name."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    number = 0
    for cell in cells(name):
        if not cell.is_code:
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed, value = executed(cell.source, scope, f"{name}.py")
        if printed.strip():
            lines = [line.rstrip() for line in printed.strip("\n").splitlines()]
            parts.append("\n".join(["```text", *lines, "```"]))
        if isinstance(value, Figure):
            number += 1
            shown, files = drawn(value, f"{name}-{number}", cell.title)
            parts.append(shown)
            pictures |= files
    title, *others = parts
    return "\n\n".join([title, HEAD.format(name=name), *others]) + "\n", pictures


def main(chosen: list[str]) -> None:
    """Write pages and pictures, and delete pictures that are gone."""
    (FOLDER / IMAGES).mkdir(exist_ok=True)
    if DATA_DIR in os.environ:
        os.environ[DATA_DIR] = str(Path(os.environ[DATA_DIR]).resolve())
    for name in chosen or names():
        # Runs of studies are no part of the documentation.
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            text, pictures = page(name)
        for old in (FOLDER / IMAGES).glob(f"{name}-*"):
            old.unlink()
        for file, picture in pictures.items():
            (FOLDER / IMAGES / file).write_bytes(picture)
        (FOLDER / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
