"""Every registered model on the shapes of the registered data sets."""

import inspect

import pytest
import torch
from torch.autograd import gradgradcheck
from torch.func import functional_call

from steppe.errors import SettingError
from steppe_lab.models import MODELS

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
NARROW = {"width": 2, "hidden": 3}  # keeps tests fast where a model has the setting


def small(name, in_shape, classes=10, **settings):
    """A narrow model, built the same way each time, in float64."""
    known = MODELS[name].settings()
    narrow = {key: value for key, value in NARROW.items() if key in known}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        choice = MODELS.choose(name, {**narrow, **settings})
        return MODELS.build(choice, in_shape, classes).double()


def draw(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.fixture(params=MODELS.names())
def name(request):
    return request.param


def test_the_registry_has_the_three_families():
    assert MODELS.names() == ["mlp", "resnet18", "small_cnn"]


def test_facts_say_source_and_summary(name):
    assert MODELS[name].spec.source
    assert MODELS[name].spec.summary


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("in_shape", SHAPES, ids=str)
def test_scores_have_one_column_per_class(name, in_shape, batch_norm):
    model = small(name, in_shape, classes=7, batch_norm=batch_norm)
    assert model(draw(4, *in_shape)).shape == (4, 7)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_is_there_exactly_when_asked_for(name, batch_norm):
    model = small(name, (1, 8, 8), batch_norm=batch_norm)
    assert any(True for _ in model.buffers()) is batch_norm


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_can_be_differentiated_again(name, batch_norm):
    model = small(name, (1, 8, 8), classes=3, batch_norm=batch_norm).eval()
    inputs, named = draw(3, 1, 8, 8), dict(model.named_parameters())

    def loss(*values):
        at = dict(zip(named, values, strict=True))
        scores = functional_call(model, at, (inputs,))
        return torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2]))

    assert gradgradcheck(loss, tuple(named.values()), fast_mode=True)


def test_no_module_works_in_place(name):
    assert not any(
        getattr(m, "inplace", False) for m in small(name, SHAPES[0]).modules()
    )


def test_settings_below_one_are_sentences(name):
    numbers = [k for k, p in MODELS[name].settings().items() if p.annotation is int]
    assert numbers
    for setting in numbers:
        with pytest.raises(SettingError, match=rf"^{setting} must be >= 1, got 0\.$"):
            MODELS.build(f"{name}:{setting}=0", (1, 8, 8), 10)
    with pytest.raises(SettingError, match=r"^classes must be >= 1, got 0\.$"):
        MODELS.build(name, (1, 8, 8), 0)


def test_every_setting_is_documented(name):
    text = inspect.getdoc(MODELS[name].make)
    assert all(f"{setting}:" in text for setting in MODELS[name].settings())


@pytest.mark.parametrize("model", ["small_cnn", "resnet18"])
def test_inputs_that_are_no_images_are_refused(model):
    with pytest.raises(SettingError, match=rf"{model} needs inputs of shape"):
        MODELS.build(model, (64,), 10)


def test_images_too_small_for_two_poolings_are_refused():
    with pytest.raises(SettingError, match=r"sides >= 4, got \(1, 3, 8\)"):
        MODELS.build("small_cnn", (1, 3, 8), 10)


def test_the_widest_inputs_still_fit_the_small_cnn():
    assert small("small_cnn", (3, 64, 64))(draw(2, 3, 64, 64)).shape == (2, 10)


def test_resnet18_has_the_known_number_of_parameters():
    assert parameters(MODELS.build("resnet18", (3, 32, 32), 10)) == 11_173_962


def test_parameters_of_the_small_ones_are_as_counted_by_hand():
    mlp = MODELS.build("mlp:hidden=5,depth=2", (1, 2, 2), 3)
    assert parameters(mlp) == (4 * 5 + 5) + (5 * 5 + 5) + (5 * 3 + 3)
    cnn = MODELS.build("small_cnn:width=2", (1, 8, 8), 3)
    convolutions = (9 * 1 * 2 + 2) + (9 * 2 * 4 + 4) + (9 * 4 * 8 + 8)
    assert parameters(cnn) == convolutions + (8 * 2 * 2 * 3 + 3)


def test_resnet18_starts_with_kaiming_weights():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build("resnet18:width=32", (3, 32, 32), 10)
    weight = max(model.parameters(), key=torch.numel)  # (256, 256, 3, 3)
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
