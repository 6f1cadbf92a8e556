"""Facts about methods, which others read without running them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from steppe.cost import NOTHING, Cost
from steppe.registry.bounds import Ranges

# Changes of a network that measures may be invariant to, in words. The last one changes
# the outputs and keeps their order, the others keep the function.
INVARIANCES: Mapping[str, str] = {
    "layer_rescaling": "factors of whole layers with product one",
    "unit_rescaling": "factors of hidden units, taken back by the next layer",
    "last_layer_rescaling": "a factor between the last two layers",
    "unit_permutation": "another order of hidden units",
    "query_key_rescaling": "a factor of queries, taken back in the keys",
    "logit_scale": "a factor of all outputs",
}

# Metadata of facts that a registry reads from the class attribute of their name.
OF_THE_CLASS: Mapping[str, bool] = {"of_the_class": True}


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Facts about a method of any kind."""

    source: str  # author, year, identifier of the publication
    summary: str = ""  # first line of the docstring
    offers: type[Any] | None = None  # class its package offers, where a function is
    # Settings that came later: at its default a choice leaves one out, so that ids of
    # older runs stay.
    later: tuple[str, ...] = ()
    # of the settings that are numbers
    bounds: Ranges = field(default_factory=dict, metadata=OF_THE_CLASS)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Settings at which a method becomes its base or another method, bit for bit."""

    settings: Mapping[str, Any]
    equals: str = "base"  # or a method as text: "sam:rho=0.05"


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec(Spec):
    """Facts about an optimizer."""

    grad_evals: float = math.nan  # whole-batch gradients per step; counted by a test
    beside: str = ""  # what its user pays on top of them, in words
    limits: tuple[Limit, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)
    # setting that counts its passes, where each sees samples of its own; such a method
    # has a setting `fresh_batches`
    separate_passes: str = ""
    takes_directions: bool = False  # by `set_directions`, as from a tracker
    # draws numbers, so its state has a generator
    random: bool = field(default_factory=bool, metadata=OF_THE_CLASS)
    base: Literal["any", "momentum", "plain"] = "any"  # "plain": SGD, and only w - lr g


@dataclass(frozen=True, kw_only=True)
class ScheduleSpec(Spec):
    """Facts about a schedule."""

    # its settings that count steps
    times: tuple[str, ...] = field(default_factory=tuple, metadata=OF_THE_CLASS)


@dataclass(frozen=True, kw_only=True)
class MeasureSpec(Spec):
    """Facts about a measure of flatness."""

    units: str = ""
    sharper_is: Literal["larger", "smaller", "neither"] = "larger"
    invariant_to: tuple[str, ...] = ()  # function-preserving changes that keep it
    needs: tuple[str, ...] = ()  # kinds of needs that it asks for, in words
    cost: Cost = NOTHING  # at its default settings
    # "at most": it ends sooner where its accuracy is met; "about": it depends on the
    # network
    cost_is: Literal["exactly", "at most", "about"] = "exactly"
    cost_note: str = ""  # on what the cost depends
    networks: Literal["any", "homogeneous"] = "any"  # it can measure
    # its setting of the accuracy asked, where that plans the number of draws from the
    # data; without end, it is the least number
    planned_by: str | None = None

    @property
    def title(self) -> str:
        """The measure in words, for tables and sentences: the start of its summary."""
        words = re.split(r"[:;.]", self.summary)[0].strip()
        return words[:1].lower() + words[1:]

    @property
    def cost_text(self) -> str:
        """The cost in words."""
        degree = "" if self.cost_is == "exactly" else f"{self.cost_is} "
        note = f" ({self.cost_note})" if self.cost_note else ""
        return f"{degree}{self.cost}{note}"

    @property
    def direction_text(self) -> str:
        """The direction of sharper minima, in words."""
        if self.sharper_is == "neither":
            return "neither direction is sharper"
        return f"{self.sharper_is} is sharper"

    @property
    def invariance_text(self) -> str:
        """Changes of the network that keep the value, in words."""
        known = (INVARIANCES.get(each, each) for each in self.invariant_to)
        return "; ".join(known) or "none of those that are tested"
