"""Hessian products against dense second derivatives and closed forms."""

import gc
import weakref

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


@pytest.mark.parametrize("name", ["tanh", "batch_norm", "lstm"])
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


def test_a_budget_for_some_batches_keeps_these_and_redoes_the_others():
    objective = problems.objective(problems.mlp(), problems.vectors())
    v = torch.ones(sum(p.numel() for p in objective.params), dtype=torch.float64)
    whole = Hessian(objective)
    expected = whole @ v
    some = Hessian(objective, budget=int(whole.retained_bytes * 0.6))
    assert torch.equal(some @ v, expected)
    assert 0 < some.retained_bytes <= some.budget
    before = objective.cost.gradients
    assert torch.equal(some @ v, expected)
    assert 0 < objective.cost.gradients - before < 1


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


def test_batch_norm_statistics_changed_in_place_are_noticed():
    model, data = problems.networks()["batch_norm"]
    H = Hessian(problems.objective(model, data))
    _ = matrix(H)
    model[1].running_var.mul_(2)
    torch.testing.assert_close(matrix(H), problems.dense_hessian(model, data), **CLOSE)


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


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


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


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_an_operation_without_double_backward_is_one_sentence_without_trace(loss):
    model, data = problems.cnn(), problems.vectors(shape=(1, 4, 4))
    H = Hessian(Objective(model, [data], loss=loss, mode="train"))
    before = problems.state_of(model)
    with pytest.raises(UsageError, match="cannot be differentiated twice") as caught:
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
    assert "\n" not in str(caught.value)
    assert "lpf" in str(caught.value)
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


def test_nothing_keeps_a_hessian_alive():
    objective = problems.objective(problems.mlp(), problems.vectors())
    gc.collect()
    gc.disable()
    try:
        H = Hessian(objective)
        _ = H @ torch.ones(H.shape[0], dtype=H.dtype)
        dead = weakref.ref(H), weakref.ref(H._kept[0][0])
        del H
        assert dead[0]() is None
        assert dead[1]() is None
    finally:
        gc.enable()


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
