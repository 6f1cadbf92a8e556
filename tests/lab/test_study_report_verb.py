"""`steppe study report`: statistics of tables with known answers, and of real ones."""

import csv
import io
import json
import math

import pytest
from rich.console import Console

from steppe_lab.cli import main
from steppe_lab.reports.study.report import StudyReport
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.study.summary import summarise
from steppe_lab.studies.table import Dropped, StudyTable


def simpson():
    """Two groups: within each the measure falls with the gap, over both it rises."""
    rows = [(group, i) for group in (0, 1) for i in range(20)]
    return {
        "sam": ["no" if group else "yes" for group, _ in rows],
        "lr": [0.1 * (1 + i % 5) for _, i in rows],
        "seed": [i // 5 for _, i in rows],
        "gap": [100.0 * group + i for group, i in rows],
        "trace": [1000.0 * group - i for group, i in rows],
        "exact": [math.exp((100.0 * group + i) / 50) for group, i in rows],
    }


def study(columns=None, **fields):
    return StudyTable(
        "made", columns or simpson(), ("sam", "lr"), ("trace", "exact"), "gap", **fields
    )


def test_correlations_of_a_table_are_those_of_its_pairs():
    # Each row is a configuration: ten of them would be too few for a warning.
    made = summarise(study(group=("sam", "lr", "seed")))
    exact, trace = made.measures
    assert (exact.name, exact.tau.value) == ("exact", pytest.approx(1))
    # Of 780 pairs 400 are of two groups and rise, 380 of one and fall.
    assert trace.tau.value == pytest.approx((400 - 380) / 780)
    groups = {(each.measure, each.factor): each for each in made.within}
    within = groups["trace", "sam"]
    assert within.within.value == pytest.approx(-1)
    assert within.groups == {
        "no": (pytest.approx(-1), 20),
        "yes": (pytest.approx(-1), 20),
    }
    assert within.warning
    assert not groups["exact", "sam"].warning
    assert any(s.startswith("Simpson's paradox in trace") for s in answer(made))


def test_the_best_single_hyper_parameter_is_the_bar():
    made = summarise(study())
    # sam orders 400 of 780 pairs and ties the others: 400 / sqrt(780 x 400).
    assert made.best == "sam"
    assert made.best_baseline.tau.value == pytest.approx(math.sqrt(400 / 780))
    assert {each.name for each in made.baselines} >= {"sam", "lr", "additive"}
    exact = made.measures[0]
    assert exact.difference.value == pytest.approx(1 - math.sqrt(400 / 780))


def bare(**columns):
    given = {"gap": [1.0, 2.0, 3.0, 4.0], "m": [1.0, 2.0, 3.0, 4.0], "lr": [1, 1, 2, 2]}
    return given | columns


@pytest.mark.parametrize(
    ("columns", "factors", "measures"),
    [
        ({"gap": [1.0], "m": [1.0], "lr": [1]}, ("lr",), ("m",)),
        ({"gap": [], "m": [], "lr": []}, ("lr",), ("m",)),
        (bare(m=[None, math.nan, math.inf, None]), ("lr",), ("m",)),
        (bare(m=[2.0] * 4, gap=[1.0] * 4), ("lr",), ("m",)),
        (bare(), (), ("m",)),
        (bare(), ("lr",), ()),
        (bare(lr=[True, False, None, False]), ("lr",), ("m",)),
        (bare(lr=["<b>", "&", "a_b", "a_b"], seed=[0, 1, 0, 1]), ("lr",), ("m",)),
    ],
    ids=["one", "none", "nan", "ties", "no factor", "no measure", "bool", "texts"],
)
def test_every_table_has_a_report(columns, factors, measures, tmp_path):
    dropped = (Dropped("a", "failed: no space"),)
    table = StudyTable("bare", columns, factors, measures, "gap", dropped=dropped)
    report = StudyReport([summarise(table)])
    json.dumps(report.records())
    report.csv()
    for _, sentences, tables in report.terminal(100):
        assert sentences
        for each in tables:
            Console(file=io.StringIO(), width=100).print(each)
    page = report.publish(tmp_path / "page.html", "steppe study report")
    assert "failed: no space" in page.read_text()


def as_csv(folder, columns):
    path = folder / "made.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
    return str(path)


@pytest.mark.slow
def test_the_verb_prints_sentences_json_and_rows_of_a_table(tmp_path, capsys):
    table = as_csv(tmp_path, simpson())
    page = tmp_path / "deep" / "page.html"
    words = ["study", "report", table, "--where", "lr < 0.45", "--page", str(page)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "gap is taken for the gap" in shown
    assert "8 of 40 rows are not used" in shown
    assert shown.strip().endswith(str(page))
    text = page.read_text()
    assert "lr &lt; 0.45" in text
    assert "32 of 40 in the file" in text
    assert "planned" not in text
    box = text.partition('id="answer"')[2].partition('id="scatter"')[0]
    assert "gap is taken for the gap" in box
    assert main(["study", "report", table, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["factors"] == ["sam", "lr"]
    assert main(["study", "report", table, table, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in rows if row["kind"] == "measure"] == [
        *("exact", "trace"),
        *("exact", "trace"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["TABLE", "--json", "--csv"], "give one of them"),
        (["TABLE", "stored"], "give a command for each"),
        (["a", "b"], "give a command for each"),
        (["none.csv"], "there is no file none.csv"),
        ([__file__], "must end in .csv, .tsv, .txt, .parquet, got"),
        (
            ["TABLE", "--gap", "Gap"],
            "no column Gap: did you mean 'gap'? The columns are sam",
        ),
        (["TABLE", "--measures", "exa"], "no column exa: did you mean 'exact'?"),
        (["TABLE", "--measures", "sam"], "must hold numbers"),
        (["TABLE", "--where", "lr =< 1"], "a condition must be"),
        (["TABLE", "--page", "."], "cannot write"),
    ],
)
def test_a_mistake_gets_one_sentence(words, said, tmp_path, capsys):
    table = as_csv(tmp_path, simpson())
    words = [table if word == "TABLE" else word for word in words]
    assert main(["study", "report", *words, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


PUBLISHED = {  # tau of all, within SAM and within plain training
    "fmnist": (0.50, 0.03, 0.18),
    "cifar10": (0.30, 0.42, 0.11),
}


@pytest.mark.parametrize("data", PUBLISHED)
def test_the_published_tables_have_the_published_correlations(data, data_dir, capsys):
    table = data_dir / "tables" / f"minimum_sharpness_{data}.csv"
    assert main(["study", "report", str(table), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    (measure,) = record["measures"]
    (within,) = [e for e in record["within"] if e["factor"] == "Minimization"]
    taus = (
        measure["tau"]["value"],
        within["groups"]["SAM"]["tau"],
        within["groups"]["standard"]["tau"],
    )
    assert taus == pytest.approx(PUBLISHED[data], abs=0.0051)
    assert record["coverage"]["done"] == 36
    assert within["simpson"] == (data == "fmnist")
