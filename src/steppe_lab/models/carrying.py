"""Networks that carry a state from one piece of a text to the next.

Shape letters: B pieces, T tokens, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from steppe.registry.registry import Choice, is_code
from steppe_lab.models.model_registry import MODELS

STATEFUL = "stateful"  # the setting that turns it off


class AbstractCarrying(nn.Module, ABC):
    """A network whose state is an input and an output, and never kept inside.

    Called with tokens (B, T) it begins with a state of zeros and gives logits (B, T,
    V), as measures and other programs see it. Called with a pair of tokens and a state
    it gives the pair of logits and the state after them. So passes of one step begin
    with one state, whatever weights they are at.

    Attributes:
        stateful: whether trainings and scores carry the state.
    """

    stateful: bool

    @abstractmethod
    def zero_state(self, pieces: int) -> Tensor:
        """The state before a text, shape (B, ...), where the parameters are."""


def carries_state(choice: Choice) -> bool:
    """Whether a model of ours is trained with a state that goes on between batches."""
    if is_code(choice.name) or not MODELS[choice.name].spec.carrying:
        return False
    return bool(choice.settings[STATEFUL])
