"""Re-estimated running statistics against those of all samples, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

from problems import assert_same, state_of
from steppe.averaging import reestimate
from steppe.errors import DataError, SettingError

EXACT = {"rtol": 1e-12, "atol": 1e-13}


def images(rows: int = 11, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, 4, 5, generator=source, dtype=torch.float64)
    return 3 * x + 100 * torch.arange(rows).view(-1, 1, 1, 1) / rows  # far from 0


def cut(x: torch.Tensor) -> list[torch.Tensor]:
    """Batches of unequal size, in an order that is not random."""
    return list(x.split([5, 4, len(x) - 9]))


class Custom(nn.Module):
    """Statistics over the last dimension, by code of the user."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(5).double())
        self.register_buffer("running_var", torch.ones(5).double())
        self.momentum = 0.1

    def forward(self, x):
        if self.training:
            flat = x.reshape(-1, 5)
            with torch.no_grad():
                self.running_mean.lerp_(flat.mean(0), self.momentum)
                self.running_var.lerp_(flat.var(0), self.momentum)
        return x


LAYERS = [
    nn.BatchNorm2d(3),
    nn.BatchNorm2d(3, momentum=None),
    nn.BatchNorm2d(3, affine=False),
    nn.SyncBatchNorm(3),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_statistics_are_those_of_all_samples_however_they_are_cut(layer):
    x = images()
    channels = x.transpose(0, 1).reshape(3, -1)
    for batches in ([x], cut(x), list(x.split(1))):
        model = copy.deepcopy(layer).double()
        assert reestimate(model, batches) == 1
        torch.testing.assert_close(model.running_mean, channels.mean(1), **EXACT)
        torch.testing.assert_close(model.running_var, channels.var(1), **EXACT)
        assert model.num_batches_tracked == len(batches)
        assert model.momentum == layer.momentum


def test_statistics_of_a_layer_of_the_user_are_found():
    x = images()
    model = nn.Sequential(Custom())
    assert reestimate(model, cut(x)) == 1
    flat = x.reshape(-1, 5)
    torch.testing.assert_close(model[0].running_mean, flat.mean(0), **EXACT)
    torch.testing.assert_close(model[0].running_var, flat.var(0), **EXACT)
    assert model[0].momentum == 0.1


def test_instance_norm_gets_the_average_over_instances():
    x = images()
    model = nn.InstanceNorm2d(3, track_running_stats=True).double()
    assert reestimate(model, cut(x)) == 1
    within = x.flatten(2)
    torch.testing.assert_close(model.running_mean, within.mean((0, 2)), **EXACT)
    torch.testing.assert_close(model.running_var, within.var(2).mean(0), **EXACT)


def test_float32_statistics_are_exact_to_their_rounding():
    x = images().float()
    model = nn.BatchNorm2d(3)
    reestimate(model, cut(x))
    channels = x.double().transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(
        model.running_mean.double(), channels.mean(1), rtol=3e-7, atol=0
    )
    torch.testing.assert_close(
        model.running_var.double(), channels.var(1), rtol=2e-6, atol=0
    )


def deep(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 4, 2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(4, 2, 2),
        nn.BatchNorm2d(2, momentum=None),
    )
    return nn.Sequential(*layers).double()


def test_deep_layers_equal_torchs_update_on_one_batch():
    model, theirs = deep(), deep()
    assert reestimate(model, [images()]) == 2
    swa_utils.update_bn([images()], theirs)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(model.get_buffer(name), buffer, **EXACT)


def test_means_of_equal_batches_equal_torchs_update():
    model, theirs = deep(), deep()
    batches = list(images(12).split(4))
    reestimate(model, batches)
    swa_utils.update_bn(batches, theirs)
    for index in (1, 5):
        torch.testing.assert_close(
            model[index].running_mean, theirs[index].running_mean, **EXACT
        )
        assert model[index].num_batches_tracked == 3


def test_training_goes_on_from_a_cumulative_average():
    x, more = images(), images(seed=1)
    layer = nn.BatchNorm2d(3, momentum=None).double()
    reestimate(layer, [x])
    layer(more)
    expected = (x.mean((0, 2, 3)) + more.mean((0, 2, 3))) / 2
    torch.testing.assert_close(layer.running_mean, expected, **EXACT)


class PartlyFrozen(nn.Sequential):
    """The usual way: a train() that leaves the first norm in evaluation mode."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def by_mode(model):
    model[1].eval()
    return model


def by_momentum(model):
    model[1].momentum = 0.0
    return model


def by_training_less(model):
    return PartlyFrozen(*model).train()


def by_training_less_in_evaluation(model):
    return PartlyFrozen(*model).eval()


FROZEN = [by_mode, by_momentum, by_training_less, by_training_less_in_evaluation]


def moved(module, x):
    """Which of the two norms change their statistics, by training on x."""
    module.train()
    before = [module[index].running_mean.clone() for index in (1, 5)]
    module(x)
    return [
        not torch.equal(module[index].running_mean, old)
        for index, old in zip((1, 5), before, strict=True)
    ]


@pytest.mark.parametrize("freeze", FROZEN)
def test_a_frozen_layer_keeps_its_statistics_and_is_run_with_them(freeze):
    model, x = freeze(deep()), images()
    model[1].running_mean.fill_(7.0)
    before = copy.deepcopy(model[1].state_dict())
    assert reestimate(model, cut(x)) == 1
    for name, value in before.items():
        assert torch.equal(model[1].state_dict()[name], value)
    hidden = model[4](model[2](model[1].eval()(model[0](x))))
    torch.testing.assert_close(model[5].running_mean, hidden.mean((0, 2, 3)), **EXACT)


@pytest.mark.parametrize("freeze", FROZEN[1:])
def test_what_is_frozen_is_what_training_leaves_alone(freeze):
    assert moved(freeze(deep()), images()) == [False, True]


def test_frozen_weights_and_a_cumulative_average_freeze_no_statistics():
    model = deep().requires_grad_(False)
    model[1].momentum = None
    assert reestimate(model, cut(images())) == 2
    assert moved(deep().requires_grad_(False), images()) == [True, True]


def test_a_frozen_layer_needs_no_momentum():
    layer = Custom().eval()
    del layer.momentum
    model = nn.Sequential(nn.BatchNorm2d(3).double(), layer)
    assert reestimate(model, cut(images())) == 1
    assert torch.equal(layer.running_mean, torch.zeros(5).double())


def test_old_statistics_leave_no_trace_even_if_not_finite():
    model, fresh = deep(), deep()
    model[1].running_mean.fill_(float("nan"))
    model[1].running_var.fill_(float("inf"))
    for each in (model, fresh):
        reestimate(each, cut(images()))
    assert torch.equal(model[5].running_var, fresh[5].running_var)
    assert model[1].running_mean.isfinite().all()


@pytest.mark.parametrize("training", [True, False])
def test_all_but_the_statistics_is_left_as_found(training):
    model = deep(dropout=0.5).train(training)
    model[1].eval()
    before = state_of(model)
    reestimate(model, cut(images()))
    after = state_of(model)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for index in (1, 5):
            del before["tensors"][f"{index}.{name}"]
    assert_same(after, before)
    assert not model[1]._forward_hooks


def test_dropout_is_off_as_in_prediction():
    model, dropping = deep(), deep(dropout=0.5)
    for each in (model, dropping):
        reestimate(each, cut(images()))
    assert torch.equal(model[5].running_mean, dropping[5].running_mean)


def test_a_layer_used_twice_has_the_statistics_of_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3).double()

        def forward(self, x):
            self.norm(x)
            return self.norm(input=2 * x)

    model, x = Twice(), images()
    assert reestimate(model, cut(x)) == 1
    both = torch.cat([x, 2 * x]).transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(model.norm.running_mean, both.mean(1), **EXACT)
    torch.testing.assert_close(model.norm.running_var, both.var(1), **EXACT)
    assert model.norm.num_batches_tracked == 6


def test_a_layer_that_no_batch_reaches_keeps_its_statistics():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.BatchNorm2d(3).double()
            self.idle = nn.BatchNorm2d(3).double()

        def forward(self, x):
            return self.used(x)

    model = Partly()
    model.idle.running_mean.fill_(7.0)
    model.idle.num_batches_tracked.fill_(5)
    assert reestimate(model, cut(images())) == 1
    assert (model.idle.running_mean == 7.0).all()
    assert model.idle.num_batches_tracked == 5


def test_a_model_without_statistics_gives_0_and_reads_no_batch():
    def batches():
        raise AssertionError
        yield

    without = nn.BatchNorm1d(3, track_running_stats=False)
    stopped = nn.BatchNorm1d(3)
    stopped.track_running_stats = False
    for model in (nn.Linear(3, 3), nn.Sequential(nn.LayerNorm(3), without), stopped):
        assert reestimate(model, batches()) == 0


@pytest.mark.parametrize("pack", [tuple, list])
def test_inputs_come_first_in_pairs(pack):
    model, plain = deep(), deep()
    x = images()
    reestimate(model, [pack([b, torch.zeros(len(b))]) for b in cut(x)])
    reestimate(plain, cut(x))
    assert torch.equal(model[5].running_var, plain[5].running_var)


def test_batches_of_any_form_go_through_a_function():
    model, plain = deep(), deep()
    x = images()
    batches = [{"pixels": b, "text": ["a"]} for b in cut(x)]
    reestimate(model, batches, forward=lambda m, batch: m(batch["pixels"]))
    reestimate(plain, cut(x))
    assert torch.equal(model[5].running_var, plain[5].running_var)


def failing():
    yield images()
    raise MemoryError


@pytest.mark.parametrize(
    ("batches", "error", "said"),
    [
        ([], DataError, "there is no batch"),
        (failing(), MemoryError, None),
        ([images(), {"x": 1}], DataError, "a batch of dict .* pass forward="),
        ([images(), ()], DataError, "a batch of tuple .* pass forward="),
    ],
)
def test_an_error_leaves_the_model_as_it_was(batches, error, said):
    model = deep()
    before = state_of(model)
    with pytest.raises(error, match=said):
        reestimate(model, batches)
    assert_same(state_of(model), before)
    assert model[5].momentum is None


def test_a_layer_without_a_momentum_is_refused():
    layer = Custom()
    del layer.momentum
    with pytest.raises(SettingError, match="Custom has running statistics but no"):
        reestimate(layer, cut(images()))
