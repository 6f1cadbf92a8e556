"""Products by nested `torch.func` transforms, over blocks of columns at once.

Source: Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147, forward over reverse. The
columns of a block share the work that does not depend on them.

Shape letters: D parameters in all, K columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp, vmap

from steppe.curvature.double_backward.corrections import (
    Corrections,
    constant_padding,
    padded_tables,
)
from steppe.curvature.products.retained import AbstractBatchProduct, Metric
from steppe.errors import SteppeError, UsageError
from steppe.objective import Objective
from steppe.parameters import forget_derived
from steppe.torch_internals import NormBase, buffer_table, parameter_table

Run = Callable[[Any], Tensor]  # what is differentiated, of a batch
Fetch = Callable[[], Any]
Values = dict[str, Tensor]  # of the variables, by name; K times each for a block


class Functional(nn.Module):
    """Something computed with a model as a function of values of its parameters.

    Args:
        model: whose parameters are given other values during a call.
        params: the variables, by name; the others are constants.
        run: what is computed of a batch; calls the model.
        chunk: columns that are multiplied at once.
        compile: compile products with `torch.compile`.
    """

    def __init__(
        self,
        model: nn.Module,
        params: dict[str, nn.Parameter],
        run: Run,
        chunk: int,
        compile: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self._variables = params
        self._run = run
        self._chunk = chunk
        self._compile = compile
        self._places = _places(model, params)
        padded = padded_tables(model)
        self._tables = [
            (f"model.{name}", p) for name, p in params.items() if p in padded
        ]
        self.hvp = self._ready(self._hvp)
        self.jvp = self._ready(self._jvp)
        self.vjp = self._ready(self._vjp)

    def forward(self, batch: Any) -> Tensor:
        return self._run(batch)

    def call(self, values: Values, batch: Any) -> Tensor:
        """The run on a batch at some values of the variables."""
        tables = [(values[name], table) for name, table in self._tables]
        parameters = {place: values[name] for place, name in self._places.items()}
        with Corrections(), constant_padding(tables):
            outputs: Tensor = functional_call(
                self, parameters, (batch,), tie_weights=False
            )
        return outputs

    def values(self) -> Values:
        """The present values of the variables."""
        return {f"model.{name}": p.detach() for name, p in self._variables.items()}

    def chunks(self, block: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows of a block, not more than `chunk` at once, and the places they have.

        Compiled code takes the same number of rows each time, padded with zeros.
        """
        for start in range(0, len(block), self._chunk):
            rows = block[start : start + self._chunk]
            place = slice(start, start + len(rows))
            if self._compile and len(rows) < self._chunk:
                empty = rows.new_zeros((self._chunk - len(rows), *rows.shape[1:]))
                rows = torch.cat([rows, empty])
            yield place, rows

    def cut(self, rows: Tensor) -> Values:
        """K vectors, shape (K, D), as values of the variables."""
        like = self._variables.values()
        pieces = torch.split(rows, [p.numel() for p in like], dim=1)
        return {
            f"model.{name}": piece.reshape(len(rows), *p.shape).to(p.dtype)
            for (name, p), piece in zip(self._variables.items(), pieces, strict=True)
        }

    def joined(self, values: Values, columns: int) -> Tensor:
        """Values of the variables as vectors, shape (columns, D)."""
        pairs = ((values[f"model.{name}"], p) for name, p in self._variables.items())
        parts = [value.reshape(len(value), p.numel()) for value, p in pairs]
        return torch.cat(parts, dim=1)[:columns]

    def _hvp(self, values: Values, tangents: Values, batch: Any) -> Values:
        """Products of the second derivatives of the sum with K vectors."""
        # Forward over reverse: tangents pass through the gradient, in place of a second
        # backward pass.

        def slope(at: Values) -> Values:
            gradient: Values = grad(lambda x: self.call(x, batch).sum())(at)
            return gradient

        products: Values = _each(lambda t: jvp(slope, (values,), (t,))[1], tangents)
        return products

    def _jvp(self, values: Values, tangents: Values, batch: Any) -> Tensor:
        """Jacobian-vector products with K vectors, shape (K, *outputs)."""

        def run(at: Values) -> Tensor:
            return self.call(at, batch)

        derivatives: Tensor = _each(lambda t: jvp(run, (values,), (t,))[1], tangents)
        return derivatives

    def _vjp(self, values: Values, weights: Tensor, batch: Any) -> Values:
        """Vector-Jacobian products with K weights of the outputs, (K, *outputs)."""
        pull: Callable[[Tensor], tuple[Values]]
        pull = vjp(lambda x: self.call(x, batch), values)[1]
        gradients: Values = _each(lambda w: pull(w)[0], weights)
        return gradients

    def _ready(self, function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = (
            torch.compile(function, fullgraph=True) if self._compile else function
        )

        setting = "compile=True" if self._compile else "backend='func'"

        def call(*inputs: Any) -> Any:
            # Parameters that are no variables would leave a graph behind.
            with _statistics_aside(self.model), torch.no_grad(), _refusals_for(setting):
                return compiled(*inputs)

        return call


def _places(model: nn.Module, params: dict[str, nn.Parameter]) -> dict[str, str]:
    """Names of all places of the variables, each with that of the variable.

    A module has its place once, whatever number of names it has: torch would replace
    its parameter twice, and put back what it had replaced it by.
    """
    names = {p: f"model.{name}" for name, p in params.items()}
    return {
        ".".join(("model", path, attribute) if path else ("model", attribute)): names[p]
        for path, module in model.named_modules()
        for attribute, p in parameter_table(module).items()
        if p is not None and p in names
    }


class GradientMap(AbstractBatchProduct):
    """Second derivatives of a sum of losses.

    Args:
        functional: gives the loss terms of a batch.
        fetch: gives the batch, and random state for its masks.
    """

    def __init__(self, functional: Functional, fetch: Fetch) -> None:
        self._functional = functional
        self._fetch = fetch

    def add_products(self, columns: Tensor, total: Tensor) -> None:
        of = self._functional
        for place, rows in of.chunks(columns):
            products = of.hvp(of.values(), of.cut(rows), self._fetch())
            total[place] += of.joined(products, place.stop - place.start)


class JacobianMap(AbstractBatchProduct):
    """J' M J of the outputs of one batch.

    Args:
        functional: gives the outputs of a batch.
        fetch: gives the batch, and random state for its masks.
        metric: gives M w, shaped like the outputs, for w of that shape.
    """

    def __init__(self, functional: Functional, fetch: Fetch, metric: Metric) -> None:
        self._functional = functional
        self._fetch = fetch
        self._metric = metric

    def add_products(self, columns: Tensor, total: Tensor) -> None:
        of = self._functional
        for place, rows in of.chunks(columns):
            values = of.values()
            jvp = of.jvp(values, of.cut(rows), self._fetch())
            weights = torch.stack([self._metric(one) for one in jvp])
            gradients = of.vjp(values, weights, self._fetch())
            total[place] += of.joined(gradients, place.stop - place.start)


def check_unrandom(objective: Objective) -> None:
    """Refuse random masks, which differ from one transform to the next.

    Raises:
        UsageError: the first batch draws random numbers.
    """
    device = objective.device
    objective.batch(0)  # sets the random state
    before = _random_state(device)
    objective.batch_values(0)
    forget_derived()  # what was computed without a graph has no gradient later
    if not torch.equal(before, _random_state(device)):
        raise UsageError(
            "backend='func' cannot repeat the random masks of mode='train'; use "
            "backend='auto', or mode='eval'."
        )


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.get_rng_state()


def _each(function: Callable[[Any], Any], block: Any) -> Any:
    return vmap(function, randomness="same")(block)


@contextmanager
def _statistics_aside(model: nn.Module) -> Iterator[None]:
    """Batch norm in training without running statistics, which it does not use.

    A transform cannot write to them.
    """
    layers = [m for m in model.modules() if isinstance(m, NormBase) and m.training]
    names = ("running_mean", "running_var", "num_batches_tracked")
    tables = [buffer_table(layer) for layer in layers]
    aside = [(t, name, t[name]) for t in tables for name in names if name in t]
    for table, name, _ in aside:
        table[name] = None
    try:
        yield
    finally:
        for table, name, buffer in aside:
            table[name] = buffer


@contextmanager
def _refusals_for(setting: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # torch scripts its own rules of forward derivatives at their first use,
            # and says where it loops over columns.
            warnings.filterwarnings(
                "ignore", r".*torch\.jit\.script", DeprecationWarning
            )
            warnings.filterwarnings("ignore", "There is a performance drop")
            yield
    except (SteppeError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, NotImplementedError) as error:
        said = str(error).strip().partition("\n")[0].rstrip(".")
        raise UsageError(
            f"{setting} cannot take this model: torch says '{said}'; use "
            "backend='auto', which needs nothing but a double backward."
        ) from error
