"""Traces and diagonals layer by layer, against gradients of every single output.

The oracle differentiates each output of each sample by all parameters and writes the
curvature of the loss down, so that it shares nothing with what it checks.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.curvature.per_sample.traces import (
    exact_diagonal,
    layer_traces,
    network_structure,
)
from steppe.errors import DataError, SettingError, UsageError
from steppe.objective import Objective

CLOSE = {"rtol": 1e-8, "atol": 1e-12}
PICTURES = (2, 6, 6)


def jacobian(objective, row):
    """Outputs of one sample, (C,), and their gradients, (C, D)."""
    z = objective.model(row.unsqueeze(0))[0]
    rows = [
        torch.autograd.grad(each, objective.params, retain_graph=True, **MISSING)
        for each in z
    ]
    flat = [torch.cat([g.reshape(-1) for g in grads]) for grads in rows]
    return z.detach(), torch.stack(flat)


MISSING = {"allow_unused": True, "materialize_grads": True}


def dense_diagonal(objective):
    """Diagonal of the mean of J' (diag p - p p') J, softmax p; shape (D,)."""
    objective.model.eval()
    total, count = 0.0, 0
    for x, _ in objective.batches:
        for row in x:
            z, J = jacobian(objective, row)
            p = z.softmax(0)
            total = total + p @ J.square() - (p @ J).square()
            count += 1
    return total / count


def by_tensor(objective, diagonal):
    sizes = [p.numel() for p in objective.params]
    parts = torch.split(diagonal, sizes)
    return {
        n: float(part.sum()) for n, part in zip(objective.names, parts, strict=True)
    }


def random_statistics(model):
    source = problems.generator()
    for module in model.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_var.uniform_(0.5, 2, generator=source)
            module.running_mean.uniform_(-1, 1, generator=source)
    return model


def network(*layers):
    return random_statistics(problems.drawn(nn.Sequential(*layers)))


def head(features, *layers):
    return (*layers, nn.Flatten(), nn.Linear(features, problems.CLASSES))


class Sequence(nn.Module):
    """Positions before samples inside; parameters that are added and multiplied."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.position = nn.Parameter(torch.zeros(3, 1, 5))
        self.start = nn.Parameter(torch.zeros(1, 1, 5))
        self.gain = nn.Parameter(torch.zeros(5))
        self.norm = nn.LayerNorm(5)
        self.head = nn.Linear(5, problems.CLASSES)

    def forward(self, x):
        h = self.first(x.transpose(0, 1)) * self.gain + self.position
        h = self.norm(torch.relu(h)).transpose(0, 1)
        h = torch.cat([self.start.expand(len(x), -1, -1), h], 1)
        return self.head(h).mean(1)


class Looked(nn.Module):
    """A table whose rows are both looked up and compared with."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(problems.CLASSES, 4)

    def forward(self, x):
        rows = self.table((x > 0).long())
        return F.linear(torch.relu(rows).sum(1), self.table.weight)


class Frames(nn.Module):
    """A convolution and batch norm over the frames of all samples together."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.head = nn.Linear(6, problems.CLASSES)

    def forward(self, x):
        h = torch.relu(self.norm(self.conv(x.flatten(0, 1).unsqueeze(1))))
        return self.head(h.flatten(1)).unflatten(0, (len(x), -1)).sum(1)


class Twice(nn.Module):
    """One convolution called twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(72, problems.CLASSES)

    def forward(self, x):
        return self.head(torch.relu(self.conv(torch.relu(self.conv(x)))).flatten(1))


class Functional(nn.Module):
    """Weights without layers, as they stand in the product."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.zeros(4, 6))
        self.two = nn.Parameter(torch.zeros(6, problems.CLASSES))
        self.bias = nn.Parameter(torch.zeros(1, 6))

    def forward(self, x):
        return torch.relu(self.bias + x @ self.one) @ self.two


class Signs(nn.Module):
    """One bias in four sums, with factors and signs."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.zeros(4, 3))
        self.two = nn.Parameter(torch.zeros(3, problems.CLASSES))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        h = torch.relu(torch.addmm(self.bias, x, self.one, beta=0.5, alpha=2))
        h = torch.relu(torch.sub(h, self.bias, alpha=0.7))
        h = torch.rsub(self.bias, torch.relu(h), alpha=3)
        return torch.add(self.bias, h @ self.two, alpha=1)


def networks():
    conv, norm = nn.Conv2d, nn.BatchNorm2d
    strided = conv(2, 4, 3, stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2)
    back = nn.ConvTranspose2d(
        4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2
    )
    return {
        "mlp": (problems.mlp(nn.ReLU), (4,)),
        "tanh": (problems.mlp(nn.Tanh), (4,)),
        "attention": (problems.drawn(problems.Attention()), (3, 4)),
        "tied": (problems.drawn(problems.Tied()), (4,)),
        "lstm": (problems.drawn(problems.Recurrent()), (3, 2)),
        "sequence": (problems.drawn(Sequence()), (3, 4)),
        "frames": (random_statistics(problems.drawn(Frames())), (3, 4)),
        "twice": (problems.drawn(Twice()), PICTURES),
        "looked up": (problems.drawn(Looked()), (4,)),
        "signs": (problems.drawn(Signs()), (4,)),
        "functional": (problems.drawn(Functional()), (4,)),
        "batch norm": (
            network(*head(16, conv(2, 4, 3), norm(4), nn.ReLU(), nn.MaxPool2d(2))),
            PICTURES,
        ),
        "strides": (
            network(*head(72, strided, nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))),
            PICTURES,
        ),
        "transposed": (
            network(*head(6, strided, back, nn.PReLU(6), nn.AdaptiveAvgPool2d(1))),
            PICTURES,
        ),
        "group norm": (
            network(*head(64, conv(2, 4, 3), nn.GroupNorm(2, 4), nn.GELU())),
            PICTURES,
        ),
        "one dimension": (
            network(
                *head(
                    10,
                    nn.Conv1d(2, 4, 3, padding=1),
                    nn.ReLU(),
                    nn.Conv1d(4, 4, 2, groups=4),
                    nn.LayerNorm(5),
                    nn.Linear(5, 2),
                    nn.Conv1d(4, 5, 1),
                )
            ),
            (2, 6),
        ),
        "three dimensions": (
            network(*head(16, nn.Conv3d(1, 2, 2), nn.LeakyReLU())),
            (1, 3, 3, 3),
        ),
    }


CURVED = {
    "tanh",
    "attention",
    "tied",
    "lstm",
    "looked up",
    "sequence",
    "twice",
    "group norm",
}
CURVED |= {"one dimension", "signs"}


@pytest.mark.parametrize("name", networks())
def test_traces_and_diagonal_are_those_of_all_gradients(name):
    model, shape = networks()[name]
    objective = problems.objective(model, problems.vectors(7, shape))
    expected = dense_diagonal(objective)
    found = layer_traces(objective)
    assert found.by_tensor == pytest.approx(
        by_tensor(objective, expected), rel=1e-8, abs=1e-12
    )
    assert found.total == pytest.approx(float(expected.sum()), rel=1e-8)
    torch.testing.assert_close(exact_diagonal(objective), expected, **CLOSE)
    network, _ = network_structure(objective)
    assert found.exact_hessian == (not network.why_not_piecewise_linear())
    assert found.exact_hessian == (name not in CURVED)


@pytest.mark.parametrize("size", [1, 40, 2**22])
@pytest.mark.parametrize(
    "name", ["strides", "transposed", "twice", "attention", "looked up"]
)
def test_pieces_of_any_size_give_the_same(name, size, monkeypatch):
    model, shape = networks()[name]
    objective = problems.objective(model, problems.vectors(7, shape))
    expected = dense_diagonal(objective)
    room = "steppe.curvature.per_sample"
    for module in ("outer_products", "gradients"):
        monkeypatch.setattr(f"{room}.{module}.AT_ONCE", size)
    budget = f"{room}.gradients.CacheBudget"
    monkeypatch.setattr(f"{budget}.__init__.__defaults__", (0,))
    found = layer_traces(objective).by_tensor
    assert found == pytest.approx(by_tensor(objective, expected), rel=1e-8, abs=1e-12)
    torch.testing.assert_close(exact_diagonal(objective), expected, **CLOSE)


def test_tables_of_embeddings_have_the_rows_that_samples_look_up():
    layers = nn.Embedding(5, 4, padding_idx=1), nn.ReLU()
    model = network(*head(12, *layers))
    x = torch.tensor([[0, 0, 2], [1, 4, 1], [3, 3, 3], [2, 0, 2], [4, 1, 0]])
    objective = problems.objective(model, (x, torch.zeros(5, dtype=torch.long)), 2)
    torch.testing.assert_close(
        exact_diagonal(objective), dense_diagonal(objective), **CLOSE
    )
    expected = by_tensor(objective, dense_diagonal(objective))
    assert layer_traces(objective).by_tensor == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("name", ["relu", "batch_norm"])
def test_they_are_those_of_the_hessian_where_all_is_piecewise_linear(name):
    model, data = problems.networks()[name]
    model = nn.Sequential(*[nn.ReLU() if isinstance(m, nn.Tanh) else m for m in model])
    objective = problems.objective(model, data)
    expected = problems.dense_hessian(model, data).diagonal()
    assert layer_traces(objective).exact_hessian
    torch.testing.assert_close(exact_diagonal(objective), expected, **CLOSE)


def test_of_a_curved_network_they_are_not_those_of_the_hessian_and_say_so():
    model, data = problems.mlp(nn.Tanh), problems.vectors()
    objective = problems.objective(model, data)
    dense = float(problems.dense_hessian(model, data).trace())
    found = layer_traces(objective)
    assert abs(found.total / dense - 1) > 0.01
    assert not found.exact_hessian
    assert found.details["not_piecewise_linear"] == ["it has the operation Tanh"]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_a_ragged_last_batch_changes_nothing(batch_size):
    model, shape = networks()["batch norm"]
    data = problems.vectors(7, shape)
    whole = layer_traces(problems.objective(model, data, batch_size=7))
    split = layer_traces(problems.objective(model, data, batch_size=batch_size))
    assert split.by_tensor == pytest.approx(whole.by_tensor, rel=1e-12)


def test_squared_error_on_a_linear_model_is_known():
    x, _ = problems.vectors()
    objective = problems.objective(
        problems.linear(), (x, torch.zeros(7, 3, dtype=torch.float64)), loss="mse"
    )
    expected = 2 / 3 * x.square().mean(0).expand(3, 4)
    torch.testing.assert_close(exact_diagonal(objective), expected.flatten(), **CLOSE)
    assert layer_traces(objective).total == pytest.approx(float(expected.sum()))


def test_a_loss_of_the_user_has_the_same_traces_as_the_named_one():
    model, (x, y) = problems.mlp(nn.ReLU), problems.vectors()

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    mine = layer_traces(Objective(model, [(x, y)], loss=loss))
    named = layer_traces(Objective(model, [(x, y)]))
    assert mine.by_tensor == pytest.approx(named.by_tensor, rel=1e-6)


def test_ignored_targets_count_for_nothing():
    model, (x, y) = problems.mlp(nn.ReLU), problems.vectors()
    some = y.clone()
    some[[1, 4]] = -100
    kept = some != -100
    found = layer_traces(problems.objective(model, (x, some)))
    expected = layer_traces(problems.objective(model, (x[kept], y[kept])))
    assert found.by_tensor == pytest.approx(expected.by_tensor, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "twice"])
def test_draws_are_within_their_errors(name):
    model, shape = networks()[name]
    objective = problems.objective(model, problems.vectors(7, shape))
    exact = layer_traces(objective)
    drawn = layer_traces(objective, samples=400)
    assert drawn.samples == 400
    assert 0 < drawn.stderr < 0.1 * exact.total
    assert abs(drawn.total - exact.total) < 4 * drawn.stderr
    for tensor, value in exact.by_tensor.items():
        assert abs(drawn.by_tensor[tensor] - value) < 4 * drawn.stderr_by_tensor[tensor]


LOSSES = {
    "named": nn.CrossEntropyLoss(reduction="none"),
    "smoothed": nn.CrossEntropyLoss(reduction="none", label_smoothing=0.3),
    "user": lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_draws_do_not_depend_on_how_the_loss_is_given(name):
    model, (x, y) = problems.mlp(nn.ReLU), problems.vectors()
    y[2] = y[2] if name == "user" else -100
    objective = Objective(model, [(x[:4], y[:4]), (x[4:], y[4:])], loss=LOSSES[name])
    exact, drawn = layer_traces(objective), layer_traces(objective, samples=400)
    assert abs(drawn.total - exact.total) < 4 * drawn.stderr < 0.4 * exact.total


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 5)
        self.head = nn.Linear(5, problems.CLASSES)

    def forward(self, x):
        h = torch.relu(self.body(x))
        return self.head(h + h.mean(1, keepdim=True)).transpose(1, 2)


@pytest.mark.slow
def test_draws_of_targets_serve_outputs_that_are_sequences():
    model = problems.drawn(Tokens())
    x, _ = problems.vectors(5, (2, 4))
    y = torch.zeros(5, 2, dtype=torch.long)
    objective = Objective(model, (x, y), loss=F.cross_entropy, batch_size=2)
    drawn = layer_traces(objective, samples=600)
    total = torch.zeros(0)
    for row in x:
        z = model(row.unsqueeze(0))[0].T
        for token in z:
            rows = [
                torch.autograd.grad(c, objective.params, retain_graph=True)
                for c in token
            ]
            J = torch.stack([torch.cat([g.flatten() for g in r]) for r in rows])
            p = token.detach().softmax(0)
            total = total.sum() + (p @ J.square() - (p @ J).square()).sum()
    assert abs(drawn.total - float(total) / 10) < 4 * drawn.stderr
    assert drawn.stderr < 0.1 * drawn.total


def test_draws_serve_squared_errors_of_sequences():
    model, (x, _) = problems.drawn(nn.Linear(4, 2)), problems.vectors(5, (3, 4))
    objective = Objective(model, (x, torch.zeros(5, 3, 2).double()), loss="mse")
    drawn = layer_traces(objective, samples=400).by_tensor
    # 2 / 6 for each of six squares, each linear in the weights of its output.
    expected = 2 / 6 * 2 * float(x.square().sum((1, 2)).mean())
    assert drawn["weight"] == pytest.approx(expected, rel=0.1)
    assert drawn["bias"] == pytest.approx(2.0, rel=0.1)


def test_patterns_choose_parameters():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    every = layer_traces(objective)
    some = layer_traces(objective, params=["2.*", "*.bias"])
    assert list(some.by_tensor) == ["0.bias", "2.weight", "2.bias", "4.bias"]
    assert some.by_tensor == {n: every.by_tensor[n] for n in some.by_tensor}
    assert exact_diagonal(objective, params="4.bias").shape == (3,)
    with pytest.raises(SettingError, match=r"matches nope; they are 0\.weight"):
        layer_traces(objective, params="nope")
    with pytest.raises(SettingError, match="samples must be >= 1"):
        layer_traces(objective, samples=0)


class Shared(nn.Module):
    """A table of positions that all samples look up at once."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Embedding(3, 4)
        self.head = nn.Linear(4, problems.CLASSES)

    def forward(self, x):
        return self.head(torch.relu(x + self.positions(torch.arange(3))).mean(1))


def test_parameters_without_a_rule_are_refused_by_name():
    data = problems.vectors(7, (3, 4))
    shared = problems.objective(problems.drawn(Shared()), data)
    with pytest.raises(UsageError, match=r"positions\.weight .*params=.*GGN"):
        layer_traces(shared)
    assert list(layer_traces(shared, params="head.*").by_tensor) == [
        "head.weight",
        "head.bias",
    ]
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, problems.CLASSES))
    objective = problems.objective(problems.drawn(normed), problems.vectors())
    with pytest.raises(UsageError, match=r"original0 .*params="):
        layer_traces(objective)


def test_samples_that_influence_each_other_are_refused():
    model, shape = networks()["batch norm"]
    data = problems.vectors(7, shape)
    with pytest.raises(UsageError, match="mixes samples"):
        layer_traces(problems.objective(model, data, mode="train"))


@pytest.mark.parametrize("find", [layer_traces, exact_diagonal])
def test_data_that_is_not_finite_is_refused_by_name_of_the_tensor(find):
    x, y = problems.vectors()
    x[2, 1] = math.nan
    objective = problems.objective(problems.mlp(nn.ReLU), (x, y))
    with pytest.raises(DataError, match=r"gradients by 0\.weight add up to an inf"):
        find(objective)


def test_dropout_in_training_has_the_masks_of_the_objective():
    model = network(*head(4, nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5)))
    objective = problems.objective(model, problems.vectors(), mode="train")
    assert layer_traces(objective).by_tensor == layer_traces(objective).by_tensor
    assert layer_traces(objective).exact_hessian


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_nothing_around_it_changes_it_and_it_leaves_no_trace(context):
    model, shape = networks()["batch norm"]
    objective = problems.objective(model, problems.vectors(7, shape))
    expected = layer_traces(objective, samples=2).by_tensor
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model.train()
    before = problems.state_of(model)
    with context():
        found = layer_traces(objective, samples=2)
    assert found.by_tensor == expected
    problems.assert_same(problems.state_of(model), before)


def test_the_cost_is_a_pass_for_each_output():
    objective = problems.objective(problems.mlp(nn.ReLU), problems.vectors())
    found = layer_traces(objective)
    assert found.cost.gradients == pytest.approx(3)
    assert found.cost == objective.cost
