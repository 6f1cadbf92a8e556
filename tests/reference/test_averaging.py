"""Averages against closed forms, plain recursions and torch's own averages."""

from __future__ import annotations

import io
import math
import random

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

import loops
from loops import base_step, make_model
from steppe import EMA, LAWA, SWA, SWAD
from steppe.errors import CheckpointError, SettingError, UsageError


class Point(nn.Module):
    """A single weight, at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))


def follow(average, weights) -> float:
    """Lead the weight through some values, and tell the average in the end."""
    for weight in weights:
        with torch.no_grad():
            average.model.w.fill_(weight)
        average.update()
    return average.tensors()["w"].item()


# ---- EMA ---------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_ema_of_a_ramp_lags_by_its_closed_form(decay):
    steps = 40
    found = follow(EMA(Point(), decay=decay, warmup=False), range(1, steps + 1))
    expected = steps - decay * (1 - decay**steps) / (1 - decay)
    assert found == pytest.approx(expected, rel=1e-12)


def test_ema_that_warms_up_forgets_the_start_as_a_ratio_of_factorials():
    steps = 12
    found = follow(EMA(Point(), decay=1.0, warmup=True), [1.0] * steps)
    left = math.factorial(steps) * math.factorial(9) / math.factorial(steps + 9)
    assert 1 - found == pytest.approx(left, rel=1e-9)


def test_ema_ends_its_warm_up_at_the_given_decay():
    walk = [math.sin(t) for t in range(1, 30)]
    expected = 0.0
    for t, weight in enumerate(walk):
        decay = min(0.4, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * weight
    found = follow(EMA(Point(), decay=0.4, warmup=True), walk)
    assert found == pytest.approx(expected, rel=1e-12)


def test_ema_every_few_steps_sees_those_weights_only():
    found = follow(
        EMA(Point(), decay=0.5, every=3, warmup=False), [9, 9, 1, 9, 9, 2, 9, 9]
    )
    assert found == 0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 2


def test_a_decay_out_of_range_is_refused():
    for decay in (-0.1, 1.1, math.nan):
        with pytest.raises(SettingError, match="decay must be between 0 and 1, got"):
            EMA(Point(), decay=decay, warmup=False)


def test_ema_equals_that_of_torch_with_and_without_buffers():
    for policy in ("copy", "average"):
        model = make_model(batch_norm=True)
        opt = loops.momentum(model)
        ema = EMA(model, decay=0.9, buffers=policy, warmup=False)
        theirs = swa_utils.AveragedModel(
            model,
            multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9),
            use_buffers=policy == "average",
        )
        theirs.update_parameters(model)  # the initial weights
        for x, y in loops.batches(6):
            base_step(opt, model, x, y)
            ema.update()
            theirs.update_parameters(model)
        expected = theirs.module.state_dict()
        for name, tensor in ema.tensors().items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-14, atol=1e-15)


# ---- SWA and LAWA ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "every", "taken"),
    [
        (0, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (0, 4, [0, 4, 8]),
        (3, 1, [3, 4, 5, 6, 7, 8, 9, 10]),
        (4, 3, [4, 7, 10]),
        (10, 5, [10]),
    ],
)
def test_swa_is_the_mean_of_the_weights_at_its_steps(start, every, taken):
    squares = [t * t for t in range(1, 11)]
    swa = SWA(Point(), start=start, every=every)
    expected = math.fsum(t * t for t in taken) / len(taken)
    assert follow(swa, squares) == pytest.approx(expected, rel=1e-14)
    assert swa.count == len(taken)


def test_swa_equals_that_of_torch():
    model = make_model()
    opt = loops.momentum(model)
    swa, theirs = SWA(model), swa_utils.AveragedModel(model)
    theirs.update_parameters(model)
    for x, y in loops.batches(6):
        base_step(opt, model, x, y)
        swa.update()
        theirs.update_parameters(model)
    expected = dict(theirs.module.named_parameters())
    for name, tensor in swa.tensors().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("k", "every"), [(1, 1), (3, 1), (3, 4), (50, 2)])
def test_lawa_is_the_mean_of_the_last_window(k, every):
    squares = [t * t for t in range(1, 31)]
    taken = [t for t in range(1, 31) if t % every == 0][-k:]
    lawa = LAWA(Point(), k=k, every=every)
    expected = math.fsum(t * t for t in taken) / len(taken)
    assert follow(lawa, squares) == pytest.approx(expected, rel=1e-14)
    assert lawa.count == len(taken)


def test_lawa_forgets_what_left_the_window_without_a_rest():
    lawa = LAWA(Point(), k=2)
    assert follow(lawa, [1e30, 1.0, 2.0]) == 1.5


def test_lawa_goes_on_with_a_shorter_window():
    long, short = LAWA(Point(), k=4), LAWA(Point(), k=2)
    follow(long, [1.0, 2.0, 4.0, 8.0])
    short.load_state_dict(long.state_dict())
    assert short.tensors()["w"].item() == 6.0
    assert follow(short, [16.0]) == 12.0


# ---- SWAD --------------------------------------------------------------------------


def algorithm_1(losses, patience_s, patience_e, rate):
    """Start and end of the average by the paper, iterations counted from 1."""
    start, end, threshold = 0, len(losses), None
    for i in range(1, len(losses) + 1):
        if threshold is None:
            window = losses[i - patience_s : i]
            if i >= patience_s and window[0] == min(window):
                start = i - patience_s + 1
                threshold = rate / patience_s * sum(window)
        elif threshold < min(losses[max(i - patience_e, 0) : i]):
            end = i - patience_e
            break
    return start, end


def valley(seed: int) -> list[float]:
    """A loss that falls, stays and rises, with noise."""
    draw = random.Random(seed)
    shape = [4, 3, 2, 1.5, 1.2, 1, 1, 1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.3, 2.6, 3]
    return [level * draw.uniform(0.7, 1.3) for level in shape]


CURVES = {
    "never converging": [1 / t for t in range(1, 15)],
    "never overfitting": [5, 4, 3, 2, *[1.0 + 0.01 * t for t in range(12)]],
    "overfitting at once": [1, 2, 4, 8, 16, 32, 64],
    "one bad validation": [3, 1, 1.1, 1.2, 9, 1.1, 1.2, 1.1, 1.0],
    "constant": [1.0] * 10,
    "zero": [0.0] * 10,
    "too short": [2.0],
    **{f"valley {seed}": valley(seed) for seed in range(30)},
}
PATIENCE = [(1, 1), (3, 1), (1, 3), (3, 3), (3, 6), (6, 3)]


def validated(swad, losses, lengths):
    """Walk over squares with a validation after every segment; the weights passed."""
    passed, step = [0.0], 0
    for loss, length in zip(losses, lengths, strict=True):
        steps = range(step + 1, step + length + 1)
        follow(swad, [t * t for t in steps])
        swad.validate(loss)
        passed += [t * t for t in steps]
        step += length
    return passed


@pytest.mark.parametrize("patience", PATIENCE)
@pytest.mark.parametrize("curve", CURVES)
def test_swad_is_algorithm_1_when_every_step_is_validated(curve, patience):
    losses = CURVES[curve]
    start, end = algorithm_1(losses, *patience, 1.3)
    swad = SWAD(Point(), n_converge=patience[0], n_tolerance=patience[1])
    passed = validated(swad, losses, [1] * len(losses))
    expected = math.fsum(passed[start : end + 1]) / (end - start + 1)
    assert swad.tensors()["w"].item() == pytest.approx(expected, rel=1e-13)
    assert swad.start == start
    assert swad.end in (None, end)
    assert (swad.end is None) == (end == len(losses))
    assert swad.count == end - start + 1


@pytest.mark.parametrize("patience", PATIENCE)
@pytest.mark.parametrize("curve", CURVES)
def test_swad_averages_every_step_of_the_segments_that_algorithm_1_chooses(
    curve, patience
):
    losses = CURVES[curve]
    lengths = [1 + (7 * i) % 5 for i in range(len(losses))]
    first, last = algorithm_1(losses, *patience, 1.3)
    start = 1 + sum(lengths[: first - 1]) if first else 0
    end = sum(lengths[:last])
    swad = SWAD(Point(), n_converge=patience[0], n_tolerance=patience[1])
    passed = validated(swad, losses, lengths)
    expected = math.fsum(passed[start : end + 1]) / (end - start + 1)
    assert swad.tensors()["w"].item() == pytest.approx(expected, rel=1e-12)
    assert swad.count == end - start + 1


def test_the_curves_try_every_outcome_of_algorithm_1():
    ends = [(*algorithm_1(c, 3, 3, 1.3), len(c)) for c in CURVES.values()]
    assert any(start == 0 for start, _, _ in ends)
    assert any(start > 0 and end == steps for start, end, steps in ends)
    assert sum(start > 0 and end < steps for start, end, steps in ends) > 20


def test_swad_goes_on_after_its_last_validation_unless_the_end_is_found():
    swad = SWAD(Point(), n_converge=1, n_tolerance=1)
    follow(swad, [1.0])
    swad.validate(1.0)
    assert follow(swad, [3.0, 5.0]) == pytest.approx(3.0, rel=1e-15)
    swad.validate(9.0)  # the segment of 3 and 5 is over the threshold
    assert swad.end == 1
    assert follow(swad, [100.0, 200.0]) == 1.0
    swad.validate(0.5)
    assert swad.end == 1


@pytest.mark.parametrize("stop", range(len(valley(2))))
def test_swad_resumed_anywhere_equals_never_stopping(stop):
    losses, settings = valley(2), {"n_converge": 2, "n_tolerance": 3}
    lengths = [2] * len(losses)
    straight = SWAD(Point(), **settings)
    validated(straight, losses, lengths)
    first, second = SWAD(Point(), **settings), SWAD(Point(), **settings)
    validated(first, losses[:stop], lengths[:stop])
    follow(first, [(2 * stop + 1) ** 2])  # in the middle of a segment
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    for i, loss in enumerate(losses[stop:], start=stop):
        rest = [2 * i + 2] if i == stop else [2 * i + 1, 2 * i + 2]
        follow(second, [t * t for t in rest])
        second.validate(loss)
    assert torch.equal(second.tensors()["w"], straight.tensors()["w"])
    assert second.numbers() == straight.numbers()
    assert straight.end is not None


def test_swad_ends_no_earlier_than_it_starts_where_rounding_lowers_the_threshold():
    swad = SWAD(Point(), n_converge=3, n_tolerance=6, tolerance_ratio=0.0)
    validated(swad, [0.7] * 6, [1] * 6)
    assert swad.threshold < 0.7
    assert (swad.start, swad.end, swad.count) == (1, None, 6)


def test_swad_refuses_losses_it_cannot_compare_and_validations_without_a_step():
    swad = SWAD(Point())
    with pytest.raises(UsageError, match="no step since the last validation"):
        swad.validate(1.0)
    swad.update()
    for loss in (-1.0, math.nan, math.inf):
        with pytest.raises(SettingError, match="finite and >= 0, got"):
            swad.validate(loss)
    swad.validate(torch.tensor(1.0))
    with pytest.raises(SettingError, match="tolerance_ratio must be >= 0, got"):
        SWAD(Point(), tolerance_ratio=-0.1)


# ---- masks ---------------------------------------------------------------------------


class Masked(nn.Module):
    """A parameter with a causal mask of infinities beside it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        mask = torch.full((3, 3), -math.inf).triu(1)
        self.register_buffer("mask", mask)
        self.register_buffer("mean", torch.zeros(1))


MASKED = {
    "ema": lambda model: EMA(model, decay=0.5, warmup=False),
    "swa": lambda model: SWA(model, buffers="average"),
    "lawa": lambda model: LAWA(model, k=3, buffers="average"),
}


@pytest.mark.parametrize("name", MASKED)
def test_infinities_of_masks_stay_and_other_buffers_are_averaged(name):
    model = Masked()
    average, mask = MASKED[name](model), model.mask.clone()
    for value in (1.0, 2.0, 3.0):
        model.weight.data.fill_(value)
        model.mean.fill_(value)
        average.update()
    found = average.tensors()
    assert torch.equal(found["mask"], mask)
    assert torch.equal(found["mean"], found["weight"])
    assert found["weight"].isfinite().all()


@pytest.mark.parametrize("name", MASKED)
def test_averages_with_masks_are_saved_and_loaded(name):
    average = MASKED[name](Masked())
    average.update()
    again = MASKED[name](Masked())
    again.load_state_dict(average.state_dict())
    again.update()
    assert torch.equal(again.tensors()["mask"], Masked().mask)


@pytest.mark.parametrize(
    ("name", "value"), [("mask", math.nan), ("weight", math.nan), ("weight", math.inf)]
)
def test_averages_that_are_no_numbers_are_refused(name, value):
    average = EMA(Masked())
    state = average.state_dict()
    state["copies"][0]["tensors"][name].fill_(value)
    with pytest.raises(CheckpointError, match="not finite"):
        EMA(Masked()).load_state_dict(state)
