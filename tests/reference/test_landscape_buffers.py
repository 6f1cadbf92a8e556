"""Running statistics and other buffers along lines: both ends are the two networks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import problems
from steppe.averaging import reestimate
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.curve import Curve
from steppe.landscapes.subspaces.line import Line
from steppe.objective import Objective

DATA = problems.vectors()


class Masked(nn.Module):
    """Adds a mask with infinities to its inputs, half of which it blocks."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("on", torch.tensor(True))

    def forward(self, x):
        return x + x.new_zeros(x.shape) * self.mask[0] + self.mask.exp()[1]


def make_model(seed=0):
    """A network whose buffers follow from a seed, as after some training."""
    layers = nn.Linear(problems.INPUTS, 6), nn.BatchNorm1d(6), Masked(), nn.Tanh()
    last = parametrizations.spectral_norm(nn.Linear(6, problems.CLASSES))
    model = problems.drawn(nn.Sequential(*layers, last), seed)
    source = problems.generator(seed + 100)
    shape = (5 + seed, problems.INPUTS)
    model.train()
    for _ in range(3 + seed):
        model(10 * torch.randn(shape, generator=source, dtype=torch.float64) + seed)
    return model.eval()


def loss_of(model):
    return problems.objective(model, DATA).value().value


def states_along(line, model, x, **settings):
    """State of the model at each point, as a loss sees it."""
    states = []

    def loss(model, batch):
        states.append(copy.deepcopy(model.state_dict()))
        return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    objective = problems.objective(model, DATA, 7, loss=loss)
    objective.count()
    objective.check_repeatable()  # once for each objective: no point of the line
    states.clear()
    landscape(objective, line, x=x, **{"batch_norm": "interpolate", **settings})
    return states[1:]  # the first is that of the base point, for paired differences


def test_both_ends_are_the_two_networks_bit_for_bit():
    a, b = make_model(), make_model(1)
    line = Line.between(a, b)
    for state, end in zip(states_along(line, a, [0.0, 1.0]), (a, b), strict=True):
        assert state.keys() == end.state_dict().keys()
        for name, value in end.state_dict().items():
            assert torch.equal(state[name], value), name
    found = landscape(
        problems.objective(a, DATA), line, x=[0, 1], batch_norm="interpolate"
    )
    assert found.loss.tolist() == pytest.approx([loss_of(a), loss_of(b)], rel=1e-14)
    assert found.details["batch_norm"] == "interpolate"


def test_statistics_go_from_one_end_to_the_other_with_the_weights():
    a, b = make_model(), make_model(1)
    (state,) = states_along(Line.between(a, b), a, [0.25])
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        middle = 0.75 * a.state_dict()[name] + 0.25 * b.state_dict()[name]
        torch.testing.assert_close(state[name], middle, rtol=1e-12, atol=1e-14)
    assert int(state["1.num_batches_tracked"]) == 3
    assert torch.equal(state["2.mask"], a[2].mask)


def test_beyond_an_end_statistics_are_those_of_the_end():
    a, b = make_model(), make_model(1)
    states = states_along(Line.between(a, b), a, [-2.0, 3.0])
    for state, end in zip(states, (a, b), strict=True):
        assert torch.equal(state["1.running_var"], end[1].running_var)


def test_frozen_statistics_are_those_of_the_first_network():
    a, b = make_model(), make_model(1)
    found = landscape(
        problems.objective(a, DATA), Line.between(a, b), x=[1], batch_norm="freeze"
    )
    mixed = copy.deepcopy(b)
    mixed.load_state_dict({**b.state_dict(), **dict(a.named_buffers())})
    assert float(found.loss[0]) == pytest.approx(loss_of(mixed), rel=1e-14)
    assert found.details["batch_norm"] == "freeze"


def test_statistics_can_be_those_of_given_data_at_each_point():
    a, b = make_model(), make_model(1)
    before = problems.state_of(a)
    line = Line.between(a, b)
    found = landscape(
        problems.objective(a, DATA),
        line,
        x=[0.5],
        batch_norm=lambda model: reestimate(model, [DATA]),
    )
    middle = copy.deepcopy(a)
    (state,) = states_along(line, a, [0.5])
    middle.load_state_dict(state)
    reestimate(middle, [DATA])
    assert float(found.loss[0]) == pytest.approx(loss_of(middle), rel=1e-12)
    assert found.details["batch_norm"] == "reestimate"
    problems.assert_same(problems.state_of(a), before)


def test_frozen_layers_stay_frozen_where_statistics_are_re_estimated():
    a, b = make_model().train(), make_model(1)
    a[1].eval()
    line, data = Line.between(a, b), [DATA]
    functions = "interpolate", lambda model: reestimate(model, data)
    kept, again = (
        landscape(problems.objective(a, DATA), line, x=[0.5], batch_norm=each)
        for each in functions
    )
    assert torch.equal(kept.loss, again.loss)
    assert not a[1].training


def test_a_random_line_keeps_the_statistics_of_its_base_point():
    model = make_model()
    line, before = Line.random(model), loss_of(model)
    model.load_state_dict(make_model(1).state_dict())
    found = landscape(problems.objective(model, DATA), line, x=[0.0])
    assert float(found.loss[0]) == pytest.approx(before, rel=1e-14)
    assert found.details["batch_norm"] == "freeze"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (nn.BatchNorm1d(6, track_running_stats=False), r"running_mean is of shape \(6"),
        (nn.LayerNorm(6), r"running_mean is of shape \(6,\) in one and missing"),
    ],
)
def test_networks_with_other_buffers_are_refused(other, said):
    a, b = make_model(), make_model(1)
    b[1] = other.double()
    with pytest.raises(SettingError, match=f"must have the same buffers: 1.{said}"):
        Line.between(a, b)
    line = Line.between(a, make_model(1))
    with pytest.raises(SettingError, match=f"must have the same buffers: 1.{said}"):
        landscape(problems.objective(b, DATA), line)


def test_an_unknown_mode_is_one_sentence():
    model = make_model()
    with pytest.raises(SettingError, match=r"'reestimate' or a function .* got 'bn'"):
        landscape(problems.objective(model, DATA), Line.random(model), batch_norm="bn")


class Growing(nn.Module):
    """A network that makes its table of positions longer where inputs are."""

    def __init__(self, fill=1.0):
        super().__init__()
        self.layer = nn.Linear(1, 3)
        self.register_buffer("positions", torch.zeros(1), persistent=False)
        self.register_buffer("scale", torch.tensor([fill]))
        problems.drawn(self)

    def forward(self, x):
        if len(self.positions) < x.shape[1]:
            self.positions = torch.arange(x.shape[1], dtype=x.dtype)
        turned = x * self.positions[: x.shape[1]].cos() * self.scale
        return self.layer(turned[..., None]).mean(1)


def lengths(*sizes):
    source = problems.generator(5)
    return [
        (
            torch.randn(4, n, dtype=torch.float64, generator=source),
            torch.randint(3, (4,), generator=source),
        )
        for n in sizes
    ]


def loss_by_hand(model, batches):
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x), y) for x, y in batches]
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (2, 7)])
@pytest.mark.parametrize("batch_norm", ["interpolate", "freeze", lambda model: None])
def test_buffers_that_a_forward_pass_replaces_do_not_change_the_loss(sizes, batch_norm):
    model, batches = Growing(), lengths(*sizes)
    surface = landscape(
        Objective(model, batches),
        Line.between(model, Growing(2.0)),
        x=[0.0, 0.0],
        batch_norm=batch_norm,
    )
    assert model.positions.tolist() == [0.0]
    expected = loss_by_hand(copy.deepcopy(model), batches)
    assert surface.loss.tolist() == pytest.approx([expected] * 2, rel=1e-12)


def test_replaced_buffers_leave_those_of_the_line_alone():
    model, batches = Growing(), lengths(5, 3)
    objective = Objective(model, batches)
    found = landscape(objective, Line.between(model, Growing(2.0)), x=[0.0, 1.0, 0.5])
    for fill, loss in zip((1.0, 2.0, 1.5), found.loss.tolist(), strict=True):
        assert loss == pytest.approx(loss_by_hand(Growing(fill), batches), rel=1e-12)


def test_points_of_a_random_line_hold_no_buffers():
    model = Masked()
    model.layer = nn.Linear(2, 2)
    assert Line.random(model).changed_buffers(1.0) == {}
    other = copy.deepcopy(model)
    other.on.fill_(False)
    assert list(Line.between(model, other).changed_buffers(2.0)) == ["on"]


def test_draws_of_a_function_are_the_same_at_every_point():
    torch.manual_seed(0)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)]
    model = nn.Sequential(*layers)
    x, y = torch.randn(32, 4), torch.randint(0, 2, (32,))
    objective, line = Objective(model, (x, y)), Line.random(model)

    def augmented(network):
        reestimate(network, [(x + torch.randn_like(x), y)])

    several = landscape(objective, line, [0.2, 0.7], batch_norm=augmented)
    alone = landscape(objective, line, [0.7], batch_norm=augmented)
    assert several.loss[1] == alone.loss[0]


class Tempered(nn.Module):
    """Logits times a buffer that is no statistic."""

    def __init__(self, seed: int, factor: float) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        self.register_buffer("factor", torch.tensor(factor))
        self.double()

    def forward(self, x):
        return self.layers(x) * self.factor


@pytest.mark.parametrize("mode", ["interpolate", "reestimate"])
def test_the_plane_of_a_bend_has_the_buffers_of_both_networks(mode):
    a, b = Tempered(1, 2.0), Tempered(2, 0.5)
    data = torch.randn(20, 4).double(), torch.arange(20) % 3
    objective = Objective(Tempered(3, 1.0), data)
    curve = Curve.bezier(a, b).fit(objective, steps=5)
    plane = curve.plane()
    end = next(iter(plane.exact))[0]
    losses = landscape(objective, plane, [0.0, end], [0.0], batch_norm=mode).loss[0]
    expected = [Objective(each, data).value().value for each in (a, b)]
    assert losses.tolist() == pytest.approx(expected, rel=1e-6)


def test_other_data_has_the_statistics_of_the_first_in_every_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    data = torch.randn(32, 4), torch.arange(32) % 2
    others = 3 * torch.randn(9, 4) + 1, torch.arange(9) % 2
    objective = Objective(model, data, mode="reestimate")
    also = {
        mode: Objective(model, others, mode=mode) for mode in ("eval", "reestimate")
    }
    line = Line.random(model)
    surface = landscape(objective, line, [0.0, 0.7], also=also)
    one, other = (surface.quantities[f"{mode}_loss"].values for mode in also)
    assert torch.equal(one, other)
    reestimate(model, [data])
    assert float(one[0]) == pytest.approx(also["eval"].value().value, rel=1e-6)
