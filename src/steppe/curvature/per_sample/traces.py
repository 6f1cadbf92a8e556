"""Exact traces and diagonals of the Gauss-Newton matrix, tensor by tensor.

With S the factors of the loss's curvature in the outputs (one column for each of the C
outputs) and g_nc the gradient of sample n seeded with column c, the diagonal of the
matrix is the mean over n of the sum over c of g_nc squared. The backward passes stop at
the outputs of the layers, and where norms suffice the gradients are never formed.

Source: Ibayashi et al., 2021, arXiv:2106.12612 (the diagonal of piecewise linear
networks, where it is that of the Hessian); Dangel et al., 2020, arXiv:1912.10985
(factors of the loss sent back through the network).

Shape letters: B samples of a batch, C outputs of a sample, D parameters, M draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from steppe.curvature.per_sample.gradients import (
    AbstractGradients,
    CacheBudget,
    Layout,
    norms_of,
    squares_of,
)
from steppe.curvature.per_sample.rules import (
    find_layouts,
    folded,
    gradients_at,
    gradients_of,
)
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.loss_curvature import (
    classes_along,
    kept_rows,
    loss_factors,
    sampled_gradients,
)
from steppe.curvature.products.outputs import Outputs, split_at_outputs
from steppe.errors import DataError, UsageError, check_count
from steppe.graphs.network_graph import Structure, Use, operation, structure
from steppe.linalg.probes import seeded
from steppe.objective import Objective, check_objective
from steppe.parameters import flatten, matching
from steppe.results import Cost


@dataclass(frozen=True, kw_only=True)
class LayerTraces:
    """Trace of the Gauss-Newton matrix of the mean loss, one part for each tensor."""

    by_tensor: Mapping[str, float]  # loss per squared parameter, by parameter name
    stderr_by_tensor: Mapping[str, float]  # zeros where nothing was sampled
    total: float
    stderr: float = 0.0  # of `total`; inf after one draw
    samples: int = 0  # draws behind it; 0 when nothing was sampled
    exact_hessian: bool = False  # these are traces of the Hessian, too
    cost: Cost = field(default_factory=Cost)
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of


def layer_traces(
    objective: Objective,
    *,
    params: str | Sequence[str] | None = None,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> LayerTraces:
    """Trace of the Gauss-Newton matrix tensor by tensor, in C backward passes.

    Where every output is piecewise affine in each parameter, as in networks of
    convolutions, linear layers, evaluated batch norm, ReLU and pooling, these are
    traces of the Hessian (`exact_hessian`); `details["not_piecewise_linear"]` says why
    they are not.

    Args:
        objective: the mean loss; its labels matter only for losses without a closed
            form. A penalty is left out.
        params: names or patterns, such as "layer1.*", of the tensors to trace; None
            for all.
        samples: draws in place of the C passes, one pass each: random signs of the
            factors, or targets drawn from the model where these are not at hand. Worth
            it for more than about 100 outputs, and needed where the outputs are more
            than a vector for each sample, as for sequences.
        generator: of the draws; None for seed 0 on the CPU.

    Raises:
        SettingError: `samples` below 1, or patterns that fit no parameter.
        UsageError: a parameter that enters an operation without a rule, samples of a
            batch that influence each other, or a loss without factors.
        DataError: the loss of a sample is not convex in the outputs, or gradients are
            not finite.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> traces = layer_traces(Objective(model, data, loss="mse"))
        >>> round(traces.by_tensor["weight"], 6), traces.exact_hessian
        (2.0, True)
    """
    check_objective(objective, "layer_traces")
    if samples is not None:
        check_count("samples", samples, 1)
    before = objective.cost
    sweep = _Sweep(objective, matching(objective.names, params), samples, generator)
    draws = sweep.traces()
    return _traces(objective, sweep, draws, objective.cost - before)


def folded_traces(
    objective: Objective,
    samples: int,
    generator: torch.Generator | None = None,
) -> tuple[dict[str, Tensor], Structure]:
    """Traces by the effective weights of evaluated batch norms, and the structure.

    Other parameters have their own trace. Each is of the shape (M,) with one for each
    draw.
    """
    sweep = _Sweep(objective, objective.names, samples, generator, fold=True)
    draws = sweep.traces()
    # No batch was read where no parameter has an influence.
    return draws, sweep.network or network_structure(objective)[0]


def folded_diagonals(objective: Objective) -> tuple[dict[str, Tensor], Structure]:
    """Diagonals by the effective weights of batch norms, shaped as the parameters."""
    sweep = _Sweep(objective, objective.names, fold=True)
    squares = sweep.diagonals()
    return squares, sweep.network or network_structure(objective)[0]


def exact_diagonal(
    objective: Objective,
    *,
    params: str | Sequence[str] | None = None,
    hessian: bool = False,
) -> Tensor:
    """Diagonal of the Gauss-Newton matrix, shape (D,), in C backward passes.

    It is that of the Hessian where `layer_traces` says so.

    Args:
        objective: the mean loss; the order is that of its parameters. A penalty is
            left out.
        params: names or patterns of the tensors to take, in the objective's order.
        hessian: refuse a network where it is not that of the Hessian.

    Raises:
        SettingError: patterns that fit no parameter.
        UsageError: as of `layer_traces`; with `hessian`, a network that is not
            piecewise linear on every batch.
        DataError: as of `layer_traces`.
    """
    check_objective(objective, "exact_diagonal")
    sweep = _Sweep(objective, matching(objective.names, params))
    squares = sweep.diagonals()
    if hessian and sweep.not_piecewise_linear:
        raise UsageError(
            "the exact diagonal of the Hessian needs a piecewise linear network, but "
            f"{min(sweep.not_piecewise_linear)}; leave hessian out for that of the "
            "Gauss-Newton matrix, or use diagonal(Hessian(objective))."
        )
    parameters = dict(zip(objective.names, objective.params, strict=True))
    return flatten([squares[name].to(parameters[name].dtype) for name in squares])


def network_structure(objective: Objective) -> tuple[Structure, int]:
    """Structure of the network, and the number of outputs of a sample."""
    with objective.measuring(), twice_differentiable(objective.model):
        z = split_at_outputs(objective, 0).z
        objective.cost += Cost(forwards=1 / len(objective.batches))
        return structure(z, _named(objective)), z[0].numel()


class _Sweep:
    """One pass over the data that adds up squares of gradients of samples."""

    def __init__(
        self,
        objective: Objective,
        names: Sequence[str],
        samples: int | None = None,
        generator: torch.Generator | None = None,
        fold: bool = False,
    ) -> None:
        self.objective = objective
        self.names = names
        self.samples = samples
        self.generator = seeded(generator)
        self.fold = fold
        self.network: Structure | None = None
        self.not_piecewise_linear: set[str] = set()
        self._layouts: dict[tuple[Any, ...], list[Layout | None]] = {}

    @torch.inference_mode(False)
    def traces(self) -> dict[str, Tensor]:
        """By name, one trace for each draw, or one alone; float64."""
        size = self.samples or 1
        params = dict(zip(self.objective.names, self.objective.params, strict=True))
        sums = {
            name: torch.zeros(size, dtype=torch.float64, device=params[name].device)
            for name in self.names
        }

        def add(draw: int, name: str, squares: Tensor) -> None:
            sums[name][draw if self.samples else 0] += squares

        self._run(norms_of, add)
        return {name: squares.cpu() for name, squares in self._means(sums)}

    @torch.inference_mode(False)
    def diagonals(self) -> dict[str, Tensor]:
        """By name, tensors of the parameters' shapes; float64."""
        params = dict(zip(self.objective.names, self.objective.params, strict=True))
        sums = {
            name: torch.zeros_like(params[name], dtype=torch.float64).detach()
            for name in self.names
        }

        def add(_: int, name: str, squares: Tensor) -> None:
            sums[name] += squares

        self._run(squares_of, add)
        return dict(self._means(sums))

    def _means(self, sums: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, squares in sums.items():
            if not bool(squares.isfinite().all()):
                raise DataError(
                    f"squares of gradients by {name} add up to an infinity or NaN; "
                    "check that the loss is finite at these parameters and data, or "
                    "use a wider dtype such as float64."
                )
            yield name, squares / self._terms()

    def _terms(self) -> int:
        return self.objective.count()

    def _run(
        self,
        measured: Callable[[list[AbstractGradients], list[Tensor]], Tensor],
        add: Callable[[int, str, Tensor], None],
    ) -> None:
        objective = self.objective
        objective.check_repeatable()
        self._terms()
        with objective.measuring(), twice_differentiable(objective.model):
            for index in range(len(objective.batches)):
                outputs = split_at_outputs(objective, index)
                if outputs.z.requires_grad and len(outputs.z):
                    count, seeds = self._seeds(outputs)
                    self._batch(outputs, count, seeds, measured, add)

    @torch.no_grad()
    def _batch(
        self,
        outputs: Outputs,
        count: int,
        seeds: Iterator[Tensor],
        measured: Callable[[list[AbstractGradients], list[Tensor]], Tensor],
        add: Callable[[int, str, Tensor], None],
    ) -> None:
        network = self._read(outputs)
        uses = self._uses(network, outputs, count)
        every = (each.use.operation for many in uses.values() for each in many)
        nodes = list(dict.fromkeys(every))
        if not nodes:  # no parameter has an influence
            return
        for column, seed in enumerate(seeds):
            # One backward pass stops at the operations of the parameters: gradients
            # of single samples are made from its rows, not by torch.
            grads = dict(zip(nodes, gradients_at(outputs.z, nodes, seed), strict=True))
            for name, many in uses.items():
                pairs = [(each, grads[each.use.operation]) for each in many]
                live = [(each, grad) for each, grad in pairs if grad is not None]
                if live:
                    add(column, name, measured(*map(list, zip(*live, strict=True))))
        passes = count / len(self.objective.batches)
        self.objective.cost += Cost(gradients=passes)

    def _read(self, outputs: Outputs) -> Structure:
        network = structure(outputs.z, _named(self.objective))
        self.network = self.network or network
        if why := network.why_not_piecewise_linear():
            self.not_piecewise_linear.add(why)
        return network

    def _uses(
        self, network: Structure, outputs: Outputs, columns: int
    ) -> dict[str, list[AbstractGradients]]:
        params = dict(zip(self.objective.names, self.objective.params, strict=True))
        wanted = [use for use in network.uses if use.name in self.names]
        if not wanted:  # no parameter has an influence
            return {}
        places = self._layouts_of(wanted, outputs.z)
        room = CacheBudget()
        gradients: dict[str, list[AbstractGradients]] = {}
        for use, layout in zip(wanted, places, strict=True):
            if layout is None:  # the outputs do not depend on it
                continue
            effective = folded(use) if self.fold else use
            rule = gradients_of(effective, layout, params[use.name], columns, room)
            gradients.setdefault(use.name, []).append(rule)
        return gradients

    def _layouts_of(self, uses: Sequence[Use], z: Tensor) -> list[Layout | None]:
        """Layouts of the samples; computed again for another batch size or graph."""
        key = (tuple(z.shape), tuple((u.name, operation(u.operation)) for u in uses))
        if key not in self._layouts:
            layouts = find_layouts(z, uses)
            self._layouts[key] = [layouts.get(use.operation) for use in uses]
        return self._layouts[key]

    def _seeds(self, outputs: Outputs) -> tuple[int, Iterator[Tensor]]:
        """Number of backward passes, and the gradients in z that they start from."""
        if self.samples is None:
            factors = loss_factors(self.objective, outputs)
            return len(factors), iter(factors)
        draw = self._drawing(outputs)
        return self.samples, (draw() for _ in range(self.samples))

    def _drawing(self, outputs: Outputs) -> Callable[[], Tensor]:
        """Sampler of gradients in z whose second moment is the curvature in z."""
        likelihood, z = self.objective.likelihood, outputs.z.detach()
        batch = self.objective.batches[outputs.index]
        classes = likelihood is not None and likelihood.outputs == "logits"
        soft = classes and batch[1].is_floating_point()
        # The Hessian of cross-entropy in z is diag(p) - p p', the sum over classes of
        # p_c (e_c - p)(e_c - p)': random signs need no factorization of C x C matrices.
        if classes and not soft:
            mask = kept_rows(self.objective, outputs)
            along = classes_along(self.objective, outputs)
            p = z.softmax(along) if mask is None else z.softmax(along) * mask
            return partial(self._of_classes, p, along)
        if z.dim() > 2:
            return partial(
                sampled_gradients, self.objective, outputs, generator=self.generator
            )
        return partial(self._combined, loss_factors(self.objective, outputs))

    def _of_classes(self, p: Tensor, along: int) -> Tensor:
        """Sum of the columns sqrt(p_c) (e_c - p) with random signs, without them."""
        signed = p.sqrt() * self._signs(p)
        return signed - p * signed.sum(along, keepdim=True)

    def _combined(self, factors: Tensor) -> Tensor:
        """Sum of the factors of each row with random signs."""
        signs = self._signs(factors[..., 0] if factors.dim() > 2 else factors)
        return torch.einsum("cb...,cb->b...", factors, signs)

    def _signs(self, like: Tensor) -> Tensor:
        source = self.generator
        bits = torch.randint(2, like.shape, generator=source, device=source.device)
        return (2 * bits - 1).to(like)


def _traces(
    objective: Objective, sweep: _Sweep, traces: Mapping[str, Tensor], cost: Cost
) -> LayerTraces:
    summed = torch.stack(list(traces.values())).sum(0)
    not_piecewise_linear = sorted(sweep.not_piecewise_linear)
    return LayerTraces(
        by_tensor={name: float(draws.mean()) for name, draws in traces.items()},
        stderr_by_tensor={
            name: _error(draws, sweep.samples) for name, draws in traces.items()
        },
        total=float(summed.mean()),
        stderr=_error(summed, sweep.samples),
        samples=sweep.samples or 0,
        exact_hessian=not not_piecewise_linear,
        cost=cost,
        details={
            **objective.term_details,
            "matrix": "ggn",
            "not_piecewise_linear": not_piecewise_linear,
        },
    )


def _error(draws: Tensor, samples: int | None) -> float:
    """Standard error of the mean of independent draws."""
    if samples is None:
        return 0.0
    return float(draws.std()) / math.sqrt(samples) if samples > 1 else math.inf


def _named(objective: Objective) -> dict[nn.Parameter, str]:
    return dict(zip(objective.params, objective.names, strict=True))
