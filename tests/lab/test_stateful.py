"""Recurrent language models whose state goes on from batch to batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import steppe
from small_trainings import same_weights
from steppe.errors import SettingError
from steppe_lab.datasets import Dataset, Selection, TokenSamples
from steppe_lab.models import MODELS
from steppe_lab.runs.analysis import objective_on
from steppe_lab.tasks import TASKS
from steppe_lab.training import carrying
from steppe_lab.training.carrying import check_carrying
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.evaluation import estimates, evaluate
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.packed.grouping import why_alone
from steppe_lab.training.recipe import Recipe

WORDS, STEPS = 7, 4
MODEL = "lstm_lm:hidden=5,layers=2"


def text(tokens: int, seed: int = 0):
    """Random words, each more likely the one after the word before."""
    generator = torch.Generator().manual_seed(seed)
    jumps = torch.randint(3, (tokens,), generator=generator)
    return TokenSamples.from_stream(jumps.cumsum(0) % WORDS, STEPS)


def data(train_tokens: int = 110):
    return Dataset(
        name="counting",
        train=text(train_tokens),
        test=text(50, 1),
        classes=tuple("abcdefg"),
        task="next_token",
    )


def recipe(optimizer: str = "sgd:lr=0.5", **more: object) -> Recipe:
    settings = {
        "data": "ptb",
        "model": MODEL,
        "epochs": 3,
        "batch_size": 4,
        "lr_schedule": "constant",
        **read_optimizer(optimizer, "sgd:lr=0.5,momentum=0,weight_decay=0"),
        **more,
    }
    return Recipe.model_validate(settings)


def split_of(made: Recipe, **more: int):
    return made.selection.apply(data(**more))


def network(dtype=torch.float64, text=MODEL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS.build(text, (STEPS,), WORDS).to(dtype).eval()


# ---- the network --------------------------------------------------------------------


def by_hand(model, tokens):
    """Logits (T, V) of one text, by the recurrence of Zaremba et al., Section 3."""
    weights = dict(model.named_parameters())
    states = [(torch.zeros(5).double(), torch.zeros(5).double()) for _ in range(2)]
    logits = []
    for token in tokens:
        x = weights["embedding.weight"][token]
        for layer, (hidden, cell) in enumerate(states):
            of_x, of_h, bias, other = (
                weights[f"lstm.{kind}_l{layer}"]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            i, f, g, o = (of_x @ x + of_h @ hidden + bias + other).view(4, 5)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            x = o.sigmoid() * cell.tanh()
            states[layer] = (x, cell)
        logits.append(weights["head.weight"] @ x + weights["head.bias"])
    return torch.stack(logits)


def test_logits_are_those_of_the_published_recurrence():
    model, tokens = network(), torch.arange(9) % WORDS
    torch.testing.assert_close(model(tokens[None])[0], by_hand(model, tokens))


def test_a_text_in_pieces_with_the_state_between_is_the_text_in_one():
    model, tokens = network(), torch.arange(2 * 12).view(2, 12) % WORDS
    whole, end = model((tokens, model.zero_state(2)))
    first, state = model((tokens[:, :5], model.zero_state(2)))
    second, after = model((tokens[:, 5:], state))
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(after, end)
    torch.testing.assert_close(model(tokens), whole)


def test_second_derivatives_are_those_of_differences():
    model = network()
    batch = data().train.batch(slice(0, 3))
    objective = steppe.Objective(model, [batch], "cross_entropy")
    operator = steppe.Hessian(objective)
    direction = torch.randn(
        operator.shape[0], generator=torch.Generator().manual_seed(2)
    )
    direction = direction.double()
    product, eps = operator @ direction, 1e-5
    params = list(model.parameters())

    def gradient(shift):
        sizes = [p.numel() for p in params]
        for p, d in zip(params, direction.split(sizes), strict=True):
            p.data.add_(d.view_as(p), alpha=shift)
        loss = F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())
        grads = torch.autograd.grad(loss, params)
        for p, d in zip(params, direction.split(sizes), strict=True):
            p.data.sub_(d.view_as(p), alpha=shift)
        return torch.cat([g.flatten() for g in grads])

    difference = (gradient(eps) - gradient(-eps)) / (2 * eps)
    torch.testing.assert_close(product, difference, rtol=1e-4, atol=1e-7)


# ---- scores -------------------------------------------------------------------------


def test_scores_carry_the_state_over_the_text_from_zero():
    model, samples, task = network(), data().train, TASKS.build("next_token")
    tokens = torch.cat([samples.inputs.flatten()[:109]])
    targets = samples.targets.flatten()[:109]
    losses = F.cross_entropy(by_hand(model, tokens), targets, reduction="none")
    for rows in (1, 3, 256):
        score = evaluate(model, samples, task, batch_size=rows)
        assert score.loss == pytest.approx(losses.mean().item(), rel=1e-12)
        assert score.metrics["perplexity"] == pytest.approx(math.exp(score.loss))
    rows = estimates(model, samples.pieces(3), task, contiguous=True)
    assert rows["loss"].value == pytest.approx(losses.mean().item(), rel=1e-12)


def test_measures_begin_every_piece_with_zeros():
    model, split = network(), split_of(recipe())
    objective = objective_on(model, split, samples=10, seed=0)
    chosen = split.some("train", 10, seed=0)
    losses = [
        F.cross_entropy(by_hand(model, tokens), targets, reduction="none")
        for tokens, targets in zip(chosen.inputs, chosen.targets, strict=True)
    ]
    counted = torch.cat(losses)[chosen.targets.flatten() != -100]
    assert objective.value().value == pytest.approx(counted.mean().item(), rel=1e-10)
    assert objective.about["state"] == "zeros before each piece of the text"


def test_with_weights_of_zero_the_perplexity_is_that_of_the_unigram_model():
    model, samples, task = network(), data().test, TASKS.build("next_token")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert evaluate(model, samples, task).metrics["perplexity"] == pytest.approx(WORDS)
    targets = samples.targets[samples.targets != -100]
    share = targets.bincount(minlength=WORDS).double() / len(targets)
    model.head.bias.data.copy_(share.log())
    entropy = -(share * share.log()).nansum()
    perplexity = evaluate(model, samples, task).metrics["perplexity"]
    assert perplexity == pytest.approx(entropy.exp().item())


# ---- the order of the pieces --------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "last", "expected"),
    [
        (8, "keep", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (10, "keep", [[0, 3, 6, 8], [1, 4, 7, 9], [2, 5]]),
        (10, "drop", [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (3, "keep", [[0, 1, 2]]),
    ],
)
def test_rows_of_batches_are_streams_of_neighbouring_pieces(samples, last, expected):
    epochs = Epochs.of(recipe(last_batch=last), samples)
    for epoch in (0, 1):
        assert [rows.tolist() for rows in epochs.batches(epoch)] == expected
    assert epochs.steps == 3 * len(expected)


def test_pieces_are_shuffled_where_the_state_is_not_carried():
    epochs = Epochs.of(recipe(model=f"{MODEL},stateful=false"), 50)
    assert not torch.equal(epochs.batches(0)[0], epochs.batches(1)[0])


# ---- trainings ----------------------------------------------------------------------


def hand_trained(made: Recipe, split, *, rho: float = 0.0, lr: float = 0.5):
    """Weights after plain loops, in which streams and passes are written out."""
    model = network(torch.float32, str(made.model)).train()
    params = list(model.parameters())

    def loss_at(tokens, targets, state):
        logits, after = model((tokens, state))
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return torch.autograd.grad(loss, params), after.detach()

    for _ in range(made.epochs):
        state = model.zero_state(4)
        streams = torch.arange(len(split.train)).tensor_split(4)
        for number in range(len(streams[0])):
            rows = torch.stack([s[number] for s in streams if number < len(s)])
            batch, before = split.train.batch(rows), state[: len(rows)]
            grads, state = loss_at(*batch, before)
            if rho:
                norm = torch.stack([g.norm() for g in grads]).norm()
                moves = [rho * g / norm for g in grads]
                for p, move in zip(params, moves, strict=True):
                    p.data.add_(move)
                grads, _ = loss_at(*batch, before)
                for p, move in zip(params, moves, strict=True):
                    p.data.sub_(move)
            for p, g in zip(params, grads, strict=True):
                p.data.sub_(lr * g)
    return model


@pytest.mark.parametrize(("optimizer", "rho"), [("sgd", 0.0), ("sam:rho=0.2", 0.2)])
def test_a_training_is_that_of_loops_written_out(optimizer, rho):
    made = recipe(optimizer)
    split = split_of(made)
    trained = train(made, split)
    expected = hand_trained(made, split, rho=rho)
    for one, other in zip(
        trained.model.parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]


def test_the_state_goes_on_with_the_bits_of_the_first_pass(monkeypatch):
    """Whatever is done to the batch afterwards: parts, micro-batches, moved weights."""
    seen: list[torch.Tensor] = []
    begin = carrying.Carry.begin

    def noted(self, batch):
        inputs, targets = begin(self, batch)
        seen.append(inputs[1].clone())
        return inputs, targets

    monkeypatch.setattr(carrying.Carry, "begin", noted)
    states = {}
    for optimizer, more in [
        ("sgd:lr=0", {}),
        ("sam:rho=0.5;sgd:lr=0", {}),
        ("sam:rho=0.5;sgd:lr=0", {"perturbations": 2}),
    ]:
        method, _, base = optimizer.partition(";")
        settings = {"base": base} if base else {}
        made = recipe(method, epochs=2, **settings, **more)
        train(made, split_of(made))
        states[f"{optimizer} {more}"], seen = list(seen), []
        monkeypatch.setattr(carrying.Carry, "begin", noted)
    first, *others = states.values()
    steps = len(first) // 2
    assert not first[0].any()
    assert not first[steps].any()  # a new epoch
    assert all(state.any() for state in first[1:steps])
    for other in others:
        for one, same in zip(first, other, strict=True):
            torch.testing.assert_close(one, same)


@pytest.mark.parametrize("optimizer", ["sam:rho=0.1", "lpf_sgd:micro_batches=2"])
def test_stopping_and_going_on_changes_no_bit(optimizer):
    made = recipe(optimizer, clip_norm=0.25)
    split = split_of(made)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) == 2
    for state in kept:
        resumed = train(made, split, resume=state)
        assert same_weights(resumed.model, straight.model)
        assert resumed.history == straight.history


def test_lower_precision_keeps_the_state_in_float32():
    made = recipe(amp="bf16", epochs=1)
    trained = train(made, split_of(made))
    assert math.isfinite(trained.history[-1]["test_perplexity"])


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"train_samples": 9}, "--subset first"),
        ({"epoch_size": 9}, "got epoch_size 9"),
        ({"processes": 2}, "one process must train it, got 2"),
        ({"optimizer": "entropy_sgd:fresh_batches=true"}, "fresh batches"),
    ],
)
def test_trainings_without_a_batch_before_are_refused(more, sentence):
    made = recipe(**more)
    with pytest.raises(SettingError, match=sentence):
        check_carrying(made, split_of(made))
    free = recipe(**more, model=f"{MODEL},stateful=false")
    check_carrying(free, split_of(free))


def test_the_first_pieces_of_a_text_are_one_too():
    made = recipe(train_samples=9, subset="first", held_out="validation")
    split = split_of(made)
    assert split.train.contiguous
    assert split.test.contiguous
    assert len(split.test) == 28 - 9


def test_a_network_with_a_state_is_trained_by_itself():
    assert why_alone(recipe()) == "its network carries a state between batches"


def test_no_sequence_is_no_input():
    with pytest.raises(SettingError, match="lstm_lm needs sequences of tokens"):
        MODELS.build("lstm_lm", (3, 8, 8), 10)


def test_samples_in_any_order_are_read_one_by_one():
    selection = Selection(train_samples=9)
    assert not selection.apply(data()).train.contiguous
