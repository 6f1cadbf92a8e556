"""Tasks of tokens: the next one at each position, learnt by cross-entropy.

Shape letters: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.losses import IGNORED
from steppe_lab.tasks.abstract import AbstractTask, Metric, Reduction
from steppe_lab.tasks.class_loss import class_loss


class AbstractTokenTask(AbstractTask):
    """Cross-entropy of the next token in nats, judged by the perplexity.

    Every token that counts weighs alike, whatever sequence and batch it is in; targets
    of -100, such as padding, do not count.
    """

    samples: ClassVar[str]  # that have such targets, for the sentence of a refusal
    types: ClassVar[tuple[torch.dtype, ...]] = (torch.int64,)  # that they are stored in
    loss_name: ClassVar[str] = "cross_entropy"
    of_classes: ClassVar[bool] = True
    of_tokens: ClassVar[bool] = True
    headline: ClassVar[Metric] = Metric(
        name="perplexity", title="perplexity", units="tokens", link="exp"
    )
    others: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="token_error",
            title="token error",
            units="share of tokens",
            share=True,
            opposite="token_accuracy",
        ),
    )

    def loss(self, outputs: Any, targets: Tensor, *, reduction: Reduction) -> Tensor:
        """Cross-entropy of logits (B, T, V) and tokens (B, T)."""
        counted = targets != IGNORED
        return class_loss(
            outputs[counted], targets[counted], self.smoothing, reduction=reduction
        )

    def terms(self, targets: Tensor) -> Tensor:
        """Tokens of each sequence that count."""
        return (targets != IGNORED).sum(1)

    def metrics(self, outputs: Any, targets: Tensor) -> Mapping[str, Tensor]:
        """Cross-entropy of each token, and whether another one has the largest logit.

        The perplexity is that of the model's own distribution, without smoothing.
        """
        counted = targets != IGNORED
        logits, tokens = outputs[counted], targets[counted]
        return {
            "perplexity": F.cross_entropy(logits, tokens, reduction="none"),
            "token_error": logits.argmax(1) != tokens,
        }

    def check_targets(self, targets: Tensor) -> str | None:
        """Targets must be one token for each position, one of a sequence at least."""
        if targets.dtype in self.types and targets.dim() == 2:
            empty = (~(targets != IGNORED).any(1)).nonzero()
            if not len(empty):
                return None
            # A batch of such sequences has no mean loss.
            return (
                "must have a token to predict in every sequence, got only "
                f"{IGNORED} at position {int(empty[0])}; leave such sequences out"
            )
        return (
            "must be one token for each position, of torch.int64 and shape (sequences, "
            f"positions), got {targets.dtype} of shape {tuple(targets.shape)}; give "
            f"{self.samples}"
        )

    def check_outputs(self, outputs: Any, targets: Tensor, size: int) -> str | None:
        """Outputs must be logits for each position."""
        wanted = (*targets.shape, size)
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs)
        if shape == wanted:
            return None
        return (
            f"must give one number per token of the vocabulary at each position, shape "
            f"{wanted} for {len(targets)} sequences, got {shape}"
        )
