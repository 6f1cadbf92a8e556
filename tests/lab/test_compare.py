"""The main job from end to end, small, on real data."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from steppe.errors import DataError, SettingError, StoreError, UnknownNameError
from steppe_lab.analysis.measured import Measuring, measured
from steppe_lab.reports.comparison.publishing import command_of, publish
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.store.store import Store
from steppe_lab.studies import comparison
from steppe_lab.studies.comparison import ComparisonStudy, stored_study
from steppe_lab.training.build import build_model, build_optimizer

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
    comparison = ComparisonStudy(settings, store).run(workers=2, progress=said.append)
    return store, settings, comparison, said


@pytest.mark.slow
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
    for seed in (0, 1):
        same = [row for row in rows if row.seed == seed]
        lines = [row.line["details"] for row in same]
        assert (
            len({json.dumps([d["seed"], row.line["x"]]) for d, row in zip(lines, same)})
            == 1
        )
        assert lines[0]["seed"] == seed
    assert len({finished[0].result(row.training)["data"] for row in rows}) == 1


def test_one_seed_gives_all_optimizers_the_same_initial_weights(finished):
    study = ComparisonStudy(finished[1], finished[0])
    weights = {}
    for trial in study.plan.values():
        seed = trial.recipe.seed
        model = build_model(trial.recipe, (1, 8, 8), 10)
        flat = torch.nn.utils.parameters_to_vector(model.parameters())
        weights.setdefault(seed, []).append(flat)
    assert all(torch.equal(first, w) for first, *more in weights.values() for w in more)
    assert not torch.equal(weights[0][0], weights[1][0])


def test_measures_draw_alike_for_optimizers_and_anew_for_seeds(finished):
    store, _, comparison, _ = finished
    seeds = {(r.seed, store.config(r.analysis)["seed"]) for r in comparison.rows}
    assert seeds == {(0, 0), (1, 1)}


def test_progress_counts_whole_runs(finished):
    ended = [said.finished for said in finished[3] if said.ended]
    assert ended == list(range(1, 13))
    assert all(said.finished <= said.done for said in finished[3])


def test_a_result_says_what_computed_it(finished):
    result = finished[0].result(finished[2].rows[0].training)
    assert set(result["versions"]) == {"steppe", "torch", "numpy", "python"}


def test_a_finished_comparison_is_collected_without_work(finished):
    store, settings, comparison, _ = finished
    study = ComparisonStudy(settings, store)
    assert study.left == 0
    assert study.run(workers=1) == comparison
    assert stored_study(store).collect() == comparison
    assert stored_study(store, settings.name[:12]).collect() == comparison
    with pytest.raises(UnknownNameError, match="unknown comparison 'other'"):
        stored_study(store, "other")


@pytest.mark.slow
def test_the_rows_do_not_depend_on_workers_or_interruptions(finished, tmp_path):
    _, settings, comparison, _ = finished
    store = Store(tmp_path)

    def stop_at_once(progress):
        if progress.ended and progress.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ComparisonStudy(settings, store).run(workers=2, progress=stop_at_once)
    assert ComparisonStudy(settings, store).left > 0
    again = ComparisonStudy(settings, store).run(workers=1)
    assert again.rows == comparison.rows


def test_a_checkpoint_of_a_comparison_can_be_measured_again(finished):
    store, _, comparison, _ = finished
    row = comparison.rows[0]
    path = store.artefact(row.training, "model.safetensors")
    asked = Measuring({"net": path}, ["top_eigenvalue"])
    found = measured(asked).estimates["net"]["top_eigenvalue"]
    # Sums in float32 depend on the number of threads, which is 1 in a worker.
    expected = row.measures["top_eigenvalue"]["value"]
    assert found.value == pytest.approx(expected, rel=1e-5)


def test_a_measure_more_trains_nothing_again(finished, tmp_path):
    store, settings, comparison, _ = finished
    more = settings.model_copy(update={"measures": ("lpf:samples=3",)})
    study = ComparisonStudy(more, store)
    assert study.left == 6
    assert {row.training for row in study.run().rows} == {
        row.training for row in comparison.rows
    }


def test_training_that_fails_is_kept_with_its_reason_and_the_rest_goes_on(tmp_path):
    settings = CompareSettings(
        optimizers=("sgd:lr=1e8", "sgd"), **{**SMALL, "seeds": 1, "measures": ("lpf",)}
    )
    comparison = ComparisonStudy(settings, Store(tmp_path)).run()
    assert [row.optimizer for row in comparison.rows] == ["sgd"]
    assert len(comparison.failures) == 1
    assert comparison.failures[0].startswith(
        "sgd:lr=1e8, seed 0: the final training loss"
    )
    failed = list(tmp_path.glob("runs/*/failure.json"))
    assert len(failed) == 1
    assert "training loss became" in json.loads(failed[0].read_text())["reason"]


@pytest.fixture(scope="module")
def page(finished, tmp_path_factory):
    """The page of the comparison; drawing its figures takes seconds."""
    return publish(finished[2], tmp_path_factory.mktemp("reports"))


@pytest.mark.slow
def test_the_report_is_written_once_and_names_its_command(finished, page):
    _, settings, comparison, _ = finished
    path = page
    assert path.with_suffix(".csv").read_text().count("\n") == 7
    assert command_of(settings) in path.read_text().replace("&#39;", "'")
    stamp = path.stat().st_mtime_ns
    assert publish(comparison, path.parent) == path
    assert path.stat().st_mtime_ns == stamp
    publish(comparison, path.parent, again=True)
    assert path.stat().st_mtime_ns > stamp


def test_the_command_says_what_differs_from_the_defaults():
    settings = CompareSettings(optimizers=("sgd", "sam:rho=0.1"), epochs=3)
    assert command_of(settings) == "steppe compare sgd sam:rho=0.1 --epochs 3"


def test_the_command_names_the_folder_of_data_that_need_files(tmp_path):
    settings = CompareSettings(optimizers=("sgd",), data="mnist")
    assert command_of(settings) == "steppe compare sgd --data mnist --data-dir DIR"
    assert command_of(settings, tmp_path).endswith(f"--data-dir {tmp_path}")


@pytest.mark.slow
def test_a_deleted_table_is_written_again(finished, page):
    page.with_suffix(".csv").unlink()
    publish(finished[2], page.parent)
    assert page.with_suffix(".csv").exists()


def test_two_texts_of_one_optimizer_are_refused(tmp_path):
    settings = CompareSettings(optimizers=("sgd", "sgd:lr=0.05"), **SMALL)
    with pytest.raises(
        SettingError, match=r"'sgd, seed 0' and 'sgd:lr=0\.05, seed 0' have"
    ):
        ComparisonStudy(settings, Store(tmp_path))


@pytest.mark.slow
def test_a_schedule_is_kept_as_text_and_lasts_as_long_as_the_training(tmp_path):
    small = {**SMALL, "seeds": 1, "measures": ("lpf:samples=3",), "epochs": 3}
    texts = ("sam:rho=cosine(.1,0)", "sam:rho=proportional(0.1,0.02)")
    settings = CompareSettings(optimizers=texts, **small)
    store = Store(tmp_path)
    rows = ComparisonStudy(settings, store).run().rows
    told = [store.config(row.training)["optimizer"]["settings"]["rho"] for row in rows]
    assert told == ["cosine(0.1, 0.0)", "proportional(0.1, 0.02)"]
    assert stored_study(store).collect().rows == rows
    recipe = ComparisonStudy(settings, store).plan[rows[0].training].recipe
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(
        recipe, model, samples=128
    )  # 2 steps an epoch, 6 in all
    radii = []
    for _ in range(7):
        for _ in optimizer.passes():
            model(torch.ones(1, 2)).sum().backward()
        radii.append(optimizer.param_groups[0]["rho"])
        optimizer.step()
    assert radii[::3] == pytest.approx([0.1, 0.05, 0.0])


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the finished store, to damage it."""
    shutil.copytree(finished[0].root, tmp_path / "copy")
    return Store(tmp_path / "copy")


@pytest.mark.parametrize("lost", ["model.safetensors", "history.json"])
def test_a_training_that_lost_a_file_is_done_again_with_the_same_result(
    finished, copied, lost
):
    _, settings, comparison, _ = finished
    row = comparison.rows[1]
    before = copied.artefact(row.training, lost).read_bytes()
    copied.artefact(row.training, lost).unlink()
    found = stored_study(copied, finished[1].name).collect()
    assert len(found.rows) == 5
    assert found.failures == ("sam, seed 0: not finished",)
    study = ComparisonStudy(settings, copied)
    assert study.left == 1
    assert study.run(workers=1).rows == comparison.rows
    assert copied.artefact(row.training, lost).read_bytes() == before


@pytest.mark.parametrize("text", ["{}", '{"last": 3, "best": 3}', '{"measures": {}}'])
@pytest.mark.parametrize("kind", ["training", "analysis"])
def test_a_damaged_result_is_named_with_the_fix(finished, copied, kind, text):
    run = getattr(finished[2].rows[0], kind)
    (copied.folder(run) / "result.json").write_text(text)
    with pytest.raises(StoreError, match=rf"{run}/result.json is damaged .*; delete"):
        stored_study(copied, finished[1].name).collect()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"epochs": 0}', '{"optimizers": ["gsm"]}']
)
def test_an_edited_study_is_named_with_the_fix(finished, copied, text):
    path = copied.root / "studies" / f"{finished[1].name}.json"
    path.write_text(text)
    with pytest.raises(
        StoreError,
        match=rf"{path.name} (is damaged|cannot be used) .*; restore it, or delete",
    ):
        stored_study(copied, finished[1].name)


def test_a_report_of_runs_none_of_which_is_finished_says_what_to_run(
    finished, copied, tmp_path
):
    shutil.rmtree(copied.root / "runs")
    comparison = stored_study(copied, finished[1].name).collect()
    assert len(comparison.failures) == 6
    with pytest.raises(StoreError, match=r"none of the 6 runs .*; run `steppe compare"):
        publish(comparison, tmp_path / "reports")


CODE = """
import dataclasses
import numpy as np
from steppe_lab import datasets
from pathlib import Path

def load(*, data_dir):
    digits = datasets.load("digits")
    shift = float(Path(__file__).with_suffix(".txt").read_text()) + np.random.rand()
    train = digits.train
    shifted = datasets.TensorSamples(train.inputs + shift, train.targets)
    return dataclasses.replace(digits, train=shifted)

def build(in_shape, classes):
    from torch import nn
    print("building")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Names of data and model of the user, and the file that the data come from."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_code.py").write_text(CODE)
    (tmp_path / "own_code.txt").write_text("0")
    yield "own_code:load", "own_code:build", tmp_path / "own_code.txt"
    sys.modules.pop("own_code", None)


def test_results_of_other_data_are_not_mixed(own_code, tmp_path):
    data, model, file = own_code
    small = {**SMALL, "seeds": 1, "measures": ("lpf:samples=3",), "model": model}
    store = Store(tmp_path / "store")
    settings = CompareSettings(optimizers=("sgd", "sam"), data=data, **small)
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    comparison = ComparisonStudy(settings, store).run(workers=2)
    assert not comparison.failures
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    path = store.artefact(comparison.rows[0].training, "model.safetensors")
    asked = Measuring({"net": path}, ["lpf:samples=3"], trust=[data, model])
    measured(asked)
    file.write_text("1")
    other = r"is not the data that was trained on \(SHA-256 \w{8} now, \w{8} then\)"
    more = settings.model_copy(update={"optimizers": ("sgd", "sam", "asam")})
    for again in (settings, more, settings):
        path.with_name("history.json").unlink(missing_ok=True)  # all the same
        with pytest.raises(DataError, match=other):
            ComparisonStudy(again, store).run(workers=1)
    with pytest.raises(DataError, match=other):
        measured(asked)
    assert len(list(store.root.glob("studies/*"))) == 1


def test_a_finished_comparison_counts_no_steps_of_its_epochs(tmp_path, monkeypatch):
    """Where nothing is left, nobody knows the number of samples."""
    settings = CompareSettings(
        optimizers=("sgd", "entropy_sgd:fresh_batches=true"), last_batch="drop", seeds=1
    )
    monkeypatch.setattr(ComparisonStudy, "left", 0)
    monkeypatch.setattr(comparison, "run_local", lambda *_, **__: None)
    assert len(ComparisonStudy(settings, Store(tmp_path)).run().failures) == 2
