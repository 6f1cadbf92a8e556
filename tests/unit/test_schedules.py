"""Schedules at their ends, in the middle and beyond."""

import math

import pytest

from steppe.errors import SettingError
from steppe.schedules import Cosine, CosineIncrease, MultiStep


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


def test_the_increase_ends_at_factor_times_start():
    schedule = CosineIncrease(0.5, factor=15, steps=10)
    assert (schedule(0), schedule(5)) == pytest.approx((0.5, 4.0))
    assert schedule(10) == schedule(1000) == pytest.approx(7.5)
    values = [schedule(t) for t in range(11)]
    assert values == sorted(values)


def test_steps_change_the_value_at_their_milestones():
    schedule = MultiStep(1.0, milestones=(2, 4), factor=0.1)
    values = [schedule(t) for t in range(6)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    warm = MultiStep(1.0, milestones=(5,), warmup=3)
    assert [warm(t) for t in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_a_schedule_has_no_state():
    schedule = Cosine(1.0, 0.0, steps=10)
    assert schedule(9) == schedule(9)
    assert schedule(0) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Cosine(1.0, 0.0, steps=0),
        lambda: Cosine(1.0, 0.0, steps=3, warmup=4),
        lambda: Cosine(1.0, 0.0, steps=3, warmup=-1),
        lambda: CosineIncrease(1.0, 2.0, steps=0),
        lambda: MultiStep(1.0, milestones=(4, 2)),
    ],
)
def test_lengths_out_of_range_are_one_sentence(wrong):
    with pytest.raises(SettingError, match="got"):
        wrong()
