"""Metrics that a model updates itself count every batch once, whatever a step costs."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import loops
import steppe
from integrations.lightning_modules import Plain, SteppeModule, fit
from steppe.objective import Objective

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that torchmetrics imports
    import torchmetrics
    from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC

pytestmark = [  # what Lightning itself causes or advises
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You are using the `weight` argument"),
]

METRICS = {
    "sums": lambda: MulticlassAccuracy(3),
    "lists": lambda: MulticlassAUROC(3),
    "collection": lambda: torchmetrics.MetricCollection(
        [MulticlassAccuracy(3, average="macro"), MulticlassAUROC(3)]
    ),
    "shared states": lambda: torchmetrics.MetricCollection(
        {"macro": MulticlassAccuracy(3), "each": MulticlassAccuracy(3, average=None)}
    ),
    "wrapper": lambda: torchmetrics.MinMaxMetric(MulticlassAccuracy(3)),
    "window": lambda: torchmetrics.wrappers.Running(MulticlassAccuracy(3), window=2),
}
EVERY_METRIC = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())


class Scored(nn.Module):
    """A model that updates a metric where it computes its loss."""

    def __init__(self, metric: Any) -> None:
        super().__init__()
        self.net = loops.make_model()
        self.metric = metric

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = self.net(x)
        self.metric(out.detach().softmax(1), y)
        return F.cross_entropy(out, y)


def sam(model: nn.Module, /, **more: Any) -> Any:
    return steppe.SAM(loops.momentum(model), rho=0.3, **more)


def lpf(model: nn.Module, /, **more: Any) -> Any:
    return steppe.LPFSGD(loops.momentum(model), gamma=0.0, micro_batches=4, **more)


def entropy(model: nn.Module, /, **more: Any) -> Any:
    return steppe.EntropySGD(loops.momentum(model), inner_lr=0.0, noise=0.0, **more)


def assert_counts(metric: Any, batches: Any, nets: list[nn.Module]) -> None:
    """The metric is as one that saw each batch once, by the net before each step."""
    expected = copy.deepcopy(metric)
    expected.reset()
    for (x, y), net in zip(batches, nets, strict=True):
        expected(net(x).detach().softmax(1), y)
    torch.testing.assert_close(metric.compute(), expected.compute())


@EVERY_METRIC
def test_a_metric_in_the_model_sees_the_first_pass_alone(metric):
    model, nets = Scored(metric()), []
    opt = sam(model, model=model)
    for x, y in loops.batches(3):
        nets.append(copy.deepcopy(model.net))
        for _ in opt.passes():
            model(x, y).backward()
        opt.step()
    assert_counts(model.metric, loops.batches(3), nets)


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("make", [sam, lpf])
@pytest.mark.parametrize("statistics", ["first", "all"])
def test_every_row_counts_once_whatever_running_statistics_are_kept(
    make, takes, statistics
):
    model = Scored(torchmetrics.SumMetric())
    model.forward = lambda x, y: counted(model, x, y)  # type: ignore[method-assign]
    opt = make(model, model=model, batch_norm=statistics)
    for x, y in loops.batches(2):
        for _ in opt.passes():
            xs, ys = opt.take(x, y) if takes else (x, y)
            model(xs, ys).backward()
        opt.step()
    assert model.metric.compute() == 2 * loops.ROWS


def counted(model: Scored, x: Tensor, y: Tensor) -> Tensor:
    model.metric.update(len(x))
    return F.cross_entropy(model.net(x), y)


def test_batches_that_each_pass_fetches_for_itself_count_all():
    model = Scored(torchmetrics.SumMetric())
    opt = entropy(model, model=model)
    for _, (x, y) in zip(opt.passes(), loops.batches(5), strict=True):
        counted(model, x, y).backward()
    opt.step()
    assert model.metric.compute() == 5 * loops.ROWS


def test_a_pass_that_fails_leaves_the_metric_of_the_first_one():
    model = Scored(torchmetrics.SumMetric())
    opt = sam(model, model=model)
    x, y = next(loops.batches(1))
    for index in opt.passes():
        counted(model, x, y).backward()
        if index == 1:
            break
    assert model.metric.compute() == loops.ROWS


def test_a_measure_leaves_the_metrics_of_the_model_as_they_were():
    model = Scored(torchmetrics.SumMetric())
    model.metric.update(1)

    def loss(model: Any, batch: Any) -> Tensor:
        x, y = batch
        model.metric.update(len(x))
        return F.cross_entropy(model.net(x), y, reduction="none")

    Objective(model, list(loops.batches(2)), loss=loss).gradient()
    assert model.metric.compute() == 1


class ScoredModule(Plain):
    """Updates a metric of its own and lets Lightning log it."""

    def __init__(self, make: Any, **more: Any) -> None:
        super().__init__(make, **more)
        self.seen = torchmetrics.SumMetric()

    def training_step(self, batch, batch_idx):
        self.seen(len(batch[0]))
        self.log("seen", self.seen, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)


class FlatScored(SteppeModule, ScoredModule):
    pass


def split(model: nn.Module) -> Any:
    return steppe.LPFSGD(loops.momentum(model), gamma=0.1, micro_batches=3)


def alone(model: nn.Module) -> Any:
    return sam(model)


@pytest.mark.parametrize("make", [alone, split, loops.momentum])
@pytest.mark.parametrize("window", [1, 2])
def test_a_metric_of_a_lightning_module_sees_every_row_once(make, window, tmp_path):
    module = FlatScored(make)
    more = {"accumulate_grad_batches": window}
    trainer = fit(module, list(loops.batches(4)), tmp_path, **more)
    assert trainer.callback_metrics["seen_epoch"] == 4 * loops.ROWS
