"""BLEU of a corpus, by sacreBLEU.

Source: Papineni et al., 2002, doi:10.3115/1073083.1073135; Post, 2018,
arXiv:1804.08771, for the tokens and the signature; Koehn, 2004, for the standard error
by resampling sentences.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType

import torch

from steppe.errors import SettingError, install
from steppe.results import Estimate
from steppe.seeds import stream

DRAWS = 1000  # of corpora, for a standard error
SEED = 0


def signature() -> str:
    """How sacreBLEU computes its numbers here, in its own notation.

    Example:
        >>> signature().partition("|version")[0]
        'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp'

    Raises:
        SettingError: sacreBLEU is not installed.
    """
    metric = _package().BLEU()
    metric.corpus_score(["a"], [["a"]])  # which notes the number of references
    return str(metric.get_signature())


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """BLEU in points, 0 to 100, with a standard error over sentences.

    The error is the standard deviation over 1,000 corpora that are drawn from the
    sentences with replacement; the same ones for every network.

    Args:
        hypotheses: a text for each of N sentences.
        references: one for each.

    Raises:
        SettingError: sacreBLEU is not installed.
    """
    package, count = _package(), len(hypotheses)
    whole = package.BLEU().corpus_score(list(hypotheses), [list(references)])
    # Counts are those of any order; without it a sentence alone gives a warning.
    single = package.BLEU(effective_order=True)
    scores = [
        single.sentence_score(hypothesis, [reference])
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    counts = torch.tensor(
        [[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores]
    ).double()
    generator, drawn = stream(SEED), []
    for _ in range(DRAWS if count > 1 else 0):
        rows = torch.randint(count, (count,), generator=generator)
        times = rows.bincount(minlength=count).double()
        sums = [int(each) for each in times @ counts]
        score = package.BLEU.compute_bleu(
            sums[2:6], sums[6:], *sums[:2], smooth_method="exp"
        )
        drawn.append(score.score)
    stderr = float(torch.tensor(drawn).double().std()) if count > 1 else math.inf
    return Estimate(value=whole.score, stderr=stderr, samples=count, units="points")


def _package() -> ModuleType:
    """The module of sacreBLEU with its metrics."""
    try:
        return importlib.import_module("sacrebleu.metrics")
    except ImportError:
        raise SettingError(
            "BLEU needs sacreBLEU, which is not installed; " + install("text") + "."
        ) from None
