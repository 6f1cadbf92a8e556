"""The time that measures of a checkpoint take, said before they begin."""

from __future__ import annotations

import pytest
import torch

from steppe.errors import UsageError
from steppe.objective import Objective
from steppe_lab.analysis import prices
from steppe_lab.analysis.prices import price_of


@pytest.fixture
def objective():
    data = (torch.randn(10, 3), torch.randn(10, 1))
    return Objective(torch.nn.Linear(3, 1), data, "mse", batch_size=4)


def timed(monkeypatch, forward, product):
    """Passes and products of the first batch take these seconds."""
    monkeypatch.setattr(prices, "_seconds", lambda work: forward)
    monkeypatch.setattr(prices, "two_products", lambda first: (9.0, product))


def test_a_minute_or_less_is_not_said(objective, monkeypatch):
    timed(monkeypatch, 0.01, 9.0)
    assert price_of(objective, ["trace", "lpf"]) is None
    timed(monkeypatch, 0.1, 0.01)  # the passes promise more than products take
    assert price_of(objective, ["trace"]) is None


def test_more_is_said_with_the_work_and_the_samples(objective, monkeypatch):
    timed(monkeypatch, 1.0, 6.0)
    # 10 rows are 2.5 times the first batch: 12 x 3 x 2.5 s + 230 x 15 s = 59 minutes.
    assert price_of(objective, ["trace:rtol=0.1"]) == (
        "trace may take 12 gradients, 230 Hessian products over 10 samples, about 59 "
        "min on this machine; fewer --samples take less."
    )


def test_networks_that_refuse_products_have_no_price(objective, monkeypatch):
    timed(monkeypatch, 1.0, 6.0)

    def refused(first):
        raise UsageError("no second derivatives.")

    monkeypatch.setattr(prices, "two_products", refused)
    assert price_of(objective, ["trace"]) is None


def test_passes_of_a_batch_are_timed_and_leave_no_cost(objective):
    assert prices._seconds(lambda: prices._pass(objective)) > 0
    before = objective.cost
    assert price_of(objective, ["trace", "top_eigenvalue"]) is None
    assert objective.cost == before
