"""Training with channels last and with torch.compile: the same network comes out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import small_trainings
from steppe.errors import SettingError
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.training import checkpoints, network
from steppe_lab.training.loop import train
from steppe_lab.training.network import called_network, channels_last
from steppe_lab.training.state import TrainingState

recipe, same = small_trainings.recipe, small_trainings.same


@pytest.fixture(scope="module")
def split():
    return small_trainings.split()


@pytest.fixture
def eager(monkeypatch):
    """The compiler that captures graphs and generates no code."""
    monkeypatch.setattr(network, "COMPILER", "eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def close(left, right) -> None:
    ours, theirs = left.model.state_dict(), right.model.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "sam+ema", "lpf_sgd:micro_batches=2"])
def test_channels_last_changes_rounding_alone(optimizer, split):
    kept: list[bytes] = []
    made = recipe(optimizer, channels_last=True)
    trained = train(made, split, keep=kept.append, keep_every=0)
    close(trained, train(recipe(optimizer), split))
    assert same(train(made, split, resume=kept[0]), trained)


def test_images_and_filters_lie_with_their_channels_last(split):
    made = recipe(channels_last=True, model="small_cnn:width=4")
    state = TrainingState.fresh(made, split, None)
    filters = [p for p in state.model.parameters() if p.dim() == 4 and p.shape[1] > 1]
    assert filters
    images = torch.zeros(2, 3, 4, 4)
    laid_out, number = channels_last((images, 3))
    assert number == 3
    for each in (*filters, laid_out):
        assert each.is_contiguous(memory_format=torch.channels_last)
        assert not each.is_contiguous()


@pytest.mark.slow
def test_eigenvalues_are_followed_with_channels_last(split):
    track = "spectrum:k=1,samples=20,every=1epoch"
    plain, laid_out = (
        train(recipe("sgd", channels_last=last, track=track, epochs=1), split).results[
            "tracked"
        ]
        for last in (False, True)
    )
    assert len(plain) == 2
    name = next(name for name in plain[0] if name.startswith("top_K_e/"))
    for ours, theirs in zip(laid_out, plain, strict=True):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-2)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("amp", ["off", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_compiled_network_trains_as_another(amp, split):
    kept: list[bytes] = []
    made = recipe("sam+ema", compile=True, amp=amp)
    trained = train(made, split, keep=kept.append, keep_every=0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    other = train(recipe("sam+ema", amp=amp), split)
    assert list(trained.model.state_dict()) == list(other.model.state_dict())
    if amp == "off":
        close(trained, other)
    assert same(train(made, split, resume=kept[0]), trained)


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_checkpoint_of_a_compiled_network_is_an_ordinary_one(tmp_path, split):
    made = recipe("sgd", compile=True, channels_last=True)
    trained = train(made, split)
    path = tmp_path / "model.safetensors"
    path.write_bytes(checkpoints.to_bytes(trained.model, made, (1, 8, 8), 2, "0"))
    loaded = checkpoints.load(path)
    x = split.test.batch(slice(None))[0]
    torch.testing.assert_close(loaded.model.eval()(x), trained.model.eval()(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own imports
def test_code_is_generated_for_the_cpu(split):
    if network.missing_compiler("cpu"):
        pytest.skip("no C++ compiler here")
    torch.compiler.reset()
    close(train(recipe(compile=True), split), train(recipe(), split))


def test_channels_last_wants_images():
    with pytest.raises(SettingError, match="channels_last needs images of shape"):
        network.check_network_settings(recipe(channels_last=True), (12,))


def test_a_missing_compiler_is_named(monkeypatch):
    network.check_network_settings(recipe(), (1, 8, 8))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SettingError, match=r"needs a C.* compiler on cpu, which"):
        network.check_network_settings(recipe(compile=True), (1, 8, 8))


def test_a_network_is_called_as_it_is_unless_asked():
    model = nn.Linear(2, 2)
    assert called_network(model, recipe()) is model


def test_records_without_these_settings_do_not_mention_them():
    for record in (CompareSettings(), recipe()):
        text = record.model_dump_json()
        assert '"compile"' not in text
        assert '"channels_last"' not in text
