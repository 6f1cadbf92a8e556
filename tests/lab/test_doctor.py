"""Each damage is found where it is, explained, and mended without loss."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

import in_process
from steppe.errors import StoreError
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings, TrainSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store import formats
from steppe_lab.store.json_files import write_json, write_record
from steppe_lab.store.store import Store
from steppe_lab.studies import comparison as compare
from steppe_lab.studies.comparison import ComparisonStudy
from steppe_lab.studies.doctor.examine import examine
from steppe_lab.studies.doctor.mend import mend

SETTINGS = CompareSettings(
    optimizers=("sgd", "sam"),
    model="small_cnn:width=2",
    train_samples=40,
    epochs=1,
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
def store(finished, tmp_path):
    shutil.copytree(finished[0].root, tmp_path / "copy")
    return Store(tmp_path / "copy")


@pytest.fixture
def row(finished):
    return finished[1].rows[0]


def flip(path):
    """One bit in the middle of a file."""
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)


def age(path):
    os.utime(path, (0, 0))


def findings(store, **how):
    examined = examine(store.root, **how)
    return [
        (each.severity, str(each.path.relative_to(store.root)), each.repair)
        for each in examined.findings
    ]


def rerun(store, monkeypatch):
    monkeypatch.setattr(compare, "run_local", in_process.run_local)
    return ComparisonStudy(SETTINGS, store).run()


def numbers(comparison):
    rows = [row.model_dump(exclude={"training", "analysis"}) for row in comparison.rows]
    return rows, comparison.failures


def test_a_sound_store_has_no_finding(store):
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    for quick in (False, True):
        examined = examine(store.root, quick=quick)
        assert examined.findings == ()
        assert examined.is_sound
        assert examined.runs == {"finished": 4}
    after = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    assert after == before
    assert mend(store.root).findings == ()


def training(store, row, name):
    return store.folder(row.training) / name


def analysis(store, row, name):
    return store.folder(row.analysis) / name


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("result.json", "result.json"),
        ("history.json", "history.json"),
        ("model.safetensors", "model.safetensors"),
        ("config.json", ""),
    ],
)
def test_a_damaged_file_of_a_training_is_moved_and_made_again(
    finished, store, row, name, aside, monkeypatch
):
    path = training(store, row, name)
    flip(path)
    damaged = path.read_bytes()
    place = f"runs/{row.training}/{aside}".rstrip("/")
    found = findings(store)
    assert found[0] == ("damaged", place, "set_aside")
    # Analyses of a network that is moved away stay, and say what they wait for.
    assert [each[0] for each in found[1:]] in ([], ["warning"])
    examined = mend(store.root)
    assert examined.is_sound
    assert examined.findings[0].mended
    assert (store.root / "damaged" / "runs" / row.training / name).read_bytes() == (
        damaged
    )
    assert numbers(rerun(store, monkeypatch)) == numbers(finished[1])
    assert examine(store.root).findings == ()


def test_a_quick_look_reads_no_weights_and_sees_a_file_that_was_cut_off(store, row):
    path = training(store, row, "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert findings(store, quick=True) == []
    assert findings(store) != []
    path.write_bytes(whole[:-1])
    place = f"runs/{row.training}/model.safetensors"
    assert findings(store, quick=True) == [("damaged", place, "set_aside")]


@pytest.mark.parametrize("name", ["model.safetensors", "history.json"])
def test_a_missing_file_reopens_the_training(finished, store, row, name, monkeypatch):
    training(store, row, name).unlink()
    place = f"runs/{row.training}/result.json"
    assert findings(store, quick=True) == [("damaged", place, "set_aside")]
    assert mend(store.root).is_sound
    assert store.status(row.training) == "waiting"
    assert numbers(rerun(store, monkeypatch)) == numbers(finished[1])


def test_the_network_of_another_run_is_seen(finished, store, row):
    other = training(store, finished[1].rows[1], "model.safetensors")
    shutil.copy(other, training(store, row, "model.safetensors"))
    (found,) = examine(store.root, quick=True).findings
    assert "is the network of another run" in found.text


def test_results_of_other_data_are_damage_that_a_person_mends(store, row):
    path = training(store, row, "result.json")
    record = json.loads(path.read_text())
    del record["sha256"]
    write_record(path, {**record, "data": "0" * 64})
    texts = [each.text for each in mend(store.root).findings]
    assert any("other samples than its result names" in text for text in texts)
    assert any("other samples than 1 runs with the same" in text for text in texts)


def test_an_analysis_whose_training_is_gone_stays(store, row):
    shutil.rmtree(store.folder(row.training))
    place = f"runs/{row.analysis}"
    assert findings(store) == [("warning", place, "")]
    assert mend(store.root).is_sound
    assert store.is_finished(row.analysis)


def test_the_lease_of_a_dead_process_is_freed_and_a_live_one_kept(store, row):
    for run in (row.training, row.analysis):
        store.reopen(run)
    held = store.claim(row.analysis)
    lease = store.claim(row.training).path
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    record = {**json.loads(lease.read_text()), "pid": process.pid}
    lease.write_text(json.dumps(record))
    place = f"runs/{row.training}/lease.json"
    assert findings(store) == [("warning", place, "free")]
    examined = mend(store.root)
    assert examined.runs["running"] == 1
    assert not lease.exists()
    assert held.held()


def test_crumbs_of_dead_writers_are_removed_and_fresh_ones_kept(store, row):
    old = training(store, row, ".result.json.0123.tmp")
    fresh = training(store, row, ".history.json.0123.tmp")
    measure = analysis(store, row, "measures/.0-lpf.json.0123.tmp")
    root = store.root / ".store.json.0123.tmp"
    for path in (old, fresh, measure, root):
        path.touch()
    for path in (old, measure, root):
        age(path)
    assert [each[2] for each in findings(store)] == ["remove"] * 3
    mend(store.root)
    there = [path.exists() for path in (old, fresh, measure, root)]
    assert there == [False, True, False, False]


@pytest.mark.parametrize("name", ["config.json", "result.json", "model.safetensors"])
def test_what_may_not_be_read_is_not_moved(store, row, name, monkeypatch):
    path, opened = training(store, row, name), open
    if name == "model.safetensors":
        flip(path)  # the library that reads it opens files by itself

    def refuse(given, *more, **how):
        if str(given) == str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(given))
        return opened(given, *more, **how)

    monkeypatch.setattr("builtins.open", refuse)
    (said, *_) = mend(store.root).findings
    assert (said.severity, said.repair, said.mended) == ("damaged", "", False)
    assert said.fix == "give yourself the right to read it, or restore it"
    assert path.exists()


def test_a_folder_that_may_not_be_read_is_damage(store, row, monkeypatch):
    listdir = os.listdir

    def refuse(folder):
        if str(folder) == str(store.folder(row.training)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", refuse)
    said = examine(store.root).findings[0]
    assert said.text.endswith("cannot be read: permission denied")


def test_what_is_no_run_is_named_and_stays(store):
    (store.root / "runs" / "notes").mkdir()
    (store.root / "runs" / "0123456789abcdef").mkdir()
    found = findings(store)
    empty = ("warning", "runs/0123456789abcdef", "remove")
    assert found == [empty, ("note", "runs/notes", "")]
    mend(store.root)
    assert findings(store) == [("note", "runs/notes", "")]


def test_a_run_that_is_begun_meanwhile_is_left_alone(store, row, monkeypatch):
    flip(training(store, row, "result.json"))
    examined = examine(store.root)
    monkeypatch.setattr(
        "steppe_lab.studies.doctor.mend.examine", lambda *_, **__: examined
    )
    assert store.claim(row.training) is None  # it has a result, such as it is
    from steppe.files import leases

    with leases.create(training(store, row, "lease.json")):
        assert not mend(store.root).is_sound
    assert mend(store.root).is_sound


def test_damaged_records_of_measures_and_studies_are_moved(store, row):
    (measure,) = (store.folder(row.analysis) / "measures").iterdir()
    (study,) = (store.root / "studies").iterdir()
    flip(measure)
    flip(study)
    found = [(each[0], each[2]) for each in findings(store)]
    assert found == [("damaged", "set_aside"), ("warning", "set_aside")]
    assert mend(store.root).is_sound
    assert not measure.exists()
    assert not study.exists()


def test_two_damaged_things_of_one_name_both_stay(store, row):
    path = training(store, row, "failure.json")
    for text in ("a", "b"):
        path.write_text(text)
        mend(store.root)
    aside = store.root / "damaged" / path.relative_to(store.root)
    both = [aside.read_text(), aside.with_name("failure.json.2").read_text()]
    assert both == ["a", "b"]


def test_settings_that_no_longer_read_are_a_warning(store):
    gone = store.add({"kind": "training", "data": "digits", "speed": 3})
    other = store.add({"kind": "dream"})
    texts = {each.run: each for each in mend(store.root).findings}
    assert "cannot be used here" in texts[gone].text
    assert "kind of run that is not known: dream" in texts[other].text
    assert {each.severity for each in texts.values()} == {"warning"}
    assert {gone, other} <= set(store.ids())


CODE = """
from torch import nn

def build(in_shape, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
"""


def test_code_that_has_changed_is_seen_where_it_is_trusted(
    store, tmp_path, monkeypatch
):
    file, name = tmp_path / "my_code_of_the_doctor.py", "my_code_of_the_doctor:build"
    file.write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    settings = TrainSettings(model=name, train_samples=40, epochs=1)
    run = store.add(config_of(recipe_of(settings, "sgd", 0)))
    (said,) = examine(store.root).findings
    assert (said.severity, said.run) == ("note", run)
    assert f"names {name} as its model" in said.text
    assert examine(store.root, trust=[name]).findings == ()
    file.write_text(CODE.replace("64", "8 * 8"))
    (said,) = examine(store.root, trust=[name]).findings
    assert (said.severity, said.fix[:17]) == ("warning", "restore that code")
    assert f"the source of {name} is not what it was" in said.text


def test_a_start_that_is_gone_or_another_file_is_damage(store, row):
    named = "sha256:" + hashlib.sha256(b"weights").hexdigest()
    config = {**store.config(row.training), "start_from": named}
    store.add(config)
    path = store.root / "starts" / named.removeprefix("sha256:")
    place = str(path.relative_to(store.root))
    assert findings(store) == [("damaged", place, "")]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"weights")
    assert findings(store) == []
    path.write_bytes(b"other")
    assert findings(store, quick=True) == []
    assert findings(store) == [("damaged", place, "set_aside")]


# ---- the marker and the formats


def test_a_missing_or_damaged_marker_is_written_again(store):
    marker = store.root / "store.json"
    whole = marker.read_text()
    for text in (None, "{", "[]"):
        marker.unlink() if text is None else marker.write_text(text)
        examined = mend(store.root)
        assert examined.is_sound
        assert examined.runs == {"finished": 4}
        assert marker.read_text() == whole


def test_a_newer_store_is_left_alone(store):
    write_json(store.root / "store.json", {"format": 99, "steppe": "9.1"})
    (found,) = mend(store.root).findings
    assert (found.severity, found.fix, found.mended) == (
        "damaged",
        "upgrade steppe",
        False,
    )


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(StoreError, match="holds no runs; name the folder"):
        examine(tmp_path)


def seal(folder):
    """Give records from before there were checksums theirs."""
    path = folder / "result.json"
    if path.exists() and "sha256" not in (record := json.loads(path.read_text())):
        write_record(path, record)


@pytest.fixture
def older(store, monkeypatch):
    """A store as it was before records had checksums, and a step to those of today."""
    whole = {p: p.read_text() for p in store.root.rglob("result.json")}
    for path in whole:
        record = json.loads(path.read_text())
        del record["sha256"]
        write_json(path, record)
    monkeypatch.setattr(formats, "STEPS", [seal])
    return store.root, whole


def test_an_older_store_is_brought_up(older):
    root, whole = older
    with pytest.raises(StoreError, match=r"format 1, and .* has 2; run .*doctor --fix"):
        Store(root)
    assert [each.repair for each in examine(root).findings] == ["migrate"]
    examined = mend(root)
    assert examined.is_sound
    assert examined.runs == {"finished": 4}
    assert {path: path.read_text() for path in whole} == whole
    assert json.loads((root / "store.json").read_text())["format"] == 2


def test_a_step_that_was_stopped_is_done_again(older, monkeypatch):
    root, whole = older
    calls = []

    def stopping(folder):
        calls.append(folder)
        if len(calls) == 3:
            raise KeyboardInterrupt
        seal(folder)

    monkeypatch.setattr(formats, "STEPS", [stopping])
    with pytest.raises(KeyboardInterrupt):
        mend(root)
    with pytest.raises(StoreError, match="has store format 1"):
        Store(root)
    monkeypatch.setattr(formats, "STEPS", [])
    with pytest.raises(StoreError, match=r"has store format 2, .* upgrade"):
        Store(root)  # the steppe before
    monkeypatch.setattr(formats, "STEPS", [seal])
    assert mend(root).is_sound
    assert {path: path.read_text() for path in whole} == whole
    assert not (root / "migration.json").exists()


def test_a_format_does_not_change_while_somebody_works(store, row, monkeypatch):
    store.reopen(row.training)
    lease = store.claim(row.training)
    monkeypatch.setattr(formats, "STEPS", [seal])
    with pytest.raises(StoreError, match=r"a process works on .*; wait for it"):
        mend(store.root)
    assert json.loads((store.root / "store.json").read_text())["format"] == 1
    lease.release()
    assert mend(store.root).is_sound
