"""Recurrent language model: embedding, layers of long short-term memory, linear head.

Source: Zaremba, Sutskever and Vinyals, 2014, arXiv:1409.2329: the small network of
Section 4.1, with dropout on the connections that are not recurrent, where it is asked
for. Differences: torch's layers have two biases, whose sum alone counts (1,600 numbers
more than the published 4,651,600); the published losses are summed over the 20 steps of
a piece, so that its learning rate of 1 and norm of 5 are 20 and 0.25 of the mean loss.

Shape letters: B pieces, T tokens, V vocabulary, L layers, H hidden units.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.linalg.precision import setting
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.carrying import AbstractCarrying
from steppe_lab.models.model_registry import MODELS, check_settings

INITIAL = 0.1  # all initial weights are drawn from -0.1 to 0.1


class _LanguageModel(AbstractCarrying):
    score_batch = 32  # a batch has a logit for every word at every token

    def __init__(
        self, vocabulary: int, hidden: int, layers: int, dropout: float, stateful: bool
    ) -> None:
        super().__init__()
        self.stateful = stateful
        self.embedding = nn.Embedding(vocabulary, hidden)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocabulary)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -INITIAL, INITIAL)

    def zero_state(self, pieces: int) -> Tensor:
        """Zeros of shape (B, 2, L, H): of the hidden units and of the cells."""
        shape = (pieces, 2, self.lstm.num_layers, self.lstm.hidden_size)
        return self.head.weight.new_zeros(shape)

    def forward(
        self, inputs: Tensor | tuple[Tensor, Tensor]
    ) -> Tensor | tuple[Tensor, Tensor]:
        if isinstance(inputs, Tensor):
            logits, _ = self._advance(inputs, self.zero_state(len(inputs)))
            return logits
        return self._advance(*inputs)

    def _advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cells = state.permute(1, 2, 0, 3).contiguous()
        embedded = self.dropout(self.embedding(tokens))
        with self._kernels(embedded.device):
            features, after = self.lstm(embedded, (hidden, cells))
        logits = self.head(self.dropout(features))
        return logits, torch.stack(after).permute(2, 0, 1, 3)

    def _kernels(self, device: torch.device) -> AbstractContextManager[None]:
        # cuDNN has no backward pass in eval mode, where measures take gradients.
        measured = not self.training and torch.is_grad_enabled()
        if device.type == "cuda" and measured:
            return setting(torch.backends.cudnn, "enabled", False)
        return nullcontext()


BOUNDS: Ranges = {
    "hidden": at_least(1),
    "layers": Range(1, 100, whole=True),
    "dropout": Range(0.0, 1.0, below=True),
}


@MODELS.add(
    "lstm_lm",
    source="Zaremba et al., 2014, arXiv:1409.2329",
    inputs="tokens",
    carrying=True,
    bounds=BOUNDS,
)
def lstm_lm(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 200,
    layers: int = 2,
    dropout: float = 0.0,
    stateful: bool = True,
) -> nn.Module:
    """Recurrent language model, 4,653,200 parameters with 10,000 words.

    Args:
        in_shape: (tokens of a piece of text,).
        classes: words of the vocabulary.
        hidden: units of the embedding and of each layer.
        layers: of long short-term memory.
        dropout: share of the units dropped before, between and after the layers.
        stateful: train on neighbouring pieces of the text, and carry the state from
            batch to batch of an epoch and through all of a text that is scored; else
            pieces are shuffled, and each begins with a state of zeros.

    Raises:
        SettingError: inputs that are no tokens, or a setting out of range.
    """
    numbers = {"hidden": hidden, "layers": layers, "dropout": dropout}
    check_settings(BOUNDS, classes=classes, **numbers)
    if len(in_shape) != 1:
        raise SettingError(
            "lstm_lm needs sequences of tokens, got inputs of shape "
            f"{tuple(in_shape)}; choose data of a language model, such as ptb."
        )
    return _LanguageModel(classes, hidden, layers, dropout, stateful)
