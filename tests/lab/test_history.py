"""The table of a training: `history.csv`, TensorBoard and lines on the terminal."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from steppe_lab import datasets
from steppe_lab.cli.training_log import Lines, elapsed, training_log
from steppe_lab.execution.worker import _Reports
from steppe_lab.progress import Progress
from steppe_lab.tasks.classification import Classification
from steppe_lab.tasks.next_token import NextToken
from steppe_lab.training.callbacks import history as histories
from steppe_lab.training.callbacks.history import UNITS, as_csv, unit_of
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe

TIMES = {"seconds", "samples_per_second", "best"}


def recipe(optimizer: str = "sgd", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": 60,
        "epochs": 4,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def trained(made: Recipe, digits, folder, **how):
    return train(made, made.selection.apply(digits), folder=folder, **how)


def table(folder) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(row, without=TIMES):
    return {n: float(v) for n, v in row.items() if v != "" and n not in without}


@pytest.mark.parametrize("more", [{}, {"evaluate_every": 3}, {"optimizer": "sgd+ema"}])
def test_the_table_is_the_history_with_times(more, digits, tmp_path):
    done = trained(recipe(**more), digits, tmp_path)
    rows = table(tmp_path)
    assert [numbers(row) for row in rows] == done.history
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] <= done.seconds
    assert all(float(row["samples_per_second"]) > 0 for row in rows)
    best = [row["epoch"] for row in rows if row["best"] == "1"]
    assert best[-1] == str(done.best_epoch)
    errors = [float(r.get("average_test_error") or r["test_error"] or 9) for r in rows]
    lowest = [e for i, e in enumerate(errors) if e < min([8, *errors[:i]])]
    assert len(best) == len(lowest)


def test_a_training_that_was_stopped_keeps_the_times_of_its_epochs(digits, tmp_path):
    states: list[bytes] = []
    trained(recipe(), digits, tmp_path / "a", keep=states.append, keep_every=0)
    trained(recipe(), digits, tmp_path / "b", resume=states[1])
    before, after = table(tmp_path / "a"), table(tmp_path / "b")
    assert before[:2] == after[:2]
    assert [numbers(row) for row in before] == [numbers(row) for row in after]
    assert float(after[2]["seconds"]) > float(after[1]["seconds"])


def test_the_table_is_there_while_a_training_goes_on(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(histories, "WRITE_EVERY", 0.0)
    lengths: list[int] = []
    trained(
        recipe(),
        digits,
        tmp_path,
        report=lambda _: lengths.append(len(table(tmp_path))),
    )
    assert lengths == [1, 2, 3, 4]


def test_every_column_has_a_unit_and_the_page_names_them(digits, tmp_path):
    trained(recipe("sgd+ema"), digits, tmp_path)
    task = Classification()
    assert all(unit_of(column, task) for column in table(tmp_path)[0])
    assert unit_of("of_the_user", task) == ""
    assert unit_of("average_test_error", task) == "share of samples"
    assert unit_of("test_perplexity", NextToken()) != unit_of("test_loss", NextToken())
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    for column, unit in UNITS.items():
        assert f"| `{column}` | {unit} |" in page


def test_columns_of_options_have_units_of_their_own_and_no_other_has(digits, tmp_path):
    plain = set(trained(recipe(), digits, tmp_path / "plain").history[0])
    options = {
        "clip_norm": 1.0,
        "l2": 0.01,
        "over_epochs": (
            "batch_size=piecewise(boundaries=(2,),values=(64,32))",
            "weight_decay=piecewise(boundaries=(2,),values=(0.1,0.2))",
            "l2=piecewise(boundaries=(2,),values=(0.01,0.02))",
        ),
        "stop_at_loss": 1e-6,
        "stop_on": "running_perturbed_loss",
        "amp": "fp16",
    }
    made = recipe("sam:rho=0.1", **options)
    (tmp_path / "all").mkdir()
    columns = set(trained(made, digits, tmp_path / "all").history[0])
    times = {"seconds", "samples_per_second", "best"}
    always = {"epoch", "lr", "running_loss"}
    assert columns - plain == UNITS.keys() - times - always


def test_numbers_of_a_callback_of_the_user_come_last():
    text = as_csv([{"epoch": 1, "lr": 0.1}, {"epoch": 2, "mine": 3.0, "lr": 0.1}])
    assert text == "epoch,mine,lr\n1,,0.1\n2,3.0,0.1\n"


def scalars(folder, tag):
    shown = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    return [(event.step, event.value) for event in shown.Reload().Scalars(tag)]


def test_tensorboard_has_every_number_once_after_a_stop(digits, tmp_path):
    made, states = recipe(tensorboard=True), list[bytes]()
    trained(made, digits, tmp_path, keep=states.append, keep_every=0)
    done = trained(made, digits, tmp_path, resume=states[0])
    for tag in done.history[0].keys() - {"epoch"}:
        steps, values = zip(*scalars(tmp_path, tag), strict=True)
        assert steps == (1, 2, 3, 4)
        assert values == pytest.approx([row[tag] for row in done.history], rel=1e-6)
    assert [step for step, _ in scalars(tmp_path, "samples_per_second")] == [1, 2, 3, 4]


ROW = {
    "epoch": 1,
    "lr": 0.05,
    "running_loss": 2.0,
    "seconds": 3725.0,
    "samples_per_second": 1234.5,
    "best": 0,
}
SCORES = {"train_loss": 1.5, "test_loss": 1.75, "train_error": 0.5, "test_error": 0.25}


def test_lines_come_once_in_a_second_and_the_last_always():
    now = [0.0]
    lines = Lines("validation", 200, clock=lambda: now[0])
    shown = []
    for epoch in range(1, 101):
        row = {**ROW, **SCORES, "best": int(epoch == 6)}
        shown += lines.of(Progress(epoch, 100, f"epoch {epoch}/100", row=row))
        now[0] += 0.25
    head, *rows = shown
    assert head.split()[-2:] == ["samples/s", "elapsed"]
    assert "validation error" in head
    assert len(rows) == 25 + 1
    assert rows[-1].split()[0] == "100/100"
    marked = [row.split()[0] for row in rows if "*" in row]
    assert marked == ["9/100"]  # the best epoch came after the line before
    assert rows[0].split()[1:] == [
        *("0.05", "2", "1.5", "1.75", "0.5", "0.25", "1234", "1:02:05")
    ]


def test_an_epoch_without_scores_waits_for_one_with_them():
    now = [0.0]
    lines = Lines("test", 200, clock=lambda: now[0])
    shown = []
    for epoch in range(1, 9):
        row = ROW if epoch % 2 else {**ROW, **SCORES}
        shown += lines.of(Progress(epoch, 8, f"epoch {epoch}/8", row=row))
        now[0] += 0.7
    first = [line.split()[0] for line in shown]
    # The headings come again with the first scores.
    assert first == ["epoch", "1/8", "epoch", "4/8", "6/8", "8/8"]


def test_a_narrow_terminal_leaves_columns_out():
    lines = Lines("test", 80)
    report = Progress(1, 2, "epoch 1/2", row={**ROW, **SCORES})
    head, row = lines.of(report)
    assert max(len(head), len(row)) <= 80
    assert "samples/s" not in head
    assert "test error" in head


def test_scores_are_those_of_the_average_where_there_is_one():
    row = {**ROW, **SCORES, "average_test_error": 0.125}
    head, line = Lines("test", 200).of(Progress(1, 2, "epoch 1/2", row=row))
    assert "average" not in head
    assert "0.125" in line


def test_a_log_has_the_lines_and_no_end_of_a_run(capsys):
    with training_log("test") as report:
        report(Progress(1, 1, "epoch 1/1", row={**ROW, **SCORES}))
        report(Progress(1.0, run="x", state="finished"))
    lines = capsys.readouterr().err.splitlines()
    assert [re.split(r"\s+", line.strip())[0] for line in lines] == ["epoch", "1/1"]


def test_a_time_is_read_at_once():
    assert [elapsed(s) for s in (0.4, 59.6, 3599, 36000)] == [
        *("0:00", "1:00", "59:59", "10:00:00")
    ]


class Pipe:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Progress] = []

    def send(self, message: Progress) -> None:
        self.sent.append(message)


def test_the_last_report_of_a_run_is_never_thinned_out():
    pipe = Pipe()
    reports = _Reports(pipe, None)
    for done in range(1, 4):
        reports.progress(Progress(done, 3, row={"epoch": done}))
    assert [each.done for each in pipe.sent] == [1, 3]
