"""The spectrum of a trained network, its sums, and where in the network they come from.

Shape letters: D parameters in all, K eigenpairs, M probes, m Krylov steps.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.operator import AbstractCurvature
from steppe.curvature.per_sample.traces import layer_traces
from steppe.errors import DataError, SettingError, UsageError
from steppe.linalg.spectrum import spectrum
from steppe.linalg.trace import trace
from steppe.results import Eigenpairs, Estimate, Spectrum
from steppe.torch_internals import tree_leaves
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import Network, read_network
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.settings import SpectrumSettings
from steppe_lab.store.records import estimate_record
from steppe_lab.training.checkpoints import versions
from steppe_lab.training.trained_loss import LossKind

MATRICES: dict[str, type[AbstractCurvature]] = {
    "hessian": Hessian,
    "ggn": GGN,
    "fisher": Fisher,
    "empirical_fisher": EmpiricalFisher,
}
MANY = 100  # outputs beyond which passes to the outputs are drawn
DRAWS = 100  # of traces that no rule gives exactly
RTOL = 0.05  # of their sum


@dataclass(frozen=True)
class Layers:
    """The trace tensor by tensor."""

    matrix: str  # whose trace it is
    exact: bool  # nothing was drawn
    by_tensor: dict[str, Estimate]
    total: Estimate
    why: str  # it is this matrix and this way, or ""


@dataclass(frozen=True)
class NetworkSpectrum:
    """A spectrum with all that a report says of it."""

    network: Network
    settings: SpectrumSettings
    loss: Estimate
    spectrum: Spectrum
    effective_dimension: Estimate
    layers: Layers
    sizes: dict[str, int]  # entries of each tensor

    @property
    def stem(self) -> str:
        """Beginning of the names of its files, such as small_cnn_sam."""
        return stem_of(self.network)


def stem_of(network: Network) -> str:
    """Names of the model and of the optimizer, fit for a file name."""
    recipe = network.recipe
    names = [recipe.model.name, network.trained_by]
    names += [recipe.average.name] if recipe.average else []
    # Of user code a name is module:function, which some file systems refuse.
    safe = ("".join(c if c.isalnum() else "_" for c in name) for name in names)
    return "_".join(safe)


def open_network(
    checkpoint: Path,
    settings: SpectrumSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
) -> Network:
    """Read a checkpoint and its data, fit for the settings.

    Raises:
        CheckpointError: a file that is missing, damaged or not steppe's.
        DataError: data that is missing, damaged or not what was trained on.
        SettingError: a batch of one sample where batch norm takes its statistics.
    """
    network = read_network(
        checkpoint,
        part=settings.part,
        samples=settings.samples,
        mode=settings.mode,
        device=device,
        trust=trust,
        belongs=belongs,
        loss=loss,
    )
    objective = network.objective
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    alone = any(
        isinstance(leaf, Tensor) and leaf.shape[:1] == (1,)
        for leaf in tree_leaves(list(objective.batches))
    )
    normalised = any(isinstance(module, norms) for module in objective.model.modules())
    if settings.mode == "train" and alone and normalised:
        raise SettingError(
            "batch norm in mode train needs 2 samples in every batch, got one of 1 "
            f"among {settings.samples} samples; change --samples by one."
        )
    return network


def spectrum_of(
    network: Network, settings: SpectrumSettings, *, report: Report | None = None
) -> NetworkSpectrum:
    """Find the spectrum, and the trace layer by layer.

    Args:
        network: from `open_network`.
        settings: the same as there.
        report: called with the products so far and in all, as a rule.

    Raises:
        SettingError: more eigenvalues than the network has parameters, or a loss that
            is not finite.
        UsageError: a network whose loss cannot be differentiated twice.
    """
    objective = network.objective
    H = MATRICES[settings.matrix](objective)
    size = H.shape[0]
    if settings.k > size:
        raise SettingError(f"k must be at most {size} parameters, got {settings.k}.")

    result = spectrum(
        H if report is None else _Watched(H, report, products(settings, size)),
        steps=settings.steps,
        probes=settings.probes,
        draws=settings.draws,
        k=settings.k,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    if report is not None:
        report(Progress(result.products, result.products, "tracing tensor by tensor"))
    layers = layers_of(network, H, settings, result.trace)
    H.close()
    return NetworkSpectrum(
        network=network,
        settings=settings,
        loss=objective.value(),
        spectrum=result,
        effective_dimension=result.effective_dimension(settings.alpha),
        layers=layers,
        sizes={name: p.numel() for name, p in zip(H.names, H.params, strict=True)},
    )


def products(settings: SpectrumSettings, size: int) -> int:
    """Products with a matrix of so many rows, as a rule."""
    steps = min(settings.steps, size)
    return steps * settings.probes + (settings.draws if steps < size else 0)


def layers_of(
    network: Network, H: AbstractCurvature, settings: SpectrumSettings, total: Estimate
) -> Layers:
    """The trace of a matrix tensor by tensor, exactly where there is a rule.

    That of the Hessian is exact where the network is piecewise linear in each
    parameter; elsewhere it is that of the Gauss-Newton matrix. What has no rule is
    drawn from the matrix itself.

    Args:
        network: whose loss it is.
        H: the matrix.
        settings: that it was made with.
        total: its trace; where it is exact, those of the tensors are known too.
    """
    if total.details.get("method") == "exact":
        return Layers(H.kind, True, dict(total.details["by_tensor"]), total, "")
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.matrix == "empirical_fisher":
        return _drawn(H, generator, "there is no rule for this matrix")
    samples = DRAWS if network.outputs > MANY else None
    try:
        traces = layer_traces(network.objective, samples=samples, generator=generator)
    except (UsageError, DataError) as error:
        reason = str(error).partition(";")[0]  # what follows is for a caller
        return _drawn(H, generator, reason.rstrip("."))
    # The rules of other networks are those of the Gauss-Newton matrix.
    same = settings.matrix != "hessian" or traces.exact_hessian
    params = dict(zip(H.names, H.params, strict=True))
    penalties = {n: shift * params[n].numel() for n, shift in H.shifts().items()}
    not_piecewise_linear = ", ".join(traces.details["not_piecewise_linear"])
    return Layers(
        matrix=settings.matrix if same else "ggn",
        exact=samples is None,
        by_tensor={
            name: Estimate(
                value=value + penalties[name],
                stderr=traces.stderr_by_tensor[name],
                samples=traces.samples,
            )
            for name, value in traces.by_tensor.items()
        },
        total=Estimate(
            value=traces.total + sum(penalties.values()),
            stderr=traces.stderr,
            samples=traces.samples,
        ),
        why=""
        if same
        else f"the network is not piecewise linear: {not_piecewise_linear}",
    )


def spectrum_record(result: NetworkSpectrum) -> dict[str, Any]:
    """Every number as JSON, with the settings it follows from."""
    network, eigenvalues, layers = result.network, result.spectrum, result.layers
    recipe = None if network.belongs else network.recipe.model_dump(mode="json")
    return {
        "checkpoint": {"path": str(network.path), "sha256": network.digest},
        "recipe": recipe,
        "belongs": asdict(network.belongs) if network.belongs else None,
        "settings": result.settings.model_dump(mode="json"),
        "notes": network.notes,
        "details": dict(eigenvalues.details),
        "parameters": eigenvalues.size,
        "loss": estimate_record(result.loss),
        "top": _pairs_record(eigenvalues.top),
        "bottom": _pairs_record(eigenvalues.bottom),
        "trace": _short(eigenvalues.trace),
        "frobenius": estimate_record(eigenvalues.frobenius),
        "effective_dimension": estimate_record(result.effective_dimension),
        "ritz_sum": eigenvalues.ritz_sum,
        "layers": {
            "matrix": layers.matrix,
            "exact": layers.exact,
            "why": layers.why,
            "total": _short(layers.total),
            "by_tensor": {name: _short(e) for name, e in layers.by_tensor.items()},
        },
        "products": eigenvalues.products,
        "versions": versions(),
    }


class _Watched:
    """An operator that tells how many products it has made."""

    def __init__(self, H: AbstractCurvature, report: Report, products: int) -> None:
        self._H = H
        self._report = report
        self._products = products  # in all
        self.shape = H.shape
        self.dtype = H.dtype
        self.device = H.device

    def __matmul__(self, other: Tensor) -> Tensor:
        product = self._H @ other
        text = f"products with the {self._H.kind}"
        self._report(Progress(self._H.products, self._products, text))
        return product

    def __getattr__(self, name: str) -> Any:
        return getattr(self._H, name)


def _drawn(H: AbstractCurvature, generator: torch.Generator, why: str) -> Layers:
    total = trace(
        H, rtol=RTOL, method="deflated", max_samples=DRAWS, generator=generator
    )
    return Layers(H.kind, False, dict(total.details["by_tensor"]), total, why)


def _pairs_record(pairs: Eigenpairs) -> dict[str, Any]:
    return {
        "values": pairs.values.tolist(),
        "residuals": pairs.residuals.tolist(),
        "converged": pairs.converged,
    }


def _short(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "stderr": estimate.stderr,
        "samples": estimate.samples,
    }
