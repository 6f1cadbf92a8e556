"""Axes of planes and boxes: angles, units, networks on them, and lines joined."""

import copy
import math

import pytest
import torch
from torch import nn

import problems
from steppe.errors import SettingError
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.box import Box
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.parameters import flatten

DATA = problems.vectors(shape=(1, 4, 4))
KEPT = "interpolate"  # the statistics of the networks, at the networks
SETTINGS = [
    {"orthogonal": o, "unit": u}
    for o in (False, True)
    for u in ("direction", "absolute")
]


def cosine(one, other):
    a, b = flatten(one).double(), flatten(other).double()
    return float(a @ b / (a.norm() * b.norm()))


def networks():
    return [problems.cnn(seed) for seed in (1, 2, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("norm", ["filter", "layer", "none"])
def test_orthogonal_directions_have_no_cosine(norm, dtype):
    model = problems.cnn().to(dtype)
    settings = {"norm": norm, "ignore": "none"}
    plain = Plane.random(model, **settings)
    assert abs(cosine(*plain.directions)) > 0.01
    plane = Plane.random(model, **settings, orthogonal=True)
    assert abs(cosine(*plane.directions)) < 1e-6
    assert all(map(torch.equal, plane.directions[0], plain.directions[0]))
    # What was taken out is a multiple of the first direction, and nothing else.
    rest = flatten(plain.directions[1]) - flatten(plane.directions[1])
    assert abs(cosine([rest], plane.directions[0])) == pytest.approx(1, rel=1e-5)
    box = Box.random(model, 4, **settings, orthogonal=True, unit="absolute")
    gram = torch.stack([flatten(d).double() for d in box.directions])
    torch.testing.assert_close(gram @ gram.T, torch.eye(4).double(), rtol=0, atol=1e-6)


def test_directions_of_unequal_lengths_are_orthogonal_all_the_same():
    # Projections that are not divided by ||d||^2 leave cosines of 1 or -0.27.
    model = problems.mlp()
    for scale in (1e-3, 30.0):
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(scale)
        plane = Plane.random(model, ignore="none", orthogonal=True)
        assert abs(cosine(*plane.directions)) < 1e-12


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_cosine_is_in_the_details_and_the_edge_is_at_its_coordinate(settings):
    model = problems.mlp()
    plane = Plane.random(model, ignore="none", **settings)
    objective = problems.objective(model, problems.vectors())
    details = landscape(objective, plane, x=(-1, 1, 3), y=[0.0]).details
    assert details["cosine"] == pytest.approx(cosine(*plane.directions), abs=1e-12)
    for axis, letter in enumerate("xy"):
        at = [0.0, 0.0]
        at[axis] = -2.5
        apart = flatten(plane.point(*at)) - flatten(plane.base)
        length = details["length"][letter]
        assert float(apart.norm()) == pytest.approx(2.5 * length, rel=1e-12)
        if settings["unit"] == "absolute":
            assert length == pytest.approx(1, rel=1e-12)
            assert plane.axes[axis].unit == "distance"


def test_an_absolute_line_is_the_same_line():
    model = problems.mlp()
    line, absolute = Line.random(model), Line.random(model, unit="absolute")
    size = line.geometry()["length"]
    assert absolute.axes[0].range == pytest.approx((-size, size))
    one, other = line.point(0.5), absolute.point(0.5 * size)
    torch.testing.assert_close(flatten(one), flatten(other), rtol=1e-12, atol=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_plane_meets_its_three_networks_whatever_its_axes_are(settings):
    models = networks()
    plane = Plane.through(*models, **settings)
    places = plane.details.get("networks", [(0, 0), (1, 0), (0, 1)])
    u, v = (flatten(d) for d in plane.directions)
    assert places[1][1] == 0
    for model, (x, y) in zip(models, places, strict=True):
        at = problems.flat(models[0]) + x * u + y * v
        torch.testing.assert_close(at, problems.flat(model), rtol=1e-9, atol=1e-12)
        assert torch.equal(flatten(plane.point(x, y)), problems.flat(model))
        surface = landscape(
            problems.objective(models[0], DATA), plane, [x], [y], batch_norm=KEPT
        )
        expected = problems.objective(model, DATA).value().value
        assert float(surface.loss) == pytest.approx(expected, rel=1e-13)
    if settings["orthogonal"]:
        assert abs(cosine(u[None], v[None])) < 1e-12
    if settings["unit"] == "absolute":
        apart = float((problems.flat(models[0]) - problems.flat(models[1])).norm())
        assert places[1][0] == pytest.approx(apart, rel=1e-12)
        assert plane.axes[0].range[1] >= places[1][0]


def test_statistics_follow_the_networks_not_the_axes():
    models = networks()
    plain = Plane.through(*models)
    other = Plane.through(*models, orthogonal=True, unit="absolute")
    b, c = (torch.tensor(p, dtype=torch.float64) for p in other.details["networks"][1:])
    for s, t in [(0.25, 0.5), (0.5, 0.0), (0.3, 0.7)]:
        expected = plain.changed_buffers(s, t)
        found = other.changed_buffers(*(s * b + t * c).tolist())
        assert found.keys() == expected.keys()
        for name in ("1.running_mean", "1.running_var"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=0)


def test_a_line_between_networks_in_distances_ends_at_theirs():
    a, b, _ = networks()
    line = Line.between(a, b, unit="absolute")
    apart = float((problems.flat(a) - problems.flat(b)).norm())
    assert line.axes[0].range == pytest.approx((0.0, apart))
    (end,) = line.exact
    assert torch.equal(flatten(line.point(*end)), problems.flat(b))


def test_networks_are_modules_their_states_or_objectives():
    a, b, c = networks()
    expected = Plane.through(a, b, c)
    wrapped = nn.DataParallel(copy.deepcopy(b))
    forms = [
        (problems.objective(a, DATA), b.state_dict(), problems.objective(c, DATA)),
        (a, wrapped.state_dict(), nn.DataParallel(c)),
        (a, {f"net.{n}": t for n, t in b.state_dict().items()}, c.state_dict()),
    ]
    for form in forms:
        plane = Plane.through(*form)
        for one, other in zip(plane.directions, expected.directions, strict=True):
            assert all(map(torch.equal, one, other))
        for one, other in zip(plane.end_buffers, expected.end_buffers, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


class Tied(problems.Tied):
    """Tied weights, and a buffer that no state_dict has."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.ones(2), persistent=False)


def test_a_state_has_shared_weights_twice_and_buffers_that_are_not_saved_never():
    a, b = problems.drawn(Tied(), 1), problems.drawn(Tied(), 2)
    line, expected = Line.between(a, b.state_dict()), Line.between(a, b)
    assert line.names == expected.names
    assert all(map(torch.equal, line.direction, expected.direction))
    assert line.changed_buffers(1.0) == {}


def test_joined_lines_have_their_own_norms_and_networks():
    a, b, _ = networks()
    x, y = Line.between(a, b), Line.random(a, norm="layer", seed=3, ignore="none")
    plane = Plane.of(x, y)
    assert plane.directions == (*x.directions, *y.directions)
    assert torch.equal(flatten(plane.point(1.0, 0.0)), problems.flat(b))
    assert [axis.unit for axis in plane.axes] == [
        "between the networks",
        "norms of the layers",
    ]
    assert plane.details["y"]["norm"] == "layer"
    end = problems.objective(b, DATA).value().value
    objective = problems.objective(a, DATA)
    grid = [0.5, 1.0], [0.0, 0.5]
    assert landscape(objective, plane, *grid).details["batch_norm"] == "reestimate"
    found = landscape(objective, plane, *grid, batch_norm=KEPT)
    assert float(found.loss[0, 1]) == pytest.approx(end, rel=1e-13)
    alone = landscape(objective, x, [0.5, 1.0], batch_norm=KEPT)
    assert torch.equal(found.loss[0], alone.loss)
    box = Box.of(Plane.random(a), y)
    assert torch.equal(flatten(box.point(0, 0, 1.0)), flatten(y.point(1.0)))
    turned = Plane.of(x, y, orthogonal=True)
    assert abs(cosine(*turned.directions)) < 1e-12
    assert torch.equal(flatten(turned.point(1.0, 0.0)), problems.flat(b))


def test_swapped_axes_transpose_the_surface_and_no_row_is_shifted():
    model = problems.mlp()
    objective = problems.objective(model, problems.vectors())
    x, y = Line.random(model, seed=1), Line.random(model, seed=2)
    one = landscape(objective, Plane.of(x, y), (-1, 2, 4), (0, 1, 3))
    other = landscape(objective, Plane.of(y, x), (0, 1, 3), (-1, 2, 4))
    torch.testing.assert_close(one.loss, other.loss.T, rtol=1e-13, atol=0)
    for row, c in enumerate(one.y):
        for column, d in enumerate(one.x):
            at = flatten(x.base) + d * flatten(x.direction) + c * flatten(y.direction)
            expected = float(problems.loss_of(model, problems.vectors())(at))
            assert float(one.loss[row, column]) == pytest.approx(expected, rel=1e-12)


def test_one_direction_twice_is_refused_unless_it_is_asked_for():
    model = problems.mlp()
    line, other = Line.random(model), Line.random(model, norm="layer")
    with pytest.raises(SettingError, match=r"lie in fewer: the largest cosine is 1\.0"):
        Plane.of(line, line)
    plane = Plane.of(line, line, parallel=True)
    objective = problems.objective(model, problems.vectors())
    surface = landscape(objective, plane, [0.0, 1.0], [0.0, 1.0])
    assert surface.details["cosine"] == pytest.approx(1)
    assert float(surface.loss[0, 1]) == pytest.approx(float(surface.loss[1, 0]))
    Plane.of(line, other)
    with pytest.raises(SettingError, match="leave out parallel=True"):
        Plane.of(line, line, parallel=True, orthogonal=True)


def test_degenerate_planes_are_refused():
    a, b, _ = networks()
    with pytest.raises(SettingError, match="lie in fewer"):
        Plane.through(a, b, b)
    with pytest.raises(SettingError, match="number 2 is zero"):
        Plane.through(a, b, a)
    with pytest.raises(SettingError, match="number 1 is zero"):
        Line.between(a, a, unit="absolute")
    single = nn.Linear(1, 1, bias=False)
    with pytest.raises(SettingError, match="lie in fewer"):
        Plane.random(single)
    with pytest.raises(SettingError, match="lie in fewer"):
        Box.random(nn.Linear(2, 1), 3)


def test_mistakes_are_one_sentence():
    a, b, c = networks()
    with pytest.raises(SettingError, match="one base point, but theirs differ"):
        Plane.of(Line.random(a), Line.random(b))
    with pytest.raises(SettingError, match="only lines, planes and boxes"):
        Plane.of(Line.random(a), b)
    with pytest.raises(SettingError, match="Plane must have 2 axes, got 3"):
        Plane.of(Line.random(a, seed=9), Plane.random(a))
    with pytest.raises(SettingError, match=r"model_a must be a network, .* state"):
        Line.between(a.state_dict(), b)
    with pytest.raises(SettingError, match="model_c must be a network or its state"):
        Plane.through(a, b, 3)
    for missing, said in [("4.bias", "parameters"), ("1.running_var", "buffers")]:
        state = {n: t for n, t in c.state_dict().items() if n != missing}
        with pytest.raises(SettingError, match=f"same {said}: {missing} is .* missing"):
            Line.between(a, state)
    with pytest.raises(SettingError, match="orthogonal must be True or False"):
        Plane.random(a, orthogonal=1)
    for empty in (Box.through, Box.of):
        with pytest.raises(SettingError, match="at least one"):
            empty(*([a] if empty == Box.through else []))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_the_cosine_of_rounding_is_reported(dtype):
    model = problems.cnn().to(dtype)
    plane = Plane.random(model, ignore="none", orthogonal=True)
    found = plane.geometry()["cosine"]
    assert found == pytest.approx(cosine(*plane.directions), abs=1e-6)
    assert abs(found) < 0.01
    assert math.isfinite(found)
