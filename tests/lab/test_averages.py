"""Training with averages of the weights, and scoring less often."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from torch.optim.optimizer import register_optimizer_step_post_hook

from comparisons import comparison, row
from small_trainings import same_weights
from steppe.averaging import AVERAGES
from steppe.errors import SettingError, UnknownNameError
from steppe.optimizers import OPTIMIZERS
from steppe_lab import datasets
from steppe_lab.reports.comparison.pictures import pictures
from steppe_lab.reports.comparison.rows import rows
from steppe_lab.reports.comparison.sections import optimizer_rows
from steppe_lab.reports.comparison.summary import summarise
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id
from steppe_lab.tasks.classification import Classification
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.evaluation import evaluate, scores_of_trained
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_ready, check_settings
from steppe_lab.training.recipe import Recipe

NORMS = "small_cnn:width=2,batch_norm=true"
AVERAGE = ("average_train_loss", "average_train_error")
AVERAGE += ("average_test_loss", "average_test_error")


def recipe(optimizer: str = "sgd", base: str = "sgd:lr=0.05", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "small_cnn:width=2",
        "train_samples": 100,
        "epochs": 3,
        "batch_size": 25,
        **read_optimizer(optimizer, base),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def trained(made: Recipe, digits, **more):
    return train(made, made.selection.apply(digits), **more)


def own(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in r.items() if k not in AVERAGE} for r in history]


# ---- ids -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "known"),
    [
        ("sgd", "aedf10a5ad58dea3"),
        ("sam", "b556684e3fbdcea3"),
        ("lpf_sgd", "5206e5a1c06b2cdc"),
    ],
)
def test_ids_from_before_there_were_averages_are_as_they_were(optimizer, known):
    made = recipe_of(CompareSettings(), optimizer, 0)
    assert run_id(config_of(made)) == known
    said = {"average", "evaluate_every", "geometry"}
    assert not any(name in made.model_dump_json() for name in said)


def test_what_is_not_the_default_has_an_id_of_its_own():
    texts = ("sgd", "sgd+ema", "sgd+ema:decay=0.9")
    made = [recipe(text) for text in texts]
    made += [recipe(evaluate_every=2), recipe("sam"), recipe("sam:geometry=l2()")]
    assert len({run_id(config_of(each)) for each in made}) == len(made)
    for each in made:
        assert Recipe.model_validate_json(each.model_dump_json()) == each
    names = {CompareSettings(evaluate_every=every).name for every in (1, 2)}
    assert len(names) == 2


# ---- texts -----------------------------------------------------------------------


def test_an_average_follows_an_optimizer_after_a_plus():
    made = read_optimizer("sam:rho=1e+1+ema:decay=0.9", "sgd")
    assert made["optimizer"].settings["rho"] == 10.0
    assert made["average"].settings["decay"] == 0.9
    assert read_optimizer("adam:lr=1e+1", "sgd")["average"] is None


def test_a_sweep_of_an_optimizer_with_an_average_sets_the_optimizer():
    made = CompareSettings(optimizers=("sam+ema:decay=0.9",), sweep="rho=0.2,0.1")
    assert made.optimizers == ("sam:rho=0.1+ema:decay=0.9", "sam:rho=0.2+ema:decay=0.9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sgd+em", "unknown average 'em': did you mean 'ema'"),
        ("sgd+ema:decy=1", "did you mean 'decay'"),
        ("sgd+ema:decay=2", "decay must be between 0 and 1, got 2"),
        ("sgd+ema+swa", "one average of the weights, got ema and swa"),
        ("sgd+swad", "must not be that of the test set; hold out .* --held-out val"),
        ("sgd+swa:start=13", "none of the 12 steps of this training"),
        ("sgd+lawa:every=13", "none of the 12 steps of this training"),
        ("msam", "momentum of its base, but SGD has momentum=0"),
        ("sam:perturb=norm", "the model has no normalisation layer"),
        ("sam:gate=evry(2)", "unknown gate 'evry': did you mean 'every'"),
        ("sam:geometry=adaptiv()", "unknown geometry 'adaptiv': did you mean 'adapt"),
    ],
)
def test_what_cannot_work_is_refused_before_training(text, message):
    mistakes = (SettingError, UnknownNameError, ValidationError)
    with pytest.raises(mistakes, match=message):
        check_ready(recipe(text, "sgd:lr=0.05,momentum=0"))


@pytest.mark.parametrize("text", ["sgd+swa:start=12", "sgd+lawa:every=12", "sgd+ema"])
def test_an_average_that_takes_in_the_last_step_alone_is_ready(text):
    check_ready(recipe(text))


# ---- training --------------------------------------------------------------------


def test_scores_and_network_are_those_of_the_average_by_hand(digits):
    made = recipe("sgd+ema:decay=0.75,warmup=false")
    split = made.selection.apply(digits)
    model = build_model(made, split.in_shape, 10)
    mean = [p.detach().double() for p in model.parameters()]
    means = [mean]

    def record(optimizer, *_):
        now = [p.detach().double() for p in optimizer.param_groups[0]["params"]]
        pairs = zip(means[-1], now, strict=True)
        means.append([0.75 * m + 0.25 * p for m, p in pairs])

    handle = register_optimizer_step_post_hook(record)
    try:
        done = train(made, split)
    finally:
        handle.remove()
    assert len(means) == 13
    for row_, mean in zip(done.history, means[4::4], strict=True):
        for p, m in zip(model.parameters(), mean, strict=True):
            p.data.copy_(m)
        loss = evaluate(model, split.test, Classification()).loss
        assert row_["average_test_loss"] == pytest.approx(loss, rel=1e-5)
        assert row_["test_loss"] != pytest.approx(loss, rel=1e-4)
    for p, m in zip(done.model.parameters(), means[-1], strict=True):
        torch.testing.assert_close(p.detach().double(), m, rtol=0, atol=1e-6)
    found = evaluate(done.model, split.test, Classification())
    last = done.history[-1]
    assert (last["average_test_loss"], last["average_test_error"]) == (
        found.loss,
        found.metrics["error"],
    )


@pytest.mark.parametrize("average", ["ema", "swa:start=3", "lawa:k=2"])
def test_an_average_changes_no_bit_of_the_training(digits, average):
    plain = trained(recipe(model=NORMS), digits)
    done = trained(recipe(f"sgd+{average}", model=NORMS), digits)
    assert own(done.history) == plain.history
    assert set(AVERAGE) <= set(done.history[-1])
    assert not same_weights(done.model, plain.model)


def first_statistics(model, inputs):
    """Running mean of the first norm, and the mean over the samples that it sees."""
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    seen = []
    handle = norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model.eval()(inputs)
    handle.remove()
    return norm.running_mean, seen[0].mean((0, 2, 3))


def test_running_statistics_of_the_average_are_those_of_all_training_samples(digits):
    made = recipe("sgd+swa:start=5", model=NORMS)
    split = made.selection.apply(digits)
    done = train(made, split)
    ours, data = first_statistics(done.model, split.train.inputs)
    torch.testing.assert_close(ours, data, rtol=1e-5, atol=1e-6)
    score = evaluate(done.model, split.test, Classification())
    assert done.history[-1]["average_test_loss"] == score.loss
    kept = train(recipe("sgd+swa:start=5,buffers=average", model=NORMS), split)
    ours, data = first_statistics(kept.model, split.train.inputs)
    assert not torch.allclose(ours, data, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "average", ["ema:decay=0.9", "swa:start=6", "lawa:k=2,every=3", "swad:n_converge=1"]
)
def test_stopping_and_resuming_with_an_average_changes_no_bit(digits, average):
    made = recipe(f"sam+{average}", model=NORMS, held_out="validation")
    kept: list[bytes] = []
    straight = trained(made, digits, keep=kept.append, keep_every=0)
    assert len(kept) == 2
    for state in kept:
        resumed = trained(made, digits, resume=state)
        assert same_weights(resumed.model, straight.model)
        assert resumed.history == straight.history
        assert resumed.gradients == straight.gradients == 2.0


def test_what_chooses_by_a_loss_gets_that_on_validation_samples(digits, monkeypatch):
    told = []
    swad = AVERAGES["swad"].make
    monkeypatch.setattr(swad, "validate", lambda _, loss: told.append(loss))
    made = recipe("sgd+swad", held_out="validation", evaluate_every=2)
    split = made.selection.apply(digits)
    done = train(made, split)
    assert len(split.test) == 1197  # what is left of the training pool
    assert told == [r["test_loss"] for r in done.history if "test_loss" in r]
    assert len(told) == 2


def test_an_average_that_begins_later_has_no_scores_before(digits):
    done = trained(recipe("sgd+swa:start=5"), digits)
    assert [set(AVERAGE) <= set(r) for r in done.history] == [False, True, True]
    assert all(math.isfinite(v) for r in done.history for v in r.values())


def test_scores_of_the_trained_network_are_the_averages_where_there_is_one():
    assert scores_of_trained({"epoch": 1.0, "test_error": 0.5}) == {
        "epoch": 1.0,
        "test_error": 0.5,
    }
    averaged = {"epoch": 2.0, "test_error": 0.4, "average_test_error": 0.1}
    assert scores_of_trained(averaged) == {"epoch": 2.0, "test_error": 0.1}


def test_code_that_is_an_average_runs_only_where_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_average.py").write_text("from steppe.averaging.ema import EMA\n")
    made = recipe("sgd+my_average:EMA:decay=0.5")
    assert set(made.code) == {"my_average:EMA"}
    path = tmp_path / "model.safetensors"
    model = build_model(made, (1, 8, 8), 10)
    path.write_bytes(checkpoints.to_bytes(model, made, (1, 8, 8), 10, "f"))
    with pytest.raises(checkpoints.CheckpointError, match="--trust my_average:EMA"):
        checkpoints.load(path)
    assert checkpoints.load(path, trust=["my_average:EMA"]).recipe == made
    (tmp_path / "no_average.py").write_text("def make(model):\n    return 1\n")
    with pytest.raises(SettingError, match="AbstractAverage, got int"):
        check_settings(recipe("sgd+no_average:make"))


# ---- scoring less often ----------------------------------------------------------


def test_scoring_less_often_changes_no_bit_of_what_is_trained(digits):
    often = trained(recipe("sgd+ema", epochs=5), digits)
    seldom = trained(recipe("sgd+ema", epochs=5, evaluate_every=2), digits)
    assert same_weights(often.model, seldom.model)
    scored = {r["epoch"] for r in seldom.history if "test_error" in r}
    assert scored == {2, 4, 5}
    for left, right in zip(often.history, seldom.history, strict=True):
        names = left if left["epoch"] in scored else ("epoch", "lr", "running_loss")
        assert right == {name: left[name] for name in names}


@pytest.mark.slow
def test_curves_go_straight_from_one_score_to_the_next_and_tell_only_scores():
    made = row("sgd", 0)
    scores = dict(made.last)
    history = [
        {"epoch": 1.0, "lr": 0.1, "running_loss": 1.0},
        {**scores, "epoch": 2.0, "test_error": 0.6},
        {"epoch": 3.0, "lr": 0.1, "running_loss": 1.0},
        {**scores, "epoch": 4.0, "test_error": 0.5, "average_test_error": 0.2},
    ]
    found = comparison(made.model_copy(update={"history": history}), evaluate_every=2)
    errors = pictures(found, summarise(found))[-2]
    assert "60.0 % after epoch 2, lowest 20.0 % after epoch 4" in errors.alt


def test_training_scored_once_has_no_curves():
    made = row("sgd", 0)
    history = [{"epoch": 1.0, "lr": 0.1, "running_loss": 1.0}, dict(made.last)]
    once = comparison(made.model_copy(update={"history": history}))
    titles = [picture.title for picture in pictures(once, summarise(once))]
    assert titles
    assert not any("while training" in title for title in titles)


# ---- cost ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("sgd", 1.0),
        ("sam", 2.0),
        ("sam:gate=every(4)", 1.25),
        ("sam:gate=after(0.75)", 1.25),
        ("sam:gate=after(1)", 1.0),
        ("lpf_sgd:micro_batches=4", 1.0),
        ("looksam:k=4", 1.25),
        ("cr_sam", 3.0),
    ],
)
def test_gradients_are_counted_in_training(digits, optimizer, expected):
    assert trained(recipe(optimizer), digits).gradients == expected


def test_tables_show_the_mean_of_what_was_counted():
    counted = (1.25, 1.75)
    made = [
        row("sam", seed).model_copy(update={"gradients": gradients})
        for seed, gradients in enumerate(counted)
    ]
    found = comparison(*made)
    assert summarise(found).contender("sam").gradients == 1.5
    assert [r["gradients_per_step"] for r in rows(found)] == [1.25, 1.75]


def test_rows_and_page_say_the_average():
    average = {"name": "ema", "settings": {"decay": 0.9}}
    made = row("sgd+ema:decay=0.9")
    settings = {**made.settings, "average": average}
    found = comparison(made.model_copy(update={"settings": settings}))
    assert rows(found)[0]["average"] == "ema:decay=0.9"
    assert "weights averaged by ema: decay = 0.9" in optimizer_rows(found)[0][1]


# ---- every optimizer -------------------------------------------------------------

PLAIN = "sgd:lr=0.05,momentum=0,weight_decay=0"
BASES = {"plain": PLAIN}
TEXTS = [
    entry.name
    for entry in OPTIMIZERS
    if not any(
        limit.equals == "base" and not limit.settings for limit in entry.spec.limits
    )
]


@pytest.mark.parametrize("name", TEXTS)
def test_every_optimizer_trains_and_says_what_it_costs(digits, name):
    spec = OPTIMIZERS[name].spec
    given = ",".join(f"{key}={value}" for key, value in spec.example.items())
    base = BASES.get(spec.base, "sgd:lr=0.05")
    made = recipe(f"{name}:{given}", base, epochs=5, evaluate_every=5)
    check_ready(made)
    done = trained(made, digits)
    assert done.gradients == pytest.approx(spec.grad_evals)
    assert math.isfinite(done.history[-1]["train_loss"])


@pytest.mark.parametrize(
    "text",
    [
        "gsam:geometry=adaptive(eta=0.01)",
        "sam:geometry=spectral()",
        "sam:gate=adaptive(start=9)",
        "sam:gate=sometimes(0.5)",
        "sam:perturb=norm",
        "gsam:batch_norm=all,rng=replay",
        "asam:style=samsung",
    ],
)
def test_gates_geometries_and_options_are_settings_that_change_the_training(
    digits, text
):
    name = text.partition(":")[0]
    plain = trained(recipe(name, model=NORMS, epochs=1), digits)
    assert not same_weights(
        trained(recipe(text, model=NORMS, epochs=1), digits).model, plain.model
    )
