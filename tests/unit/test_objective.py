"""The mean loss: weights of samples, forms of data, forms of loss, no trace."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import problems
import steppe
from steppe.errors import DataError, SettingError, UsageError
from steppe.losses import LogitNormalised
from steppe.objective import Objective
from steppe.parameters import flatten, restored, trainable, unflatten
from steppe.seeds import seed_of

IGNORE_DEFAULT = [(name, -100) for name in ("cross_entropy", "function", "module")]
CLASS_WEIGHTS = torch.tensor([1.0, 2.0, 1.0])


def expected_losses():
    model, (x, y) = problems.mlp(), problems.vectors()
    return F.cross_entropy(model(x), y, reduction="none").detach()


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
def test_every_sample_weighs_alike_also_in_a_short_last_batch(batch_size):
    objective = problems.objective(problems.mlp(), problems.vectors(), batch_size)
    losses = expected_losses()
    torch.testing.assert_close(objective.losses(), losses, rtol=1e-12, atol=0)
    value = objective.value()
    assert value.value == pytest.approx(float(losses.mean()), rel=1e-12)
    assert value.stderr == pytest.approx(float(losses.std()) / 7**0.5, rel=1e-10)
    assert (value.samples, objective.count()) == (7, 7)


@pytest.mark.parametrize("batch_size", [2, 7])
def test_the_gradient_is_that_of_the_mean_loss(batch_size):
    model, (x, y) = problems.mlp(), problems.vectors()
    expected = torch.autograd.grad(F.cross_entropy(model(x), y), model.parameters())
    found = problems.objective(model, (x, y), batch_size).gradient()
    torch.testing.assert_close(found, list(expected), rtol=1e-10, atol=1e-14)


def test_the_gradient_of_a_loss_without_influence_is_zero():
    x, _ = problems.vectors()
    objective = Objective(problems.linear(), [x], loss=lambda model, x: x[:, 0])
    assert not flatten(objective.gradient()).any()


def test_tensors_loaders_datasets_and_lists_are_the_same_data():
    x, y = problems.vectors()
    dataset = TensorDataset(x, y)
    forms = [
        (x, y),
        dataset,
        DataLoader(dataset, batch_size=2),
        [(x[:1], y[:1]), (x[1:], y[1:])],
    ]
    for data in forms:
        losses = Objective(problems.mlp(), data).losses()
        torch.testing.assert_close(losses, expected_losses(), rtol=1e-12, atol=0)


def test_a_shuffling_loader_is_read_once():
    shuffled = DataLoader(TensorDataset(*problems.vectors()), 2, shuffle=True)
    objective = Objective(problems.mlp(), shuffled)
    assert torch.equal(objective.losses(), objective.losses())


def test_reading_the_data_draws_nothing_from_the_global_random_state():
    model = problems.mlp()
    shuffled = DataLoader(TensorDataset(*problems.vectors()), 2, shuffle=True)
    for data in (shuffled, shuffled.dataset):
        before = torch.get_rng_state()
        Objective(model, data)
        assert torch.equal(torch.get_rng_state(), before)


def ignoring(name, k):
    return {
        "cross_entropy": "cross_entropy",
        "function": F.cross_entropy,
        "module": nn.CrossEntropyLoss(reduction="none", ignore_index=k),
    }[name]


@pytest.mark.parametrize(("name", "k"), [*IGNORE_DEFAULT, ("module", 2)])
def test_ignored_targets_are_no_loss_terms(name, k):
    model, (x, y) = problems.mlp(), problems.vectors()
    y = torch.where(torch.arange(7) % 3 == 1, k, y)
    kept = y != k
    expected = F.cross_entropy(model(x), y, ignore_index=k)
    objective = problems.objective(model, (x, y), loss=ignoring(name, k))
    value = objective.value()
    assert value.value == pytest.approx(expected.item(), rel=1e-12)
    assert value.samples == int(kept.sum()) < 7
    grads = torch.autograd.grad(expected, model.parameters())
    torch.testing.assert_close(objective.gradient(), list(grads), rtol=1e-10, atol=0)


def test_ignored_targets_of_the_negative_log_likelihood_are_no_loss_terms():
    model, (x, y) = nn.Sequential(problems.mlp(), nn.LogSoftmax(1)), problems.vectors()
    y[2] = -100
    for loss in (F.nll_loss, nn.NLLLoss(reduction="none")):
        assert problems.objective(model, (x, y), loss=loss).count() == 6


@pytest.mark.parametrize("work", ["losses", "value", "gradient", "count"])
def test_no_loss_term_at_all_is_refused(work):
    x, y = problems.vectors()
    objective = problems.objective(problems.mlp(), (x, torch.full_like(y, -100)))
    with pytest.raises(DataError, match="no loss term; give") as caught:
        getattr(objective, work)()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 2), (7, 2, 3)])
def test_the_squared_error_is_averaged_over_the_outputs_of_a_sample(shape):
    source = problems.generator(3)
    x = torch.randn(shape, generator=source, dtype=torch.float64)
    y = torch.randn(shape, generator=source, dtype=torch.float64)
    model = Factor()
    found = problems.objective(model, (x, y), loss="mse").losses()
    expected = (2 * x - y).square().reshape(7, -1).mean(1)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


class Factor(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0).double())

    def forward(self, x):
        return self.factor * x


def test_the_squared_error_of_unequal_shapes_is_refused():
    x, _ = problems.vectors()
    objective = Objective(Factor(), (x[:, :1], x[:, 0]), loss="mse")
    with pytest.raises(DataError, match=r"outputs \(7, 1\), got \(7,\); reshape"):
        objective.value()


def test_the_error_of_a_single_sample_is_unknown():
    x, y = problems.vectors()
    found = Objective(problems.mlp(), (x[:1], y[:1])).value()
    assert (found.stderr, found.samples) == (math.inf, 1)


@pytest.mark.parametrize("context", problems.CONTEXTS, ids=problems.CONTEXT_NAMES)
def test_a_context_around_it_changes_nothing(context):
    (x, y), model = problems.vectors(), problems.mlp().float()
    loader = DataLoader(TensorDataset(x.float(), y), 2)
    expected = flatten(Objective(model, loader).gradient())
    with context():
        objective = Objective(model, [(x.float() * 1, y)])
        found = flatten(objective.gradient())
        losses = Objective(model, loader).losses()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert torch.equal(losses, Objective(model, loader).losses())
    assert found.any()
    assert not losses.requires_grad


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_gradients_stay_off_inside_where_they_were_off_outside(context):
    objective = Objective(problems.mlp(), problems.vectors())
    with context(), objective.measuring():
        assert not objective.batch_losses(0).requires_grad
    with objective.measuring():
        assert objective.batch_losses(0).requires_grad


def test_a_model_made_under_inference_mode_is_refused():
    with torch.inference_mode():
        model = problems.mlp()
    with pytest.raises(UsageError, match=r"made under torch\.inference_mode"):
        Objective(model, problems.vectors()).gradient()


@pytest.mark.parametrize("work", ["losses", "value", "gradient", "count"])
def test_a_model_that_is_no_longer_the_one_given_is_refused(work):
    model = problems.mlp()
    replaced = Objective(model, problems.vectors())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(state, assign=True)
    with pytest.raises(UsageError, match=r"0\.weight was replaced since .* make a new"):
        getattr(replaced, work)()
    frozen = Objective(model, problems.vectors())
    model.requires_grad_(False)
    with pytest.raises(UsageError, match=r"0\.weight was frozen since"):
        getattr(frozen, work)()


def test_two_batches_have_dropout_masks_of_their_own():
    model = nn.Sequential(Factor(), nn.Dropout(0.5))
    x = torch.ones((1, 50), dtype=torch.float64)
    objective = Objective(
        model, [x, x], mode="train", loss=lambda model, x: model(x)[0]
    )
    first, second = objective.losses().chunk(2)
    assert not torch.equal(first, second)


def test_a_loss_that_freezes_a_parameter_leaves_it_as_it_was():
    def loss(model, batch):
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        model[0].weight.requires_grad_(False)
        return losses

    model = problems.mlp()
    before = problems.state_of(model)
    Objective(model, [problems.vectors()], loss=loss).value()
    problems.assert_same(problems.state_of(model), before)


def test_a_list_of_two_tensors_is_refused_by_a_sentence_that_says_tuple():
    x, y = problems.vectors()
    with pytest.raises(DataError, match=r"pairs .* got Tensor; give a tuple \(X, y\)"):
        Objective(problems.mlp(), [x, y]).value()


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
        lambda outputs, targets: (outputs - targets).square().mean(1),
        lambda outputs, targets: outputs.log_softmax(1)[:, 0],
    ],
)
def test_a_loss_of_outputs_and_targets_is_refused_by_how_it_is_called(loss):
    objective = Objective(problems.mlp(), problems.vectors(), loss)
    with pytest.raises(DataError, match=r"called with \(model, batch\); run") as caught:
        objective.value()
    assert "\n" not in str(caught.value)


def test_other_mistakes_within_a_loss_are_its_own():
    def loss(model, batch):
        return model(batch[0]).nothing

    with pytest.raises(AttributeError, match="nothing"):
        Objective(problems.mlp(), problems.vectors(), loss).value()


def test_losses_by_name_by_module_by_function_and_by_callable_agree():
    forms = [
        "cross_entropy",
        nn.CrossEntropyLoss(reduction="none"),
        F.cross_entropy,
        lambda model, batch: F.cross_entropy(
            model(batch[0]), batch[1], reduction="none"
        ),
    ]
    for loss in forms:
        losses = Objective(problems.mlp(), problems.vectors(), loss).losses()
        torch.testing.assert_close(losses, expected_losses(), rtol=1e-12, atol=0)


def test_ignored_tokens_have_no_weight():
    model, (x, _) = problems.linear(), problems.vectors()
    y = torch.tensor([0, -100, 1, 2, -100, 0, 1])
    objective = problems.objective(model, (x, y))
    assert objective.count() == 5
    expected = F.cross_entropy(model(x), y).item()
    assert objective.value().value == pytest.approx(expected, rel=1e-12)


def test_mean_squared_error_averages_over_outputs():
    x, _ = problems.vectors()
    model, targets = problems.linear(), torch.zeros(7, 3, dtype=torch.float64)
    found = Objective(model, (x, targets), loss="mse").value().value
    assert found == pytest.approx(model(x).square().mean().item(), rel=1e-12)


def test_eval_and_train_differ_by_batch_norm_and_are_named():
    model, data = problems.networks()["batch_norm"]
    for mode in ("eval", "train"):
        objective = problems.objective(model, data, mode=mode)
        truth = problems.loss_of(model, data, mode)(problems.flat(model))
        assert objective.value().value == pytest.approx(float(truth), rel=1e-12)
        assert objective.value().details["mode"] == mode


@pytest.mark.parametrize("work", ["losses", "value", "gradient", "count"])
def test_nothing_is_left_behind(work):
    model, data = problems.networks()["batch_norm"]
    model.eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    objective = problems.objective(model, data, mode="train")
    before = problems.state_of(model)
    getattr(objective, work)()
    problems.assert_same(problems.state_of(model), before)


def test_dropout_has_the_same_masks_in_every_pass_and_others_with_another_seed():
    model = problems.drawn(problems.Attention(dropout=0.5))
    data = problems.vectors(shape=(3, 4))
    first = problems.objective(model, data, mode="train", seed=0)
    other = problems.objective(model, data, mode="train", seed=1)
    assert torch.equal(first.losses(), first.losses())
    assert not torch.equal(first.losses(), other.losses())


def test_costs_are_counted_in_passes_over_the_data():
    objective = problems.objective(problems.mlp(), problems.vectors())
    objective.value()
    objective.gradient()
    assert (objective.cost.forwards, objective.cost.gradients) == (1, 1)


def frozen():
    return problems.mlp().requires_grad_(False)


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ((problems.mlp(), problems.vectors()), {"mode": "test"}, "mode must be"),
        ((problems.mlp(), problems.vectors()), {"batch_size": 0}, "batch_size must"),
        ((problems.mlp(), problems.vectors(), "hinge"), {}, "loss must be one of"),
        ((problems.mlp(), problems.vectors(), nn.MSELoss()), {}, "reduction='none'"),
        (
            (
                problems.mlp(),
                problems.vectors(),
                nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, reduction="none"),
            ),
            {},
            "CrossEntropyLoss has class weights",
        ),
        (
            (
                problems.mlp(),
                problems.vectors(),
                nn.NLLLoss(weight=CLASS_WEIGHTS, reduction="none"),
            ),
            {},
            "NLLLoss has class weights",
        ),
        ((frozen(), problems.vectors()), {}, "requires a gradient"),
        ((problems.mlp(), []), {}, "empty"),
        ((problems.mlp(), "mnist"), {}, "data must be"),
        ((problems.mlp(), (torch.ones(3), torch.ones(2))), {}, "one length"),
    ],
)
def test_mistakes_are_one_sentence(arguments, settings, said):
    with pytest.raises((SettingError, DataError), match=said) as caught:
        Objective(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_a_loss_that_averages_the_batch_is_refused():
    def averaged(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(DataError, match="one value per sample"):
        Objective(problems.mlp(), problems.vectors(), averaged).value()


def test_flattening_and_unflattening_are_inverse_also_for_strided_vectors():
    params = [p.detach() for p in problems.networks()["batch_norm"][0].parameters()]
    vector = flatten(params)
    block = torch.stack([vector, -vector], dim=1)
    for piece, p in zip(unflatten(block[:, 0], params), params, strict=True):
        assert torch.equal(piece, p)


def test_restoring_is_bit_for_bit_also_after_an_exception():
    model = problems.mlp()
    before = problems.flat(model)

    def move_and_stop():
        with restored(list(model.parameters())), torch.no_grad():
            model[0].weight.add_(0.1)
            assert not torch.equal(problems.flat(model), before)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_and_stop()
    assert torch.equal(problems.flat(model), before)


def test_a_shared_parameter_counts_once_and_a_frozen_one_not_at_all():
    model = problems.Tied()
    assert "second.weight" not in trainable(model)
    model.head.requires_grad_(False)
    assert "head.weight" not in trainable(model)


def penalised(model, batch):
    """Losses with the squared length of the mean loss's gradient added."""
    losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    grads = torch.autograd.grad(
        losses.mean(), list(model.parameters()), create_graph=True
    )
    return losses + sum(g.square().sum() for g in grads)


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad])
def test_a_loss_may_differentiate_by_the_parameters(context):
    model, (x, y) = problems.mlp(), problems.vectors()
    objective = Objective(model, (x, y), penalised, batch_size=3)
    parts = zip(x.split(3), y.split(3), strict=True)
    expected = torch.cat([penalised(model, pair).detach() for pair in parts])
    with context():
        objective.check_repeatable()
        torch.testing.assert_close(objective.losses(), expected)
        assert objective.value().value == pytest.approx(float(expected.mean()))
        assert objective.count() == len(x)
    assert not objective.losses().requires_grad
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_probabilities_of_tokens_along_the_last_dimension_are_refused():
    source = problems.generator()
    logits = torch.randn(6, 5, 3, generator=source, dtype=torch.float64)
    soft = torch.softmax(torch.randn(6, 5, 3, generator=source).double(), -1)
    model = nn.Linear(3, 3).double()
    with pytest.raises(DataError, match=r"probabilities along the last.*transpose"):
        Objective(model, (logits, soft)).value()

    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x).transpose(1, 2)

    found = Objective(Turned(), (logits, soft.transpose(1, 2))).value()
    expected = -(soft * model(logits).log_softmax(-1)).sum(-1).mean().detach()
    assert found.value == pytest.approx(float(expected))


class SharedNoise(nn.Module):
    """One draw for all samples of a pass, in training alone."""

    def __init__(self, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.scale = scale

    def forward(self, x):
        noise = self.scale * torch.randn(()) if self.training else 0.0
        return self.weight * x + noise


def measured(scale, data, mode):
    model = SharedNoise(scale)
    return Objective(model, data, lambda m, x: m(x)[:, 0], mode=mode).value()


def drawn(seed):
    return torch.randn((), generator=torch.Generator().manual_seed(seed))


def test_the_error_of_a_mean_knows_of_noise_that_a_batch_shares():
    data = [torch.zeros(50, 1) for _ in range(8)]
    noises = torch.stack([drawn(seed_of(0, i)) for i in range(8)])
    value = measured(1.0, data, "train")
    assert value.value == pytest.approx(float(noises.mean()), rel=1e-6)
    assert value.stderr == pytest.approx(float(noises.std()) / 8**0.5, rel=1e-6)
    assert measured(1.0, data, "eval").stderr == 0


@pytest.mark.parametrize("rows", [(3, 3, 3), (5, 2, 2)])
def test_without_noise_it_is_the_larger_one_of_samples_and_batches(rows):
    x = torch.linspace(-1, 1, 9)[:, None]  # of mean 0, sorted: batches are clusters
    sums = torch.tensor([float(part.sum()) for part in torch.split(x, rows)])
    by_batch = float(sums.square().sum() * 3 / 2) ** 0.5 / 9
    by_sample = float(x.std()) / 3
    data = list(torch.split(x, rows))
    assert measured(0.0, data, "eval").stderr == pytest.approx(by_sample, rel=1e-6)
    assert measured(0.0, data, "train").stderr == pytest.approx(by_batch, rel=1e-6)
    assert by_batch > by_sample
    mixed = list(torch.split(x[[0, 8, 4, 1, 7, 2, 6, 3, 5]], (3, 2, 2, 2)))
    assert measured(0.0, mixed, "train").stderr == pytest.approx(by_sample, rel=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        "cross_entropy",
        nn.CrossEntropyLoss(reduction="none"),
        nn.functional.cross_entropy,
        LogitNormalised(),
    ],
)
@pytest.mark.parametrize("measure", ["loss", "trace", "fisher_trace"])
def test_classes_of_a_single_output_are_refused(loss, measure):
    inputs = torch.randn(6, 3)
    for targets in (torch.randn(6, 1), torch.zeros(6).long()):
        objective = Objective(nn.Linear(3, 1), (inputs, targets), loss=loss)
        with pytest.raises(DataError, match="single class is 0 for every network"):
            steppe.measure(objective, [measure])
    flat = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    objective = Objective(flat, (inputs, torch.rand(6)), loss=loss)
    with pytest.raises(DataError, match="dimension of classes"):
        steppe.measure(objective, [measure])
