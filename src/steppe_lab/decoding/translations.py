"""Translations of all sentences of some samples, as texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from steppe.parameters import preserved
from steppe_lab.datasets.pairs import PairSamples
from steppe_lab.decoding.beam import BeamSearch
from steppe_lab.decoding.models import next_tokens

WORD = "\u2581"  # begins the pieces that a word begins with
ROWS = 256  # hypotheses that are followed at once


def translations(
    model: nn.Module, samples: PairSamples, search: BeamSearch
) -> tuple[str, ...]:
    """Translate all sentences in eval mode; the model is left as it was.

    Args:
        model: see `next_tokens`.
        samples: N pairs, of which the sources are read.
        search: for translations.

    Returns:
        N texts in the order of the samples.

    Raises:
        SettingError: a model that cannot decode.
    """
    translator = next_tokens(model)
    device = next(model.parameters()).device
    # Sentences of like length have little padding, and end at about the same step.
    order = samples.source.lengths(samples.pairs).argsort(descending=True, stable=True)
    texts = [""] * len(order)
    with preserved(model):
        model.eval()
        size = max(ROWS // search.beam, 1)
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            (source, _), _ = samples.batch(rows)
            translated = search(translator, source.to(device))
            for row, hypotheses in zip(rows.tolist(), translated, strict=True):
                # A network whose logits are no numbers has none.
                if hypotheses:
                    texts[row] = text_of(hypotheses[0].tokens, samples.vocabulary)
    return tuple(texts)


def text_of(tokens: Iterable[int], pieces: Sequence[str]) -> str:
    """The text of some tokens: one line, with single spaces.

    Args:
        tokens: of a sentence.
        pieces: of the vocabulary.

    Example:
        >>> text_of([0, 1, 2], ["\u2581a", ".", "b"])
        'a.b'
    """
    joined = "".join(pieces[token] for token in tokens)
    return " ".join(joined.replace(WORD, " ").split())
