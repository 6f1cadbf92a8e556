"""Lengths of directions: published norms, relative to the parameters or alone.

Source: Li et al., 2018, arXiv:1712.09913, section 4, and the published code, whose
formulas these are, number by number. For d drawn, w of the parameters and j a filter,
an entry of dimension 0 such as an output row, a kernel or a row of an embedding:

- filter: d_j ||w_j|| / (||d_j|| + 1e-10)
- layer: d ||w|| / ||d||
- weight: d w, entry by entry
- dfilter: d_j / (||d_j|| + 1e-10)
- dlayer: d / ||d||
- none: d

Difference: parameters in half precision have norms in float32, and the direction is
rounded once.

Shape letters: P tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from steppe.noise import filter_scales

Norm = Literal["filter", "layer", "weight", "dfilter", "dlayer", "none"]

TINY = 1e-10  # as published, so that a filter of zeros divides nothing

UNITS = {  # of an axis, in words
    "filter": "norms of the filters",
    "layer": "norms of the layers",
    "weight": "multiples of the weights",
    "dfilter": "units of each filter",
    "dlayer": "units of each layer",
    "none": "norms of the direction",
}


def normalized(
    drawn: Sequence[Tensor], base: Sequence[Tensor], norm: Norm
) -> list[Tensor]:
    """A direction with the lengths of a norm.

    Args:
        drawn: P tensors.
        base: P parameters, on the same devices.
        norm: see the module. A filter of zeros has a zero direction with "filter".

    Returns:
        P tensors of the dtypes of the parameters.
    """
    scale = SCALES[norm]
    return [
        scale(d.to(wide := _wide(p)), p.to(wide)).to(p.dtype)
        for d, p in zip(drawn, base, strict=True)
    ]


def _by_filter(d: Tensor, w: Tensor) -> Tensor:
    want, have = filter_scales([w, d])
    return d.mul(want / (have + TINY))


def _by_layer(d: Tensor, w: Tensor) -> Tensor:
    want, have = torch.linalg.vector_norm(w), torch.linalg.vector_norm(d)
    return d.mul(want / have)


def _unit_filters(d: Tensor, _w: Tensor) -> Tensor:
    return d.div(filter_scales([d])[0] + TINY)


def _unit_layer(d: Tensor, _w: Tensor) -> Tensor:
    return d.div(torch.linalg.vector_norm(d))


SCALES: dict[Norm, Callable[[Tensor, Tensor], Tensor]] = {
    "filter": _by_filter,
    "layer": _by_layer,
    "weight": torch.mul,
    "dfilter": _unit_filters,
    "dlayer": _unit_layer,
    "none": lambda d, _w: d,
}


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
