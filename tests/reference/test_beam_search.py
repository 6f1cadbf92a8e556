"""Beam search: exhaustive search over small vocabularies, and greedy by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from sentences import PIECES, Backwards, Random, drawn, pairs
from steppe.errors import SettingError
from steppe_lab.datasets.pairs import BOS, EOS, PAD, UNK
from steppe_lab.decoding import BeamSearch, next_tokens, translations

A, B = 4, 5  # tokens of a vocabulary of 6
SOURCES = ([A, EOS], [B, A, EOS], [A, A, EOS])


def batch(rows):
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])


def probability(model, source, tokens):
    """Log-probability of tokens after each other, from one pass over all of them."""
    logits = model((source, torch.tensor([[BOS, *tokens[:-1]]])))[0]
    return logits.log_softmax(1)[range(len(tokens)), tokens].sum().item()


def all_of(model, row, longest):
    """All translations of a sentence, by all tokens that may follow each other."""
    ended = [
        (*begun, EOS)
        for length in range(longest)
        for begun in itertools.product((UNK, A, B), repeat=length)
    ]
    cut = itertools.product((UNK, A, B), repeat=longest)
    with torch.no_grad():
        source = torch.tensor([row])
        return {t: probability(model, source, t) for t in (*ended, *cut)}


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_large_as_the_search_space_is_an_exhaustive_search(seed, alpha):
    model = Random(6, seed)
    search = BeamSearch(beam=100, length_penalty=alpha, longer=0)
    for row, hypotheses in zip(
        SOURCES, search(next_tokens(model), batch(SOURCES), best=100), strict=True
    ):
        every = all_of(model, row, len(row))
        scores = {t: p / ((5 + len(t)) / 6) ** alpha for t, p in every.items()}
        expected = sorted(scores, key=scores.__getitem__, reverse=True)
        assert len(hypotheses) == len(expected)
        for hypothesis, tokens in zip(hypotheses, expected, strict=True):
            assert hypothesis.tokens == tuple(t for t in tokens if t != EOS)
            assert hypothesis.log_probability == pytest.approx(every[tokens], abs=1e-9)
            assert hypothesis.score == pytest.approx(scores[tokens], abs=1e-9)


def greedy(model, row, longest):
    tokens = []
    while len(tokens) < longest and EOS not in tokens:
        logits = model((torch.tensor([row]), torch.tensor([[BOS, *tokens]])))[0, -1]
        logits[[PAD, BOS]] = -torch.inf
        tokens.append(int(logits.argmax()))
    return tuple(t for t in tokens if t != EOS)


@torch.no_grad()
def test_a_beam_of_one_is_greedy():
    rows = [[4 + digit for digit in row] + [EOS] for row in drawn(40, 0)]
    model = Random(len(PIECES), 0)
    translated = BeamSearch(longer=5)(next_tokens(model), batch(rows))
    for row, (hypothesis,) in zip(rows, translated, strict=True):
        assert hypothesis.tokens == greedy(model, row, len(row) + 5)
    assert len({len(each.tokens) for (each,) in translated}) > 3


@pytest.mark.parametrize("beam", [1, 3])
def test_a_translation_depends_on_no_other_sentence_of_its_batch(beam):
    rows = [[4 + digit for digit in row] + [EOS] for row in drawn(12, 3)]
    model, search = Random(len(PIECES), 1), BeamSearch(beam=beam, longer=4)
    together = search(next_tokens(model), batch(rows), best=beam)
    for row, expected in zip(rows, together, strict=True):
        (alone,) = search(next_tokens(model), batch([row]), best=beam)
        assert [h.tokens for h in alone] == [h.tokens for h in expected]


def test_hypotheses_that_are_left_out_were_not_among_the_best():
    rows = [[4 + digit for digit in row] + [EOS] for row in drawn(12, 4)]
    model, search = Random(len(PIECES), 2), BeamSearch(beam=4, longer=6)
    for one, several in zip(
        search(next_tokens(model), batch(rows)),
        search(next_tokens(model), batch(rows), best=4),
        strict=True,
    ):
        assert one == several[:1]
        scores = [each.score for each in several]
        assert scores == sorted(scores, reverse=True)


class Endless(nn.Module):
    def encode(self, source):
        return source

    def decode(self, target, memory, source):
        return nn.functional.one_hot(torch.full_like(target, A), 6).double()


def test_a_translation_that_does_not_end_is_cut_by_the_length_of_its_source():
    translated = BeamSearch(longer=3)(next_tokens(Endless()), batch(SOURCES))
    assert [len(h.tokens) for (h,) in translated] == [5, 6, 6]


def test_logits_that_are_no_numbers_give_no_translation():
    model = Backwards(float("nan"))
    assert translations(model, pairs([[1, 2]]), BeamSearch()) == ("",)


def test_texts_are_in_the_order_of_the_samples():
    samples = pairs(drawn(20, 5))
    for beam in (1, 4):
        texts = translations(Backwards(9.0), samples, BeamSearch(beam=beam))
        assert texts == samples.references


def test_a_search_leaves_the_model_as_it_was():
    model = Random(len(PIECES), 0, dropout=0.5).train()
    model.drop.eval()
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    random, samples = torch.get_rng_state(), pairs(drawn(4, 0))
    first = translations(model, samples, BeamSearch(beam=2))
    assert translations(model, samples, BeamSearch(beam=2)) == first
    assert model.training
    assert not model.drop.training
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(each, before[n]) for n, each in model.state_dict().items())
    assert next(model.parameters()).grad.eq(1).all()
    assert all(p.requires_grad for p in model.parameters())


def test_a_model_that_cannot_decode_is_refused():
    with pytest.raises(SettingError, match=r"needs encode.* got Linear without them"):
        translations(nn.Linear(2, 2), pairs([[1, 2]]), BeamSearch())
