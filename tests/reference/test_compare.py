"""Paired comparisons against closed forms, and the coverage of their intervals."""

import copy
import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
import steppe
from steppe.comparisons.jackknife import groups_of, jackknife
from steppe.comparisons.units import unit_of
from steppe.errors import DataError, SettingError, UsageError
from steppe.measures import AbstractMeasure, measure
from steppe.objective import Objective
from steppe.results import Estimate
from steppe.results.student import student_quantile
from steppe.seeds import seed_of

N = 30


def data(n=N, seed=3):
    return problems.vectors(n, seed=seed)


def small(seed=0):
    """A network of tanh with 19 parameters."""
    layers = (nn.Linear(problems.INPUTS, 2), nn.Tanh(), nn.Linear(2, problems.CLASSES))
    return problems.drawn(nn.Sequential(*layers), seed)


def pair(make=small, samples=None, batch_size=25, **settings):
    samples = samples or data()
    settings |= {"batch_size": batch_size}
    return [Objective(make(seed=seed), samples, **settings) for seed in (0, 1)]


def shares(sizes):
    sizes = torch.as_tensor(sizes, dtype=torch.float64)
    return sizes / sizes.sum()


def leave_out(x, numbers, statistic):
    groups = range(int(numbers.max()) + 1)
    return torch.stack([statistic(x[numbers != g]) for g in groups])


def test_the_jackknife_of_a_mean_is_the_error_of_a_mean():
    x = torch.randn(12, dtype=torch.float64, generator=problems.generator())
    numbers = torch.arange(12) // 3
    bias, error = jackknife(
        float(x.mean()), leave_out(x, numbers, torch.mean), shares([3, 3, 3, 3])
    )
    means = x.reshape(4, 3).mean(1)
    assert abs(bias) < 1e-12
    assert error == pytest.approx(float(means.std()) / 2)


def test_its_bias_is_that_of_a_variance():
    x = torch.randn(9, dtype=torch.float64, generator=problems.generator())
    without = leave_out(x, torch.arange(9), lambda x: x.var(correction=0))
    bias, _ = jackknife(float(x.var(correction=0)), without, shares([1] * 9))
    # For one left out at a time, an identity.
    assert bias == pytest.approx(float(x.var(correction=0) - x.var()))


def test_groups_of_different_sizes_leave_a_mean_without_bias():
    x = torch.randn(11, dtype=torch.float64, generator=problems.generator())
    numbers = groups_of(11, 4, problems.generator())
    sizes = numbers.bincount()
    assert sorted(sizes.tolist()) == [2, 3, 3, 3]
    bias, error = jackknife(
        float(x.mean()), leave_out(x, numbers, torch.mean), shares(sizes)
    )
    assert abs(bias) < 1e-12
    assert 0 < error < float(x.std())


def coverage(sample, statistic, truth, n, groups, trials=1000):
    """Share of 95 % intervals that hold the truth, over subsets of a population."""
    source, hits = problems.generator(5), 0
    quantile = student_quantile(0.95, groups - 1)
    for _ in range(trials):
        x = sample(n, source)
        numbers = groups_of(n, groups, source)
        member = F.one_hot(numbers, groups).double()
        sums, sizes = torch.tensordot(member.T, x, 1), member.sum(0)
        rest = (n - sizes).reshape(-1, *[1] * (x.dim() - 1))
        full = statistic(x.mean(0)[None])[0]
        _, error = jackknife(
            float(full), statistic((sums.sum(0) - sums) / rest), sizes / n
        )
        hits += abs(float(full) - truth) <= quantile * error
    return hits / trials


def two_losses(n, source):
    """Losses of two networks on the same samples, alike but for a shift of 0.3."""
    common = torch.randn(n, 1, dtype=torch.float64, generator=source)
    own = torch.randn(n, 2, dtype=torch.float64, generator=source)
    return torch.tensor([1.0, 0.7]).double() + common + 0.3 * own


def two_hessians(n, source):
    """Matrices 2 x x' of squared errors of two linear networks, (n, 2, 3, 3)."""
    x = torch.randn(n, 2, 3, dtype=torch.float64, generator=source)
    x = x * torch.tensor([[2.0, 1.0, 1.0], [1.7, 1.0, 1.0]]).double()
    return 2 * x.unsqueeze(-1) * x.unsqueeze(-2)


def test_intervals_of_a_difference_of_means_cover_in_95_percent():
    covered = coverage(two_losses, lambda m: m[:, 0] - m[:, 1], 0.3, 90, 20)
    assert 0.93 <= covered <= 0.97


def test_intervals_of_a_difference_of_eigenvalues_cover_in_95_percent():
    def tops(means):
        top = torch.linalg.eigvalsh(means)[..., -1]
        return top[:, 0] - top[:, 1]

    covered = coverage(two_hessians, tops, 2 * 4.0 - 2 * 1.7**2, 200, 20)
    assert 0.93 <= covered <= 0.97


def test_the_loss_has_the_error_of_the_differences_of_single_samples():
    a, b = pair()
    found = steppe.compare(a, b, ["loss"], groups=N)["loss"]
    apart = (a.losses() - b.losses()).double()
    assert found.total.value == pytest.approx(float(apart.mean()))
    assert found.total.stderr == pytest.approx(float(apart.std()) / N**0.5)
    assert (found.over_draws.stderr, found.over_draws.samples) == (0.0, 0)
    half = student_quantile(0.95, N - 1) * float(apart.std()) / N**0.5
    middle = found.a.value - found.b.value
    assert found.interval == pytest.approx((middle - half, middle + half))
    # The losses of a sample under two networks are alike: an unpaired error is larger.
    assert found.total.stderr < (a.value() - b.value()).stderr


@pytest.mark.slow
def test_a_sampled_trace_is_linear_in_the_data_draw_by_draw():
    a, b = pair()
    found = steppe.compare(a, b, ["trace"], groups=6, repeats=3, seed=4)["trace"]
    assert found.total.value == pytest.approx(found.a.value - found.b.value)
    assert found.over_data.stderr > 0
    # Rounding alone: z' H z is a mean over the samples for every vector z of signs.
    assert abs(found.bias) < 1e-9
    dense = [torch.trace(problems.dense_hessian(o.model, data())) for o in (a, b)]
    assert abs(found.total.value - float(dense[0] - dense[1])) < (
        4 * found.over_draws.stderr + 1e-9
    )
    assert found.over_draws.stderr > 0
    assert found.over_draws.samples == 3


def test_errors_over_draws_are_those_of_repeats_with_common_draws():
    a, b = pair()
    text = "lpf:sigma=0.1,samples=4"
    found = steppe.compare(a, b, [text], groups=5, repeats=6, seed=1)[text]
    assert 4 <= found.a.samples <= 19  # 6 errors of 3 degrees of freedom each
    seeds = [1, *(seed_of(1, number) for number in range(1, 6))]
    apart = torch.tensor(
        [
            measure(a, [text], seed=s)[text].value
            - measure(b, [text], seed=s)[text].value
            for s in seeds
        ],
        dtype=torch.float64,
    )
    assert found.over_draws.value == pytest.approx(float(apart.mean()))
    assert found.over_draws.stderr == pytest.approx(float(apart.std()) / 6**0.5)
    both = math.hypot(found.over_data.stderr, found.over_draws.stderr)
    assert found.total.stderr == pytest.approx(both)


def test_a_network_and_its_copy_show_no_difference():
    a, _ = pair()
    b = Objective(copy.deepcopy(a.model), data(), batch_size=25)
    found = steppe.compare(a, b, groups=4, repeats=2)
    assert set(found) == {"loss", "top_eigenvalue", "trace", "lpf"}
    for one in found.values():
        assert (one.total.value, one.total.stderr) == (0.0, 0.0)
        assert one.verdict() == "no difference could be shown"
        assert one.ratio == (1.0, 1.0, 1.0)


@pytest.mark.slow
def test_largest_eigenvalues_are_those_of_dense_hessians():
    a, b = pair()
    found = steppe.compare(a, b, ["top_eigenvalue:tol=1e-9"], groups=4, seed=2)
    (one,) = found.values()
    deal = groups_of(N, 4, problems.generator(2))
    x, y = data()

    def top(objective, kept):
        dense = problems.dense_hessian(objective.model, (x[kept], y[kept]))
        return torch.linalg.eigvalsh(dense)[-1]

    kept = [torch.ones(N, dtype=torch.bool), *(deal != g for g in range(4))]
    full, *without = [top(a, some) - top(b, some) for some in kept]
    bias, error = jackknife(float(full), torch.stack(without), deal.bincount() / N)
    assert one.total.value == pytest.approx(float(full), rel=1e-6)
    assert one.bias == pytest.approx(bias, rel=1e-5)
    assert one.total.stderr == pytest.approx(error, rel=1e-6)


def test_it_leaves_no_trace_and_says_what_it_cost():
    a, b = pair(
        make=lambda seed: problems.cnn(seed),
        samples=problems.vectors(12, shape=(1, 4, 4)),
        batch_size=5,
    )
    before = [problems.state_of(o.model) for o in (a, b)]
    steps = []
    found = steppe.compare(
        a,
        b,
        ["loss", "lpf:samples=3"],
        groups=3,
        repeats=2,
        progress=lambda done, total: steps.append((done, total)),
    )
    for objective, state in zip((a, b), before, strict=True):
        problems.assert_same(problems.state_of(objective.model), state)
    # Each network: 4 passes on all data twice, on 2 / 3 of it three times.
    assert found.cost.forwards == pytest.approx(2 * (2 * 4 + 3 * 4 * 2 / 3), abs=3)
    assert steps[-1] == (5, 5)
    assert steps == sorted(steps)


def per_token(model, batch):
    logits = model(batch["x"])
    losses = F.cross_entropy(
        logits.movedim(-1, 1), batch["y"], reduction="none", ignore_index=-1
    )
    return losses[batch["y"] >= 0]


def test_samples_of_many_terms_are_left_out_as_one():
    source = problems.generator()
    x = torch.randn(12, 5, problems.INPUTS, generator=source).double()
    y = torch.randint(-1, problems.CLASSES, (12, 5), generator=source)
    batches = [{"x": x[:7], "y": y[:7]}, {"x": x[7:], "y": y[7:]}]
    a, b = (Objective(problems.mlp(seed=s), batches, per_token) for s in (0, 1))
    found = steppe.compare(a, b, ["loss"], groups=12)
    assert (found.unit, found.units) == ("sample", 12)
    counts = (y >= 0).sum(1).double()
    apart = (a.losses() - b.losses()).double()
    sums = torch.stack([part.sum() for part in apart.split(counts.int().tolist())])
    means = (sums.sum() - sums) / (counts.sum() - counts)
    bias, error = jackknife(float(apart.mean()), means, counts / counts.sum())
    assert abs(bias) < 1e-12
    assert found["loss"].total.value == pytest.approx(float(apart.mean()))
    assert found["loss"].total.stderr == pytest.approx(error)


def test_a_unit_is_a_batch_where_samples_influence_each_other():
    pictures = problems.vectors(12, shape=(1, 4, 4))
    make = {"make": problems.cnn, "samples": pictures, "batch_size": 3}
    assert unit_of(pair(**make)) == "sample"
    in_training = pair(**make, mode="train")
    assert unit_of(in_training) == "batch"
    found = steppe.compare(*in_training, ["loss"])
    assert (found.unit, found.units, found.groups) == ("batch", 4, 4)
    recurrent = lambda model, x: model[0](x)[0][-1].square().sum(1)  # noqa: E731
    time_first = [torch.randn(6, 3, 2, generator=problems.generator()).double()]
    nets = [problems.drawn(nn.Sequential(nn.RNN(2, 4)), seed) for seed in (0, 1)]
    assert unit_of([Objective(net, time_first, recurrent) for net in nets]) == "batch"


def test_batches_keep_their_masks_when_others_are_left_out():
    nets = [nn.Sequential(small(seed), nn.Dropout(0.5)) for seed in (0, 1)]
    batches = [tuple(t[i : i + 5] for t in data(40)) for i in range(0, 40, 5)]
    a, b = (Objective(net, batches, mode="train") for net in nets)
    found = steppe.compare(a, b, ["loss"], repeats=2)
    assert (found.unit, found.units) == ("batch", 8)
    means = (a.losses() - b.losses()).double().reshape(8, 5).mean(1)
    error = float(means.std()) / 8**0.5
    assert found["loss"].total.stderr == pytest.approx(error)


def test_groups_without_a_loss_term_say_nothing():
    x, y = data()
    y = y.clone()
    y[torch.arange(N) % 3 > 0] = -100
    a, b = pair(samples=(x, y))
    found = steppe.compare(a, b, ["loss"], groups=N)
    apart = (a.losses() - b.losses()).double()
    assert (found.units, found.groups) == (N, 10)
    assert found["loss"].total.stderr == pytest.approx(float(apart.std()) / 10**0.5)
    assert found["loss"].over_data.samples == 10


class OfTheLoss(AbstractMeasure):
    def needs(self):
        return []


class Wavering(OfTheLoss):
    """The loss, unconverged on parts of the data."""

    def estimate(self, measurement):
        value = measurement.objective.value()
        return Estimate(value=value.value, converged=value.samples == N)


def test_a_difference_whose_parts_did_not_converge_has_not_converged():
    found = steppe.compare(*pair(), [Wavering()], groups=3)["Wavering"]
    assert found.a.converged
    assert not found.total.converged


def test_a_mean_over_repeats_has_their_degrees_of_freedom():
    a, b = pair()
    found = steppe.compare(a, b, ["lpf:samples=2"], groups=2, repeats=3)
    # Three errors of one degree of freedom each have three at most, and not five.
    assert 2 <= found["lpf:samples=2"].a.samples <= 4


def test_what_is_not_comparable_is_refused():
    a, b = pair()
    x, y = data()
    with pytest.raises(SettingError, match=r"same network.*deepcopy"):
        steppe.compare(a, Objective(a.model, data(), batch_size=25))
    for samples in ((x.flip(0), y.flip(0)), (x, 2 - y), (x[:20], y[:20])):
        other = Objective(b.model, samples, batch_size=25)
        with pytest.raises(DataError, match=r"same (samples|batches).*list\(loader\)"):
            steppe.compare(a, other)
    with pytest.raises(DataError, match="same batches, got 2 and 3 of them"):
        steppe.compare(a, Objective(b.model, data(), batch_size=10))
    with pytest.raises(SettingError, match="one mode, got 'eval' and 'train'"):
        steppe.compare(a, Objective(b.model, data(), batch_size=25, mode="train"))
    smooth = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    with pytest.raises(SettingError, match="one loss, got 'cross_entropy' and"):
        steppe.compare(a, Objective(b.model, data(), smooth, batch_size=25))
    with pytest.raises(SettingError, match=r"names must be those of two.*'sgd'"):
        steppe.compare(a, b, names=("sgd",))
    with pytest.raises(SettingError, match="groups must be >= 2, got 1"):
        steppe.compare(a, b, groups=1)
    with pytest.raises(DataError, match=r"at least 2 units.*got 1 batch"):
        steppe.compare(*pair(batch_size=N), ["loss"], unit="batch")
    with pytest.raises(SettingError, match=r"needs a steppe\.Objective"):
        steppe.compare(a.model, b)


def test_losses_made_twice_are_one_loss_where_their_settings_agree():
    x, y = data()
    smooth = [
        nn.CrossEntropyLoss(reduction="none", label_smoothing=s)
        for s in (0.1, 0.1, 0.2)
    ]
    objectives = [
        Objective(problems.mlp(seed=i), (x, y), s) for i, s in enumerate(smooth)
    ]
    assert steppe.compare(*objectives[:2], ["loss"], groups=3)["loss"].total.stderr > 0
    with pytest.raises(SettingError, match="one loss"):
        steppe.compare(objectives[0], objectives[2], ["loss"])


def test_a_refused_measure_says_why_and_the_others_go_on():
    a, b = pair()  # of tanh
    found = steppe.compare(a, b, ["minimum_sharpness", "loss"], groups=3)
    assert "homogeneous" in found["minimum_sharpness"].refusal
    assert found["minimum_sharpness"].verdict() == "not compared"
    assert found["loss"].total.stderr > 0
    assert "minimum_sharpness: not compared: minimum sharpness needs" in " ".join(
        str(found).split()
    )
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))
    with pytest.raises(UsageError, match="homogeneous"):
        steppe.compare(a, b, ["minimum_sharpness"])


def test_a_comparison_is_a_table_rows_and_json():
    a, b = pair()
    found = steppe.compare(a, b, ["loss"], groups=5, names=("sgd", "sam"), level=0.9)
    one = found["loss"]
    text = str(found)
    assert text.splitlines()[0].split()[:4] == ["measure", "sgd", "sam", "difference"]
    assert "90 % interval" in text
    assert "loss: " + one.verdict("sgd", "sam") in text
    assert "30 samples in 5 groups; " in text
    (row,) = found.rows()
    assert (row["low"], row["high"]) == one.interval
    assert row["difference"] == one.total.value
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["measures"]["loss"]["low"] == one.interval[0]
    assert record["names"] == ["sgd", "sam"]
    assert Estimate.from_dict(record["measures"]["loss"]["a_estimate"]) == one.a
    assert "<th>sgd</th>" in found._repr_html_()


class Doubled(OfTheLoss):
    def estimate(self, measurement):
        return Estimate(value=-2 * measurement.objective.value().value)


def test_any_measure_is_compared_and_a_negative_one_has_no_ratio():
    a, b = pair()
    found = steppe.compare(a, b, [Doubled(), "loss"], groups=5)
    ours, loss = found["Doubled"], found["loss"]
    assert ours.total.value == pytest.approx(-2 * loss.total.value)
    assert ours.total.stderr == pytest.approx(2 * loss.total.stderr)
    assert ours.ratio is None
    assert loss.ratio[0] == pytest.approx(a.value().value / b.value().value, rel=0.05)
