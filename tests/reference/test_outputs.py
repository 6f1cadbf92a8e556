"""The loss part of a batch against derivatives written out and dense ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.loss_curvature import (
    loss_factors,
    loss_hessian_times,
    sampled_gradients,
)
from steppe.curvature.products.outputs import split_at_outputs
from steppe.errors import DataError, UsageError
from steppe.objective import Objective

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def outputs_of(objective, index=0):
    with objective.measuring(), twice_differentiable(objective.model):
        return split_at_outputs(objective, index)


def dense_blocks(loss, z):
    """Second derivatives of the summed losses, one C x C matrix for each row."""
    full = torch.autograd.functional.hessian(lambda z: loss(z).sum(), z)
    full = full.reshape(len(z), -1, len(z), full.numel() // len(z) ** 2 // z[0].numel())
    return torch.stack([full[row, :, row] for row in range(len(z))])


def outer_products(factors):
    columns = factors.reshape(*factors.shape[:2], -1)
    return torch.einsum("cni,cnj->nij", columns, columns)


def smooth(z):
    """A convex loss that has no name."""
    return z.exp().sum(1) + torch.logsumexp(z, 1)


def classes(reduction="none", **settings):
    return nn.CrossEntropyLoss(reduction=reduction, **settings)


def soft_targets():
    x, _ = problems.vectors()
    drawn = torch.rand((7, 3), dtype=x.dtype, generator=problems.generator())
    return x, drawn / drawn.sum(1, keepdim=True)


def ignoring():
    x, y = problems.vectors()
    y[[1, 4]] = -100
    return x, y


def regression():
    x, _ = problems.vectors()
    return x, torch.randn((7, 3), dtype=x.dtype, generator=problems.generator(5))


def unnamed(model, batch):
    return smooth(model(batch[0]))


CASES = {
    "cross_entropy": ("cross_entropy", problems.vectors, F.cross_entropy),
    "ignored": ("cross_entropy", ignoring, F.cross_entropy),
    "smoothed": (
        classes(label_smoothing=0.2),
        problems.vectors,
        lambda z, y, **more: F.cross_entropy(z, y, label_smoothing=0.2, **more),
    ),
    "soft": ("cross_entropy", soft_targets, F.cross_entropy),
    "mse": ("mse", regression, lambda z, t, reduction: (z - t).square().mean(1)),
    "callable": (unnamed, problems.vectors, lambda z, y, reduction: smooth(z)),
}


def case(name):
    loss, data, written = CASES[name]
    x, y = data()
    objective = problems.objective(problems.mlp(), (x, y), batch_size=7, loss=loss)
    found = outputs_of(objective)
    expected = dense_blocks(
        lambda z: written(z, y, reduction="none"), objective.model(x).detach()
    )
    return objective, found, expected


@pytest.mark.parametrize("name", CASES)
def test_products_with_the_loss_hessian_are_those_of_dense_blocks(name):
    _, outputs, expected = case(name)
    u = torch.randn(
        outputs.z.shape, dtype=torch.float64, generator=problems.generator()
    )
    found = loss_hessian_times(outputs, u)
    torch.testing.assert_close(found, (expected @ u.unsqueeze(2))[..., 0], **CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_factors_are_a_square_root_of_the_loss_hessian(name):
    objective, outputs, expected = case(name)
    factors = loss_factors(objective, outputs)
    assert factors.shape == (3, *outputs.z.shape)
    torch.testing.assert_close(outer_products(factors), expected, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cross_entropy", "ignored", "mse"])
def test_drawn_gradients_have_the_loss_hessian_as_second_moment(name):
    objective, outputs, expected = case(name)
    source = torch.Generator().manual_seed(3)
    draws = [sampled_gradients(objective, outputs, source) for _ in range(8_000)]
    g = torch.stack(draws)
    moment = torch.einsum("mni,mnj->nij", g, g) / len(g)
    error = torch.einsum("mni,mnj->mnij", g, g).std(0) / len(g) ** 0.5
    assert bool(((moment - expected).abs() <= 5 * error + 1e-12).all())
    assert bool((g.mean(0).abs() <= 5 * g.std(0) / len(g) ** 0.5 + 1e-12).all())


def yes_or_no():
    x, y = problems.vectors()
    return x, (y > 0).double()


class One(nn.Module):
    """The only output of a model, without its dimension."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)[:, 0]


@pytest.mark.parametrize(
    ("loss", "moment"),
    [
        (
            nn.BCEWithLogitsLoss(reduction="none"),
            lambda z: z.sigmoid() * (-z).sigmoid(),
        ),
        (F.binary_cross_entropy_with_logits, lambda z: z.sigmoid() * (-z).sigmoid()),
        (nn.MSELoss(reduction="none"), lambda z: torch.full_like(z, 2.0)),
        (F.mse_loss, lambda z: torch.full_like(z, 2.0)),
    ],
)
def test_single_outputs_are_drawn_from_a_coin_or_a_gaussian(loss, moment):
    model = One(problems.linear(1))
    objective = problems.objective(model, yes_or_no(), batch_size=7, loss=loss)
    outputs = outputs_of(objective)
    expected = moment(outputs.z.detach())
    factors = loss_factors(objective, outputs)
    torch.testing.assert_close(factors.square().sum(0), expected, **CLOSE)
    source = torch.Generator().manual_seed(3)
    draws = [sampled_gradients(objective, outputs, source) for _ in range(8_000)]
    squares = torch.stack(draws).square()
    error = squares.std(0) / len(draws) ** 0.5
    assert bool(((squares.mean(0) - expected).abs() <= 5 * error + 1e-12).all())


def test_draws_for_log_probabilities_are_classes_of_these_probabilities():
    model = nn.Sequential(problems.linear(), nn.LogSoftmax(1))
    objective = problems.objective(
        model, problems.vectors(), batch_size=7, loss=nn.NLLLoss(reduction="none")
    )
    outputs = outputs_of(objective)
    source = torch.Generator().manual_seed(3)
    draws = [sampled_gradients(objective, outputs, source) for _ in range(8_000)]
    assert {float(v) for v in draws[0].unique()} == {-1.0, 0.0}
    p = outputs.z.detach().exp()
    error = (p * (1 - p) / len(draws)).sqrt()
    assert bool(((-torch.stack(draws).mean(0) - p).abs() <= 5 * error).all())


def test_positions_of_a_sequence_are_drawn_each_for_itself_and_repeat_with_the_seed():
    z = torch.zeros(2, 3, 400, dtype=torch.float64)
    model = nn.Sequential(nn.Conv1d(1, 3, 1).double())
    y = torch.zeros(2, 400, dtype=torch.long)
    y[0, :10] = -100
    objective = problems.objective(model, (z[:, :1], y), batch_size=2)
    outputs = outputs_of(objective)
    first = sampled_gradients(objective, outputs, problems.generator(4))
    again = sampled_gradients(objective, outputs, problems.generator(4))
    assert torch.equal(first, again)
    assert not first[0, :, :10].any()
    torch.testing.assert_close(first.sum(1), torch.zeros_like(first[:, 0]), **CLOSE)
    assert len(first[0, :, 10:].unique(dim=1).T) == 3


def test_the_cut_leaves_the_losses_as_they_are_and_no_way_to_the_parameters():
    objective = problems.objective(problems.mlp(), problems.vectors(), batch_size=7)
    outputs = outputs_of(objective)
    assert torch.equal(outputs.losses.detach(), objective.losses())
    inputs = [*objective.params, outputs.leaf]
    *beside, through = torch.autograd.grad(
        outputs.losses.sum(), inputs, allow_unused=True
    )
    assert all(grad is None for grad in beside)
    p = torch.softmax(outputs.z.detach(), 1)
    expected = p - F.one_hot(objective.batches[0][1], 3)
    torch.testing.assert_close(through, expected, **CLOSE)
    assert outputs.z.requires_grad
    assert not objective.model._forward_hooks


class Losses(nn.Module):
    """A model that computes its loss itself."""

    def __init__(self):
        super().__init__()
        self.net = problems.mlp()

    def forward(self, x):
        return self.net(x).square().sum(1)


class Pair(Losses):
    def forward(self, x):
        return self.net(x), x


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = problems.mlp()

    def forward(self, x):
        return self.net(x)


def penalised(model, batch):
    return model(batch).square().sum(1) + model.net[0].weight.square().sum()


REFUSED = {
    "the model computes the loss itself": (Losses(), lambda m, x: m(x)),
    r"one floating tensor of outputs, got tuple": (Pair(), lambda m, x: m(x)[0][:, 0]),
    "called more than once": (problems.mlp(), lambda m, x: (m(x) * m(x)).sum(1)),
    "called never": (Losses(), lambda m, x: m.net(x).square().sum(1)),
    r"it uses net\.0\.weight; .*penalty=": (Inner(), penalised),
    "does not depend on the outputs": (
        problems.mlp(),
        lambda m, x: m(x).argmax(1).double(),
    ),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_cut_is_refused_in_one_sentence(said):
    model, loss = REFUSED[said]
    objective = Objective(model, [problems.vectors()[0]], loss=loss)
    with pytest.raises(UsageError, match=said):
        outputs_of(objective)
    assert not model._forward_hooks


def test_a_loss_that_is_not_convex_or_shares_rows_has_no_factors():
    x, _ = problems.vectors()
    bent = Objective(problems.mlp(), [x], loss=lambda m, x: m(x).sin().sum(1))
    with pytest.raises(DataError, match=r"must be convex .* Hessian"):
        loss_factors(bent, outputs_of(bent))
    shared = Objective(
        problems.mlp(), [x], loss=lambda m, x: torch.logsumexp(m(x), (0, 1))[None]
    )
    with pytest.raises(UsageError, match="rows share loss terms"):
        loss_factors(shared, outputs_of(shared))


def test_factors_of_sequences_and_draws_of_unknown_losses_are_refused():
    x, _ = problems.vectors()
    loss = Objective(
        nn.Conv1d(4, 3, 1).double(),
        [x[:, :, None]],
        loss=lambda m, x: m(x).square().sum((1, 2)),
    )
    outputs = outputs_of(loss)
    with pytest.raises(UsageError, match=r"\(B, C\).*got \(7, 3, 1\)"):
        loss_factors(loss, outputs)
    with pytest.raises(UsageError, match="GGN or EmpiricalFisher"):
        sampled_gradients(loss, outputs, problems.generator())
