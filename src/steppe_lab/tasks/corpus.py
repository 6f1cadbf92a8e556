"""Scores of a whole corpus: metrics that are no mean over samples, such as BLEU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from steppe.results import Estimate


@dataclass(frozen=True)
class CorpusScores:
    """Metrics of a network on all samples at once, and the texts that they are of."""

    estimates: Mapping[str, Estimate] = field(default_factory=dict)  # by metric
    # Of every sample by name, such as "source", "reference" and "hypothesis".
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def no_corpus_scores(*_: object, **__: object) -> CorpusScores:
    """Those of a task whose metrics are all means."""
    return CorpusScores()
