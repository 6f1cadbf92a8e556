"""Published networks beyond their counts: features, shortcuts, first weights."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from steppe.errors import SettingError
from steppe_lab.models import MODELS
from steppe_lab.models.ecg_transformer import positions
from steppe_lab.models.shake_shake import mixed


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


def kinds(model):
    return [type(layer).__name__ for layer in model]


def test_lenet_has_the_layers_of_the_mnist_example():
    expected = (
        "Conv2d ReLU Conv2d ReLU HalvingMaxPool Dropout Flatten Linear ReLU Dropout "
        "Linear"
    )
    model = build("lenet", (1, 28, 28))
    assert kinds(model) == expected.split()
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    assert shapes(model, [model[4]], draw(1, 1, 28, 28)) == [(64, 12, 12)]


def test_vgg11_has_the_layers_of_column_a():
    model = build("vgg11:width=2,hidden=3,batch_norm=false")
    convolutions = [(m.in_channels, m.out_channels) for m in model if is_convolution(m)]
    widths = [2, 4, 8, 8, 16, 16, 16, 16]
    assert convolutions == list(zip([3, *widths], widths, strict=False))
    once, twice = (
        "Conv2d ReLU HalvingMaxPool ",
        "Conv2d ReLU Conv2d ReLU HalvingMaxPool ",
    )
    dense = "Dropout Linear ReLU Dropout Linear ReLU Linear"
    assert kinds(model) == (2 * once + 3 * twice + "Flatten " + dense).split()


def is_convolution(layer):
    return isinstance(layer, nn.Conv2d)


def test_vgg11_normalises_its_input_and_every_layer_but_the_last():
    model = build("vgg11:width=2,hidden=3")
    normalised = [m.num_features for m in model if "BatchNorm" in type(m).__name__]
    assert normalised == [3, 2, 4, 8, 8, 16, 16, 16, 16, 3, 3]
    before = [kinds(model)[n - 1] for n, k in enumerate(kinds(model)) if k == "ReLU"]
    assert set(before) == {"BatchNorm2d", "BatchNorm1d"}


@pytest.mark.parametrize(
    ("text", "in_shape", "pooled"),
    [
        ("simple_batch", (1, 28, 28), [(32, 12, 12), (128, 4, 4)]),
        ("simple_batch", (3, 32, 32), [(32, 14, 14), (128, 5, 5)]),
        ("middle_batch", (1, 28, 28), [(32, 14, 14), (128, 7, 7), (512, 3, 3)]),
        ("complex_batch", (3, 32, 32), [(32, 16, 16), (128, 8, 8), (512, 4, 4)]),
    ],
)
def test_networks_with_batch_norm_pool_after_each_stage(text, in_shape, pooled):
    model = build(f"{text}:hidden=2", in_shape)
    pools = [m for m in model.convs if "Pool" in type(m).__name__]
    assert shapes(model, pools, draw(1, *in_shape)) == pooled
    layers = [kind for kind in kinds(model.convs) if "Pool" not in kind]
    assert layers == ["Conv2d", "ReLU", "BatchNorm2d"] * (len(layers) // 3)


def test_resnet32_has_three_stages_of_five_blocks():
    model = build("resnet32:width=2")
    expected = [(2 * 2**s, 32 // 2**s, 32 // 2**s) for s in range(3) for _ in range(5)]
    assert shapes(model, model.blocks, draw(1, 3, 32, 32)) == expected
    shortcuts = [b.shortcut for b in model.blocks if is_convolution(b.shortcut)]
    assert [s.bias is not None for s in shortcuts] == [True, True]


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_a_block_that_activates_first_without_its_branch_is_the_identity(normalisation):
    block = build(f"resnet32:width=2,normalisation={normalisation}").blocks[1]
    nn.init.zeros_(block.second.weight)
    x = draw(2, 2, 8, 8)
    assert torch.equal(block(x), x)


def test_resnet32_starts_with_small_weights():
    weight = build("resnet32").blocks[-1].second.weight  # 64 channels to 64
    expected = (2 / (64 * 9) / 32) ** 0.5
    assert weight.std().item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("form", "units"), [("published", 2), ("davda54", 3)])
def test_wide_networks_have_three_stages(form, units):
    model = build(f"wide_resnet:depth=16,width=2,form={form}")
    stages = [model.f.get_submodule(f"{n}_block") for n in (1, 2, 3)]
    assert [len(stage.block) for stage in stages] == [units] * 3
    expected = [(32, 32, 32), (64, 16, 16), (128, 8, 8)]
    assert shapes(model, stages, draw(1, 3, 32, 32)) == expected


def test_blocks_of_wide_networks_have_shortcuts_in_the_published_form_alone():
    x, outputs = draw(2, 16, 8, 8), {}
    for form in ("published", "davda54"):
        model = build(f"wide_resnet:depth=16,width=1,form={form}")
        unit = model.f.get_submodule("1_block.block.1")
        nn.init.zeros_(unit.block.get_parameter("6_convolution.weight"))
        outputs[form] = unit(x)
    assert torch.equal(outputs["published"], x)
    assert not outputs["davda54"].any()


def test_the_first_block_of_a_wide_stage_changes_the_normalised_input():
    unit = build("wide_resnet:depth=10,width=2").f.get_submodule("2_block.block.0")
    nn.init.zeros_(unit.block.get_parameter("4_convolution.weight"))
    x = draw(2, 32, 8, 8)
    seen = (x / (1 + 1e-5) ** 0.5).relu()[:, :, ::2, ::2]  # mean 0 and variance 1
    weight = unit.downsample.weight[:, :, 0, 0]
    expected = torch.einsum("oi,bihw->bohw", weight, seen)
    torch.testing.assert_close(unit(x), expected, rtol=1e-5, atol=1e-5)


def test_the_last_layer_of_davda54_starts_at_0():
    model = build("wide_resnet:depth=4,width=1,form=davda54")
    assert not model(draw(2, 3, 32, 32)).any()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("wide_resnet:depth=17", r"depth must be 6 n \+ 4"),
        ("wide_resnet:depth=4", r"depth must be 6 n \+ 4"),
        ("shake_shake:depth=25", r"depth must be 6 n \+ 2"),
        ("pyramidnet:depth=111", r"depth must be 6 n \+ 2 for pyramidnet of basic"),
        ("pyramidnet:depth=8,block=bottleneck", r"depth must be 9 n \+ 2"),
        ("ecg_transformer:d_model=10,n_head=3", "n_head must divide d_model = 10"),
    ],
)
def test_depths_and_heads_that_do_not_come_out_even_are_refused(text, rule):
    in_shape = (187,) if "ecg" in text else (3, 32, 32)
    with pytest.raises(SettingError, match=rule):
        build(text, in_shape)


def test_two_branches_weigh_one_half_in_evaluation():
    block = build("shake_shake:depth=8,width=3").blocks[1]
    x = draw(2, 3, 8, 8)
    expected = block.shortcut(x) + 0.5 * block.first(x) + 0.5 * block.second(x)
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(block(x), block(x))


def test_the_value_of_a_mixture_has_one_share_and_its_gradient_the_other():
    one, two = (draw(3, 2, 4, 4).double().requires_grad_() for _ in range(2))
    forward = torch.tensor([0.0, 0.3, 1.0]).double().view(3, 1, 1, 1)
    backward = torch.tensor([0.9, 0.5, 0.2]).double().view(3, 1, 1, 1)
    value = mixed(one, 2 * two, forward, backward)
    torch.testing.assert_close(value, forward * one + (1 - forward) * 2 * two)
    first, second = torch.autograd.grad(value.sum(), (one, two))
    assert torch.equal(first, backward.expand_as(one))
    assert torch.equal(second, 2 * (1 - backward).expand_as(two))


def test_shares_are_drawn_for_each_image_and_repeat_with_the_seed():
    block = build("shake_shake:depth=8,width=3").blocks[0]
    x = draw(1, 16, 8, 8).expand(4, -1, -1, -1)
    rounds = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rounds.append(block.train()(x))
    first, again, other = rounds
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.allclose(first[0], first[1])


def test_stages_of_shake_shake_halve_the_sides():
    model = build("shake_shake:depth=14,width=2")
    expected = [(2 * 2**s, 32 // 2**s, 32 // 2**s) for s in range(3) for _ in range(2)]
    assert shapes(model, model.blocks, draw(1, 3, 32, 32)) == expected


@pytest.mark.parametrize(
    ("text", "blocks", "alpha", "wider"),
    [
        ("pyramidnet:depth=20,alpha=48", 9, 48, 1),
        ("pyramidnet:depth=29,alpha=20,block=bottleneck", 9, 20, 4),
    ],
)
def test_every_block_of_a_pyramid_has_the_channels_of_equation_3(
    text, blocks, alpha, wider
):
    width, expected = Fraction(16), []
    for number in range(blocks):
        width += Fraction(alpha, blocks)
        side = 32 // 2 ** (number // 3)
        expected.append((wider * int(width + Fraction(1, 2)), side, side))
    model = build(text)
    assert shapes(model, model.blocks, draw(1, 3, 32, 32)) == expected


def test_shortcuts_of_a_pyramid_average_pixels_and_add_channels_of_zeros():
    block = build("pyramidnet:depth=14,alpha=12").blocks[2]  # 20 to 22 channels
    nn.init.zeros_(block.branch[-1].weight)
    x = draw(2, 20, 8, 8)
    pixels = x.view(2, 20, 4, 2, 4, 2).mean(dim=(3, 5))
    expected = torch.cat([pixels, torch.zeros(2, 2, 4, 4)], dim=1)
    torch.testing.assert_close(block(x), expected)


def test_a_layer_of_the_transformer_is_that_of_torch():
    model = build("ecg_transformer:d_model=6,n_head=2,ffn_hidden=5", (9,), 3)
    layer = model.layers[0]
    theirs = nn.TransformerEncoderLayer(6, 2, 5, batch_first=True).eval()
    attention = layer.attention
    parts = (attention.query, attention.key, attention.value)
    weights = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in parts]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in parts]),
        **named("self_attn.out_proj", attention.output),
        **named("linear1", layer.dense[0]),
        **named("linear2", layer.dense[3]),
        **named("norm1", layer.first_norm),
        **named("norm2", layer.second_norm),
    }
    theirs.load_state_dict(weights)
    x = draw(4, 9, 6)
    torch.testing.assert_close(layer(x), theirs(x), rtol=1e-5, atol=1e-6)


def named(prefix, layer):
    return {f"{prefix}.weight": layer.weight, f"{prefix}.bias": layer.bias}


@pytest.mark.parametrize("features", [6, 5])
def test_positions_are_sines_and_cosines(features):
    table = positions(50, features)
    expected = [
        [
            (math.sin, math.cos)[i % 2](t / 10_000 ** (2 * (i // 2) / features))
            for i in range(features)
        ]
        for t in range(50)
    ]
    torch.testing.assert_close(table, torch.tensor(expected), rtol=0, atol=1e-6)


def test_series_of_one_channel_may_have_it_as_a_dimension():
    x = draw(2, 9)
    plain, channel = (
        build("ecg_transformer:d_model=4", shape, 3) for shape in ((9,), (1, 9))
    )
    assert torch.equal(plain(x), channel(x.unsqueeze(1)))
    with pytest.raises(
        SettingError, match=r"shape \(length,\) or \(channels, length\)"
    ):
        build("ecg_transformer", (1, 8, 8))
