"""The built-in studies: published sizes, without data; their smallest scale at work."""

import json
import math

import pytest

import in_process
from steppe_lab.cli import main
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import without_values
from steppe_lab.store.store import Store
from steppe_lab.studies.collecting import table_of
from steppe_lab.studies.expansion import completed, plan_of_study
from steppe_lab.studies.files import built_in_studies, read_study
from steppe_lab.studies.opening import named_study
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.study import Study

# Trials as published, on a laptop and as smoke.
SIZES = {
    "bisla2022_data_noise": (20 * 5, 50, 6),
    "bisla2022_grid": (2916, 384, 16),
    "bisla2022_label_noise": (10 * 5, 50, 6),
    "bisla2022_width": (64 * 5, 27, 6),
    "minimum_sharpness_cs439": (6 * 2 * 3 * 2, 36, 4),
    "rho_sweep": (2 * 8 * 5, 80, 12),
}
SCALES = ("full", "laptop", "smoke")
# Counted on the published definitions: by width, skip and batch norm.
GRID_COUNTS = {
    *(2_800_010, 6_292_042, 11_178_762),
    *(2_795_210, 6_284_842, 11_169_162),
    *(2_755_658, 6_193_258, 11_004_042),
    *(2_751_754, 6_187_402, 10_996_234),
}
CIFAR, FASHION = (3, 32, 32), (1, 28, 28)
DESCENT = {1: 2_991, 2: 11_420, 8: 176_402, 16: 701_466, 32: 2_797_610, 64: 11_173_962}
BATCH_CNNS = {
    *(361_194, 3_939_434, 6_457_418),  # on Fashion-MNIST
    *(508_938, 5_774_730, 8_292_714),  # on CIFAR-10
}
TEN = {
    *("epsilon_sharpness", "pac_bayes", "lpf", "fisher_rao", "shannon_entropy"),
    *("local_entropy_gradient", "frobenius_norm", "top_eigenvalue", "ritz_sum"),
    "effective_dimension",
}


@pytest.fixture(scope="module")
def plans():
    """Trials by study and scale, which need no data."""
    return {
        (name, scale): list(plan_of_study(study_at(name, scale)).values())
        for name in built_in_studies()
        for scale in SCALES
    }


def study_at(name, scale):
    return completed(read_study(name, scale=scale))


def parameters(model, in_shape):
    with without_values():
        network = MODELS.build(str(model), in_shape, 10)
    return sum(math.prod(p.shape) for p in network.parameters())


@pytest.mark.slow
def test_studies_have_their_published_numbers_of_trials(plans):
    assert built_in_studies() == sorted(SIZES)
    for name, sizes in SIZES.items():
        assert tuple(len(plans[name, scale]) for scale in SCALES) == sizes
        assert tuple(study_at(name, scale).trials for scale in SCALES) == sizes


@pytest.mark.slow
def test_grid_is_36_structures_of_81_networks_of_published_sizes(plans):
    trials = plans["bisla2022_grid", "full"]
    groups = {}
    for trial in trials:
        key = (str(trial.recipe.model), trial.recipe.batch_size)
        groups.setdefault(key, []).append(trial)
    assert sorted(map(len, groups.values())) == [81] * 36
    models = {model for model, _ in groups}
    assert {parameters(model, CIFAR) for model in models} == GRID_COUNTS
    recipe = trials[0].recipe
    assert (recipe.epochs, recipe.stop_at_loss) == (500, 0.01)
    assert recipe.lr_schedule == "multi_step(milestones=(150, 200))"  # tenfold
    assert all(trial.recipe.optimizer is None for trial in trials)


def test_laptop_grid_varies_the_same_eight_factors_on_embedded_data(plans):
    trials = plans["bisla2022_grid", "laptop"]
    assert len(trials) >= 300
    factors = plans["bisla2022_grid", "full"][0].factors.keys()
    for name in factors:
        assert len({trial.factors[name] for trial in trials}) == 2
    assert len(factors) == 7
    assert len({trial.recipe.seed for trial in trials}) == 3
    assert not any(trial.recipe.reads_files for trial in trials)


@pytest.mark.parametrize("scale", ["full", "laptop"])
def test_the_ten_measures_of_the_grid_are_measured(scale):
    for name in SIZES:
        if name.startswith("bisla2022"):
            (group,) = study_at(name, scale).measures
            assert {text.partition(":")[0] for text in group} == TEN
    published = study_at("bisla2022_grid", "full").measures[0]
    exact = {"shannon_entropy", "lpf", "ritz_sum"}  # which have no other variant
    for text in published:
        assert "variant=published" in text or text.partition(":")[0] in exact


def test_levels_are_the_published_ones(plans):
    noise = [t.recipe.label_noise for t in plans["bisla2022_label_noise", "full"][:10]]
    assert noise == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    deviations = {t.recipe.data_noise for t in plans["bisla2022_data_noise", "full"]}
    assert len(deviations) == 20
    assert (min(deviations), max(deviations)) == (0.0, 3.8)
    networks = {
        t.factors["width"]: t.recipe.model for t in plans["bisla2022_width", "full"]
    }
    assert sorted(networks) == [*range(1, 65)]
    assert {k: parameters(networks[k], CIFAR) for k in DESCENT} == DESCENT
    assert all(t.recipe.base.name == "adam" for t in plans["bisla2022_width", "full"])


def test_optimizers_of_the_course_project(plans):
    trials = plans["minimum_sharpness_cs439", "full"]
    shapes = {"fashion_mnist": FASHION, "cifar10": CIFAR}
    pairs = {(str(t.recipe.model), shapes[t.recipe.data.name]) for t in trials}
    assert {parameters(*pair) for pair in pairs} == BATCH_CNNS
    with_sam = [t.recipe for t in trials if t.recipe.optimizer is not None]
    assert len(with_sam) == 36
    assert {str(each.optimizer) for each in with_sam} == {"sam:rho=0.05,ascent_steps=1"}
    rates = {str(t.recipe.base.name): t.recipe.base.settings["lr"] for t in trials}
    # The defaults of their programs where the project gives none.
    assert rates == {
        "sgd": 0.01,
        "adagrad": 0.01,
        "adam": 1e-3,
        "adashift": 0.01,
        "adabound": 1e-3,
    }


def test_radii_are_ten_times_as_large_for_asam(plans):
    radii = {"sam": [], "asam": []}
    for trial in plans["rho_sweep", "full"]:
        if trial.recipe.seed == 0:
            radii[trial.factors["optimizer"]].append(trial.factors["rho"])
    assert radii["asam"] == pytest.approx([10 * rho for rho in radii["sam"]])
    recipes = [trial.recipe for trial in plans["rho_sweep", "full"]]
    assert {each.held_out for each in recipes} == {"validation"}


def test_a_scale_keeps_null_of_the_study_itself():
    study = StudySettings.model_validate(
        {
            "name": "own",
            "base": {"optimizer": None, "epochs": 3, "batch_size": 8},
            "scales": {"small": {"base": {"epochs": 1, "batch_size": None}}},
        }
    )
    assert study.at_scale("small").base == {"optimizer": None, "epochs": 1}


def test_null_among_words_is_a_level_of_the_table(tmp_path):
    study = StudySettings.model_validate(
        {
            "name": "own",
            "base": {
                "data": "digits",
                "train_samples": 20,
                "model": "small_cnn:width=2",
                "epochs": 1,
            },
            "grid": {"optimizer": [None, "sam:rho=0.05"]},
        }
    )
    stored = Study(plan_of_study(study), Store(tmp_path))
    stored.work(in_process.run_local)
    assert table_of(stored, study).columns["optimizer"] == ["none", "sam:rho=0.05"]


@pytest.mark.slow
def test_size_of_the_grid_is_known_without_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("STEPPE_DATA_DIR", str(tmp_path / "none"))
    arguments = ["study", "run", "bisla2022-grid", "--scale", "full"]
    assert main([*arguments, "--out", str(tmp_path), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["trials"], said["runs"], said["finished"]) == (2916, 2 * 2916, 0)
    assert said["levels"]["lr"] == [0.005, 0.0075, 0.01]


def test_list_names_studies_with_their_trials(capsys):
    assert main(["list", "studies", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["study"]
    known = {name: tuple(each["trials"].values()) for name, each in listed.items()}
    assert known == SIZES
    assert all(each["summary"].endswith(".") for each in listed.values())
    assert main(["list", "study", "rho-sweep"]) == 0
    page = capsys.readouterr().out
    assert "arXiv:2010.01412" in page
    assert "80 full" in page
    assert main(["list", "studies", "rho"]) == 2
    assert "rho_sweep" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SIZES))
def test_smallest_scale_runs_by_the_command(name, tmp_path, capsys):
    arguments = [name, "--scale", "smoke", "--out", str(tmp_path)]
    assert main(["study", "run", *arguments, "--workers", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["left"] == 0
    assert main(["study", "status", "--out", str(tmp_path)]) == 0
    assert f"trials: {SIZES[name][2]}" in capsys.readouterr().out
    page = tmp_path / "page.html"
    assert main(["study", "report", "--out", str(tmp_path), "--page", str(page)]) == 0
    study = named_study(Store(tmp_path), name, scale="smoke")
    table = table_of(study.study, study.settings)
    assert len(table) + len(table.dropped) == SIZES[name][2]
    # Enough networks meet the rule of the study to say something.
    assert len(table) >= SIZES[name][2] / 2
    for measure in table.measures:
        assert any(value is not None for value in table.columns[measure])
