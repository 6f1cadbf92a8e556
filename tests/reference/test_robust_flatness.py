"""Flatness of the adversarial loss of linear networks, in closed form."""

import pytest
import torch
from torch import nn

import problems
from steppe.errors import DataError, SettingError, UsageError
from steppe.losses import L2
from steppe.measures import RobustFlatness
from steppe.objective import Objective

EPSILON, XI = 0.3, 0.2


def margin_loss(model, batch):
    x, sign = batch
    return -sign * model(x)[:, 0]


def linear(centred=True, batch_size=4, **settings):
    """A linear loss whose inputs have mean 0: at w it is epsilon ||w||, dual norm."""
    x = torch.randn(5, 6, generator=problems.generator(2)).double()
    x = torch.cat([x, -x]) if centred else x
    model = nn.Linear(6, 1, bias=False).double()
    sign = torch.ones(len(x)).double()
    return Objective(
        model, (x, sign), loss=margin_loss, batch_size=batch_size, **settings
    )


@pytest.mark.slow
@pytest.mark.parametrize(("p", "dual"), [("2", 2), ("inf", 1)])
def test_on_average_it_is_the_mean_growth_of_the_dual_norm(p, dual):
    objective = linear()
    w = objective.params[0][0].detach()
    flatness = RobustFlatness(epsilon=EPSILON, xi=XI, p=p, samples=300, attack_steps=2)
    result = flatness(objective)
    z = torch.randn(100_000, 6, generator=problems.generator(5)).double()
    moved = w + XI * w.norm() * z / z.norm(dim=1, keepdim=True)
    rises = EPSILON * (moved.norm(p=dual, dim=1) - w.norm(p=dual))
    assert abs(result.value - float(rises.mean())) < 4 * result.stderr
    assert result.stderr * 300**0.5 == pytest.approx(float(rises.std()), rel=0.15)
    adversarial = EPSILON * float(w.norm(p=dual))
    assert result.details["adversarial_loss"] == pytest.approx(adversarial, rel=1e-9)


@pytest.mark.slow
def test_the_worst_change_makes_the_weights_longer():
    objective = linear()
    w = objective.params[0][0].detach()
    flatness = RobustFlatness(case="worst", epsilon=EPSILON, xi=XI, p="2")
    result = flatness(objective)
    assert result.value == pytest.approx(EPSILON * XI * float(w.norm()), rel=1e-9)
    assert result.stderr == 0


@pytest.mark.slow
def test_the_worst_change_of_a_slope_and_a_norm():
    """max over |v| <= r of slope v + epsilon |w + v|: on a circle, by a grid."""
    x = torch.tensor([[0.4, -1.0], [0.3, 0.2]]).double()
    model = nn.Linear(2, 1, bias=False).double()
    objective = Objective(model, (x, torch.ones(2).double()), loss=margin_loss)
    w = model.weight[0].detach().clone()
    angles = torch.linspace(0, 2 * torch.pi, 100_001).double()
    ring = XI * w.norm() * torch.stack([angles.cos(), angles.sin()], 1)
    values = -(ring @ x.mean(0)) + EPSILON * ((w + ring).norm(dim=1) - w.norm())
    flatness = RobustFlatness(
        case="worst", epsilon=EPSILON, xi=XI, p="2", weight_steps=60
    )
    assert flatness(objective).value == pytest.approx(float(values.max()), rel=1e-7)


def test_every_tensor_moves_by_its_own_length():
    model, (x, y) = problems.mlp(), problems.vectors()
    before = [p.detach().clone() for p in model.parameters()]
    lengths = []

    def loss(model, batch):
        moved = zip(model.parameters(), before, strict=True)
        lengths.append([float((p - b).detach().norm() / b.norm()) for p, b in moved])
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    objective = Objective(model, (x, y), loss=loss)
    RobustFlatness(xi=XI, samples=2, attack_steps=1)(objective)
    for row in lengths:
        wanted = XI if row[0] else 0.0
        assert row == pytest.approx([wanted] * 6, abs=1e-12)
    lengths.clear()
    RobustFlatness(case="worst", xi=XI, attack_steps=1)(objective)
    assert max(max(row) for row in lengths) <= XI * (1 + 1e-9)


def test_inputs_stay_within_their_bounds_and_their_ball():
    objective = linear()
    x = torch.cat([batch[0] for batch in objective.batches])
    visited = []

    def loss(model, batch):
        visited.append(batch[0].detach())
        return margin_loss(model, batch)

    low, high = float(x.min()), float(x.max())
    watched = Objective(
        objective.model, (x, torch.ones(10).double()), loss=loss, batch_size=10
    )
    flatness = RobustFlatness(
        epsilon=EPSILON, samples=2, attack_steps=3, low=low, high=high
    )
    flatness(watched)
    inputs = torch.stack([v for v in visited if len(v) == 10])
    assert low <= inputs.min() < inputs.max() <= high
    assert (inputs - x).abs().max() == pytest.approx(EPSILON)
    with pytest.raises(DataError, match="must lie within low=0"):
        RobustFlatness(low=0.0)(objective)


@pytest.mark.slow
def test_a_penalty_is_part_of_the_loss():
    plain, penalised = linear(), linear(penalty=L2(0.5))
    penalised.model.load_state_dict(plain.model.state_dict())
    w = plain.params[0][0].detach()
    flatness = RobustFlatness(case="worst", epsilon=EPSILON, xi=XI, p="2")
    more = 0.5 * float(w.square().sum()) * ((1 + XI) ** 2 - 1)
    expected = flatness(plain).value + more
    assert flatness(penalised).value == pytest.approx(expected, rel=1e-9)


def test_it_costs_what_it_says():
    flatness = RobustFlatness(case="worst", weight_steps=3, attack_steps=4)
    assert flatness(linear()).cost.gradients == pytest.approx(4 * 6)


def test_what_has_no_inputs_to_change_is_refused():
    table = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 3))
    tokens = torch.randint(9, (5, 2)), torch.zeros(5, dtype=torch.int64)
    with pytest.raises(UsageError, match="inputs, which must be floating tensors"):
        RobustFlatness()(Objective(table, tokens))
    x = torch.randn(2, 4, 4).double()
    targets = torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(UsageError, match="one loss term for each row"):
        RobustFlatness()(Objective(problems.linear(), [(x, targets)]))
    with pytest.raises(SettingError, match="low must be below high"):
        RobustFlatness(low=1.0, high=0.0)
    with pytest.raises(SettingError, match="case must be 'average' or 'worst'"):
        RobustFlatness(case="mean")
