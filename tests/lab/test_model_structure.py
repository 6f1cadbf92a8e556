"""Published networks beyond their counts: features, shortcuts, first weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steppe_lab.models import MODELS


def build(text, in_shape=(3, 32, 32), classes=10):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS.build(text, in_shape, classes).eval()


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def shapes(model, modules, inputs):
    """Channels and sides of the outputs of some modules."""
    seen = []
    hooks = [
        module.register_forward_hook(
            lambda *call: seen.append(tuple(call[2].shape[1:]))
        )
        for module in modules
    ]
    with torch.no_grad():
        model(inputs)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("text", "depths", "wider"),
    [
        ("resnet18:width=2", (2, 2, 2, 2), 1),
        ("resnet50:width=2", (3, 4, 6, 3), 4),
        ("resnet101:width=2", (3, 4, 23, 3), 4),
    ],
)
@pytest.mark.parametrize(("stem", "first"), [("small", 32), ("imagenet", 8)])
def test_stages_of_residual_networks_are_those_of_table_1(
    text, depths, wider, stem, first
):
    model = build(f"{text},stem={stem}")
    expected = [
        (2 * wider * 2**stage, first // 2**stage, first // 2**stage)
        for stage, depth in enumerate(depths)
        for _ in range(depth)
    ]
    assert shapes(model, model.blocks, draw(2, 3, 32, 32)) == expected


@pytest.mark.parametrize(("text", "inputs"), [("resnet18", 2), ("resnet50", 8)])
def test_a_residual_block_without_its_branch_gives_back_what_comes_in(text, inputs):
    block = build(f"{text}:width=2").blocks[1]
    last = block.second if block.third is None else block.third
    nn.init.zeros_(last[1].weight)  # of batch norm, whose bias is 0
    x = draw(2, inputs, 8, 8).relu()
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("text", ["resnet18", "resnet50"])
def test_a_block_without_skip_gives_nothing_without_its_branch(text):
    model = build(f"{text}:width=2,skip=false")
    for block in model.blocks:
        last = block.second if block.third is None else block.third
        nn.init.zeros_(last[1].weight)
    features = shapes(model, model.blocks, draw(2, 3, 32, 32))
    assert len(features) == len(model.blocks)
    assert torch.equal(model(draw(2, 3, 32, 32)), model.head.bias.expand(2, -1))


def test_settings_that_are_not_said_are_no_part_of_a_choice():
    assert dict(MODELS.parse("resnet18").settings) == {"width": 64, "batch_norm": True}
    said = MODELS.parse("resnet18:stem=imagenet,bias=true")
    assert (said.settings["stem"], said.settings["bias"]) == ("imagenet", True)
