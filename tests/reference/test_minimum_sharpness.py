"""Minimum sharpness against closed forms, dense Hessians and rescaled networks."""

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
from steppe.errors import SettingError, UsageError
from steppe.linalg.geometric_program import Term, solve
from steppe.linalg.published_descent import descend
from steppe.measures.spectral.minimum_sharpness import minimum_sharpness

EXACT = {"rel": 1e-10}


def chain(weights, biases=()):
    """Terms of layers that follow each other."""
    ends = [*range(1, len(weights)), 0]
    terms = [Term(w, i, end) for i, (w, end) in enumerate(zip(weights, ends))]
    return terms + [Term(v, 0, end) for v, end in zip(biases, ends)]


@pytest.mark.parametrize(
    "weights", [[3.0], [3.0, 5.0, 0.2, 8.0], [1e3, 1, 1e-3], [1e-60, 1e60, 1.0, 1e30]]
)
def test_without_biases_it_is_the_geometric_mean_times_the_layers(weights):
    found = solve(chain(weights), len(weights))
    mean = math.exp(sum(map(math.log, weights)) / len(weights))
    assert found.value == pytest.approx(len(weights) * mean, rel=1e-12)
    assert found.converged


def test_balanced_layers_stay_as_they_are():
    found = solve(chain([2.0] * 5), 5)
    assert found.value == pytest.approx(10, rel=1e-15)
    assert found.scales == pytest.approx((1.0,) * 5, rel=1e-15)


def test_one_layer_with_biases_on_both_sides_is_a_quadratic():
    # w1 / c^2 + v1 / c^2 + w2 c^2 is least where c^4 = (w1 + v1) / w2.
    found = solve(chain([3.0, 0.5], [4.0, 9.0]), 2)
    assert found.value == pytest.approx(2 * math.sqrt((3 + 4) * 0.5) + 9, rel=1e-12)
    assert found.scales[1] == pytest.approx((7 / 0.5) ** 0.25, rel=1e-10)


def test_a_branch_shares_the_scale_of_what_it_is_added_to():
    # Two layers from a stream of scale c to itself count the same at any c.
    terms = [Term(2.0, 0, 1), Term(5.0, 1, 1), Term(8.0, 1, 0), Term(7.0, 1, 2)]
    terms.append(Term(7.0, 2, 1))
    assert solve(terms, 3).value == pytest.approx(2 * 4 + 5 + 14, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_scales_give_less(seed):
    source = np.random.default_rng(seed)
    size = int(source.integers(3, 9))
    terms = chain(10 ** source.uniform(-3, 3, size), 10 ** source.uniform(-3, 3, size))
    found = solve(terms, size)
    assert found.converged

    def total(scales):
        return sum(t.trace * (scales[t.source] / scales[t.target]) ** 2 for t in terms)

    assert total(found.scales) == pytest.approx(found.value, **EXACT)
    for spread in (1e-3, 1e-1, 1):
        moved = np.array(found.scales) * np.exp(spread * source.normal(size=size))
        moved[0] = 1
        assert total(moved) >= found.value * (1 - 1e-12)


@pytest.mark.parametrize("lr", [1e-3, 0.1])
def test_the_published_loop_comes_down_to_the_minimum_from_above(lr):
    terms = chain([1.31, 10.2, 24.1, 7.7, 5.4], [0.04, 0.16, 0.1, 0.1, 0.05])
    least = solve(terms, 5).value
    found = descend(terms, [1, 2, 3, 4], lr)
    assert found.value >= least * (1 - 1e-12)
    share = found.value / least - 1
    assert share < 1e-10 if lr == 0.1 else 0.01 < share < 0.1
    assert found.converged == (lr == 0.1)


def test_the_published_loop_is_its_recursion():
    w1, w2, v1, v2 = 8.0, 2.0, 3.0, 7.0
    t = 0.0
    for epoch in range(30):
        a = math.exp(t)
        slope = (-2 * (w1 + v1) / a**2 + 2 * w2 * a**2) / (w1 + w2 + v1 + v2)
        t -= 0.1 / (1 + 1e-3 * epoch) * slope
    expected = (w1 + v1) * math.exp(-2 * t) + w2 * math.exp(2 * t) + v2
    found = descend(chain([w1, w2], [v1, v2]), [1], 0.1, epochs=30)
    assert found.value == pytest.approx(expected, rel=1e-12)


def test_what_the_memory_held_before_changes_no_bit():
    source = problems.generator(1)
    traces = (torch.rand(8, generator=source) + 0.1).tolist()
    ring = [Term(trace, at, (at + 1) % 4) for at, trace in enumerate(traces[:4])]
    terms = ring + [Term(trace, 0, at) for at, trace in enumerate(traces[4:])]
    held, found = [], set()
    for turn in range(60):
        held.append(torch.full((turn % 7 + 1,), 7 * turn, dtype=torch.int32))
        if turn % 3 == 0:
            held.clear()
        found.add(solve(terms, 4).scales)
    assert len(found) == 1


def test_programs_without_a_minimum_are_refused():
    with pytest.raises(SettingError, match=r"trace of head is zero.*first down"):
        solve([Term(1.0, 0, 1, "first"), Term(0.0, 1, 0, "head")], 2)
    with pytest.raises(SettingError, match=r"finite and >= 0, that of first is -1\.0"):
        solve([Term(-1.0, 0, 1, "first"), Term(1.0, 1, 0)], 2)
    with pytest.raises(SettingError, match="is nan"):
        solve([Term(math.nan, 0, 0)], 1)
    with pytest.raises(UsageError, match="diverges with lr=100"):
        descend(chain([1e3, 1.0, 1e-3]), [1, 2], lr=100)
    assert solve([Term(0.0, 0, 1), Term(0.0, 1, 0)], 2).value == 0


class Residual(nn.Module):
    """Two blocks on one stream, the first with a projection and batch norm."""

    def __init__(self, bias=True):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1, bias=bias)
        self.one = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.way = nn.Conv2d(3, 4, 1, stride=2, bias=bias)
        self.three = nn.Conv2d(4, 4, 3, padding=1, bias=bias)
        self.head = nn.Linear(4, problems.CLASSES)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        h = self.two(torch.relu(self.norm(self.one(x))))
        x = F.relu(h + self.way(x), inplace=True)
        x = x + torch.relu(self.three(x))
        return self.head(x.mean((2, 3)))


def plain_cnn(bias):
    layers = (
        nn.Conv2d(2, 4, 3, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 2, bias=bias),
        nn.LeakyReLU(),
        nn.Flatten(),
        nn.Linear(3, problems.CLASSES, bias=bias),
    )
    return problems.drawn(nn.Sequential(*layers))


def normed_cnn():
    """Batch norm before and after an activation."""
    layers = (
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2, bias=False),
        nn.ReLU(),
        nn.BatchNorm2d(3),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(3, problems.CLASSES),
    )
    return with_statistics(problems.drawn(nn.Sequential(*layers)))


def with_statistics(model):
    source = problems.generator()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2, generator=source)
            module.running_mean.uniform_(-1, 1, generator=source)
    return model


def objective(model):
    shape = (problems.INPUTS,)
    if not isinstance(next(iter(model.modules())), nn.Sequential) or any(
        isinstance(m, nn.Conv2d) for m in model.modules()
    ):
        shape = (2, 6, 6)
    return problems.objective(model, problems.vectors(7, shape))


def scaled(layer, before, after):
    """The layer, where its inputs are `before` and its outputs `after` times larger."""
    with torch.no_grad():
        if isinstance(layer, nn.BatchNorm2d):
            deviation = (layer.running_var + layer.eps).sqrt()
            layer.running_mean.mul_(before)
            layer.running_var.copy_((before * deviation) ** 2 - layer.eps)
            layer.weight.mul_(after)
        else:
            layer.weight.mul_(after / before)
        if layer.bias is not None:
            layer.bias.mul_(after)


def rescaled_chain(model):
    model = copy.deepcopy(model)
    layers = [m for m in model if hasattr(m, "weight")]
    factors = [1.0, *(3.0, 0.2, 7.0, 0.6)[: len(layers) - 1], 1.0]
    for layer, before, after in zip(layers, factors, factors[1:]):
        scaled(layer, before, after)
    return model


def rescaled_residual(model):
    model = copy.deepcopy(model)
    stem, inside, normed, stream, branch = 3.0, 0.2, 7.0, 0.6, 0.6
    scaled(model.stem, 1, stem)
    scaled(model.one, stem, inside)
    scaled(model.norm, inside, normed)
    scaled(model.two, normed, stream)
    scaled(model.way, stem, stream)
    scaled(model.three, stream, branch)
    scaled(model.head, stream, 1)
    return model


NETWORKS = {
    "mlp": (problems.mlp(nn.ReLU), rescaled_chain),
    "mlp without biases": (problems.mlp(nn.ReLU, bias=False), rescaled_chain),
    "cnn": (plain_cnn(bias=True), rescaled_chain),
    "cnn without biases": (plain_cnn(bias=False), rescaled_chain),
    "batch norm": (normed_cnn(), rescaled_chain),
    "residual": (with_statistics(problems.drawn(Residual())), rescaled_residual),
}


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_rescaling_changes_it(name, biases):
    model, rescale = NETWORKS[name]
    moved = rescale(model)
    x, _ = objective(model).batches[0]
    torch.testing.assert_close(moved.eval()(x), model.eval()(x), rtol=1e-10, atol=1e-12)
    one = minimum_sharpness(objective(model), biases=biases)
    two = minimum_sharpness(objective(moved), biases=biases)
    assert two.value == pytest.approx(one.value, **EXACT)
    assert one.converged
    assert one.value <= min(one.details["trace"], two.details["trace"])
    assert abs(two.details["trace"] / one.details["trace"] - 1) > 0.1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_at_its_own_scales_has_it_as_its_trace(name):
    model, _ = NETWORKS[name]
    found = minimum_sharpness(objective(model))
    scales = found.details["scales"]
    moved = copy.deepcopy(model)
    layers = {n: m for n, m in moved.named_modules() if hasattr(m, "weight")}
    inputs = {"way": "stem", "one": "stem", "three": "two", "head": "two"}
    last = 1.0
    for name_, layer in layers.items():
        before = scales[f"{inputs[name_]}.weight"] if name_ in inputs else last
        last = scales[f"{name_}.weight"]
        scaled(layer, before, last)
    there = minimum_sharpness(objective(moved))
    assert there.details["trace"] == pytest.approx(found.value, rel=1e-6)
    assert list(there.details["scales"].values()) == pytest.approx(
        [1.0] * len(layers), rel=1e-5
    )


def test_without_batch_norm_the_trace_is_that_of_the_dense_hessian():
    model, data = problems.mlp(nn.ReLU), problems.vectors()
    dense = float(problems.dense_hessian(model, data).trace())
    found = minimum_sharpness(problems.objective(model, data))
    assert found.details["trace"] == pytest.approx(dense, rel=1e-8)


def test_a_batch_norm_counts_as_the_layer_it_amounts_to():
    model = normed_cnn().eval()
    plain = nn.Sequential(*(Affine(m) if norm(m) else m for m in model)).eval()
    found = minimum_sharpness(objective(model)).details["trace"]
    expected = sum(dense_traces(plain, objective(model)))
    assert found == pytest.approx(expected, rel=1e-8)


def norm(module):
    return isinstance(module, nn.BatchNorm2d)


class Affine(nn.Module):
    """What an evaluated batch norm amounts to."""

    def __init__(self, source):
        super().__init__()
        weight = source.weight / (source.running_var + source.eps).sqrt()
        self.weight = nn.Parameter(weight.detach())
        self.bias = nn.Parameter((source.bias - weight * source.running_mean).detach())

    def forward(self, x):
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def dense_traces(model, on):
    """Trace by each parameter from the gradients of all outputs of all samples."""
    totals = dict.fromkeys(model.parameters(), 0.0)
    count = 0
    for x, _ in on.batches:
        for row in x:
            z = model(row.unsqueeze(0))[0]
            p = z.detach().softmax(0)
            for parameter in totals:
                J = torch.stack(
                    [
                        torch.autograd.grad(c, parameter, retain_graph=True)[0].ravel()
                        for c in z
                    ]
                )
                totals[parameter] += float((p @ J.square() - (p @ J).square()).sum())
            count += 1
    return [total / count for total in totals.values()]


def test_the_published_solver_ends_at_the_same_value_on_a_chain():
    on = objective(NETWORKS["cnn"][0])
    exact, loop = (minimum_sharpness(on, solver=s) for s in ("newton", "reference"))
    assert exact.value <= loop.value * (1 + 1e-12)
    assert loop.value == pytest.approx(exact.value, rel=1e-6)
    with pytest.raises(UsageError, match=r"one chain.*solver 'newton'"):
        minimum_sharpness(objective(NETWORKS["residual"][0]), solver="reference")


def test_the_path_of_the_published_solver_falls_from_the_trace_to_its_value():
    on = objective(NETWORKS["cnn"][0])
    loop = minimum_sharpness(on, solver="reference", epochs=450)
    steps, sums = zip(*loop.details["descent"])
    assert (steps[0], steps[1], steps[-1]) == (0, 3, 450)
    assert sums[0] == pytest.approx(loop.details["trace"], rel=1e-12)
    assert sums[-1] == loop.value
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(sums))
    shorter = minimum_sharpness(on, solver="reference", epochs=3)
    assert sums[1] == pytest.approx(shorter.value, rel=1e-12)
    assert "descent" not in minimum_sharpness(on).details


def test_leaving_batch_norm_out_has_no_minimum_and_says_so():
    on = objective(normed_cnn())
    with pytest.raises(SettingError, match="must go with solver='reference'"):
        minimum_sharpness(on, batch_norm="ignored")
    short, long = (
        minimum_sharpness(on, solver="reference", batch_norm="ignored", epochs=epochs)
        for epochs in (100, 5000)
    )
    assert not long.converged
    assert long.value < 0.9 * short.value


def test_what_is_not_homogeneous_is_named():
    for layer, name in ((nn.Tanh, "Tanh"), (nn.ReLU6, "Hardtanh"), (nn.GELU, "Gelu")):
        with pytest.raises(UsageError, match=f"but this one has {name}; replace"):
            minimum_sharpness(objective(problems.mlp(layer)))
    tied = problems.drawn(problems.Tied())
    with pytest.raises(UsageError, match="has Tanh"):
        minimum_sharpness(objective_of(tied))
    normed = objective(normed_cnn())
    normed.mode = "train"
    with pytest.raises(UsageError, match="statistics of the batch"):
        minimum_sharpness(normed)


def test_a_layer_that_is_used_twice_is_named():
    shared = nn.Linear(4, 4)
    layers = (shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, problems.CLASSES))
    with pytest.raises(UsageError, match=r"0\.bias is used more than once"):
        minimum_sharpness(objective_of(problems.drawn(nn.Sequential(*layers))))


def objective_of(model):
    return problems.objective(model, problems.vectors())


def test_a_constant_that_the_graph_does_not_show_is_found():
    padded = nn.ConstantPad1d(1, 0.5)
    layers = (nn.Linear(4, 4), nn.ReLU(), padded, nn.Linear(6, problems.CLASSES))
    with pytest.raises(UsageError, match=r"0\.weight changes the outputs.*padding"):
        minimum_sharpness(objective_of(problems.drawn(nn.Sequential(*layers))))
    padded.value = 0.0
    assert minimum_sharpness(objective_of(nn.Sequential(*layers))).converged


class Shifted(nn.Module):
    """A constant that is added holds the scale of what it is added to."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(problems.INPUTS, 5)
        self.two = nn.Linear(5, problems.CLASSES)

    def forward(self, x):
        return self.two(torch.relu(self.one(x)) + 1)


def test_constants_fix_the_scale_of_their_stream():
    found = minimum_sharpness(objective_of(problems.drawn(Shifted())))
    assert found.details["scales"] == {"one.weight": 1.0, "two.weight": 1.0}
    assert found.value == pytest.approx(found.details["trace"], rel=1e-12)


def test_settings_out_of_range_are_refused():
    on = objective(problems.mlp(nn.ReLU))
    for settings in (
        {"solver": "sgd"},
        {"batch_norm": "skip"},
        {"lr": 0.0},
        {"epochs": 0},
    ):
        with pytest.raises(SettingError, match=f"{next(iter(settings))} must be"):
            minimum_sharpness(on, **settings)


def test_a_layer_with_zero_trace_is_named():
    model, (x, y) = problems.mlp(nn.ReLU), problems.vectors()
    on = problems.objective(model, (torch.zeros_like(x), y))
    assert minimum_sharpness(on).converged
    with pytest.raises(SettingError, match=r"0\.weight is zero: scaling it up"):
        minimum_sharpness(on, biases=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "batch norm"])
def test_draws_are_within_their_error(name):
    on = objective(NETWORKS[name][0])
    exact = minimum_sharpness(on)
    drawn = minimum_sharpness(on, samples=400)
    assert drawn.samples == 400
    assert 0 < drawn.stderr < 0.1 * exact.value
    assert abs(drawn.value - exact.value) < 4 * drawn.stderr
    assert exact.stderr == exact.samples == 0
    with pytest.raises(SettingError, match="samples must be >= 1, got 0"):
        minimum_sharpness(on, samples=0)
