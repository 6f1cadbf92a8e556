"""Losses with a value for each output, and classes along the last dimension."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
import steppe
from steppe.curvature.per_sample.traces import layer_traces
from steppe.errors import DataError
from steppe.objective import Objective

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
PER_VALUE = {
    "mse": (nn.MSELoss, F.mse_loss),
    "l1": (nn.L1Loss, F.l1_loss),
    "smooth l1": (nn.SmoothL1Loss, F.smooth_l1_loss),
    "huber": (nn.HuberLoss, F.huber_loss),
    "log odds": (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits),
    "poisson": (nn.PoissonNLLLoss, F.poisson_nll_loss),
    "soft margin": (nn.SoftMarginLoss, F.soft_margin_loss),
    "hinge": (nn.HingeEmbeddingLoss, F.hinge_embedding_loss),
}


class LanguageModel(nn.Module):
    """Tokens (B, T) to logits (B, T, V), V = 5; each sees itself and the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens):
        here = self.embed(tokens)
        before = torch.cat([torch.zeros_like(here[:, :1]), here[:, :-1]], 1)
        return self.head(torch.tanh(torch.cat([here, before], 2)))


class Turned(nn.Module):
    """The same with the classes along dimension 1, where torch has them."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, tokens):
        return self.inner(tokens).transpose(1, 2)


def tokens(ignored=False):
    source = problems.generator(2)
    drawn = torch.randint(5, (6, 4), generator=source)
    inputs, targets = drawn[:, :-1], drawn[:, 1:].clone()
    if ignored:
        targets[2:4, 1] = -100
    return inputs, targets


def signs(shape):
    source = problems.generator(4)
    return torch.randint(2, shape, generator=source).double()


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("name", PER_VALUE)
def test_values_of_a_sample_are_averaged_as_torch_does(name, columns):
    module, function = PER_VALUE[name]
    model, (x, _) = problems.linear(columns), problems.vectors()
    y = signs((7, columns))
    expected = module()(model(x), y).item()
    for loss in (module(reduction="none"), function):
        value = Objective(model, (x, y), loss, batch_size=3).value()
        assert value.value == pytest.approx(expected, rel=1e-12)
        assert value.samples == 7
        assert value.details["reduction"] == "mean over the values of a sample"


def test_other_losses_with_a_value_for_each_output_want_a_function():
    (x, _), model = (
        problems.vectors(),
        nn.Sequential(problems.linear(), nn.LogSoftmax(1)),
    )
    loss = nn.KLDivLoss(reduction="none")
    with pytest.raises(DataError, match=r"got \(7, 3\); take the mean or sum"):
        Objective(model, (x, torch.full((7, 3), 1 / 3).double()), loss).value()


@pytest.mark.parametrize("name", ["mse", "log odds"])
@pytest.mark.parametrize("shape", [(7, 3), (7, 1), (7, 2, 3)])
def test_matrices_of_averaged_values_are_those_of_the_dense_mean_loss(name, shape):
    module, _ = PER_VALUE[name]
    model, (x, _) = (
        problems.linear(shape[-1]),
        problems.vectors(shape=(*shape[1:-1], 4)),
    )
    y = signs(shape)
    objective = Objective(model, (x, y), module(reduction="none"), batch_size=3)

    def mean(weight):
        return module()(F.linear(x, weight.reshape(-1, 4)), y)

    # The network is linear in its parameters: all three matrices are the Hessian.
    dense = torch.autograd.functional.hessian(mean, problems.flat(model))
    eye = torch.eye(len(dense), dtype=torch.float64)
    for kind in (steppe.Hessian, steppe.GGN, steppe.Fisher):
        torch.testing.assert_close(kind(objective) @ eye, dense, **CLOSE)


@pytest.mark.parametrize("columns", [1, 3])
def test_drawn_answers_to_several_questions_have_the_exact_one_as_their_mean(columns):
    model, (x, _) = problems.linear(columns), problems.vectors()
    loss = nn.BCEWithLogitsLoss(reduction="none")
    objective = Objective(model, (x, signs((7, columns))), loss)
    eye = torch.eye(4 * columns, dtype=torch.float64)
    exact = steppe.Fisher(objective) @ eye
    drawn = steppe.Fisher(objective, samples=4000) @ eye
    assert (drawn - exact).norm() < 0.05 * exact.norm()


def test_traces_by_layer_of_averaged_answers_are_those_of_the_gauss_newton_matrix():
    model, (x, _) = problems.mlp(nn.ReLU), problems.vectors()
    loss = nn.BCEWithLogitsLoss(reduction="none")
    objective = Objective(model, (x, signs((7, 3))), loss)
    G = steppe.GGN(objective) @ torch.eye(problems.flat(model).numel()).double()
    assert layer_traces(objective).total == pytest.approx(float(G.trace()), rel=1e-9)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    "loss", ["cross_entropy", F.cross_entropy, nn.CrossEntropyLoss(reduction="none")]
)
def test_logits_of_sequences_are_a_term_for_each_token(loss, ignored):
    model, (x, y) = problems.drawn(LanguageModel()), tokens(ignored)
    expected = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    objective = Objective(model, (x, y), loss, batch_size=4)
    assert objective.value().value == pytest.approx(expected.item(), rel=1e-12)
    assert objective.count() == int((y != -100).sum())
    grads = torch.autograd.grad(expected, objective.params)
    torch.testing.assert_close(objective.gradient(), list(grads), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("samples", [None, 2])
def test_matrices_do_not_depend_on_where_the_classes_lie(samples, ignored):
    model, data = problems.drawn(LanguageModel()), tokens(ignored)
    last = Objective(model, data)
    first = Objective(Turned(model), data)
    eye = torch.eye(problems.flat(model).numel(), dtype=torch.float64)
    for kind in (steppe.Hessian, steppe.GGN):
        torch.testing.assert_close(kind(last) @ eye, kind(first) @ eye, **CLOSE)
    found = [steppe.Fisher(o, samples=samples) @ eye for o in (last, first)]
    torch.testing.assert_close(*found, **CLOSE)


def test_log_probabilities_of_sequences_are_a_term_for_each_token():
    model = nn.Sequential(problems.drawn(LanguageModel()), nn.LogSoftmax(-1))
    x, y = tokens(ignored=True)
    expected = F.nll_loss(model(x).flatten(0, 1), y.flatten()).item()
    assert Objective(model, (x, y), F.nll_loss).value().value == pytest.approx(expected)


def test_shapes_that_can_be_read_both_ways_are_refused():
    model, (x, y) = problems.drawn(LanguageModel()), tokens()
    square = torch.cat([x, x], 1)[:, :5], torch.cat([y, y], 1)[:, :5]
    with pytest.raises(
        DataError, match=r"\(6, 5, 5\) .* dimension 1 or along the last"
    ):
        Objective(model, square).value()


def test_a_failure_of_the_users_model_stays_the_cause():
    class Broken(nn.Linear):
        def forward(self, x):
            raise RuntimeError("my own words")

    with pytest.raises(
        DataError, match=r"failed on inputs .* 'RuntimeError: my own"
    ) as e:
        Objective(Broken(4, 3), problems.vectors()).value()
    assert str(e.value.__cause__) == "my own words"


def test_running_out_of_memory_is_no_mistake_of_the_data():
    class Large(nn.Linear):
        def forward(self, x):
            raise torch.OutOfMemoryError("too large")

    with pytest.raises(torch.OutOfMemoryError, match="too large"):
        Objective(Large(4, 3), problems.vectors()).value()


class Broken(nn.Module):
    """The same with logits that are no numbers where tokens are padding, 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(tokens).masked_fill((tokens == 0)[..., None], torch.nan)


def test_logits_of_padding_enter_neither_losses_nor_their_derivatives():
    torch.manual_seed(2)
    model = LanguageModel().double()
    tokens = torch.tensor([[1, 2, 3, 4], [3, 1, 0, 0], [2, 0, 0, 0]])
    targets = torch.tensor([[2, 3, 4, 1], [1, 4, -100, -100], [3, -100, -100, -100]])
    objective = Objective(Broken(model), (tokens, targets))
    rows = model(tokens)[targets != -100]
    terms = F.cross_entropy(rows, targets[targets != -100], reduction="none")
    torch.testing.assert_close(objective.losses(), terms.detach(), **CLOSE)
    params = list(model.parameters())
    first = torch.autograd.grad(terms.mean(), params, create_graph=True)
    v = [torch.randn_like(p) for p in params]
    along = sum((a * b).sum() for a, b in zip(first, v, strict=True))
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(along, params)])
    product = steppe.Hessian(objective) @ torch.cat([each.flatten() for each in v])
    torch.testing.assert_close(product, expected, **CLOSE)
