"""Settings, groups and bases of optimizers that are wrong, and say so."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import loops
import process_jobs
import steppe
from loops import loop_step, make_model, values
from methods import EVERY, make, one_batch, setting
from steppe.errors import SettingError, UnknownNameError, UsageError
from steppe.optimizers import OPTIMIZERS


@EVERY
def test_wrapping_a_base_again_takes_the_new_settings(entry):
    name, base = setting(entry), loops.base_for(entry, make_model())
    make(entry, base, **{name: 0.1})
    assert make(entry, base, **{name: 0.3}).param_groups[0][name] == 0.3
    with pytest.raises(SettingError, match="must be >= 0"):
        make(entry, base, **{name: -1.0})
    assert make(entry, base, **{name: 0.2}).param_groups[0][name] == 0.2
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    assert make(entry, base, **{name: schedule}).param_groups[0][name] == 0.4


@EVERY
def test_a_group_keeps_its_own_value_through_wrapping_loading_and_schedules(entry):
    name = setting(entry)

    def groups(model: nn.Module) -> torch.optim.Optimizer:
        first, *rest = model.parameters()
        own = [{"params": [first], name: 0.5}, {"params": rest, "perturb": False}]
        return loops.sgd_for(entry, own)

    model = make_model()
    base = groups(model)
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    for given in (0.1, 0.2, schedule):
        opt = make(entry, base, **{name: given})
        loop_step(opt, model, *one_batch())
        assert opt.param_groups[0][name] == 0.5
        assert opt.param_groups[1]["perturb"] is False
    plain = torch.optim.SGD(
        [{"params": g["params"]} for g in base.param_groups], lr=0.1
    ).state_dict()
    opt.load_state_dict(plain)
    assert opt.param_groups[0][name] == 0.5
    assert opt.param_groups[1]["perturb"] is False
    fresh = make(entry, groups(model), **{name: schedule})
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    loop_step(fresh, model, *one_batch())
    assert fresh.param_groups[0][name] == 0.5
    assert fresh.param_groups[1][name] == schedule(opt.steps)


@EVERY
def test_the_base_may_be_loaded_and_extended_behind_the_wrapper(entry):
    model, late = make_model(), nn.Linear(3, 3).double()
    base = loops.base_for(entry, model)
    opt = make(entry, base)
    base.load_state_dict(copy.deepcopy(base.state_dict()))
    base.add_param_group({"params": list(late.parameters())})
    for group in opt.param_groups:
        group["lr"] = 0.0
    before = values(model)
    for _ in opt.passes():
        F.cross_entropy(late(model(one_batch()[0])), one_batch()[1]).backward()
    opt.step()
    assert loops.identical(values(model), before)
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state


@EVERY
def test_a_group_with_a_bad_setting_is_refused_before_it_is_added(entry):
    model, late = make_model(), nn.Linear(3, 3).double()
    opt = make(entry, loops.base_for(entry, model))
    bad = {"params": list(late.parameters()), setting(entry): -1.0}
    with pytest.raises(SettingError, match="must be >= 0, got -1"):
        opt.add_param_group(bad)
    assert len(opt.param_groups) == 1
    loop_step(opt, model, *one_batch())


@EVERY
@pytest.mark.parametrize("bad", ["big", None, True, float("inf")])
def test_settings_that_are_no_finite_numbers_are_refused(entry, bad):
    with pytest.raises(SettingError, match=f"{setting(entry)} must be"):
        make(entry, loops.base_for(entry, make_model()), **{setting(entry): bad})


@EVERY
def test_bases_and_closures_that_cannot_work_are_refused(entry):
    model = make_model()
    with pytest.raises(SettingError, match="LBFGS evaluates the loss by itself"):
        make(entry, torch.optim.LBFGS(model.parameters()))
    opt = make(entry, loops.base_for(entry, model))

    def silent() -> None:
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()

    with pytest.raises(UsageError, match="closure must return the loss"):
        opt.step(silent)


@EVERY
def test_a_chosen_parameter_that_is_none_is_refused(entry):
    model, other = make_model(), make_model()
    for wrong in (["0.weight"], [model], model[0].weight, 3):
        with pytest.raises(SettingError, match="perturb must be 'all', 'norm' or par"):
            make(entry, loops.base_for(entry, model), perturb=wrong)
    with pytest.raises(SettingError, match="none of the parameters of perturb="):
        make(entry, loops.base_for(entry, model), perturb=other.parameters())


def test_wrapping_a_base_again_and_again_leaves_nothing_on_it():
    base = loops.momentum(make_model())
    for _ in range(20):
        opt = steppe.SAM(base)
    assert len(base._optimizer_step_pre_hooks) <= 2
    loop = opt.passes()
    next(loop)
    with pytest.raises(UsageError, match="stepped inside a passes"):
        base.step()


def test_an_optimizer_that_is_dropped_frees_its_copies_at_once():
    model = make_model()
    gc.disable()
    try:
        opt = steppe.SAM(loops.momentum(model))
        loop_step(opt, model, *one_batch())
        backup = weakref.ref(next(iter(opt._context._backup.values())))
        del opt
        assert backup() is None
    finally:
        gc.enable()


@EVERY
@pytest.mark.parametrize("bad", [-1.0, math.nan, "big", torch.ones(2)])
def test_a_value_that_is_changed_between_steps_is_checked_before_the_next(entry, bad):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    loop_step(opt, model, *one_batch())
    before = [p.clone() for p in model.parameters()]
    opt.param_groups[0][setting(entry)] = bad
    with pytest.raises(SettingError, match=f"{setting(entry)} must be"):
        loop_step(opt, model, *one_batch())
    assert loops.identical(before, list(model.parameters()))


def test_a_tensor_among_the_settings_is_checked_when_it_changes_in_place():
    model, rho = make_model(), torch.tensor(0.05)
    opt = steppe.SAM(loops.momentum(model))
    opt.param_groups[0]["rho"] = rho
    loop_step(opt, model, *one_batch())
    rho.fill_(-1.0)
    with pytest.raises(SettingError, match="rho must be >= 0, got -1"):
        loop_step(opt, model, *one_batch())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda base: steppe.SAM(base, ascent_steps=1.5), "ascent_steps"),
        (lambda base: steppe.LPFSGD(base, micro_batches=2.5), "micro_batches"),
        (lambda base: steppe.LookSAM(base, k=2.5), "k"),
        (lambda base: steppe.EntropySGD(base, inner_steps=2.5), "inner_steps"),
        (lambda base: steppe.NSGD(base, refresh_every=2.5), "refresh_every"),
        (lambda base: steppe.gates.Every(2.5), "interval"),
        (lambda base: steppe.geometry.Spectral(iterations=2.5), "iterations"),
        (lambda base: steppe.geometry.Spectral(polish=True), "polish"),
    ],
)
def test_counts_that_are_no_whole_numbers_are_refused(make, name):
    with pytest.raises(SettingError, match=f"{name} must be a whole number >= "):
        make(loops.momentum(make_model()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"geometry": "l2"}, r"geometry must be a steppe\.geometry\.Geometry .* 'l2'"),
        ({"model": iter([])}, r"model must be a torch\.nn\.Module, got"),
        ({"scaler": True}, "scaler must be a GradScaler, got True"),
    ],
)
def test_parts_of_the_wrong_kind_are_refused_by_name(more, message):
    with pytest.raises(SettingError, match=message):
        steppe.SAM(loops.momentum(make_model()), **more)


def test_a_group_says_with_true_or_false_whether_it_may_be_moved():
    base = torch.optim.SGD([{"params": make_model().parameters(), "perturb": "no"}])
    with pytest.raises(SettingError, match="perturb of a group must be True or False"):
        steppe.SAM(base)


class Rateless(torch.optim.Optimizer):
    """A base without a learning rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


def test_what_needs_a_learning_rate_says_so():
    rho = steppe.schedules.Proportional(0.1, 0.0, max_lr=0.1)
    for method in (steppe.WSAM, lambda base: steppe.SAM(base, rho=rho)):
        with pytest.raises(SettingError, match="a parameter group has no lr"):
            method(Rateless(make_model().parameters()))
    steppe.WSAM(Rateless(make_model().parameters()), form="coupled")


@EVERY
def test_a_base_that_maximizes_is_refused_where_uphill_would_be_downhill(entry):
    """The methods that climb, or walk down, do so along the gradient as it is."""
    results = []
    for sign in (1, -1):
        w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
        base = loops.sgd_for(entry, [w])
        base.param_groups[0]["maximize"] = sign < 0
        try:
            opt = make(entry, base)
        except SettingError as error:
            refusal = str(error)
            break
        for _ in range(3):
            for _ in opt.passes():
                (sign * (w**4).sum()).backward()
            opt.step()
        results.append(w.detach())
    else:
        refusal = ""
    refused = "maximize=False" in refusal
    assert refused or torch.allclose(*results, rtol=1e-12, atol=0)


@EVERY
def test_a_misspelled_setting_is_named_with_the_nearest_one(entry):
    base = loops.base_for(entry, make_model())
    name = setting(entry)
    wrong = name[:-1] + name[-1] * 2
    with pytest.raises(UnknownNameError, match=f"'{wrong}': did you mean '{name}'"):
        make(entry, base, **{wrong: 0.1})


def test_the_arguments_of_the_two_call_form_are_refused_in_a_sentence():
    params = make_model().parameters()
    with pytest.raises(UsageError, match=r"from steppe\.compat import SAM"):
        steppe.SAM(params, torch.optim.SGD, rho=0.05, lr=0.1)
    with pytest.raises(UsageError, match="one base and settings by name"):
        steppe.SAM(torch.optim.SGD(make_model().parameters(), lr=0.1), 0.05)


@EVERY
def test_the_model_of_other_parameters_is_refused(entry):
    with pytest.raises(SettingError, match="none of the optimizer's parameters"):
        make(entry, loops.base_for(entry, make_model()), model=make_model())


def test_a_wrapper_class_without_state_shows_the_optimizer_inside():
    """Trainers make a subclass of the method around the method."""

    class Outer:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self._inner = optimizer

        @property
        def optimizer(self) -> torch.optim.Optimizer:
            return self._inner

    model = make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.1)
    wrapper = type("OuterSAM", (Outer, steppe.SAM), {})(opt)
    assert isinstance(wrapper, steppe.SAM)
    assert wrapper.param_groups is opt.param_groups
    before = values(model)
    for _ in wrapper.passes():
        xs, ys = wrapper.take(*one_batch())
        F.cross_entropy(model(xs), ys).backward()
    wrapper.step()
    assert not loops.identical(values(model), before)
    assert (opt.steps, wrapper.metrics()["rho"]) == (1, 0.1)
    wrapper.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    "make_it",
    [
        lambda model: steppe.SAM([{"params": list(model.parameters())}]),
        lambda model: steppe.SAM(model.parameters()),
        lambda model: steppe.SAM(loops.momentum(model), model=list(model.parameters())),
        lambda model: steppe.SAM(loops.momentum(model), perturb=model.weight.data[0]),
        lambda model: steppe.SAM(loops.momentum(model), scaler=model.state_dict()),
        lambda model: steppe.SAM(loops.momentum(model), gate=model.weight),
        lambda model: steppe.SAM(loops.momentum(model), geometry=model.weight),
    ],
)
def test_a_refusal_shows_no_weights(make_it):
    with pytest.raises(SettingError) as refused:
        make_it(nn.Linear(40, 30))
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


@pytest.fixture
def parallel(monkeypatch):
    """A model as two processes wrap it, in a group of one that says it is two."""
    with process_jobs.alone():
        wrapped = DistributedDataParallel(make_model())
        monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)
        yield wrapped
        monkeypatch.undo()


def test_the_module_inside_a_parallel_one_is_refused_as_the_model(parallel):
    inner = parallel.module
    with pytest.raises(SettingError, match=r"give model= the DistributedDataParallel"):
        steppe.SAM(loops.momentum(inner), model=inner)
    joint = steppe.SAM(loops.momentum(inner), model=inner, sync="global")
    assert not joint._gradient_sync.local


def test_a_model_that_nobody_wraps_is_taken_in_a_group_of_processes(parallel):
    alone = make_model()
    assert not steppe.SAM(loops.momentum(alone), model=alone)._gradient_sync.local


def test_a_compiled_parallel_model_is_known_as_the_parallel_one(parallel):
    compiled = torch.compile(parallel, backend="eager")
    opt = steppe.SAM(loops.momentum(parallel), model=compiled)
    passes = []
    x, y = one_batch()
    for _ in opt.passes():
        passes.append(parallel.require_backward_grad_sync)
        with parallel.no_sync():
            F.cross_entropy(parallel(x), y).backward()
    assert passes == [False, True]


def test_the_adaptive_flag_of_other_libraries_names_what_it_is_here():
    with pytest.raises(UnknownNameError, match=r"steppe\.ASAM"):
        steppe.SAM(loops.momentum(make_model()), adaptive=True)


@pytest.mark.parametrize("name", ["first_step", "second_step"])
def test_the_calls_of_the_two_call_form_say_where_they_are(name):
    opt = steppe.SAM(loops.momentum(make_model()))
    assert not hasattr(opt, name)
    with pytest.raises(AttributeError, match=r"steppe\.compat"):
        getattr(opt, name)


@pytest.mark.parametrize("text", ["sam:rho=0.1 gate=every(5)", "sam:rho=0.1  k = 2"])
def test_a_text_without_its_comma_names_the_place(text):
    with pytest.raises(SettingError, match=r"a comma is missing before (gate|k) in"):
        OPTIMIZERS.parse(text)
