"""Pictures of claims say when the numbers in them do not compare."""

import dataclasses

import pytest

from steppe import plots
from steppe.pages.templating import template
from steppe_lab.experiments import find_experiment
from steppe_lab.reports.reproduction import pictures as module
from steppe_lab.reports.reproduction.pictures import pictures
from steppe_lab.reproduction.results import ClaimResult, Row
from steppe_lab.reproduction.verdicts import Ours, exactly


@pytest.mark.parametrize("verdict", ["not run at this scale", "not reproduced"])
def test_a_picture_says_that_smaller_networks_do_not_compare(verdict):
    claim = find_experiment("zhuang2022_gsam").claim("cifar10")
    rows = [
        Row(
            cell=cell,
            published=cell.published,
            ours=Ours(value=exactly(1.0)),
            verdict=verdict,
        )
        for cell in claim.cells
    ]
    (picture,) = pictures(ClaimResult(claim=claim, rows=tuple(rows)))
    smaller = verdict == "not run at this scale"
    assert ("not comparable" in picture.caption) == smaller


def test_cells_whose_names_end_alike_have_a_dot_each(monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "intervals", lambda values, **_: drawn.update(values))
    monkeypatch.setattr(module, "pictured", lambda draw, **_: draw())
    claim = find_experiment("zhuang2022_gsam").claim("cifar10")
    rows = [
        Row(
            cell=dataclasses.replace(
                cell, name=f"{number} of two in the same long table"
            ),
            published=cell.published,
            ours=Ours(value=exactly(1.0)),
            verdict="reproduced",
        )
        for number, cell in enumerate(claim.cells[:2])
    ]
    pictures(ClaimResult(claim=claim, rows=tuple(rows)))
    assert len(drawn["published"]) == 2


def test_words_between_backticks_are_code_on_a_page():
    sentence = "`steppe evaluate <RUN>` is <b>it</b>"
    shown = template("page.html.j2").environment.filters["coded"](sentence)
    expected = "<code>steppe evaluate &lt;RUN&gt;</code> is &lt;b&gt;it&lt;/b&gt;"
    assert shown == expected
