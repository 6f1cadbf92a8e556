"""Mistakes of every kind: one sentence, exit code 2, and nothing is begun."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bad_files import write_all
from bad_inputs import CASES
from steppe_lab.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("bad")
    write_all(made)
    return made


@pytest.mark.timeout(20)  # absurd numbers are refused, not tried
@pytest.mark.parametrize(
    ("arguments", "message"), CASES, ids=[" ".join(c[0])[:60] for c in CASES]
)
def test_a_bad_input_is_one_sentence_and_nothing_is_begun(
    folder, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = sorted(Path().rglob("*"))
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("steppe: ")
    assert err.count("\n") == 1
    assert len(err) < 1500
    assert sorted(Path().rglob("*")) == before


def test_the_table_holds_each_input_once():
    inputs = [tuple(arguments) for arguments, _ in CASES]
    assert len(set(inputs)) == len(inputs) >= 120
