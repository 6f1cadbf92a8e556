"""Numbers of parameters of published networks, and one step of each at its full size.

The numbers were counted on the definitions of the projects that published them, and on
torchvision's for the ImageNet forms.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import without_values

MNIST, CIFAR, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
NARROWER = "alpha=200,block=bottleneck"

COUNTS = [
    ("resnet18", CIFAR, 10, 11_173_962),
    ("resnet18", CIFAR, 100, 11_220_132),
    ("resnet50", CIFAR, 10, 23_520_842),
    ("resnet50", CIFAR, 100, 23_705_252),
    ("resnet101", CIFAR, 10, 42_512_970),
    ("resnet101", CIFAR, 100, 42_697_380),
    ("resnet18:stem=imagenet", IMAGENET, 1000, 11_689_512),
    ("resnet50:stem=imagenet", IMAGENET, 1000, 25_557_032),
    ("resnet101:stem=imagenet", IMAGENET, 1000, 44_549_160),
    # The grid of LPF-SGD: convolutions have biases, with batch norm too.
    ("resnet18:width=32,bias=true", CIFAR, 10, 2_800_010),
    ("resnet18:width=48,bias=true", CIFAR, 10, 6_292_042),
    ("resnet18:width=64,bias=true", CIFAR, 10, 11_178_762),
    ("resnet18:width=32,batch_norm=false", CIFAR, 10, 2_795_210),
    ("resnet18:width=48,batch_norm=false", CIFAR, 10, 6_284_842),
    ("resnet18:width=64,batch_norm=false", CIFAR, 10, 11_169_162),
    ("resnet18:width=32,bias=true,skip=false", CIFAR, 10, 2_755_658),
    ("resnet18:width=48,bias=true,skip=false", CIFAR, 10, 6_193_258),
    ("resnet18:width=64,bias=true,skip=false", CIFAR, 10, 11_004_042),
    ("resnet18:width=32,batch_norm=false,skip=false", CIFAR, 10, 2_751_754),
    ("resnet18:width=48,batch_norm=false,skip=false", CIFAR, 10, 6_187_402),
    ("resnet18:width=64,batch_norm=false,skip=false", CIFAR, 10, 10_996_234),
    # Its study of the width.
    ("resnet18:blocks=1", CIFAR, 10, 4_903_242),
    ("resnet18:width=1", CIFAR, 10, 2_991),
    ("resnet18:width=2", CIFAR, 10, 11_420),
    ("resnet18:width=8", CIFAR, 10, 176_402),
    ("resnet18:width=16", CIFAR, 10, 701_466),
    ("resnet18:width=32", CIFAR, 10, 2_797_610),
    ("lenet", MNIST, 10, 1_199_882),
    ("wide_resnet:depth=16,width=8", CIFAR, 10, 10_961_370),
    ("wide_resnet:depth=16,width=8", CIFAR, 100, 11_007_540),
    ("wide_resnet:depth=28,width=10", CIFAR, 10, 36_479_194),
    ("wide_resnet:depth=28,width=10", CIFAR, 100, 36_536_884),
    ("wide_resnet:depth=16,width=8,form=davda54", CIFAR, 10, 17_158_106),
    ("wide_resnet:depth=10,width=2", CIFAR, 10, 303_706),
    ("shake_shake", CIFAR, 10, 26_192_922),
    ("shake_shake", CIFAR, 100, 26_227_572),
    ("pyramidnet", CIFAR, 10, 28_485_477),
    ("pyramidnet", CIFAR, 100, 28_511_307),
    (f"pyramidnet:depth=272,{NARROWER}", CIFAR, 10, 26_210_842),
    (f"pyramidnet:depth=272,{NARROWER}", CIFAR, 100, 26_288_692),
    (f"pyramidnet:depth=110,{NARROWER}", CIFAR, 10, 10_668_722),
    ("resnet32:normalisation=none", CIFAR, 10, 465_674),
    ("vgg11:batch_norm=false", CIFAR, 10, 9_750_922),
    # Two numbers for each channel of the input, the convolutions and the dense layers.
    ("vgg11", CIFAR, 10, 9_750_922 + 2 * (3 + 64 + 128 + 2 * 256 + 4 * 512 + 2 * 512)),
    ("simple_batch", MNIST, 10, 361_194),
    ("middle_batch", MNIST, 10, 3_939_434),
    ("complex_batch", MNIST, 10, 6_457_418),
    ("simple_batch", CIFAR, 10, 508_938),
    ("middle_batch", CIFAR, 10, 5_774_730),
    ("complex_batch", CIFAR, 10, 8_292_714),
    ("ecg_transformer", (187,), 5, 19_528_109),
    # Zaremba et al., 2014, have 4,651,600: torch's layers have two biases each.
    ("lstm_lm", (20,), 10_000, 4_651_600 + 2 * 4 * 200),
    # Keras' example has an output less: 350,751.
    ("text_cnn", (400, 5000), 2, 350_751 + 251),
    ("simple_cnn", CIFAR, 10, 361_898),
    ("simple_cnn", MNIST, 10, 271_210),
    ("simple_cnn:width=100,kernel=5", CIFAR, 10, 2_399_518),
    ("simple_cnn:width=100,kernel=5", MNIST, 10, 2_164_118),
]
# One of each kind, narrow enough for a step in a few milliseconds.
SMALL = [
    ("resnet18:width=4,bias=true,skip=false", CIFAR, 10),
    ("resnet50:width=2", CIFAR, 10),
    ("resnet101:width=2,stem=imagenet", (3, 64, 64), 10),
    ("simple_cnn:width=4", CIFAR, 10),
    ("lenet:hidden=4", MNIST, 10),
    ("wide_resnet:depth=10,width=1,dropout=0.3", CIFAR, 10),
    ("wide_resnet:depth=10,width=1,form=davda54", CIFAR, 10),
    ("shake_shake:depth=8,width=4", CIFAR, 10),
    ("pyramidnet:depth=14,alpha=9", CIFAR, 10),
    ("pyramidnet:depth=11,alpha=9,block=bottleneck", CIFAR, 10),
    ("resnet32:width=2", CIFAR, 10),
    ("resnet32:width=2,normalisation=batch,init_scale=1", CIFAR, 10),
    ("vgg11:width=2,hidden=4", CIFAR, 10),
    ("simple_batch:hidden=4", MNIST, 10),
    ("middle_batch:hidden=4", MNIST, 10),
    ("complex_batch:hidden=4", MNIST, 10),
    ("ecg_transformer:d_model=4,ffn_hidden=3", (187,), 5),
    ("lstm_lm:hidden=4", (20,), 50),
    ("text_cnn:embedding=4,filters=4", (40, 50), 2),
]


@pytest.mark.parametrize(("text", "in_shape", "classes", "count"), COUNTS)
def test_networks_have_their_published_number_of_parameters(
    text, in_shape, classes, count
):
    with without_values():
        model = MODELS.build(text, in_shape, classes)
    sizes = [math.prod(p.shape) for p in model.parameters() if p.requires_grad]
    assert sum(sizes) == count


def some_inputs(text, in_shape, classes):
    """Inputs of a batch of 4, and the shape of their targets."""
    if not text.startswith(("lstm_lm", "text_cnn")):
        return torch.randn(4, *in_shape), (4,)
    tokens, *words = in_shape  # a language model has a target for every token
    inputs = torch.randint(words[0] if words else classes, (4, tokens))
    return inputs, (4,) if words else (4, tokens)


def check_one_step(text, in_shape, classes):
    """One optimizer step and one evaluation on a batch of 4."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build(text, in_shape, classes).train()
        inputs, shape = some_inputs(text, in_shape, classes)
        targets = torch.arange(math.prod(shape)).reshape(shape) % classes
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        F.cross_entropy(model(inputs).flatten(0, -2), targets.flatten()).backward()
    assert all(p.grad is not None for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    pairs = zip(before, model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)
    with torch.no_grad():
        outputs = model.eval()(inputs)
    assert outputs.shape == (*shape, classes)
    assert torch.isfinite(outputs).all()
    return model


@pytest.mark.parametrize(("text", "in_shape", "classes"), SMALL)
def test_narrow_networks_take_a_step_and_an_evaluation(text, in_shape, classes):
    check_one_step(text, in_shape, classes)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "in_shape", "classes", "count"), COUNTS)
def test_full_networks_take_a_step_and_an_evaluation(text, in_shape, classes, count):
    model = check_one_step(text, in_shape, classes)
    assert sum(p.numel() for p in model.parameters()) == count
