"""Networks of timm, which a module with its functions stands for here."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from steppe.errors import SettingError
from steppe_lab.datasets import DATASETS
from steppe_lab.models import MODELS
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe

NAMES = {"resnet26d": False, "vit_tiny_patch16_224": True}  # of one size of images?


def create_model(name, *, pretrained, num_classes, in_chans, img_size=None):
    """A network of the arguments that timm's own function takes."""
    assert not pretrained
    if NAMES[name] is (img_size is None):
        raise TypeError("unexpected keyword argument 'img_size'")
    if in_chans > 4:
        raise RuntimeError("in_chans must be 1 to 4")
    rates = [rate.item() for rate in torch.linspace(0, 0.1, 2)]  # as its networks do
    layers = [nn.Flatten(), nn.LazyLinear(3), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, nn.Dropout(rates[0]), nn.Linear(3, num_classes))
    model(torch.zeros(1, in_chans, 8, 8))
    model.img_size = img_size
    return model


@pytest.fixture
def library(monkeypatch):
    module = ModuleType("timm")
    module.is_model = NAMES.__contains__
    module.list_models = lambda: list(NAMES)
    module.get_pretrained_cfg = lambda name: SimpleNamespace(
        fixed_input_size=NAMES[name]
    )
    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.mark.usefixtures("library")
def test_a_recipe_names_a_network_of_timm():
    recipe = Recipe(data="digits", model="timm:resnet26d", base="sgd")
    assert str(recipe.model) == "timm:name=resnet26d"
    assert recipe.code == {}  # it is no code of the user
    again = Recipe(**recipe.model_dump())
    assert again == recipe
    model = build_model(recipe, (1, 8, 8), 10)
    assert model(torch.ones(2, 1, 8, 8)).shape == (2, 10)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("name", "size"), [("resnet26d", None), ("vit_tiny_patch16_224", (8, 8))]
)
def test_networks_for_one_size_are_built_for_that_of_the_data(name, size):
    assert MODELS.build(f"timm:{name}", (3, 8, 8), 5).img_size == size


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("text", "in_shape", "sentence"),
    [
        ("timm:resnet26", (3, 8, 8), "no model 'resnet26'; did you mean 'resnet26d'"),
        ("timm:resnet26d", (5, 8, 8), r"cannot build resnet26d .*in_chans must be"),
        ("timm:resnet26d", (64,), "timm needs inputs of shape"),
        ("timm", (3, 8, 8), "timm needs the setting name"),
        ("timm:resnet26d,depth", (3, 8, 8), "'depth' in .* is not a setting"),
    ],
)
def test_what_timm_cannot_build_is_one_sentence(text, in_shape, sentence):
    with pytest.raises(SettingError, match=sentence) as caught:
        MODELS.build(text, in_shape, 10)
    assert "\n" not in str(caught.value)


def test_without_timm_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingError, match=r"pip install '.\[timm\]'"):
        MODELS.build("timm:resnet26d", (3, 8, 8), 10)


def test_a_collection_of_graphs_takes_its_name_alone():
    assert DATASETS.parse("tudataset:MUTAG") == DATASETS.parse("tudataset:name=MUTAG")
