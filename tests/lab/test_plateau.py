"""The learning rate that drops when a number stalls, beside torch's scheduler."""

from __future__ import annotations

import io
import math
import random
from typing import ClassVar

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from steppe.errors import SettingError, UnknownNameError
from steppe_lab import datasets
from steppe_lab.training.callbacks import monitor
from steppe_lab.training.callbacks.plateau import LrPlateau
from steppe_lab.training.loop import train
from steppe_lab.training.lr_schedules import read_lr_schedule
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.plateau import Plateau, Stall, plateau_of
from steppe_lab.training.readiness import check_ready, check_settings
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import opened


def recipe(schedule: str, optimizer: str = "sgd:lr=0.1", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": 60,
        "epochs": 12,
        "lr_schedule": schedule,
        **read_optimizer(optimizer, str(more.pop("base", "sgd:lr=0.1"))),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe("constant").selection.apply(datasets.load("digits"))


def torch_rates(rule: Plateau, values: list[float], better: str, lr: float):
    """Rates that torch's scheduler leaves after each of the values."""
    base = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = ReduceLROnPlateau(
        base,
        mode={"smaller": "min", "larger": "max"}[better],
        factor=rule.factor,
        patience=rule.patience,
        threshold=rule.threshold,
        threshold_mode=rule.threshold_mode,
        cooldown=rule.cooldown,
        min_lr=rule.min_lr,
        eps=0.0,
    )
    for value in values:
        scheduler.step(value)
        yield base.param_groups[0]["lr"]


@pytest.mark.parametrize("better", ["smaller", "larger"])
@pytest.mark.parametrize("mode", ["rel", "abs"])
def test_it_drops_where_the_scheduler_of_torch_does(mode, better):
    """On random walks, with ties, jumps, infinities and values that are none."""
    numbers, drops = random.Random(mode + better), 0
    for _ in range(300):
        rule = Plateau(
            factor=numbers.choice([0.1, 0.5, 0.9]),
            patience=numbers.randrange(4),
            threshold=numbers.choice([0.0, 1e-4, 0.3]),
            threshold_mode=mode,
            cooldown=numbers.randrange(4),
            min_lr=numbers.choice([0.0, 0.01, 0.5]),
        )
        values = [
            numbers.choice([numbers.gauss(0, 1), 0.0, -1.0, math.inf, math.nan])
            for _ in range(40)
        ]
        stall, lr, rates = Stall(rule, better), 0.1, []
        for value in values:
            lr = rule.lower(lr) if stall.drops(value) else lr
            rates.append(lr)
        assert rates == list(torch_rates(rule, values, better, 0.1))
        drops += len(set(rates)) - 1
    assert drops > 300


@pytest.mark.parametrize(
    ("column", "better", "optimizer"),
    [
        ("test_error", "smaller", "sgd:lr=0.5"),
        ("running_loss", "smaller", "sam:rho=0.5"),
        ("average_train_loss", "smaller", "sgd:lr=0.5+swa:start=20"),
    ],
)
def test_a_training_has_the_rates_of_the_scheduler_of_torch(
    split, column, better, optimizer
):
    made = recipe(
        "plateau(factor=0.5,patience=0,cooldown=1,min_lr=0.02)",
        optimizer,
        monitor=column,
        warmup_epochs=2,
        batch_size=16,
    )
    history = train(made, split).history
    rule, lr = plateau_of(made.lr_schedule), made.base.settings["lr"]
    values = [row[column] for row in history if column in row]
    after = list(torch_rates(rule, values, better, lr))
    before = [lr] * (1 + len(history) - len(after))  # an average begins later
    expected = [*before, *after][: len(history)]
    rates = [row["lr"] for row in history]
    assert rates[2:] == pytest.approx(expected[2:], rel=1e-12)
    assert rates[:2] < expected[:2]  # the warm-up
    assert len(set(expected)) > 2


@pytest.mark.parametrize(
    ("optimizer", "base", "name", "key"),
    [
        ("sam:rho=0.4", "sgd:lr=0.1", "rho", "rho"),
        ("nsgd:gamma=0.5,k=2", "sgd:lr=0.1", "gamma", "gamma"),
        ("gsam:alpha=0.4", "rmsprop:lr=0.1", "alpha", "steppe_alpha"),
    ],
)
def test_a_setting_of_the_method_goes_along(split, optimizer, base, name, key):
    text = f"plateau(factor=0.5,patience=0,threshold=0.9,scales={name})"
    track = {"track": "spectrum:k=2,samples=20"} if "nsgd" in optimizer else {}
    made = recipe(text, optimizer, base=base, epochs=4, **track)
    history = train(made, split).history
    first = made.optimizer.settings[name]
    rates, values = ([row[column] for row in history] for column in ("lr", name))
    assert values == pytest.approx([first * rate / 0.1 for rate in rates], rel=1e-12)
    assert rates[-1] <= 0.05
    if key != name:
        assert values[-1] < first  # and RMSprop's own alpha is another number


class Watched(LrPlateau):
    """Notes the weights and the momentum that each epoch begins with."""

    seen: ClassVar[list] = []

    def before_epoch(self, state):
        super().before_epoch(state)
        weights = torch.cat([p.detach().flatten() for p in state.model.parameters()])
        bases = getattr(state.optimizer, "bases", (state.optimizer,))
        moments = [
            s["momentum_buffer"].flatten() for b in bases for s in b.state.values()
        ]
        self.seen.append((weights, torch.cat(moments) if moments else None))


@pytest.fixture
def script(monkeypatch):
    """The monitored number of each epoch, as a list to be filled in."""
    values: list[float] = []
    monkeypatch.setattr(
        monitor.Monitor, "value", lambda self, row: values[int(row["epoch"]) - 1]
    )
    monkeypatch.setattr("steppe_lab.training.callbacks.order.LrPlateau", Watched)
    Watched.seen = []
    return values


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.1", "sam:rho=0.1"])
@pytest.mark.parametrize("moments", ["false", "true"])
def test_training_goes_on_from_the_best_weights(split, script, optimizer, moments):
    script += [3.0, 1.0, 2.0, 2.5, 4.0]
    text = f"plateau(factor=0.5,patience=1,reload_best=true,with_optimizer={moments})"
    kept: list[bytes] = []
    made = recipe(text, optimizer, epochs=5)
    history = train(made, split, keep=kept.append, keep_every=0).history
    assert [row["lr"] for row in history] == [0.1, 0.1, 0.1, 0.1, 0.05]
    after_two, after_drop = Watched.seen[2], Watched.seen[4]
    assert torch.equal(after_drop[0], after_two[0])
    assert torch.equal(after_drop[1], after_two[1]) is (moments == "true")
    # All that an epoch leaves is about its own weights: the best come after it.
    from_drop = torch.load(states_of(kept[3]), weights_only=True)["model"]
    flat = torch.cat([from_drop[name].flatten() for name in from_drop])
    assert not torch.equal(flat, after_drop[0])


def states_of(kept: bytes):
    return io.BytesIO(opened(kept))


@pytest.mark.parametrize(
    "text",
    [
        "plateau(factor=0.5,patience=1,cooldown=1,reload_best=true,"
        "with_optimizer=true,scales=rho)",
        pytest.param(
            "plateau(factor=0.5,patience=1,cooldown=1)", marks=pytest.mark.slow
        ),
        pytest.param("plateau(patience=0,scales=rho)", marks=pytest.mark.slow),
        pytest.param(
            "plateau(factor=0.5,patience=0,reload_best=true)", marks=pytest.mark.slow
        ),
    ],
)
def test_a_stop_changes_no_bit(split, script, text):
    script += [3.0, 1.0, 2.0, 2.5, 0.5, 2.0, 1.0]
    made = recipe(text, "sam:rho=0.1+ema", epochs=7, batch_size=16)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len({row["lr"] for row in straight.history}) > 1
    for state in kept[::3]:  # one of them is that of a drop
        resumed = train(made, split, resume=state)
        assert resumed.history == straight.history
        pairs = zip(resumed.model.parameters(), straight.model.parameters())
        assert all(torch.equal(a, b) for a, b in pairs)


def test_one_rule_has_one_text():
    texts = ["plateau", "plateau()", "plateau(patience=10)", "plateau(0.1, 10)"]
    assert {read_lr_schedule(text) for text in texts} == {"plateau"}
    assert plateau_of("plateau(0.5,patience=3)") == Plateau(0.5, 3)
    assert plateau_of("cosine") is None


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("plateau(factor=1)", SettingError, "factor must be > 0 and < 1, got 1.0"),
        ("plateau(patience=-1)", SettingError, "patience must be >= 0, got -1"),
        ("plateau(patience=1.5)", SettingError, "patience of plateau must be a whole"),
        ("plateau(min_lr=-1)", SettingError, "min_lr must be >= 0, got -1.0"),
        ("plateau(threshold_mode=some)", SettingError, "must be one of rel, abs, got"),
        ("plateau(with_optimizer=true)", SettingError, "belongs to reload_best=true"),
        ("plateau(pation=1)", UnknownNameError, "did you mean 'patience'"),
        ("platau", UnknownNameError, "did you mean 'plateau'"),
    ],
)
def test_a_bad_text_is_one_sentence(text, error, said):
    with pytest.raises(error) as caught:
        read_lr_schedule(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scales", "optimizer", "said"),
    [
        (
            "gamma",
            "sam:rho=0.1",
            "must be a setting of sam that is one number (rho), g",
        ),
        ("rho", "sgd", "a setting of sgd that is one number (none), got 'rho'"),
        ("rho", "sam:rho=cosine(0.1,0.01)", "is one number (none), got 'rho'"),
        ("lr", "sam", "is one number (rho), got 'lr'"),
    ],
)
def test_a_setting_that_cannot_go_along_is_refused(scales, optimizer, said):
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(f"plateau(scales={scales})", optimizer), 60)
    assert said in str(caught.value)


def test_a_number_to_monitor_is_checked_before_any_work():
    with pytest.raises(UnknownNameError, match="did you mean 'test_loss'"):
        check_ready(recipe("plateau", monitor="test_los"))
    with pytest.raises(SettingError, match="evaluate_every must be 1 to monitor test_"):
        check_ready(recipe("plateau", monitor="test_loss", evaluate_every=2))
    with pytest.raises(
        SettingError, match="got test_loss and neither; give --lr-schedule"
    ):
        check_ready(recipe("cosine", monitor="test_loss"))
    check_ready(recipe("plateau", monitor="running_loss", evaluate_every=2))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"monitor": "test_loss"}, True),
        ({"monitor": "test_loss", "held_out": "validation"}, False),
        ({"monitor": "train_loss"}, False),
    ],
)
def test_a_training_that_follows_the_test_set_says_so(more, said):
    notes = monitor.notes(recipe("plateau", **more))
    assert [note[:35] for note in notes] == [
        "the training followed test_loss, so"
    ] * said
