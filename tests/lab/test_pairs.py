"""Pairs of sentences as samples: flat in memory, padded in batches."""

from __future__ import annotations

import hashlib

import pytest
import torch

from steppe.errors import DataError
from steppe_lab.datasets.formats.compact import Texts
from steppe_lab.datasets.pairs import BOS, EOS, PAD, PairSamples, Sentences
from steppe_lab.datasets.samples import on_device

SOURCE = [[5, 6, 7], [8], [], [5, 5, 5, 5]]
TARGET = [[9], [10, 11], [4, 4, 4], []]
TEXTS = (("eins zwei", "drei", "", "über"), ("one", "two 2", "three", "…"))


def samples(source=SOURCE, target=TARGET, vocabulary=12):
    return PairSamples(
        source=Sentences.of(source, vocabulary),
        target=Sentences.of(target, vocabulary),
        source_texts=Texts.of(TEXTS[0]),
        target_texts=Texts.of(TEXTS[1]),
        pairs=torch.arange(4),
        length=6,
        vocabulary=tuple("abcdefghijkl"),
    )


def test_a_batch_is_padded_to_its_own_longest_sentences():
    (source, begun), targets = samples().batch(torch.tensor([1, 0]))
    assert source.tolist() == [[8, EOS, PAD, PAD], [5, 6, 7, EOS]]
    assert begun.tolist() == [[BOS, 10, 11], [BOS, 9, PAD]]
    assert targets.tolist() == [[10, 11, EOS], [9, EOS, -100]]
    assert {each.dtype for each in (source, begun, targets)} == {torch.int64}


def test_sentences_without_words_are_ends_alone():
    (source, begun), targets = samples().batch(slice(2, 4))
    assert source.tolist() == [[EOS, PAD, PAD, PAD, PAD], [5, 5, 5, 5, EOS]]
    assert begun.tolist() == [[BOS, 4, 4, 4], [BOS, PAD, PAD, PAD]]
    assert targets.tolist() == [[4, 4, 4, EOS], [EOS, -100, -100, -100]]


def test_all_targets_are_those_of_batches_in_a_narrow_type():
    own = samples()
    assert own.targets.dtype == torch.int16
    assert own.targets[:2, :3].tolist() == own.targets_at(slice(0, 2)).tolist()
    assert own.targets.shape == (4, 4)
    wide = samples(vocabulary=40_000)
    assert wide.targets.dtype == torch.int32
    assert torch.equal(wide.targets, own.targets.int())


def test_choosing_samples_copies_no_sentence_and_keeps_their_texts():
    own = samples()
    some = own.chosen(torch.tensor([3, 1]))
    assert some.source.tokens is own.source.tokens
    assert some.target_texts is own.target_texts
    assert some.sources == ("über", "drei")
    assert some.references == ("…", "two 2")
    assert some.chosen(torch.tensor([1])).batch(slice(None))[1].tolist() == [
        [10, 11, EOS]
    ]
    assert len(some) == some.count() == 2
    assert some.in_shape == own.in_shape == (6,)
    assert own.lengths.tolist() == [4, 3, 3, 4]


def test_other_targets_are_what_is_given_of_them_too():
    some = samples().chosen(torch.tensor([1, 0]))
    other = some.with_targets(torch.tensor([[7, EOS, -100], [6, 5, EOS]]))
    (source, begun), targets = other.batch(slice(None))
    assert targets.tolist() == [[7, EOS, -100], [6, 5, EOS]]
    assert begun.tolist() == [[BOS, 7, PAD], [BOS, 6, 5]]
    assert torch.equal(source, some.batch(slice(None))[0][0])
    assert (other.sources, other.references) == (some.sources, some.references)


def test_rows_of_a_batch_and_its_way_to_a_device_keep_both_inputs():
    own = samples()
    batch = own.batch(slice(None))
    (source, begun), targets = own.micro_batch(batch, torch.tensor([1, 2]))
    assert torch.equal(source, batch[0][0][1:3])
    assert torch.equal(begun, batch[0][1][1:3])
    assert torch.equal(targets, batch[1][1:3])
    (there, _), _ = on_device(batch, "meta")
    assert there.is_meta


def digest(own):
    total = hashlib.sha256()
    for header, pieces in own.arrays():
        total.update(header.encode())
        for piece in pieces:
            total.update(piece.contiguous().numpy().data)
    return total.hexdigest()


def test_a_fingerprint_is_of_tokens_and_texts():
    own, every = samples(), torch.arange(4)
    assert digest(own) == digest(samples()) == digest(own.chosen(every))
    assert digest(own) != digest(own.chosen(every.flip(0)))
    assert digest(own) != digest(samples(target=[[9], [10, 11], [4, 4, 5], []]))
    # A token that wanders to the next sentence leaves the flat tensor as it was.
    assert digest(own) != digest(samples(source=[[5, 6], [7, 8], [], [5, 5, 5, 5]]))


def test_a_token_outside_of_the_vocabulary_is_refused():
    with pytest.raises(DataError, match=r"tokens must be 0 to 11, got 12; encode"):
        samples(source=[[1], [12], [], [1]])
