"""Every registered model on the shapes of the registered data sets."""

import inspect

import pytest
import torch
from torch.func import functional_call

from steppe.errors import SettingError
from steppe_lab.models import MODELS
from steppe_lab.models.pooling import HalvingMaxPool

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
NARROW = {"width": 2, "hidden": 3}  # keeps tests fast where a model has the setting
SHALLOW = {"wide_resnet": {"depth": 10}, "shake_shake": {"depth": 8}}
SHALLOW["pyramidnet"] = {"depth": 8, "alpha": 6}
# Pixels of a side that a model needs, where it is above 8.
LEAST = {"simple_cnn": 10, "simple_batch": 16, "vgg11": 32}


def settings_of(name):
    return MODELS[name].settings()


IMAGES = [
    entry.name
    for entry in MODELS
    if entry.spec.inputs == "images" and not entry.spec.built_elsewhere
]


def small(name, in_shape, classes=10, **settings):
    """A narrow model, built the same way each time, in float64."""
    known = settings_of(name)
    narrow = {key: value for key, value in NARROW.items() if key in known}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shallow = SHALLOW.get(name, {})
        choice = MODELS.choose(name, {**narrow, **shallow, **settings})
        return MODELS.build(choice, in_shape, classes).double()


def draw(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def smallest(name):
    """The shape of the digits, or of the smallest images that a model takes."""
    side = LEAST.get(name, 8)
    return (1, side, side)


@pytest.fixture(params=IMAGES)
def name(request):
    return request.param


@pytest.fixture(params=[n for n in MODELS.names() if "batch_norm" in settings_of(n)])
def normalised(request):
    return request.param


def test_other_networks_are_for_other_inputs_or_of_another_library():
    texts = {"lstm_lm", "text_cnn", "translation_transformer"}
    others = {"gcn", "ecg_transformer", "timm"}
    assert set(MODELS.names()) - set(IMAGES) == others | texts


def test_facts_say_source_and_summary(name):
    assert MODELS[name].spec.source
    assert MODELS[name].spec.summary


@pytest.mark.parametrize("in_shape", SHAPES, ids=str)
def test_scores_have_one_column_per_class(name, in_shape):
    shape = max(in_shape, smallest(name))
    model = small(name, shape, classes=7).eval()
    with torch.no_grad():
        assert model(draw(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("in_shape", SHAPES, ids=str)
def test_scores_after_batch_norm_have_one_column_per_class(normalised, in_shape):
    shape = max(in_shape, smallest(normalised))
    model = small(normalised, shape, classes=7, batch_norm=True)
    assert model(draw(4, *shape)).shape == (4, 7)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_is_there_exactly_when_asked_for(normalised, batch_norm):
    model = small(normalised, smallest(normalised), batch_norm=batch_norm)
    assert any(True for _ in model.buffers()) is batch_norm


def test_gradients_can_be_differentiated_again(name):
    check_second_derivatives(small(name, smallest(name), classes=3), smallest(name))


def test_gradients_through_batch_norm_can_be_differentiated_again(normalised):
    shape = smallest(normalised)
    check_second_derivatives(small(normalised, shape, 3, batch_norm=True), shape)


def check_second_derivatives(model, in_shape):
    """A product with the Hessian is the difference of gradients along its direction."""
    inputs, named = draw(3, *in_shape), dict(model.eval().named_parameters())
    generator = torch.Generator().manual_seed(2)
    direction, away = (
        [torch.randn(p.shape, generator=generator).to(p) for p in named.values()]
        for _ in range(2)
    )
    length = sum(d.square().sum() for d in direction).sqrt()
    direction = [d / length for d in direction]
    with torch.no_grad():
        for p, d in zip(named.values(), away, strict=True):
            p.add_(d, alpha=0.1)  # at first, units without input are just at the kink

    def gradients(step, **graph):
        values = zip(named.values(), direction, strict=True)
        at = [p.detach().add(d, alpha=step).requires_grad_() for p, d in values]
        scores = functional_call(model, dict(zip(named, at, strict=True)), (inputs,))
        loss = torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2]))
        return at, torch.autograd.grad(loss, at, **graph)

    at, first = gradients(0.0, create_graph=True)
    slope = sum((g * d).sum() for g, d in zip(first, direction, strict=True))
    product = torch.cat([h.flatten() for h in torch.autograd.grad(slope, at)])
    step = 1e-6  # no unit changes sides so near
    above, below = (
        torch.cat([g.flatten() for g in gradients(side)[1]]) for side in (step, -step)
    )
    differences = (above - below) / (2 * step)
    assert product.norm() > 0
    assert (product - differences).norm() < 1e-6 * product.norm()


def test_no_module_works_in_place(name):
    assert not any(
        getattr(m, "inplace", False) for m in small(name, smallest(name)).modules()
    )


def test_settings_below_one_are_sentences(name):
    bounds = MODELS[name].spec.bounds
    numbers = [k for k, bound in bounds.items() if bound.low == 1 and bound.whole]
    assert numbers
    for setting in numbers:
        with pytest.raises(SettingError, match=rf"^{setting} must be >= 1, got 0\.$"):
            MODELS.build(f"{name}:{setting}=0", smallest(name), 10)
    with pytest.raises(SettingError, match=r"^classes must be >= 1, got 0\.$"):
        MODELS.build(name, smallest(name), 0)


def test_every_setting_is_documented(name):
    text = inspect.getdoc(MODELS[name].make)
    assert all(f"{setting}:" in text for setting in MODELS[name].settings())


@pytest.mark.parametrize("model", sorted({*IMAGES} - {"mlp"}))
def test_inputs_that_are_no_images_are_refused(model):
    with pytest.raises(SettingError, match=rf"{model} needs inputs of shape"):
        MODELS.build(model, (64,), 10)


def test_images_too_small_for_two_poolings_are_refused():
    with pytest.raises(SettingError, match=r"sides >= 4, got \(1, 3, 8\)"):
        MODELS.build("small_cnn", (1, 3, 8), 10)


@pytest.mark.parametrize(("kernel", "side"), [(3, 10), (5, 16)])
def test_images_too_small_for_its_convolutions_are_refused_by_simple_cnn(kernel, side):
    text = f"simple_cnn:width=1,kernel={kernel}"
    assert MODELS.build(text, (1, side, side), 2)(torch.ones(2, 1, side, side)).shape
    with pytest.raises(SettingError, match=rf"sides >= {side}, got"):
        MODELS.build(text, (1, side, side - 1), 2)


def test_the_widest_inputs_still_fit_the_small_cnn():
    assert small("small_cnn", (3, 64, 64))(draw(2, 3, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("sides", [(8, 8), (7, 9), (2, 3)], ids=str)
def test_pooling_without_gradients_has_the_bits_of_torch(sides):
    images = draw(3, 4, *sides).float()
    images[0, 0, 0, 0], images[1, 1, 1, 1], images[2] = torch.nan, -torch.inf, 1.0
    with torch.no_grad():
        pooled = HalvingMaxPool()(images)
    assert pooled.is_contiguous()
    expected = torch.nn.MaxPool2d(2)(images)
    assert torch.equal(pooled.view(torch.int32), expected.view(torch.int32))


def test_gradients_of_pooling_are_those_of_torch_where_pixels_tie():
    images = torch.ones(1, 1, 4, 4, requires_grad=True)
    HalvingMaxPool()(images).sum().backward()
    first = torch.zeros(4, 4)
    first[::2, ::2] = 1.0  # each window's gradient goes to its first pixel
    assert torch.equal(images.grad, first.view(1, 1, 4, 4))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_small_cnn_has_the_bits_of_pooling_after_the_activation(batch_norm):
    model = small("small_cnn", (1, 9, 8), batch_norm=batch_norm).float()
    layers = list(model)
    for i, layer in enumerate(model):
        if isinstance(layer, HalvingMaxPool):
            layers[i : i + 2] = layers[i + 1], torch.nn.MaxPool2d(2)
    images = draw(6, 1, 9, 8).float().relu()  # equal pixels tie
    results = []
    for each in (model, torch.nn.Sequential(*layers)):
        outputs = each(images)
        gradients = torch.autograd.grad(outputs.square().mean(), model.parameters())
        results.append([outputs, *gradients])
    assert all(map(torch.equal, *results))


def test_simple_cnn_starts_with_glorot_weights_and_no_bias():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build("simple_cnn", (3, 32, 32), 10)
    convolution, dense = model[7], model[11]  # 64 to 64 channels; 64 * 36 to 128 units
    for weight, fans in ((convolution.weight, 2 * 64 * 9), (dense.weight, 2304 + 128)):
        bound = (6 / fans) ** 0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    biases = [p for name, p in model.named_parameters() if "bias" in name]
    assert len(biases) == 6
    assert not any(b.any() for b in biases)


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
