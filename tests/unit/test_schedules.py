"""Schedules at their ends, in the middle and beyond, against values by hand."""

import math
from fractions import Fraction

import pytest
import torch

from steppe.errors import SettingError
from steppe.optimizers import OPTIMIZERS, SAM
from steppe.schedules import (
    Constant,
    Cosine,
    CosineIncrease,
    DivideEveryK,
    Lagging,
    Linear,
    MultiStep,
    Piecewise,
    Poly,
    Proportional,
    Step,
    Warmup,
    published_gsam,
)

T, W = 10, 3
AT = (0, 1, W, W + 1, T - 1, T, T + 1, 10 * T)  # where tables have their columns
SHORT = 1 / 7  # of the seven steps after the warm-up


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), [0.3] * 8),
        (
            Linear(1.0, 0.3, T, W),
            [0.25, 0.5, 1.0, 0.9, 0.4, 0.3, 0.3, 0.3],
        ),
        (
            Linear(1.0, 0.3, T, W, warmup_start=0.1),
            [0.1, 0.4, 1.0, 0.9, 0.4, 0.3, 0.3, 0.3],
        ),
        (
            Cosine(1.0, 0.2, T, W, warmup_start=0.0),
            [
                *(0.0, 1 / 3, 1.0),
                0.6 + 0.4 * math.cos(math.pi * SHORT),
                0.6 + 0.4 * math.cos(math.pi * (1 - SHORT)),
                *(0.2, 0.2, 0.2),
            ],
        ),
        (
            Poly(1.0, 0.2, T, warmup=W),
            [
                *(0.25, 0.5, 1.0, 1.0),
                0.2 + 0.8 / math.sqrt(6),
                *[0.2 + 0.8 / math.sqrt(7)] * 3,
            ],
        ),
        (
            Poly(1.0, 0.2, T, order=-1.0, warmup=W),
            [*(0.25, 0.5, 1.0, 1.0), 0.2 + 0.8 / 6, *[0.2 + 0.8 / 7] * 3],
        ),
        (Poly(1.0, 0.2, T, order=0.0, warmup=W), [0.25, 0.5, *[1.0] * 6]),
        (
            MultiStep(1.0, (4, 9), 0.5, W, warmup_start=0.4),
            [0.4, 0.6, 1.0, 0.5, 0.25, 0.25, 0.25, 0.25],
        ),
        (
            Step(1.0, T, 0.5, (0.4, 0.9), W, warmup_start=0.4),
            [0.4, 0.6, 1.0, 0.5, 0.25, 0.25, 0.25, 0.25],
        ),
        (Piecewise((3, 9), (0.2, 0.7, 0.1)), [*[0.2] * 2, *[0.7] * 2, *[0.1] * 4]),
        (Piecewise((), (0.4,)), [0.4] * 8),
        (
            DivideEveryK(1.0, k=3, divisor=4.0),
            [1.0, 1.0, *[0.25] * 2, *[1 / 64] * 3, 4.0**-33],
        ),
        (
            Warmup(Linear(1.3, 0.3, T), W, first=0.1),
            [0.1, 0.4, 1.0, 0.9, 0.4, 0.3, 0.3, 0.3],
        ),
        (
            CosineIncrease(0.5, 15, T),
            [
                *(0.5 + 3.5 * (1 - math.cos(math.pi * t / T)) for t in AT[:5]),
                *(7.5, 7.5, 7.5),
            ],
        ),
    ],
    ids=str,
)
def test_the_table_of_a_schedule(schedule, expected):
    assert [schedule(t) for t in AT] == pytest.approx(expected, rel=1e-13)
    assert schedule(-5) == schedule(0)


def test_a_cosine_falls_along_half_a_period_and_stays_down():
    schedule = Cosine(1.0, 0.2, steps=4)
    expected = [0.2 + 0.4 * (1 + math.cos(math.pi * t / 4)) for t in range(5)]
    assert [schedule(t) for t in range(5)] == pytest.approx(expected, rel=1e-15)
    assert (schedule(0), schedule(2), schedule(4), schedule(99)) == pytest.approx(
        (1.0, 0.6, 0.2, 0.2)
    )


def test_warm_up_rises_evenly_from_above_zero_and_ends_at_the_start_value():
    schedule = Cosine(1.0, 0.0, steps=7, warmup=3)
    assert [schedule(t) for t in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert schedule(5) == pytest.approx(0.5)
    assert schedule(7) == pytest.approx(0.0)


def test_a_warm_up_may_last_for_the_whole_schedule():
    schedule = Linear(1.0, 0.0, steps=3, warmup=3)
    assert [schedule(t) for t in (0, 2, 3, 4)] == [0.25, 0.75, 0.0, 0.0]


def test_steps_change_the_value_at_their_milestones():
    schedule = MultiStep(1.0, milestones=(2, 4), factor=0.1)
    values = [schedule(t) for t in range(6)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = MultiStep(1.0, milestones=(5,), warmup=3)
    assert [warm(t) for t in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("share", ["0.29", "0.3", "0.6", "0.7", "0.8"])
def test_a_share_of_the_steps_is_rounded_down_exactly(share):
    for steps in range(1, 400):
        milestone = math.floor(Fraction(share) * steps)
        schedule = Step(1.0, steps, factor=0.5, shares=(float(share),))
        assert schedule(milestone) == 0.5
        assert milestone == 0 or schedule(milestone - 1) == 1.0


def test_the_published_step_rule_is_a_fifth_at_three_shares():
    """Of 200 epochs of 391 steps: by the epoch as in the authors' programs."""
    schedule = Step(0.1, 200 * 391, factor=0.2, shares=(0.3, 0.6, 0.8))
    for epoch in range(200):
        passed = sum(epoch >= 200 * n / 10 for n in (3, 6, 8))
        for step in (epoch * 391, epoch * 391 + 390):
            assert schedule(step) == pytest.approx(0.1 * 0.2**passed, rel=1e-13)


def test_the_published_halving_is_that_of_its_table():
    """Of VGG-11: a list of the epoch a rate lasts to, and the rate."""
    table = [[25 * (i + 1), 0.1 / 2**i] for i in range(300 // 25)]
    schedule = DivideEveryK(0.1, k=25, divisor=2.0)
    for epoch in range(300):
        rate = next(rate for end, rate in table if epoch < end)
        assert schedule(epoch) == pytest.approx(rate, rel=1e-15)


@pytest.mark.parametrize(
    ("lr", "rho"),
    [(0.1, 0.6), (0.0505, 0.35), (0.001, 0.1), (0.0, 0.1), (0.2, 0.6)],
)
def test_a_proportional_value_follows_the_learning_rate_between_its_ends(lr, rho):
    schedule = Proportional(0.6, 0.1, max_lr=0.1, min_lr=0.001)
    assert schedule.of_group(7, {"lr": lr}) == pytest.approx(rho, rel=1e-14)
    assert schedule.of_group(7, {"lr": torch.tensor(lr)}) == pytest.approx(rho)


def test_a_proportional_value_of_a_constant_rate_is_the_highest():
    schedule = Proportional(0.6, 0.1, max_lr=0.1, min_lr=0.1)
    assert [schedule.of_group(0, {"lr": lr}) for lr in (0.0, 0.1, 1.0)] == [0.6] * 3


PUBLISHED = [  # T = 10, W = 3: what the published code logs as (lr, rho)
    *((0.1, 0.095), (0.0, 0.095), (0.033, 0.263), (0.067, 0.432), (0.1, 0.6)),
]


def test_the_published_order_of_gsam_is_one_step_late_and_begins_out_of_range():
    meant = Linear(0.1, 0.001, T, W, warmup_start=0.0)
    lr, rho = published_gsam(meant, max_lr=0.1, min_lr=0.001, max_rho=0.6, min_rho=0.1)
    found = [(round(lr(t), 3), round(rho(t), 3)) for t in range(5)]
    assert found == PUBLISHED
    for t in range(5, T + 2):  # then the line, from step W + 1 to step T + 1
        share = 1 - (t - 4) / 7
        assert lr(t) == pytest.approx(0.001 + 0.099 * share, abs=1e-15)
        assert rho(t) == pytest.approx(0.1 + 0.5 * share, abs=1e-14)


def test_the_order_of_the_formulas_has_no_lag():
    meant = Linear(0.1, 0.001, T, W, warmup_start=0.0)
    rho = Proportional(0.6, 0.1, max_lr=0.1, min_lr=0.001)
    found = [(meant(t), rho.of_group(t, {"lr": meant(t)})) for t in (0, 2, 3, 10)]
    between = 0.1 + 0.5 * (0.2 / 3 - 0.001) / 0.099
    expected = [(0.0, 0.1), (0.2 / 3, between), (0.1, 0.6), (0.001, 0.1)]
    assert found == [pytest.approx(pair, abs=1e-14) for pair in expected]


def test_a_lagging_schedule_gives_the_value_of_the_step_before():
    late = Lagging(MultiStep(1.0, (2,)), first=7.0)
    assert [late(t) for t in range(5)] == pytest.approx([7.0, 1.0, 1.0, 0.1, 0.1])


def sam(schedule, **group):
    weight = torch.nn.Parameter(torch.ones(1))
    other = torch.nn.Parameter(torch.ones(1))
    groups = [{"params": [weight]}, {"params": [other], **group}]
    return SAM(torch.optim.SGD(groups, lr=0.1), rho=schedule)


def step(optimizer):
    for _ in optimizer.passes():
        sum(p.sum() for g in optimizer.param_groups for p in g["params"]).backward()
    radii = [group["rho"] for group in optimizer.param_groups]
    optimizer.step()
    return radii


def test_an_optimizer_takes_the_value_at_the_learning_rate_of_the_step():
    optimizer = sam(Proportional(0.6, 0.1, max_lr=0.1), lr=0.05)
    assert [group["rho"] for group in optimizer.param_groups] == [0.6, 0.35]
    assert step(optimizer) == pytest.approx([0.6, 0.35])
    for group in optimizer.param_groups:
        group["lr"] /= 5
    assert step(optimizer) == pytest.approx([0.2, 0.15])


def test_a_group_keeps_its_own_value_under_a_schedule():
    optimizer = sam(Proportional(0.6, 0.1, max_lr=0.1), rho=0.25)
    assert step(optimizer) == pytest.approx([0.6, 0.25])


def test_the_registry_leaves_schedules_to_the_optimizer():
    base = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.05)
    text = "sam:rho=proportional(0.6,0.1,0.1)"
    optimizer = OPTIMIZERS.build(text, base)
    assert step(optimizer) == pytest.approx([0.35])


def test_a_plain_function_is_a_schedule():
    optimizer = sam(lambda t: 0.1 + t)
    assert [step(optimizer)[0] for _ in range(3)] == pytest.approx([0.1, 1.1, 2.1])


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(0.1, -0.1, steps=100),
        CosineIncrease(0.1, -1.0, steps=100),
        Proportional(0.6, -0.1, max_lr=0.1),
    ],
)
def test_a_schedule_that_will_leave_the_range_is_refused_at_once(schedule):
    with pytest.raises(SettingError, match=r"rho must be >= 0, got -0\.1"):
        sam(schedule)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Cosine(1.0, 0.0, steps=0),
        lambda: Cosine(1.0, 0.0, steps=3, warmup=4),
        lambda: Cosine(1.0, 0.0, steps=3, warmup=-1),
        lambda: Linear(1.0, 0.0, steps=3, warmup=4),
        lambda: Poly(1.0, 0.0, steps=0),
        lambda: Poly(1.0, 0.0, steps=3, order=0.5),
        lambda: Proportional(0.1, 0.6, max_lr=0.1),
        lambda: Proportional(0.6, 0.1, max_lr=0.1, min_lr=0.2),
        lambda: published_gsam(
            Constant(0.1), max_lr=0.1, min_lr=0.1, max_rho=0.6, min_rho=0.1
        ),
        lambda: CosineIncrease(1.0, 2.0, steps=0),
        lambda: MultiStep(1.0, milestones=(4, 2)),
        lambda: MultiStep(1.0, milestones=(4, math.inf)),
        lambda: MultiStep(1.0, milestones=(4,), warmup=-1),
        lambda: Step(1.0, 10, shares=(0.5, 1.5)),
        lambda: Step(1.0, 10, shares=(0.75, 0.5)),
        lambda: Warmup(Constant(1.0), steps=-1),
        lambda: Piecewise((4, 2), (1.0, 2.0, 3.0)),
        lambda: Piecewise((2, 4), (1.0, 2.0)),
        lambda: Piecewise((2,), (1.0, math.nan)),
        lambda: DivideEveryK(1.0, k=0),
        lambda: DivideEveryK(1.0, k=3, divisor=0.5),
    ],
)
def test_settings_out_of_range_are_one_sentence(wrong):
    with pytest.raises(SettingError, match="got"):
        wrong()
