"""Averages along a training by Lightning are those of a plain loop, bit for bit."""

from __future__ import annotations

import random
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import loops
import steppe
from integrations.harness import plain_loop, sam
from integrations.lightning_modules import (
    Callback,
    Flat,
    ModelCheckpoint,
    Trainer,
    fit,
)
from steppe.averaging import reestimate
from steppe.errors import SettingError, UsageError
from steppe.integrations.lightning import AverageCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]

ema = partial(steppe.EMA, decay=0.7)
swa = partial(steppe.SWA, start=2)
lawa = partial(steppe.LAWA, k=2)
swad = partial(steppe.SWAD, n_converge=1, n_tolerance=2)
BATCHES = list(loops.batches(4))
X, Y = (torch.cat(column) for column in zip(*BATCHES, strict=True))


class Average(AverageCallback, Callback):
    pass


class Module(Flat):
    """Notes the weights, and the loss, of every validation."""

    def __init__(self, make: Any, **more: Any) -> None:
        super().__init__(make, **more)
        self.seen: list[list[Tensor]] = []
        self.losses: list[float] = []

    def forward(self, x):
        return self.model(x)

    def validation_step(self, batch, batch_idx):
        state = self.model.state_dict()
        self.seen.append([t.detach().clone() for t in state.values()])
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.losses.append(loss.item())
        self.log("val_loss", loss)


class Broken(Module):
    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        raise RuntimeError("broken")


def train(
    module: Module, folder: Any, *callbacks: Any, batches: Any = BATCHES, **more: Any
) -> Trainer:
    settings = {"max_epochs": 3, "val_batches": [(X, Y)], "num_sanity_val_steps": 0}
    settings |= {"callbacks": [*callbacks], **more}
    return fit(module, batches, folder, **settings)


def state(model: nn.Module) -> list[Tensor]:
    return [t.clone() for t in model.state_dict().values()]


def plain(make: Any, average: Any, *, batch_norm: bool = False, **more: Any) -> Any:
    """States in validation, the average and the trained weights of a plain loop."""
    model = loops.make_model(batch_norm=batch_norm)
    opt, kept, seen = make(model), average(model), []
    kept.attach(opt)
    for _ in range(3):
        plain_loop(lambda _: opt, BATCHES, model=model, **more)
        with kept.applied():
            if kept.buffers == "copy":
                reestimate(model, BATCHES)
            seen.append(state(model))
    return SimpleNamespace(seen=seen, average=kept, model=model)


@pytest.mark.parametrize(
    ("make", "average"), [(sam, ema), (sam, swa), (loops.momentum, lawa)]
)
def test_averages_are_validated_and_left_in_the_module(make, average, tmp_path):
    module = Module(make, model=loops.make_model(batch_norm=True))
    train(module, tmp_path, Average(average), num_sanity_val_steps=1)
    expected = plain(make, average, batch_norm=True)
    assert len(module.seen) == 4
    for here, there in zip(module.seen[1:], expected.seen, strict=True):
        assert loops.identical(here, there)
    assert loops.identical(state(module.model), expected.seen[-1])
    assert not loops.identical(state(module.model), state(expected.model))


def test_the_trained_weights_may_be_left_instead(tmp_path):
    module = Module(sam)
    callback = Average(ema, final="trained")
    train(module, tmp_path, callback)
    expected = plain(sam, ema)
    assert loops.identical(state(module.model), state(expected.model))
    model = loops.make_model()
    callback.average.copy_to(module)
    expected.average.copy_to(model)
    assert loops.identical(state(module.model), state(model))


def test_accumulated_batches_are_one_step(tmp_path):
    module = Module(sam)
    callback = Average(ema)
    train(module, tmp_path, callback, accumulate_grad_batches=2)
    assert callback.average.steps == 6
    expected = plain(sam, ema, window=2)
    for a, b in zip(module.parameters(), expected.seen[-1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_epochs_are_averaged_before_they_are_validated(tmp_path):
    module = Module(sam)
    callback = Average(partial(steppe.SWA, start=1), every="epoch")
    train(module, tmp_path, callback)
    model = loops.make_model()
    opt, ends = sam(model), []
    for _ in range(3):
        plain_loop(lambda _: opt, BATCHES, model=model)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert callback.average.count == 3
    for k, seen in enumerate(module.seen, 1):
        here = torch.cat([t.flatten() for t in seen])
        mean = torch.stack(ends[:k]).mean(0)
        torch.testing.assert_close(here, mean, rtol=0, atol=1e-14)


def test_a_callback_begins_anew_with_every_training(tmp_path):
    callback = Average(ema, every="epoch")
    for _ in range(2):
        train(Module(sam), tmp_path, callback, max_epochs=1)
        assert callback.average.steps == 1


def test_an_average_that_chooses_is_told_the_loss_of_the_trained_weights(tmp_path):
    module = Module(sam)
    callback = Average(swad, monitor="val_loss", evaluate=False)
    more = {"max_epochs": 4, "val_check_interval": 2}
    train(module, tmp_path, callback, **more)
    model = loops.make_model()
    opt, kept, losses = sam(model), swad(model), []
    kept.attach(opt)
    for i in range(8):
        plain_loop(lambda _: opt, BATCHES[2 * (i % 2) :][:2], model=model)
        losses.append(F.cross_entropy(model(X), Y).item())
        kept.validate(losses[-1])
    assert module.losses == losses
    assert callback.average.start == kept.start > 0
    kept.copy_to(model)
    assert loops.identical(state(module.model), state(model))


def test_resuming_equals_never_stopping(tmp_path):
    def run(folder: Any, path: Any = None) -> tuple[Module, Any]:
        module = Module(sam, model=loops.make_model(batch_norm=True))
        callback = Average(swa)
        saver = ModelCheckpoint(folder, save_top_k=-1, save_last=True)
        more = {"enable_checkpointing": True, "ckpt_path": path}
        train(module, tmp_path, callback, saver, **more)
        return module, callback

    straight, kept = run(tmp_path)
    path = next(tmp_path.glob("*step=8.ckpt")).rename(tmp_path / "second.ckpt")
    resumed, other = run(tmp_path, path)
    assert len(resumed.seen) < len(straight.seen)
    assert loops.identical(state(resumed), state(straight))
    assert kept.average.steps == other.average.steps == 12
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    trained = state(plain(sam, swa, batch_norm=True).model)
    assert loops.identical([*last["state_dict"].values()], trained)


class Augmented(TensorDataset):
    """Draws from all three global generators whenever a sample is read."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        draws = random.random() + np.random.random()  # noqa: NPY002
        return x + draws + torch.rand(()), y


def test_a_training_is_the_same_without_the_average(tmp_path):
    """Also where the training data is drawn, and read once more to re-estimate."""
    ends = []
    for callbacks in ([], [Average(swa, final="trained")]):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        module = Module(sam, model=loops.make_model(batch_norm=True, dropout=0.5))
        torch.manual_seed(1)
        data = Augmented(X, Y)
        draws = RandomSampler(data, generator=torch.Generator().manual_seed(1))
        loader = DataLoader(data, batch_size=12, sampler=draws)
        train(module, tmp_path, *callbacks, batches=loader)
        ends.append(state(module.model))
    assert loops.identical(*ends)


def test_an_exception_in_validation_leaves_the_trained_weights(tmp_path):
    module = Broken(sam)
    with pytest.raises(RuntimeError, match="broken"):
        train(module, tmp_path, Average(ema))
    model = plain_loop(sam, BATCHES)
    assert not loops.identical(module.seen[0], state(model))
    assert loops.identical(state(module.model), state(model))


def test_statistics_are_read_with_a_forward_of_ones_own(tmp_path):
    class Bare(Flat):
        pass

    module = Bare(sam, model=loops.make_model(batch_norm=True))
    with pytest.raises(SettingError, match=r"Bare has no forward\(\) to re-estimate"):
        fit(module, BATCHES, tmp_path, callbacks=[Average(swa)])
    forward = lambda module, batch: module.model(batch[0])  # noqa: E731
    callback = Average(swa, forward=forward)
    fit(module, BATCHES, tmp_path, callbacks=[callback], max_epochs=3)
    expected = plain(sam, swa, batch_norm=True)
    assert loops.identical(state(module.model), expected.seen[-1])


def test_statistics_may_be_left_alone(tmp_path):
    module = Module(sam, model=loops.make_model(batch_norm=True))
    train(module, tmp_path, Average(swa, reestimate=False))
    trained = plain(sam, swa, batch_norm=True).model
    assert torch.equal(module.model[1].running_mean, trained[1].running_mean)
    assert not torch.equal(module.model[0].weight, trained[0].weight)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"make": 3}, "make must be a function that builds an average"),
        ({"every": "batch"}, "every must be 'step' or 'epoch'"),
        ({"final": "best"}, "final must be 'average' or 'trained'"),
        ({"make": lambda module: module}, "make must build an average"),
        ({"make": swad}, "got monitor=None and evaluate=True with SWAD"),
        ({"make": swad, "monitor": "val_loss"}, "evaluate=True with SWAD"),
        ({"monitor": "val_loss"}, "got monitor='val_loss' and evaluate=True with EMA"),
    ],
)
def test_settings_that_do_not_fit_are_refused(more, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        train(Module(sam), tmp_path, Average(**{"make": ema, **more}))


def test_a_loss_that_is_not_logged_is_refused(tmp_path):
    with pytest.raises(UsageError, match="monitor='loss2' was not logged"):
        train(Module(sam), tmp_path, Average(swad, monitor="loss2", evaluate=False))


def test_workers_that_read_on_are_refused_where_statistics_are_read():
    trainer = SimpleNamespace(train_dataloader=SimpleNamespace(persistent_workers=True))
    callback, model = Average(swa), loops.make_model(batch_norm=True)
    callback.average = swa(model)
    with pytest.raises(SettingError, match="persistent_workers=True does not allow"):
        callback.on_train_start(trainer, model)
    callback.on_train_start(trainer, loops.make_model())


def test_of_two_averages_one_is_validated_and_left_in_the_module(tmp_path):
    module = Module(sam)
    first = Average(ema, name="ema")
    second = Average(swa, name="swa", evaluate=False, final="trained")
    train(module, tmp_path, second, first)
    expected = plain(sam, ema)
    for here, there in zip(module.seen, expected.seen, strict=True):
        assert loops.identical(here, there)
    assert loops.identical(state(module.model), expected.seen[-1])
    assert loops.identical([*second.average.tensors().values()], swa_of_plain())
    for more in ({"evaluate": False}, {"final": "trained"}):
        with pytest.raises(SettingError, match="for one of several averages"):
            train(Module(sam), tmp_path, first, Average(swa, name="swa", **more))


def swa_of_plain() -> list[Tensor]:
    return [*plain(sam, swa).average.tensors().values()]
