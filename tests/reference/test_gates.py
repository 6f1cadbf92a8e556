"""Gates: which steps they open, against plain recursions, on methods of all kinds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
import steppe
from loops import base_step, batches, identical, make_model, values
from steppe.errors import SettingError
from steppe.gates import GATES, AdaptiveGate, After, Every, Gate, Sometimes

STEPS = 24
METHODS: dict[str, Callable[..., Any]] = {
    "sam": lambda base, **more: steppe.SAM(base, rho=0.1, **more),
    "two ascent steps": lambda base, **more: steppe.SAM(
        base, rho=0.1, ascent_steps=2, **more
    ),
    "asam": lambda base, **more: steppe.ASAM(base, rho=0.5, **more),
    "fsam": lambda base, **more: steppe.FSAM(base, rho=0.1, **more),
    "vasso": lambda base, **more: steppe.VaSSO(base, rho=0.1, **more),
}
EVERY_METHOD = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
MADE: dict[str, Gate] = {
    "every": Every(3),
    "after": After(0.5, STEPS),
    "sometimes": Sometimes(0.4, seed=3),
    "adaptive": AdaptiveGate(STEPS),
}
EVERY_GATE = pytest.mark.parametrize("gate", MADE.values(), ids=MADE)


def train(opt: Any, model: nn.Module, count: int, start: int = 0) -> list[int]:
    """Train and tell how many gradients each step took."""
    taken = []
    for x, y in batches(count, start):
        passes = 0
        for _ in opt.passes():
            F.cross_entropy(model(x), y).backward()
            passes += 1
        taken.append(passes)
        opt.step()
    return taken


def test_every_gate_is_tested_here():
    assert set(MADE) == set(GATES.names())


@pytest.mark.parametrize(
    ("gate", "opens"),
    [
        (Every(1), range(12)),
        (Every(5), [0, 5, 10]),
        (After(0.0, 12), range(12)),
        (After(0.75, 12), [9, 10, 11]),
        (After(0.7, 12), [9, 10, 11]),  # 8.4 steps are not over before the ninth
        (After(1.0, 12), []),
        (After(0.07, 100), range(7, 12)),  # though 0.07 * 100 is above 7
        (Sometimes(0.0), []),
        (Sometimes(1.0), range(12)),
    ],
)
def test_gates_that_know_the_step_open_where_they_say(gate, opens):
    assert [t for t in range(12) if gate.opens(t)] == list(opens)


def test_a_random_gate_opens_as_often_as_its_probability_says():
    for probability in (0.1, 0.5):
        for seed in range(3):
            gate = Sometimes(probability, seed=seed)
            share = np.mean([gate.opens(t) for t in range(3000)])
            error = math.sqrt(probability * (1 - probability) / 3000)
            assert abs(share - probability) < 4 * error


def test_a_random_gate_follows_from_its_seed_and_the_step_alone():
    state = torch.get_rng_state()
    one, again, other = (
        [Sometimes(0.5, seed=seed).opens(t) for t in range(200)] for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other
    assert torch.equal(torch.get_rng_state(), state)


def policy(
    norms: list[float], start: float, end: float, decay: float, steps: int
) -> list[bool]:
    """Algorithm 1 of AE-SAM, in its own symbols."""
    mu, variance, opens = 0.0, 0.0, []
    for t, norm in enumerate(norms):
        mu = decay * mu + (1 - decay) * norm**2
        variance = decay * variance + (1 - decay) * (norm**2 - mu) ** 2
        c = end * (t / steps) + start * (1 - t / steps)
        opens.append(norm**2 >= mu + c * variance**0.5)
    return opens


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize(("start", "end"), [(1.0, -1.0), (0.0, 0.0), (2.0, 1.0)])
def test_the_adaptive_gate_is_the_policy_of_ae_sam(start, end, decay):
    slopes = np.random.default_rng(0).lognormal(size=60)
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    gate = AdaptiveGate(60, start=start, end=end, decay=decay)
    opt = steppe.SAM(torch.optim.SGD([w], lr=0.1), gate=gate)
    opened = []
    for slope in slopes:
        passes = 0
        for _ in opt.passes():
            ((w * torch.tensor([3.0, 4.0])).sum() * slope).backward()
            passes += 1
        opened.append(passes == 2)
        opt.step()
    expected = policy(list(5 * slopes), start, end, decay, steps=60)
    assert opened == expected
    assert 0 < sum(opened) < 60 or decay == 0.0


def test_the_adaptive_gate_opens_more_often_towards_the_end_of_the_training():
    norms = list(np.random.default_rng(1).lognormal(sigma=0.3, size=2000))
    gate, seen = AdaptiveGate(2000), {}
    opened = [gate.opens_for(norm**2, t, seen) for t, norm in enumerate(norms)]
    assert opened == policy(norms, 1.0, -1.0, 0.9, steps=2000)
    thirds = [np.mean(part) for part in np.array_split(np.array(opened), 3)]
    assert thirds[0] + 0.1 < thirds[1] < thirds[2] - 0.1


def test_the_adaptive_gate_keeps_its_last_threshold_beyond_the_training():
    gate, seen = AdaptiveGate(10, start=0.0, end=1.0), {"mean": 1.0, "variance": 1.0}
    # With q = 3 the mean becomes 1.2 and the deviation 1.11: open up to c = 1.63.
    assert gate.opens_for(3.0, 10, dict(seen))
    assert gate.opens_for(3.0, 99, dict(seen))
    assert not AdaptiveGate(10, start=0.0, end=2.0).opens_for(3.0, 99, dict(seen))


def test_the_adaptive_gate_does_not_count_a_norm_that_is_no_number():
    gate, seen = AdaptiveGate(10), {"mean": 1.0, "variance": 4.0}
    for bad in (math.inf, math.nan):
        assert not gate.opens_for(bad, 3, seen)
    assert seen == {"mean": 1.0, "variance": 4.0}


@EVERY_GATE
def test_open_steps_cost_what_the_method_costs_and_closed_ones_one_gradient(gate):
    for name, make in METHODS.items():
        model = make_model()
        taken = train(make(loops.momentum(model), gate=gate), model, STEPS)
        assert set(taken) == {1, 3 if name == "two ascent steps" else 2}, name
        if isinstance(gate, AdaptiveGate):
            continue
        assert [n > 1 for n in taken] == [gate.opens(t) for t in range(STEPS)], name


@EVERY_METHOD
@pytest.mark.parametrize(
    "closed", [After(1.0, 99), Sometimes(0.0), AdaptiveGate(99, start=99.0, end=99.0)]
)
def test_a_closed_gate_is_the_base_bit_for_bit(make, closed):
    model, plain = make_model(), make_model()
    opt, base = make(loops.momentum(model), gate=closed), loops.momentum(plain)
    assert train(opt, model, 6) == [1] * 6
    for x, y in batches(6):
        base_step(base, plain, x, y)
    assert identical(values(model), values(plain))


@EVERY_METHOD
@pytest.mark.parametrize(
    "opened", [Every(1), Sometimes(1.0), AdaptiveGate(99, start=-99.0, end=-99.0)]
)
def test_an_open_gate_is_the_method_bit_for_bit(make, opened):
    model, plain = make_model(), make_model()
    gated, free = make(loops.momentum(model), gate=opened), make(loops.momentum(plain))
    assert train(gated, model, 6) == train(free, plain, 6)
    assert identical(values(model), values(plain))


@EVERY_METHOD
@EVERY_GATE
def test_a_resumed_run_decides_as_if_it_had_never_stopped(make, gate):
    straight, model = make_model(), make_model()
    decided = train(make(loops.adam(straight), gate=gate), straight, STEPS)
    half = make(loops.adam(model), gate=gate)
    taken = train(half, model, 11)
    fresh = make(loops.adam(model), gate=gate)
    fresh.load_state_dict(copy.deepcopy(half.state_dict()))
    assert taken + train(fresh, model, STEPS - 11, start=11) == decided
    assert identical(values(model), values(straight))


def test_an_exception_in_an_open_step_leaves_the_weights_clean():
    model = make_model()
    opt = steppe.SAM(loops.momentum(model), gate=AdaptiveGate(10))
    x, y = next(batches(1))
    before = values(model)
    with pytest.raises(MemoryError):
        fail_in_the_second_pass(opt, model, x, y)
    assert identical(values(model), before)
    assert not opt.state_dict()["steppe"]["memory"]["numbers"]


def fail_in_the_second_pass(opt: Any, model: nn.Module, x: Any, y: Any) -> None:
    for index in opt.passes():
        if index == 1:
            raise MemoryError
        F.cross_entropy(model(x), y).backward()


def test_a_gate_that_looks_needs_a_method_that_looks_first():
    base = loops.momentum(make_model())
    with pytest.raises(
        SettingError, match="decides by the gradient at the unperturbed"
    ):
        steppe.LPFSGD(base, gate=AdaptiveGate(10))
    with pytest.raises(SettingError, match=r"gate must be a steppe\.gates\.Gate"):
        steppe.SAM(base, gate=5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Every(0), "interval must be >= 1, got 0"),
        (lambda: After(1.5, 10), "fraction must be between 0 and 1, got 1.5"),
        (lambda: After(0.5, 0), "steps must be >= 1, got 0"),
        (lambda: Sometimes(-0.1), "probability must be between 0 and 1"),
        (lambda: AdaptiveGate(0), "steps must be >= 1, got 0"),
        (lambda: AdaptiveGate(9, decay=1.0), "decay must be >= 0 and < 1, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [steppe.SAM, steppe.FSAM, steppe.VaSSO, steppe.WSAM],
    ids=lambda m: m.__name__,
)
def test_the_adaptive_gate_takes_the_scale_of_the_loss_out_once(make):
    decided = []
    for grows in (False, True):
        model = make_model()
        scaler = torch.amp.GradScaler(
            "cpu", init_scale=64.0, growth_factor=4.0, growth_interval=1, enabled=grows
        )
        gate = AdaptiveGate(STEPS)
        opt = make(loops.momentum(model), rho=0.3, gate=gate, scaler=scaler)
        taken = []
        for x, y in batches(10):
            passes = 0
            for _ in opt.passes():
                scaler.scale(F.cross_entropy(model(x), y)).backward()
                passes += 1
            taken.append(passes)
            scaler.step(opt)
            scaler.update()
        decided.append(taken)
    assert decided[0] == decided[1]
    assert set(decided[0]) == {1, 2}


def test_a_state_loaded_inside_a_loop_that_was_left_is_kept():
    model = make_model()
    opt = steppe.SAM(loops.momentum(model), gate=AdaptiveGate(STEPS))
    train(opt, model, 3)
    state = copy.deepcopy(opt.state_dict())
    train(opt, model, 1, start=3)
    loop = opt.passes()
    next(loop)
    opt.load_state_dict(state)
    kept = opt.state_dict()["steppe"]["memory"]["numbers"]
    assert kept == state["steppe"]["memory"]["numbers"]
