"""Reaction of measures to two changes of a quadratic with 100 parameters.

    python docs/measurements/quadratic_study.py --out .

The study of Bisla et al., 2022, arXiv:2201.08025, supplement C. The loss is w' H w / 2.

    flat    H = G' G / 2 with a Gaussian G, shape (100, 100); the K smallest of its
            eigenvalues are replaced by ones between 1e-5 and 1e-3; K = 0 to 100.
    scale   all eigenvalues between 0.9 K and 1.1 K; K = 100 to 1.

The paper gives the ranges of the small eigenvalues and of the scale; G' G / 2 is from a
program of its authors, which measures at the minimum itself and takes the direction of
epsilon-sharpness from the largest eigenvalue. Here the parameters are near it, 1e-4
times the same standard normal vector for every K, so that there is a gradient.

It prints a table for each, and writes all values with their closed forms and a picture.

Shape letters: D parameters.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

import steppe
from steppe import plots
from steppe.surfaces import Surface

Study = Literal["flat", "scale"]

D = 100
PLACES: dict[Study, Sequence[int]] = {
    "flat": range(0, D + 1, 5),
    "scale": (*range(100, 0, -5), 1),
}
SHOWN: dict[Study, Sequence[int]] = {
    "flat": (25, 50, 75, 95, 100),
    "scale": (50, 25, 10, 1),
}  # beside the first
SMALL, NEAR = (1e-5, 1e-3), 0.1  # range of small eigenvalues; relative one about K
OFF = 1e-4  # standard deviation of the distance to the minimum
EPS, SIGMA, GAMMA = 0.1, 0.01, 1000.0
MEASURES = {
    "effective dimension": "effective_dimension",
    "LPF": f"lpf:sigma={SIGMA},scale=raw",
    "local entropy": f"local_entropy:gamma={GAMMA}",
    "Fisher-Rao norm": "fisher_rao:variant=published",
    "Frobenius norm": "frobenius_norm",
    "largest eigenvalue": "top_eigenvalue",
    "epsilon-sharpness": f"epsilon_sharpness:eps={EPS}",
    "PAC-Bayes, 1 / sigma²": f"pac_bayes:eps={EPS},samples=50",
    "trace": "trace",
    "sum of Ritz values": "ritz_sum",
    "gradient of local entropy": f"local_entropy_gradient:gamma={GAMMA},steps=40",
}
DRAWN = {  # names in the picture, whose other curves would lie near that of LPF
    "effective dimension": "eff. dimension",
    "LPF": "LPF",
    "Frobenius norm": "Frobenius",
    "largest eigenvalue": "top eigenvalue",
    "epsilon-sharpness": "eps-sharpness",
}


class Quadratic(nn.Module):
    """The loss w' H w / 2."""

    matrix: Tensor

    def __init__(self, matrix: Tensor, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.w = nn.Parameter(start.clone())

    def forward(self, row: Tensor) -> Tensor:
        """The same for each row."""
        return (self.w @ self.matrix @ self.w / 2).expand(len(row))


class Value(NamedTuple):
    """A measured number beside the true one."""

    value: float
    stderr: float
    truth: float


Row = Mapping[str, Value]


def spectra(study: Study, places: Sequence[int]) -> dict[int, tuple[Tensor, Tensor]]:
    """Eigenvalues (D,) and eigenvectors (D, D) for each K, from one draw."""
    source = torch.Generator().manual_seed(0)
    G = torch.randn((D, D), generator=source, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(G.T @ G / 2)
    shares = torch.rand(D, generator=source, dtype=torch.float64)
    if study == "scale":
        around = 1 - NEAR + 2 * NEAR * shares
        return {K: (K * around, vectors) for K in places}
    small = SMALL[0] + (SMALL[1] - SMALL[0]) * shares
    ranks = torch.arange(D)
    return {K: (torch.where(ranks < K, small, values), vectors) for K in places}


def start() -> Tensor:
    """The same parameters for every K: near the minimum 0, in a random direction."""
    source = torch.Generator().manual_seed(1)
    return OFF * torch.randn(D, generator=source, dtype=torch.float64)


def measured(values: Tensor, vectors: Tensor, seed: int = 0) -> dict[str, Value]:
    """All measures of a quadratic with these eigenvalues and eigenvectors."""
    w = start()
    matrix = vectors * values @ vectors.T
    row = torch.zeros((1, 1), dtype=torch.float64)
    objective = steppe.Objective(Quadratic(matrix, w), [row], loss=_loss)
    found = steppe.measure(objective, list(MEASURES.values()), seed=seed)
    truths = closed_forms(values, vectors.T @ w)
    rows = {}
    for name, text in MEASURES.items():
        estimate = found[text]
        value, stderr = estimate.value, estimate.stderr
        if name == "local entropy":  # without the volume of the Gaussian
            value = estimate.details["free_energy"]
        if name.startswith("PAC-Bayes"):
            value, stderr = value**-2, 2 * stderr * value**-3
        rows[name] = Value(value, stderr, truths[name])
    return rows


def closed_forms(values: Tensor, w: Tensor) -> dict[str, float]:
    """The same numbers by formulas.

    Args:
        values: eigenvalues h, shape (D,).
        w: parameters in the coordinates of the eigenvectors, shape (D,).
    """
    slopes = values * w
    slope = float(slopes.norm())
    curvature = float(slopes @ (values * slopes)) / slope**2
    length = 2 * EPS / (slope + math.sqrt(slope**2 + 2 * curvature * EPS))
    loss, trace = float(w @ slopes) / 2, float(values.sum())
    pulled = GAMMA * values / (values + GAMMA)
    volume = float(torch.log1p(values / GAMMA).sum()) / 2
    # E L(w + sigma z) - L(w) is sigma^2 trace / 2, wherever w is.
    return {
        "effective dimension": float((values / (values + 1)).sum()),
        "LPF": loss + SIGMA**2 * trace / 2,
        "local entropy": float(w @ (pulled * w)) / 2 + volume,
        "Fisher-Rao norm": 2 * loss,
        "Frobenius norm": float(values.norm()),
        "largest eigenvalue": float(values.max()),
        "epsilon-sharpness": 1 / length,
        "PAC-Bayes, 1 / sigma²": trace / (2 * EPS),
        "trace": trace,
        "sum of Ritz values": trace,
        "gradient of local entropy": float((pulled * w).norm()),
    }


def run(study: Study, places: Sequence[int]) -> dict[int, dict[str, Value]]:
    """Measure the quadratic of each K."""
    made = spectra(study, places)
    return {K: measured(*made[K]) for K in places}


def remaining(rows: Mapping[int, Row], name: str) -> list[float]:
    """Values as shares of the first one."""
    values = [row[name].value for row in rows.values()]
    return [value / values[0] for value in values]


def tau(rows: Mapping[int, Row], name: str) -> float:
    """Kendall's tau-b between the order of the quadratics and the fall of a measure."""
    # Digits that no measure has would order values that are the same.
    falls = [-float(f"{share:.5g}") for share in remaining(rows, name)]
    return float(kendalltau(range(len(falls)), falls)[0])


def reaction(rows: Mapping[int, Row], name: str) -> float:
    """Mean share of its first value by which a measure has fallen, over all K."""
    return 1 - fmean(remaining(rows, name))


def table(study: Study, rows: Mapping[int, Row]) -> str:
    """What remains of each measure at some K, how monotone it is, and its errors."""
    first, *_ = rows
    shown = SHOWN[study]
    heads = [f"K = {first}", *(f"{K}" for K in shown), "mean fall", "tau", "off"]
    lines = [f"| {study} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name in MEASURES:
        shares = dict(zip(rows, remaining(rows, name), strict=True))
        cells = [f"{rows[first][name].value:.3g}"]
        cells += [f"{100 * shares[K]:.3g} %" for K in shown]
        cells += [f"{100 * reaction(rows, name):.3g} %", f"{tau(rows, name):.2f}"]
        cells += [_off(row[name] for row in rows.values())]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def save(study: Study, rows: Mapping[int, Row], folder: Path) -> None:
    """All values as CSV."""
    with (folder / f"quadratic_{study}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["K", "measure", "value", "stderr", "truth"])
        for K, row in rows.items():
            writer.writerows([K, name, *value] for name, value in row.items())


def draw(rows: Mapping[int, Row], folder: Path) -> None:
    """The picture of the study of flat directions, as SVG for both themes and PNG."""
    sharp = {K: row for K, row in rows.items() if K < D}  # all is 0 at D
    surfaces = {}
    for name, short in DRAWN.items():
        shares = torch.tensor(remaining(sharp, name), dtype=torch.float64)
        x, zeros = tuple(map(float, sharp)), torch.zeros_like(shares)
        surfaces[short] = [
            Surface(coordinates=(x,), loss=shares, stderr=zeros, samples=0)
        ]
    figure = plots.lines(
        surfaces,
        xlabel="K, number of flat directions",
        ylabel="share of the value at K = 0",
    )
    svg = plots.save_svg(figure)
    (folder / "quadratic-light.svg").write_text(svg)
    (folder / "quadratic-dark.svg").write_text(plots.darkened(svg))
    (folder / "quadratic.png").write_bytes(plots.save_png(figure))


def _loss(model: nn.Module, row: Tensor) -> Any:
    return model(row)


def _off(values: Iterable[Value]) -> str:
    """The largest distance to the truth: in standard errors, or relative."""
    drawn = list(values)
    exact = all(v.stderr <= 1e-6 * abs(v.truth) for v in drawn)
    errors = [abs(v.value - v.truth) / (v.truth if exact else v.stderr) for v in drawn]
    return f"{max(errors):.1e}" if exact else f"{max(errors):.1f} SE"


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for values and the picture")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for study, places in PLACES.items():
        rows = run(study, places)
        print(table(study, rows), flush=True)  # noqa: T201
        if given.out is not None:
            save(study, rows, given.out)
            if study == "flat":
                draw(rows, given.out)


if __name__ == "__main__":
    main()
