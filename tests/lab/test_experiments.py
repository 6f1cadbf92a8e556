"""All experiments: names, published sizes, and their smallest scale at work."""

import io
import json
import math
import os
import re
import shlex

import pytest

from steppe_lab.cli import main
from steppe_lab.cli.parsing import parse
from steppe_lab.cli.verbs import train
from steppe_lab.datasets.abstract import size_of
from steppe_lab.experiments import experiment_names, find_experiment
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import without_values
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.paired import PairedClaim
from steppe_lab.reproduction.results import results_of
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import Store

NAMES = experiment_names()


def trained_claims(name):
    claims = find_experiment(name).claims
    return [claim for claim in claims if isinstance(claim, TrainedClaim)]


@pytest.mark.parametrize("name", NAMES)
def test_every_scale_of_every_claim_has_a_plan_without_data(name, tmp_path):
    experiment = find_experiment(name)
    assert experiment.name == name
    for claim in experiment.claims:
        assert claim.scales
        assert set(claim.scales) <= {"smoke", "laptop", "full"}
        for scale in claim.scales:
            request = Request(scale=scale)
            assert claim.chosen(request)
            study = claim.study(request, Store(tmp_path))
            assert study is None or study.settings.scale == scale
            if isinstance(claim, TrainedClaim):
                second = 2 if claim.protocol_settings else 1
                runs = second * claim.sizes[scale].seeds * len(claim.chosen(request))
                assert len(study.plan) == runs


@pytest.mark.parametrize("name", NAMES)
def test_networks_of_all_cells_can_be_built_at_their_published_size(name, tmp_path):
    built = set()
    for claim in trained_claims(name):
        plan = claim.study(Request(), Store(tmp_path)).plan
        for trial in plan.values():
            recipe, size = trial.recipe, size_of(trial.recipe.data)
            key = (str(recipe.model), str(recipe.data))
            elsewhere = MODELS[recipe.model.name].spec.built_elsewhere
            if size is None or key in built or elsewhere:
                continue
            built.add(key)
            if recipe.model.name == "gcn":
                pytest.importorskip("torch_geometric")
            with without_values():
                model = MODELS.build(recipe.model, size.in_shape, size.outputs)
            assert sum(math.prod(p.shape) for p in model.parameters()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_command_of_a_cell_is_its_training(name, tmp_path):
    for claim in trained_claims(name):
        # A cell of every model is enough: parsing hundreds takes seconds.
        some = {cell.settings.get("model"): cell for cell in claim.of_scale("full")}
        for cell in some.values():
            request = Request(cells=(cell.name,), seeds=1)
            recipe = next(
                iter(claim.study(request, Store(tmp_path)).plan.values())
            ).recipe
            words = shlex.split(claim.command(cell, "full"))
            assert words[:2] == ["steppe", "train"]
            args = parse(train.Args, "train", "", words[2:], io.StringIO())
            own = recipe_of(args, args.optimizer, args.seed, args.track)
            assert own == recipe


@pytest.mark.parametrize("name", NAMES)
def test_intervals_are_cut_at_the_ends_that_every_quantity_has(name):
    # Eigenvalues of a Hessian and what they are divided by have both signs.
    signed = {"top_eigenvalue", "SN", "peak", "change"}
    for claim in find_experiment(name).claims:
        low, high = claim.quantity.between
        ratio = isinstance(claim, PairedClaim) and claim.by == "ratio"
        assert low < high
        assert math.isfinite(low) or (claim.quantity.name in signed and not ratio)


@pytest.mark.parametrize("name", NAMES)
def test_what_reproduced_means_is_said_of_the_quantity_with_its_tolerance(name):
    for claim in find_experiment(name).claims:
        said, title = claim.reproduced, claim.quantity.title
        noun = re.search(r"The mean (?:test )?(\w+) .*differs", said)
        assert noun is None or noun[1] in title, (claim.name, said)
        if "at most" in said and not said.endswith("at most one point."):
            assert f"at most {claim.tolerance:g}".replace("e-0", "e-") in (
                said.replace("e-0", "e-")
            ), (claim.name, said)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_smallest_scale_runs_by_the_command(name, tmp_path, data_dir, capsys):
    places = ["--out", str(tmp_path), "--data-dir", str(data_dir)]
    words = ["reproduce", name, "--scale", "smoke", "--json", *places]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert "not run" not in record["verdicts"]
    assert (tmp_path / "reports" / f"{name}@smoke.html").stat().st_size > 10_000
    assert main([*words, "--dry-run"]) == 0
    total = json.loads(capsys.readouterr().out)["total"]
    assert total["finished"] == total["runs"]
    os.environ.pop("STEPPE_DATA_DIR", None)


@pytest.mark.real_data
def test_numbers_of_the_tables_of_the_course_project_come_out(data_dir, monkeypatch):
    monkeypatch.setenv("STEPPE_DATA_DIR", str(data_dir))
    experiment = find_experiment("minimum_sharpness_cs439")
    for name in ("correlations", "distributions", "wins", "gains", "ratios", "ranges"):
        claim = experiment.claim(name)
        rows = results_of(claim, Request(scale="smoke"), None).rows
        assert len(rows) == len(claim.cells)
        assert {row.verdict for row in rows} == {"reproduced"}


@pytest.mark.slow
@pytest.mark.real_data
def test_stored_networks_have_their_accuracies_by_the_published_protocol(
    data_dir, monkeypatch
):
    monkeypatch.setenv("STEPPE_DATA_DIR", str(data_dir))
    claim = find_experiment("minimum_sharpness_cs439").claim("networks")
    rows = results_of(claim, Request(), None).rows
    assert {row.verdict for row in rows} == {"published protocol differs"}
    sgd, sam = (row.ours for row in rows)
    # Rounding may decide on an image or two elsewhere.
    assert sgd.value.mean == pytest.approx(82.475, abs=0.05)
    assert sam.value.mean == pytest.approx(89.35, abs=0.05)
    assert sgd.protocol.mean == pytest.approx(91.175, abs=0.05)
    assert sam.protocol.mean == pytest.approx(92.425, abs=0.05)
