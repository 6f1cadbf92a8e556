"""Tables of other programs: files, conditions on rows, guesses of their parts."""

import math

import pytest

from steppe.errors import DataError, SettingError, StoreError, UsageError
from steppe_lab.studies.guessing import table_from
from steppe_lab.studies.parts import Parts, with_parts
from steppe_lab.studies.row_conditions import rows_kept
from steppe_lab.studies.table import StudyTable
from steppe_lab.studies.table_files import is_table, read_columns


def written(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_columns_are_numbers_where_all_cells_are_and_empty_cells_are_none(tmp_path):
    text = "\ufeffn;x;who;b\n1;0.5;a;\n2;nan;;\n3;1e-3;b c;\n"
    assert read_columns(written(tmp_path, text)) == {
        "n": [1, 2, 3],
        "x": [0.5, None, 0.001],
        "who": ["a", None, "b c"],
        "b": [None, None, None],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have a heading and a row"),
        ("a,b\n", "must have a heading and a row"),
        ("a,b\n1,2\n1\n", r"row 3 has 1; put cells"),
        ("a,a\n1,2\n", "has 'a' twice"),
        ("# by hand\na,b\n1,2\n", "first line .* got '# by hand'; remove"),
        ("a|b\n1|2\n", r"with commas, .* got 'a\|b'"),
        ("sep=;\na;b\n1\n", "row 3 has 1"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_columns(written(tmp_path, text))


def test_other_letters_and_missing_files_get_one_sentence(tmp_path):
    with pytest.raises(DataError, match="not UTF-8"):
        read_columns(written(tmp_path, "größe\n1\n", encoding="latin-1"))
    with pytest.raises(DataError, match=r"no file .*none\.csv; name one"):
        read_columns(tmp_path / "none.csv")
    with pytest.raises(StoreError, match="cannot read"):
        read_columns(tmp_path)


def test_decimal_commas_are_numbers_where_no_commas_part_the_cells(tmp_path):
    text = "n;x;who;both\n1;0,5;a,b;1.234,5\n2;-1,5e-3;c;1,5\n"
    notes = []
    assert read_columns(written(tmp_path, text), notes) == {
        "n": [1, 2],
        "x": [0.5, -0.0015],
        "who": ["a,b", "c"],
        "both": ["1.234,5", "1,5"],
    }
    assert notes == ["Commas within numbers are read as decimal points: 0,5 is 0.5."]


@pytest.mark.parametrize("parts", [Parts(), Parts(gap="gap")])
def test_texts_with_decimal_commas_are_no_gap(tmp_path, parts):
    text = 'lr,gap,m\n1,"1,5",2\n1,"2,5",3\n'
    columns = read_columns(written(tmp_path, text))
    with pytest.raises(DataError, match="gap holds texts such as '1,5', which is no"):
        table_from("t", columns, parts)


@pytest.mark.parametrize("text", ["sep=;\r\na;b\r\n1;2\r\n", '"sep=;"\na;b\n1;2\n'])
def test_the_line_that_names_the_separator_for_spreadsheets_is_no_heading(
    tmp_path, text
):
    assert read_columns(written(tmp_path, text)) == {"a": [1], "b": [2]}


@pytest.mark.parametrize("name", ["t.tsv", "t.TXT"])
def test_tabs_may_part_the_cells_of_text_files(tmp_path, name):
    path = written(tmp_path, "a\tb\n1\t2\n", name)
    assert is_table(str(path))
    assert read_columns(path) == {"a": [1], "b": [2]}


@pytest.mark.parametrize("text", ["-", "1,234.50", "12.5 %", "0.1 ± 0.01"])
def test_numbers_with_a_text_among_them_are_left_out_by_name(text):
    columns = {**grid(), "m": [*map(str, range(11)), text]}
    guess = table_from("grid", columns, Parts())
    assert "m" not in guess.table.measures
    said = f"m is left out: it looks like numbers, and {text!r} is none; write"
    assert any(note.startswith(said) for note in guess.notes)
    for parts in (Parts(measures=("m",)), Parts(gap="m")):
        with pytest.raises(DataError, match="column m must hold numbers, and"):
            table_from("grid", columns, parts)


def test_words_are_no_numbers_with_a_text_among_them():
    columns = {**grid(), "note": ["1 of 3", "good", *"abcdefghij"]}
    assert not any("note" in each for each in table_from("g", columns, Parts()).notes)


def test_parquet_gives_the_same_columns(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "n": [1, 2],
        "x": [0.5, math.nan],
        "who": ["a", None],
        "on": [True, False],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    read = read_columns(tmp_path / "t.parquet")
    assert read == {**columns, "x": [0.5, None]}
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="no Parquet file"):
        read_columns(tmp_path / "bad.parquet")


COLUMNS = {
    "epoch": ["50.0", "100.0", "converged", "converged"],
    "train loss": [0.5, 0.1, 0.001, None],
    "who": ["a", "b", "a", "b"],
}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("epoch == converged", [2, 3]),
        ("epoch == 'converged' and who != b", [2]),
        ("epoch == 50", [0]),
        ("train loss < 0.2", [1, 2]),
        ("`train loss` < 0.2 and who in [a]", [2]),
        ("not who == a", [1, 3]),
    ],
)
def test_a_condition_keeps_the_rows_it_holds_for(text, kept):
    assert [i for i, keep in enumerate(rows_kept(COLUMNS, text)) if keep] == kept


def test_a_condition_with_unknown_names_or_without_a_form_is_refused():
    with pytest.raises(DataError, match="no column or value epochs; the columns are"):
        rows_kept(COLUMNS, "epochs == 50")
    with pytest.raises(SettingError, match="condition"):
        rows_kept(COLUMNS, "epoch == ")
    with pytest.raises(SettingError, match="compare values of one kind"):
        rows_kept(COLUMNS, "epoch < 70")


def grid():
    rows = [(w, lr, s) for w in (4, 8) for lr in (0.1, 0.01) for s in range(3)]
    gap = [w / 4 + 10 * lr + s / 10 for w, lr, s in rows]
    return {
        "": list(range(12)),
        "trial": [f"t{i}" for i in range(12)],
        "seed": [s for _, _, s in rows],
        "width": [w for w, _, _ in rows],
        "lr": [lr for _, lr, _ in rows],
        "optim": [f"sgd {lr}" for _, lr, _ in rows],
        "activation": ["relu"] * 12,
        "train_loss": [g / 9 for g in gap],
        "gap": gap,
        "trace": [g**2 for g in gap],
        "trace_stderr": [0.1] * 12,
        "constant": [1.0] * 12,
    }


def test_parts_are_guessed_from_names_and_values():
    guess = table_from("grid", grid(), Parts())
    table = guess.table
    assert (table.gap, table.factors, table.measures) == (
        "gap",
        ("width", "lr"),
        ("trace",),
    )
    assert "optim is left out: its values say those of lr." in guess.notes
    assert len(guess.notes) == 4
    assert "" not in table.columns


def test_parts_that_are_given_are_not_guessed():
    parts = Parts("train_loss", ("optim",), ("gap", "trace"), ("optim",), "width == 4")
    guess = table_from("grid", grid(), parts)
    assert guess.notes == ()
    table = guess.table
    assert (table.gap, table.factors, table.measures, table.group, len(table)) == (
        "train_loss",
        ("optim",),
        ("gap", "trace"),
        ("optim",),
        6,
    )
    assert {each.reason for each in table.dropped} == {"width == 4 does not hold"}
    assert table.dropped[0].trial == "t6"


def test_rows_without_a_gap_are_left_out_by_name():
    columns = grid()
    columns["gap"] = [None, math.inf, *columns["gap"][2:]]
    dropped = table_from("grid", columns, Parts()).table.dropped
    assert [(d.trial, d.reason) for d in dropped] == [
        ("t0", "no finite gap"),
        ("t1", "no finite gap"),
    ]
    with pytest.raises(UsageError, match="no row has a finite gap"):
        table_from("grid", {**columns, "gap": [math.nan] * 12}, Parts())


def test_what_cannot_be_guessed_is_asked_for():
    columns = grid()
    del columns["gap"]
    with pytest.raises(UsageError, match="name the one to be predicted with --gap, of"):
        table_from("grid", columns, Parts())
    with pytest.raises(UsageError, match="no column looks like a measure"):
        table_from("grid", {"gap": [1.0, 2.0], "lr": [1, 1]}, Parts())
    with pytest.raises(DataError, match="no column nothing; the columns are trial"):
        table_from("grid", grid(), Parts(gap="nothing"))


def test_rows_along_trainings_give_way_to_the_last_ones():
    columns = {"epoch": ["50", "converged"] * 4, "gap": [1.0, 2.0, 3.0, 4.0] * 2}
    columns["flatness"] = [float(i) for i in range(8)]
    guess = table_from("t", columns, Parts())
    assert guess.table.columns["gap"] == [2, 4, 2, 4]
    assert "Rows with epoch == converged alone are used" in guess.notes[0]


def test_a_stored_table_takes_other_parts():
    table = StudyTable("grid", grid(), ("width", "lr"), ("trace",), "gap")
    other = with_parts(table, Parts(gap="train_loss", where="lr == 0.1"))
    assert (other.gap, other.factors, other.measures, len(other)) == (
        "train_loss",
        ("width", "lr"),
        ("trace",),
        6,
    )
    assert with_parts(table, Parts()).columns == table.columns
    with pytest.raises(DataError, match="no column none"):
        with_parts(table, Parts(gap="none"))


@pytest.mark.parametrize("data", ["fmnist", "cifar10"])
def test_the_published_tables_are_guessed(data, data_dir):
    columns = read_columns(data_dir / "tables" / f"minimum_sharpness_{data}.csv")
    table = table_from(data, columns, Parts()).table
    assert (len(table), table.gap, table.factors, table.measures) == (
        36,
        "Generalization gap",
        ("Minimization", "Optimizer", "Architecture"),
        ("Sharpness",),
    )
