"""Splines against scipy's, and polynomials that they meet exactly."""

import numpy as np
import pytest

from steppe.surfaces.interpolation import interpolated

interpolate = pytest.importorskip("scipy.interpolate")
SOURCE = np.random.default_rng(0)


def axis(count, *, even):
    if even:
        return np.linspace(-1, 1, count)
    return np.sort(SOURCE.uniform(-1, 1, count))


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("count", [4, 5, 6, 9, 33])
def test_a_line_is_the_not_a_knot_spline_of_scipy(count, even):
    x, y = axis(count, even=even), SOURCE.normal(size=count)
    to = np.linspace(x[0] - 0.05, x[-1] + 0.05, 101)
    expected = interpolate.make_interp_spline(x, y, k=3)(to)
    scale = abs(expected).max()
    np.testing.assert_allclose(
        interpolated(y, [x], [to]), expected, rtol=0, atol=1e-10 * scale
    )


@pytest.mark.parametrize("even", [True, False])
def test_a_plane_is_the_bivariate_spline_of_scipy_with_axes_in_their_order(even):
    x, y = axis(9, even=even), axis(6, even=even)
    values = SOURCE.normal(size=(9, 6))
    to_x, to_y = np.linspace(x[0], x[-1], 21), np.linspace(y[0], y[-1], 33)
    expected = interpolate.RectBivariateSpline(x, y, values, s=0)(to_x, to_y)
    found = interpolated(values, [x, y], [to_x, to_y])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * abs(found).max())


def test_a_box_is_a_spline_along_each_axis():
    nodes = [axis(n, even=False) for n in (5, 7, 4)]
    targets = [np.linspace(n[0], n[-1], 6) for n in nodes]
    values = SOURCE.normal(size=(5, 7, 4))
    expected = values
    for k, (at, to) in enumerate(zip(nodes, targets, strict=True)):
        expected = interpolate.make_interp_spline(at, expected, k=3, axis=k)(to)
    found = interpolated(values, nodes, targets)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * abs(found).max())


@pytest.mark.parametrize(("count", "degree"), [(2, 1), (3, 2), (4, 3), (9, 3)])
def test_polynomials_are_met_exactly(count, degree):
    x, y = axis(count, even=False), axis(5, even=True)[::-1]
    to_x, to_y = np.linspace(-1, 1, 7), np.linspace(1, -1, 9)

    def polynomial(x, y):
        along_x = sum((0.5 + d) * x[:, None] ** d for d in range(degree + 1))
        return along_x * (y**3 - y + 2)

    found = interpolated(polynomial(x, y), [x, y], [to_x, to_y])
    expected = polynomial(to_x, to_y)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_nodes_keep_their_values_bit_for_bit_and_axes_may_go_down():
    x, y = axis(6, even=False), SOURCE.normal(size=6)
    assert np.array_equal(interpolated(y, [x], [np.append(x, 0.1)])[:-1], y)
    up = interpolated(y, [x], [[0.0, 0.1]])
    down = interpolated(y[::-1], [x[::-1]], [[0.1, 0.0]])
    assert np.array_equal(up, down[::-1])


def test_one_node_is_a_constant():
    assert interpolated(np.ones((1, 2)), [[0.5], [0, 1]], [[1, 2], [0.5]]).tolist() == [
        [1.0],
        [1.0],
    ]


def test_an_axis_may_be_long():
    x = np.linspace(0, 1, 20_001)
    found = interpolated(np.sin(x), [x], [[0.5 + 1e-5]])
    assert found[0] == pytest.approx(np.sin(0.5 + 1e-5), abs=1e-14)
