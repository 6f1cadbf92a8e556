"""The mean loss as a function of the parameters, on fixed data.

Every loss term (a sample, or a token of a sequence) weighs alike, also in a short
last batch. The model comes back unchanged: parameters, buffers, gradients, modes and
random state, also after an exception.

Shape letters: N loss terms, B batch, P parameter tensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from steppe.batches import batches_of, digest_of, error_of_mean, on_device
from steppe.errors import (
    DataError,
    SettingError,
    UsageError,
    check_choice,
    check_count,
    check_integer,
)
from steppe.losses import (
    L2,
    BatchLoss,
    Likelihood,
    is_per_value,
    likelihood,
    named_loss,
)
from steppe.measuring.batch_norm import Statistics
from steppe.measuring.evaluation import (
    Evaluation,
    WithoutGraph,
    checked_losses,
    evaluated,
    with_outputs,
)
from steppe.measuring.model_state import differs, forked, measured, unwritten
from steppe.measuring.modes import NORMS, Mode
from steppe.parameters import trainable
from steppe.results import Cost, Estimate
from steppe.seeds import seed_of


def check_objective(objective: Any, what: str) -> None:
    """Refuse anything but an objective, such as a model.

    Args:
        objective: what was given.
        what: the function or class it was given to.
    """
    if not isinstance(objective, Objective):
        raise SettingError(
            f"{what} needs a steppe.Objective, got {type(objective).__name__}; make "
            "one of the model and its data: steppe.Objective(model, (x, y))."
        )


class Objective:
    """Mean loss of a model on fixed data, ready to be measured.

    Args:
        model: its parameters that require a gradient are the variables.
        data: a tuple `(inputs, targets)` of tensors with equal first length, a
            `DataLoader` or `Dataset` (read once and kept, so that shuffling and
            augmentation are frozen), or a list of batches of any kind.
        loss: "cross_entropy" or "mse" for batches `(inputs, targets)`; a torch loss
            module with `reduction="none"` or a function of `torch.nn.functional` for
            the same; any other callable is called as `loss(model, batch)` and returns
            one loss per sample or token; it may differentiate the model itself. Losses
            that torch gives for each value, such as squared errors, are averaged over
            the values of a sample. Classes lie
            along dimension 1 of the outputs, or along the last one: logits (B, T, C)
            with targets (B, T) are a term for each token. Targets of torch's
            `ignore_index` are no loss terms.
        mode: "eval" measures the network as it predicts (batch norm is then an affine
            layer of its running statistics); "reestimate" the same with statistics of
            all of the data at every point that is evaluated, for one more pass at each,
            constants in derivatives; "train" uses batch statistics and dropout, the
            same masks in every pass.
        batch_size: rows per batch when tensors or a `Dataset` are given.
        seed: of the random masks in mode "train".
        penalty: of the weights that require a gradient, such as `L2(1e-4)`, which is
            added to the mean over the loss terms and is none of them: values, gradients
            and the matrices of second derivatives have it, Fisher matrices and
            per-sample quantities do not.
        about: facts for results, such as the augmentation: plain values by name.

    Raises:
        SettingError: no parameter to differentiate, an unknown loss or mode, or a loss
            that averages or weighs its terms.
        DataError: no samples, or data of another form; also when measuring.
        UsageError: when measuring, a parameter was replaced or frozen since, or made
            under `torch.inference_mode`; a model that writes to its parameters, or
            calls `backward()` inside.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> Objective(model, data, loss="mse").value().value
        1.0
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: str | BatchLoss = "cross_entropy",
        *,
        mode: Mode = "eval",
        batch_size: int = 256,
        seed: int = 0,
        penalty: L2 | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice("mode", mode, get_args(Mode))
        check_count("batch_size", batch_size, 1)
        check_integer("seed", seed)
        self.model = model
        self.loss = loss
        self.mode = mode
        self.seed = seed
        self.penalty = penalty
        self.about = dict(about or {})
        self.cost = Cost()
        self.checks = Cost()  # of it, passes that only look at the loss, once
        named = trainable(model)
        self.loss_name, self._loss = named_loss(loss)
        self.likelihood: Likelihood | None = likelihood(loss)  # None: not known
        self._per_value = is_per_value(loss)
        self.names: tuple[str, ...] = tuple(named)
        self.params: tuple[nn.Parameter, ...] = tuple(named.values())
        with torch.inference_mode(False), forked(model):
            self.batches: Sequence[Any] = batches_of(data, batch_size)
        # Of each batch the number that names its random masks, also in a part of them.
        self.numbers: Sequence[int] = range(len(self.batches))
        self._count: int | None = None
        self._without_graph = WithoutGraph(model)
        self._digest: str | None = None
        self._statistics = Statistics(model)
        self._writes_nothing = self._repeats = False  # neither is known yet

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.params[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the first parameter."""
        return self.params[0].dtype

    @property
    def details(self) -> dict[str, Any]:
        """Settings that numbers measured on this objective depend on."""
        averaged = {"reduction": "mean over the values of a sample"}
        return {
            "loss": self.loss_name,
            **(averaged if self._per_value else {}),
            "mode": self.mode,
            **({"batch_norm": NORMS[self.mode]} if self._statistics.layers else {}),
            "terms": self.count(),
            "data": self.digest,
            "dtype": str(self.dtype).removeprefix("torch."),
            **({"penalty": str(self.penalty)} if self.penalty else {}),
            **self.about,
        }

    @property
    def digest(self) -> str:
        """Names the samples and their order: the start of the SHA-256 of the batches.

        Batches of other things than tensors, arrays and plain values have no digest of
        their content; theirs begins with "unknown".
        """
        if self._digest is None:
            self._digest = digest_of(self.batches)
        return self._digest

    @property
    def term_details(self) -> dict[str, Any]:
        """The same for numbers of the loss terms alone, without a penalty."""
        left_out = {"penalty": "left out"} if self.penalty else {}
        return self.details | left_out

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Switch the mode; put everything but the parameters back; see `measured`."""
        variables = dict(zip(self.names, self.params, strict=True))
        with measured(self.model, variables, training=self.mode == "train"):
            self.renew_statistics()
            yield

    def renew_statistics(self) -> None:
        """In mode "reestimate", fit running statistics to the weights as they are now.

        Call it inside `measuring()` after weights were moved; `mean_loss` does.
        """
        if self.mode != "reestimate":
            return
        if self._statistics.renew(self.params, self.batches, self._forward):
            self.cost += Cost(forwards=1)

    def _forward(self, _model: nn.Module, batch: Any) -> None:
        self._without_graph(lambda: self.losses_on(batch))

    def batch_losses(self, index: int) -> Tensor:
        """Loss terms of one batch, shape (terms,); call it inside `measuring()`."""
        return self.losses_on(self.batch(index))

    def batch_values(self, index: int) -> Tensor:
        """The same without a graph to the parameters; inside `measuring()`."""
        return self._without_graph(lambda: self.batch_losses(index)).detach()

    def evaluate(self, visit: Callable[[Evaluation], None]) -> None:
        """Run the model on all batches once, in the order of the data.

        Args:
            visit: called with the outputs and losses of each batch.
        """
        with self.measuring():
            self.run(visit, features=True)
        self.cost += Cost(forwards=1)

    def run(
        self, visit: Callable[[Evaluation], None], *, features: bool = False
    ) -> None:
        """The same inside `measuring()`; whoever calls it counts the cost.

        With `features` the inputs of the last linear layer are kept, too.
        """
        terms = 0
        look = evaluated if features else with_outputs
        self.renew_statistics()
        with self._unwritten():
            for batch in map(self.batch, range(len(self.batches))):
                losses = partial(self.losses_on, batch)
                seen = self._without_graph(partial(look, self.model, batch, losses))
                terms += seen.losses.numel()
                visit(seen)
        self.note_terms(terms)

    def batch(self, index: int) -> Any:
        """One batch on the device, and random state for its masks in mode "train"."""
        batch = on_device(self.batches[index], self.device)
        if self.mode == "train":
            torch.manual_seed(seed_of(self.seed, self.numbers[index]))
        return batch

    def losses_on(self, batch: Any) -> Tensor:
        """Loss terms of a batch on the device, shape (terms,); inside `measuring()`."""
        return checked_losses(self._loss(self.model, batch))

    def count(self) -> int:
        """Number N of loss terms in the data."""
        if self._count is None:
            self.losses()
            self.checks += Cost(forwards=1)
        assert self._count is not None
        return self._count

    def losses(self) -> Tensor:
        """All loss terms in the order of the data, shape (N,); no penalty is one."""
        return torch.cat(self._losses())

    def _losses(self) -> list[Tensor]:
        with self.measuring(), self._unwritten():
            values = [self.batch_values(i) for i in range(len(self.batches))]
        self.cost += Cost(forwards=1)
        self.note_terms(sum(losses.numel() for losses in values))
        return values

    def mean_loss(self) -> Tensor:
        """Mean loss, shape (), float64, on the device; inside `measuring()`.

        The penalty is in it. It has no graph to the parameters.
        """
        self.renew_statistics()
        with self._unwritten():
            batches = [self.batch_values(i) for i in range(len(self.batches))]
        terms = self.note_terms(sum(losses.numel() for losses in batches))
        total = torch.stack([losses.double().sum() for losses in batches]).sum()
        return total / terms + self.penalty_value()

    def penalty_value(self) -> float:
        """The penalty at the present parameters; 0 where there is none."""
        if self.penalty is None:
            return 0.0
        with torch.no_grad():
            return float(self.penalty(p.double() for p in self.params))

    def value(self) -> Estimate:
        """Mean loss; the standard error is that of a mean over N drawn samples.

        With a penalty the details hold it apart, as "penalty_value".

        Terms of one sample, such as tokens of a text, are taken for independent too. It
        is infinite for a single sample, which says nothing of others. In mode "train"
        samples of a batch may share statistics and random draws; with several batches
        the error is at least that of a mean over drawn batches, with a single one, what
        it shares is left out. So is a draw that all batches share, such as one that a
        loss of your own holds fixed.
        """
        before = self.cost
        estimate = self.value_of(self._losses())
        return dataclasses.replace(estimate, cost=self.cost - before)

    def value_of(self, batches: Sequence[Tensor]) -> Estimate:
        """The same from loss terms that are known, of each batch in shape (terms,)."""
        batches = [losses.double() for losses in batches]
        penalty = self.penalty_value()
        apart = {"penalty_value": penalty} if self.penalty else {}
        return Estimate(
            value=float(torch.cat(batches).mean()) + penalty,
            stderr=error_of_mean(batches, dependent=self.mode == "train"),
            samples=self.count(),
            details={**self.details, **apart},
            units="loss",
        )

    def gradient(self) -> list[Tensor]:
        """Gradient of the mean loss, P tensors in the order of `params`."""
        with self.measuring():
            return self.gradient_here()

    def gradient_here(self) -> list[Tensor]:
        """The same inside `measuring()`, for many gradients at points on a way."""
        terms = 0
        self.renew_statistics()
        with self._unwritten(), torch.enable_grad():
            total = [torch.zeros_like(p) for p in self.params]
            for index in range(len(self.batches)):
                losses = self.batch_losses(index)
                terms += losses.numel()
                if not losses.requires_grad:  # no parameter has an influence
                    continue
                grads = torch.autograd.grad(
                    losses.sum(), self.params, materialize_grads=True
                )
                torch._foreach_add_(total, list(grads))
        self.cost += Cost(gradients=1)
        torch._foreach_div_(total, float(self.note_terms(terms)))
        if self.penalty is not None:
            for gradient, p in zip(total, self.params, strict=True):
                gradient.add_(p.detach(), alpha=self.penalty.curvature(p))
        return total

    def check_repeatable(self) -> None:
        """Refuse a loss that is random; the first batch is run twice, once for all.

        Whatever is measured in several passes, or is said to be exact, asks for this.

        Raises:
            UsageError: the two passes differ, or they change a parameter.
        """
        if self._repeats:
            return
        with self.measuring(), self._unwritten():
            random, passes = differs(
                self.model, lambda: self.batch_values(0), self.dtype
            )
        spent = Cost(forwards=passes / len(self.batches))
        self.cost += spent
        self.checks += spent
        if random:
            raise UsageError(
                "the loss is not deterministic: two passes over the first batch differ;"
                " freeze what is random in the loss or the model, or measure in "
                "mode='train', where every pass draws the same."
            )
        self._repeats = True

    def note_terms(self, terms: int) -> int:
        """Keep the number N of loss terms, and refuse none at all."""
        if not terms:
            raise DataError(
                "the data holds no loss term; give at least one target that is not "
                "ignored."
            )
        self._count = terms
        return terms

    @contextmanager
    def _unwritten(self) -> Iterator[None]:
        """Once, see to it that passes leave parameters alone; inside `measuring()`."""
        if self._writes_nothing:
            yield
            return
        with unwritten(self.model):
            yield
        self._writes_nothing = True
