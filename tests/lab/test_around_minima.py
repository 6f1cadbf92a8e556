"""Loss around the minima: above its minimum, and where the curves part."""

from types import SimpleNamespace

import pytest
import torch

from steppe.objective import Objective
from steppe.surfaces import Surface
from steppe_lab.reports.comparison.around_minima import above_minimum, parting_radius
from steppe_lab.reports.comparison.pictures import other_draws
from steppe_lab.runs.analysis import _line

GRID = tuple(n / 10 for n in range(-10, 11))


def line(loss, grid=GRID):
    losses = torch.tensor([loss(x) for x in grid], dtype=torch.float64)
    return Surface(
        coordinates=(grid,), loss=losses, stderr=torch.zeros_like(losses), samples=9
    )


def runs(curvature, far):
    """Parabolas that differ near the minimum, and walls that differ by run alone."""
    return [line(lambda x, f=f: curvature * x**2 + f * x**8) for f in far]


def test_curves_are_drawn_where_groups_differ_and_runs_do_not():
    lines = {"sgd": runs(2.0, (9.0, 90.0)), "sam": runs(1.0, (90.0, 9.0))}
    assert parting_radius(lines) == pytest.approx(0.3)  # the smallest with a shape


def test_curves_that_part_far_out_are_drawn_far_out():
    grow = [line(lambda x, n=n: x**2 * (1 + n * x**4)) for n in (0.0, 1.0)]
    assert parting_radius({"sgd": grow[:1], "sam": grow[1:]}) == 1.0


@pytest.mark.parametrize(
    "lines",
    [
        {"sgd": runs(1.0, (1.0, 2.0))},
        {"sgd": [line(lambda x: 0.0)], "sam": [line(lambda x: 0.0)]},
        {"sgd": [line(lambda x: x**2)], "sam": [line(lambda x: x**2, GRID[1:-1])]},
        {"sgd": [line(lambda x: float("nan") if x else 1.0)] * 2, "sam": runs(1, (1,))},
    ],
)
def test_what_cannot_be_compared_is_drawn_whole(lines):
    assert parting_radius(lines) == 1.0


def test_the_loss_is_that_above_the_smallest_on_the_line():
    part = above_minimum(line(lambda x: (x - 0.4) ** 2 + 5.0), radius=0.2)
    assert part.x == GRID[8:13]
    expected = [(x - 0.4) ** 2 for x in part.x]  # its smallest lies outside
    assert part.loss.tolist() == pytest.approx(expected, abs=1e-12)


def test_lines_that_an_earlier_version_drew_are_named():
    before = SimpleNamespace(line={"x": [0.0], "details": {"seed": 0}})
    now = SimpleNamespace(line={"x": [0.0], "details": {"directions": "12ab"}})
    without = SimpleNamespace(line={})
    assert other_draws([now, now, without]) == ""
    assert other_draws([before, before, without]) == ""
    assert "Lines of 1 of 3 runs are from an earlier" in other_draws([before, now, now])


def test_a_network_of_vectors_alone_has_no_line():
    model = torch.nn.LayerNorm(3)
    objective = Objective(model, (torch.randn(4, 3), torch.randn(4, 3)), "mse")
    settings = SimpleNamespace(seed=0, line_radius=1.0, line_points=3)
    assert _line(objective, settings) == {}
    objective = Objective(torch.nn.Linear(3, 3), (torch.eye(3), torch.eye(3)), "mse")
    assert _line(objective, settings)["x"] == [-1.0, 0.0, 1.0]
