"""Language models of Hugging Face as objectives: the loss of every next token.

::

    tokens = tokenizer(texts, return_tensors="pt", padding=True)
    objective = causal_lm_objective(model, tokens)
    print(steppe.measure(objective, ["top_eigenvalue", "trace"]))

Nothing of the library Transformers is imported: a model is called with the entries of a
batch by name and gives `logits`.

Shape letters: B sequences of a batch, T tokens of the longest one, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import DataError, SettingError, brief, check_count
from steppe.integrations.outputs import scores_of
from steppe.losses import IGNORED
from steppe.measuring.modes import Mode
from steppe.objective import Objective

TOKENIZE = "tokenizer(texts, return_tensors='pt', padding=True)"
DIFFERENTIABLE = (None, "eager", "sdpa")  # attention that has second derivatives


class Logits(nn.Module):
    """Calls a model with the entries of a mapping, and gives its logits alone.

    Curvature matrices ask for a model of one argument and one tensor. The parameters
    are the model's own, named `model.` and their names there.

    Args:
        model: gives an object with `logits`, or the logits themselves.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # A cache of keys and values would be kept in memory with every graph.
        cached = "use_cache" in inspect.signature(model.forward).parameters
        self._options = {"use_cache": False} if cached else {}

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """Logits, shape (B, T, V)."""
        return scores_of(self.model(**{**self._options, **inputs}))


def causal_lm_objective(
    model: nn.Module,
    data: Any,
    *,
    mode: Mode = "eval",
    batch_size: int = 8,
    seed: int = 0,
) -> Objective:
    """Mean loss per predicted token of a causal language model of Hugging Face.

    A token is predicted from those before it: labels are shifted by one place, as
    inside the model. Every token that counts weighs alike, whatever batch it is in;
    labels of -100 do not count. With one batch the loss is `model(**batch).loss`.

    Args:
        model: such as AutoModelForCausalLM gives. Its attention must be "sdpa", the
            default, or "eager": second derivatives are taken of the mathematical form
            of sdpa, as its fast kernels have none.
        data: token ids, shape (N, T); or one tokenized batch: a mapping with
            `input_ids` (N, T) and what else the model takes, such as
            `attention_mask`; or a DataLoader or list of such batches. `labels`, shaped
            like `input_ids`, say which tokens count and are not shifted yet; without
            them all tokens count whose `attention_mask` is not 0.
        mode: "train" is with dropout, the same masks in every pass.
        batch_size: sequences at a time, where `data` is one batch.
        seed: of the masks in mode "train".

    Returns:
        Objective whose loss terms are tokens. Its model is `Logits(model)`, which
        lines and planes are to be made from.

    Raises:
        SettingError: a model with another attention, or with an encoder.
        DataError: batches without token ids, or nothing to predict.

    Example:
        >>> class Copies(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.scale = nn.Parameter(torch.zeros(()))
        ...
        ...     def forward(self, input_ids):
        ...         return self.scale * nn.functional.one_hot(input_ids, 8).float()
        >>> objective = causal_lm_objective(Copies(), torch.tensor([[1, 2, 3]]))
        >>> objective.count(), round(objective.value().value, 4)  # log 8
        (2, 2.0794)
    """
    _check_language_model(model)
    check_count("batch_size", batch_size, 1)
    batches = [_pair(batch) for batch in _tokenized(data, batch_size)]
    return Objective(Logits(model), batches, "cross_entropy", mode=mode, seed=seed)


def _check_language_model(model: nn.Module) -> None:
    config = getattr(model, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        raise SettingError(
            f"{type(model).__name__} has an encoder, and is no causal language model; "
            "give steppe.Objective a function loss(model, batch)."
        )
    attention = getattr(config, "_attn_implementation", None)
    if attention not in DIFFERENTIABLE:
        raise SettingError(
            f"the attention '{attention}' has no second derivatives; load the model "
            "with attn_implementation='sdpa' or 'eager'."
        )


def _tokenized(data: Any, batch_size: int) -> Iterator[Mapping[str, Any]]:
    """Batches of data in any form."""
    if isinstance(data, Tensor):
        data = {"input_ids": data}
    if isinstance(data, Mapping):
        rows = len(_ids(data))
        for start in range(0, rows, batch_size):
            yield {
                name: value[start : start + batch_size]
                if isinstance(value, Tensor) and value.shape[:1] == (rows,)
                else value
                for name, value in data.items()
            }
        return
    if not isinstance(data, Iterable) or isinstance(data, str):
        raise DataError(
            f"data must be token ids or tokenized batches, got {brief(data)}; give "
            f"{TOKENIZE}."
        )
    for batch in data:
        yield {"input_ids": batch} if isinstance(batch, Tensor) else batch


def _ids(batch: Any) -> Tensor:
    """Token ids of a batch, shape (B, T)."""
    ids = batch.get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point():
        form = f"of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else brief(ids)
        raise DataError(
            "a batch must have input_ids, whole numbers of shape (sequences, tokens), "
            f"got {form}; give {TOKENIZE}."
        )
    if ids.shape[1] < 2:
        raise DataError(
            "sequences must have 2 tokens, so that there is a next one, got "
            f"input_ids of shape {tuple(ids.shape)}; give longer ones."
        )
    return ids


def _pair(batch: Any) -> tuple[dict[str, Any], Tensor]:
    """Arguments of the model, and for each place the next token or IGNORED, (B, T)."""
    ids = _ids(batch)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch.get("labels")
    if labels is None:
        mask = batch.get("attention_mask")
        labels = ids if mask is None else ids.masked_fill(mask == 0, IGNORED)
    if labels.shape != ids.shape:
        raise DataError(
            f"labels must have the shape of input_ids, {tuple(ids.shape)}, got "
            f"{tuple(labels.shape)}; they are not shifted yet."
        )
    targets = torch.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    return inputs, targets
