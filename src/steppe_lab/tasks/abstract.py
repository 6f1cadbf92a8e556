"""The interface of tasks, and the registry of them.

Shape letters: B batch, C classes, K values of a target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter
from torch import Tensor

from steppe.registry.registry import Registry
from steppe.registry.specs import Spec

TASKS: Registry[Spec] = Registry("task", Spec)
Reduction = Literal["mean", "sum", "none"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number about a network on some samples: the mean of a value of each term."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str  # after "train_" and "test_" in rows
    title: str  # in tables and sentences, after "test"
    units: str
    better: Literal["smaller", "larger"] = "smaller"
    share: bool = False  # each value is 0 or 1, so that the mean is shown in percent
    opposite: str = ""  # name of 1 minus a share


ERROR = Metric(
    name="error",
    title="error",
    units="share of samples",
    share=True,
    opposite="accuracy",
)
_METRIC = TypeAdapter(Metric)


def stored_headline(result: Mapping[str, Any]) -> Metric:
    """The headline metric in the result of a training: plain data, which runs no code.

    Results from before there were tasks are of classification.

    Raises:
        ValidationError: of pydantic; the record is no metric.
    """
    return _METRIC.validate_python(result.get("headline", asdict(ERROR)))


class AbstractTask(ABC):
    """The loss that is learnt, and the metrics that networks are judged by.

    Attributes:
        loss_name: the loss as `steppe.Objective` takes it, for batches of inputs and
            targets.
        headline: the metric that networks are judged by.
    """

    loss_name: ClassVar[str]
    headline: ClassVar[Metric]

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Loss of a batch, over its terms; "none" gives that of each term."""

    @abstractmethod
    def terms(self, targets: Tensor) -> int:
        """Number of terms that the mean loss of a batch is over.

        It is the number of samples, unless the loss is one of each position of a
        sequence, where those that are padding do not count.
        """

    @abstractmethod
    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Values of each term by the name of the metric, one dimension each."""

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
