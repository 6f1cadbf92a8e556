"""Gauss-Newton products against dense Jacobians, closed forms and the Hessian."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.errors import UsageError
from steppe.linalg.lanczos import eigsh
from steppe.objective import Objective

CLOSE = {"rtol": 1e-8, "atol": 1e-10}


def matrix(H):
    return H @ torch.eye(H.shape[0], dtype=H.dtype)


def softmax_blocks(z):
    p = torch.softmax(z, 1)
    return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]


@pytest.mark.parametrize(
    "mode", ["eval", pytest.param("train", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", problems.networks())
def test_products_are_those_of_dense_jacobians(name, mode):
    model, data = problems.networks()[name]
    G = GGN(problems.objective(model, data, mode=mode))
    expected = problems.dense_quadratic(model, data, softmax_blocks, mode)
    torch.testing.assert_close(matrix(G), expected, **CLOSE)
    torch.testing.assert_close(matrix(G), matrix(G).T, **CLOSE)


def test_it_is_the_hessian_where_the_network_is_linear_in_its_parameters():
    model, data = problems.linear(), problems.vectors()
    objective = problems.objective(model, data)
    G = matrix(GGN(objective))
    torch.testing.assert_close(G, matrix(Hessian(objective)), **CLOSE)
    x = data[0]
    within = softmax_blocks(model(x).detach())
    expected = torch.einsum("nab,ni,nj->aibj", within, x, x).reshape(12, 12) / 7
    torch.testing.assert_close(G, expected, **CLOSE)


def test_binary_logistic_regression_is_the_weighted_second_moment():
    x, y = problems.vectors()
    model = nn.Sequential(problems.linear(1), nn.Flatten(0))
    loss = nn.BCEWithLogitsLoss(reduction="none")
    objective = problems.objective(model, (x, (y > 0).double()), loss=loss)
    s = torch.sigmoid(x @ model[0].weight.detach()[0])
    expected = (x * (s * (1 - s))[:, None]).T @ x / 7
    torch.testing.assert_close(matrix(GGN(objective)), expected, **CLOSE)
    torch.testing.assert_close(matrix(Hessian(objective)), expected, **CLOSE)


def test_it_is_the_hessian_where_all_residuals_vanish():
    model, (x, _) = problems.mlp(), problems.vectors()
    objective = problems.objective(model, (x, model(x).detach()), loss="mse")
    G, H = matrix(GGN(objective)), matrix(Hessian(objective))
    torch.testing.assert_close(G, H, **CLOSE)
    assert G.abs().max() > 0.1


def test_piecewise_linear_networks_have_the_diagonal_of_the_hessian():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    G, H = matrix(GGN(objective)), matrix(Hessian(objective))
    torch.testing.assert_close(G.diag(), H.diag(), **CLOSE)
    assert (G - H).abs().max() > 1e-2


def test_smooth_networks_have_another_diagonal():
    objective = problems.objective(problems.mlp(), problems.vectors())
    G, H = matrix(GGN(objective)), matrix(Hessian(objective))
    assert (G.diag() - H.diag()).abs().max() > 1e-3


def weighed(model, batch):
    """Losses of tokens, each weighed and some left out, of a batch that is a dict."""
    losses = F.cross_entropy(
        model(batch["x"]).flatten(0, 1), batch["y"].flatten(), reduction="none"
    )
    return (losses * batch["weight"].flatten())[batch["weight"].flatten() > 0]


def test_weighed_tokens_of_ragged_dictionaries_weigh_by_term():
    source = problems.generator(2)
    x = torch.randn(5, 3, 4, dtype=torch.float64, generator=source)
    y = torch.randint(3, (5, 3), generator=source)
    weight = torch.rand(5, 3, dtype=torch.float64, generator=source)
    weight[1, 2] = weight[4, 0] = 0
    data = {"x": x, "y": y, "weight": weight}
    parts = [{k: v[s] for k, v in data.items()} for s in (slice(2), slice(2, 5))]
    model = problems.mlp()
    found = matrix(GGN(Objective(model, parts, loss=weighed)))
    tokens = (x.reshape(15, 4), y.reshape(15))
    flat = weight.reshape(15)

    def blocks(z):
        return softmax_blocks(z) * flat[:, None, None] * 15 / 13

    expected = problems.dense_quadratic(model, tokens, blocks, batch_size=15)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_any_loss_of_the_outputs_has_its_own_second_derivatives():
    model, (x, _) = problems.mlp(), problems.vectors()
    objective = Objective(
        model, [x[:4], x[4:]], loss=lambda m, x: torch.logsumexp(m(x).sin(), 1)
    )

    def blocks(z):
        rows = [
            torch.autograd.functional.hessian(
                lambda row: torch.logsumexp(row.sin(), 0), row
            )
            for row in z
        ]
        return torch.stack(rows)

    expected = problems.dense_quadratic(model, (x, None), blocks)
    torch.testing.assert_close(matrix(GGN(objective)), expected, **CLOSE)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_a_ragged_last_batch_changes_nothing(batch_size):
    model, data = problems.mlp(), problems.vectors()
    whole = GGN(problems.objective(model, data, batch_size=7))
    split = GGN(problems.objective(model, data, batch_size=batch_size))
    torch.testing.assert_close(matrix(split), matrix(whole), **CLOSE)


def test_the_order_of_the_data_changes_nothing():
    model, (x, y) = problems.mlp(), problems.vectors()
    forth = GGN(problems.objective(model, (x, y)))
    back = GGN(problems.objective(model, (x.flip(0), y.flip(0))))
    torch.testing.assert_close(matrix(back), matrix(forth), **CLOSE)


@pytest.mark.parametrize("budget", [0, 2**31])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_product_leaves_no_trace(mode, budget):
    model, data = problems.networks()["batch_norm"]
    G = GGN(problems.objective(model, data, mode=mode), budget=budget)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = problems.state_of(model)
    first = G @ torch.ones(G.shape[0], dtype=G.dtype)
    again = G @ torch.ones(G.shape[0], dtype=G.dtype)
    problems.assert_same(problems.state_of(model), before)
    assert torch.equal(first, again)
    assert not model._forward_hooks


def test_parameters_changed_in_place_are_noticed():
    model, data = problems.mlp(), problems.vectors()
    G = GGN(problems.objective(model, data))
    _ = matrix(G)
    with torch.no_grad():
        model[2].weight.mul_(1.5)
    expected = problems.dense_quadratic(model, data, softmax_blocks)
    torch.testing.assert_close(matrix(G), expected, **CLOSE)


def test_top_eigenpairs_are_those_of_the_dense_matrix():
    model, data = problems.networks()["tanh"]
    dense = problems.dense_quadratic(model, data, softmax_blocks)
    top = torch.linalg.eigvalsh(dense).flip(0)[:4]
    found = eigsh(GGN(problems.objective(model, data)), 4)
    torch.testing.assert_close(found.values, top, rtol=1e-6, atol=1e-9)


class Squared(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = problems.linear(), nn.Linear(3, 3).double()

    def forward(self, x):
        return self.outer(problems.Flagged.apply(self.inner(x)))


def flagged_loss(model, batch):
    return problems.Flagged.apply(model(batch[0])).sum(1)


@pytest.mark.parametrize(
    ("model", "loss"),
    [(Squared(), "cross_entropy"), (problems.mlp(), flagged_loss)],
    ids=["model", "loss"],
)
def test_an_operation_without_double_backward_is_one_sentence(model, loss):
    G = GGN(problems.objective(model, problems.vectors(), loss=loss))
    with pytest.raises(UsageError, match=r"twice.*'Flagged is marked with") as caught:
        _ = G @ torch.ones(G.shape[0], dtype=G.dtype)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_compiled_model_is_refused_by_a_sentence_that_says_so():
    compiled = torch.compile(problems.linear(), backend="aot_eager")
    G = GGN(problems.objective(compiled, problems.vectors()))
    with pytest.raises(UsageError, match=r"as it was before torch\.compile"):
        _ = G @ torch.ones(G.shape[0], dtype=G.dtype)
