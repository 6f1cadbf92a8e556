"""Parts of an examination as texts, so that one that was stopped can go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from steppe.cost import NOTHING, Cost
from steppe.errors import DataError
from steppe.examination.plan import Plan
from steppe.results import Eigenpairs, Estimate, Spectrum
from steppe.results.quadrature import Measure
from steppe.surfaces import Surface
from steppe.surfaces.files.exact_json import from_json, to_json

T = TypeVar("T")

PLAN, SPECTRUM = "plan", "spectrum of the Hessian"


@dataclass(frozen=True)
class Form(Generic[T]):
    """A part as plain values, and back."""

    write: Callable[[T], Any]
    read: Callable[[Any], T]


def _pairs(record: Mapping[str, Any]) -> Eigenpairs:
    # The vectors are as large as the network each, and no number is read off them.
    none = torch.empty(record["size"], 0, device="cpu")
    return Eigenpairs(**{k: v for k, v in record.items() if k != "size"}, vectors=none)


def _of_pairs(pairs: Eigenpairs) -> dict[str, Any]:
    named = _fields(pairs, without="vectors")
    return {**named, "size": len(pairs.vectors)}


def _of_spectrum(whole: Spectrum) -> dict[str, Any]:
    return {
        **_fields(whole),
        "trace": whole.trace.to_dict(),
        "frobenius": whole.frobenius.to_dict(),
        "top": _of_pairs(whole.top),
        "bottom": _of_pairs(whole.bottom),
        "starts": [[each.nodes, each.weights] for each in whole.starts],
    }


def _spectrum(record: Mapping[str, Any]) -> Spectrum:
    first, last = (Measure(*each) for each in record["starts"])
    estimates = ("trace", "frobenius")
    return Spectrum(
        **{
            **record,
            **{name: Estimate.from_dict(record[name]) for name in estimates},
            "top": _pairs(record["top"]),
            "bottom": _pairs(record["bottom"]),
            "starts": (first, last),
        }
    )


def _fields(value: Any, without: str = "") -> dict[str, Any]:
    """Fields of a record by name; tensors on the host."""
    named = {f.name: getattr(value, f.name) for f in fields(value)}
    named.pop(without, None)
    return {k: v.cpu() if isinstance(v, Tensor) else v for k, v in named.items()}


OF_PLAN = Form[Plan](asdict, lambda record: Plan(**record))
OF_ESTIMATE = Form[Estimate](Estimate.to_dict, Estimate.from_dict)
OF_SPECTRUM = Form[Spectrum](_of_spectrum, _spectrum)
# A random line has neither trajectories nor quantities beside the loss.
OF_LINE = Form[Surface](_fields, lambda record: Surface(**record))


class Parts:
    """Parts that an earlier call had finished, and those of this one.

    Args:
        known: texts of parts by name, as they were handed over.
        finished: called with the name and the text of each part that is done; None
            where nobody keeps them.
    """

    def __init__(
        self,
        known: Mapping[str, str] | None,
        finished: Callable[[str, str], object] | None,
    ) -> None:
        self._known = known or {}
        self._finished = finished
        self.cost = NOTHING  # of the parts that were known

    def known(self, name: str, form: Form[T]) -> T | None:
        """A part of an earlier call, or None.

        Raises:
            DataError: the text is not that of such a part.
        """
        if name not in self._known:
            return None
        try:
            record = from_json(self._known[name])
            value = form.read(record["value"])
            self.cost += Cost(**record["cost"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"known must hold texts that finished() got, but that of '{name}' is "
                f"none ({error}); leave it out."
            ) from error
        return value

    def done(self, name: str, form: Form[T], value: T, cost: Cost = NOTHING) -> T:
        """Hand over a part and its work."""
        if self._finished is not None:
            record = {"value": form.write(value), "cost": asdict(cost)}
            self._finished(name, to_json(record))
        return value
