"""The best level of a swept setting in the report of a study."""

import dataclasses

import pytest

from steppe_lab.reports.study import tables
from steppe_lab.reports.study.optima import optima_of
from steppe_lab.reports.study.page import render
from steppe_lab.reports.study.record import record
from steppe_lab.reports.study.sentences import answer
from steppe_lab.studies.table import StudyTable
from study_reports import summary

ERRORS = {  # by method and radius, of seeds 0, 1 and 2
    ("sam", 0.1): [0.30, 0.31, 0.32],
    ("sam", 0.2): [0.10, 0.11, 0.12],
    ("sam", 0.5): [0.11, 0.10, 0.13],
    ("asam", 0.5): [0.40, 0.41, 0.42],
    ("asam", 1.0): [0.30, 0.31, 0.32],
    ("asam", 2.0): [0.20, 0.21, 0.22],
}


def sweep(**columns):
    rows = [
        (method, rho, seed, error)
        for (method, rho), errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]
    cells = map(list, zip(*rows, strict=True))
    made = dict(zip(("optimizer", "rho", "seed", "test_error"), cells, strict=True))
    made |= {"gap": [100 * error for error in made["test_error"]]}
    made |= {"lpf": [error + 0.1 for error in made["test_error"]], **columns}
    return StudyTable("sweep", made, ("optimizer", "rho"), ("lpf",), "gap")


def test_each_method_has_its_best_radius_with_an_interval():
    sam, asam = optima_of(sweep(), "test_error")
    assert (sam.words, sam.optimum.best) == (("sam",), 0.2)
    assert (sam.optimum.low, sam.optimum.high) == (0.2, 0.5)
    assert (asam.words, asam.optimum.candidates) == (("asam",), (2.0,))
    assert (sam.optimum.at_edge, asam.optimum.at_edge) == (False, True)


def test_report_names_the_optimum_in_words_in_a_table_and_in_json():
    table = sweep()
    made = summary(table, optima=optima_of(table, "test_error"))
    assert (
        "Best rho by test_error, and where the truly best one lies with 95 %: sam: 0.2 "
        "(0.2 to 0.5); asam: 2.0 alone. That of asam lies at "
        "the edge of what was tried; try levels beyond it."
    ) in answer(made)
    first, second = tables.optima(made).rows
    assert [cell.text for cell in first] == ["sam", "0.2", "0.2 to 0.5", "0.1100", "3"]
    assert second[1].small == "at the edge"
    saved = record(made)["optima"]
    assert [each["optimum"]["best"] for each in saved] == [0.2, 2.0]
    page = render([made], command="steppe study report", versions={})
    assert "Best rho by test_error" in page
    assert 'id="scores"' in page


@pytest.mark.parametrize(
    "other",
    [
        {"seed": [0] * 18},
        {"rho": ["small", "large"] * 9},
        {"rho": [0.1, 0.2] * 9},
        {"optimizer": [1, 2, 3] * 6},
    ],
)
def test_nothing_is_swept_without_seeds_an_order_three_levels_or_alone(other):
    assert optima_of(sweep(**other), "test_error") == ()


def test_accuracy_is_best_where_it_is_largest():
    table = sweep()
    columns = dict(table.columns)
    columns["test_accuracy"] = [1 - error for error in columns["test_error"]]
    same = dataclasses.replace(table, columns=columns)
    sam, _ = optima_of(same, "test_accuracy")
    assert (sam.optimum.best, sam.optimum.low, sam.optimum.high) == (0.2, 0.2, 0.5)
