"""The scores among the outputs of a network that gives others beside them.

Networks of Hugging Face give an object that is a mapping too, those of torchvision with
auxiliary classifiers a named tuple; both have `logits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from steppe.errors import DataError

LOGITS = "logits"
FIX = (
    "let its forward give one tensor, an object or a dict with logits, or a tuple of "
    "one tensor"
)


def logits_of(outputs: Any) -> Any:
    """The logits among several outputs; other outputs as they are.

    Args:
        outputs: an object or a mapping with `logits`, a tuple or list of one tensor, or
            anything else, which comes back.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping):
        logits = outputs.get(LOGITS)
    else:
        logits = getattr(outputs, LOGITS, None)
    if logits is None and isinstance(outputs, tuple | list) and len(outputs) == 1:
        (logits,) = outputs
    return logits if isinstance(logits, Tensor) else outputs


def scores_of(outputs: Any) -> Tensor:
    """The logits of a network, or its only output.

    Args:
        outputs: see `logits_of`.

    Raises:
        DataError: several outputs of which none is called logits, or no tensor.
    """
    scores = logits_of(outputs)
    if not isinstance(scores, Tensor):
        raise DataError(
            f"nothing says which output of the network its scores are, got "
            f"{_shown(outputs)}; {FIX}."
        )
    return scores


def give_scores(model: nn.Module) -> None:
    """Let a network give its scores alone, from its next call on.

    The names of its parameters stay, as they would not in a module around it.

    Args:
        model: gets a hook.
    """
    model.register_forward_hook(_scores)


def _scores(_: nn.Module, __: Any, outputs: Any) -> Tensor:
    return scores_of(outputs)


def _shown(outputs: Any) -> str:
    name = type(outputs).__name__
    if isinstance(outputs, Mapping):
        return f"{name} with {', '.join(map(str, outputs)) or 'nothing'}"
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return f"a {name} of {len(outputs)}"
    return f"a {name}"
