"""Eleven measures of quadratics with 100 parameters, by dense algebra."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).resolve().parents[2] / "docs/measurements/quadratic_study.py"
FLAT, SCALE = (0, 25, 50, 75, 95), (100, 50, 10, 1)
LIKE_TRACE = {"LPF", "PAC-Bayes, 1 / sigma²", "trace", "sum of Ritz values"}
DRAWN = {"LPF", "local entropy", "Frobenius norm", "PAC-Bayes, 1 / sigma²", "trace"}


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("quadratic_study", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def flat(study):
    return study.run("flat", FLAT)


@pytest.fixture(scope="module")
def scale(study):
    return study.run("scale", SCALE)


def dense(H, w, gamma=1000.0, eps=0.1, sigma=0.01):
    """Every number by inverses, determinants and products of whole matrices."""
    one = torch.eye(len(H), dtype=torch.float64)
    g = H @ w
    a, b = float(g @ H @ g / (2 * g.dot(g))), float(g.norm())
    length = (-b + math.sqrt(b * b + 4 * a * eps)) / (2 * a)
    smooth = gamma * H @ torch.linalg.inv(H + gamma * one) @ w
    volume = torch.linalg.slogdet(one + H / gamma)[1] / 2
    trace = float(torch.trace(H))
    return {
        "effective dimension": float(torch.trace(torch.linalg.solve(H + one, H))),
        "LPF": float(w @ g) / 2 + sigma**2 * trace / 2,
        "local entropy": float(w @ smooth / 2 + volume),
        "Fisher-Rao norm": float(w @ g),
        "Frobenius norm": float(H.square().sum().sqrt()),
        "largest eigenvalue": float(torch.linalg.matrix_norm(H, 2)),
        "epsilon-sharpness": 1 / length,
        "PAC-Bayes, 1 / sigma²": trace / (2 * eps),
        "trace": trace,
        "sum of Ritz values": trace,
        "gradient of local entropy": float(smooth.norm()),
    }


def assert_true(row, expected):
    assert row.keys() == expected.keys()
    for name, value in row.items():
        truth = pytest.approx(expected[name], rel=1e-8)
        assert value.truth == truth, name
        if name in DRAWN:
            assert value.stderr > 0, name
            assert abs(value.value - expected[name]) < 4 * value.stderr, name
        else:
            assert value.value == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("place", FLAT)
def test_flat_quadratics_have_the_values_of_dense_algebra(study, flat, place):
    values, vectors = study.spectra("flat", FLAT)[place]
    assert int((values < 1.001e-3).sum()) >= place
    H = vectors @ torch.diag(values) @ vectors.T
    assert_true(flat[place], dense(H, study.start()))


@pytest.mark.slow
@pytest.mark.parametrize("place", SCALE)
def test_scaled_quadratics_have_the_values_of_dense_algebra(study, scale, place):
    values, vectors = study.spectra("scale", SCALE)[place]
    assert 0.9 * place <= float(values.min()) <= float(values.max()) <= 1.1 * place
    H = vectors @ torch.diag(values) @ vectors.T
    assert_true(scale[place], dense(H, study.start()))


@pytest.mark.slow
def test_flat_directions_change_the_effective_dimension_most(study, flat):
    falls = {name: study.reaction(flat, name) for name in study.MEASURES}
    first, *others = sorted(falls, key=falls.get, reverse=True)
    assert first == "effective dimension"
    assert falls[first] > 1.5 * falls[others[0]]
    # LPF comes next, beside the measures that are a multiple of the trace too, or on
    # average over the direction of the parameters, and beside the local entropy.
    beside = LIKE_TRACE | {"local entropy", "Fisher-Rao norm"}
    assert set(others[: len(beside)]) == beside
    assert falls["LPF"] > 1.5 * falls["Frobenius norm"]
    assert falls["LPF"] > 1.5 * falls["gradient of local entropy"]
    for name in LIKE_TRACE:
        assert falls[name] == pytest.approx(falls["LPF"], abs=0.02)
    assert study.tau(flat, "LPF") == pytest.approx(1)


def test_flat_directions_do_not_lower_measures_of_the_sharpest_one(study, flat):
    kept = study.remaining(flat, "largest eigenvalue")
    assert kept == pytest.approx([1.0] * len(FLAT), rel=1e-5)
    assert study.tau(flat, "epsilon-sharpness") < 0  # the slope turns to sharp ones


@pytest.mark.slow
def test_the_scale_changes_all_measures_but_two(study, scale):
    rest = {name: study.remaining(scale, name)[-1] for name in study.MEASURES}
    assert rest.pop("effective dimension") == pytest.approx(0.5 / 0.99, rel=0.01)
    assert rest.pop("epsilon-sharpness") == pytest.approx(0.01**0.5, rel=0.03)
    # The two of the local entropy fall a little less: h / (h + gamma), and its log.
    assert all(share == pytest.approx(0.01, rel=0.12) for share in rest.values())
    taus = [study.tau(scale, name) for name in study.MEASURES]
    assert taus == pytest.approx([1.0] * len(taus))


def test_the_table_names_every_measure(study, flat, scale, monkeypatch, tmp_path):
    monkeypatch.setattr(study, "SHOWN", {"flat": FLAT[1:], "scale": SCALE[1:]})
    for name, rows in {"flat": flat, "scale": scale}.items():
        assert study.table(name, rows).count("\n") == len(study.MEASURES) + 1
        study.save(name, rows, tmp_path)
        lines = (tmp_path / f"quadratic_{name}.csv").read_text().splitlines()
        assert len(lines) == 1 + len(rows) * len(study.MEASURES)
