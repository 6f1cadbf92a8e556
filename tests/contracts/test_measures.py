"""What every measure promises, read from the registry."""

import contextlib
import copy
import dataclasses
import functools
import math
from typing import Literal, get_origin, get_type_hints

import pytest
import torch
from torch import nn

import problems
from steppe.errors import DataError, SettingError, UnknownNameError, UsageError
from steppe.measures import (
    LPF,
    MEASURES,
    AbstractMeasure,
    Measurement,
    TopEigenvalue,
    measure,
)
from steppe.measures.needs.outputs.outputs import OverOutputs
from steppe.objective import Objective
from steppe.results import Cost, Estimate

ENTRIES = list(MEASURES)
NAMES = MEASURES.names()
# Settings at which a measure has a value on the small networks of this file.
MEASURABLE = {
    # A smaller change, which noise makes for every seed here.
    "pac_bayes_complexity": {"change": 0.05},
    "pac_bayes_flatness": {"change": 0.05},
    "llc": {"chains": 2, "draws": 12, "burn_in": 3},
    "heavy_tails": {"min_eigenvalues": 2},
    "ritz_sum": {"steps": 30},
    # Above the negative curvature of networks that nobody trained.
    "effective_dimension": {"steps": 30, "alpha": 20.0},
}
# Fewer draws and steps, for a short time: other settings than costs are declared for.
FEW = {
    "average_sharpness": {"samples": 12},
    "keskar_sharpness": {"steps": 5},
    "effective_dimension": {"steps": 12, "alpha": 20.0},
    "frobenius_norm": {"max_samples": 20},
    "local_entropy": {"samples": 12},
    "local_entropy_gradient": {"steps": 4, "pairs": 3},
    "lpf": {"samples": 12},
    "ritz_sum": {"steps": 12},
    "robust_flatness": {"samples": 2, "attack_steps": 4, "weight_steps": 4},
    "trace": {"max_samples": 20},
}
EXAMPLES = MEASURABLE | FEW
# They take samples apart, which statistics of a batch tie together.
OF_ROWS = {"minimum_sharpness", "normalized_sharpness"}
DATA_FREE = {entry.name for entry in ENTRIES if not entry.make.uses_data}


def example(name):
    return MEASURES[name].make(**EXAMPLES.get(name, {}))


def text(name, examples=EXAMPLES):
    """The same as text, which names the result of `measure`."""
    settings = examples.get(name, {})
    pairs = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name}:{pairs}" if pairs else name


def relu_net():
    return problems.mlp(nn.ReLU), problems.vectors()


def layer_rescaling(model):
    """Positive factors of product one: a ReLU network computes the same."""
    model = copy.deepcopy(model)
    factors, so_far = (3.0, 0.2, 1 / 0.6), 1.0
    with torch.no_grad():
        for layer, factor in zip(model[::2], factors, strict=True):
            so_far *= factor
            layer.weight.mul_(factor)
            layer.bias.mul_(so_far)
    return model


def unit_permutation(model):
    """Hidden units in another order."""
    model = copy.deepcopy(model)
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    with torch.no_grad():
        model[0].weight.copy_(model[0].weight[order])
        model[0].bias.copy_(model[0].bias[order])
        model[2].weight.copy_(model[2].weight[:, order])
    return model


def network(name, mode="eval"):
    """A network that the measure takes, with batch norm where it may be."""
    model, data = problems.networks()["batch_norm"]
    if MEASURES[name].spec.networks == "homogeneous":
        kept = [nn.ReLU() if isinstance(m, nn.Tanh) else m for m in model]
        model = nn.Sequential(*kept)
    if mode == "train" and name in OF_ROWS:
        del model[1]
    return model, data


def unit_rescaling(model):
    """Positive factors of hidden units, taken back by the next layer."""
    model = copy.deepcopy(model)
    factors = torch.tensor([3.0, 0.2, 1.0, 5.0, 0.5, 2.0]).double()
    with torch.no_grad():
        for layer, after in ((model[0], model[2]), (model[2], model[4])):
            own = factors[: len(layer.bias)]
            layer.weight.mul_(own[:, None])
            layer.bias.mul_(own)
            after.weight.div_(own)
    return model


def last_layer_rescaling(model):
    """A factor between the last two layers; no power of 2, which rounding keeps."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[2].weight.mul_(5.0)
        model[2].bias.mul_(5.0)
        model[4].weight.div_(5.0)
    return model


def logit_scale(model):
    """Larger outputs of the same order: another function with the same decisions."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model[4].weight.mul_(3.0)
        model[4].bias.mul_(3.0)
    return model


def query_key_rescaling(model):
    """Queries times a factor, keys over it: attention sees their products alone."""
    model = copy.deepcopy(model)
    attention = model.encoder.layers[0].self_attn
    queries, keys, _ = attention.in_proj_weight.detach().chunk(3)
    query_bias, key_bias, _ = attention.in_proj_bias.detach().chunk(3)
    for query, key in ((queries, keys), (query_bias, key_bias)):
        query.mul_(5.0)
        key.div_(5.0)
    return model


def attention_net():
    return problems.networks()["attention"]


REWRITTEN = {
    f.__name__: (f, net)
    for f, net in (
        (layer_rescaling, relu_net),
        (unit_rescaling, relu_net),
        (last_layer_rescaling, relu_net),
        (unit_permutation, relu_net),
        (logit_scale, relu_net),
        (query_key_rescaling, attention_net),
    )
}
OTHER_FUNCTION = {"logit_scale"}


@pytest.mark.parametrize("kind", sorted(REWRITTEN.keys() - OTHER_FUNCTION))
def test_the_transformations_keep_the_function_and_move_the_parameters(kind):
    transform, net = REWRITTEN[kind]
    model, (x, _) = net()
    torch.testing.assert_close(transform(model)(x), model(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(problems.flat(transform(model)), problems.flat(model))


def referred(objective, names, **settings):
    """Measurements with a start of the training and a second network."""
    found = measure(
        objective, [text(name) for name in names], **references(objective), **settings
    )
    return dict(zip(names, found.values(), strict=True))


def references(objective):
    start, other = (copy.deepcopy(objective.model) for _ in "ab")
    # The second network is one with a barrier of the loss before it.
    for model, seed, far in ((start, 8, 1.0), (other, 36, 0.3)):
        with torch.no_grad():
            for p in model.parameters():
                noise = torch.randn(p.shape, generator=problems.generator(seed))
                p.add_(far * noise.to(p))
    return {"start": start, "other": other}


@functools.cache
def of_all(net, transform=None):
    """A network as it is or rewritten, and the estimates of all measures, by name."""
    model, data = net()
    given = references(problems.objective(model, data))
    objective = problems.objective(transform(model) if transform else model, data)
    found = measure(objective, [text(name) for name in NAMES], **given)
    return objective, given, found


@pytest.mark.parametrize("kind", REWRITTEN)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_invariant_to_what_it_declares_and_to_nothing_else(name, kind):
    transform, net = REWRITTEN[kind]
    objective, given, found = of_all(net)
    before, after = found[text(name)], of_all(net, transform)[-1][text(name)]
    if before.refusal:
        pytest.skip(before.refusal)
    near = abs(after.value - before.value)
    same = after.value == pytest.approx(before.value, rel=1e-6)
    close = near < 4 * math.hypot(before.stderr, after.stderr)
    if kind == "unit_permutation" and not same and close:
        # Draws are dealt to other units; errors over samples are no excuse.
        other_draws = measure(objective, [text(name)], **given, seed=1)[text(name)]
        same = other_draws.value != before.value
    declared = kind in MEASURES[name].spec.invariant_to
    assert same == declared


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_it_costs_what_it_declares(entry):
    objective = problems.objective(*relu_net())
    name = text(entry.name, MEASURABLE)
    estimate = measure(objective, [name], **references(objective))[name]
    declared = dataclasses.asdict(entry.spec.cost)
    for kind, passes in dataclasses.asdict(estimate.cost).items():
        if entry.spec.cost_is == "exactly":
            assert passes == pytest.approx(declared[kind]), kind
        elif entry.spec.cost_is == "at most":
            assert passes <= declared[kind] + 1, kind
        else:
            assert passes <= 3 * declared[kind] + 1, kind
            assert passes >= declared[kind] / 4 - 1, kind


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_no_trace(name, mode):
    model, data = network(name, mode)
    model.train(mode == "eval")
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = problems.state_of(model)
    referred(problems.objective(model, data, mode=mode), [name])
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize("calls", [1, pytest.param(2, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("name", NAMES)
def test_it_leaves_no_trace_after_an_exception(name, calls):
    model, data = network(name, "train")
    left = calls

    def loss(model, batch):
        nonlocal left
        losses = nn.functional.cross_entropy(
            model(batch[0]), batch[1], reduction="none"
        )
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        torch.rand(())
        return losses

    objective = Objective(model, [data] * 6, loss=loss, mode="train")
    before = problems.state_of(model)
    if name in DATA_FREE:  # it never calls the loss
        assert not referred(objective, [name])[name].refusal
    else:
        with pytest.raises(KeyboardInterrupt):
            referred(objective, [name])
    problems.assert_same(problems.state_of(model), before)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_one_generator_seed_gives_one_result(entry):
    objective = problems.objective(*relu_net())
    given = references(objective)
    one, two = (
        example(entry.name)(objective, generator=problems.generator(5), **given)
        for _ in "ab"
    )
    assert (one.value, one.stderr) == (two.value, two.stderr)
    unseeded = [example(entry.name)(objective, **given).value for _ in "ab"]
    assert unseeded[0] == unseeded[1]


@functools.cache
def in_one_batch():
    """Estimates of all measures together, by name."""
    return referred(problems.objective(*relu_net(), batch_size=7), NAMES, seed=4)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_depend_on_which_others_run_nor_on_the_batches(name):
    alone = referred(problems.objective(*relu_net()), [name], seed=4)[name]
    others = in_one_batch()[name]
    assert others.value == pytest.approx(alone.value, rel=1e-9)
    assert others.stderr == pytest.approx(alone.stderr, rel=1e-6)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_the_estimate_says_what_it_is_a_function_of_and_what_it_cost(entry):
    objective = problems.objective(*relu_net())
    found = example(entry.name)(objective, **references(objective))
    assert isinstance(found, Estimate)
    if entry.name not in DATA_FREE:
        assert found.details.items() >= objective.details.items()
    assert found.details.items() >= example(entry.name).settings().items()
    assert found.details["seed"] == 0
    assert found.units == entry.spec.units
    # Checks of the loss are no part of a measure.
    assert found.cost == (objective.cost - objective.checks).rounded()
    passes = found.cost.forwards + found.cost.gradients
    assert passes == 0 if entry.name in DATA_FREE else passes > 0
    assert found.seconds > 0


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_it_declares_what_it_needs(entry):
    used = set()
    # Needs may depend on whether the network is piecewise linear, and on its size.
    for model in (problems.mlp(nn.ReLU), problems.mlp(), large_net()):
        objective = problems.objective(model, problems.vectors())
        measurement = Measurement(objective, **references(objective))
        with contextlib.suppress(UsageError), measurement.account() as account:
            example(entry.name).estimate(measurement)
        used |= {need.kind for need in account.used}
    assert used == set(entry.spec.needs)


@dataclasses.dataclass(frozen=True)
class Largest(OverOutputs):
    """The largest loss term, or minus the least."""

    sign: float

    def of_batch(self, evaluation, _objective):
        return (self.sign * evaluation.losses).max()

    def combined(self, batches):
        return float(torch.stack(list(batches)).max())


def test_two_needs_of_one_pass_cost_that_pass_once():
    class Range(WithoutNeeds):
        def estimate(self, measurement):
            high, low = (measurement.of(Largest(sign)) for sign in (1.0, -1.0))
            return Estimate(value=high + low)

    objective = problems.objective(*relu_net(), batch_size=3)
    losses = objective.losses()
    together = measure(objective, [Range(), "loss"])
    assert together["Range"].value == pytest.approx(float(losses.max() - losses.min()))
    assert together["Range"].cost == Cost(forwards=1)
    assert Range()(objective).cost == Cost(forwards=1)


def large_net():
    """More parameters than the spectral measures make products."""
    layers = (nn.Linear(problems.INPUTS, 40), nn.Tanh(), nn.Linear(40, 3))
    return problems.drawn(nn.Sequential(*layers))


INDEPENDENCE = {
    "relu": relu_net,
    "tanh": lambda: (problems.mlp(), problems.vectors()),
    "batch_norm": lambda: problems.networks()["batch_norm"],
}


@pytest.mark.parametrize(
    "kind",
    [
        "batch_norm",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("relu", "tanh")),
    ],
)
def test_it_is_the_same_to_the_last_bit_whichever_others_run(kind):
    model, data = INDEPENDENCE[kind]()
    measured = [referred(problems.objective(model, data), NAMES, seed=4)]
    measured.append(referred(problems.objective(model, data), NAMES[::-1], seed=4))
    for name in NAMES:
        if measured[0][name].refusal:
            continue
        alone = referred(problems.objective(model, data), [name], seed=4)[name]
        assert [each[name] for each in measured] == [alone, alone]


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_its_facts_are_complete(entry):
    assert entry.spec.source
    assert entry.spec.units
    assert entry.spec.cost_text
    assert entry.spec.summary
    assert set(entry.spec.invariant_to) <= set(REWRITTEN)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_it_is_frozen_and_its_repr_makes_it_again(entry):
    made = entry.make()
    assert eval(repr(made), {type(made).__name__: type(made)}) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, next(iter(entry.settings()), "bounds"), 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_numbers_out_of_range_are_one_sentence(entry):
    for setting, parameter in entry.settings().items():
        if parameter.annotation in (int, float):
            with pytest.raises(SettingError, match=f"^{setting} must be .*got -1") as e:
                entry.make(**{setting: -1})
            assert "\n" not in str(e.value)


def one_of_a_few():
    """Settings of all measures whose annotation lists their values."""
    return [
        pytest.param(entry, name, id=f"{entry.name}-{name}")
        for entry in ENTRIES
        for name, hint in get_type_hints(entry.make).items()
        if get_origin(hint) is Literal
    ]


@pytest.mark.parametrize(("entry", "name"), one_of_a_few())
def test_a_setting_that_is_none_of_its_values_is_one_sentence(entry, name):
    with pytest.raises(SettingError, match=rf"^{name} must be '.*', got 'other'"):
        entry.make(**{name: "other"})


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(context, marks=marks, id=context.__name__)
        for context, marks in zip(
            problems.CONTEXTS, ((), (pytest.mark.slow,), ()), strict=True
        )
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_context_around_it_changes_nothing(name, context):
    model, data = problems.mlp(nn.ReLU).float(), problems.vectors()
    data = (data[0].float(), data[1])
    expected = referred(problems.objective(model, data), [name])[name]
    with context():
        found = referred(problems.objective(model, data), [name])[name]
    assert (found.value, found.stderr) == (expected.value, expected.stderr)
    assert found.value != 0


@pytest.mark.parametrize("name", NAMES)
def test_a_replaced_parameter_is_refused(name):
    model, data = relu_net()
    objective = problems.objective(model, data)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    with pytest.raises(UsageError, match=r"0\.weight was replaced .* new Objective"):
        referred(objective, [name])


@pytest.mark.parametrize("name", NAMES)
def test_data_without_loss_terms_is_refused(name):
    model, (x, y) = relu_net()
    objective = problems.objective(model, (x, torch.full_like(y, -100)))
    if name in DATA_FREE:
        assert not referred(objective, [name])[name].refusal
        return
    with pytest.raises(DataError, match="no loss term"):
        referred(objective, [name])


class WithoutNeeds(AbstractMeasure):
    def needs(self):
        return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneDraw(WithoutNeeds):
    def estimate(self, measurement):
        source = self.stream(measurement)
        return Estimate(value=float(torch.rand((), generator=source)))


class OtherDraw(OneDraw):
    pass


def test_two_measures_have_draws_of_their_own():
    objective = problems.objective(*relu_net())
    both = measure(objective, [OneDraw(), OtherDraw()])
    first, second = (found.value for found in both.values())
    assert first != second
    assert first == measure(objective, [OneDraw()])["OneDraw"].value


def test_texts_choices_and_measures_are_the_same_measurement():
    objective = problems.objective(*relu_net())
    built = LPF(sigma=0.02, samples=5)
    text = "lpf:sigma=0.02,samples=5"
    choice = MEASURES.parse(text)
    found = measure(objective, [text, built], seed=1)
    assert list(found) == [text, str(built.choice())]
    assert found[text].value == found[str(built.choice())].value
    assert measure(objective, [choice], seed=1)[str(choice)].value == found[text].value


def test_a_generator_stands_for_its_next_seed():
    objective = problems.objective(*relu_net())
    one, two = (
        measure(objective, ["lpf"], generator=problems.generator(2))["lpf"]
        for _ in "ab"
    )
    other = measure(objective, ["lpf"], seed=7)["lpf"]
    assert one.value == two.value != other.value


def test_measures_of_curvature_share_one_hessian():
    model, data = problems.mlp(nn.Tanh), problems.vectors()
    objective = problems.objective(model, data)
    measure(objective, ["top_eigenvalue", "trace"])
    assert objective.cost.gradients == pytest.approx(1)


def test_what_cannot_be_measured_is_one_sentence():
    objective = problems.objective(*relu_net())
    with pytest.raises(UnknownNameError, match="did you mean 'trace'"):
        measure(objective, ["trase"])
    with pytest.raises(SettingError, match="asked for twice"):
        measure(objective, ["lpf", "lpf"])
    with pytest.raises(SettingError, match="given by name"):
        measure(objective, [3])
    with pytest.raises(SettingError, match="scale must be"):
        LPF(scale="layer")


def test_an_unfinished_eigenvalue_says_so():
    found = TopEigenvalue(max_products=2)(problems.objective(*relu_net()))
    assert not found.converged
    assert found.details["products"] == 2


def test_a_model_in_the_place_of_the_objective_is_refused():
    with pytest.raises(SettingError, match=r"steppe\.Objective\(model, \(x, y\)\)"):
        measure(nn.Linear(2, 2), ["trace"])


def test_a_refused_measure_leaves_the_others_and_says_why():
    model, data = problems.mlp(nn.Tanh), problems.vectors()
    objective = problems.objective(model, data)
    names = ["minimum_sharpness", "lpf:samples=3"]
    refused, given = measure(objective, names).values()
    assert math.isnan(refused.value)
    assert math.isnan(refused.stderr)
    assert not refused.converged
    assert "positively homogeneous network" in refused.refusal
    assert str(refused) == f"not measured: {refused.refusal}"
    assert not given.refusal
    alone = measure(objective, names[1:])[names[1]]
    assert (given.value, given.stderr) == (alone.value, alone.stderr)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Greedy(WithoutNeeds):
    def estimate(self, measurement):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_measure_without_memory_is_refused_and_a_bug_is_a_bug():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Buggy(WithoutNeeds):
        def estimate(self, measurement):
            raise ZeroDivisionError

    objective = problems.objective(*relu_net())
    found = measure(objective, [Greedy(), "lpf:samples=2"])
    assert found["Greedy"].refusal == "OutOfMemoryError: CUDA out of memory"
    with pytest.raises(torch.OutOfMemoryError):
        measure(objective, [Greedy()])
    with pytest.raises(ZeroDivisionError):
        measure(objective, ["lpf:samples=2", Buggy()])


def test_where_nothing_can_be_measured_the_first_refusal_is_raised():
    model, data = problems.mlp(nn.Tanh), problems.vectors()
    objective = problems.objective(model, data)
    with pytest.raises(UsageError, match="positively homogeneous"):
        measure(objective, ["minimum_sharpness", "minimum_sharpness:samples=3"])


def test_an_unknown_measure_is_refused_before_any_work():
    objective = problems.objective(*relu_net())
    with pytest.raises(UnknownNameError):
        measure(objective, ["lpf", "trase"])
    assert objective.cost == Cost()
