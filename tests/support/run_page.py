"""Runs the code of a page block by block; as a script, on the standard library alone.

An error ends a section, whose other blocks go on from it. The outcomes are printed as
JSON, one row for each section: its heading, type and text of the error, and the package
that is missing, if any.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from pathlib import Path


def blocks(section: str) -> list[str]:
    """Python blocks, and the scripts that diffs lead to; not parts of such diffs."""
    found = re.findall(r"^```(python|diff)\n(.*?)^```", section, re.M | re.S)
    return [
        code if kind == "python" else after(code)
        for kind, code in found
        if kind == "python" or "\n+import steppe\n" in code
    ]


def after(diff: str) -> str:
    lines = [line for line in diff.splitlines() if not line.startswith("-")]
    return "\n".join(line[1:] for line in lines)


def main(path: str, *files: str) -> None:
    """Run a page; sections of these headings show files of their own, not its code."""
    rows = []
    names: dict[str, object] = {"__name__": "__main__"}
    for section in re.split(r"^(?=## )", Path(path).read_text(), flags=re.M):
        heading = section.partition("\n")[0]
        if heading in files:
            continue
        row = {"heading": heading, "blocks": 0, "error": "", "text": ""}
        try:
            for code in blocks(section):
                row["blocks"] += 1
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(code, path, "exec"), names)
        except Exception as error:
            row |= {"error": type(error).__name__, "text": str(error)}
            row["missing"] = getattr(error, "name", None)
        rows.append(row)
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
