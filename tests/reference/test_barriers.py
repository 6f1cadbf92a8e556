"""Barriers between several networks: closed forms, scipy's linkage, the measure."""

import copy
import math

import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from torch import nn

import problems
from steppe import Barriers, Curve, Estimate, Objective, barriers
from steppe.errors import DataError, SettingError
from steppe.measures import Barrier


class Point(nn.Module):
    """A single parameter."""

    def __init__(self, x):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))


def wells(model, batch):
    """Minima at all whole numbers, with hills of height 1, times a weight."""
    return batch * torch.sin(math.pi * model.x).square()


def in_wells(*places, **settings):
    networks = {f"at {x:g}": Point(x) for x in places}
    objective = Objective(Point(7.0), [torch.ones(4).double()] * 2, loss=wells)
    return barriers(objective, networks, paths=["straight"], **settings), objective


def nets(name="relu"):
    """Three networks, nearly the same function far apart, and labels they know."""
    model, (x, _) = problems.networks()[name]
    with torch.no_grad():
        model[4].weight.mul_(8.0)
        targets = model.eval()(x).argmax(1)
        several = [model]
        for seed in (1, 2):
            other = copy.deepcopy(model)
            if name == "batch_norm":  # a sign between the convolution and the norm
                for t in (*other[0].parameters(), other[1].running_mean):
                    t[:seed].neg_()
                other[1].weight[:seed].neg_()
            else:
                for p in other[0].parameters():
                    p.copy_(p.roll(seed, 0))
                other[2].weight.copy_(other[2].weight.roll(seed, 1))
            source = problems.generator(seed)
            for p in other.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=source, dtype=p.dtype))
            several.append(other)
    return several, (x, targets)


def made(distances, names):
    n = len(names)
    pairs = {
        (names[i], names[j]): Estimate(value=float(distances[i][j]), stderr=0.1)
        for i in range(n)
        for j in range(i + 1, n)
    }
    return Barriers(names=tuple(names), paths={"straight": pairs})


def test_wells_of_a_sine_are_basins_of_their_own():
    found, objective = in_wells(0.0, 0.1, 1.0, 1.05, points=41)
    matrix = found.matrix()
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().tolist() == [0] * 4
    assert float(matrix[0, 2]) == pytest.approx(1, abs=1e-12)
    assert float(matrix[0, 1]) == float(matrix[2, 3]) == 0  # convex: no rise
    assert found.clusters(0.5) == [("at 0", "at 0.1"), ("at 1", "at 1.05")]
    assert found.clusters(2.0) == [("at 0", "at 0.1", "at 1", "at 1.05")]
    assert objective.model.x.item() == 7.0
    assert found.errors().tolist() == [[0] * 4] * 4


@pytest.mark.parametrize("name", ["relu", "batch_norm"])
def test_each_is_the_measure_of_its_pair_bit_for_bit(name):
    (a, b, c), data = nets(name)
    host = copy.deepcopy(b)
    objective = problems.objective(host, data)
    before = problems.state_of(host)
    seen = []
    found = barriers(
        objective,
        {"a": a, "b": b.state_dict(), "c": c},
        points=7,
        progress=lambda *at: seen.append(at),
    )
    problems.assert_same(problems.state_of(host), before)
    assert seen == [(i, 6) for i in range(1, 7)]
    for path, matched in (("straight", False), ("matched", True)):
        for (first, second), other in zip(
            [("a", "b"), ("a", "c"), ("b", "c")], (b, c, c), strict=True
        ):
            start = {"a": a, "b": b}[first]
            alone = Barrier(points=7, matched=matched)(
                problems.objective(start, data), other=other
            )
            one = found.paths[path][first, second]
            assert (one.value, one.stderr) == (alone.value, alone.stderr)
            assert one.refusal == alone.refusal == ""
            row, column = "abc".index(first), "abc".index(second)
            assert found.matrix(path)[column, row] == alone.value
            assert found.errors(path)[row, column] == alone.stderr
            assert one.cost.forwards > 0


@pytest.mark.parametrize("name", ["relu", "batch_norm"])
@pytest.mark.parametrize("batch_norm", ["reestimate", "interpolate"])
def test_along_a_straight_curve_it_is_the_barrier_of_the_line(name, batch_norm):
    networks, data = nets(name)
    objective = problems.objective(networks[0], data)
    found = barriers(
        objective,
        networks,
        paths=["straight", "curve"],
        curve=Curve.bezier,
        points=9,
        batch_norm=batch_norm,
    )
    assert found.names == ("1", "2", "3")
    straight, curve = (found.paths[p] for p in ("straight", "curve"))
    assert max(line.value for line in straight.values()) > 0.01
    for pair, line in straight.items():
        bent = curve[pair]
        assert bent.value == pytest.approx(line.value, rel=1e-10, abs=1e-14)
        assert bent.stderr == pytest.approx(line.stderr, rel=1e-8, abs=1e-14)
        assert bent.details["at"] == line.details["at"]
        assert bent.details["losses"] == pytest.approx(line.details["losses"])
        assert bent.cost.forwards == line.cost.forwards
        assert bent.details["subspace"] == "bezier"


def test_a_fitted_curve_goes_around_a_hill():
    class Flat(nn.Module):
        def __init__(self, x, y):
            super().__init__()
            self.w = nn.Parameter(torch.tensor([x, y], dtype=torch.float64))

    def ring(model, batch):
        return batch * (model.w.square().sum() - 1).square()

    objective = Objective(Flat(0.0, 0.0), [torch.ones(3).double()], loss=ring)

    def fitted(a, b):
        return Curve.bezier(a, b).fit(
            objective, steps=400, optimizer=lambda w: torch.optim.SGD(w, lr=0.05)
        )

    found = barriers(
        objective, [Flat(-1.0, 1e-3), Flat(1.0, 0.0)], curve=fitted, points=21
    )
    assert list(found.paths) == ["straight", "matched", "curve"]
    assert float(found.matrix("straight")[0, 1]) == pytest.approx(1, abs=1e-5)
    assert float(found.matrix("curve")[0, 1]) < 0.3
    assert found.paths["curve"]["1", "2"].details["fit_steps"] == 400
    # There are no units to match, which is said and stops nothing.
    assert math.isnan(float(found.matrix("matched")[0, 1]))
    assert "matched was not measured of 1 - 2" in str(found)
    assert found.clusters(5.0, "matched") == [("1",), ("2",)]


@pytest.mark.parametrize("seed", range(5))
def test_merges_are_those_of_scipy(seed):
    source = problems.generator(seed)
    square = torch.rand(7, 7, generator=source, dtype=torch.float64)
    square = square + square.T
    square.fill_diagonal_(0)
    found = made(square, list("abcdefg"))
    expected = linkage(squareform(square.numpy()), "single")
    rows = found.linkage()
    torch.testing.assert_close(torch.tensor(rows).double(), torch.tensor(expected))
    for threshold in (0.2, 0.5, 0.8):
        labels = fcluster(expected, threshold, "distance")
        groups = {}
        for name, label in zip("abcdefg", labels, strict=True):
            groups.setdefault(label, []).append(name)
        assert sorted(found.clusters(threshold)) == sorted(map(tuple, groups.values()))


def test_what_is_refused_or_not_finite_merges_last():
    nan, inf = math.nan, math.inf
    found = made([[0, 0.1, nan], [0.1, 0, inf], [nan, inf, 0]], ["a", "b", "c"])
    assert found.linkage()[1][2] == inf
    assert found.clusters(1e300) == [("a", "b"), ("c",)]


def test_it_is_read_back_and_known_pairs_are_not_measured_again():
    known = {}
    found, objective = in_wells(0.0, 0.5, 1.0, points=5, known=known)
    spent = objective.cost.forwards
    again = barriers(
        objective,
        {n: Point(9.0) for n in found.names},
        paths=["straight"],
        points=5,
        known=known,
    )
    assert torch.equal(again.matrix(), found.matrix())
    assert objective.cost.forwards == spent
    read = Barriers.from_dict(found.to_dict())
    assert torch.equal(read.matrix(), found.matrix())
    assert str(read) == str(found)
    assert [row["second"] for row in found.rows()] == ["at 0.5", "at 1", "at 1"]
    with pytest.raises(DataError, match="a mapping with names, paths"):
        Barriers.from_dict({"names": []})


def test_an_exception_inside_leaves_no_trace():
    networks, data = nets()
    objective = problems.objective(networks[0], data)
    before = problems.state_of(networks[0])

    def broken(a, b):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        barriers(objective, networks, paths=["curve"], curve=broken)
    problems.assert_same(problems.state_of(networks[0]), before)


def test_a_fit_that_diverges_is_a_refusal_of_its_pair():
    networks, data = nets()
    objective = problems.objective(networks[0], data)

    def fitted(a, b):
        wild = lambda w: torch.optim.SGD(w, lr=1e200)  # noqa: E731
        return Curve.bezier(a, b).fit(objective, steps=9, optimizer=wild)

    found = barriers(objective, networks[:2], curve=fitted, points=3)
    assert "smaller learning rate" in found.paths["curve"]["1", "2"].refusal
    assert found.paths["straight"]["1", "2"].refusal == ""


def test_bad_calls_are_one_sentence():
    (a, b, _), data = nets()
    objective = problems.objective(a, data)
    for networks, said in (
        ([a], "two or more networks of different names, got '1'"),
        ("ab", "networks must be two or more"),
        ({"x": a, "y": problems.cnn()}, r"network y must have the tensors"),
        ({"x": a, "y": 3}, r"network y must be a network or its state_dict"),
    ):
        with pytest.raises(SettingError, match=said):
            barriers(objective, networks)
    for settings, said in (
        ({"paths": ["curve"]}, "needs curve="),
        ({"paths": []}, "paths must be some of straight"),
        ({"paths": ["bent"]}, "paths must be 'straight', 'matched' or 'curve'"),
        ({"batch_norm": "freeze"}, "batch_norm must be 'reestimate' or"),
        ({"points": 2}, "points must be >= 3"),
        ({"curve": 3}, "curve must be a function that makes"),
    ):
        with pytest.raises(SettingError, match=said):
            barriers(objective, [a, b], **settings)
    with pytest.raises(SettingError, match=r"returns a steppe\.Curve"):
        barriers(objective, [a, b], curve=lambda a, b: 1, paths=["curve"])
    with pytest.raises(SettingError, match="path must be 'straight' or"):
        barriers(objective, [a, b], points=3).matrix("bent")
