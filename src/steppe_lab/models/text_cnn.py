"""Convolutions over the words of a text, the largest response of each filter, dense.

Source: Kim, 2014, arXiv:1408.5882, in the form of Keras' example imdb_cnn (embedding of
50, 250 filters over 3 words, 250 dense units), which Jastrzebski et al., 2019,
arXiv:1807.05031, train. Difference: an output for each class and not one for both,
which is 251 numbers more.
"""

from __future__ import annotations

from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings

INITIAL = 0.05  # Keras draws an embedding from -0.05 to 0.05


class _TextNetwork(nn.Module):
    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        embedding: int,
        filters: int,
        kernel: int,
        dense: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolution = nn.Conv1d(embedding, filters, kernel)
        self.dense = nn.Linear(filters, dense)
        self.head = nn.Linear(dense, classes)
        self.dropout = nn.Dropout(dropout)
        nn.init.uniform_(self.embedding.weight, -INITIAL, INITIAL)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif not name.startswith("embedding"):
                nn.init.xavier_uniform_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.dropout(self.embedding(tokens))
        # The activation never decreases: it may as well come after the maximum.
        largest = self.convolution(embedded.mT).amax(2).relu()
        scores: Tensor = self.head(self.dropout(self.dense(largest)).relu())
        return scores


BOUNDS: Ranges = {
    "embedding": at_least(1),
    "filters": at_least(1),
    "kernel": at_least(1),
    "dense": at_least(1),
    "dropout": Range(0.0, 1.0, below=True),
}


@MODELS.add(
    "text_cnn",
    source="Kim, 2014, arXiv:1408.5882",
    inputs="tokens",
    bounds=BOUNDS,
)
def text_cnn(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    embedding: int = 50,
    filters: int = 250,
    kernel: int = 3,
    dense: int = 250,
    dropout: float = 0.2,
) -> nn.Module:
    """Convolutional network for texts, 351,002 parameters with 5,000 words.

    Args:
        in_shape: (tokens of a text, tokens of the vocabulary).
        classes: number of outputs.
        embedding: features of a word.
        filters: of the convolution.
        kernel: words that a filter looks at.
        dense: units of the dense layer.
        dropout: share dropped of the embedding and of the dense layer.

    Raises:
        SettingError: inputs that are no texts of such a length, or a setting out of
            range.
    """
    numbers = {
        "embedding": embedding,
        "filters": filters,
        "kernel": kernel,
        "dense": dense,
        "dropout": dropout,
    }
    check_settings(BOUNDS, classes=classes, **numbers)
    if len(in_shape) != 2 or in_shape[0] < kernel:
        raise SettingError(
            f"text_cnn needs texts of at least kernel = {kernel} tokens, of shape "
            f"(tokens, vocabulary), got {tuple(in_shape)}; choose data of texts, such "
            "as imdb."
        )
    return _TextNetwork(
        in_shape[1],
        classes,
        embedding=embedding,
        filters=filters,
        kernel=kernel,
        dense=dense,
        dropout=dropout,
    )
