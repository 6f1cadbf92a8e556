"""All that the values at points of a subspace follow from, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from torch import Tensor

from steppe.batches import digest_of
from steppe.landscapes.evaluation.evaluator import Evaluator

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+|id=\d+")
# Where the course of a curve is looked at, which is a function and has no content.
COURSE = (-0.5, 0.1, 0.25, 0.5, 0.7, 1.0, 1.5)


def recipe_of(evaluator: Evaluator) -> dict[str, Any]:
    """Settings and digests; two evaluators with equal ones have equal values.

    The code of a loss, of a model or of a quantity is known by its name, and by the
    means at the base point.
    """
    objective, subspace = evaluator.objective, evaluator.subspace
    model = objective.model
    moved = set(subspace.names)
    fixed = {n: p for n, p in model.named_parameters() if n not in moved}
    buffers = {**dict(model.named_buffers()), **subspace.buffers}
    ends = [_digest(end or {}) for end in subspace.end_buffers]
    moving = [_digest(each) for each in subspace.buffer_directions]
    course = [subspace.coefficients((c,) * len(subspace.axes)) for c in COURSE]
    return {
        "steppe": metadata.version("steppe"),
        **evaluator.details,
        "mask_seed": objective.seed,
        "model": digest_of([_text(model)]),
        "parameters": list(subspace.names),
        "weights": _digest(subspace.base),
        "directions": [_digest(each) for each in subspace.directions],
        "networks": [[list(p), _digest(t)] for p, t in subspace.exact.items()],
        "frozen_parameters": _digest(fixed),
        "buffers": [_digest(buffers), ends, moving, list(subspace.mixing)],
        "course": None if subspace.course is None else course,
        "buffers_at_points": _text(evaluator.batch_norm),
        "quantities": [_text((q.name, q)) for q in evaluator.quantities],
        "samples": evaluator.samples,
        "way": evaluator.way,
        **({"compile": True} if evaluator.compile else {}),
        # Rounded: it only shows that other code computes something else.
        "means_at_the_base": {
            name: f"{mean:.3g}" for name, mean in evaluator.base_means.items()
        },
    }


def about(evaluator: Evaluator) -> dict[str, Any]:
    """Facts that a surface needs beside the numbers of its points."""
    return {
        "samples": evaluator.part.objective.count(),
        "axes": [axis.unit for axis in evaluator.subspace.axes],
        "units": {q.name: q.units for q in evaluator.quantities},
        "details": {**evaluator.details, **evaluator.subspace.details},
    }


def _digest(tensors: Mapping[str, Tensor] | Sequence[Tensor]) -> str:
    named = isinstance(tensors, Mapping)
    names = list(tensors) if named else []
    values = tensors.values() if isinstance(tensors, Mapping) else tensors
    return digest_of([names, [tensor.detach() for tensor in values]])


def _text(value: Any) -> str:
    # An address is of this process alone.
    return ADDRESS.sub("", repr(value))
