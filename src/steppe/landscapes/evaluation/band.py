"""The loss along random lines of several seeds.

A single random line may be a lucky one; in many dimensions most are alike, and how far
they are is seen from several.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.errors import SettingError, brief
from steppe.landscapes.buffers import BatchNorm
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.directions.norms import Norm
from steppe.landscapes.evaluation.evaluator import Progress
from steppe.landscapes.evaluation.landscape import SAMPLES, landscape
from steppe.landscapes.evaluation.range import Along, is_auto
from steppe.landscapes.evaluation.subset import Samples
from steppe.landscapes.quantities.choice import Quantity
from steppe.landscapes.subspaces.frames import Unit
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.random import Of
from steppe.objective import Objective, check_objective
from steppe.surfaces import Band
from steppe.surfaces.band import check_levels


def band(
    objective: Objective,
    seeds: Iterable[int] = range(5),
    x: Along = None,
    *,
    norm: Norm = "filter",
    ignore: Ignore = "biasbn",
    of: Of = "parameters",
    unit: Unit = "direction",
    levels: tuple[float, float] = (0.1, 0.9),
    batch_norm: BatchNorm | None = None,
    quantities: str | Sequence[Quantity] = (),
    every: int = 1,
    samples: Samples = SAMPLES,
    tolerance: float = 0.01,
    exact: bool = False,
    progress: Progress | None = None,
) -> Band:
    """Mean loss along a random line for each of several seeds, on the same samples.

    Args:
        objective: the mean loss; its present parameters are at 0 on every line.
        seeds: of the lines, at least one, none twice.
        x: coordinates on every line; see `landscape`. "auto" seeks the range on the
            first line, and takes it for all.
        norm: see `Line.random`.
        ignore: see `Line.random`.
        of: see `Line.random`.
        unit: see `Line.random`.
        levels: quantiles at the two ends of the band, between 0 and 1.
        batch_norm: see `landscape`.
        quantities: see `landscape`.
        every: see `landscape`.
        samples: see `landscape`; the same ones on every line.
        tolerance: see `landscape`.
        exact: see `landscape`.
        progress: called with the number of evaluations done and of all.

    Returns:
        Band with a surface for each seed, their median and the two quantiles.

    Raises:
        SettingError: no seeds or one twice; see `Line.random` and `landscape`.

    Example:
        >>> import steppe, torch
        >>> model = torch.nn.Linear(2, 2)
        >>> data = torch.eye(2), torch.tensor([0, 1])
        >>> lines = steppe.band(steppe.Objective(model, data), range(3), x=(-1, 1, 3))
        >>> len(lines.surfaces), lines.median.shape
        (3, torch.Size([3]))
    """
    check_objective(objective, "band")
    check_levels(levels)
    chosen = list(seeds) if isinstance(seeds, Iterable) else []
    if not chosen or len({*chosen}) < len(chosen):
        raise SettingError(
            "seeds must be one or more whole numbers, none of them twice, such as "
            f"range(5), got {brief(seeds)}."
        )
    lines = [
        Line.random(objective.model, norm, ignore, seed, of=of, unit=unit)
        for seed in chosen
    ]
    parts = len(lines)
    surfaces = []
    totals = [0] * parts  # of each line, which becomes smaller where it is interpolated
    for number, line in enumerate(lines):

        def report(done: int, total: int, number: int = number) -> None:
            totals[number] = total
            if progress is not None:
                before = sum(totals[:number])
                progress(before + done, before + (parts - number) * total)

        surface = landscape(
            objective,
            line,
            x,
            batch_norm=batch_norm,
            quantities=quantities,
            every=every,
            samples=samples,
            tolerance=tolerance,
            exact=exact,
            progress=report,
        )
        surfaces.append(surface)
        if is_auto(x):
            x = (surface.x[0], surface.x[-1], len(surface.x))
    shared = {
        name: value
        for name, value in surfaces[0].details.items()
        if name not in ("seed", "length", "interpolation")
    }
    return Band(
        surfaces=tuple(surfaces),
        levels=levels,
        details={**shared, "seeds": tuple(chosen)},
    )
