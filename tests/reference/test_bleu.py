"""BLEU: a corpus worked by hand, and errors by leaving sentences out."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from sacrebleu.metrics import BLEU

from steppe.errors import SettingError
from steppe_lab.tasks.bleu import bleu, signature


def test_a_corpus_of_two_sentences_worked_by_hand():
    # In both, and in the hypotheses: 4 + 4 of 9 words, 3 + 3 of 7 pairs, 2 + 2 of 5
    # triples, 1 + 1 of 3 fours; 9 words for 11.
    estimate = bleu(["a b c d e", "g h i j"], ["a b c d f", "g h i j k l"])
    precisions = (8 / 9, 6 / 7, 4 / 5, 2 / 3)
    expected = math.exp(1 - 11 / 9) * math.prod(precisions) ** 0.25
    assert estimate.value == pytest.approx(100 * expected, rel=1e-12)
    assert (estimate.samples, estimate.units) == (2, "points")


def test_translations_that_are_the_references_have_all_points():
    texts = ["a man walks on the street .", "two dogs play in deep snow ."]
    assert bleu(texts, texts).value == pytest.approx(100.0)
    assert bleu(texts, texts).stderr == pytest.approx(0.0, abs=1e-9)
    assert bleu(["", ""], texts).value == 0.0
    assert bleu(texts[:1], texts[:1]).stderr == math.inf  # of one sentence


@pytest.mark.slow
def test_the_standard_error_is_that_of_the_jackknife():
    generator = torch.Generator().manual_seed(0)
    words = ["a", "b", "c", "d", "e", "f", "g", "h"]
    references, hypotheses = [], []
    for _ in range(150):
        row = [words[i] for i in torch.randint(8, (12,), generator=generator).tolist()]
        references.append(" ".join(row))
        for place in torch.randint(12, (3,), generator=generator).tolist():
            row[place] = "x"
        hypotheses.append(" ".join(row))
    estimate = bleu(hypotheses, references)
    without = []
    for place in range(150):
        ours, theirs = (t[:place] + t[place + 1 :] for t in (hypotheses, references))
        without.append(BLEU().corpus_score(ours, [theirs]).score)
    left_out = torch.tensor(without).double()
    stderr = (149 * left_out.var(correction=0)).sqrt().item()
    # 1,000 draws know a standard deviation to 2 %.
    assert estimate.stderr == pytest.approx(stderr, rel=0.1)
    assert bleu(hypotheses, references) == estimate


def test_the_signature_is_that_of_the_library():
    metric = BLEU()
    metric.corpus_score(["a b"], [["a c"]])
    assert signature() == str(metric.get_signature())


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(SettingError, match=r"needs sacreBLEU.*'\.\[text\]'"):
        signature()
