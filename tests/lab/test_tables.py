"""Tables of studies: files in four formats come back, and SQL reads alone."""

import csv
import errno
import importlib
import io
import json
import math
import os
import pickle

import numpy as np
import pytest

from steppe.errors import SettingError, StoreError, UsageError
from steppe_lab.reports.tables.arrow import FACTS
from steppe_lab.reports.tables.formats import export, format_of
from steppe_lab.reports.tables.sql import Answer, query
from steppe_lab.studies.table import Dropped, StudyTable

duckdb = pytest.importorskip("duckdb")
pandas = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")

NUMBERS = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e16, None, -2.5e-8]


def table(**more):
    """Eight rows with a column of each kind."""
    count = len(NUMBERS)
    columns = {
        "trial": [f"lr=0.1, seed {i}" for i in range(count)],
        "run": [f"{i:016x}" for i in range(count)],
        "seed": list(range(count)),
        "lr": [0.1, 1, 0.5, 0.1, 1, 0.5, 0.1, 1],
        "skip": [i % 2 == 0 for i in range(count)],
        "optimizer": ["sgd", "=1+1", 'a "b", c', "ü\n", "", "-x", "@a", None],
        "milestones": [[100, 120], None, [1], [2], [3], [4], [5], [6]],
        "mixed": [1, "one", None, 0.5, True, [1], {"a": 1}, "x"],
        "gap": [float(i) for i in range(count)],
        "lpf": NUMBERS,
        "lpf_stderr": [0.5, *[None] * (count - 1)],
        "trace:rtol=0.1": [None] * count,
        **more,
    }
    return StudyTable(
        "grid@smoke",
        columns,
        factors=("lr", "skip", "optimizer"),
        measures=("lpf", "trace:rtol=0.1"),
        gap="gap",
        dropped=(Dropped("lr=9, seed 0", "diverged"),),
    )


def bits(values):
    return [None if v is None else float(v).hex() for v in values]


def written(tmp_path, name, form, **more):
    path = tmp_path / "new" / name
    export(table(**more), path, form)
    return path


# ---- files


def test_parquet_has_the_values_and_types_of_the_columns(tmp_path):
    back = parquet.read_table(written(tmp_path, "t.parquet", "parquet"))
    mine = table().columns
    assert back.column_names == list(mine)
    same = [name for name in mine if name not in ("lr", "mixed")]
    assert {n: back[n].to_pylist() for n in same} == {n: mine[n] for n in same}
    assert bits(back["lpf"].to_pylist()) == bits(NUMBERS)
    types = {name: str(back.schema.field(name).type) for name in mine}
    assert types == {
        **dict.fromkeys(("trial", "run", "optimizer", "mixed"), "string"),
        **dict.fromkeys(("lr", "gap", "lpf", "lpf_stderr"), "double"),
        "trace:rtol=0.1": "double",
        "seed": "int64",
        "skip": "bool",
        "milestones": "list<element: int64>",
    }
    mixed = ["1", "one", None, "0.5", "true", "[1]", '{"a": 1}', "x"]
    assert back["mixed"].to_pylist() == mixed


def test_parquet_knows_the_study_that_it_is_of(tmp_path):
    path = written(tmp_path, "t.parquet", "parquet")
    facts = json.loads(parquet.read_schema(path).metadata[FACTS])
    assert facts.pop("steppe")
    assert facts == {
        "study": "grid@smoke",
        "factors": ["lr", "skip", "optimizer"],
        "measures": ["lpf", "trace:rtol=0.1"],
        "gap": "gap",
        "group": ["lr", "skip", "optimizer"],
        "units": {"lpf": "loss", "trace:rtol=0.1": "loss per squared parameter"},
        "dropped": [{"trial": "lr=9, seed 0", "reason": "diverged"}],
    }


def test_whole_numbers_over_64_bits_are_texts_in_parquet(tmp_path):
    path = written(tmp_path, "t.parquet", "parquet", mixed=[2**70, *range(7)])
    texts = parquet.read_table(path)["mixed"].to_pylist()
    assert texts == [str(2**70), *map(str, range(7))]


def test_numbers_of_csv_come_back_bit_for_bit(tmp_path):
    path = written(tmp_path, "t.csv", "csv")
    read = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    assert list(read[0]) == list(table().columns)
    assert bits(float(r["lpf"]) if r["lpf"] else None for r in read) == bits(NUMBERS)
    assert [int(row["seed"]) for row in read] == list(range(8))
    assert json.loads(read[0]["milestones"]) == [100, 120]
    # A spreadsheet would compute a text that begins so.
    assert read[1]["optimizer"] == "'=1+1"
    arrow = importlib.import_module("pyarrow.csv").read_csv(path)
    assert bits(arrow["lpf"].to_pylist()) == bits(NUMBERS)


def test_a_pickle_is_a_dictionary_of_lists(tmp_path):
    back = pickle.loads(written(tmp_path, "t.pkl", "pkl").read_bytes())
    assert back == dict(table().columns)
    assert {type(back), *map(type, back.values())} == {dict, list}
    assert len(pandas.DataFrame(back)) == 8


def test_json_has_an_object_on_each_line(tmp_path):
    nan = [math.nan, math.inf, *range(6)]
    lines = written(tmp_path, "t.jsonl", "jsonl", gap=nan).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    whole = written(tmp_path, "t.json", "json", gap=nan).read_text()
    assert json.loads(whole) == rows
    assert [line.rstrip(",") for line in whole.splitlines()[1:-1]] == lines
    assert [row["gap"] for row in rows] == [None, None, *range(6)]
    assert [row["mixed"] for row in rows] == table().columns["mixed"]
    assert bits(row["lpf"] for row in rows) == bits(NUMBERS)


@pytest.mark.parametrize("form", ["parquet", "csv", "json", "jsonl", "pkl"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, form):
    path = tmp_path / "t"
    path.write_text("old")

    def write(descriptor, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(StoreError, match="no space left"):
        export(table(), path, form)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["t"]


def test_a_table_without_rows_is_refused_with_the_first_reason(tmp_path):
    empty = StudyTable(
        "grid", {"gap": []}, (), (), "gap", dropped=(Dropped("seed 0", "not finished"),)
    )
    with pytest.raises(UsageError, match=r"no row \(1 .* seed 0: not finished\); run"):
        export(empty, tmp_path / "t.csv", "csv")


def test_the_ending_says_the_format(tmp_path):
    assert format_of(tmp_path / "a.PARQUET", None) == "parquet"
    assert format_of(tmp_path / "a.pickle", "pkl") == "pkl"
    assert format_of(tmp_path / "a.txt", "csv") == "csv"
    with pytest.raises(SettingError, match=r"must end in \.parquet, .* got .*a\.txt"):
        format_of(tmp_path / "a.txt", None)
    with pytest.raises(SettingError, match="contradict each other"):
        format_of(tmp_path / "a.csv", "pkl")


# ---- SQL


def ask(text, **more):
    return query(text, {"runs": table(**more)})


def test_sql_reads_the_columns_as_they_are():
    values = {"gap": [4.0, 1.0, 3.0, 2.0, 8.0, 5.0, 7.0, 6.0]}
    said = ask("SELECT skip, avg(gap), count(*) FROM runs GROUP BY 1 ORDER BY 1")
    gaps = np.array(table().columns["gap"])
    assert said.rows == (
        (False, gaps[1::2].mean(), 4),
        (True, gaps[0::2].mean(), 4),
    )
    assert ask("SELECT max(gap) FROM runs WHERE lr = 1", **values).rows == ((8.0,),)
    assert bits(r[0] for r in ask("SELECT lpf FROM runs").rows) == bits(NUMBERS)
    lists = ask("SELECT milestones FROM runs LIMIT 2").rows
    assert lists == (([100, 120],), (None,))


def test_names_of_columns_come_once():
    said = ask('SELECT seed, seed, 1 AS "seed_2", seed FROM runs LIMIT 1')
    assert said == Answer(("seed", "seed_2", "seed_2_2", "seed_3"), ((0, 0, 1, 0),))


def test_studies_are_joined_by_their_names():
    text = 'SELECT count(*) FROM runs JOIN "grid@full" USING (seed)'
    assert query(text, {"runs": table(), "grid@full": table()}).rows == ((8,),)


@pytest.mark.parametrize(
    "text",
    [
        "COPY runs TO '{path}'",
        "SELECT * FROM read_csv('{path}')",
        "SELECT * FROM '{path}'",
        "ATTACH '{path}.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "CREATE TABLE a AS SELECT 1",
        "SELECT * FROM secrets",  # a variable of this module
        "SELECT 1; SELECT 2",
        "",
    ],
)
def test_sql_reads_nothing_outside_and_writes_nothing(tmp_path, text):
    secrets = pandas.DataFrame({"a": [1]})
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(UsageError) as refused:
        ask(text.format(path=tmp_path / "a.csv"))
    assert "\n" not in str(refused.value)
    assert (tmp_path / "a.csv").read_text() == "a\n1\n"
    assert len(list(tmp_path.iterdir())) == len(secrets)


@pytest.mark.parametrize("text", ["SELEC", "SELECT lrr FROM runs", "SELECT lr FROM r"])
def test_a_query_with_a_mistake_is_one_sentence_with_the_columns(text):
    known = r'^the query cannot be answered \(.*\); the columns of "runs" are trial, '
    with pytest.raises(UsageError, match=known) as refused:
        ask(text)
    assert "\n" not in str(refused.value)
