"""`steppe study export`, `sql` and `doctor` on a study that was run."""

import csv
import json
import shutil

import pytest

import in_process
from steppe_lab.cli import main
from steppe_lab.store.store import Store
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.stored import open_study, remember

parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("duckdb")

SETTINGS = {
    "name": "small-grid",
    "base": {
        "data": "digits",
        "model": "small_cnn:width=2",
        "train_samples": 40,
        "epochs": 1,
    },
    "grid": {"base.lr": [0.1, 0.05]},
    "measures": ["path_norm", "lpf:samples=2"],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    remember(store, StudySettings.model_validate(SETTINGS))
    open_study(store).study.work(in_process.run_local)
    return store


@pytest.fixture
def store(finished, tmp_path):
    shutil.copytree(finished.root, tmp_path / "copy")
    return Store(tmp_path / "copy")


def steppe(capsys, *arguments):
    """Exit code, results and messages of a command."""
    code = main(["study", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_study_is_exported_and_read_back(finished, tmp_path, capsys):
    table = open_study(finished).table()
    file = tmp_path / "table.parquet"
    assert steppe(capsys, "export", "--out", file, "--store", finished.root)[0] == 0
    back = parquet.read_table(file)
    assert back.to_pydict() == {k: list(v) for k, v in table.columns.items()}
    file = tmp_path / "table.txt"
    name = ("small", "--format", "csv")
    code, out, _ = steppe(
        capsys, "export", *name, "--out", file, "--store", finished.root
    )
    assert (code, out) == (0, f"{file}\n")
    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert [float(row["lpf"]) for row in lines] == list(table.columns["lpf"])


def test_an_export_names_the_trials_without_a_row(store, tmp_path, capsys):
    run = next(iter(open_study(store).plan))
    store.reopen(run)
    file = tmp_path / "table.csv"
    code, out, _ = steppe(capsys, "export", "--out", file, "--store", store.root)
    assert code == 0
    assert out.endswith("Note: 1 of 2 trials have no row: 1 not finished.\n")
    assert len(file.read_text().splitlines()) == 2


def test_nothing_is_collected_for_a_file_that_cannot_be_written(finished, capsys):
    for out in (finished.root, "table.xls"):
        code, _, said = steppe(capsys, "export", "--out", out, "--store", finished.root)
        assert code == 2
        assert len(said.splitlines()) == 1


def test_sql_answers_in_three_forms(finished, capsys):
    text = "SELECT lr, seed FROM runs ORDER BY lr"
    at = ("--out", finished.root)
    assert steppe(capsys, "sql", text, "--csv", *at)[1] == "lr,seed\n0.05,0\n0.1,0\n"
    rows = json.loads(steppe(capsys, "sql", text, "--json", *at)[1])
    assert rows == [{"lr": 0.05, "seed": 0}, {"lr": 0.1, "seed": 0}]
    page = steppe(capsys, "sql", text, *at)[1]
    assert "0.05" in page
    assert page.endswith("2 rows\n")
    none = 'SELECT lr, seed FROM "small-grid" WHERE seed > 9'
    assert steppe(capsys, "sql", none, "--csv", *at)[1] == "lr,seed\n"
    assert steppe(capsys, "sql", none, "--json", *at)[1] == "[]\n"


def test_sql_with_a_mistake_is_one_sentence_with_the_columns(finished, capsys):
    code, out, said = steppe(
        capsys, "sql", "SELECT lrr FROM runs", "--out", finished.root
    )
    assert (code, out) == (2, "")
    assert len(said.splitlines()) == 1
    assert 'the columns of "runs" are trial, run, seed, lr, epochs' in said


def test_the_doctor_finds_mends_and_the_study_goes_on(store, capsys):
    at = ("--out", store.root)
    assert steppe(capsys, "doctor", *at)[:2] == (
        0,
        f"{store.root}: 4 finished\nnothing is damaged\n",
    )
    before = open_study(store).table()
    run = next(iter(open_study(store).plan))
    path = store.folder(run) / "history.json"
    path.write_text(path.read_text().replace("train_loss", "train_lost"))
    code, out, _ = steppe(capsys, "doctor", *at)
    assert code == 1
    assert f"damaged: {path} is damaged (it does not match its sha256); move" in out
    assert out.endswith("1 damaged; --fix mends what can be mended without loss\n")
    code, out, _ = steppe(capsys, "doctor", "--fix", "--json", *at)
    said = json.loads(out)
    assert (code, said["sound"], said["findings"][0]["mended"]) == (0, True, True)
    study = open_study(store).study
    assert study.left == 1
    study.work(in_process.run_local)
    assert open_study(store).table() == before


def test_a_study_that_no_longer_reads_is_a_warning(store, capsys):
    from steppe_lab.store.json_files import read_record, write_record

    path = store.root / "studies" / "small-grid.json"
    record = read_record(path)
    record["settings"]["measures"] = [["flatness_of_tomorrow"]]
    write_record(path, record)
    code, out, _ = steppe(capsys, "doctor", "--quick", "--out", store.root)
    assert code == 0
    assert "warning: " in out
    assert "flatness_of_tomorrow" in out
    assert out.endswith("nothing is damaged; weights were not read\n")


def test_a_table_says_which_networks_were_packed(store):
    from steppe_lab.runs.provenance import note_start

    study = open_study(store)
    assert "packed_with" not in study.table().columns
    run = next(iter(study.plan))
    note_start(store.folder(run), "cpu", 4)
    assert study.table().columns["packed_with"] == [4, 0]


def test_repairs_are_said_as_done_and_counted(store, capsys):
    run = next(iter(open_study(store).plan))
    path = store.folder(run) / "history.json"
    path.write_text(path.read_text().replace("train_loss", "train_lost"))
    code, out, _ = steppe(capsys, "doctor", "--fix", "--out", store.root)
    assert code == 0
    assert "sha256); it was moved to the folder damaged.\n" in out
    assert "\nmended: 1 moved to the folder damaged\n" in out
