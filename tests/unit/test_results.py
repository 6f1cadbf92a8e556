"""Results: their arithmetic, text, JSON and rows."""

import csv
import io
import json
import math
import pickle
import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import scipy.stats
import torch

from steppe.errors import DataError, SettingError, UsageError
from steppe.results import (
    Comparison,
    Cost,
    Diagonal,
    Difference,
    Eigenpairs,
    Estimate,
    Estimates,
    joint_samples,
)
from steppe.results.student import student_quantile
from steppe.results.tables import ROWS, Table, with_error
from steppe.surfaces import Surface
from steppe_lab.store.records import estimate_record


def estimate(value=0.25, stderr=0.03, samples=10, **other):
    return Estimate(value=value, stderr=stderr, samples=samples, **other)


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 3, 4.7, 9, 19, 100, 1e4, 9e6, 1e9])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_quantiles_are_those_of_scipy(level, freedom):
    expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
    assert student_quantile(level, freedom) == pytest.approx(expected, rel=1e-6)


def test_an_interval_is_student_s_and_a_point_where_nothing_was_sampled():
    low, high = estimate(1.0, 0.1, 5).interval()
    assert (high - low) / 2 == pytest.approx(0.27764451, rel=1e-7)  # t of 4: 2.7764451
    assert (low + high) / 2 == pytest.approx(1.0)
    assert estimate(1.0, 0.0, 0).interval() == (1.0, 1.0)
    assert estimate(1.0, math.inf, 1).interval() == (-math.inf, math.inf)
    known = estimate(1.0, 0.1, 1).interval(0.9)  # an error that theory gives
    assert known[1] - 1 == pytest.approx(0.16448536, rel=1e-7)
    with pytest.raises(SettingError, match=r"level must be between 0 and 1.*got 95"):
        estimate().interval(95)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.23456, 0.0412, "0.23 ± 0.04"),
        (0.23456, 0.0354, "0.235 ± 0.035"),
        (0.23456, 0.0355, "0.23 ± 0.04"),
        (0.23456, 0.0962, "0.23 ± 0.10"),
        (12345.6, 400.0, "12300 ± 400"),
        (0.0, 0.5, "0.0 ± 0.5"),
        (-3.14159e-7, 1.2e-8, "(-3.14 ± 0.12)e-07"),
        (1.5e9, 4e6, "(1.500 ± 0.004)e+09"),
        (0.5, 0.0, "0.5"),
        (0.5, math.inf, "0.5 ± not known"),
        (2e9, math.inf, "2e+09 ± not known"),
        (math.nan, math.nan, "nan ± nan"),
        (0.5, 1e-310, "0.5 ± 1e-310"),  # powers of ten of its digits are infinite
        (1.7e308, 0.5, "1.7e+308 ± 0.5"),
    ],
)
def test_a_number_is_rounded_by_its_error(value, error, text):
    assert with_error(value, error) == text


def test_a_table_says_that_one_draw_has_no_error():
    known, alone = estimate(0.5, 0.1), estimate(0.5, math.inf, samples=1)
    text = str(Estimates({"trace": known, "sam_sharpness": alone}).table())
    assert "inf" not in text
    assert re.search(r"sam_sharpness +0.5 +± not known", text)
    assert text.endswith("one draw, such as one batch, has no standard error.")
    assert "not known" not in str(Estimates({"trace": known}).table())


def test_formats_are_of_both_numbers_or_of_the_text():
    one = estimate(0.23456, 0.0412)
    assert f"{one:.3g}" == "0.235 ± 0.0412"
    assert f"{one:>14}" == "   0.23 ± 0.04"
    assert f"{one}" == str(one) == "0.23 ± 0.04"
    assert repr(one) == "Estimate(0.23 ± 0.04)"
    assert str(estimate(converged=False)).endswith("0.030 (unconverged)")
    refused = estimate(math.nan, math.nan, refusal="it has tanh.")
    assert f"{refused:.3g}" == "not measured: it has tanh."


def test_sums_of_independent_estimates_have_the_spread_of_drawn_ones():
    drawn = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    a, b = estimate(1.0, 0.3, 10), estimate(2.0, 0.4, 10)
    values = 1.0 + 0.3 * drawn[:, 0] - 2 * (2.0 + 0.4 * drawn[:, 1]) + 5
    found = a - 2 * b + 5
    assert found.value == pytest.approx(2.0)
    assert found.stderr == pytest.approx(float(values.std()), rel=0.01)


def test_a_sum_has_the_samples_of_its_degrees_of_freedom():
    # (9 + 16)^2 / (81 / 9 + 256 / 19) = 27.8 degrees of freedom
    assert (estimate(1, 0.3, 10) + estimate(1, 0.4, 20)).samples == 28
    assert (estimate(1, 0.3, 10) + estimate(1, 0.3, 10)).samples == 19
    assert (estimate(1, 0.3, 10) + estimate(1, 0.0, 0)).samples == 10
    assert (estimate(1, 0.0, 0) - estimate(1, 0.0, 0)).samples == 0
    one_draw = estimate(1, 0.3, 10) + estimate(1, math.inf, 1)
    assert (one_draw.samples, one_draw.stderr) == (1, math.inf)


def test_numbers_scale_and_shift():
    one = estimate(2.0, 0.5, 7, cost=Cost(gradients=3))
    for found, value, error in (
        (one * 3, 6.0, 1.5),
        (np.float64(-3) * one, -6.0, 1.5),
        (one / 4, 0.5, 0.125),
        (1 - one, -1.0, 0.5),
        (-one, -2.0, 0.5),
        (sum([one, 1]), 3.0, 0.5),
    ):
        assert (found.value, found.stderr) == (value, error)
        assert (found.samples, found.cost) == (7, Cost(gradients=3))
    for wrong in ("1", None, True):
        with pytest.raises(TypeError):
            one * wrong
        with pytest.raises(TypeError):
            one - wrong


def test_a_sum_keeps_what_both_depend_on_and_what_both_cost():
    a = estimate(details={"loss": "mse", "sigma": 1}, cost=Cost(1), converged=False)
    b = estimate(details={"loss": "mse", "sigma": 2}, cost=Cost(2), units="loss")
    assert (a - b).details == {"loss": "mse"}
    assert (a - b).cost == Cost(3)
    assert (a - b).units == "loss"
    assert not (a - b).converged


def test_sums_over_different_units_and_of_refused_estimates_are_refused():
    with pytest.raises(UsageError, match="units cannot be added: loss and 1; scale"):
        estimate(units="loss") - estimate(units="1")
    refused = estimate(math.nan, math.nan, refusal="it has tanh.")
    with pytest.raises(UsageError, match=r"not measured .*\(it has tanh\); leave"):
        estimate() - refused
    with pytest.raises(UsageError, match="leave it out"):
        refused * 2


@pytest.mark.parametrize(
    "one",
    [
        estimate(details={"sigma": 0.1, "scale": "raw"}, units="loss"),
        estimate(1.0, math.inf, 1, cost=Cost(1, 2.5, 3)),
        estimate(math.nan, math.nan, 0, refusal="it has tanh.", converged=False),
        estimate(3, 0.0, 0),
    ],
)
def test_an_estimate_comes_back_from_json(one):
    text = json.dumps(one.to_dict(), allow_nan=False)
    back = Estimate.from_dict(json.loads(text))
    assert repr(vars(back)) == repr(vars(one))
    assert pickle.loads(pickle.dumps(one)).to_dict() == one.to_dict()


def test_details_of_any_kind_are_plain_in_json():
    details = {
        "by_tensor": {"w": estimate()},
        "values": torch.tensor([1.0, math.inf]),
        "x": (np.float32(0.5), np.int64(2), True, None),
        "dtype": torch.float32,
    }
    record = json.loads(json.dumps(estimate(details=details).to_dict()))
    assert record["details"]["by_tensor"]["w"] == estimate().to_dict()
    assert record["details"]["values"] == [1.0, None]
    assert record["details"]["x"] == [0.5, 2, True, None]
    assert record["details"]["dtype"] == "torch.float32"


def test_other_records_are_refused():
    for record in ({}, {"value": 1.0, "sigma": 2}, [1.0]):
        with pytest.raises(DataError, match="record of an estimate must be a mapping"):
            Estimate.from_dict(record)


def test_records_of_the_store_keep_their_bytes():
    one = estimate(cost=Cost(forwards=11), details={"loss": "mse", "terms": 7})
    assert json.dumps(estimate_record(one)) == (
        '{"value": 0.25, "stderr": 0.03, "samples": 10, "converged": true, "cost": '
        '{"forwards": 11, "gradients": 0.0, "products": 0.0}, "details": '
        '{"loss": "mse", "terms": 7}, "refusal": ""}'
    )


@pytest.fixture
def several():
    refused = estimate(math.nan, math.nan, 0, refusal="it has <tanh>.", units="loss")
    return Estimates({"trace": estimate(units="loss"), "minimum": refused})


def test_estimates_are_a_mapping_that_prints_as_a_table(several):
    assert several["trace"].value == dict(several)["trace"].value
    assert several == dict(several)
    assert str(several).splitlines() == [
        "measure  value          samples  units",
        "trace    0.250 ± 0.030  10       loss",
        "minimum was not measured: it has <tanh>.",
    ]
    page = several._repr_html_()
    assert "<td>0.250 ± 0.030</td>" in page
    assert "<p>minimum was not measured: it has &lt;tanh&gt;.</p>" in page
    with pytest.raises(FrozenInstanceError):
        several.by_name = {}


def test_estimates_come_back_from_json_and_from_csv(several):
    text = json.dumps(several.to_dict(), allow_nan=False)
    assert repr(Estimates.from_dict(json.loads(text))) == repr(several)
    rows = several.rows()
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    back = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["measure"] for row in back] == ["trace", "minimum"]
    assert float(back[0]["stderr"]) == 0.03
    assert all(type(v) in (str, float, int, bool) for row in rows for v in row.values())


def test_tables_stay_on_one_screen():
    rows = [(str(n), "x" * 200) for n in range(1000)]
    lines = str(Table(("number", "text"), rows, ["word " * 100])).splitlines()
    assert len(lines) < ROWS + 10
    assert max(map(len, lines)) < 80
    assert "... 976 more" in lines[1 + ROWS // 2]


def test_tensors_of_results_are_lists_in_json():
    values = torch.tensor([2.0, 1.0], dtype=torch.float64)
    pairs = Eigenpairs(
        values=values,
        vectors=torch.eye(3)[:, :2],
        residuals=torch.tensor([1e-9, math.nan]),
        converged=False,
        products=5,
    )
    assert json.loads(json.dumps(pairs.to_dict(), allow_nan=False)) == {
        "values": [2.0, 1.0],
        "residuals": [pytest.approx(1e-9), None],
        "converged": False,
        "products": 5,
        "details": {},
    }
    assert pairs.rows()[0]["eigenvalue"] == 2.0
    assert repr(pairs).endswith("5 products; not all within the asked tolerance.")
    surface = Surface(
        coordinates=((0.0, 1.0),), loss=values, stderr=values / 10, samples=4
    )
    assert surface.to_dict() == {
        "x": [0.0, 1.0],
        "loss": [2.0, 1.0],
        "stderr": [0.2, 0.1],
        "samples": 4,
        "details": {},
    }
    assert repr(surface).splitlines()[1].split() == ["0", "2", "0.2"]
    diagonal = Diagonal(values=values, stderr=torch.zeros(2), samples=0)
    assert diagonal.to_dict()["cost"]["products"] == 0
    assert "mean" in repr(diagonal)
    assert "2 parameters, exact." in repr(diagonal)


@pytest.mark.parametrize(
    ("draws", "least", "most"), [(2, 0.88, 0.92), (3, 0.92, 0.955), (8, 0.94, 0.96)]
)
def test_a_sum_of_errors_covers_less_where_the_larger_one_has_two_draws(
    draws, least, most
):
    source, trials = np.random.default_rng(0), 10_000
    sizes = 1.0, 3.0  # of errors with 20 samples, and with so many draws
    counts = 20, draws
    errors = np.stack(
        [
            size * np.sqrt(source.chisquare(n - 1, trials) / (n - 1))
            for size, n in zip(sizes, counts, strict=True)
        ],
        axis=1,
    )
    samples = [
        joint_samples(
            tuple(estimate(0.0, s, n) for s, n in zip(row, counts, strict=True))
        )
        for row in errors.tolist()
    ]
    reach = scipy.stats.t.ppf(0.975, np.array(samples) - 1) * np.hypot(*errors.T)
    apart = math.hypot(*sizes) * source.standard_normal(trials)
    assert least <= (abs(apart) <= reach).mean() <= most


def test_intervals_of_difference_and_ratio_that_disagree_are_named():
    def note(half, log_half):
        total = Estimate(value=0.5, samples=10**9, stderr=half / 1.96)
        ratio = Estimate(value=math.log(1.5), samples=10**9, stderr=log_half / 1.96)
        one = Difference(
            a=Estimate(value=1.5),
            b=Estimate(value=1.0),
            over_data=total,
            over_draws=Estimate(value=0.5),
            total=total,
            bias=0.0,
            log_ratio=ratio,
        )
        return " ".join(
            str(
                Comparison(by_name={"loss": one}, units=9, unit="sample", groups=9)
            ).split()
        )

    assert "take it as open" not in note(0.6, 0.5)
    assert "take it as open" not in note(0.4, 0.3)
    assert "take it as open" in note(0.6, 0.3)
    assert "take it as open" in note(0.4, 0.5)
