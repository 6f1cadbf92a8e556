"""Base optimizers of recipes, and bases that are several."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from loops import identical, values
from steppe.bases import BASES
from steppe.bases.together import Together
from steppe.bases.torch_optimizers import muon
from steppe.errors import SettingError
from steppe.optimizers import SAM
from steppe_lab import datasets
from steppe_lab.training.build import build_optimizer
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings
from steppe_lab.training.recipe import Recipe

NEW = ["phb", "adashift:window=3", "adabound", "rmsprop", "muon"]


def recipe(optimizer: str, base: str = "sgd", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=8",
        "train_samples": 100,
        "epochs": 3,
        **read_optimizer(optimizer, base),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def network(*widths: int) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_stopped_training_goes_on_as_if_it_had_not(digits, name, wrapped):
    made = recipe("sam:rho=0.05", name) if wrapped else recipe(name)
    check_settings(
        made,
    )
    split = made.selection.apply(digits)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    resumed = train(made, split, resume=kept[0])
    assert identical(values(resumed.model), values(straight.model))
    assert resumed.history == straight.history
    assert straight.history[-1]["train_loss"] < straight.history[0]["running_loss"]


@pytest.mark.parametrize("name", BASES.names())
def test_every_base_makes_an_optimizer_over_all_parameters(name):
    model = network(4, 5, 5, 2)
    opt = build_optimizer(recipe(name), model, 100)
    found = [p for group in opt.param_groups for p in group["params"]]
    assert {id(p) for p in found} == {id(p) for p in model.parameters()}
    assert len(found) == len(list(model.parameters()))


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 6), nn.Linear(6, 2)
    )
    hidden, rest = muon(model.parameters())
    assert isinstance(hidden, torch.optim.Muon)
    assert isinstance(rest, torch.optim.AdamW)
    (matrix,) = hidden.param_groups[0]["params"]
    assert matrix is model[2].weight
    assert len(rest.param_groups[0]["params"]) == 7


def test_muons_step_is_as_large_as_an_adamw_step():
    model = network(4, 60, 40, 2)
    hidden, _ = muon(model.parameters(), lr=0.01, weight_decay=0.0)
    (matrix,) = hidden.param_groups[0]["params"]
    before = matrix.detach().clone()
    matrix.grad = torch.randn_like(matrix)
    hidden.step()
    # Liu et al., 2025, Section 2.2: a root mean square of 0.2 lr; the iteration of
    # Muon leaves singular values between about 0.7 and 1.2.
    size = (matrix.detach() - before).square().mean().sqrt().item()
    assert 0.6 * 0.002 < size < 1.3 * 0.002


def test_muon_refuses_a_network_that_would_be_all_adamws():
    with pytest.raises(SettingError, match=r"^muon: the network must have a matrix"):
        build_optimizer(recipe("muon"), network(4, 5, 2), 100)


def test_several_bases_together_step_as_each_alone():
    one, two = network(3, 4, 4, 2), network(3, 4, 4, 2)
    together = Together(muon(one.parameters()))
    alone = muon(two.parameters())
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    for _ in range(4):

        def closure():
            together.zero_grad()
            loss = one(x).square().sum()
            loss.backward()
            return loss

        loss = together.step(closure)
        two.zero_grad()
        expected = two(x).square().sum()
        expected.backward()
        for base in alone:
            base.step()
        assert loss.item() == expected.item()
    assert identical(values(one), values(two))


def test_a_method_wraps_several_bases():
    opt = build_optimizer(recipe("sam", "muon"), network(3, 4, 4, 2), 100)
    assert isinstance(opt, SAM)
    assert len(opt.bases) == 2


def test_a_bad_setting_is_told_once_with_one_full_stop():
    with pytest.raises(SettingError) as caught:
        check_settings(recipe("adabound:gamma=-1"))
    assert str(caught.value) == "adabound: gamma must be >= 0, got -1.0."
