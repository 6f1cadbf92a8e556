"""Training on a GPU: the network of the CPU to rounding, resumed bit for bit."""

from __future__ import annotations

import pytest
import torch

import small_trainings
from steppe_lab.training.loop import train

pytestmark = pytest.mark.gpu
recipe, same = small_trainings.recipe, small_trainings.same
OPTIMIZERS = ["sgd", "sam+ema", "gsam", "lpf_sgd:micro_batches=2"]


@pytest.fixture(scope="module", autouse=True)
def exact():
    """Convolutions in float32, by algorithms that give the same bits each time."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


@pytest.fixture(scope="module")
def split():
    return small_trainings.split()


def close(trained, reference, rtol: float, atol: float) -> None:
    expected = reference.model.state_dict()
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(value.cpu(), expected[name], rtol=rtol, atol=atol)


@pytest.mark.parametrize("optimizer", ["sgd", "sam+ema", "gsam"])
def test_the_network_is_that_of_the_cpu(optimizer, split):
    close(
        train(recipe(optimizer, device="cuda"), split),
        train(recipe(optimizer), split),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_lower_precision_is_near_full_precision(amp, split):
    trained = train(recipe("sam", device="cuda", amp=amp), split)
    full = train(recipe("sam", device="cuda"), split)
    assert all(v.dtype != torch.float16 for v in trained.model.state_dict().values())
    assert trained.history[-1]["train_loss"] == pytest.approx(
        full.history[-1]["train_loss"], rel=0.1
    )


@pytest.mark.parametrize("more", [{}, {"amp": "fp16"}, {"channels_last": True}])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_resuming_equals_never_stopping(optimizer, more, split):
    kept: list[bytes] = []
    made = recipe(optimizer, device="cuda", **more)
    whole = train(made, split, keep=kept.append, keep_every=0)
    assert same(train(made, split, resume=kept[0]), whole)


def test_channels_last_changes_rounding_alone(split):
    made = recipe("sam", device="cuda", channels_last=True)
    reference = train(recipe("sam"), split)
    close(train(made, split), reference, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_network_trains_as_another(split):
    made = recipe("sam", device="cuda", compile=True)
    close(train(made, split), train(recipe("sam"), split), rtol=1e-3, atol=1e-4)
