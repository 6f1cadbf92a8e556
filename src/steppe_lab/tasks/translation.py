"""Translation: the next token of a target sentence, read with its source.

Source: Sutskever et al., 2014, arXiv:1409.3215.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import torch
from torch import nn

from steppe.errors import DataError
from steppe.registry.bounds import Ranges, at_least
from steppe_lab.datasets.pairs import PairSamples
from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.decoding import BeamSearch, translations
from steppe_lab.tasks.abstract import TASKS, Metric
from steppe_lab.tasks.bleu import bleu, signature
from steppe_lab.tasks.corpus import CorpusScores
from steppe_lab.tasks.tokens import AbstractTokenTask


@TASKS.add("translation", source="Sutskever et al., 2014, arXiv:1409.3215")
class Translation(AbstractTokenTask):
    """Cross-entropy of the next target token, judged by perplexity and by BLEU.

    Loss, perplexity and token error are of tokens after the true ones; BLEU is of
    sentences that the network translates by itself. The perplexity is the headline,
    which the best epoch and plateaus go by: it falls smoothly from the first epoch on,
    where BLEU stays near 0 at first and jumps with single words, and it costs no
    decoding.

    Args:
        beam: hypotheses of each sentence that are followed at once; 1 is greedy.
        length_penalty: exponent of the length that log-probabilities are divided by, 0
            for none; see `BeamSearch`.
        longer: tokens that a translation may have more than its source.

    Raises:
        SettingError: sacreBLEU is not installed.
    """

    bounds: ClassVar[Ranges] = {
        "beam": at_least(1),
        "length_penalty": (0.0, 10.0),
        "longer": at_least(0),
    }
    samples: ClassVar[str] = "PairSamples"
    # Batches have int64, whatever all targets of a large corpus are stored in.
    types: ClassVar[tuple[torch.dtype, ...]] = (torch.int16, torch.int32, torch.int64)
    corpus_metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="bleu", title="BLEU", units="points", better="larger"),
    )

    def __init__(
        self, *, beam: int = 1, length_penalty: float = 0.6, longer: int = 50
    ) -> None:
        self.signatures = {"bleu": signature()}
        self._search = BeamSearch(
            beam=beam, length_penalty=length_penalty, longer=longer
        )
        self.decoding = asdict(self._search)

    def corpus_scores(self, model: nn.Module, samples: AbstractSamples) -> CorpusScores:
        """BLEU of the translations, with sources and references beside them.

        Raises:
            DataError: samples that are no pairs of sentences.
            SettingError: a model that cannot decode.
        """
        if not isinstance(samples, PairSamples):
            raise DataError(
                f"translation needs pairs of sentences, got {type(samples).__name__}; "
                "give PairSamples."
            )
        hypotheses = translations(model, samples, self._search)
        return CorpusScores(
            {"bleu": bleu(hypotheses, samples.references)},
            {
                "source": samples.sources,
                "reference": samples.references,
                "hypothesis": hypotheses,
            },
        )
