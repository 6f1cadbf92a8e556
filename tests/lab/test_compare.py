"""The main job from end to end, small, on real data."""

from __future__ import annotations

import json

import pytest

from steppe.errors import UnknownNameError
from steppe_lab.reports.publishing import command_of, publish
from steppe_lab.studies.compare import Study, stored_study
from steppe_lab.studies.settings import CompareSettings
from steppe_lab.studies.single import measure_one
from steppe_lab.studies.store import Store

SMALL = {
    "model": "small_cnn:width=2",
    "train_samples": 60,
    "epochs": 2,
    "seeds": 2,
    "line_points": 5,
    "measures": ("top_eigenvalue", "trace:rtol=0.3", "lpf:samples=5"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    settings = CompareSettings(optimizers=("sgd", "sam", "lpf_sgd"), **SMALL)
    said = []
    comparison = Study(settings, store).run(workers=2, progress=said.append)
    return store, settings, comparison, said


def test_every_optimizer_is_trained_and_measured_with_every_seed(finished):
    _, settings, comparison, said = finished
    assert len(comparison.rows) == settings.runs == 6
    assert {(row.optimizer, row.seed) for row in comparison.rows} == {
        (optimizer, seed) for optimizer in settings.optimizers for seed in (0, 1)
    }
    for row in comparison.rows:
        assert set(row.measures) == {"top_eigenvalue", "trace", "lpf"}
        assert row.measures["lpf"]["stderr"] > 0
        assert len(row.line["loss"]) == 5
        assert len(row.history) == 2
    assert [row.gradients for row in comparison.rows[:3]] == [1.0, 2.0, 1.0]
    assert said[-1].done == said[-1].total == 12


def test_one_seed_gives_all_optimizers_the_same_line_and_data(finished):
    rows = finished[2].rows
    assert len({tuple(row.line["x"]) for row in rows}) == 1
    assert len({row.settings["data_seed"] for row in rows}) == 1


def test_a_finished_comparison_is_collected_without_work(finished):
    store, settings, comparison, _ = finished
    study = Study(settings, store)
    assert study.left == 0
    assert study.run(workers=1) == comparison
    assert stored_study(store).collect() == comparison
    assert stored_study(store, settings.name[:12]).collect() == comparison
    with pytest.raises(UnknownNameError, match="unknown comparison 'other'"):
        stored_study(store, "other")


def test_the_rows_do_not_depend_on_workers_or_interruptions(finished, tmp_path):
    _, settings, comparison, _ = finished
    store = Store(tmp_path)

    def stop_at_once(progress):
        if progress.ended and progress.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study(settings, store).run(workers=2, progress=stop_at_once)
    assert Study(settings, store).left > 0
    again = Study(settings, store).run(workers=1)
    assert again.rows == comparison.rows


def test_a_checkpoint_of_a_comparison_can_be_measured_again(finished):
    store, _, comparison, _ = finished
    row = comparison.rows[0]
    path = store.artefact(row.training, "model.safetensors")
    found = measure_one(path, ["top_eigenvalue"])["top_eigenvalue"]
    assert found.value == row.measures["top_eigenvalue"]["value"]


def test_a_measure_more_trains_nothing_again(finished, tmp_path):
    store, settings, comparison, _ = finished
    more = settings.model_copy(update={"measures": ("lpf:samples=3",)})
    study = Study(more, store)
    assert study.left == 6
    assert {row.training for row in study.run().rows} == {
        row.training for row in comparison.rows
    }


def test_training_that_fails_is_kept_with_its_reason_and_the_rest_goes_on(tmp_path):
    settings = CompareSettings(
        optimizers=("sgd:lr=1e8", "sgd"), **{**SMALL, "seeds": 1, "measures": ("lpf",)}
    )
    comparison = Study(settings, Store(tmp_path)).run()
    assert [row.optimizer for row in comparison.rows] == ["sgd"]
    assert len(comparison.failures) == 1
    assert comparison.failures[0].startswith(
        "sgd:lr=1e8, seed 0: the final training loss"
    )
    failed = list(tmp_path.glob("runs/*/failure.json"))
    assert len(failed) == 1
    assert "training loss became" in json.loads(failed[0].read_text())["reason"]


def test_the_report_is_written_once_and_names_its_command(finished, tmp_path):
    _, settings, comparison, _ = finished
    path = publish(comparison, tmp_path)
    assert path.with_suffix(".csv").read_text().count("\n") == 7
    assert command_of(settings) in path.read_text().replace("&#39;", "'")
    stamp = path.stat().st_mtime_ns
    assert publish(comparison, tmp_path) == path
    assert path.stat().st_mtime_ns == stamp
    publish(comparison, tmp_path, again=True)
    assert path.stat().st_mtime_ns > stamp


def test_the_command_says_what_differs_from_the_defaults():
    settings = CompareSettings(optimizers=("sgd", "sam:rho=0.1"), epochs=3)
    assert command_of(settings) == "steppe compare sgd sam:rho=0.1 --epochs 3"
