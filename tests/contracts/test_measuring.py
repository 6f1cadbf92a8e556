"""What every measurement asks of a model and its loss, and leaves of them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import problems
from steppe.curvature.fisher import EmpiricalFisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.per_sample.traces import exact_diagonal, layer_traces
from steppe.errors import UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.linalg.diagonal import diagonal
from steppe.linalg.lanczos import eigsh
from steppe.linalg.trace import trace
from steppe.measures import LPF
from steppe.measures.spectral.minimum_sharpness import minimum_sharpness
from steppe.objective import Objective
from steppe.parameters import flatten, unflatten

CLOSE = {"rtol": 1e-8, "atol": 1e-10}
BACKENDS = ("auto", "retained", "recompute", "finite_difference")


def products(objective, backend="auto", kind=Hessian):
    H = kind(objective, backend=backend)
    return columns(H)


def columns(matrix):
    """Products with three fixed vectors, which no wrong matrix has by chance."""
    size = (matrix.shape[0], 3)
    return matrix @ torch.randn(
        size, generator=problems.generator(9), dtype=matrix.dtype
    )


def line(objective):
    return landscape(objective, Line.random(objective.model), x=[0.0, 1.0]).loss


EXACT = {
    "trace": lambda objective: trace(Hessian(objective), max_samples=20).value,
    "trace of ggn": lambda objective: trace(GGN(objective), max_samples=20).value,
    "layer traces": lambda objective: layer_traces(objective).total,
    "exact diagonal": exact_diagonal,
    "diagonal": lambda objective: diagonal(GGN(objective), max_samples=20).values,
    "minimum sharpness": lambda objective: minimum_sharpness(objective).value,
    "eigenvalues": lambda objective: eigsh(Hessian(objective), tol=1e-2).values,
    "landscape": line,
}
ALL = {
    **EXACT,
    "value": lambda objective: objective.value().value,
    "gradient": lambda objective: flatten(objective.gradient()),
    "lpf": lambda objective: LPF(samples=2)(objective).value,
}
exact = pytest.mark.parametrize("measure", EXACT.values(), ids=EXACT)
every = pytest.mark.parametrize("measure", ALL.values(), ids=ALL)


class Masked(nn.Module):
    """A network of which half the activations are dropped, always or in training."""

    def __init__(self, always):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)
        self.always = always

    def forward(self, x):
        on = self.always or self.training
        return self.second(F.dropout(torch.relu(self.first(x)), 0.5, on))


def masked():
    """So large, with its data, that no two draws of its masks are alike."""
    return problems.drawn(Masked(always=True))


@exact
def test_what_is_exact_refuses_a_random_loss(measure):
    objective = problems.objective(masked(), problems.vectors(20), batch_size=20)
    with pytest.raises(UsageError, match=r"not deterministic.*mode='train'"):
        measure(objective)


class Jittering(nn.Module):
    """Outputs near a target, other in each pass by a share of themselves."""

    def __init__(self, share):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.share = share

    def forward(self, fitted):
        signs = torch.randn(fitted.shape).sign()
        return self.weight * fitted * (1 + self.share * signs)


def fitted(loss, share):
    """An objective of 50 samples whose float32 losses are tiny."""
    outputs = 1 + (torch.arange(50) % 3).float()[:, None]
    return Objective(Jittering(share), (outputs, outputs + 1e-5), loss)


@pytest.mark.parametrize("loss", ["mse", F.l1_loss])
def test_rounding_of_outputs_is_no_randomness_where_the_loss_is_tiny(loss):
    objective = fitted(loss, 2**-23)
    assert 0 < objective.value().value < 2e-5
    objective.check_repeatable()


@pytest.mark.parametrize("loss", ["mse", F.l1_loss])
def test_a_random_loss_is_refused_however_small_it_is(loss):
    with pytest.raises(UsageError, match="not deterministic"):
        fitted(loss, 1e-2).check_repeatable()


def test_a_random_loss_of_a_model_that_repeats_is_refused():
    def loss(model, batch):
        return model(batch[0])[:, 0] * torch.rand(())

    with pytest.raises(UsageError, match="not deterministic"):
        fitted(loss, 0.0).check_repeatable()


@every
def test_masks_that_repeat_are_no_random_loss(measure):
    model = problems.drawn(Masked(always=False))
    objective = problems.objective(model, problems.vectors(), mode="train")
    torch.testing.assert_close(measure(objective), measure(objective), rtol=0, atol=0)


def test_a_random_loss_is_looked_for_once():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    objective.check_repeatable()
    spent = objective.cost
    assert spent.forwards == pytest.approx(2 / 3)  # of three batches, the first twice
    objective.check_repeatable()
    Hessian(objective).exact_trace()
    H = Hessian(objective)
    H @ torch.ones(H.shape[0], dtype=H.dtype)
    assert (objective.cost - spent).forwards < 2


def test_without_a_check_a_random_trace_is_drawn_and_not_exact():
    objective = problems.objective(masked(), problems.vectors(20), batch_size=20)
    found = trace(Hessian(objective, check=False), max_samples=20)
    assert found.details["method"] != "exact"
    assert found.stderr > 0


class Bag(nn.Module):
    def __init__(self, layer, **table):
        super().__init__()
        self.table = layer(5, 4, **table)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        rows = self.table(x)
        return self.head(torch.tanh(rows.mean(1) if rows.dim() == 3 else rows))


def lookups():
    source = problems.generator(3)
    x = torch.randint(5, (7, 3), generator=source)
    return x, torch.randint(3, (7,), generator=source)


@every
@pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
def test_a_table_with_longer_rows_than_its_bound_is_refused_unchanged(layer, measure):
    model = Bag(layer, max_norm=0.5).double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match=r"'table' has max_norm=0.5.*torch\.renorm"):
        measure(problems.objective(model, lookups()))
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())
    assert model.table.max_norm == 0.5


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_table_within_its_bound_is_measured_as_one_without(backend):
    bounded, free = (Bag(nn.Embedding, max_norm=m).double() for m in (0.5, None))
    bounded(lookups()[0])  # shortens the rows that are looked up
    with torch.no_grad():
        bounded.table.weight.copy_(torch.renorm(bounded.table.weight, 2, 0, 0.5))
    free.load_state_dict(bounded.state_dict())
    before = problems.state_of(bounded)
    found = products(problems.objective(bounded, lookups()), backend)
    expected = products(problems.objective(free, lookups()), backend)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    problems.assert_same(problems.state_of(bounded), before)
    assert bounded.table.max_norm == 0.5


class Writer(nn.Module):
    """A constraint kept by writing to the weights."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        self.inner.weight.data.clamp_(-0.1, 0.1)
        return self.inner(x)


@every
def test_a_model_that_writes_to_its_parameters_is_refused_unchanged(measure):
    model = problems.drawn(Writer())
    before = model.inner.weight.detach().clone()
    with pytest.raises(UsageError, match=r"writes to its parameter inner\.weight"):
        measure(problems.objective(model, problems.vectors()))
    assert torch.equal(model.inner.weight, before)


def test_parameters_that_are_not_numbers_count_as_unchanged():
    model = problems.mlp()
    with torch.no_grad():
        model[0].bias[0] = torch.nan
    value = problems.objective(model, problems.vectors()).value().value
    assert value != value


class Checkpointed(nn.Module):
    """A network whose first half is checkpointed in one of torch's two ways."""

    def __init__(self, reentrant):
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.3))
        self.second = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.head = nn.Linear(5, 3)
        self.reentrant = reentrant

    def forward(self, x):
        for block in (self.first, self.second):
            if self.reentrant is None:
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.head(x)


@every
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_hide_no_parameter(reentrant, measure):
    plain, hidden = (
        problems.objective(problems.drawn(Checkpointed(r)), problems.vectors())
        for r in (None, reentrant)
    )
    torch.testing.assert_close(measure(hidden), measure(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_see_into_checkpoints_with_masks(backend):
    plain, hidden = (
        problems.objective(
            problems.drawn(Checkpointed(r)), problems.vectors(), mode="train"
        )
        for r in (None, True)
    )
    expected = products(plain)
    close = {"rtol": 1e-5, "atol": 1e-7} if backend == BACKENDS[-1] else CLOSE
    torch.testing.assert_close(products(hidden, backend), expected, **close)


class Nested(torch.autograd.Function):
    """A layer whose backward pass runs another one."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.x, ctx.layer = x.detach().requires_grad_(), layer
        return layer(x)

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            ctx.layer(ctx.x).backward(grad)
        return ctx.x.grad, None


class Hiding(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return Nested.apply(torch.relu(self.first(x)), self.second)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gradient", r"backward\(\) inside.*second\.weight"),
        ("eigenvalues", "derivatives of Nested are wrong"),
    ],
)
def test_a_backward_pass_within_one_is_refused(name, said):
    measure = ALL[name]
    model = Hiding().double()
    with pytest.raises(UsageError, match=said):
        measure(problems.objective(model, problems.vectors()))
    assert all(p.grad is None for p in model.parameters())


# Losses that differentiate the network themselves, as for a differential equation.


# torch scripts its own rules of forward derivatives at their first use.
scripted = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def network():
    layers = (nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1))
    return problems.drawn(nn.Sequential(*layers))


def places():
    return (torch.linspace(0, 1, 7, dtype=torch.float64)[:, None],)


def residual(model, batch):
    """Squares of u' + u - x, by torch.autograd.grad."""
    x = batch[0].detach().requires_grad_()
    u = model(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return (slope + u - x).square()[:, 0]


def transformed(model, batch):
    """The same by torch.func."""
    u, slope = torch.func.jvp(model, (batch[0],), (torch.ones_like(batch[0]),))
    return (slope + u - batch[0]).square()[:, 0]


def written_out(vector):
    """The same mean from the derivative of the network, worked by hand."""
    w, b, v, c = unflatten(vector, list(network().parameters()))
    (x,) = places()
    hidden = torch.tanh(x @ w.T + b)
    u = hidden @ v.T + c
    slope = ((1 - hidden.square()) * w.T) @ v.T
    return (slope + u - x).square().mean()


@pytest.fixture(scope="module")
def truth():
    at = problems.flat(network())
    return torch.autograd.functional.hessian(written_out, at)


@scripted
@pytest.mark.parametrize("loss", [residual, transformed])
def test_a_loss_that_differentiates_has_a_value_and_a_gradient(loss):
    objective = Objective(network(), places(), loss, batch_size=3)
    at = problems.flat(network()).requires_grad_()
    expected = written_out(at)
    assert objective.value().value == pytest.approx(float(expected.detach()), rel=1e-12)
    gradient = torch.autograd.grad(expected, at)[0]
    torch.testing.assert_close(flatten(objective.gradient()), gradient, **CLOSE)


@scripted
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", [residual, transformed])
def test_a_loss_that_differentiates_is_multiplied(loss, backend, truth):
    objective = Objective(network(), places(), loss, batch_size=3)
    close = {"rtol": 1e-6, "atol": 1e-8} if backend == BACKENDS[-1] else CLOSE
    torch.testing.assert_close(products(objective, backend), columns(truth), **close)


@scripted
def test_a_loss_that_differentiates_by_transforms_is_multiplied_by_func(truth):
    objective = Objective(network(), places(), transformed, batch_size=3)
    torch.testing.assert_close(products(objective, "func"), columns(truth), **CLOSE)
    tape = Objective(network(), places(), residual, batch_size=3)
    with pytest.raises(UsageError, match="backend='func' cannot take this model"):
        products(tape, "func")


def test_a_loss_that_differentiates_is_measured(truth):
    objective = Objective(network(), places(), residual, batch_size=3)
    before = problems.state_of(objective.model)
    found = trace(Hessian(objective), rtol=0.05)
    assert abs(found.value - float(truth.trace())) <= 4 * found.stderr + 1e-9
    values = torch.linalg.eigvalsh(truth)
    top = float(eigsh(Hessian(objective), tol=1e-5).values[0])
    assert top == pytest.approx(float(values[-1]), rel=1e-8)
    assert LPF(samples=2, sigma=1e-6)(objective).value == pytest.approx(
        objective.value().value, rel=1e-3
    )
    assert float(line(objective)[0]) == pytest.approx(objective.value().value, rel=1e-9)
    problems.assert_same(problems.state_of(objective.model), before)


@pytest.mark.parametrize("backend", ["auto", "finite_difference"])
def test_the_empirical_fisher_takes_a_loss_that_differentiates(backend):
    objective = Objective(network(), places(), residual, batch_size=3)
    terms = torch.autograd.functional.jacobian(
        lambda v: torch.stack([written_out_term(v, i) for i in range(7)]),
        problems.flat(network()),
    )
    found = products(objective, backend, EmpiricalFisher)
    torch.testing.assert_close(
        found, columns(terms.T @ terms / 7), rtol=1e-6, atol=1e-8
    )


def written_out_term(vector, row):
    w, b, v, c = unflatten(vector, list(network().parameters()))
    x = places()[0][row : row + 1]
    hidden = torch.tanh(x @ w.T + b)
    slope = ((1 - hidden.square()) * w.T) @ v.T
    return (slope + hidden @ v.T + c - x).square()[0, 0]


@pytest.mark.parametrize("ask", [products, layer_traces], ids=["products", "traces"])
def test_the_gauss_newton_matrix_refuses_a_loss_that_differentiates(ask):
    objective = Objective(network(), places(), residual, batch_size=3)
    settings = {"kind": GGN} if ask is products else {}
    with pytest.raises(UsageError, match="differentiates the model itself; use Hess"):
        ask(objective, **settings)
