"""Reasons of many networks that differ in numbers are one reason."""

from steppe_lab.studies.collecting import _counted
from steppe_lab.studies.reasons import alike_reasons


def test_numbers_that_differ_are_left_out_and_others_stay():
    reasons = [f"got {each} of 1 at 1e-3" for each in ("-1.03", "-2e5", "7,000")]
    assert alike_reasons([*reasons, "nothing"]) == {
        "got … of 1 at 1e-3": [0, 1, 2],
        "nothing": [3],
    }
    assert alike_reasons(["got 2"]) == {"got 2": [0]}
    assert alike_reasons([]) == {}


def test_a_measure_that_many_networks_refuse_has_one_line_for_one_reason():
    asked = [{"a": f"alpha must be above {n / 7}"} for n in range(9)]
    asked += [{"a": "no gradient", "b": "no start"}, {}]
    counted = [(e.measure, e.reason, e.count, e.among) for e in _counted(asked)]
    assert counted == [
        ("a", "alpha must be above …", 9, 11),
        ("a", "no gradient", 1, 11),
        ("b", "no start", 1, 11),
    ]
