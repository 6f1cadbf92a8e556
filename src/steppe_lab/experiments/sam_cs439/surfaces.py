"""The loss around the networks whose spectra are published, along random directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from steppe_lab.experiments.sam_cs439.accuracies import SEED
from steppe_lab.experiments.sam_cs439.spectra import SPECTRA
from steppe_lab.reproduction.published import (
    NOT_NEGATIVE,
    Published,
    Quantity,
)

if TYPE_CHECKING:
    from steppe_lab.store.store import Store

POINTS = 5  # of a line from -1 to 1, as of the published surfaces
# Losses at the centre, and at distance 1 along each direction and against it.
PUBLISHED: Mapping[str, tuple[float, tuple[float, ...]]] = {
    "wide_resnet/sgd": (
        0.46783798,
        (3.97482543, 5.71666521, 6.3274922, 5.2411354),
    ),
    "wide_resnet/sam": (
        0.87594321,
        (1.96148256, 2.05305649, 2.37080363, 1.72724978),
    ),
    "transformer/sgd": (
        0.4306891,
        (0.86159587, 0.736637, 0.66109276, 0.60532123),
    ),
    "gcn/adam": (
        0.29017311,
        (0.78654933, 0.32700589, 1.18252456, 0.33153099),
    ),
    "gcn/sam": (
        0.36536816,
        (0.36611596, 0.36340114, 0.36637071, 0.36752364),
    ),
}


def centre(store: Store, runs: Mapping[str, str]) -> float | None:
    """The loss of the network, in the middle of its random line."""
    losses = _line(store, runs)
    return losses[POINTS // 2] if losses else None


def edge(store: Store, runs: Mapping[str, str]) -> float | None:
    """The mean loss at both ends of the line."""
    losses = _line(store, runs)
    return (losses[0] + losses[-1]) / 2 if losses else None


def _line(store: Store, runs: Mapping[str, str]) -> list[float]:
    losses = store.result(runs["analysis"])["line"].get("loss", [])
    return [] if None in losses else [float(each) for each in losses]


CENTRES = replace(
    SPECTRA,
    name="surfaces",
    title="The loss at the centre of the published surfaces",
    source="printed surfaces in Loss_plots.ipynb",
    quantity=Quantity(
        name="centre", title="smoothed loss of the network", between=NOT_NEGATIVE
    ),
    tolerance=0.03,
    reproduced="The mean loss differs by at most 0.03.",
    measures=(),
    analysis={"samples": 2000, "line_points": POINTS},
    read=centre,
    cells=tuple(
        replace(cell, published=Published(value=PUBLISHED[cell.name][0]))
        for cell in SPECTRA.cells
        if cell.name in PUBLISHED
    ),
    caveats=(
        SEED,
        "The source states no error, so that no tolerance follows from it. Ours is "
        "less than half of the smallest published difference between SAM and its base.",
        "The published losses are those of augmented training images, ours of clean "
        "ones; both are smoothed.",
        "The stored file of the graph network of Adam is newer than its surface: its "
        "smoothed training loss is 0.165.",
        "The documented grids of 20 points never evaluate the centre; these have 5.",
    ),
)
EDGES = replace(
    CENTRES,
    name="surfaces_edges",
    title="The loss at distance 1 along random directions",
    quantity=Quantity(
        name="edge",
        title="mean smoothed loss at both ends of a random line",
        between=NOT_NEGATIVE,
    ),
    tolerance=0.1,
    reproduced="The mean loss differs by at most 0.1.",
    read=edge,
    cells=tuple(
        replace(
            cell,
            published=Published(
                value=sum(PUBLISHED[cell.name][1]) / 4,
                note="mean over both ends of both directions",
            ),
        )
        for cell in CENTRES.cells
    ),
    caveats=(
        *CENTRES.caveats,
        "Directions are random, with the norms of the filters; the losses of one "
        "surface vary much from one to the other.",
    ),
)
