"""A line as files, and in sentences."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from steppe import plots
from steppe.surfaces import Surface
from steppe_lab.reports.text.numbers import number, with_error
from steppe_lab.store.json_files import write_atomically


def publish_line(
    surface: Surface, picture: Path, checkpoint: Path, other: Path | None
) -> tuple[Path, Path]:
    """Write the picture, and the numbers beside it.

    Args:
        surface: losses on the line.
        picture: a PNG; the numbers are a CSV of the same name.
        checkpoint: at coordinate 0.
        other: at coordinate 1; None for a random line.

    Returns:
        The paths of both.

    Raises:
        OSError: of the system, where a file cannot be written.
    """
    picture.parent.mkdir(parents=True, exist_ok=True)
    if other is None:
        filters = surface.details["norm"] == "filter"
        along = "distance, in norms of the filters" if filters else "distance"
    else:
        along = f"0 is {checkpoint.name}, 1 is {other.name}"
        along = along.replace("$", r"\$")  # which would begin a formula
    figure = plots.lines(
        {"loss": [surface]},
        xlabel=along,
        ylabel="loss ± standard error",
        band=True,
    )
    numbers = picture.with_suffix(".csv")
    write_atomically(picture, plots.save_png(figure))
    write_atomically(numbers, _csv(surface).encode())
    return picture, numbers


def sentences(surface: Surface, checkpoint: Path, other: Path | None) -> list[str]:
    """The losses at the checkpoints, and the highest and lowest on the line."""
    named = [(0.0, checkpoint)] + ([] if other is None else [(1.0, other)])
    at = {row["x"]: (row["loss"], row["stderr"]) for row in surface.rows()}
    ends = [f"{with_error(*at[x])} at {path} ({x:g})" for x, path in named if x in at]
    known = {x: loss for x, (loss, _) in at.items() if math.isfinite(loss)}
    lines = [f"Loss {' and '.join(ends)}."] if ends else []
    lost = len(at) - len(known)
    if lost:
        lines.append(f"At {lost} of {len(at)} points the loss is not finite.")
    if not known:
        return lines
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    lines.append(
        f"On the line it is highest at {most:.3g}, {with_error(*at[most])}, and lowest "
        f"at {least:.3g}, {with_error(*at[least])}."
    )
    between = [loss for x, loss in known.items() if 0 <= x <= 1]
    if other is not None and {0.0, 1.0} <= known.keys():
        barrier = max(between) - max(known[0.0], known[1.0])
        lines.append(
            f"Between the two it rises {number(barrier)} above the higher end."
            if barrier > 0
            else "Between the two it does not rise above the higher end."
        )
    return lines


def _csv(surface: Surface) -> str:
    buffer = io.StringIO()
    rows = surface.rows()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
