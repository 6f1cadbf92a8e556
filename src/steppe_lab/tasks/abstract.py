"""The interface of tasks, and the registry of them.

Shape letters: B batch, C classes, K values of a target.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, TypeAdapter
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.losses import LabelSmoothing
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec
from steppe_lab.datasets.samples import AbstractSamples, CountedTargets
from steppe_lab.tasks.corpus import CorpusScores

TASKS: Registry[Spec] = Registry("task", Spec)
Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number about a network on some samples: the mean of a value of each term.

    With the link "exp" it is the exponential of that mean, as a perplexity is.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str  # after "train_" and "test_" in rows
    title: str  # in tables and sentences, after "test"
    units: str
    better: Literal["smaller", "larger"] = "smaller"
    share: bool = False  # each value is 0 or 1, so that the mean is shown in percent
    opposite: str = ""  # name of 1 minus a share
    link: Literal["identity", "exp"] = "identity"  # from the mean to the number

    def of_mean(self, mean: float) -> float:
        """The number that a mean of values stands for; infinite beyond all floats."""
        if self.link == "identity":
            return mean
        try:
            return math.exp(mean)
        except OverflowError:
            return math.inf


ERROR = Metric(
    name="error",
    title="error",
    units="share of samples",
    share=True,
    opposite="accuracy",
)
_METRIC = TypeAdapter(Metric)
_METRICS = TypeAdapter(tuple[Metric, ...])


def stored_headline(result: Mapping[str, Any]) -> Metric:
    """The headline metric in the result of a training: plain data, which runs no code.

    Results from before there were tasks are of classification.

    Raises:
        ValidationError: of pydantic; the record is no metric.
    """
    # The record holds the metric, since the task may be code that is not at hand now.
    return _METRIC.validate_python(result.get("headline", asdict(ERROR)))


def stored_corpus_metrics(result: Mapping[str, Any]) -> tuple[Metric, ...]:
    """The corpus metrics in the result of a training; none where it has no entry.

    Raises:
        ValidationError: of pydantic; the record is no list of metrics.
    """
    return _METRICS.validate_python(result.get("corpus_metrics", ()))


class AbstractTask(ABC):
    """The loss that is learnt, and the metrics that networks are judged by.

    Attributes:
        loss_name: the plain loss as `steppe.Objective` takes it, for batches of inputs
            and targets.
        of_classes: whether targets are classes, which can be smoothed.
        of_tokens: whether the terms of a sample are its tokens to predict.
        smoothing: of the classes in the loss; None for none.
        headline: the metric that networks are judged by.
        others: further metrics.
        corpus_metrics: those of all samples at once, which are no means.
        signatures: of corpus metrics by name, as their library says how it computes
            them.
        decoding: settings of the search for the texts that they are of; they stand in
            no signature, and two numbers of one kind have both alike.
    """

    loss_name: ClassVar[str]
    headline: ClassVar[Metric]
    others: ClassVar[tuple[Metric, ...]] = ()
    corpus_metrics: ClassVar[tuple[Metric, ...]] = ()
    of_classes: ClassVar[bool] = False
    of_tokens: ClassVar[bool] = False
    smoothing: LabelSmoothing | None = None
    signatures: Mapping[str, str] = MappingProxyType({})
    decoding: Mapping[str, int | float] = MappingProxyType({})

    @property
    def objective_loss(self) -> str | LabelSmoothing:
        """The loss as `steppe.Objective` takes it."""
        return self.smoothing or self.loss_name

    def smoothed(self, smoothing: LabelSmoothing) -> Self:
        """This task with smoothed classes in its loss; metrics stay as they are.

        Raises:
            SettingError: a task without classes.
        """
        if not self.of_classes:
            raise SettingError(
                "label smoothing needs a task of classes, got "
                f"{type(self).__name__}; leave --label-smoothing out."
            )
        task = copy.copy(self)
        task.smoothing = smoothing
        return task

    @property
    def notes(self) -> list[str]:
        """Sentences on its metrics that a reader of results must know."""
        titles = {m.name: m.title for m in self.corpus_metrics}
        settings = ", ".join(f"{name}={value}" for name, value in self.decoding.items())
        texts = f", of texts searched for with {settings}" if settings else ""
        return [
            f"{titles[name]} has the signature {signature}{texts}"
            for name, signature in self.signatures.items()
        ]

    def metric(self, name: str) -> Metric:
        """The metric of a name."""
        (metric,) = (m for m in (self.headline, *self.others) if m.name == name)
        return metric

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Loss of a batch, over its terms; "none" gives that of each term."""

    @abstractmethod
    def terms(self, targets: Tensor) -> Tensor:
        """Number of terms that each sample has in the mean loss of a batch, (B,).

        It is 1, unless the loss is one of each position of a sequence, where those that
        are padding do not count.
        """

    def terms_of(self, samples: AbstractSamples, positions: Tensor | slice) -> Tensor:
        """The same of samples at some positions, (B,), on the host."""
        if self.of_tokens and isinstance(samples, CountedTargets):
            return samples.counts_at(positions)
        return self.terms(samples.targets_at(positions))

    @abstractmethod
    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Values of each term by the name of the metric, one dimension each.

        They are in the order of the samples.
        """

    @abstractmethod
    def corpus_scores(self, model: nn.Module, samples: AbstractSamples) -> CorpusScores:
        """Values of the corpus metrics, each with a standard error over the samples.

        Args:
            model: which is left as it was.
            samples: N of them.
        """

    @abstractmethod
    def check_targets(self, targets: Tensor) -> str | None:
        """A half sentence on the rule that targets break; None where they keep it."""

    @abstractmethod
    def check_outputs(self, outputs: Any, targets: Tensor, size: int) -> str | None:
        """A half sentence on the rule that outputs break; None where they keep it.

        Args:
            outputs: of a model.
            targets: of the same samples.
            size: number of outputs that the model was built for.
        """
