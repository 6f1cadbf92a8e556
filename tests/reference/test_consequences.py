"""Rises of the loss after rounding and pruning, against torch's own on a copy."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import problems
from steppe.errors import SettingError, UsageError
from steppe.losses import L2
from steppe.measures import Bfloat16Rounding, Pruning, Rounding
from steppe.measures.consequences.bfloat16_rounding import InBfloat16
from steppe.measures.consequences.pruning import Pruned
from steppe.measures.consequences.rounding import Rounded
from steppe.objective import Objective

ROUNDING = 1e-7  # of float32 losses, which depends on the batches


def networks():
    """In float32, as torch rounds: dense layers and a convolution with batch norm."""
    for name in ("tanh", "batch_norm"):
        model, (x, y) = problems.networks()[name]
        yield name, model.float(), (x.float(), y)


NETWORKS = {name: (model, data) for name, model, data in networks()}


def changed(model, change):
    """A copy in which kernels and matrices are changed one by one."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.copy_(change(p))
    return model


def losses(model, data):
    model.eval()
    with torch.no_grad():
        return F.cross_entropy(model(data[0]), data[1], reduction="none").double()


def assert_is_rise(found, before, after, data):
    """Mean and standard error of differences, and both error rates."""
    rises = losses(after, data) - losses(before, data)
    assert found.value == pytest.approx(float(rises.mean()), rel=1e-5, abs=ROUNDING)
    error = float(rises.std()) / len(rises) ** 0.5
    assert found.stderr == pytest.approx(error, rel=1e-5, abs=ROUNDING)
    assert found.samples == len(rises)
    for when, model in (("before", before), ("after", after)):
        wrong = (model(data[0]).argmax(1) != data[1]).double().mean()
        assert found.details[f"error_rate_{when}"] == pytest.approx(float(wrong))
        mean = float(losses(model, data).mean())
        assert found.details[f"loss_{when}"] == pytest.approx(mean, rel=1e-6)


def fake_quantised(p, bits, per):
    """By the operations that torch trains quantised networks with."""
    end = 2 ** (bits - 1) - 1
    if per == "tensor":
        step = float(p.abs().max()) / end
        return torch.fake_quantize_per_tensor_affine(p, step, 0, -end, end)
    steps = p.flatten(1).abs().amax(1) / end
    zeros = torch.zeros(len(p), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(p, steps, zeros, 0, -end, end)


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_is_that_of_torch(name, bits, per):
    model, data = NETWORKS[name]
    found = Rounding(bits=bits, per=per)(problems.objective(model, data))
    after = changed(model, lambda p: fake_quantised(p, bits, per))
    assert_is_rise(found, model, after, data)
    assert found.value != 0


@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_to_bfloat16_keeps_the_upper_half_of_the_bits(name):
    """Halves go to the even number: their bits, and the least of those that stay."""

    def rounded(p):
        bits = p.view(torch.int32)
        bits = bits + 0x7FFF + ((bits >> 16) & 1)
        return (bits & ~0xFFFF).view(torch.float32)

    model, data = NETWORKS[name]
    found = Bfloat16Rounding(tensors="matrices")(problems.objective(model, data))
    assert_is_rise(found, model, changed(model, rounded), data)


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_pruning_is_that_of_torch(name, share, scope):
    model, data = NETWORKS[name]
    found = Pruning(share=share, scope=scope)(problems.objective(model, data))
    after = copy.deepcopy(model)
    layers = [
        (module, "weight")
        for module in after.modules()
        if getattr(module, "weight", None) is not None and module.weight.dim() > 1
    ]
    if scope == "global":
        prune.global_unstructured(layers, prune.L1Unstructured, amount=share)
    else:
        for module, weight in layers:
            prune.l1_unstructured(module, weight, amount=share)
    assert_is_rise(found, model, after, data)
    assert found.details["changed_parameters"] == sum(
        module.weight.numel() for module, _ in layers
    )


def test_vectors_change_where_all_tensors_are_asked_for():
    vector, zeros = torch.tensor([3.0, 1.4, -0.4, 0.0]), torch.zeros(2, 2)
    rounded = Rounded(tensors="all", bits=2, per="channel").of_all([vector, zeros])
    assert rounded[0].tolist() == [3.0, 0.0, 0.0, 0.0]
    assert rounded[1].tolist() == zeros.tolist()
    pruned = Pruned(tensors="all", share=0.5, scope="tensor").of_all([vector])
    assert pruned[0].tolist() == [3.0, pytest.approx(1.4), 0.0, 0.0]
    model, data = problems.mlp(), problems.vectors()
    both = [
        Rounding(tensors=tensors)(problems.objective(model, data))
        for tensors in ("matrices", "all")
    ]
    counts = [each.details["changed_parameters"] for each in both]
    everything = [p.numel() for p in model.parameters()]
    matrices = [p.numel() for p in model.parameters() if p.dim() > 1]
    assert counts == [sum(matrices), sum(everything)]
    assert both[0].value != both[1].value


def test_weights_in_half_precision_are_rounded_in_single_precision():
    p = torch.randn((4, 50), generator=problems.generator(0)).half()
    (found,) = Rounded(tensors="all", bits=8, per="channel").of_all([p])
    assert found.dtype == torch.float16
    truth = fake_quantised(p.float(), 8, "channel").half()
    torch.testing.assert_close(found, truth, rtol=0, atol=0)
    (same,) = InBfloat16(tensors="all").of_all([p.bfloat16()])
    assert torch.equal(same, p.bfloat16())


def test_a_penalty_is_no_consequence():
    model, data = problems.mlp(), problems.vectors()
    plain = Pruning()(problems.objective(model, data))
    found = Pruning()(problems.objective(model, data, penalty=L2(0.1)))
    assert (found.value, found.stderr) == (plain.value, plain.stderr)
    assert found.details["penalty"] == "left out"


def test_outputs_that_are_no_class_scores_have_no_error_rate():
    model = nn.Linear(3, 2).double()
    x = torch.randn((5, 3), generator=problems.generator(0)).double()
    found = Rounding(bits=2)(Objective(model, (x, x[:, :2]), loss="mse"))
    assert found.value != 0
    assert "error_rate_before" not in found.details


def test_in_mode_train_both_losses_have_statistics_of_their_batches():
    model, data = problems.networks()["batch_norm"]
    objective = problems.objective(model, data, batch_size=4, mode="train")
    found = Bfloat16Rounding(tensors="matrices")(objective)
    after = changed(model, lambda p: p.bfloat16().double())
    means = []
    for each in (model, after):
        network = copy.deepcopy(each).train()
        with torch.no_grad():
            parts = [
                F.cross_entropy(network(x), y, reduction="none")
                for x, y in zip(data[0].split(4), data[1].split(4), strict=True)
            ]
        means.append(float(torch.cat(parts).mean()))
    assert found.value == pytest.approx(means[1] - means[0], rel=1e-9)


def test_statistics_that_are_estimated_anew_are_those_of_the_changed_weights():
    """All samples in one batch: the statistics of the batch are those of the data."""
    model, data = problems.networks()["batch_norm"]
    one, other = (
        Rounding(bits=3)(problems.objective(model, data, batch_size=7, mode=mode))
        for mode in ("reestimate", "train")
    )
    # Running variances divide by one sample less than those of a batch.
    assert one.value == pytest.approx(other.value, rel=0.2)
    fixed = Rounding(bits=3)(problems.objective(model, data))
    assert abs(one.value - fixed.value) > abs(one.value - other.value)


def test_settings_out_of_range_and_networks_of_vectors_are_refused():
    with pytest.raises(SettingError, match="bits must be between 2 and 16, got 17"):
        Rounding(bits=17)
    with pytest.raises(SettingError, match="share must be between 0 and 1"):
        Pruning(share=1.5)
    for wrong in ({"per": "row"}, {"tensors": "bias"}):
        with pytest.raises(SettingError, match=f"{next(iter(wrong))} must be"):
            Rounding(**wrong)
    vector = nn.PReLU(3).double()
    data = (torch.ones(2, 3).double(), torch.zeros(2, 3).double())
    objective = Objective(vector, data, loss="mse")
    with pytest.raises(UsageError, match="got weight without any; give tensors='all'"):
        Pruning()(objective)
    assert math.isfinite(Pruning(tensors="all")(objective).value)


def regression(samples, seed):
    """Targets w'x + e of Gaussian x and e; |Q(w) - w|^2 is the rise of the mean."""
    source = problems.generator(seed)
    model = nn.Linear(5, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.8, -0.3, 0.1, 0.55]]))
    x = torch.randn((samples, 5), generator=source, dtype=torch.float64)
    noise = torch.randn((samples, 1), generator=source, dtype=torch.float64)
    with torch.no_grad():
        y = model(x) + noise
    return Objective(model, (x, y), loss="mse")


@pytest.mark.slow
def test_standard_errors_cover_the_truth_as_often_as_they_say():
    """Coverage of 95 % intervals in 2,000 repeats: binomial deviation 0.5 %."""
    rounding, inside = Rounding(bits=3), 0
    for seed in range(2000):
        objective = regression(200, seed)
        w = objective.params[0].detach()
        truth = float((fake_quantised(w.float(), 3, "tensor") - w).square().sum())
        low, high = rounding(objective).interval()
        inside += low < truth < high
    assert 0.93 < inside / 2000 < 0.97
