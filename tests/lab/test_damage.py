"""One wrong bit in a stored file: the same numbers come back, or one sentence."""

import json
import random
import shutil

import pytest

import in_process
from steppe.errors import SteppeError, StoreError
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.store.store import Store
from steppe_lab.studies import comparison as compare
from steppe_lab.studies.comparison import ComparisonStudy, stored_study
from steppe_lab.training import checkpoints
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe
from steppe_lab.work import work

SETTINGS = CompareSettings(
    optimizers=("sgd", "sam"),
    model="small_cnn:width=2",
    train_samples=40,
    epochs=2,
    seeds=1,
    line_points=3,
    measures=("lpf:samples=2",),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "run_local", in_process.run_local)
        return store, ComparisonStudy(SETTINGS, store).run()


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished[0].root, tmp_path / "copy")
    return Store(tmp_path / "copy")


def flips(contents, count):
    """Copies of contents with one bit changed, at places drawn with seed 0."""
    for place in random.Random(0).sample(range(8 * len(contents)), count):
        changed = bytearray(contents)
        changed[place // 8] ^= 1 << place % 8
        yield place, bytes(changed)


def wrong(path, count, expected, outcome):
    """Flips after which the outcome is neither as expected nor a sentence."""
    contents, found = path.read_bytes(), []
    for place, changed in flips(contents, count):
        path.write_bytes(changed)
        try:
            same = outcome() == expected
        except SteppeError as error:
            same = "\n" not in str(error)
        except Exception as error:  # a bug, with a traceback
            same, place = False, (place, repr(error))
        if not same:
            found.append(place)
    path.write_bytes(contents)
    return found


MANY = pytest.param(20, marks=pytest.mark.slow)  # times as many flips


@pytest.mark.parametrize("times", [1, MANY])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("training", "config.json"),
        ("training", "result.json"),
        ("training", "history.json"),
        ("analysis", "config.json"),
        ("analysis", "result.json"),
        ("study", "compare-*.json"),
    ],
)
def test_a_flipped_bit_in_a_record_changes_no_number(
    finished, copied, kind, name, times
):
    row = finished[1].rows[1]
    folders = {
        "training": copied.folder(row.training),
        "analysis": copied.folder(row.analysis),
        "study": copied.root / "studies",
    }
    (path,) = folders[kind].glob(name)
    outcome = lambda: stored_study(copied).collect()  # noqa: E731
    assert outcome() == finished[1]
    assert wrong(path, 40 * times, finished[1], outcome) == []


@pytest.mark.parametrize("times", [1, MANY])
def test_a_flipped_bit_in_a_checkpoint_changes_neither_network_nor_recipe(
    finished, copied, times
):
    path = copied.artefact(finished[1].rows[1].training, "model.safetensors")

    def outcome():
        loaded = checkpoints.load(path)
        weights = [p.tolist() for p in loaded.model.state_dict().values()]
        return weights, loaded.recipe, loaded.in_shape, loaded.outputs, loaded.data

    assert wrong(path, 100 * times, outcome(), outcome) == []


def test_a_flipped_bit_in_a_kept_measure_changes_no_number(finished, copied):
    run = finished[1].rows[1].analysis
    path = copied.artefact(run, "measures/0-lpf.json")

    def outcome():
        return work(copied.config(run), copied.folder(run), lambda *_: None)

    assert wrong(path, 12, outcome(), outcome) == []


@pytest.fixture
def unfinished(finished, copied):
    """A training, a state to resume it from, and what comes of it."""
    row = finished[1].rows[1]
    config = copied.config(row.training)
    recipe = Recipe.model_validate({k: v for k, v in config.items() if k != "kind"})
    states = []
    train(recipe, load_split(recipe), keep=states.append, keep_every=0)
    path = copied.artefact(row.training, "training.pt")
    path.write_bytes(states[0])
    return copied, row.training, path, copied.result(row.training)


@pytest.mark.parametrize("times", [1, MANY])
def test_a_flipped_bit_in_a_kept_state_changes_no_number(unfinished, times):
    store, run, path, expected = unfinished

    def outcome():
        return work(store.config(run), store.folder(run), lambda *_: None)

    assert wrong(path, 6 * times, expected, outcome) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: b"",
        lambda kept: b"rubbish",
        lambda kept: kept[: len(kept) // 2],
        lambda kept: kept[kept.index(b"PK") :],  # as it was before there were seals
        lambda kept: kept + b"\0",
    ],
    ids=["empty", "rubbish", "cut", "without seal", "longer"],
)
def test_a_damaged_state_is_set_aside_and_training_begins_anew(unfinished, change):
    store, run, path, expected = unfinished
    damaged, said = change(path.read_bytes()), []
    path.write_bytes(damaged)
    report = lambda progress: said.append(progress.text)  # noqa: E731
    assert work(store.config(run), store.folder(run), report) == expected
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert "training.damaged, and training begins anew" in said[0]
    assert said[1] == "epoch 1/2"


def test_a_state_of_other_samples_is_not_continued(finished):
    recipe = Recipe(data="digits", model="small_cnn:width=2", base="sgd", epochs=2)
    split = load_split(recipe)
    other = load_split(recipe.model_copy(update={"label_noise": 0.5}))
    states, said = [], []
    train(recipe, other, keep=states.append, keep_every=0)
    straight = train(recipe, split).history
    resumed = train(recipe, split, resume=states[0], report=said.append)
    assert resumed.history == straight
    assert said[0].text.endswith("training begins anew")


@pytest.mark.parametrize("name", ["result.json", "history.json"])
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_refused_also_without_a_checksum(
    finished, copied, name, text
):
    path = copied.artefact(finished[1].rows[0].training, "x").with_name(name)
    record = json.loads(path.read_text())
    record.pop("sha256", None)
    path.write_text(json.dumps({**record, "extra": 0}).replace(": 0}", f": {text}}}"))
    with pytest.raises(StoreError, match=rf"{name} is damaged .*no finite number"):
        stored_study(copied).collect()


def test_records_from_before_there_were_checksums_are_read(finished, copied):
    for path in copied.root.rglob("*.json"):
        record = json.loads(path.read_text())
        record.pop("sha256", None)
        path.write_text(json.dumps(record))
    assert stored_study(copied).collect() == finished[1]


def test_a_network_copied_from_another_run_is_not_analysed(finished, copied):
    sgd, sam = finished[1].rows
    name = "model.safetensors"
    shutil.copy(copied.artefact(sgd.training, name), copied.folder(sam.training))
    with pytest.raises(StoreError, match="holds the network of another run"):
        work(
            copied.config(sam.analysis),
            copied.folder(sam.analysis),
            lambda *_: None,
        )


NO_IDS = ["/", "..", "", ".", "../x", "feed", "a" * 17, "A" * 16, "a/" * 8, "a\0" * 8]


@pytest.mark.parametrize("run", NO_IDS)
def test_what_is_no_id_is_refused_everywhere(copied, run):
    calls = [copied.folder, copied.status, copied.config, copied.result, copied.claim]
    calls += [copied.failure, copied.reopen, copied.free, copied.is_finished]
    calls += [lambda run: copied.finish(run, {}), lambda run: copied.fail(run, "why")]
    calls += [lambda run: copied.artefact(run, "x"), lambda run: [*copied.rows([run])]]
    before = sorted(copied.root.rglob("*"))
    for call in calls:
        with pytest.raises(StoreError, match="there is no run"):
            call(run)
    assert sorted(copied.root.rglob("*")) == before


def test_foreign_names_among_the_runs_are_no_runs(copied):
    before = copied.ids()
    (copied.root / "runs" / "notes.txt").touch()
    (copied.root / "runs" / "lost+found").mkdir()
    assert copied.ids() == before


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
@pytest.mark.parametrize("name", ["config.json", "result.json", "failure.json"])
def test_json_that_no_reader_can_hold_is_damaged(finished, copied, name, text):
    run = finished[1].rows[0].training
    copied.folder(run).joinpath(name).write_text(text)
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        list(copied.rows([run]))


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"reason": "why"},
        {"reason": 1, "attempts": 1},
        {"reason": "why", "attempts": "1"},
        {"reason": "why", "attempts": 1.5},
        {"reason": "why", "attempts": 1, "died": "no"},
        {"reason": "why", "attempts": 1, "more": 1},
    ],
)
def test_a_failure_of_other_kinds_of_values_is_damaged(finished, copied, record):
    run = finished[1].rows[0].training
    copied.folder(run).joinpath("failure.json").write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"failure\.json is damaged"):
        copied.failure(run)


@pytest.mark.parametrize("name", ["./result.json", "lease.json/x", "config.json/.."])
def test_an_artefact_is_no_file_of_the_store_by_another_name(copied, finished, name):
    with pytest.raises(SteppeError, match="relative name of its own"):
        copied.artefact(finished[1].rows[0].training, name)


def test_a_store_that_leads_nowhere_is_one_sentence(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for root in (loop, loop / "store", tmp_path / ("a" * 300)):
        with pytest.raises(StoreError, match=r"^cannot read .*store\.json"):
            Store(root)
    store = Store(tmp_path / "store")
    store.root.mkdir()
    (store.root / "runs").symlink_to(store.root / "runs")
    with pytest.raises(StoreError, match=r"^cannot read .*runs"):
        store.ids()
