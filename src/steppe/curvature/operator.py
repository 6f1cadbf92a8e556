"""Curvature matrices of an objective, known by their products with vectors.

Shape letters: N loss terms, D parameters in all, K columns, P parameter tensors.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self, TypedDict, TypeVar, get_args

import torch
from torch import Tensor, nn

from steppe.curvature.per_sample.closed_forms import known_diagonal, known_trace
from steppe.curvature.process_group import ProcessGroup
from steppe.curvature.products.autograd import check_dense, custom_functions
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.finite_differences import AbstractDifferences
from steppe.curvature.products.functional import Functional, Run, check_unrandom
from steppe.curvature.products.retained import AbstractBatchProduct, RetainedGraphs
from steppe.curvature.products.verification import (
    asymmetry_in_float64,
    check_products,
)
from steppe.errors import SettingError, check_count, check_range
from steppe.linalg.operators import AbstractOperator
from steppe.objective import Objective, check_objective
from steppe.parameters import matching, unflatten
from steppe.results import Cost, Diagonal, Estimate

Told = TypeVar("Told")
Backend = Literal["auto", "retained", "recompute", "func", "finite_difference"]


class Settings(TypedDict, total=False):
    """Settings of all curvature operators; see `AbstractCurvature`."""

    params: str | Sequence[str] | None
    budget: int
    backend: Backend
    chunk: int
    compile: bool
    weight_decay: float
    group: Any
    check: bool


class AbstractCurvature(AbstractOperator):
    """A matrix of second derivatives, or one like it, of the mean loss.

    The graphs of the batches are built at the first product and kept while they fit the
    budget; the other batches are computed anew at every product. Parameters, frozen
    ones too, and buffers that change in between are noticed, and the graphs are built
    again. A parameter that has no influence on the loss has zeros.

    Args:
        objective: the mean loss.
        params: glob patterns of names of the parameters that are the D variables, in
            the order of the objective; None for all. The others are constants.
        budget: memory for retained graphs, in bytes; 0 keeps none.
        backend: "auto" keeps graphs within the budget, "retained" all of them,
            "recompute" none; they multiply a block column by column. "func" nests
            `torch.func` transforms, over blocks of `chunk` columns at once; it takes
            no dropout in mode "train".
            "finite_difference" takes central differences of gradients or outputs a cube
            root of the rounding unit apart, for operations without derivatives; a
            network with kinks (ReLU, max pooling) in float32 gets products that are
            wrong by factors.
        chunk: columns that "func" multiplies at once; more of them need more memory.
        compile: compile the function of "func" with `torch.compile`, in a minute or so;
            meant for CUDA and hundreds of products.
        weight_decay: coefficient of half the squared norm of the variables that is
            added to the loss, as in torch's optimizers: it adds this number to every
            eigenvalue, on top of the objective's own penalty.
        group: process group over which the data is spread, True for all processes: the
            objective of each holds its own shard, and products are those of the whole
            data, the same bits in all processes. All of them must make the same
            products in the same order.
        check: run the first batch twice before the first product, without gradients,
            and refuse a loss that differs; refuse also products that are not those of a
            symmetric matrix, where an algorithm sees it without further ones and a
            float64 copy of model and first batch shows that it is not rounding.

    Raises:
        SettingError: a setting out of range, or patterns that match no parameter.
        UsageError: a group without `torch.distributed` having been set up; also when
            multiplying, where a derivative does not exist in torch or the loss is not
            deterministic.

    Attributes:
        products: operator-vector products so far.
        names: of the selected parameters.
        params: the selected parameters, P tensors.
        slices: place of each of them in a vector, by name.
    """

    kind: ClassVar[str]
    facts: ClassVar[tuple[str, ...]] = ()  # settings of its own that `details` names
    penalised: ClassVar[bool] = True  # has the second derivatives of a penalty

    def __init__(
        self,
        objective: Objective,
        *,
        params: str | Sequence[str] | None = None,
        budget: int = 2**31,
        backend: Backend = "auto",
        chunk: int = 8,
        compile: bool = False,
        weight_decay: float = 0.0,
        group: Any = None,
        check: bool = True,
    ) -> None:
        check_objective(objective, type(self).__name__)
        _check_settings(budget, backend, chunk, compile, weight_decay)
        self.objective = objective
        self.budget = budget
        self.backend: Backend = backend
        self.chunk = chunk
        self.compile = compile
        self.weight_decay = weight_decay
        self.ranks = ProcessGroup(group)
        self.check = check
        self.products = 0
        self._terms: int | None = None
        self._sound = False  # whether model and loss have passed the checks
        self._symmetric: tuple[bool | None] | None = None  # once it has been verified
        self._made: Functional | None = None
        self._select(objective.names, params)

    @property
    def shape(self) -> tuple[int, int]:
        """(D, D)."""
        return self._size, self._size

    @property
    def dtype(self) -> torch.dtype:
        """Of the products: that of the parameters."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Of the products: where the parameters are."""
        return self.objective.device

    @property
    def asymmetry(self) -> float:
        """How far products may be from symmetric by rounding, as a share of their size.

        Infinite with `check=False`, where a loss may be random.
        """
        if not self.check:
            return math.inf
        power = 1 / 3 if self.backend == "finite_difference" else 1 / 2
        share: float = torch.finfo(self.dtype).eps ** power
        return share

    def symmetric_in_float64(self) -> bool | None:
        """Whether products are symmetric but for rounding; None where not known.

        Looked at once, on a copy of the model and of its first batch.
        """
        if self._symmetric is None:
            share = asymmetry_in_float64(self.objective, self._on)
            # All processes have to go on, or to stop, together.
            share = float(
                self.agreed(torch.tensor(share, dtype=torch.float64, device="cpu"))
            )
            known = math.isfinite(share)
            self._symmetric = (share <= self.asymmetry if known else None,)
        return self._symmetric[0]

    def _on(self, objective: Objective) -> Self:
        """The same matrix of another objective, in this process alone."""
        other = copy.copy(self)
        other.objective, other.ranks = objective, ProcessGroup(None)
        other.budget, other.compile = 0, False
        other.products, other._terms, other._sound = 0, None, True
        other._select(objective.names, self.names)
        return other

    @property
    def details(self) -> Mapping[str, Any]:
        """Objective and settings that numbers of this operator depend on."""
        objective = self.objective
        return {
            **(objective.details if self.penalised else objective.term_details),
            "kind": self.kind,
            "terms": self.terms(),
            "backend": self.backend,
            "weight_decay": self.weight_decay,
            "parameters": self.names,
            **{name: getattr(self, name) for name in self.facts},
        }

    @property
    def retained_bytes(self) -> int:
        """Memory of the retained graphs, in bytes."""
        return self._graphs.bytes

    def terms(self) -> int:
        """Number N of loss terms, over all processes."""
        if self._terms is None:
            count = torch.tensor(self.objective.count(), device=self.device)
            self._terms = int(self.ranks.add(count))
        return self._terms

    def block(self, *patterns: str) -> Self:
        """The same operator on fewer parameters: a diagonal block of the matrix.

        Args:
            patterns: globs; a parameter is in the block where one of them matches its
                name.

        Raises:
            SettingError: no pattern matches.
        """
        part = copy.copy(self)
        part.products = 0
        part._select(self.names, patterns)
        return part

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Cut a vector, shape (D,), into views shaped as the parameters, by name.

        Raises:
            SettingError: another shape.
        """
        if tuple(vector.shape) != (self._size,):
            raise SettingError(
                f"a vector of this operator has the shape ({self._size},), got "
                f"{tuple(vector.shape)}."
            )
        pieces = unflatten(vector, self.params)
        return dict(zip(self.names, pieces, strict=True))

    def exact_trace(self) -> Estimate | None:
        """The trace without drawing, tensor by tensor; None where that is not known."""
        return self._known(known_trace)

    def exact_diagonal(self) -> Diagonal | None:
        """The diagonal without drawing; None where that is not known."""
        return self._known(known_diagonal)

    def _known(self, tell: Callable[..., Told | None]) -> Told | None:
        matrix = self._diagonal_of()
        if matrix is None or self.ranks.spread:
            return None
        if self.check:
            self.objective.check_repeatable()
        return tell(
            self.objective,
            self.names,
            hessian=matrix == "hessian",
            shifts=self.shifts(),
        )

    def shifts(self) -> dict[str, float]:
        """Sum that penalties add to every entry of the diagonal, by parameter."""
        penalty = self.objective.penalty if self.penalised else None
        return {
            name: self.weight_decay + (penalty.curvature(p) if penalty else 0.0)
            for name, p in zip(self.names, self.params, strict=True)
        }

    @abstractmethod
    def _diagonal_of(self) -> Literal["ggn", "hessian"] | None:
        """The matrix whose diagonal this one has too, of those that may be known."""

    def agreed(self, values: Tensor) -> Tensor:
        """The values of the first process, in every process of the group."""
        return self.ranks.agreed(values, self.device)

    def prepare(self) -> None:
        """Do the work of the first product alone: its checks, and retained graphs."""
        self._multiply(torch.empty(self._size, 0, dtype=self.dtype, device=self.device))

    def close(self) -> None:
        """Let go of the retained graphs; the next product builds them again."""
        self._graphs.clear()

    @abstractmethod
    def _batch_product(self, index: int) -> AbstractBatchProduct:
        """The curvature of the summed losses of one batch."""

    def _functional(self, run: Run) -> Functional:
        """A quantity of a batch as a function of the parameters; built once."""
        if self._made is None:
            variables = dict(zip(self.names, self.params, strict=True))
            self._made = Functional(
                self.objective.model, variables, run, self.chunk, self.compile
            )
        return self._made

    def _select(
        self, names: Sequence[str], patterns: str | Sequence[str] | None
    ) -> None:
        objective = self.objective
        self.names = matching(names, patterns)
        known: dict[str, nn.Parameter] = dict(
            zip(objective.names, objective.params, strict=True)
        )
        self.params = tuple(known[name] for name in self.names)
        ends = [0, *accumulate(p.numel() for p in self.params)]
        self.slices = {
            name: slice(start, end)
            for name, start, end in zip(self.names, ends, ends[1:], strict=False)
        }
        self._size = ends[-1]
        limits: dict[str, int | None] = {"auto": self.budget, "retained": None}
        self._graphs = RetainedGraphs(objective, limits.get(self.backend, 0))
        self._made = None

    def _multiply(self, block: Tensor) -> Tensor:
        objective = self.objective
        terms = self.terms()
        with objective.measuring():
            columns = block.T.contiguous()  # a copy of one column would be slow
            columns = columns.clone() if columns.is_inference() else columns
            total = torch.zeros_like(columns)
            self._graphs.notice_changes()
            with twice_differentiable(objective.model):
                if not self._sound:
                    self._check()
                for index in range(len(objective.batches)):
                    part = self._batch_product(index)
                    # Only the first batch is compared: a check of all of them would
                    # cost more than the products.
                    if self.check and not self._sound:
                        part = self._examined(part)
                    self._sound = True
                    part.add_products(columns, total)
            # Sums of all processes before the division by all terms: shards may
            # differ in size, and a mean of means would weigh them wrongly.
            self.ranks.add(total)
            total.div_(terms)
            for name, shift in self.shifts().items():
                if shift:
                    own = self.slices[name]
                    total[:, own].add_(columns[:, own], alpha=shift)
        self.products += len(total)
        objective.cost += Cost(products=len(total))
        return total.T

    def _check(self) -> None:
        """Refuse sparse gradients, and losses that are not repeatable."""
        objective = self.objective
        check_dense(objective.model)
        if self.check:
            objective.check_repeatable()
        if self.backend == "func":
            check_unrandom(objective)

    def _examined(self, part: AbstractBatchProduct) -> AbstractBatchProduct:
        """The product of the first batch, after a check of its custom functions."""
        objective = self.objective
        custom = self._graphs.custom
        if self.backend == "func":
            custom = custom_functions([objective.batch_losses(0)])
            objective.cost += Cost(forwards=1 / len(objective.batches))
        if not custom or self.backend == "finite_difference":
            return part
        self._compare(custom[0])
        return self._batch_product(0)

    def _compare(self, name: str) -> None:
        """Refuse products that differ from differences of gradients."""
        self.close()  # differences spoil graphs
        other = copy.copy(self)
        other.backend = "finite_difference"
        differences = other._batch_product(0)
        assert isinstance(differences, AbstractDifferences)
        check_products(lambda: self._batch_product(0), differences, name)
        passes = 4 / len(self.objective.batches)
        self.objective.cost += Cost(gradients=passes)


def _check_settings(
    budget: int, backend: str, chunk: int, compile: bool, weight_decay: float
) -> None:
    check_range("budget", budget, 0)
    if backend not in get_args(Backend):
        known = ", ".join(map(repr, get_args(Backend)))
        raise SettingError(f"backend must be one of {known}, got {backend!r}.")
    check_count("chunk", chunk, 1)
    if compile and backend != "func":
        raise SettingError(f"compile needs backend='func', got {backend!r}.")
    check_range("weight_decay", weight_decay)
