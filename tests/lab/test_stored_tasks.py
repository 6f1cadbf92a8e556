"""What a stored result says of its task is data, and older results say nothing."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from steppe_lab.cli import main
from steppe_lab.store.json_files import read_record, write_record
from steppe_lab.tasks import stored_headline
from steppe_lab.tasks.classification import Classification

QUICK = ["--epochs", "1", "--train-samples", "64", "--model", "mlp:hidden=4"]


def altered(out, **change):
    """Change the result of the only training in a store; None leaves an entry out."""
    (path,) = out.glob("runs/*/result.json")
    result = read_record(path) | change
    write_record(path, {k: v for k, v in result.items() if v is not None})


@pytest.mark.slow
def test_a_result_names_no_code_that_runs(tmp_path, monkeypatch, capsys):
    out = tmp_path / "runs"
    command = ["train", "--data", "digits", *QUICK, "--out", str(out)]
    assert main(command) == 0
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_task.py").write_text(
        f"open({str(tmp_path / 'touched')!r}, 'w')\n"
    )
    altered(out, task="evil_task:run")
    assert main(command) == 0
    assert not (tmp_path / "touched").exists()


@pytest.mark.slow
def test_results_from_before_there_were_tasks_are_of_classification(tmp_path, capsys):
    out = tmp_path / "runs"
    command = ["train", "--data", "digits", *QUICK, "--out", str(out)]
    assert main(command) == 0
    before = capsys.readouterr().out
    altered(out, task=None, headline=None)
    assert main(command) == 0
    assert capsys.readouterr().out == before
    assert stored_headline({}) == Classification.headline


@pytest.mark.parametrize(
    "record", [{"name": "error"}, "error", {"name": 3, "title": "x", "units": ""}]
)
def test_a_headline_that_is_none_is_refused(record):
    with pytest.raises(ValidationError):
        stored_headline({"headline": record})
