"""Hessian products against dense second derivatives and closed forms."""

import pytest
import torch
from torch import nn

import problems
from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError, UsageError
from steppe.linalg.lanczos import eigsh
from steppe.linalg.trace import trace
from steppe.objective import Objective

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def matrix(H):
    return H @ torch.eye(H.shape[0], dtype=H.dtype)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", problems.networks())
def test_products_are_those_of_the_dense_hessian(name, mode):
    model, data = problems.networks()[name]
    H = Hessian(problems.objective(model, data, mode=mode))
    expected = problems.dense_hessian(model, data, mode)
    torch.testing.assert_close(matrix(H), expected, **CLOSE)


@pytest.mark.parametrize(
    "name", ["tanh", "batch_norm", pytest.param("lstm", marks=pytest.mark.slow)]
)
def test_top_five_eigenpairs_and_trace_are_those_of_the_dense_hessian(name):
    model, data = problems.networks()[name]
    H = Hessian(problems.objective(model, data))
    dense = problems.dense_hessian(model, data)
    top = torch.linalg.eigvalsh(dense).flip(0)[:5]
    torch.testing.assert_close(eigsh(H, 5).values, top, rtol=1e-6, atol=1e-8)
    found = trace(H, rtol=1e-9, max_samples=300)
    assert abs(found.value - float(dense.trace())) < 4 * found.stderr


def test_linear_regression_is_twice_the_mean_of_outer_products():
    x, _ = problems.vectors()
    data = (x, torch.zeros(7, 1, dtype=torch.float64))
    model = problems.linear(classes=1)
    H = Hessian(problems.objective(model, data, loss="mse"))
    torch.testing.assert_close(matrix(H), 2 * x.T @ x / 7, **CLOSE)


def test_softmax_regression_is_the_kronecker_product_of_covariances():
    model, (x, y) = problems.linear(), problems.vectors()
    p = torch.softmax(x @ model.weight.detach().T, 1)
    within = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = torch.einsum("nab,ni,nj->aibj", within, x, x).reshape(12, 12) / 7
    H = Hessian(problems.objective(model, (x, y)))
    torch.testing.assert_close(matrix(H), expected, **CLOSE)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_a_ragged_last_batch_changes_nothing(batch_size):
    model, data = problems.mlp(), problems.vectors()
    whole = Hessian(problems.objective(model, data, batch_size=7))
    split = Hessian(problems.objective(model, data, batch_size=batch_size))
    torch.testing.assert_close(matrix(split), matrix(whole), **CLOSE)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", problems.networks())
def test_no_retained_graph_gives_the_same_products_bit_for_bit(name, mode):
    model, data = problems.networks()[name]
    objective = problems.objective(model, data, mode=mode)
    kept, redone = Hessian(objective), Hessian(objective, budget=0)
    v = torch.randn(kept.shape[0], dtype=kept.dtype, generator=problems.generator())
    assert torch.equal(kept @ v, redone @ v)
    assert torch.equal(kept @ v, redone @ v)


def test_retained_graphs_make_a_second_product_free_of_gradients():
    objective = problems.objective(problems.mlp(), problems.vectors())
    H = Hessian(objective)
    v = torch.ones(H.shape[0], dtype=H.dtype)
    _ = H @ v
    before = objective.cost
    _ = H @ torch.stack([v, v], dim=1)
    spent = objective.cost - before
    assert (spent.gradients, spent.products, H.products) == (0, 2, 3)


def test_a_block_is_its_columns():
    H = Hessian(problems.objective(problems.mlp(), problems.vectors()))
    source = problems.generator()
    V = torch.randn((H.shape[0], 3), dtype=H.dtype, generator=source)
    expected = torch.stack([H @ v for v in V.unbind(1)], dim=1)
    assert torch.equal(H @ V, expected)
    assert (H @ V[:, :0]).shape == (H.shape[0], 0)


@pytest.mark.parametrize("through_data", [False, True])
def test_parameters_changed_in_place_are_noticed(through_data):
    model, data = problems.mlp(), problems.vectors()
    H = Hessian(problems.objective(model, data))
    _ = matrix(H)
    with torch.no_grad():
        weight = model[2].weight.data if through_data else model[2].weight
        weight.mul_(1.5)
    torch.testing.assert_close(matrix(H), problems.dense_hessian(model, data), **CLOSE)


@pytest.mark.slow
def test_batch_norm_statistics_changed_in_place_are_noticed():
    model, data = problems.networks()["batch_norm"]
    H = Hessian(problems.objective(model, data))
    _ = matrix(H)
    model[1].running_var.mul_(2)
    torch.testing.assert_close(matrix(H), problems.dense_hessian(model, data), **CLOSE)


def changed_frozen(model):
    model[0].weight.mul_(1.5)


def changed_buffer(model):
    model[0].scale.mul_(1.5)


class Scaled(nn.Linear):
    def __init__(self):
        super().__init__(problems.INPUTS, 6)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        return self.scale * super().forward(x)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("change", [changed_frozen, changed_buffer])
def test_frozen_parameters_and_buffers_changed_in_place_are_noticed(change, mode):
    model, data = problems.mlp(), problems.vectors()
    model[0] = problems.drawn(Scaled()).requires_grad_(False)
    H = Hessian(problems.objective(model, data, mode=mode))
    _ = matrix(H)
    with torch.no_grad():
        change(model)
    expected = problems.dense_hessian(model, data)
    torch.testing.assert_close(matrix(H), expected, **CLOSE)


def test_batch_norm_in_training_makes_no_graph_anew():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data, mode="train")
    H = Hessian(objective)
    v = torch.ones(H.shape[0], dtype=H.dtype)
    _ = H @ v, H @ v
    assert objective.cost.gradients == pytest.approx(1)


@pytest.mark.parametrize("budget", [0, 2**31])
def test_a_replaced_parameter_is_refused_also_with_retained_graphs(budget):
    model = problems.mlp()
    H = Hessian(problems.objective(model, problems.vectors()), budget=budget)
    v = torch.ones(H.shape[0], dtype=H.dtype)
    _ = H @ v
    model[2].weight = nn.Parameter(model[2].weight.detach().clone())
    with pytest.raises(UsageError, match=r"2\.weight was replaced"):
        _ = H @ v


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_a_context_around_products_changes_none_of_them(context):
    model, (x, y) = problems.mlp().float(), problems.vectors()
    H = Hessian(problems.objective(model, (x.float(), y)))
    v = torch.ones(H.shape[0])
    with context():
        first, second = H @ v.clone(), H @ v.clone()
    H.close()
    assert torch.equal(first, H @ v)
    assert torch.equal(second, first)
    assert first.any()


NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")  # torch 2.9 and later
TF32 = ("fp32_precision", "tf32") if NEW else ("allow_tf32", True)
FULL = "ieee" if NEW else False


@pytest.fixture
def tf32():
    backend = torch.backends.cuda.matmul
    before = getattr(backend, TF32[0])
    setattr(backend, *TF32)
    yield backend
    setattr(backend, TF32[0], before)


def test_products_of_float32_keep_all_bits_whatever_is_set(tf32):
    seen = []

    def loss(model, batch):
        seen.append(getattr(tf32, TF32[0]))
        return model(batch[0]).square().sum(1)

    H = Hessian(Objective(problems.mlp(), [problems.vectors()], loss=loss), budget=0)
    before = H.objective.count()
    seen.clear()
    _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    assert (before, set(seen)) == (7, {FULL})
    assert getattr(tf32, TF32[0]) == TF32[1]


def test_sparse_gradients_are_refused_by_the_name_of_their_layer():
    layers = nn.Embedding(5, 2, sparse=True), nn.Flatten(), nn.Linear(6, 3)
    data = torch.zeros((4, 3), dtype=torch.long), torch.zeros(4, dtype=torch.long)
    H = Hessian(problems.objective(nn.Sequential(*layers), data))
    with pytest.raises(UsageError, match=r"layer '0' are sparse.*sparse=False"):
        _ = H @ torch.ones(H.shape[0])
    layers[0].requires_grad_(False)
    H = Hessian(problems.objective(nn.Sequential(*layers), data))
    assert (H @ torch.ones(H.shape[0])).any()


def test_a_compiled_model_is_refused_by_a_sentence_that_says_so():
    compiled = torch.compile(problems.linear(), backend="aot_eager")
    H = Hessian(problems.objective(compiled, problems.vectors()))
    with pytest.raises(UsageError, match=r"as it was before torch\.compile"):
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)


def test_batches_may_be_dictionaries_and_frozen_parameters_are_left_out():
    model, (x, y) = problems.mlp(), problems.vectors()
    model[0].requires_grad_(False)
    batches = [{"x": x[:5], "y": y[:5]}, {"x": x[5:], "y": y[5:]}]

    def loss(model, batch):
        return nn.functional.cross_entropy(
            model(batch["x"]), batch["y"], reduction="none"
        )

    H = Hessian(Objective(model, batches, loss=loss))
    torch.testing.assert_close(
        matrix(H), problems.dense_hessian(model, (x, y)), **CLOSE
    )


def test_a_loss_without_curvature_or_influence_has_zeros():
    x, _ = problems.vectors()
    model = problems.linear(classes=1)
    v = torch.ones(4, dtype=torch.float64)
    straight = Objective(model, [x], loss=lambda model, x: model(x)[:, 0])
    assert torch.equal(Hessian(straight) @ v, torch.zeros_like(v))
    constant = Objective(model, [x], loss=lambda model, x: x[:, 0])
    assert torch.equal(Hessian(constant) @ v, torch.zeros_like(v))


def test_dropout_has_the_same_masks_in_every_product():
    model = problems.drawn(problems.Attention(dropout=0.5))
    data = problems.vectors(shape=(3, 4))
    objective = problems.objective(model, data, mode="train")
    H, redone = Hessian(objective), Hessian(objective, budget=0)
    v = torch.ones(H.shape[0], dtype=H.dtype)
    assert torch.equal(H @ v, redone @ v)
    w = v.cumsum(0)
    torch.testing.assert_close(w @ (H @ v), v @ (redone @ w), rtol=1e-10, atol=0)


class Once(problems.Flagged):
    """Under a name of its own, which is to be told."""


NAMES = {
    "before others": "Once is marked with @once_differentiable",
    "last": "Once is marked with @once_differentiable",
    "native": "_ctc_loss_backward",
}
LOSSES = {
    "before others": lambda model, batch: Once.apply(model(batch[0])).exp().sum(1),
    "last": lambda model, batch: Once.apply(model(batch[0])).sum(1),
    "native": lambda model, batch: torch.nn.functional.ctc_loss(
        model(batch[0]).log_softmax(1)[:, None],
        torch.ones(1, 2, dtype=torch.long),
        torch.tensor([7]),
        torch.tensor([2]),
        reduction="none",
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_an_operation_without_double_backward_is_one_sentence_without_trace(name):
    model, data = problems.cnn(), problems.vectors(shape=(1, 4, 4))
    H = Hessian(Objective(model, [data], loss=LOSSES[name], mode="train"))
    before = problems.state_of(model)
    with pytest.raises(UsageError, match="cannot be differentiated twice") as caught:
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    assert "\n" not in str(caught.value)
    assert "lpf" in str(caught.value)
    assert NAMES[name] in str(caught.value)
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("budget", [0, 2**31])
def test_a_product_leaves_no_trace(mode, budget):
    model, data = problems.networks()["batch_norm"]
    H = Hessian(problems.objective(model, data, mode=mode), budget=budget)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = problems.state_of(model)
    _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    problems.assert_same(problems.state_of(model), before)


def test_closing_lets_go_of_the_graphs_and_a_product_builds_them_again():
    H = Hessian(problems.objective(problems.mlp(), problems.vectors()))
    v = torch.ones(H.shape[0], dtype=H.dtype)
    first = H @ v
    H.close()
    assert H.retained_bytes == 0
    assert torch.equal(H @ v, first)


def test_wrong_shapes_and_budgets_are_refused():
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(SettingError, match="budget must be >= 0"):
        Hessian(objective, budget=-1)
    with pytest.raises(SettingError, match="got \\(3,\\)"):
        _ = Hessian(objective) @ torch.ones(3)
