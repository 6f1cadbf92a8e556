"""Examinations: numbers against those of the library apart, remarks, plan, page."""

import json
import math

import pytest
import torch
from torch import nn

import problems
import steppe
from steppe.errors import SettingError, UnknownNameError, UsageError
from steppe.examination.plan import Plan, Price, Units, part_of, planned, timed
from steppe.measures import measure
from steppe.objective import Objective


def classifier(n=120, seed=0):
    """A ReLU network near a minimum, and its data."""
    x, _ = problems.vectors(n, seed=seed)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = problems.mlp(nn.ReLU, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, (x, y)


@pytest.fixture(scope="module")
def examined():
    model, data = classifier()
    objective = Objective(model, data)
    return objective, steppe.examine(objective, samples=120, curvature_samples=120)


def test_errors_of_one_sample_are_said_to_be_not_known():
    x, _ = problems.vectors(1)
    objective = Objective(problems.mlp(nn.ReLU), (x, (x[:, 0] > 0).long()))
    result = steppe.examine(objective, samples=1, curvature_samples=1)
    text = str(result)
    assert result.groups["loss"]["loss"].stderr == math.inf
    assert text.count("± not known") >= 2
    assert "inf" not in text


def test_estimates_are_those_of_measuring_them_alone(examined):
    objective, result = examined
    groups = [g for subject, g in result.groups.items() if subject != "curvature"]
    for name in (name for group in groups for name in group):
        if not result[name].refusal:
            assert result[name] == measure(objective, [name])[name], name


def test_the_spectrum_is_that_of_the_dense_hessian(examined):
    objective, result = examined
    values = torch.linalg.eigvalsh(dense_hessian(objective))
    # 25 of the Krylov steps of 83 parameters: the ends have converged, not the middle.
    assert result["top_eigenvalue"].value == pytest.approx(float(values[-1]), 1e-4)
    assert result["trace"].value == pytest.approx(float(values.sum()), rel=1e-6)
    norm = result["frobenius_norm"]
    assert norm.value == pytest.approx(float(values.norm()), abs=5 * norm.stderr + 1e-6)


def dense_hessian(objective):
    (x, y), model = objective.batches[0], objective.model
    names = [name for name, _ in model.named_parameters()]
    flat = problems.flat(model)

    def loss(vector):
        pieces = torch.split(vector, [p.numel() for p in model.parameters()])
        shaped = [v.view_as(p) for v, p in zip(pieces, model.parameters(), strict=True)]
        named = dict(zip(names, shaped, strict=True))
        logits = torch.func.functional_call(model, named, (x,))
        return nn.functional.cross_entropy(logits, y)

    return torch.autograd.functional.hessian(loss, flat)


def test_it_prints_as_a_table_and_is_json(examined):
    result = examined[1]
    lines = str(result).splitlines()
    assert max(map(len, lines)) <= 110
    assert any(line.startswith("rise after") for line in lines)
    record = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    loss = result["loss"].value
    assert record["groups"]["loss"]["loss"]["value"] == loss
    assert {row["subject"] for row in result.rows()} == set(result.groups)


def test_it_leaves_no_trace_and_repeats():
    model, data = problems.networks()["batch_norm"]
    before = problems.state_of(model)
    settings = {"samples": 7, "curvature_samples": 5, "seed": 3}
    one, two = (steppe.examine(Objective(model, data), **settings) for _ in "ab")
    problems.assert_same(problems.state_of(model), before)
    assert one.estimates == two.estimates
    assert [s.loss.tolist() for s in one.lines] == [s.loss.tolist() for s in two.lines]
    assert one.cost == two.cost


def remarks(model, data, **settings):
    settings = {"samples": 10**6, "curvature_samples": 10**6, **settings}
    return " ".join(steppe.examine(Objective(model, data), **settings).remarks)


def test_a_network_far_from_a_minimum_is_told_so_and_one_at_a_minimum_is_not():
    assert "Not at a minimum: |g| = " in remarks(problems.mlp(), problems.vectors(300))
    quadratic = problems.Quadratic(
        problems.symmetric([4.0, 3.0, 1.0]), torch.ones(3, dtype=torch.float64)
    )
    samples = torch.randn(64, 3, generator=problems.generator(), dtype=torch.float64)
    with torch.no_grad():
        quadratic.w.copy_(samples.mean(0))
    objective = Objective(quadratic, [samples], loss=lambda model, z: model(z))
    said = steppe.examine(objective, samples=64, curvature_samples=64).remarks
    assert said == []


def test_a_saddle_is_told_so():
    matrix = problems.symmetric([2.0, -1.0, 0.5])
    saddle = problems.Quadratic(matrix, torch.zeros(3, dtype=torch.float64))
    objective = Objective(
        saddle, [torch.zeros(8, 3).double()], loss=lambda model, z: model(z) + 1
    )
    said = steppe.examine(objective, samples=8, curvature_samples=8).remarks
    assert said == [
        "Not a minimum in all directions: the smallest eigenvalue is -1, 50% of the "
        "largest in magnitude."
    ]


def test_normalisation_and_a_small_loss_are_told():
    model, data = problems.networks()["batch_norm"]
    assert "Normalisation layers make raw scales meaningless" in remarks(model, data)
    model, data = classifier(60)
    with torch.no_grad():
        model[4].weight.mul_(30.0)
        model[4].bias.mul_(30.0)
    y = model(data[0]).argmax(1)
    assert "curvature shrinks with the loss" in remarks(model, (data[0], y))


def test_a_smaller_part_lies_within_a_larger_one_and_is_said():
    model, (x, y) = classifier(100)
    objective = Objective(model, (x, y), batch_size=16)
    small, large = (part_of(objective, n, seed=4) for n in (20, 50))
    rows = [torch.cat([b[0] for b in p.objective.batches]) for p in (small, large)]
    assert [len(each) for each in rows] == [20, 50]
    inside = (rows[0][:, None] == rows[1][None]).all(2).any(1)
    assert bool(inside.all())
    assert part_of(objective, 100, seed=4).objective is objective
    said = remarks(model, (x, y), samples=50, curvature_samples=20)
    assert (
        "passes take 50 of 100 samples and products with the Hessian 20 of 100" in said
    )


def test_batches_without_rows_are_taken_whole():
    model = problems.linear()
    batches = [{"x": torch.randn(3, 4).double(), "n": 2} for _ in range(5)]

    def loss(model, batch):
        return model(batch["x"]).square().sum(1)

    part = part_of(Objective(model, batches, loss=loss), 2, seed=0)
    assert (part.samples, part.of, part.unit) == (2, 5, "batch")
    assert len(part.objective.batches) == 2


PASSES = {"loss": Price(0, 0.1), "noise": Price(1, 0.5), "tails": Price(10)}
PRODUCTS = {"curvature": Price(20, 2)}


def plan(seconds, most=10**6, **given):
    return planned(PASSES, PRODUCTS, seconds, most, needed=("loss",), **given)


def test_each_part_has_half_of_the_time_and_what_the_other_leaves():
    # 50 s: (50 - 11) / 0.6 samples of passes, (50 - 20) / 2 of products, and what both
    # leave of the rounding down.
    assert plan(100) == Plan(65, 15)
    assert plan(10_000, most=40) == Plan(40, 40)
    assert plan(200, most=64) == Plan(64, 65 - 1)  # 200 - 49.4 s would be enough for 65
    # The least number of products takes 36 s of the 60 s.
    assert plan(60) == Plan(21, 8)
    spent = PASSES["noise"].of(21) + PASSES["loss"].of(21) + 10 + 36
    assert spent <= 60


def test_the_dearest_subject_is_left_out_until_the_rest_is_within_the_time():
    # At 8 samples: 0.8, 5, 10 and 36 s.
    assert plan(51.9).left_out == {}
    assert plan(50).left_out == {"curvature": 36}
    assert plan(15).left_out == {"curvature": 36, "tails": 10}
    assert plan(0.01) == Plan(8, 8, {"curvature": 36, "tails": 10, "noise": 5})


def test_a_part_whose_samples_are_given_is_whole_and_costs_nothing():
    # 30 s for the products alone: (30 - 20) / 2 samples would be too few.
    assert plan(50, samples=500) == Plan(500, 15)
    assert plan(30, curvature_samples=3) == Plan(31, 3)
    assert plan(0.1, samples=5, curvature_samples=3) == Plan(5, 3)


def test_pieces_are_priced_and_a_refused_one_costs_nothing():
    objective = Objective(*classifier(90), batch_size=40)
    before = problems.state_of(objective.model)
    units = timed(objective, seed=0)
    problems.assert_same(problems.state_of(objective.model), before)
    assert min(units.forward.each, units.vector, units.matrices) > 0
    assert min(units.sample_gradients.of(8), units.product.of(8)) > 0
    model, data = problems.linear(), problems.vectors()
    once = Objective(
        model, data, loss=lambda m, b: problems.Flagged.apply(m(b[0]))[:, 0]
    )
    assert timed(once, seed=0).product == Price()


@pytest.mark.slow
def test_what_is_too_dear_says_the_seconds_that_it_would_take(monkeypatch):
    units = Units(Price(0, 1), Price(0, 60), Price(5, 5), Price(5, 5), 0.0, 9.0)
    monkeypatch.setattr("steppe.examination.examine.timed", lambda *_: units)
    model, data = classifier(40)
    told = []
    result = steppe.examine(
        Objective(model, data), seconds=700, progress=lambda *seen: told.append(seen)
    )
    noise = result["gradient_noise"]
    assert math.isnan(noise.value)
    assert noise.refusal.startswith("on a few samples it would take about 480 s")
    assert result.spectrum is None
    assert "about 1,440 s, too much of the 700 s" in result.remarks[0]
    assert math.isfinite(result["lpf:sigma=0.01,samples=8"].value)
    assert [told[0], told[-1]] == [(0, 13, "loss"), (13, 13, "")]
    assert (12, 13, "random lines") in told
    assert "gradient_noise was not measured: " in str(result)
    assert "Make it again" in result.page()


def test_what_cannot_be_measured_is_one_line_and_the_rest_stands():
    """Loss without a second derivative."""
    model, data = problems.linear(), problems.vectors()

    def loss(model, batch):
        square = problems.Flagged.apply(model(batch[0]))
        return square.sum(1)

    objective = Objective(model, data, loss=loss)
    result = steppe.examine(objective, samples=7, curvature_samples=7)
    assert result.spectrum is None
    assert result.remarks[0].startswith("The Hessian has no spectrum here: ")
    assert math.isfinite(result["loss"].value)


def test_an_eigenvalue_that_has_not_converged_says_so():
    """Eigenvalues so dense at the lower end that 25 steps cannot part them."""
    matrix = torch.diag(torch.linspace(-0.02, 1.0, 300, dtype=torch.float64) ** 3)
    model = problems.Quadratic(matrix, torch.zeros(300, dtype=torch.float64))
    zero = [torch.zeros(8, 300, dtype=torch.float64)]
    objective = Objective(model, zero, loss=lambda model, z: model(z) + 1)
    result = steppe.examine(objective, samples=8, curvature_samples=8)
    bottom = result["bottom_eigenvalue"]
    error = abs(bottom.value - float(matrix.diagonal().min()))
    assert error <= bottom.details["residual"] + 1e-12
    near = 0.05 * max(abs(bottom.value), 0.01)
    assert bottom.converged == (bottom.details["residual"] <= near)


def test_weights_that_are_not_finite_and_unknown_names_are_one_sentence(examined):
    model = problems.mlp()
    with torch.no_grad():
        model[2].bias[1] = math.nan
    with pytest.raises(UsageError, match=r"got 1 of 5 numbers in 2\.bias"):
        steppe.examine(Objective(model, problems.vectors()))
    with pytest.raises(UnknownNameError, match="no 'curvature' in the examination"):
        examined[1]["curvature"]
    assert list(examined[1]) == list(examined[1].estimates)


def test_bad_settings_are_one_sentence():
    objective = Objective(problems.linear(), problems.vectors())
    for settings in ({"samples": 0}, {"seconds": 0}, {"curvature_samples": -1}):
        (name,) = settings
        with pytest.raises(SettingError, match=f"^{name} must be"):
            steppe.examine(objective, **settings)


@pytest.mark.slow
def test_the_page_holds_the_numbers_and_needs_nothing_else(examined, tmp_path):
    result = examined[1]
    page = result.html(tmp_path / "new" / "page.html").read_text()
    assert "http" not in page.split("<main>")[1].split("data:")[0]
    for subject in result.groups:
        assert f">{subject}</th>" in page
    assert "steppe.examine(objective, samples=120, curvature_samples=120, seed=0)" in (
        page
    )
    assert page.count("<figure>") == 4
