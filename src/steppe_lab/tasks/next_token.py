"""Language models: the next token of a sequence, learnt by cross-entropy."""

from __future__ import annotations

from typing import ClassVar

from steppe_lab.tasks.abstract import TASKS
from steppe_lab.tasks.corpus import no_corpus_scores
from steppe_lab.tasks.tokens import AbstractTokenTask


@TASKS.add(
    "next_token", source="Shannon, 1951, Prediction and entropy of printed English"
)
class NextToken(AbstractTokenTask):
    """Cross-entropy of the next token in nats, judged by the perplexity.

    Every token that counts weighs alike, whatever sequence and batch it is in; targets
    of -100, such as padding, do not count.
    """

    samples: ClassVar[str] = "TokenSamples.from_sequences(...)"
    corpus_scores = no_corpus_scores
