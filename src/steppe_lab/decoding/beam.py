"""Beam search: probable translations of a batch, token by token.

Source: Bahdanau et al., 2015, arXiv:1409.0473, Section 4.2, where the beam has one
place less for every hypothesis that has ended; length penalty of Wu et al., 2016,
arXiv:1609.08144, Equation 14; longest translation of Vaswani et al., 2017,
arXiv:1706.03762, Section 6.1.

Differences from them:
- Hypotheses that cannot become one of the best any more are left out: this saves steps
  and changes no result.
- There is no coverage penalty.

Shape letters: B sentences, K hypotheses of each, S positions of the longest source, T
those of the hypotheses so far, V vocabulary.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from steppe.torch_internals import tree_map
from steppe_lab.datasets.pairs import BOS, EOS, PAD
from steppe_lab.decoding.models import NextTokens


@dataclass(frozen=True)
class Hypothesis:
    """A translation that may be meant."""

    tokens: tuple[int, ...]  # without those at its ends
    log_probability: float  # of all tokens, EOS among them
    score: float  # the log-probability over the length penalty


@dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """The most probable translations that a beam meets.

    A beam of 1 is greedy: the most probable token at each place. Nothing is drawn, and
    a translation does not depend on the other sentences of its batch.

    Args:
        beam: hypotheses of each sentence that are followed at once, 1 or more.
        length_penalty: exponent alpha of ((5 + length) / 6)^alpha, which
            log-probabilities are divided by; 0 compares them as they are, which favours
            short translations.
        longer: tokens that a translation may have more than its source, EOS counted in
            both; one that has not ended there is cut.
    """

    beam: int = 1
    length_penalty: float = 0.6
    longer: int = 50

    def penalty(self, length: int) -> float:
        """Divides the log-probability of a hypothesis of so many tokens."""
        return float(((5 + length) / 6) ** self.length_penalty)

    @torch.no_grad()
    def __call__(
        self, model: NextTokens, source: Tensor, best: int = 1
    ) -> list[tuple[Hypothesis, ...]]:
        """Translate a batch.

        Args:
            model: in the mode that it shall have, see `next_tokens`.
            source: (B, S), with EOS after the tokens and PAD after that.
            best: hypotheses of each sentence, at most `beam`.

        Returns:
            Hypotheses of each sentence by falling score; fewer than `best` where the
            vocabulary has no more.
        """
        ended: list[list[Hypothesis]] = [[] for _ in source]
        going = _Going.begun(model, source, self)
        while len(going.rows):
            going = going.grown(model)
            places = going.ends().nonzero().tolist()
            for row, place in places:
                hypothesis = self._hypothesis(going, row, place)
                ended[int(going.rows[row])].append(hypothesis)
            # The least score that a further hypothesis must have.
            least = [self._least(ended[row], best) for row in going.rows.tolist()]
            going = going.still_open(going.log_probabilities.new_tensor(least))
        return [tuple(_best(each, best)) for each in ended]

    def _hypothesis(self, going: _Going, row: int, place: int) -> Hypothesis:
        tokens = going.tokens[row, place, 1:].tolist()
        total = float(going.log_probabilities[row, place])
        score = total / self.penalty(len(tokens))
        return Hypothesis(tuple(t for t in tokens if t != EOS), total, score)

    def _least(self, ended: list[Hypothesis], best: int) -> float:
        return _best(ended, best)[-1].score if len(ended) >= best else -math.inf


def _best(hypotheses: list[Hypothesis], count: int) -> list[Hypothesis]:
    return heapq.nlargest(count, hypotheses, key=lambda each: each.score)


@dataclass(frozen=True)
class _Going:
    """Hypotheses that have not ended, of the sentences that have some."""

    rows: Tensor  # (B,) numbers of the sentences in their batch
    tokens: Tensor  # (B, K, T), BOS first
    log_probabilities: Tensor  # (B, K); -inf where there is no hypothesis
    room: Tensor  # (B,) places of the beam that no hypothesis has ended in
    limits: Tensor  # (B,) tokens of the longest translation
    penalties: Tensor  # (B,) of translations of that length
    state: Any  # of the model: tensors with B K rows

    @classmethod
    def begun(cls, model: NextTokens, source: Tensor, search: BeamSearch) -> _Going:
        """One hypothesis of each sentence, without tokens."""
        sentences, beam = len(source), search.beam

        def repeated(tensor: Tensor) -> Tensor:
            return tensor.repeat_interleave(beam, 0) if beam > 1 else tensor

        limits = (source != PAD).sum(1) + search.longer
        penalties = [search.penalty(n) for n in limits.tolist()]
        totals = torch.full((sentences, beam), -math.inf, device=source.device)
        totals[:, 0] = 0.0
        return cls(
            rows=torch.arange(sentences, device=source.device),
            tokens=torch.full((sentences, beam, 1), BOS, device=source.device),
            log_probabilities=totals.double(),
            room=torch.full((sentences,), beam, device=source.device),
            limits=limits,
            penalties=torch.tensor(penalties, device=source.device).double(),
            state=tree_map(repeated, model.begin(model.encode(source), source)),
        )

    def grown(self, model: NextTokens) -> _Going:
        """The most probable hypotheses with one token more."""
        sentences, beam, length = self.tokens.shape
        logits, state = model.follow(self.tokens[:, :, -1].flatten(), self.state)
        each = logits.float() if logits.dtype.itemsize < 4 else logits
        each = each.log_softmax(1)
        each[:, [PAD, BOS]] = -math.inf  # neither is ever a token to predict
        # Of one hypothesis no more than K can be among the best K of all.
        each, following = each.topk(min(beam, each.shape[1]), 1)
        totals = (self.log_probabilities.view(-1, 1) + each).view(sentences, -1)
        totals, picked = totals.topk(beam, 1)
        parents = picked // each.shape[1]  # of the hypotheses of a sentence
        if beam > 1:
            first = beam * torch.arange(sentences, device=parents.device)
            rows = (first[:, None] + parents).flatten()
            state = tree_map(lambda tensor: tensor[rows], state)
        last = following.view(sentences, -1).gather(1, picked)[:, :, None]
        before = parents[:, :, None].expand(-1, -1, length)
        tokens = torch.cat([self.tokens.gather(1, before), last], 2)
        taken = torch.arange(beam, device=totals.device) >= self.room[:, None]
        totals = totals.masked_fill(taken, -math.inf)
        return replace(self, tokens=tokens, log_probabilities=totals, state=state)

    def ends(self) -> Tensor:
        """Whether each hypothesis ends here, (B, K)."""
        at_limit = self.tokens.shape[2] > self.limits
        ends = (self.tokens[:, :, -1] == EOS) | at_limit[:, None]
        return ends & self.log_probabilities.isfinite()

    def still_open(self, least: Tensor) -> _Going:
        """Those that have not ended and can still reach a score.

        Args:
            least: score that those of each sentence must exceed, (B,).
        """
        ends = self.ends()
        # Each further token makes the log-probability smaller, the penalty larger.
        within = self.log_probabilities > (least * self.penalties)[:, None]
        totals = self.log_probabilities.masked_fill(ends | ~within, -math.inf)
        room = self.room - ends.sum(1)
        left = totals.isfinite().any(1)
        if bool(left.all()):
            return replace(self, log_probabilities=totals, room=room)
        kept = left.repeat_interleave(self.tokens.shape[1])
        return _Going(
            rows=self.rows[left],
            tokens=self.tokens[left],
            log_probabilities=totals[left],
            room=room[left],
            limits=self.limits[left],
            penalties=self.penalties[left],
            state=tree_map(lambda tensor: tensor[kept], self.state),
        )
