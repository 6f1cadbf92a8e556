"""Quantities beside the loss against counts by hand and dense matrices."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import problems
import steppe
from steppe import PointQuantity, SampleMean
from steppe.errors import DataError, SettingError, UsageError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.losses import SumOfTerms
from steppe.objective import Objective
from steppe.parameters import overwrite_, trainable

DATA = problems.vectors(11)
X = [-1.0, 0.0, 0.5]


def scene(**settings):
    model = problems.mlp()
    return model, problems.objective(model, DATA, **settings), Line.random(model)


def at(model, line, *point):
    """A copy of the model with the parameters of a point."""
    moved = copy.deepcopy(model)
    overwrite_(list(trainable(moved).values()), line.point(*point))
    return moved


@torch.no_grad()
def test_accuracy_and_losses_by_class_are_those_counted_by_hand():
    model, objective, line = scene()
    before = problems.state_of(model)
    surface = landscape(objective, line, X, quantities=("accuracy", "class_losses"))
    problems.assert_same(problems.state_of(model), before)
    x, y = DATA
    for i, c in enumerate(X):
        outputs = at(model, line, c)(x)
        right = (outputs.argmax(1) == y).double()
        accuracy = surface.quantities["accuracy"]
        assert float(accuracy.values[i]) == pytest.approx(float(right.mean()))
        error = float(right.std() / 11**0.5)
        assert float(accuracy.stderr[i]) == pytest.approx(error, rel=1e-12)
        losses = F.cross_entropy(outputs, y, reduction="none")
        for number in range(problems.CLASSES):
            of_class = losses[y == number]
            values = surface.quantities[f"class_loss_{number}"]
            assert float(values.values[i]) == pytest.approx(float(of_class.mean()))
            error = float(of_class.std() / len(of_class) ** 0.5)
            assert float(values.stderr[i]) == pytest.approx(error, rel=1e-10)
    assert accuracy.units == "share of samples"


def test_ignored_targets_count_nowhere():
    model, _, line = scene()
    x, y = DATA
    y = y.clone()
    y[::3] = -100
    objective = problems.objective(model, (x, y))
    quantities = landscape(objective, line, [0.0], quantities="accuracy").quantities
    kept = y >= 0
    right = (model(x[kept]).argmax(1) == y[kept]).double().mean()
    assert float(quantities["accuracy"].values) == pytest.approx(float(right))


def test_scores_that_are_nan_are_right_nowhere():
    _, objective, line = scene()
    # Infinite weights: the differences of their products are NaN.
    far = tuple(torch.where(d == 0, d, d * torch.inf) for d in line.direction)
    huge = Line(**{**vars(line), "directions": (far,)})
    surface = landscape(objective, huge, [0.0, 1.0], quantities="accuracy")
    assert surface.quantities["accuracy"].values[1] == 0
    assert math.isnan(float(surface.loss[1]))


@torch.no_grad()
def test_a_function_of_outputs_and_batch_is_averaged_over_samples():
    model, objective, line = scene()

    def entropies(outputs, batch):
        return -(outputs.softmax(1) * outputs.log_softmax(1)).sum(1)

    surface = landscape(
        objective, line, X, quantities=[SampleMean("entropy", entropies)]
    )
    for i, c in enumerate(X):
        expected = float(entropies(at(model, line, c)(DATA[0]), DATA).mean())
        found = float(surface.quantities["entropy"].values[i])
        assert found == pytest.approx(expected, rel=1e-12)


def test_kept_points_of_other_code_under_the_same_name_are_refused(tmp_path):
    _, objective, line = scene()

    def values(column):
        return [SampleMean("score", lambda outputs, batch: outputs[:, column])]

    landscape(objective, line, X, quantities=values(0), out=tmp_path / "points")
    with pytest.raises(DataError, match="points of another recipe"):
        landscape(objective, line, X, quantities=values(1), out=tmp_path / "points")


def terms(model, batch):
    x, y = batch
    outputs = model(x)
    return {
        "fit": F.cross_entropy(outputs, y, reduction="none"),
        "size": 0.01 * outputs.square().sum(1),
    }


@torch.no_grad()
def test_terms_of_a_loss_are_apart_and_so_is_the_penalty():
    model, _, line = scene()
    penalty = steppe.L2(1e-2)
    objective = problems.objective(model, DATA, loss=SumOfTerms(terms), penalty=penalty)
    assert objective.loss_name == "terms"
    surface = landscape(objective, line, X, quantities="loss_terms")
    for i, c in enumerate(X):
        moved = at(model, line, c)
        expected = {n: float(t.mean()) for n, t in terms(moved, DATA).items()}
        for name, value in expected.items():
            found = float(surface.quantities[f"loss_{name}"].values[i])
            assert found == pytest.approx(value, rel=1e-12)
        total = sum(expected.values()) + float(surface.quantities["penalty"].values[i])
        assert float(surface.loss[i]) == pytest.approx(total, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [None, steppe.L2(0.05, "all")])
def test_gradient_and_curvature_are_those_of_the_dense_matrix(penalty):
    model, _, line = scene()
    objective = problems.objective(model, DATA, penalty=penalty)
    names = (
        "gradient_norm",
        "top_eigenvalue",
        "smallest_eigenvalue",
        "eigenvalue_ratio",
    )
    before = problems.state_of(model)
    surface = landscape(objective, line, X, quantities=names)
    problems.assert_same(problems.state_of(model), before)
    found = {name: surface.quantities[name].values for name in names}
    for i, c in enumerate(X):
        moved = at(model, line, c)
        extra = 0.0 if penalty is None else 0.1
        H = problems.dense_hessian(moved, DATA)
        values = torch.linalg.eigvalsh(H) + extra
        vector = problems.flat(moved).requires_grad_()
        (gradient,) = torch.autograd.grad(problems.loss_of(moved, DATA)(vector), vector)
        gradient = gradient + extra * vector.detach()
        smallest, top = float(values[0]), float(values[-1])
        assert float(found["gradient_norm"][i]) == pytest.approx(float(gradient.norm()))
        assert float(found["top_eigenvalue"][i]) == pytest.approx(top, rel=2e-4)
        width = top - smallest
        assert float(found["smallest_eigenvalue"][i]) == pytest.approx(
            smallest, abs=2e-4 * width
        )
        assert float(found["eigenvalue_ratio"][i]) == pytest.approx(
            abs(smallest / top), abs=1e-3
        )
    assert "doubts" not in surface.details


@pytest.mark.slow
def test_measures_of_steppe_are_quantities_with_their_errors():
    model, objective, line = scene()
    measure = steppe.measures.Trace()
    trace = PointQuantity("trace", measure)
    surface = landscape(objective, line, [0.5], quantities=[trace])
    values = surface.quantities["trace"]
    for i, c in enumerate([0.5]):
        moved = problems.objective(at(model, line, c), DATA)
        alone = measure(moved)
        assert float(values.values[i]) == pytest.approx(alone.value, rel=1e-10)
        expected = float(problems.dense_hessian(moved.model, DATA).trace())
        assert alone.value == pytest.approx(expected, rel=0.2)
    assert values.units == "loss per squared parameter"


def test_points_lie_on_a_coarser_grid_with_the_base_point():
    model, objective, _ = scene()
    plane, calls = Plane.random(model), []

    def counted(objective):
        calls.append(problems.flat(objective.model))
        return float(len(calls))

    seen = []
    surface = landscape(
        objective,
        plane,
        (-1, 1, 5),
        (-1, 2, 7),
        quantities=[PointQuantity("number", counted, "calls")],
        every=3,
        progress=lambda *now: seen.append(now),
    )
    values = surface.quantities["number"].values
    assert values.shape == surface.loss.shape == (7, 5)
    there = [(row, column) for row in (2, 5) for column in (2,)]
    evaluated = torch.zeros(7, 5, dtype=torch.bool)
    for row, column in there:
        evaluated[row, column] = True
    assert torch.equal(values.isfinite(), evaluated)
    assert torch.equal(calls[0], problems.flat(model))
    at_end = torch.cat([t.flatten() for t in plane.point(0.0, 1.5)])
    torch.testing.assert_close(calls[1], at_end, rtol=1e-14, atol=0)
    assert surface.details["every"] == 3
    assert surface.quantities["number"].units == "calls"
    assert seen[-1][0] == seen[-1][1]
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(seen))


@pytest.mark.slow
def test_a_value_does_not_depend_on_what_else_is_evaluated():
    _, objective, line = scene()
    names = ["top_eigenvalue", "smallest_eigenvalue", "accuracy"]
    together = landscape(objective, line, X, quantities=names)
    for name in names:
        alone = landscape(objective, line, [0.5], quantities=name)
        assert alone.quantities[name].values[0] == together.quantities[name].values[2]
    assert torch.equal(together.loss, landscape(objective, line, X).loss)


@torch.no_grad()
def test_other_data_is_evaluated_at_the_same_points():
    model, objective, line = scene()
    x, y = problems.vectors(8, seed=5)
    test = problems.objective(model, (x, y), batch_size=5)
    surface = landscape(objective, line, X, quantities="accuracy", also={"test": test})
    for i, c in enumerate(X):
        outputs = at(model, line, c)(x)
        losses = F.cross_entropy(outputs, y, reduction="none")
        found = surface.quantities["test_loss"]
        assert float(found.values[i]) == pytest.approx(float(losses.mean()))
        error = float(losses.std() / 8**0.5)
        assert float(found.stderr[i]) == pytest.approx(error, rel=1e-10)
        right = (outputs.argmax(1) == y).double()
        found = surface.quantities["test_accuracy"]
        assert float(found.values[i]) == pytest.approx(float(right.mean()))
    assert surface.details["also"]["test"]["terms"] == 8
    assert torch.equal(surface.loss, landscape(objective, line, X).loss)


def test_other_data_sees_the_statistics_of_the_first():
    a, b = problems.cnn(1), problems.cnn(2)
    first = problems.objective(a, problems.vectors(12, shape=(1, 4, 4)))
    data = problems.vectors(6, shape=(1, 4, 4), seed=9)
    second = problems.objective(a, data)
    surface = landscape(first, Line.between(a, b), [1.0], also={"test": second})
    assert surface.details["batch_norm"] == "reestimate"
    refitted = copy.deepcopy(b)
    refitted[1].momentum = None
    refitted[1].reset_running_stats()
    inputs = first.batches
    # The variance of all samples, as that of one batch with all of them.
    refitted.train()
    with torch.no_grad():
        refitted(torch.cat([x for x, _ in inputs]))
    expected = problems.objective(refitted.eval(), data).value().value
    found = float(surface.quantities["test_loss"].values)
    assert found == pytest.approx(expected, rel=1e-3)
    own = landscape(second, Line.between(a, b), [1.0])
    assert abs(float(own.loss) - expected) > 0.01


def refusing(objective):
    raise UsageError("not here.")


def test_a_refusal_at_some_points_is_nan_and_everywhere_an_error():
    model, objective, line = scene()

    def sometimes(objective):
        if torch.equal(problems.flat(objective.model), flat):
            raise UsageError("not at the base.")
        return 1.0

    flat = problems.flat(model)
    before = problems.state_of(model)
    surface = landscape(
        objective, line, X, quantities=[PointQuantity("some", sometimes)]
    )
    assert surface.quantities["some"].values.isnan().tolist() == [False, True, False]
    assert surface.details["doubts"]["some"]["refused"] == 1
    with pytest.raises(UsageError, match="not here"):
        landscape(objective, line, X, quantities=[PointQuantity("none", refusing)])
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quantities": "acuracy"}, "a quantity must be one of accuracy, class_losses"),
        ({"quantities": [len]}, "or a SampleMean or PointQuantity of steppe"),
        ({"quantities": 3}, "quantities must be names or a list"),
        ({"quantities": ["accuracy", "accuracy"]}, "'accuracy' is taken"),
        ({"quantities": [PointQuantity("loss", len)]}, "'loss' is taken"),
        ({"quantities": "loss_terms"}, r"whose loss is a steppe\.SumOfTerms"),
        ({"quantities": [PointQuantity("odd", lambda o: "a")]}, "or a number, got"),
        ({"every": 0}, "every must be >= 1"),
        ({"also": 3}, "also must be objectives by name"),
        ({"also": {"a b": 1}}, "names in also must be words"),
        ({"also": {"test": problems.mlp()}}, "must be a steppe.Objective of the same"),
    ],
)
def test_mistakes_are_one_sentence(settings, said):
    _, objective, line = scene()
    with pytest.raises((SettingError, UsageError), match=said):
        landscape(objective, line, X, **settings)


def test_an_accuracy_needs_a_classifier():
    model = nn.Linear(4, 1).double()
    data = DATA[0], torch.zeros(11, 1).double()
    objective = Objective(model, data, "mse")
    with pytest.raises(UsageError, match="an accuracy, an error rate or a"):
        landscape(objective, Line.random(model), [0.0], quantities="accuracy")


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_a_context_around_it_changes_nothing(context):
    _, objective, line = scene()
    names = ("accuracy", "gradient_norm", "top_eigenvalue")
    expected = landscape(objective, line, [0.5], quantities=names).quantities
    with context():
        given = landscape(objective, line, [0.5], quantities=names).quantities
    for name in names:
        assert torch.equal(given[name].values, expected[name].values), name


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: m.bfloat16()])
def test_wrapped_networks_and_those_in_half_precision_have_quantities(wrap):
    model = wrap(problems.mlp().float())
    x = DATA[0].to(next(model.parameters()).dtype)
    objective = problems.objective(model, (x, DATA[1]))
    before = problems.state_of(model)
    line = Line.random(model)
    names = ("accuracy", "class_losses", "gradient_norm", "top_eigenvalue")
    surface = landscape(objective, line, [0.0, 1.0], quantities=names)
    problems.assert_same(problems.state_of(model), before)
    right = (model(x).argmax(1) == DATA[1]).double().mean()
    accuracy = surface.quantities["accuracy"].values[0]
    assert float(accuracy) == pytest.approx(float(right))
    assert all(bool(q.values.isfinite().all()) for q in surface.quantities.values())


def test_an_interrupted_point_leaves_no_trace():
    model, objective, line = scene()
    before = problems.state_of(model)

    def stopped(objective):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape(objective, line, X, quantities=[PointQuantity("stop", stopped)])
    problems.assert_same(problems.state_of(model), before)


def test_where_the_loss_is_not_finite_there_is_no_curvature():
    _, objective, line = scene()
    surface = landscape(objective, line, [0.0, 1e200], quantities="top_eigenvalue")
    values = surface.quantities["top_eigenvalue"].values
    assert values.isfinite().tolist()[0]
    assert not values.isfinite().tolist()[1] or values[1] == 0


@pytest.mark.parametrize("name", ["test_loss", "class_loss_0"])
def test_two_quantities_of_one_name_are_refused_before_any_point(name):
    _, objective, line = scene()
    seen = []
    mine = SampleMean(name, lambda outputs, _batch: outputs[:, 0])
    settings = {"quantities": ["class_losses", mine], "also": {"test": objective}}
    settings["progress"] = lambda *now: seen.append(now)
    with pytest.raises(SettingError, match=f"but two are '{name}'"):
        landscape(objective, line, X, **settings)
    assert not seen
