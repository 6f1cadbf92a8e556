"""Attacks against closed forms, against foolbox, and against their own promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from steppe.errors import SettingError, UsageError
from steppe_lab.attacks import ATTACKS
from steppe_lab.attacks import outcome as outcomes
from steppe_lab.attacks.apgd import dlr
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.outcome import attacked, wrong_before
from steppe_lab.attacks.victim import Victim
from steppe_lab.datasets import load
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.runs.attacked import attacked_of

FAR = 1e6  # bounds that nothing reaches


def linear(norm, rows=200, entries=12):
    """Two classes: margins of samples, and the dual norm of the slope of a margin."""
    source = torch.Generator().manual_seed(3)
    weights = torch.randn(2, entries, generator=source, dtype=torch.float64)
    inputs = torch.randn(rows, entries, generator=source, dtype=torch.float64)
    labels = (inputs @ weights.T).argmax(1)
    slope = weights[1] - weights[0]
    margins = (inputs @ slope).abs()
    dual = slope.abs().sum() if norm == "inf" else slope.norm()
    return Victim(lambda x: x @ weights.T, -FAR, FAR), inputs, labels, margins, dual


def success_of(text, victim, inputs, labels, epsilons, seed=0):
    done = attacked(
        ATTACKS.build(text),
        victim,
        lambda places: (inputs[places], labels[places]),
        wrong=wrong_before(victim, lambda p: (inputs[p], labels[p]), len(inputs)),
        epsilons=epsilons,
        seed=seed,
    )
    return done.success, done


@pytest.mark.parametrize(
    "text",
    [
        *(
            "fgsm",
            "bim",
            "pgd:start=input",
            "pgd:steps=80,restarts=2",
            "apgd",
            "apgd:restarts=2",
        ),
        *("fgm", "pgd:norm=2,start=input", "pgd:steps=200,norm=2", "apgd:norm=2"),
    ],
)
def test_a_linear_classifier_falls_where_its_margin_is_below_the_dual_norm(text):
    norm = ATTACKS.build(text).norm
    victim, inputs, labels, margins, dual = linear(norm)
    epsilons = [
        float(q / dual)
        for q in torch.quantile(margins, torch.tensor([0.2, 0.7]).double())
    ]
    success, _ = success_of(text, victim, inputs, labels, epsilons)
    expected = torch.stack([margins < epsilon * dual for epsilon in epsilons])
    near = torch.stack([(margins / (e * dual) - 1).abs() < 1e-6 for e in epsilons])
    assert torch.equal(success | near, expected | near)


@pytest.mark.parametrize("norm", ["2", "inf"])
def test_deepfool_ends_a_little_beyond_the_boundary_of_a_linear_classifier(norm):
    victim, inputs, labels, margins, dual = linear(norm)
    _, done = success_of(f"deepfool:norm={norm}", victim, inputs, labels, [1.0])
    assert torch.allclose(done.norms, 1.02 * (margins / dual + 1e-4), rtol=1e-9)


def test_the_smallest_changes_do_not_depend_on_the_budgets():
    victim, inputs, labels, *_ = linear("2")
    _, none = success_of("deepfool", victim, inputs, labels, [0.0])
    _, done = success_of("deepfool", victim, inputs, labels, [0.0, 1.0])
    assert torch.equal(none.norms, done.norms)
    assert bool(none.norms.isfinite().all())
    assert not none.success.any()


def test_the_difference_of_logits_ratio_is_that_of_the_paper():
    scores = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.0, 5.0, 4.0, 1.0]])
    # -(z_y - max of the others) / (first - third)
    expected = [-(3.0 - 1.0) / 3.0, -(4.0 - 5.0) / 4.0]
    assert dlr(scores, torch.tensor([0, 2])).tolist() == pytest.approx(expected)
    with pytest.raises(SettingError, match="needs 3 classes or more, got 2"):
        dlr(scores[:, :2], torch.tensor([0, 1]))


@pytest.fixture(scope="module")
def digits():
    """A small convolutional network, trained on digits, with 200 test samples."""
    data = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inputs, targets = data.train.stored[:400] / 16, data.train.targets[:400]
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model.eval(), data.test.stored[:200] / 16, data.test.targets[:200]


FOOLBOX = {
    "fgsm": ("LinfFastGradientAttack", {}, 0.1),
    "fgm": ("L2FastGradientAttack", {}, 0.4),
    "bim": ("LinfBasicIterativeAttack", {}, 0.08),
    "pgd:start=input": ("LinfPGD", {"random_start": False}, 0.08),
    "pgd:start=input,norm=2": (
        "L2PGD",
        {"random_start": False, "rel_stepsize": 1 / 30, "steps": 40},
        0.6,
    ),
    "deepfool": ("L2DeepFoolAttack", {}, 0.6),
    "deepfool:norm=inf": ("LinfDeepFoolAttack", {}, 0.08),
}


@pytest.mark.cross_library
@pytest.mark.parametrize("text", FOOLBOX)
@pytest.mark.filterwarnings("ignore")
def test_attacks_succeed_on_the_samples_that_those_of_foolbox_do(text, digits):
    foolbox = pytest.importorskip("foolbox")
    model, inputs, labels = digits
    name, settings, epsilon = FOOLBOX[text]
    theirs = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = getattr(foolbox.attacks, name)(**settings)
    _, _, expected = attack(theirs, inputs, labels, epsilons=epsilon)
    success, _ = success_of(text, Victim(model, 0.0, 1.0), inputs, labels, [epsilon])
    assert 20 < int(expected.sum()) < 180
    # Theirs looks at the last point alone.
    apart = int((success[0] != expected).sum())
    assert apart <= (0 if text in ("fgsm", "fgm") else 3), apart


@pytest.mark.parametrize("name", ATTACKS.names())
def test_success_rises_with_the_budget_and_is_that_of_clean_samples_at_0(name, digits):
    model, inputs, labels = digits
    inputs, labels, victim = inputs[:40], labels[:40], Victim(model, 0.0, 1.0)
    text = "apgd:steps=10" if name == "apgd" else name
    epsilons = [0.0, 0.02, 0.05, 0.3]
    success, done = success_of(text, victim, inputs, labels, epsilons)
    assert torch.equal(success[0], victim.wrong(inputs, labels))
    assert not (success[:-1] & ~success[1:]).any()
    for inside, epsilon in zip(done.examples.changed, done.examples.epsilons):
        assert 0 <= float(inside.min()) <= float(inside.max()) <= 1
        assert float(epsilon) <= 0.3


@pytest.mark.parametrize("text", ["bim:step=0.02", "pgd:step=0.02"])
def test_more_steps_and_restarts_never_give_fewer_successes(text, digits):
    model, inputs, labels = digits
    before = torch.zeros(200, dtype=torch.bool)
    more = [f"{text},steps={steps}" for steps in (1, 3, 9)]
    more += [f"{text},steps=9,restarts=3"] * text.startswith("pgd")
    for each in more:
        success, _ = success_of(each, Victim(model, 0.0, 1.0), inputs, labels, [0.06])
        assert not (before & ~success[0]).any()
        before = success[0]


@pytest.mark.parametrize("name", ATTACKS.names())
def test_changes_keep_within_the_budget_and_the_bounds(name, digits):
    model, inputs, labels = digits
    attack, victim = ATTACKS.build(name), Victim(model, 0.0, 1.0)
    changed = attack(victim, inputs[:20], labels[:20], 0.1, Draws(0, range(20)))
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    if not attack.minimal:
        order = math.inf if attack.norm == "inf" else 2
        sizes = (changed - inputs[:20]).flatten(1).norm(order, dim=1)
        assert float(sizes.max()) <= 0.1 + 1e-6


@pytest.mark.parametrize("name", [e.name for e in ATTACKS if e.spec.random])
def test_random_numbers_of_a_sample_do_not_depend_on_its_batch(
    name, digits, monkeypatch
):
    model, inputs, labels = digits
    victim = Victim(model, 0.0, 1.0)
    inputs, labels = inputs[:60], labels[:60]
    text = "uniform" if name == "uniform" else f"{name}:steps=5,restarts=2"
    whole, _ = success_of(text, victim, inputs, labels, [0.04, 0.06], seed=4)
    monkeypatch.setattr(outcomes, "ROWS", 7)
    parts, _ = success_of(text, victim, inputs, labels, [0.04, 0.06], seed=4)
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_the_gradients_of_an_attack_are_counted_rightly(name, digits, monkeypatch):
    model, inputs, labels = digits
    count, gradient = 0, torch.autograd.grad

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return gradient(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    # A budget that fools nobody, so that all steps are taken.
    victim = Victim(model, 0.0, 1.0)
    right = ~victim.wrong(inputs, labels)
    rows = inputs[right][:4], labels[right][:4]
    ATTACKS.build(name)(victim, *rows, 1e-6, Draws(0, range(4)))
    expected = ATTACKS[name].spec.steps
    assert count <= expected if ATTACKS[name].spec.minimal else count == expected


@pytest.mark.parametrize("standardise", ["channel", "image_std", "pixel", "unit"])
@pytest.mark.parametrize("name", ["fgm", "pgd:start=input,norm=2", "apgd:norm=2"])
def test_budgets_of_pixels_pass_through_the_standardisation(name, standardise):
    data = load(f"digits:standardise={standardise}")
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    folded = folded_into(model, data.test.standardisation)
    samples = data.test.chosen(torch.arange(20))
    # All are right, so that all are changed.
    samples = samples.with_targets(model(samples.inputs).argmax(1))
    ours = attacked_of(model, samples, torch.arange(20), name="digits")
    pixels, labels = ours.rows(torch.arange(20))
    assert torch.equal(pixels, samples.stored / 16)
    attack, draws = ATTACKS.build(name), Draws(0, range(20))
    changed = attack(ours.victim, pixels, labels, 0.3, draws)
    expected = attack(Victim(folded, 0.0, 1.0), pixels, labels, 0.3, draws)
    assert torch.allclose(changed, expected, atol=1e-4)
    assert (changed - pixels).flatten(1).norm(dim=1).max() > 0.2


def folded_into(model, standardisation):
    """The same network of pixels from 0 to 1: its first layer standardises them."""
    mean, std, _ = standardisation.constants(torch.device("cpu"))
    mean = mean.expand(1, 8, 8).reshape(-1)
    first = nn.Linear(64, 16)
    weight = model[1].weight.detach()
    first.weight.data = weight / std.item()
    first.bias.data = model[1].bias.detach() - weight @ mean / std.item()
    return nn.Sequential(model[0], first, model[2], model[3])


def test_clean_scores_have_the_bits_of_standardised_inputs():
    test = load("digits").test
    seen = []
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ours = attacked_of(model, test, torch.arange(len(test)), name="digits")
    seen.clear()
    wrong_before(ours.victim, ours.rows, len(test))
    assert torch.equal(torch.cat(seen), test.inputs)


def test_the_published_protocol_has_its_budget_on_standardised_inputs():
    test = load("digits").test.chosen(torch.arange(30))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    ours = attacked_of(
        model, test, torch.arange(30), name="digits", protocol="published"
    )
    inputs, labels = ours.rows(torch.arange(30))
    assert torch.equal(inputs, test.inputs)
    attack = ATTACKS.build("fgsm")
    change = attack(ours.victim, inputs, labels, 0.1, Draws(0, range(30))) - inputs
    assert float(change.abs().max()) == pytest.approx(0.1, abs=1e-6)
    # Inputs below the bounds move towards them alone.
    assert float(change[inputs < 0].min()) >= 0
    assert ours.notes[0].startswith(
        "protocol published: budgets and the bounds 0 and 1"
    )


class Odd(nn.Module):
    """Dropout, batch norm, a gradient, a frozen weight, and a call that fails."""

    def __init__(self, fails=0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10)
        )
        self.calls, self.fails = 0, fails

    def forward(self, x):
        self.calls += 1
        torch.rand(1)
        if self.calls == self.fails:
            raise RuntimeError("out of memory")
        return self.layers(x)


@pytest.mark.parametrize("fails", [0, 5])
def test_attacks_leave_no_trace(fails):
    model = Odd(fails).train()
    model.layers[1].eval()
    model.layers[3].bias.requires_grad_(False)
    model.layers[3].weight.grad = torch.ones(10, 64)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    samples = load("digits").test.chosen(torch.arange(30))
    ours = attacked_of(model, samples, torch.arange(30), name="digits")
    try:
        with ours.attackable():
            wrong = wrong_before(ours.victim, ours.rows, 30)
            attack = ATTACKS.build("pgd:steps=5")
            options = {"epsilons": [0.1], "seed": 0}
            attacked(attack, ours.victim, ours.rows, wrong=wrong, **options)
    except RuntimeError:
        assert fails
    assert model.training
    assert [each.training for each in model.layers] == [True, False, True, True]
    assert not model.layers[3].bias.requires_grad
    assert model.layers[3].weight.requires_grad
    assert torch.equal(model.layers[3].weight.grad, torch.ones(10, 64))
    assert model.layers[1].weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_scores_without_a_gradient_are_refused():
    victim = Victim(lambda x: (x > 0.5).float(), 0.0, 1.0)
    rows = torch.rand(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(UsageError, match="gives scores without one; leave detach"):
        ATTACKS.build("fgsm")(victim, *rows, 0.1, Draws(0, range(3)))


def test_noise_is_uniform_and_in_its_ball():
    like = torch.zeros(200, 50)
    noise = Draws(0, range(200)).uniform(like, 0).numpy()
    assert -1 <= noise.min() < -0.99
    assert 0.99 < noise.max() < 1
    assert abs(noise.mean()) < 4 / np.sqrt(3 * noise.size)
    assert not np.array_equal(noise, Draws(0, range(200)).uniform(like, 1).numpy())


def test_own_samples_are_taken_as_they_are():
    samples = TensorSamples(torch.rand(5, 3), torch.zeros(5, dtype=torch.int64))
    ours = attacked_of(
        nn.Linear(3, 2), samples, torch.arange(5), name="mine:load", given=(0.0, 1.0)
    )
    assert torch.equal(ours.rows(torch.arange(5))[0], samples.stored)
