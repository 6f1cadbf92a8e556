"""Second derivatives that torch or a custom function gets wrong: mended or refused."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import composite
import problems
from steppe.curvature.fisher import EmpiricalFisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.per_sample.traces import exact_diagonal, layer_traces
from steppe.errors import UsageError
from steppe.linalg.diagonal import diagonal
from steppe.linalg.lanczos import eigsh
from steppe.linalg.operators import Identity, operator
from steppe.linalg.spectrum import spectrum
from steppe.linalg.trace import frobenius, trace
from steppe.measures.spectral.minimum_sharpness import minimum_sharpness
from steppe.objective import Objective

CLOSE = {"rtol": 1e-8, "atol": 1e-10}
GRAPHS = ("auto", "retained", "recompute")
BACKENDS = (*GRAPHS, "func", "finite_difference")


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def normed(wrap, seed=0):
    layers = (wrap(nn.Linear(4, 5)), nn.Tanh(), wrap(nn.Linear(5, 3)))
    return problems.drawn(nn.Sequential(*layers), seed)


def columns(matrix):
    """Products with three fixed vectors, which no wrong matrix has by chance."""
    size = (matrix.shape[0], 3)
    return matrix @ torch.randn(
        size, generator=problems.generator(9), dtype=matrix.dtype
    )


def dense(make, data):
    return composite.Dense(make(), data, composite.cross_entropy)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_weight_norm_has_the_second_derivatives_of_its_formula(wrap, backend):
    data = problems.vectors()
    truth = dense(lambda: normed(wrap), data).hessian
    H = Hessian(problems.objective(normed(wrap), data), backend=backend)
    close = CLOSE if backend != "finite_difference" else {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(columns(H), columns(truth), **close)


@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, old_weight_norm])
def test_weight_norm_has_the_largest_eigenvalue_of_its_formula(wrap):
    data = problems.vectors()
    top = torch.linalg.eigvalsh(dense(lambda: normed(wrap), data).hessian)[-1]
    found = eigsh(Hessian(problems.objective(normed(wrap), data)), tol=1e-4)
    torch.testing.assert_close(found.values[0], top, rtol=1e-6, atol=0)


def shifted(seed=0):
    """Batch norm in evaluation mode with a bias and no weight."""
    norm = problems.normed(nn.BatchNorm1d(5))
    norm.register_parameter("weight", None)
    layers = (nn.Linear(4, 5), norm, nn.Tanh(), nn.Linear(5, 3))
    return problems.drawn(nn.Sequential(*layers), seed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_norm_without_a_weight_keeps_its_bias(backend):
    data = problems.vectors()
    truth = dense(shifted, data).hessian
    H = Hessian(problems.objective(shifted(), data), backend=backend)
    close = CLOSE if backend != "finite_difference" else {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(columns(H), columns(truth), **close)


class Hooked(nn.Module):
    """A network whose saved tensors somebody else looks after."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, torch.clone):
            return self.inner(x)


@pytest.mark.parametrize("make", [shifted, lambda: normed(old_weight_norm)])
def test_corrections_hold_where_tensors_are_saved_by_others(make):
    data = problems.vectors()
    H = Hessian(problems.objective(Hooked(make()), data))
    truth = dense(make, data).hessian
    torch.testing.assert_close(columns(H), columns(truth), **CLOSE)


class Words(nn.Module):
    """Words in; out by a layer, or by the table itself."""

    def __init__(self, tied, **table):
        super().__init__()
        self.table = nn.Embedding(5, 4, **table)
        self.head = nn.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(torch.tanh(self.table(x)).mean(1))


def words(tied=False, **table):
    return problems.drawn(Words(tied, **table))


def sentences():
    source = problems.generator(3)
    return (
        torch.randint(5, (7, 3), generator=source),
        torch.randint(5, (7,), generator=source),
    )


@pytest.mark.parametrize("kind", ["hessian", "ggn"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_row_for_padding_is_a_constant_in_all_products(backend, tied, kind):
    data = sentences()
    truth = getattr(dense(lambda: words(tied, padding_idx=2), data), kind)
    objective = problems.objective(words(tied, padding_idx=2), data)
    H = {"hessian": Hessian, "ggn": GGN}[kind](objective, backend=backend)
    close = CLOSE if backend != "finite_difference" else {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(columns(H), columns(truth), **close)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_scaled_by_frequency_are_those_of_the_loss_in_a_measure(backend):
    data = sentences()
    truth = dense(words, data)
    objective = problems.objective(words(scale_grad_by_freq=True), data)
    gradient = torch.cat([g.flatten() for g in objective.gradient()])
    torch.testing.assert_close(gradient, truth.gradient, **CLOSE)
    H = Hessian(objective, backend=backend)
    close = CLOSE if backend != "finite_difference" else {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(columns(H), columns(truth.hessian), **close)
    assert objective.model.table.scale_grad_by_freq


class Detached(torch.autograd.Function):
    """The exponential, whose backward pass does not say how it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.value = x.exp().detach()
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.value


class Exponential(torch.autograd.Function):
    """The exponential, as it should be."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].exp()


class Rectified(torch.autograd.Function):
    """max(x, 0), whose second derivative is rightly none."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


class Lost(torch.autograd.Function):
    """The identity, with a backward pass that cuts the graph."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.detach()


class Custom(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.function = function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


def custom(function):
    return problems.drawn(Custom(function))


@pytest.mark.parametrize("backend", GRAPHS)
@pytest.mark.parametrize("function", [Detached, Lost])
def test_a_custom_backward_pass_that_drops_its_graph_is_refused(function, backend):
    objective = problems.objective(custom(function.apply), problems.vectors())
    H = Hessian(objective, backend=backend)
    v = torch.ones(H.shape[0], dtype=H.dtype)
    with pytest.raises(UsageError, match=f"{function.__name__} are wrong"):
        H @ v
    assert (Hessian(objective, backend=backend, check=False) @ v).any()


def test_a_cut_graph_is_refused_in_products_with_the_gauss_newton_matrix():
    G = GGN(problems.objective(custom(Lost.apply), problems.vectors()))
    with pytest.raises(UsageError, match="Lost are wrong"):
        G @ torch.ones(G.shape[0], dtype=G.dtype)


def test_the_gauss_newton_matrix_needs_no_second_derivative_of_a_function():
    data = problems.vectors()
    truth = dense(lambda: custom(torch.exp), data).ggn
    G = GGN(problems.objective(custom(Detached.apply), data))
    torch.testing.assert_close(columns(G), columns(truth), **CLOSE)


@pytest.mark.parametrize(
    ("function", "plain"), [(Exponential, torch.exp), (Rectified, torch.relu)]
)
@pytest.mark.parametrize("backend", GRAPHS)
def test_a_custom_backward_pass_that_is_right_is_taken(function, plain, backend):
    data = problems.vectors()
    H = Hessian(problems.objective(custom(function.apply), data), backend=backend)
    truth = dense(lambda: custom(plain), data).hessian
    torch.testing.assert_close(columns(H), columns(truth), **CLOSE)
    torch.testing.assert_close(columns(H), columns(truth), **CLOSE)


def test_kinks_between_the_ends_of_a_difference_refuse_nothing():
    # In float32 with many samples the differences cross hundreds of kinks.
    model = custom(Rectified.apply).float()
    x, y = problems.vectors(n=3000)
    objective = Objective(model, (x.float(), y), batch_size=3000)
    H = Hessian(objective)
    assert (H @ torch.ones(H.shape[0])).any()


ASYMMETRIC = torch.tensor(
    [[3.0, 0.4, 0.0, 0.1], [0.0, 2.0, 0.2, 0.0], [0.1, 0.0, 1.0, 0.3], [0, 0, 0, 0.5]]
)


@pytest.mark.parametrize("algorithm", [eigsh, trace, frobenius, diagonal, spectrum])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_products_that_are_not_symmetric_are_refused(algorithm, dtype):
    big = torch.block_diag(*[ASYMMETRIC] * 10).to(dtype)
    with pytest.raises(UsageError, match=r"not symmetric.*another backend"):
        algorithm(operator(lambda v: big @ v, len(big), dtype=dtype))


@pytest.mark.parametrize("algorithm", [eigsh, trace, frobenius, diagonal, spectrum])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_not_taken_for_asymmetry(algorithm, dtype):
    values = torch.logspace(-6, 2, 60, dtype=torch.float64)
    H = problems.symmetric(values.tolist()).to(dtype)
    times = operator(lambda v: H @ v, len(H), dtype=dtype)
    assert algorithm(times) is not None
    assert algorithm(0.5 * times + Identity(len(H), dtype=dtype)) is not None


def test_what_is_random_on_purpose_is_not_held_to_symmetry():
    class Noisy(nn.Sequential):
        def forward(self, x):
            return torch.nn.functional.dropout(super().forward(x), 0.5, training=True)

    model = Noisy(*problems.mlp())
    H = Hessian(
        problems.objective(model, problems.vectors()), backend="recompute", check=False
    )
    assert len(eigsh(H, max_products=8).values) == 1
    assert trace(H, min_samples=3, max_samples=3).samples == 3


@pytest.mark.parametrize("kind", [Hessian, GGN, EmpiricalFisher])
@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_without_dimensions_or_entries_are_multiplied(kind, backend):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(0.7))
            self.nothing = nn.Parameter(torch.zeros(0, 4))
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return self.inner(torch.tanh(self.factor * x) + self.nothing.sum(0))

    objective = problems.objective(Odd().double(), problems.vectors())
    V = torch.randn(16, 2, dtype=torch.float64, generator=problems.generator())
    expected = kind(objective, backend="recompute") @ V
    found = kind(objective, backend=backend) @ V
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


class Partly(nn.Module):
    """A network some of whose parameters, or all, have no influence."""

    def __init__(self, used):
        super().__init__()
        self.used = used
        self.inner, self.idle = nn.Linear(4, 3), nn.Linear(2, 2)
        self.nothing = nn.Parameter(torch.zeros(0, 2))

    def forward(self, x):
        return self.inner(x) if self.used else x[:, :3]


def partly(used):
    return problems.objective(Partly(used).double(), problems.vectors())


NO_INFLUENCE = [(False, None), (False, "inner.*"), (True, "idle.*"), (True, "nothing")]


@pytest.mark.parametrize(("used", "params"), NO_INFLUENCE)
@pytest.mark.parametrize("kind", [Hessian, GGN, EmpiricalFisher])
@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_without_influence_have_zeros(backend, kind, used, params):
    H = kind(partly(used), backend=backend, params=params)
    assert columns(H).shape == (H.shape[0], 3)
    assert not columns(H).any()


@pytest.mark.parametrize(("used", "params"), NO_INFLUENCE[:3])
@pytest.mark.parametrize("kind", [Hessian, GGN, EmpiricalFisher])
def test_algorithms_give_zero_for_parameters_without_influence(kind, used, params):
    H = kind(partly(used), params=params)
    assert trace(H).value == 0
    assert not eigsh(H).values.any()
    assert not diagonal(H).values.any()


@pytest.mark.parametrize(("used", "params"), NO_INFLUENCE)
def test_exact_sums_of_parameters_without_influence_are_zero(used, params):
    assert layer_traces(partly(used), params=params).total == 0
    assert not exact_diagonal(partly(used), params=params).any()
    assert not any(g.any() for g in partly(False).gradient())
    assert minimum_sharpness(partly(False)).value == 0


@pytest.mark.parametrize("kind", [Hessian, GGN])
def test_products_by_func_leave_a_module_with_two_names_as_it_was(kind):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = nn.Linear(4, 4)

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    model = Twice().double()
    weight = model.first.weight
    objective = problems.objective(model, problems.vectors())
    expected = columns(kind(objective))
    found = columns(kind(objective, backend="func"))
    torch.testing.assert_close(found, expected, **CLOSE)
    assert model.first.weight is weight
