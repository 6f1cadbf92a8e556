"""Sentences about comparisons whose numbers are worked out by hand.

The t quantile for three seeds (two degrees of freedom) is 4.3027: differences of -6, -7
and -8 points have mean -7, standard error 1 / sqrt 3 and the interval -9.48 to -4.52.
"""

import pytest

from comparisons import comparison, lpf, row, three_seeds
from steppe_lab.reports.comparison.answer import answer_sentences
from steppe_lab.reports.comparison.findings import answer_of
from steppe_lab.reports.comparison.sentences import reading
from steppe_lab.reports.comparison.summary import summarise
from steppe_lab.reports.comparison.terminal import table


def told(made):
    return " | ".join(reading(summarise(made)))


def errors(*sam):
    sgd = {"error": [0.10, 0.10, 0.10]}
    return told(comparison(*three_seeds(sgd, {"error": list(sam)})))


def test_a_clear_difference_is_given_in_points_with_its_interval():
    text = errors(0.04, 0.03, 0.02)
    assert "sgd's test error is 10.0 %" in text
    expected = "sam's test error is 3.0 %, 7.0 points below sgd's"
    assert f"{expected} (95 % interval 4.5 to 9.5, 3 seeds)." in text
    gain = "7.0 points lower than sgd's (95 % interval 4.5 to 9.5) for twice the price"
    assert f"sam's test error is {gain}, a budget that sgd was not given." in text


def test_a_difference_whose_interval_includes_none_is_within_noise():
    text = errors(0.12, 0.09, 0.10)
    assert "sam's test error is 10.3 %, within noise of sgd's (difference 0.33" in text
    shown = (
        "No gain in test error over sgd could be shown for sam (difference 0.33 points"
    )
    assert shown in text
    assert "does not pay" not in text


def test_the_wrong_direction_is_said_to_be_above():
    text = errors(0.16, 0.17, 0.18)
    assert "7.0 points above sgd's" in text
    higher = "7.0 points higher than sgd's (95 % interval 4.5 to 9.5)"
    assert f"{higher}: it does not pay here." in text


ERRORS = {
    # differences of 0.01, 0 and -0.01 points of 10 %: at most 0.02 of 1 can be gained
    "a gain of a tenth is excluded": ([0.1001, 0.1, 0.0999], "does not pay here"),
    # -0.6, -0.3 and 0.1 points: mean -0.27, 4.3 * 0.2028 is 0.87, so up to 1.14 of 1
    "a gain of a tenth is possible": ([0.094, 0.097, 0.101], "could be shown"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_only_an_excluded_gain_does_not_pay(name):
    sam, said = ERRORS[name]
    text = errors(*sam).rpartition("In short: ")[2]
    assert said in text
    assert ("does not pay" in text) != ("could be shown" in text)


def test_equal_errors_of_few_samples_leave_a_gain_open():
    rows = three_seeds({"error": [0.02] * 3}, {"error": [0.02] * 3})
    sampled = [
        r.model_copy(update={"wrong": (1, 2), "test_samples": 100}) for r in rows
    ]
    text = told(comparison(*sampled))
    # Bonett and Price: 1.95996 sqrt(2 / 102) / sqrt(102) is 2.7 points.
    assert "0 points, 95 % interval −2.7 to 2.7" in text
    assert "No gain in test error over sgd could be shown" in text


def test_training_errors_of_none_are_up_to_what_so_many_samples_allow():
    made = comparison(*three_seeds({"train_error": [0.0] * 3}, {}))
    cell = summarise(made).contender("sgd").cells["last:train_headline"]
    assert (cell.mean.low, cell.mean.samples) == (0.0, 1000)
    # Wilson's upper limit at 0 of n: z^2 / (n + z^2).
    assert cell.mean.high == pytest.approx(3.8415 / 1003.8415, rel=1e-4)


def test_a_short_answer_has_three_sentences_whatever_the_number_of_optimizers():
    rows = [
        row(f"sam:rho={n}", s, error=0.1 + 0.01 * ((n + s) % 3), trace=10.0 - n)
        for n in range(8)
        for s in range(3)
    ]
    answer = answer_sentences(answer_of(summarise(comparison(*rows))))
    assert 2 <= len(answer) <= 3
    assert "sam:rho=1, sam:rho=2" in answer[0]
    assert "interval" not in answer[1]


def test_one_seed_tells_nothing():
    text = told(comparison(row("sgd"), row("sam", error=0.02)))
    assert "from one seed nothing can be told" in text
    assert "8.0 points below sgd's (one seed, so no interval)" in text
    assert text.endswith(
        "In short: nothing can be told from one seed; run at least three."
    )


def test_a_ratio_is_the_geometric_mean_over_seeds():
    made = comparison(
        *three_seeds(
            {"top_eigenvalue": [10.0, 10.0, 10.0]},
            {"top_eigenvalue": [5.0, 6.0, 7.2]},  # logs are evenly spaced
        )
    )
    # exp(log 0.6 ± 4.3027 log 1.2 / sqrt 3) = 0.3815 and 0.9437
    expected = "sam's largest eigenvalue of the Hessian is 0.60 of sgd's"
    assert f"{expected} (95 % interval 0.38 to 0.94, 3 seeds)." in told(made)
    flatter = "In short: sam is flatter than sgd by largest eigenvalue of the Hessian."
    assert flatter in told(made)


def test_a_measure_that_contains_the_loss_is_compared_without_it():
    made = comparison(
        *three_seeds(
            {"lpf": [lpf(1.2, 0.2)] * 3},
            {"lpf": [lpf(0.7, 0.2)] * 3},
        )
    )
    title = "mean loss under Gaussian noise on the weights minus the loss"
    assert f"sam's {title} is 0.50 of sgd's (for all 3 seeds)" in told(made)


def test_measures_that_disagree_are_said_to():
    made = comparison(
        *three_seeds(
            {"top_eigenvalue": [10.0, 11.0, 12.0], "trace": [50.0, 52.0, 54.0]},
            {"top_eigenvalue": [20.0, 22.5, 24.0], "trace": [25.0, 26.0, 27.5]},
        )
    )
    trace, largest = "trace of the Hessian", "largest eigenvalue of the Hessian"
    expected = f"flatter than sgd by {trace}, and sharper by {largest}"
    assert f"The measures disagree about sam: it is {expected}." in told(made)
    assert "is flatter than sgd by some measures and sharper by others" in told(made)


def test_a_measure_that_is_not_positive_is_compared_by_differences():
    made = comparison(
        *three_seeds(
            {"top_eigenvalue": [1.0, 1.0, 1.0]}, {"top_eigenvalue": [-1.0, -1.1, -0.9]}
        )
    )
    assert "largest eigenvalue of the Hessian is 2.00 below sgd's" in told(made)


MATCHES = {
    "equal": ([0.2, 0.2, 0.2], 0.05, True),
    "within half": ([0.29, 0.29, 0.29], 0.05, True),
    "apart": ([0.31, 0.31, 0.31], 0.05, False),
    "perhaps apart": ([0.1, 0.2, 0.4], 0.05, False),
    "errors apart": ([0.2, 0.2, 0.2], 0.11, False),
}


@pytest.mark.parametrize("name", MATCHES)
def test_matched_are_train_losses_surely_within_half_and_near_errors(name):
    loss, error, matched = MATCHES[name]
    sam = {"loss": loss, "train_error": [error] * 3}
    text = told(comparison(*three_seeds({"loss": [0.2] * 3}, sam)))
    assert ("not compared at matched train loss" in text) != matched
    assert ("curvature shrinks with the loss itself" in text) != matched
    assert ("train error 6.0 points above" in text) == (name == "errors apart")


def test_of_networks_that_have_hardly_learnt_no_flatness_is_told():
    trace = {"trace": [100.0, 101.0, 102.0]}
    flat = {"trace": [1.0, 1.1, 1.2], "train_error": [0.66] * 3}
    made = comparison(*three_seeds(trace, flat))
    hardly = "sam has hardly learnt (train error 66.0 %), so its flatness says nothing"
    assert told(made).startswith(f"{hardly}.")
    short = hardly.replace("so its flatness", "so flatness")
    assert f"In short: {short}." in told(made)
    assert "flatter" not in told(made)
    assert summarise(made).clear_best("measure:trace") is None
    text = told(comparison(*three_seeds(flat, trace)))
    assert "sam is not comparable with sgd by flatness, as sgd has hardly" in text


def test_a_measure_that_contains_the_loss_has_no_best_of_unlearnt_networks():
    errors = {"train_error": [0.66] * 3}
    made = comparison(
        *three_seeds({"lpf": [lpf(1.2, 0.2)] * 3}, {"lpf": [lpf(0.7, 0.2)] * 3}),
    )
    assert summarise(made).clear_best("measure:lpf") == "sam"
    made = comparison(
        *three_seeds(
            {"lpf": [lpf(1.2, 0.2)] * 3}, {"lpf": [lpf(0.7, 0.2)] * 3} | errors
        ),
    )
    assert summarise(made).clear_best("measure:lpf") is None


def test_a_verdict_says_which_measures_did_not_converge():
    rough = [{"value": v, "converged": False} for v in (1.0, 1.1, 1.2)]
    made = comparison(
        *three_seeds(
            {"trace": [9.0, 9.1, 9.2], "sharpness": [9.0, 9.1, 9.2]},
            {"trace": rough, "sharpness": [1.0, 1.1, 1.2]},
        )
    )
    text = told(made)
    assert "sam is flatter than sgd by both measures." in text
    assert "Mind that trace of the Hessian did not converge in every run" in text


def test_one_clear_measure_among_many_is_not_called_clear():
    # The logs of 0.38, 0.46, 0.55 have t = 7.3, of two degrees of freedom: p = 0.018.
    noise = {name: [1.0, 2.0, 3.0] for name in "abc"}
    other = {name: [3.0, 1.0, 2.0] for name in "abc"}
    alone = comparison(
        *three_seeds({"trace": [1.0] * 3}, {"trace": [0.38, 0.46, 0.55]})
    )
    assert "sam is flatter than sgd by trace of the Hessian" in told(alone)
    made = comparison(
        *three_seeds(
            noise | {"trace": [1.0] * 3}, other | {"trace": [0.38, 0.46, 0.55]}
        )
    )
    assert "sam is neither flatter nor sharper than sgd beyond noise" in told(made)
    assert ", not clear among 4)" in told(made)
    assert summarise(made).clear_best("measure:trace") is None
    words = " ".join(str(table(summarise(made)).caption).split())
    assert words.endswith("allowing for 4 comparisons of flatness")


def test_the_best_epoch_is_never_called_best():
    best = {"best": [0.01, 0.01, 0.01], "error": [0.02, 0.02, 0.02]}
    summary = summarise(comparison(*three_seeds({"error": [0.1] * 3}, best)))
    assert summary.clear_best("last:test_headline") == "sam"
    assert summary.clear_best("best:test_headline") is None


def test_a_difference_that_early_stopping_removes_is_called_that():
    made = comparison(
        *three_seeds(
            {"error": [0.10, 0.10, 0.10], "best": [0.04, 0.05, 0.06]},
            {"error": [0.04, 0.03, 0.02], "best": [0.04, 0.04, 0.06]},
        )
    )
    assert "most of the difference is in when training stops" in told(made)
    assert "picked on the test set" in told(made)
    validation = made.model_copy(
        update={"settings": made.settings.model_copy(update={"held_out": "validation"})}
    )
    assert "sam's best-epoch validation error (picked on validation" in told(validation)


def test_a_difference_that_is_only_less_certain_at_the_best_epoch_stays():
    made = comparison(
        *three_seeds(
            {"error": [0.10, 0.10, 0.10], "best": [0.06, 0.10, 0.14]},
            {"error": [0.04, 0.03, 0.02], "best": [0.04, 0.01, 0.04]},
        )
    )
    assert "when training stops" not in told(made)


def test_few_test_samples_make_a_difference_noise_however_much_seeds_agree():
    rows = three_seeds({"error": [0.03] * 3}, {"error": [0.01] * 3})
    wrong = {"sgd": (1, 2, 3), "sam": (1,)}
    sampled = [
        r.model_copy(update={"wrong": wrong[r.optimizer], "test_samples": 100})
        for r in rows
    ]
    assert "2.0 points below sgd's (for all 3 seeds)" in told(comparison(*rows))
    text = told(comparison(*sampled))
    assert "within noise of sgd's (difference −2.0 points" in text
    assert "3 seeds and 100 samples" in text


def test_the_price_is_counted_in_gradients():
    text = told(comparison(row("sgd"), row("sam"), row("lpf_sgd")))
    assert (
        "Each step of sam costs 2 gradients, so it trains for twice the price of sgd "
        "at equal epochs." in text
    )
    assert "Each step of lpf_sgd costs 1 gradient, the same as sgd's." in text


def test_another_learning_rate_is_pointed_out():
    text = told(comparison(row("sgd", lr=0.1), row("sam"), row("asam")))
    assert (
        "More than the method differs: sam and asam step with lr = 0.05, sgd with "
        "lr = 0.1." in text
    )


def test_unconverged_and_missing_estimates_are_named():
    text = told(
        comparison(
            row("sgd", trace={"value": 3.0, "converged": False}),
            row("sam", trace={"value": None}),
        )
    )
    assert "trace of the Hessian of sgd, seed 0 did not converge" in text
    assert "trace of the Hessian of sam, seed 0 is not finite and left out" in text


def test_refused_measures_are_counted_by_their_reason():
    refused = {"value": None, "converged": False, "refusal": "it needs ReLU."}
    rows = row("sgd", trace=refused), row("sam", trace=refused)
    text = told(comparison(*rows))
    assert (
        "trace of the Hessian was not measured for 2 networks: it needs ReLU." in text
    )
    assert "not finite" not in text


def test_failed_runs_are_named_and_left_out():
    rows = three_seeds({"error": [0.1] * 3}, {"error": [0.04, 0.03, 0.02]})[:5]
    text = told(comparison(*rows, failures=("sam, seed 2: out of memory",)))
    assert (
        "1 of 6 runs did not finish and is left out (sam, seed 2: out of memory)."
        in text
    )
    assert "2 seeds)" in text


def test_without_any_run_there_is_nothing_to_compare():
    made = comparison(failures=("sgd, seed 0: out of memory",), seeds=1)
    assert told(made) == (
        "None of 2 runs finished (sgd, seed 0: out of memory). | "
        "In short: there is nothing to compare."
    )


def test_the_first_optimizer_may_be_the_one_that_failed():
    text = told(comparison(row("sam"), optimizers=("sgd", "sam")))
    assert "sgd has no finished run" in text
    assert text.endswith("there is nothing to compare with sgd.")


def test_one_optimizer_has_nothing_to_be_compared_with():
    assert "there is one optimizer" in told(comparison(row("sgd")))


def test_only_a_value_that_is_best_beyond_noise_is_bold():
    made = comparison(
        *three_seeds(
            {"error": [0.10, 0.10, 0.10], "loss": [0.2, 0.3, 0.4]},
            {"error": [0.04, 0.03, 0.02], "loss": [0.3, 0.4, 0.2]},
        )
    )
    summary = summarise(made)
    assert summary.clear_best("last:test_headline") == "sam"
    assert summary.clear_best("last:train_loss") is None
    columns = table(summary).columns
    assert [str(next(iter(c.cells)).style) for c in columns[1:]] == ["", "bold"]


def test_a_table_of_three_optimizers_fits_eighty_columns():
    from rich.console import Console

    rows = [
        row(name, seed, loss=loss * (seed + 1))
        for name, loss in (("sgd", 3.8e-4), ("sam", 1.2e-3), ("lpf_sgd", 1.7e-3))
        for seed in range(3)
    ]
    console = Console(width=200)
    made = table(summarise(comparison(*rows)))
    assert console.measure(made).maximum <= 80
