"""Studies end to end: nothing is computed twice, and a table has the stored numbers."""

import json
import shutil
from collections import Counter

import pytest
import torch

import in_process
from steppe.errors import StoreError, UnknownNameError, UsageError
from steppe_lab import cli
from steppe_lab.cli.verbs import study_run
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.store import Store
from steppe_lab.studies import estimating
from steppe_lab.studies.collecting import table_of
from steppe_lab.studies.expansion import plan_of_study
from steppe_lab.studies.extending import extended
from steppe_lab.studies.longer import longer_trainings
from steppe_lab.studies.opening import named_study
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.status import StudyStatus, status_of
from steppe_lab.studies.stored import (
    StoredStudy,
    open_study,
    remember,
    study_names,
    versions,
)
from steppe_lab.studies.study import Study
from steppe_lab.training import checkpoints

FILE = {
    "name": "tiny",
    "base": {
        "data": "digits",
        "train_samples": 40,
        "test_fraction": 0.1,
        "model": "mlp:hidden=4,depth=1",
        "optimizer": "sgd",
        "epochs": 1,
        "batch_size": 8,
        "lr_schedule": "constant",
        "checkpoint_every": 0,
        "checkpoint_optimizer": True,
    },
    "grid": {"base.lr": [0.1, 0.01]},
    "seeds": 1,
    "measures": ["gradient_norm"],
    "analysis": {"samples": 20},
}


class Counting:
    """An executor of this process that counts the runs which it does, by kind."""

    def __init__(self):
        self.did = Counter()

    def __call__(self, store, runs, work, *, then=lambda *_: (), **_):
        queue = list(runs)
        while queue:
            run = queue.pop(0)
            if not store.is_finished(run):
                self.did[store.config(run)["kind"]] += 1
                in_process.run_local(store, [run], work)
            queue += then(run, True)


def done(stored, begin=lambda: None):
    """Do a study; the number of runs that were done, by kind."""
    executor = Counting()

    def beginning():
        remember(stored.store, stored.settings)
        begin()

    stored.study.work(executor, begin=beginning)
    return dict(executor.did)


def opened(store, file, **more):
    path = store.root.parent / "study.json.yaml"
    path.write_text(json.dumps({**file, **more}))
    return named_study(store, str(path))


def changed(stored, **more):
    settings = extended(stored.settings, **more)
    plan = plan_of_study(settings)
    return StoredStudy(settings, stored.version + 1, plan, stored.store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("study") / "runs")
    assert done(opened(store, FILE)) == {"training": 2, "analysis": 2}
    return store


@pytest.fixture
def store(finished, tmp_path):
    """A copy of the finished study, in another place."""
    shutil.copytree(finished.root, tmp_path / "moved")
    return Store(tmp_path / "moved")


def test_what_is_finished_is_not_computed_again(store):
    assert done(opened(store, FILE)) == {}
    assert done(changed(opened(store, FILE), seeds=2)) == {"training": 2, "analysis": 2}
    second = open_study(store)
    assert (second.version, second.settings.seeds) == (2, (0, 1))
    more = changed(second, measures=["parameter_norm", "gradient_norm"])
    assert done(more) == {"analysis": 4}
    assert done(changed(open_study(store), levels=["lr=0.05"])) == {
        "training": 2,
        "analysis": 4,
    }
    assert [len(each.seeds) for each in versions(store, "tiny")] == [1, 2, 2, 2]
    # The file is as it was: the study goes on as it was extended.
    again = opened(store, FILE)
    assert (again.version, len(again.plan)) == (4, 6)
    assert done(again) == {}
    # The file says something new: it counts, and finds the measures in their groups.
    newer = opened(store, FILE, seeds=3, measures=["parameter_norm", "gradient_norm"])
    assert newer.version == 5
    assert done(newer) == {"training": 2, "analysis": 4}
    assert study_names(store) == ["tiny"]


def test_a_table_has_the_stored_numbers_in_the_order_of_all_tables(store):
    stored = changed(opened(store, FILE), measures=["parameter_norm"], seeds=2)
    table = stored.table()
    assert list(table.columns) == [
        *("trial", "run", "seed", "lr", "epochs", "stopped", "parameters"),
        *("train_loss", "train_error", "test_loss", "test_error"),
        *("best_train_loss", "best_train_error", "best_test_loss", "best_test_error"),
        *("best_epoch", "gap", "gradient_norm", "gradient_norm_stderr"),
        *("parameter_norm", "parameter_norm_stderr"),
    ]
    assert (table.factors, table.group) == (("lr",), ("lr",))
    assert table.measures == ("gradient_norm", "parameter_norm")
    assert [(each.trial, each.reason) for each in table.dropped] == [
        ("lr=0.1, seed 1", "not finished"),
        ("lr=0.01, seed 1", "not finished"),
    ]
    for number, run in enumerate(table.columns["run"]):
        result = json.loads((store.root / "runs" / run / "result.json").read_text())
        row = {name: column[number] for name, column in table.columns.items()}
        assert row["test_error"] == result["last"]["test_error"]
        error = 100 * (result["last"]["test_error"] - result["last"]["train_error"])
        assert row["gap"] == pytest.approx(error, abs=1e-12)
        assert table.test_samples == result["test_samples"]
        analysis = stored.study.followers(run)["analysis"]
        measured = store.result(analysis)["measures"]["gradient_norm"]
        assert row["gradient_norm"] == measured["value"]
        assert row["parameter_norm"] is None


def test_the_gap_and_the_rows_follow_the_rules_of_the_study(store):
    of_loss = opened(
        store, FILE, analysis={"samples": 20, "gap": "loss", "gap_at": "best"}
    )
    table = of_loss.table()
    assert table.test_samples is None
    columns = table.columns
    assert columns["gap"] == [
        test - train
        for test, train in zip(columns["best_test_loss"], columns["best_train_loss"])
    ]
    bound = sorted(columns["train_loss"])[0]
    kept = opened(
        store, FILE, analysis={"samples": 20, "keep": f"train_loss <= {bound!r}"}
    ).table()
    assert (len(kept), len(kept.dropped)) == (1, 1)
    assert kept.dropped[0].reason.startswith(f"train_loss <= {bound!r} does not hold (")
    for analysis, said in (
        ({"samples": 20, "keep": "trian_loss < 1"}, "did you mean 'train_loss'"),
        ({"samples": 20, "gap": "perplexity"}, "score of a gap 'perplexity'"),
    ):
        with pytest.raises(UnknownNameError, match=said):
            opened(store, FILE, analysis=analysis).table()


def test_longer_trainings_go_on_and_have_the_bits_of_straight_ones(store, tmp_path):
    before = opened(store, FILE)
    after = changed(before, epochs=3)
    seen = []

    def begin():
        longer_trainings(before, after.plan)()
        seen.extend(len(list((store.root / "runs").glob("*/training.pt"))) for _ in "a")

    assert done(after, begin) == {"training": 2, "analysis": 2}
    assert seen == [2]
    straight = StoredStudy(after.settings, 1, after.plan, Store(tmp_path / "straight"))
    done(straight)
    for run in after.plan:
        one, other = (store.result(run), straight.store.result(run))
        assert one == other
        paths = [each.artefact(run, CHECKPOINT) for each in (store, straight.store)]
        left, right = (checkpoints.load(path).model.state_dict() for path in paths)
        assert all(torch.equal(left[name], right[name]) for name in left)
        history = [
            each.artefact(run, "history.json") for each in (store, straight.store)
        ]
        rows = [json.loads(path.read_text())["epochs"] for path in history]
        assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ({"lr_schedule": "cosine"}, "lr_schedule cosine depends on the length"),
        ({"checkpoint_optimizer": False}, "its last state was not kept"),
        ({"evaluate_every": 2}, "its last epoch was scored"),
        (
            {"optimizer": "sam:rho=linear(0.1, 0.2)", "model": "mlp:hidden=4,depth=1"},
            "rho=linear.* of sam depends on the length",
        ),
    ],
)
def test_a_training_that_depends_on_its_length_is_not_gone_on_with(tmp_path, base, why):
    store = Store(tmp_path / "runs")
    file = {**FILE, "base": {**FILE["base"], **base}, "grid": {}, "measures": []}
    before = opened(store, file)
    done(before)
    after = changed(before, epochs=2)
    with pytest.raises(UsageError, match=f"from 1 to 2 epochs: {why}.*--anew"):
        longer_trainings(before, after.plan)
    longer_trainings(before, after.plan, anew=True)()
    assert done(after) == {"training": 1}


def test_a_run_that_goes_on_from_another_names_its_parent(store):
    (first, *_) = opened(store, FILE).plan
    base = {**FILE["base"], "start_from": f"{first}@last", "with_optimizer": True}
    forked = opened(store, FILE, name="fork", base=base)
    assert forked.settings.base["start_from"].startswith("sha256:")
    assert done(forked) == {"training": 2, "analysis": 2}
    table = forked.table()
    assert table.columns["parent"] == [first, first]
    # The file that was named may go; its copy in the store is gone on from.
    shutil.rmtree(store.folder(first) / "checkpoints")
    assert open_study(store, "fork").table().columns["parent"] == [first, first]
    assert "parent" not in open_study(store, "tiny").table().columns


def test_old_settings_that_are_damaged_or_name_code_are_refused(store, monkeypatch):
    path = store.root / "studies" / "tiny.json"
    whole = path.read_text()
    path.write_text(whole.replace("gradient_norm", "gradient_nrom"))
    with pytest.raises(StoreError, match=r"does not match its sha256.*restore it"):
        open_study(store)
    path.write_text(json.dumps({"version": 1, "settings": {"name": "tiny", "x": 1}}))
    with pytest.raises(StoreError, match="unknown key of a study 'x'"):
        open_study(store)
    named = {"name": "tiny", "base": {"data": "no_module_of_mine:data"}}
    path.write_text(json.dumps({"version": 1, "settings": named}))
    with pytest.raises(StoreError, match="--trust no_module_of_mine:data"):
        open_study(store)
    with pytest.raises(UnknownNameError, match="unknown study 'grid'"):
        open_study(store, "grid")
    with pytest.raises(StoreError, match="holds no study"):
        open_study(Store(store.root / "none"))


def test_runs_are_counted_by_state_with_the_reasons_of_failures(store):
    stored = changed(opened(store, FILE), seeds=2)
    _, _, third, _ = stored.plan
    store.add(stored.plan[third].config)
    with store.claim(third):
        store.fail(third, "it broke")
        assert status_of(stored.study).runs["training"]["running"] == 1
    status = status_of(stored.study)
    assert status.trials == {"finished": 2, "failed": 1, "running": 0, "waiting": 1}
    assert status.runs["analysis"] == {
        "finished": 2,
        "failed": 0,
        "running": 0,
        "waiting": 2,
    }
    assert status.failures == {"lr=0.1, seed 1, training": "it broke"}
    assert status.left == 4
    assert stored.table().dropped[0].reason == "it broke"


def test_the_rate_is_of_the_last_hour():
    def rate(*ended, now=10_000.0):
        return StudyStatus({}, {}, {}, ended).rate(now)

    assert rate() is None
    assert rate(9_000.0) is None
    assert rate(8_200.0, 9_100.0, 10_000.0) == pytest.approx(2 / 1800 * 3600)
    assert rate(0.0, 7_000.0, 9_000.0) == pytest.approx(2.0)
    assert rate(0.0, 1.0) is None


def test_time_that_is_left_is_the_cost_times_the_speed_of_runs_alike(store):
    stored = changed(opened(store, FILE), seeds=2)
    for number, run in enumerate(list(stored.plan)[:2], start=1):
        timed = {run: 10.0 * number, stored.study.followers(run)["analysis"]: number}
        for each, seconds in timed.items():
            path = store.artefact(each, "timing.json")
            path.write_text(json.dumps({"seconds": seconds}))
    left = estimating.time_left(stored.study)
    # Two trainings of the same cost as those of 10 and 20 s, two analyses of 1 and 2 s.
    assert (left.seconds, left.low, left.high) == pytest.approx((33.0, 22.0, 44.0))
    assert (left.trials, left.unknown) == (2, ())
    longer = changed(
        opened(store, FILE), levels=["lr=0.5"], measures=["parameter_norm"]
    )
    left = estimating.time_left(longer.study)
    assert left.seconds == pytest.approx(15.0 + 1.5)
    assert left.unknown == ("analysis 2",)
    assert estimating.time_left(opened(Store(store.root / "new"), FILE).study) is None


def test_pilot_trials_are_far_from_each_other():
    settings = StudySettings.model_validate(
        {
            **FILE,
            "grid": {"base.lr": [1, 2, 3], "batch_size": [8, 16, 32]},
            "seeds": 3,
        }
    )
    plan = plan_of_study(settings)
    names = [t.name for t in estimating.spread_out(plan, settings, 4).values()]
    # Opposite corners, then one that is as far from both, then the middle.
    places = [(1, 8), (1, 32), (2, 16), (3, 32)]
    assert names == [f"lr={lr} batch_size={size}, seed 0" for lr, size in places]
    assert len(estimating.spread_out(plan, settings, 99)) == 27


def steppe(capsys, *arguments):
    code = cli.main(["study", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_dry_run_reads_no_data_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = {**FILE, "base": {**FILE["base"], "data": "cifar10"}, "seeds": 3}
    (tmp_path / "s.yaml").write_text(json.dumps(file))
    code, out, _ = steppe(
        capsys,
        "run",
        "s.yaml",
        "--dry-run",
        "--json",
        "--only",
        "lr=0.1",
        "--limit",
        "2",
    )
    record = json.loads(out)
    assert (code, record["trials"], record["runs"], record["finished"]) == (0, 2, 4, 0)
    assert record["levels"] == {"lr": [0.1, 0.01]}
    assert record["estimate"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]
    code, out, _ = steppe(capsys, "run", "s.yaml", "--dry-run")
    assert out.startswith("tiny: 6 trials, 12 runs, of them 0 finished and 12 left\n")
    code, _, err = steppe(capsys, "run", "s.yaml", "--dry-run", "--only", "width=2")
    assert (code, err.count("\n")) == (2, 1)
    assert "there is lr, seed" in err


def test_a_moved_store_goes_on_and_says_how_far_it_is(store, monkeypatch, capsys):
    monkeypatch.chdir(store.root.parent)
    # A server of workers would still begin when the folder of this test has gone.
    monkeypatch.setattr(study_run, "start_server", lambda _: None)
    code, out, _ = steppe(capsys, "status", "--out", "moved", "--json")
    record = json.loads(out)
    assert (code, record["study"], record["version"]) == (0, "tiny", 1)
    assert record["trials"]["finished"] == 2
    code, out, _ = steppe(
        capsys, "extend", "ti", "--seeds", "2", "--out", "moved", "--dry-run"
    )
    assert out.startswith("tiny: 4 trials, 8 runs, of them 4 finished and 4 left\n")
    assert "a few seconds left on" in out
    assert versions(store, "tiny") == [open_study(store).settings]
    assert steppe(capsys, "run", "tiny", "--out", "moved")[0] == 0
    code, out, _ = steppe(capsys, "--out", "moved", "--json")
    assert json.loads(out)["stored"] == ["tiny"]
    code, _, err = steppe(capsys, "statsu", "--out", "moved")
    assert (code, "did you mean `steppe study status`" in err) == (2, True)


@pytest.mark.slow
def test_some_trials_then_a_limit_of_time_then_the_rest_equal_the_whole(
    finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(json.dumps(FILE))
    arguments = ["run", "s.yaml", "--workers", "1", "--pack", "off"]
    assert steppe(capsys, *arguments, "--only", "lr=0.01", "--only", "seed=0")[0] == 0
    store = Store("steppe-runs")
    assert len(store.ids()) == 2
    code, _, err = steppe(capsys, *arguments, "--hours", "1e-6")
    assert (code, len(store.ids())) == (0, 3)
    assert "the same command does the runs that are left" in err
    assert steppe(capsys, *arguments)[0] == 0
    whole, table = open_study(finished).table(), open_study(store).table()
    assert table == whole


@pytest.mark.slow
def test_pilot_trials_are_kept_and_say_how_long_the_others_take(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(json.dumps({**FILE, "seeds": 4}))
    arguments = ["run", "s.yaml", "--workers", "1"]
    code, out, _ = steppe(capsys, *arguments, "--dry-run", "--pilot", "2", "--json")
    record = json.loads(out)
    assert (code, record["finished"], record["left"]) == (0, 4, 12)
    assert record["estimate"]["trials"] == 2
    low, mean, high = (record["estimate"][n] for n in ("low", "seconds", "high"))
    assert 0 < low <= mean <= high
    assert len(Store("steppe-runs").ids()) >= 4


@pytest.mark.slow
def test_a_table_of_3000_trials_and_40_measures_takes_seconds(tmp_path):
    import time

    measures = [f"lpf:sigma={number / 100}" for number in range(1, 41)]
    settings = StudySettings.model_validate(
        {
            **FILE,
            "grid": {"base.lr": [n / 1000 for n in range(1, 1001)]},
            "seeds": 3,
            "measures": measures,
        }
    )
    store = Store(tmp_path / "runs")
    study = Study(plan_of_study(settings), store)
    scores = {"epoch": 1.0, "train_loss": 0.1, "train_error": 0.1}
    scores |= {"test_loss": 0.2, "test_error": 0.2}
    result = {"last": scores, "best": scores, "parameters": 1, "wrong": [1] * 100}
    result |= {"test_samples": 500}
    for run in study.plan:
        store.folder(run).mkdir(parents=True)
        (store.folder(run) / "result.json").write_text(json.dumps(result))
        (analysis,) = study._follow[run].values()
        values = {
            str(each["name"]) + ":" + str(number): {"value": 1.0}
            for number, each in enumerate(analysis["measures"])
        }
        (each,) = study.followers(run).values()
        store.folder(each).mkdir(parents=True)
        (store.folder(each) / "result.json").write_text(
            json.dumps({"measures": values})
        )
    began = time.process_time()
    table = table_of(study, settings)
    assert len(table) == 3000
    assert time.process_time() - began < 10
