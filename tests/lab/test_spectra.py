"""`steppe spectrum`: its numbers against dense autograd, its files, what it refuses."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spectra import SAMPLES, by_tensor, dense_hessian, recipe, saved
from steppe.curvature.hessian import Hessian
from steppe.results import Estimate
from steppe_lab.analysis.spectrum import layers_of, open_network, spectrum_of
from steppe_lab.cli import main
from steppe_lab.datasets.loading import load_split
from steppe_lab.reports.spectrum.page import render
from steppe_lab.runs.settings import SpectrumSettings
from steppe_lab.training import checkpoints


@pytest.fixture
def steppe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["spectrum", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("network") / "model.safetensors")


@pytest.fixture(scope="module")
def dense(checkpoint):
    """The Hessian on all training samples, and the network."""
    model = checkpoints.load(checkpoint).model
    train = load_split(recipe()).train
    return dense_hessian(model, train.inputs, train.targets), model


def found_by(steppe, *arguments):
    code, out, _ = steppe(*arguments, "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.slow
def test_numbers_are_those_of_the_dense_hessian(steppe, checkpoint, dense):
    hessian, model = dense
    found = found_by(steppe, checkpoint, "--steps", 200, "--k", 3)
    values = torch.linalg.eigvalsh(hessian)
    scale = float(values.abs().max())
    top, bottom = values.flip(0)[:3].tolist(), values.flip(0)[-3:].tolist()
    assert found["top"]["values"] == pytest.approx(top, abs=1e-5 * scale)
    assert found["bottom"]["values"] == pytest.approx(bottom, abs=1e-5 * scale)
    assert found["trace"]["value"] == pytest.approx(float(values.sum()), rel=1e-4)
    assert found["frobenius"]["value"] == pytest.approx(float(values.norm()), rel=1e-4)
    positive = values.clamp(min=0)
    dimension = found["effective_dimension"]
    assert dimension["details"]["alpha"] == pytest.approx(0.01 * top[0], rel=1e-4)
    expected = float((positive / (positive + 0.01 * top[0])).sum())
    assert dimension["value"] == pytest.approx(expected, rel=1e-3)
    layers = found["layers"]
    assert (layers["matrix"], layers["exact"], layers["why"]) == ("hessian", True, "")
    told = {name: part["value"] for name, part in layers["by_tensor"].items()}
    expected = by_tensor(model, hessian.diagonal())
    assert told == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("known", [True, False], ids=["exact", "by layer"])
def test_traces_of_tensors_have_the_penalty(known, tmp_path):
    path = saved(tmp_path / "model.safetensors", recipe(l2=0.05))
    settings = SpectrumSettings(samples=SAMPLES, steps=4, k=1)
    network = open_network(path, settings)
    H = Hessian(network.objective)
    total = H.exact_trace() if known else Estimate(value=0.0, stderr=0.0, samples=1)
    layers = layers_of(network, H, settings, total)
    train = load_split(recipe()).train
    model = network.objective.model
    plain = dense_hessian(model, train.inputs, train.targets).diagonal()
    expected = by_tensor(model, plain)
    for name, tensor in model.named_parameters():
        expected[name] += 2 * 0.05 * tensor.numel() * (tensor.dim() > 1)
    told = {name: part.value for name, part in layers.by_tensor.items()}
    assert told == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert layers.total.value == pytest.approx(sum(expected.values()), rel=1e-4)
    assert layers.exact


@pytest.mark.slow
def test_the_effective_dimension_is_that_of_the_dense_hessian(
    steppe, checkpoint, dense
):
    values = torch.linalg.eigvalsh(dense[0]).clamp(min=0)
    expected = float((values / (values + 0.1)).sum())
    more = ("--steps", 20, "--probes", 12, "--alpha", 0.1, "--k", 0)
    found = found_by(steppe, checkpoint, *more)["effective_dimension"]
    assert found["samples"] == 16  # the theory counts as four probes
    assert abs(found["value"] - expected) < 4 * found["stderr"]
    assert found["stderr"] < 0.2 * expected


@pytest.mark.slow
def test_files_hold_nodes_weights_density_pictures_and_the_record(steppe, checkpoint):
    more = (checkpoint, "--steps", 20, "--probes", 2, "--out", "here")
    printed = found_by(steppe, *more)
    here = Path("here")
    nodes = np.load(here / "mlp_sam_eigen.npy")
    weights = np.load(here / "mlp_sam_weight.npy")
    assert nodes.shape == weights.shape == (2, 20)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
    assert nodes.max() >= printed["top"]["values"][0]
    values, density = np.load(here / "mlp_sam_density.npy").T
    assert np.trapezoid(density, values) == pytest.approx(1.0)
    for name in ("eig_mlp_sam.png", "trace_mlp_sam.png"):
        assert (here / name).read_bytes().startswith(b"\x89PNG")
    record = json.loads((here / "spectrum.json").read_text())
    assert sorted([*record["files"].values(), "spectrum.json"]) == sorted(
        path.name for path in here.iterdir()
    )
    assert {**record, "files": 0} == {**printed, "files": 0}
    assert record["details"]["terms"] == SAMPLES
    assert record["recipe"]["optimizer"]["name"] == "sam"


def test_the_page_tells_the_numbers_and_needs_nothing_else(steppe, checkpoint):
    code, out, err = steppe(checkpoint, "--steps", 20, "--k", 2)
    assert code == 0
    assert "[15/30] products with the hessian" in err
    path = Path(out.rpartition("Report: ")[2].strip())
    assert path.parts[:2] == ("steppe-runs", "spectra")
    page = path.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<script>") == page.count("<script") == 1
    held = page.partition('download="spectrum.json" href="data:application/json')[2]
    numbers = json.loads(base64.b64decode(held.partition("base64,")[2].split('"')[0]))
    stored = json.loads(path.with_name("spectrum.json").read_text())
    assert numbers == {key: stored[key] for key in stored if key != "files"}
    assert page.count("<picture>") == 2
    largest = json.loads((path.parent / "spectrum.json").read_text())["top"]["values"]
    assert f"{largest[0]:.4f}"[:5] in page
    assert f"steppe spectrum {checkpoint} --k 2 --steps 20" in page
    assert "each counts as one eigenvalue exactly" in page
    assert "± standard error, 1 probe" in page
    assert "One start cannot tell an eigenvalue from several equal ones" in page
    assert "layer 1 (Linear)" in page or "layer 3 (Linear)" in page


def test_without_single_eigenvalues_the_range_is_that_of_the_nodes(steppe, checkpoint):
    code, out, _ = steppe(checkpoint, "--steps", 5, "--k", 0, "--out", "here")
    nodes = np.load("here/mlp_sam_eigen.npy")
    assert code == 0
    said = " ".join(out.split())
    assert "reach at least from" in said
    assert f"to {nodes.max():.2f}, at a train loss" in said
    assert "rank" not in out
    page = Path("here/spectrum.html").read_text()
    assert "The ends of the spectrum" not in page
    assert "where the marks are" not in page


@pytest.mark.slow
def test_as_many_steps_as_parameters_leave_nothing_to_draw(steppe, checkpoint):
    code, out, _ = steppe(checkpoint, "--steps", 500, "--out", "here")
    page = Path("here/spectrum.html").read_text()
    assert code == 0
    assert "of all eigenvalues, so the trace" in page
    assert "as many steps as there are eigenvalues give all of them" in page
    assert "random vectors" not in page
    assert "counts as one eigenvalue" not in page
    assert "over the positive ones of 160 eigenvalues λ, α = " in page
    assert "a hundredth of the largest; exact" in page
    assert "tensor by tensor" not in out
    assert "reach at least" not in out


@pytest.mark.slow
def test_the_same_command_gives_the_same_files(steppe, checkpoint):
    kept = []
    for _ in range(2):
        assert steppe(checkpoint, "--steps", 5, "--out", "here")[0] == 0
        kept.append({path.name: path.read_bytes() for path in Path("here").iterdir()})
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_sigma_sets_the_width_of_the_bells(steppe, checkpoint):
    def highest(sigma):
        more = ("--steps", 5, "--k", 0, "--out", "here", "--sigma", sigma)
        assert steppe(checkpoint, *more)[0] == 0
        return np.load("here/mlp_sam_density.npy")[:, 1].max()

    assert highest("pyhessian") > 2 * highest("1")


def test_a_folder_of_another_checkpoint_is_not_overwritten(steppe, checkpoint):
    other = saved(Path("other.safetensors"), recipe(seed=1))
    assert steppe(other, "--steps", 8, "--out", "here")[0] == 0
    before = Path("here/spectrum.json").read_bytes()
    code, _, err = steppe(checkpoint, "--steps", 8, "--out", "here")
    assert code == 2
    assert "holds the spectrum of another checkpoint (other.safetensors)" in err
    assert Path("here/spectrum.json").read_bytes() == before


@pytest.mark.parametrize(
    "matrix",
    [
        "ggn",
        pytest.param("fisher", marks=pytest.mark.slow),
        pytest.param("empirical_fisher", marks=pytest.mark.slow),
    ],
)
def test_matrices_without_negative_curvature_have_none(steppe, checkpoint, matrix):
    found = found_by(steppe, checkpoint, "--steps", 30, "--matrix", matrix)
    assert min(found["bottom"]["values"]) > -1e-4 * found["top"]["values"][0]
    assert found["details"]["kind"] == found["layers"]["matrix"] == matrix
    assert found["layers"]["exact"] is (matrix != "empirical_fisher")
    assert found["layers"]["total"]["value"] == pytest.approx(
        found["trace"]["value"], rel=0.25
    )


NETS = """
from torch import nn

def build(in_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.Tanh(), nn.Linear(2, 10))
"""


def test_a_curved_network_has_the_traces_of_its_gauss_newton_matrix(
    steppe, monkeypatch
):
    Path("curvednets.py").write_text(NETS)
    monkeypatch.syspath_prepend(".")
    made = recipe("curvednets:build")
    path = saved(Path("model.safetensors"), made)
    code, _, err = steppe(path, "--steps", 8)
    assert (code, "name it with --trust" in err) == (2, True)
    found = found_by(steppe, path, "--steps", 8, "--trust", "curvednets:build")
    assert found["layers"]["matrix"] == "ggn"
    assert found["layers"]["exact"]
    reason = "the network is not piecewise linear: it has the operation Tanh"
    assert found["layers"]["why"] == reason
    assert found["files"]["eigenvalues"].endswith("curvednets_build_sam_eigen.npy")


@pytest.mark.slow
def test_batch_statistics_make_traces_of_tensors_drawn_ones(steppe):
    made = recipe("mlp:hidden=2,depth=1,batch_norm=true")
    path = saved(Path("model.safetensors"), made)
    found = found_by(steppe, path, "--steps", 20, "--mode", "train")
    assert found["layers"]["exact"] is False
    assert found["layers"]["total"]["stderr"] > 0
    assert found["layers"]["why"].endswith("mixes samples or serves several at once")
    assert found["details"]["mode"] == "train"
    total = found["layers"]["total"]
    assert total["value"] == pytest.approx(
        found["trace"]["value"], abs=5 * (total["stderr"] + found["trace"]["stderr"])
    )


def test_a_batch_of_one_sample_is_refused_where_it_would_be_normalised(steppe):
    made = recipe("mlp:hidden=2,batch_norm=true", train_samples=257)
    path = saved(Path("model.safetensors"), made)
    code, _, err = steppe(path, "--mode", "train", "--steps", 8)
    assert (code, "change --samples by one" in err) == (2, True)
    assert not Path("steppe-runs").exists()


def test_more_eigenvalues_than_parameters_are_refused(steppe, checkpoint):
    code, _, err = steppe(checkpoint, "--k", 161, "--steps", 200)
    assert (code, "k must be at most 160 parameters, got 161" in err) == (2, True)


def test_numbers_within_the_page_are_json_whatever_they_are(checkpoint):
    settings = SpectrumSettings(steps=3, k=1)
    result = spectrum_of(open_network(checkpoint, settings), settings)
    total = replace(result.layers.total, stderr=math.inf, samples=1)
    result = replace(result, layers=replace(result.layers, total=total))
    page = render(result, command="steppe spectrum", versions={"steppe": "0.1.0"})
    (held,) = re.findall(r'href="data:application/json[^,"]*,([^"]+)"', page)

    def refuse(word):
        raise AssertionError(word)

    record = json.loads(base64.b64decode(held), parse_constant=refuse)
    assert record["layers"]["total"]["stderr"] is None
