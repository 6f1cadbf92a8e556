"""Models that are not plain modules: the same numbers, or one sentence why not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
import problems
import steppe
from steppe.errors import SettingError, UsageError
from steppe.objective import Objective


class Tagged(torch.Tensor):
    pass


class Calling(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def tagged(model):
    for module in model:
        for name, p in module._parameters.items():
            module._parameters[name] = nn.Parameter(p.detach().as_subclass(Tagged))
    return model


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def scripted(model):
    return torch.jit.script(model)


def traced(model):
    return torch.jit.trace(model, problems.vectors()[0])


KINDS = {
    "scripted": scripted,
    "traced": traced,
    "parallel": nn.DataParallel,
    "tagged": tagged,
    "average": torch.optim.swa_utils.AveragedModel,
}
KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript")


def pair(kind):
    (x, y), plain = problems.vectors(), problems.mlp(nn.ReLU)
    return kind(problems.mlp(nn.ReLU)), plain, (x, y)


@KIND
def test_value_gradient_products_and_lines_are_those_of_the_plain_model(kind):
    model, plain, data = pair(kind)
    mine, its = Objective(model, data), Objective(plain, data)
    assert mine.value().value == pytest.approx(its.value().value, rel=1e-12)
    torch.testing.assert_close(mine.gradient(), its.gradient(), rtol=1e-10, atol=1e-14)
    v = torch.ones(steppe.Hessian(its).shape[0], dtype=torch.float64)
    products = [steppe.Hessian(o) @ v for o in (mine, its)]
    torch.testing.assert_close(*products, rtol=1e-8, atol=1e-10)
    lines = [steppe.Line.random(m, seed=3) for m in (model, plain)]
    surfaces = [
        steppe.landscape(o, line, x=[-1.0, 1.0]).loss
        for o, line in zip((mine, its), lines, strict=True)
    ]
    torch.testing.assert_close(*surfaces, rtol=1e-8, atol=0)


@KIND
def test_a_step_and_an_average_are_those_of_the_plain_model(kind):
    model, plain, (x, y) = pair(kind)
    found = []
    for each in (model, plain):
        average = steppe.EMA(each, decay=0.5, warmup=False)
        base = torch.optim.SGD(each.parameters(), lr=0.1)
        opt = steppe.SAM(base, rho=0.1, model=each)
        loops.loop_step(opt, each, x, y)
        average.update()
        with average.applied():
            found.append(F.cross_entropy(each(x), y).detach())
        found.append(F.cross_entropy(each(x), y).detach())
    torch.testing.assert_close(found[:2], found[2:], rtol=1e-9, atol=0)
    assert found[0] != found[1]


def test_a_scripted_model_takes_a_gauss_newton_matrix_inside_of_a_module():
    model, plain, data = pair(scripted)
    with pytest.raises(UsageError, match="a scripted model does not allow; wrap"):
        steppe.GGN(Objective(model, data)) @ torch.ones(problems.flat(plain).numel())
    eye = torch.eye(problems.flat(plain).numel(), dtype=torch.float64)
    objectives = [Objective(m, data) for m in (Calling(model), plain)]
    torch.testing.assert_close(*(steppe.GGN(o) @ eye for o in objectives))


UNMADE = {
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3)), "no shape yet; run the model"),
    "meta": (lambda: nn.Linear(4, 3, device="meta"), "no values, as it is on"),
}


@pytest.mark.parametrize(("make", "said"), UNMADE.values(), ids=UNMADE)
def test_parameters_without_shape_or_values_are_refused(make, said):
    for use in (
        lambda model: Objective(model, problems.vectors()),
        steppe.Line.random,
        steppe.EMA,
    ):
        with pytest.raises(SettingError, match=said):
            use(make())


def test_complex_parameters_have_a_gradient_but_no_hessian():
    class Complex(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(4, 3, dtype=torch.complex128))

        def forward(self, x):
            return (x.to(self.w.dtype) @ self.w).real

    objective = Objective(Complex(), problems.vectors())
    assert objective.gradient()[0].is_complex()
    with pytest.raises(SettingError, match=r"floating dtype, .* parts of a complex"):
        steppe.eigsh(steppe.Hessian(objective))


def test_layers_have_no_trace_where_no_parameter_has_an_influence():
    class Constant(nn.Linear):
        def forward(self, x):
            return x[:, :3] * x.new_ones(3).requires_grad_()

    traces = steppe.layer_traces(Objective(Constant(4, 3).double(), problems.vectors()))
    assert traces.total == 0
