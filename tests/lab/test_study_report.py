"""Reports of studies: findings, sentences, tables, LaTeX, records."""

import base64
import csv
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from steppe.pages.templating import source_of
from steppe.plots.canvas import looks
from steppe_lab.reports.study import findings as found
from steppe_lab.reports.study import tables
from steppe_lab.reports.study.along import along_factors
from steppe_lab.reports.study.coverage import coverage_of
from steppe_lab.reports.study.latex import latex_rows
from steppe_lab.reports.study.record import record, rows, table_csv
from steppe_lab.reports.study.results import HELD_OUT, Bounded, Within
from steppe_lab.reports.study.scores import scores_of
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.study.summary import summarise
from steppe_lab.reports.study.terminal import terminal_tables
from steppe_lab.reports.study.typed_columns import typed_columns
from steppe_lab.statistics import kendall
from steppe_lab.statistics.holm import holm_adjusted
from steppe_lab.studies.parts import Parts, with_parts
from steppe_lab.studies.table import Dropped, StudyTable
from study_reports import WARNING, predictor, study_table, summary


def kinds(made):
    return [type(each) for each in found.findings(made)]


def of(kind, made):
    (one,) = [each for each in found.findings(made) if isinstance(each, kind)]
    return one


def test_the_best_measure_stands_beside_the_best_baseline():
    made = summary()
    best = of(found.BestMeasure, made)
    assert (best.measure, best.among, best.networks) == ("measure_0", 3, 60)
    against = of(found.AgainstBaseline, made)
    assert (against.baseline, against.baseline_tau.value) == ("label_noise", 0.6)
    assert against.difference.value == pytest.approx(0.1)
    counted = of(found.AboveBaseline, made)
    assert (counted.above, counted.below, counted.among) == (1, 0, 3)
    assert answer(made)[1] == (
        "The baseline label_noise, which needs no measurement, has 0.600 [0.500, "
        "0.700]; measure_0 is above it by 0.100 [0.050, 0.150]."
    )


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Bounded(-0.1, -0.2, -0.05), "m is below it by 0.100 [0.050, 0.200]."),
        (Bounded(0.1, -0.2, 0.3), "does not tell which of them predicts"),
        (Bounded(), "has 0.600 [0.500, 0.700]."),
    ],
)
def test_a_sentence_says_on_which_side_of_the_baseline_a_measure_is(difference, said):
    made = summary(measures=[predictor("m", 0.5, difference=difference)])
    assert said in answer(made)[1]


def test_a_report_of_many_measures_allows_for_all_of_them():
    def measure(name, p, side=1):
        apart = Bounded(0.1 * side, *sorted((0.01 * side, 0.2 * side)))
        return predictor(name, 0.4 * side, difference=apart, difference_p=p, tau_p=p)

    made = summary(
        measures=[measure("a", 0.2), measure("b", 0.04), measure("c", 0.2, -1)]
    )
    counted = of(found.AboveBaseline, made)
    assert (counted.above, counted.below, counted.among) == (1, 0, 3)
    assert found.NegativeTau not in kinds(made)
    assert "is within noise once all measures are allowed for" in answer(made)[1]


def test_measures_without_relation_seldom_pass_among_many():
    generator = np.random.default_rng(3)
    names = [f"m{i}" for i in range(12)]
    columns = {"lr": [0.1, 0.2] * 30, "gap": list(generator.normal(size=60))}
    columns |= {name: list(generator.normal(size=60)) for name in names}
    made = summarise(
        StudyTable("noise", columns, ("lr",), tuple(names), "gap", ("gap",))
    )
    alone = {each.name: kendall(columns, each.name, "gap").p for each in made.measures}
    expected = holm_adjusted(alone)
    assert {each.name: each.tau_p for each in made.measures} == pytest.approx(expected)
    least = min(each.difference_p for each in made.measures)
    assert least >= 12 * 2 / 1001  # of 1,000 draws, with the data as one more


def test_simpson_is_warned_of_once_with_the_groups():
    within = tuple(
        Within(name, "optimizer", 0.5, Bounded(0.1), {"sgd": (0.18, 18)}, WARNING)
        for name in ("measure_2", "measure_0")
    )
    made = summary(within=within)
    warned = of(found.Simpson, made)
    assert (warned.measure, warned.factor, warned.others) == (
        "measure_0",
        "optimizer",
        1,
    )
    text = next(s for s in answer(made) if s.startswith("Simpson"))
    assert text.startswith("Simpson's paradox in measure_0: tau is 0.70 over all rows")
    assert text.endswith("for 1 further pair of measure and factor too.")


def test_a_warning_has_the_minus_of_the_other_sentences():
    warning = "Simpson's paradox: tau is -0.7 [-0.9, 0.1] over all rows but 0.1 at a-1."
    within = (Within("m", "a", 0.5, Bounded(0.1), {"a-1": (0.18, 18)}, warning),)
    text = next(s for s in answer(summary(within=within)) if s.startswith("Simpson"))
    assert "tau is −0.7 [−0.9, 0.1] over all rows but 0.1 at a-1." in text


def test_nothing_is_said_where_nothing_is_defined():
    lone = predictor("m", count=0, tau=math.nan)
    assert kinds(summary(measures=[lone]))[0] is found.NoMeasure
    assert (
        "no measure has values for two networks" in answer(summary(measures=[lone]))[0]
    )


def test_negative_correlations_and_low_ceilings_are_named():
    made = summary(measures=[predictor("a", -0.4), predictor("b", 0.1, ceiling=0.7)])
    assert of(found.NegativeTau, made).measures == ("a",)
    assert of(found.LowCeiling, made).measures == (("b", 0.7),)
    assert "errors of b leave a τ of 0.70 at most" in " ".join(answer(made))
    assert of(found.FewNetworks, summary(study_table(12))).count == 12


@pytest.mark.parametrize(("tau", "said"), [(0.8, True), (0.5, False)])
def test_all_hyper_parameters_together_are_named_where_they_beat_each_alone(tau, said):
    bars = [predictor("label_noise", -0.6), predictor(HELD_OUT, tau)]
    made = summary(baselines=tuple(bars))
    assert (found.Together in kinds(made)) is said
    text = "All hyper-parameters together have 0.800 [0.700, 0.900], by an additive"
    assert any(text in sentence for sentence in answer(made)) is said


def test_many_networks_of_few_configurations_are_named():
    table = study_table()
    assert found.FewConfigurations not in kinds(summary(table))
    coarse = replace(table, group=("optimizer",))
    few = of(found.FewConfigurations, summary(coarse))
    assert (few.count, few.group) == (2, ("optimizer",))
    assert any(
        "has 2 configurations by optimizer" in s for s in answer(summary(coarse))
    )


def test_coverage_counts_reasons_whose_numbers_differ_as_one():
    dropped = (
        Dropped("a", "train_loss <= 0.01 does not hold (train_loss is 0.5)"),
        Dropped("b", "train_loss <= 0.01 does not hold (train_loss is 1.25e-2)"),
        Dropped("c", "failed: out of memory"),
    )
    coverage = coverage_of(study_table(dropped=dropped))
    assert (coverage.planned, coverage.done) == (63, 60)
    assert [(r.text, len(r.trials)) for r in coverage.reasons] == [
        ("train_loss <= 0.01 does not hold (train_loss is …)", 2),
        ("failed: out of memory", 1),
    ]
    assert coverage.levels["optimizer"] == (("sam", 30), ("sgd", 30))
    assert [level for level, _ in coverage.levels["label_noise"]] == [
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
    ]
    text = next(
        s for s in answer(summary(study_table(dropped=dropped))) if "trials" in s
    )
    assert text.startswith("3 of 63 trials are not in the table (most of them: train_")


def test_scores_are_means_with_the_interval_of_the_authors_and_that_of_student():
    columns = {
        "optimizer": ["sgd", "sgd", "sam"],
        "test_error": [0.1, 0.3, 0.05],
        "best_test_error": [0.1, 0.2, None],
        "test_loss": [1.0, 1.0, 1.0],
        "gap": [1.0, 2.0, 3.0],
    }
    scores = scores_of(StudyTable("t", columns, ("optimizer",), (), "gap"))
    assert (scores.score, scores.best_on_test) == ("test_error", True)
    sam, sgd = scores.rows
    assert sgd.last.interval.mean == pytest.approx(0.2)
    assert sgd.last.normal == pytest.approx(1.96 * 0.1 / math.sqrt(2))
    # The t quantile of one degree of freedom is 12.706, the sample deviation 0.1414.
    assert sgd.last.interval.half_width == pytest.approx(12.7062 * 0.1, rel=1e-4)
    assert (sam.best, sam.count) == (None, 1)
    table = tables.scores(scores)
    assert table.heads[-1] == "best epoch †"
    assert table.rows[1][2].text == "0.20 ± 0.14"
    assert scores_of(StudyTable("t", {"gap": [1.0]}, (), (), "gap")) is None


def test_columns_along_a_factor_have_tau_of_levels_and_means():
    columns = {
        "noise": [0.0, 0.2, 0.4, 0.6, 0.8] * 2,
        "two": [0, 1] * 5,
        "gap": [0.0, 2.0, 4.0, 6.0, 8.0, 2.0, 4.0, 6.0, 8.0, 2.0],
        "m": [5.0, 4.0, 3.0, 2.0, 1.0, None, 4.0, 3.0, 2.0, 1.0],
    }
    table = StudyTable("t", columns, ("noise", "two"), ("m",), "gap")
    gap, measure = along_factors(table, ("gap", "m"))
    assert [i.mean for i in gap.means.values()] == [1, 3, 5, 7, 5]
    # Of ten pairs eight rise, one falls and one is tied: 7 / sqrt(10 x 9).
    assert gap.tau == pytest.approx(7 / math.sqrt(90))
    assert measure.tau == pytest.approx(-1)
    assert measure.means[0.0].count == 1


def test_typed_columns_come_back_and_end_no_element():
    table = study_table(60, 2)
    columns = dict(table.columns) | {"optimizer": ["</script>", "b"] * 30}
    columns["measure_0"] = [None, math.inf, 1e300, *columns["measure_0"][3:]]
    table = StudyTable("t", columns, table.factors, table.measures, "gap")
    text = typed_columns(table, ("measure_1", "measure_0"))
    assert "</" not in text
    packed = json.loads(text)
    assert [m["name"] for m in packed["measures"]] == ["measure_1", "measure_0"]
    values = np.frombuffer(base64.b64decode(packed["measures"][1]["data"]), "<f4")
    assert np.isnan(values[:3]).all()
    np.testing.assert_allclose(values[3:], columns["measure_0"][3:], rtol=1e-6)
    noise, method, seed = packed["groups"]
    assert (noise["ordered"], method["ordered"], seed["name"]) == (True, False, "seed")
    codes = np.frombuffer(base64.b64decode(method["data"]), "<u2")
    assert [method["levels"][code] for code in codes] == columns["optimizer"]


def test_latex_escapes_names_and_has_a_cell_for_each_head():
    made = summary(measures=[predictor("a_b & 5%", 0.5, psi=math.nan)])
    lines = latex_rows(made).splitlines()
    assert lines[2].count("&") == 4
    assert lines[4] == (
        r"a\_b \& 5\% & $0.500$ [$0.400$, $0.600$] & $0.500$ & $0.250$ & -- \\"
    )
    assert latex_rows(made).count(r"\\" + "\n") == 4


@pytest.mark.parametrize(("measures", "width"), [(3, 100), (40, 100), (3, 80)])
def test_tables_fit_a_terminal_and_lose_no_column(measures, width):
    names = [predictor(f"a_long_name_{i}", 0.7, ceiling=0.8) for i in range(measures)]
    made = summary(study_table(60, measures), measures=names)
    screen = io.StringIO()
    for table in terminal_tables(made, width):
        Console(file=screen, width=width).print(table)
    text = screen.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "0.700 [0.600, 0.800]" in text
    assert "(baseline)" in text
    for head in ("min CMI", "worst", "noise ceiling", "networks", "along each factor"):
        assert all(word in text for word in head.split()), head
    assert text.count("Simpson") == 1
    assert text.count("0.800 \n") == measures  # the last column, of noise ceilings


def test_a_table_that_goes_on_says_so_and_has_two_columns_at_least():
    names = [predictor(f"a_long_name_of_a_measure_{i}", ceiling=0.8) for i in range(3)]
    made = summary(study_table(60, 3), measures=names)
    for width in range(50, 110, 3):
        shown = list(terminal_tables(made, width))
        titles = [str(each.title) for each in shown]
        for place, each in enumerate(shown):
            if titles[place].endswith(", continued"):
                before = len(shown[place - 1].columns)
                assert len(each.columns) > 2 or before <= 3, (width, titles[place])
    assert any(", continued" in str(t.title) for t in terminal_tables(made, 60))


def test_names_are_folded_where_that_keeps_a_table_whole():
    names = [predictor(f"a_long_name_of_a_measure_{i}", ceiling=0.8) for i in range(3)]
    made = summary(study_table(60, 3), measures=names)
    first, second, *_ = terminal_tables(made, 80)
    assert len(first.columns) == 4
    assert not str(second.title).endswith(", continued")


def test_directions_of_baselines_and_scores_of_single_networks_are_explained():
    fallen = predictor("label_noise", -0.6, is_baseline=True, difference=Bounded())
    said = " ".join(answer(summary(baselines=(fallen,))))
    assert "0.600 turned round (the direction of a baseline is fitted, that" in said
    columns = {"test_error": [0.1, 0.2], "who": ["a", "b"], "gap": [1.0, 2.0]}
    scores = scores_of(StudyTable("t", columns, ("who",), (), "gap"))
    assert tables.scores(scores).heads[-1] == "test_error"


def test_levels_have_one_colour_in_both_scatters():
    script = source_of("study.js", "steppe_lab.reports.study")
    for theme in ("light", "dark"):
        colours = [each.colour for each in looks(map(str, range(8)), theme).values()]
        drawn = re.search(rf"{theme}: \[(\"#.*?)\]", script)[1]
        assert json.loads(f"[{drawn}]") == colours
    assert "group.ordered && group.levels.length > 8" in script


def test_records_and_rows_hold_the_same_numbers():
    made = summary()
    numbers = record(made)
    json.dumps(numbers)
    assert numbers["measures"][0]["tau"] == pytest.approx(
        {"value": 0.7, "low": 0.6, "high": 0.8}
    )
    assert numbers["within"][0]["simpson"] is True
    assert numbers["scores"]["best_on_test"] is True
    flat = rows(made)
    assert [row["kind"] for row in flat] == ["measure"] * 3 + ["baseline"] * 2
    assert flat[0]["tau_along_label_noise"] == 0.7
    read = list(csv.DictReader(io.StringIO(table_csv(made))))
    assert [float(row["gap"]) for row in read] == pytest.approx(
        made.table.columns["gap"]
    )


def test_pairs_too_close_for_the_test_samples_are_no_sign_errors():
    # A wrong order by 0.1 points, and right ones by 20: 1,000 samples tell the latter.
    columns = {"lr": [1, 2] * 4, "width": [0, 0, 1, 1, 2, 2, 3, 3]}
    columns |= {"gap": [1.0, 1.1, 2.0, 22.0, 3.0, 23.0, 4.0, 24.0]}
    columns |= {"m": [2.0, 1.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0]}
    table = StudyTable("t", columns, ("lr", "width"), ("m",), "gap", test_samples=1000)
    only = {"environments": ("lr",)}
    assert summarise(table, **only).measures[0].worst.error == 0.0
    assert summarise(table, **only).measures[0].worst.pairs == 3
    assert "1,000 test samples (Hoeffding)" in summarise(table).notes[-1]
    other = replace(table, test_samples=None)
    assert summarise(other, **only).measures[0].worst.error == 0.25
    given = summarise(other, **only, test_samples=10).measures[0].worst
    assert given.pairs == 0
    columns["other"] = columns["gap"]
    assert (
        with_parts(replace(table, columns=columns), Parts("other")).test_samples is None
    )
