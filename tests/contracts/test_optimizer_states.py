"""States of optimizers that are saved, loaded, extended or wrong."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

import loops
import steppe
from loops import base_step, loop_step, make_model, values
from methods import EVERY, make, one_batch
from steppe.errors import CheckpointError, UsageError


@EVERY
def test_a_state_with_other_groups_is_refused_and_nothing_is_loaded(entry):
    model = make_model()
    params = list(model.parameters())
    split = loops.sgd_for(entry, [{"params": params[:1]}, {"params": params[1:]}])
    split.param_groups[0]["lr"] = 0.7
    state = make(entry, split).state_dict()
    opt = make(entry, loops.base_for(entry, model))
    with pytest.raises(CheckpointError, match="make it over the same groups"):
        opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] == 0.1


@EVERY
def test_loading_a_state_forgets_finished_passes(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    for _ in opt.passes():
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()
    opt.load_state_dict(opt.state_dict())
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()


def test_a_state_of_the_base_alone_continues_the_base():
    model, plain = make_model(), make_model()
    base = loops.momentum(plain)
    base_step(base, plain, *one_batch())
    opt = steppe.SAM(loops.momentum(model), rho=0.0)
    loop_step(opt, model, *one_batch())
    opt.load_state_dict(copy.deepcopy(base.state_dict()))
    base_step(base, plain, *one_batch())
    loop_step(opt, model, *one_batch())
    assert loops.identical(values(model), values(plain))


def test_keys_of_the_base_stay_the_bases():
    """RMSprop's alpha and Adadelta's rho are no settings of the method."""
    model = make_model()
    opt = steppe.GSAM(torch.optim.RMSprop(model.parameters(), alpha=0.99), alpha=0.4)
    assert opt.metrics()["alpha"] == 0.4
    assert opt.param_groups[0]["alpha"] == 0.99
    loop_step(opt, model, *one_batch())
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    opt = steppe.SAM(torch.optim.Adadelta(model.parameters(), rho=0.9), rho=schedule)
    for _ in range(2):
        loop_step(opt, model, *one_batch())
    assert opt.metrics()["rho"] == schedule(1)
    assert opt.param_groups[0]["rho"] == 0.9
    twin = steppe.SAM(torch.optim.Adadelta(model.parameters(), rho=0.5), rho=schedule)
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert (twin.metrics()["rho"], twin.param_groups[0]["rho"]) == (schedule(1), 0.9)


@EVERY
def test_a_state_of_the_base_alone_forgets_what_the_method_remembers(entry):
    results = []
    for used in (False, True):
        model = make_model()
        opt = make(entry, loops.base_for(entry, model))
        if used:
            state = {k: v.clone() for k, v in model.state_dict().items()}
            draws = None if opt.generator is None else opt.generator.get_state()
            for x, y in loops.batches(3):
                loop_step(opt, model, x, y)
            model.load_state_dict(state)
            if draws is not None:
                opt.generator.set_state(draws)
        opt.load_state_dict(loops.base_for(entry, model).state_dict())
        for x, y in loops.batches(3, start=3):
            loop_step(opt, model, x, y)
        results.append(values(model))
    assert loops.identical(*results)


def test_a_generator_of_another_device_starts_afresh_with_a_warning():
    model = make_model()
    opt = steppe.LPFSGD(loops.momentum(model), seed=3)
    loop_step(opt, model, *one_batch())
    state = copy.deepcopy(opt.state_dict())
    state["steppe"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's
    fresh = steppe.LPFSGD(loops.momentum(model), seed=3)
    draws = fresh.generator.get_state()
    with pytest.warns(UserWarning, match="its draws begin anew from the seed"):
        fresh.load_state_dict(state)
    assert fresh.steps == 1
    assert torch.equal(fresh.generator.get_state(), draws)


def test_memory_is_loaded_into_the_dtype_of_the_parameters():
    model = make_model()
    opt = steppe.FSAM(loops.momentum(model))
    loop_step(opt, model, *one_batch())
    state = copy.deepcopy(opt.state_dict())
    state["steppe"]["memory"]["tensors"]["of a later version"] = {0: torch.ones(6, 5)}
    narrow = make_model().float()
    fresh = steppe.FSAM(torch.optim.SGD(narrow.parameters(), lr=0.1))
    fresh.load_state_dict(state)
    kept = fresh.state_dict()["steppe"]["memory"]["tensors"]["mean_gradient"]
    assert {t.dtype for t in kept.values()} == {torch.float32}
    x, y = one_batch()
    loop_step(fresh, narrow, x.float(), y)


def test_hooks_on_states_are_called_as_in_torch():
    model = make_model()
    opt, calls = steppe.SAM(loops.momentum(model)), []
    opt.register_state_dict_pre_hook(lambda o: calls.append(o is opt))
    opt.register_state_dict_post_hook(lambda o, state: {**state, "mine": 1})
    opt.register_load_state_dict_pre_hook(
        lambda o, state: {k: v for k, v in state.items() if k != "mine"}
    )
    opt.register_load_state_dict_post_hook(lambda o: calls.append(o.steps))
    loop_step(opt, model, *one_batch())
    state = opt.state_dict()
    assert state["mine"] == 1
    opt.load_state_dict(state)
    assert calls == [True, 1]


def test_a_state_that_remembers_more_parameters_is_refused():
    opt = steppe.FSAM(loops.momentum(make_model()))
    state = opt.state_dict()
    state["steppe"]["memory"]["tensors"]["mean_gradient"] = {99: torch.ones(1)}
    with pytest.raises(CheckpointError, match="a mean_gradient for parameter 99"):
        opt.load_state_dict(state)


@EVERY
def test_what_is_no_state_of_an_optimizer_is_refused(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    for wrong in ({"model": {}, "opt": opt.state_dict()}, model.state_dict(), {}):
        with pytest.raises(CheckpointError, match="pass what its state_dict"):
            opt.load_state_dict(wrong)
