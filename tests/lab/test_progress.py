"""How far a comparison is, and when it will end, on a clock that the test moves."""

import heapq

import pytest

from steppe_lab.cli.progress import at_the_last, in_tenths, progress
from steppe_lab.progress import Progress
from steppe_lab.studies.progress import Piece, Watch


class Schedule:
    """Workers that take runs in order; every run lasts as long as it is said to."""

    def __init__(self, workers, pieces, seconds):
        self.now = 0.0
        self.seen = []  # the time, and the progress that was told then
        tell = lambda progress: self.seen.append((self.now, progress))  # noqa: E731
        self.watch = Watch(tell, workers, clock=lambda: self.now)
        self.watch.pieces.update(pieces)
        self.seconds = seconds
        self.workers = workers

    def go(self):
        """Do all runs; returns the time of the end."""
        waiting, busy = list(self.seconds), []
        while waiting or busy:
            while waiting and len(busy) < self.workers:
                run = waiting.pop(0)
                heapq.heappush(busy, (self.now + self.seconds[run], run))
                self.watch(Progress(run=run))
            self.now, run = heapq.heappop(busy)
            self.watch(Progress(1.0, run=run, state="finished"))
        return self.now

    def estimates(self):
        """Time and estimate of every report of an end; None where there was none."""
        return [(now, each.left) for now, each in self.seen if each.ended]


def study(networks, *, dearer=2.0):
    """Trainings of two costs in turns, then one analysis of each."""
    pieces, seconds = {}, {}
    for number in range(networks):
        cost = dearer if number % 2 else 1.0
        pieces[f"t{number}"] = Piece(f"net {number}", "training", cost)
        seconds[f"t{number}"] = 10.0 * cost
    for number in range(networks):
        pieces[f"a{number}"] = Piece(f"net {number}, analysis", "analysis", 1.0)
        seconds[f"a{number}"] = 4.0
    return pieces, seconds


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_end_is_known_within_a_run_once_every_kind_has_a_price(workers):
    schedule = Schedule(workers, *study(12))
    end = schedule.go()
    whole = [
        (now, progress.left)
        for now, progress in schedule.seen
        if progress.left is not None and not progress.left_of
    ]
    assert len(whole) > 12
    for now, left in whole:
        assert now + left == pytest.approx(end, abs=4.0)
    assert whole[0][1] > 20.0


def test_an_end_of_trainings_alone_says_so_until_an_analysis_has_finished():
    schedule = Schedule(2, *study(12))
    schedule.go()
    trained = max(now for now, p in schedule.seen if p.run[0] == "t" and p.ended)
    early = [(now, p) for now, p in schedule.seen if p.left_of]
    assert {p.left_of for _, p in early} == {"training"}
    for now, p in early:
        if now < trained:
            # 12 trainings by two workers: the last one of 20 s may lie aslant.
            assert now + p.left == pytest.approx(trained, abs=10.0)


def test_nothing_is_estimated_from_fewer_than_two_finished_runs():
    schedule = Schedule(2, *study(4))
    schedule.go()
    estimates = schedule.estimates()
    assert [left for _, left in estimates[:1]] == [None]
    assert all(left is not None for _, left in estimates[1:-1])


def test_runs_of_twice_the_gradients_are_taken_to_last_twice_as_long():
    cheap = Piece("", "training", 1.0)
    pieces = {"a": cheap, "b": cheap, "c": Piece("", "training", 2.0)}
    schedule = Schedule(1, pieces, {"a": 10.0, "b": 10.0, "c": 20.0})
    schedule.go()
    assert schedule.estimates()[1] == (20.0, pytest.approx(20.0))


def test_runs_that_were_stored_or_failed_say_nothing_about_time():
    pieces = {name: Piece(name, "training", 1.0) for name in "abcd"}
    schedule = Schedule(1, pieces, {"d": 5.0})
    for run in "ab":
        schedule.watch(Progress(1.0, text="stored", run=run, state="finished"))
    schedule.watch(Progress(run="c"))
    schedule.watch(Progress(run="c", state="failed"))
    schedule.go()
    assert [p.left for _, p in schedule.seen] == [None] * 6
    assert schedule.seen[-1][1].finished == 4


def test_what_is_done_is_added_up_in_parts():
    pieces = {name: Piece(name, "training", 1.0) for name in "abcd"}
    schedule = Schedule(2, pieces, {})
    schedule.watch(Progress(3, 4, "epoch 3/4", run="a"))
    schedule.watch(Progress(1, 4, "epoch 1/4", run="b"))
    schedule.watch.skip("d")
    schedule.watch(Progress(1.0, run="a", state="finished"))
    seen = [(p.done, p.total, p.finished, p.text) for _, p in schedule.seen]
    assert seen == [
        (0.75, 4, 0, "a: epoch 3/4"),
        (1.0, 4, 0, "b: epoch 1/4"),
        (2.25, 4, 2, "a: finished"),
    ]


def test_a_log_has_a_line_for_every_end_with_the_time_that_is_left(capsys):
    with progress() as report:
        report(Progress(1.5, 4, "sam, seed 0: epoch 2/4", run="x"))
        report(
            Progress(
                2, 4, "sam, seed 0: finished", "x", "finished", 2, 42.0, "training"
            )
        )
        report(Progress(3, 4, "sgd: finished", "y", "finished", 3, 3.0))
    assert capsys.readouterr().err == (
        "[2/4] sam, seed 0: finished (about 40 s left of the training)\n"
        "[3/4] sgd: finished (a few seconds left)\n"
    )


def test_one_piece_of_work_has_a_line_for_every_tenth(capsys):
    with progress() as report:
        thinned = in_tenths(report)
        for done in range(1, 101):
            thinned(Progress(done, 100, "products"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"[{10 * n}/100] products" for n in range(1, 11)]


def test_figures_are_prepared_once_while_the_last_run_is_in_work():
    prepared, schedule = [], Schedule(2, *study(2))
    tell = schedule.watch.tell
    schedule.watch.tell = at_the_last(tell, lambda: prepared.append(schedule.now))
    end = schedule.go()
    ends = [now for now, each in schedule.seen if each.ended]
    assert prepared == [ends[-2]]
    assert ends[-2] < ends[-1] == end


def test_nothing_is_prepared_for_runs_that_were_finished_before():
    prepared, schedule = [], Schedule(2, *study(2))
    schedule.watch.tell = at_the_last(schedule.watch.tell, lambda: prepared.append(1))
    for run in schedule.seconds:
        schedule.watch(Progress(1.0, text="stored", run=run, state="finished"))
    assert prepared == []
