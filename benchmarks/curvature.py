"""Curvature of small trained networks: products, eigenvalues, traces, densities.

Everything here is a network that was trained a little, since spectra of networks at
their first weights are unlike those that anyone measures. What a peer is slower or less
exact at is stored beside each ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import steppe
from benchmarks import curvature_peers as peers
from benchmarks.memory import LiveBytes
from benchmarks.networks import PIECEWISE, trained
from benchmarks.problems import Problem, problem
from benchmarks.timing import Benchmark, ratios
from steppe.curvature.operator import AbstractCurvature
from steppe.linalg.krylov import Krylov
from steppe.results import Spectrum

LONG = 25.0  # seconds after which there are no more rounds of what takes long
K, TOLERANCE = 5, 1e-2  # residuals of 1e-2 are values exact to 1e-4
STEPS = 40  # Krylov steps of the one run that gives everything
BOUNDS = {"lenet": 1.6, "text": 2.1, "resnet8": 2.5}
DRAWS = 40  # by which the cost of Hutchinson's estimator is judged


def _objective(of: Problem) -> steppe.Objective:
    of.model.eval()
    return steppe.Objective(of.model, (of.x, of.y), batch_size=len(of.x))


@cache
def _truth(name: str, data_dir: Path | None) -> tuple[Tensor, float, Spectrum]:
    """Top values, trace and spectrum, far more exact than anything compared here."""
    H = steppe.Hessian(_objective(trained(name, data_dir)))
    top = steppe.eigsh(H, K, tol=1e-5, max_products=1000)
    full = steppe.spectrum(H, steps=50, probes=4, k=0)
    return top.values, steppe.trace(H, rtol=0.005).value, full


def _error(found: list[float], true: Tensor) -> float:
    values = torch.tensor(found, dtype=torch.float64)
    return float(((values - true) / true).abs().max())


def _distance(nodes: Tensor, weights: Tensor, true: Spectrum) -> float:
    """Earth mover's distance between two spectra, as a share of the largest value."""
    both = torch.cat([nodes, true.nodes.flatten()])
    shares = torch.cat([weights, -true.weights.flatten() / len(true.nodes)])
    order = both.argsort()
    gaps = both[order].diff()
    apart = (shares[order].cumsum(0)[:-1].abs() * gaps).sum()
    return float(apart / true.nodes.max())


def _peak(action: Callable[[], object]) -> int:
    with LiveBytes() as counted:
        action()
    return counted.peak


def _product(
    kind: type[AbstractCurvature], name: str, data_dir: Path | None, rounds: int
) -> dict[str, Any]:
    of = trained(name, data_dir)
    matrix = kind(_objective(of))
    vector = torch.randn(matrix.shape[0])

    def reference() -> None:
        torch.autograd.grad(of.loss(of.x, of.y), of.params())

    found = ratios(lambda: matrix @ vector, reference, rounds=rounds)
    peaks = {
        "peak_bytes": _peak(lambda: kind(matrix.objective) @ vector),
        "reference_peak_bytes": _peak(reference),
    }
    return {**of.facts(), **found, **peaks}


def _top(peer: str, name: str, data_dir: Path | None, rounds: int) -> dict[str, Any]:
    of = trained(name, data_dir)
    objective, true = _objective(of), _truth(name, data_dir)[0]
    found: dict[str, list[float]] = {}

    def subject() -> None:
        pairs = steppe.eigsh(steppe.Hessian(objective), K, tol=TOLERANCE)
        found["ours"] = pairs.values.tolist()

    def pyhessian() -> None:
        found["theirs"] = peers.pyhessian_top(peers.pyhessian_of(of), K, 1e-5)

    def curvlinops() -> None:
        found["theirs"] = peers.curvlinops_top(peers.curvlinops_of(of), K)

    reference = {"pyhessian": pyhessian, "curvlinops": curvlinops}[peer]
    # The peers' memory does not grow with the number of products, and counting is slow.
    product = {
        "pyhessian": peers.pyhessian_product,
        "curvlinops": peers.curvlinops_product,
    }
    with peers.fit():
        taken = ratios(subject, reference, rounds=rounds, warmup=0, seconds=LONG)
        peaks = {
            "peak_bytes": _peak(subject),
            "reference_peak_bytes": _peak(lambda: product[peer](of)),
        }
    errors = {
        "error": _error(found["ours"], true),
        "reference_error": _error(found["theirs"], true),
    }
    return {**of.facts(), **taken, **errors, **peaks, "versions": peers.VERSIONS}


def _layers(name: str, data_dir: Path | None, rounds: int) -> dict[str, Any]:
    """Exact traces over as many of Hutchinson's draws as 1 % takes, by their spread."""
    of = trained(name, data_dir)
    objective = _objective(of)
    drawn: list[float] = []

    def reference() -> None:
        drawn[:] = peers.pyhessian_of(of).trace(maxIter=DRAWS, tol=0.0)

    with peers.fit():
        found = ratios(
            lambda: steppe.layer_traces(objective),
            reference,
            rounds=rounds,
            warmup=0,
            seconds=LONG,
        )
    values = torch.tensor(drawn, dtype=torch.float64)
    wanted = float((values.std() / (0.01 * values.mean())) ** 2)
    scale = wanted / DRAWS
    true = _truth(name, data_dir)[1]
    exact = steppe.layer_traces(objective).total
    return {
        **of.facts(),
        **found,
        "ratio": found["ratio"] / scale,
        "reference_seconds": found["reference_seconds"] * scale,
        "draws_timed": DRAWS,
        "draws_for_one_percent": wanted,
        "difference_from_sampled_trace": exact / true - 1,
    }


def _everything(
    peer: str, name: str, data_dir: Path | None, rounds: int
) -> dict[str, Any]:
    """Top values, trace and density, each at the settings the peer comes with."""
    of = trained(name, data_dir)
    objective = _objective(of)
    top, trace, full = _truth(name, data_dir)
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}

    def subject() -> None:
        H = steppe.Hessian(objective)
        ours["found"] = steppe.spectrum(H, steps=STEPS, k=K)

    def pyhessian() -> None:
        hessian = peers.pyhessian_of(of)
        theirs["top"] = peers.pyhessian_top(hessian, K, 1e-3)
        theirs["trace"] = float(torch.tensor(hessian.trace()).mean())
        nodes, weights = hessian.density()
        theirs["density"] = torch.tensor(nodes[0]), torch.tensor(weights[0])

    def curvlinops() -> None:
        operator = peers.curvlinops_of(of)
        theirs["top"] = peers.curvlinops_top(operator, K)
        theirs["trace"] = float(peers.curvlinops_trace(operator, 60))
        peers.curvlinops_density(operator, 100)

    reference = {"pyhessian": pyhessian, "curvlinops": curvlinops}[peer]
    with peers.fit():
        taken = ratios(subject, reference, rounds=rounds, warmup=0, seconds=LONG)
    found: Spectrum = ours["found"]
    facts = {
        "error_top": _error(found.top.values.tolist(), top),
        "reference_error_top": _error(theirs["top"], top),
        "error_trace": abs(found.trace.value / trace - 1),
        "reference_error_trace": abs(theirs["trace"] / trace - 1),
        "distance_density": _distance(found.nodes[0], found.weights[0], full),
        "products": found.products,
        "versions": peers.VERSIONS,
    }
    if "density" in theirs:
        nodes, weights = (part.double() for part in theirs["density"])
        facts["reference_distance_density"] = _distance(nodes, weights, full)
    return {**of.facts(), **taken, **facts}


def _warm(name: str, data_dir: Path | None, _rounds: int) -> dict[str, Any]:
    """Products of a search from the vectors of five steps before, over a cold one."""
    of = trained(name, data_dir, 600)
    hessian = steppe.Hessian(_objective(of))
    optimizer = torch.optim.SGD(of.params(), lr=0.01)
    pairs = steppe.eigsh(hessian, K, tol=TOLERANCE)
    warm = cold = 0
    errors = []
    for number in range(10):
        of.model.train()
        for _ in range(5):
            optimizer.zero_grad()
            of.gradient()
            optimizer.step()
        of.model.eval()
        true = steppe.eigsh(hessian, K, tol=1e-4).values
        fresh = steppe.eigsh(
            hessian, K, tol=TOLERANCE, generator=torch.Generator().manual_seed(number)
        )
        pairs = steppe.eigsh(hessian, K, tol=TOLERANCE, start=pairs.vectors)
        warm, cold = warm + pairs.products, cold + fresh.products
        errors.append(_error(pairs.values.tolist(), true))
    facts = {"products_warm": warm / 10, "products_cold": cold / 10}
    return {**of.facts(), **facts, "ratio": warm / cold, "error": max(errors)}


class _Free:
    """An operator whose products cost next to nothing."""

    def __init__(self, size: int) -> None:
        self.shape, self.dtype = (size, size), torch.float32
        self.device = torch.device("cpu")
        self.diagonal = torch.linspace(-1, 5, size)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.diagonal * other


def _orthogonal(name: str, _rounds: int) -> dict[str, Any]:
    """All of 100 Krylov steps but the products, over 100 products of 512 images."""
    of = problem(name)
    hessian = steppe.Hessian(_objective(of), budget=2**34)
    free = _Free(hessian.shape[0])

    def steps() -> None:
        source = torch.Generator().manual_seed(0)
        krylov = Krylov(free, torch.randn(free.shape[0], generator=source), source)
        for _ in range(100):
            krylov.step()

    vector = torch.randn(free.shape[0])
    found = ratios(steps, lambda: hessian @ vector, rounds=2, warmup=1)
    images = 512 / len(of.x)
    share = found["ratio"] / (100 * images)
    return {**of.facts(), **found, "ratio": share, "images": 512}


def benchmarks(data_dir: Path | None) -> Iterator[Benchmark]:
    for name, bound in BOUNDS.items():
        for kind in (steppe.Hessian, steppe.GGN):
            run = partial(_product, kind, name, data_dir)
            title = f"{kind.kind} product over gradient"
            yield Benchmark(title, name, bound, run)
        for peer, times in (("pyhessian", 7), ("curvlinops", 4)):
            run = partial(_top, peer, name, data_dir)
            yield Benchmark(f"top {K} over {peer}", name, 1 / times, run)
        if name in PIECEWISE:
            run = partial(_layers, name, data_dir)
            yield Benchmark("layer traces over pyhessian", name, 1 / 50, run)
        for peer, times in (("pyhessian", 3), ("curvlinops", 4)):
            run = partial(_everything, peer, name, data_dir)
            yield Benchmark(f"all at once over {peer}", name, 1 / times, run)
        run = partial(_warm, name, data_dir)
        yield Benchmark("warm start over cold", name, 1 / 1.4, run)
    run = partial(_orthogonal, "resnet18")
    yield Benchmark("orthogonal basis over products", "resnet18", 0.1, run)
