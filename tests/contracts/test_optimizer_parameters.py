"""Parameters and gradients of every kind: sparse, complex, frozen, half precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
import steppe
from loops import make_model, values
from methods import EVERY, make, one_batch, setting
from steppe.errors import UsageError


@EVERY
def test_frozen_parameters_are_not_moved_inside_a_pass(entry):
    model = make_model()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    opt = make(entry, loops.base_for(entry, model), **{setting(entry): 0.5})
    for _ in opt.passes():
        assert torch.equal(model[0].weight, before)
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()


@EVERY
def test_a_parameter_may_change_shape_and_type_between_steps(entry):
    w = nn.Parameter(torch.randn(4, 3))
    if entry.spec.base == "momentum":
        pytest.skip("the base itself cannot do this once it has momentum")
    opt = make(entry, torch.optim.SGD([w], lr=0.1))
    for data in (w.data, torch.randn(2, 5), torch.randn(2, 5).double()):
        w.data, w.grad = data.clone(), None
        before = w.detach().clone()
        for _ in opt.passes():
            (w**2).sum().backward()
        assert torch.equal(w.detach(), before)
        opt.step()


@pytest.mark.parametrize("method", [steppe.SAM, steppe.ASAM])
def test_sparse_gradients_are_refused_in_one_sentence(method):
    table = nn.Embedding(5, 3, sparse=True)
    opt = method(torch.optim.SGD(table.parameters(), lr=0.1))
    loop = opt.passes()
    next(loop)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(UsageError, match="sparse=False"):
        next(loop)


@pytest.mark.filterwarnings("ignore:parameters in bfloat16")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_norm_of_half_precision_gradients_does_not_overflow(dtype):
    w = nn.Parameter(torch.zeros(100, dtype=dtype))
    opt = steppe.SAM(torch.optim.SGD([w], lr=0.0), rho=5.0)
    norms = []
    for _ in opt.passes():
        norms.append(w.float().norm().item())
        (w.float() * 10000).sum().backward()
    assert norms == pytest.approx([0.0, 5.0], rel=1e-2)


@EVERY
def test_a_complex_parameter_is_refused_or_never_moved(entry):
    w = nn.Parameter(torch.tensor([1.0 + 1.0j, 2.0], dtype=torch.complex64))
    opt = make(entry, loops.sgd_for(entry, [w]))
    before = w.detach().clone()
    refused = ""
    try:
        for _ in opt.passes():
            assert torch.equal(w.detach(), before)
            (w.abs() ** 2).sum().backward()
    except UsageError as error:
        refused = str(error)
    assert torch.equal(w.detach(), before)
    assert not refused or "a complex parameter cannot be moved" in refused


@EVERY
@pytest.mark.parametrize("monitor", [False, True])
def test_sparse_gradients_beside_movable_ones_work_or_are_refused(entry, monitor):
    table, head = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    groups = [
        {"params": table.parameters(), "perturb": False},
        {"params": head.parameters()},
    ]
    opt = make(entry, loops.sgd_for(entry, groups), monitor=monitor)
    before, refused = values(table), ""
    try:
        for _ in range(2):
            for _ in opt.passes():
                (head(table(torch.tensor([1, 2]))) ** 2).sum().backward()
            opt.step()
    except UsageError as error:
        refused = str(error)
    assert ("sparse=False" in refused) == loops.identical(values(table), before)


@pytest.mark.parametrize("method", [steppe.SAM, steppe.FSAM, steppe.LPFSGD])
def test_methods_that_step_with_one_gradient_take_sparse_ones_along(method):
    table, head = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    groups = [
        {"params": table.parameters(), "perturb": False},
        {"params": head.parameters()},
    ]
    opt = method(torch.optim.SGD(groups, lr=0.1), monitor=True)
    for _ in range(2):
        for _ in opt.passes():
            head(table(torch.tensor([1, 2]))).sum().backward()
        opt.step()
    assert opt.steps == 2
