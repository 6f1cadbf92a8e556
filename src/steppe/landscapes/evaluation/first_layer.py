"""Points that share the work of a network's first layer.

The layer's outputs on a batch are affine in the coefficients of the directions, as its
weights are: z0 + a z1 + b z2, with one pass for each direction in place of one for each
point. The network goes on from there. A point has the same bits whichever others are
evaluated; they differ from those of a pass through the layer by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize

from steppe.landscapes.evaluation.strategies import OneByOne, Values
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point
from steppe.torch_internals import has_hooks, is_compiled

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SHARE = 0.3  # of the multiplications of a pass, at least, for it to be worth while
MOST_DIRECTIONS = 16  # whose outputs are kept for a batch
WHOLE = (torch.float32, torch.float64)  # half precision rounds sums of its own


class FirstLayer:
    """One point after the other, from the outputs of the first layer on.

    Args:
        walk: to the points, begun.
        one_by_one: evaluates a batch at a point.
        layer: the first one that the network calls.
    """

    name = "shared first layer"

    def __init__(self, walk: Walk, one_by_one: OneByOne, layer: nn.Module) -> None:
        self.walk = walk
        self._one_by_one = one_by_one
        self._layer = layer
        places = {p: i for i, p in enumerate(walk.objective.params)}
        own = layer.named_parameters()
        self._places = {name: places[p] for name, p in own if p in places}

    def on_batch(
        self,
        index: int,
        points: Sequence[Point],
        buffers: Sequence[Mapping[str, Tensor]],
    ) -> Iterator[tuple[int, Values]]:
        """Values of a batch at points; see `Strategy`."""
        batch = self.walk.objective.batch(index)
        shared = _Shared(self, self._inputs_at_base(batch))
        for point, own in zip(points, buffers, strict=True):
            self.walk.go_to(point, own)
            with shared.at(self._layer, point):
                values = self._one_by_one.values(batch)
            yield 1, values

    def _inputs_at_base(self, batch: Any) -> Tensor | None:
        """Inputs of the layer at the base point, whichever points are evaluated."""
        seen: list[Tensor] = []

        def stop(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.extend(inputs)
            raise _Reached

        self.walk.go_to(self.walk.subspace.origin, {})
        handle = self._layer.register_forward_pre_hook(stop)
        try:
            self._one_by_one.values(batch)
        except _Reached:
            pass
        finally:
            handle.remove()
        return seen[0] if len(seen) == 1 else None

    def start(self, inputs: Tensor) -> Tensor:
        """Outputs of the layer at the base point."""
        return self._call(inputs, self._values(self.walk.base))

    def changes(self, inputs: Tensor) -> list[Tensor | None]:
        """The part of each whole direction in them; None where it moves no weight."""
        own = dict(self._layer.named_parameters())
        still = {name: torch.zeros_like(p) for name, p in own.items()}
        changes = []
        for direction in self.walk.directions:
            moved = self._values(direction)
            moves = any(bool(each.any()) for each in moved.values())
            changes.append(self._call(inputs, still | moved) if moves else None)
        return changes

    def _values(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        return {name: tensors[place] for name, place in self._places.items()}

    def _call(self, inputs: Tensor, values: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = functional_call(self._layer, values, (inputs,))
        return outputs


class _Reached(BaseException):
    """A pass has come to the first layer; no network catches it."""


class _Shared:
    """Outputs of the first layer on one batch, at any point."""

    def __init__(self, of: FirstLayer, inputs: Tensor | None) -> None:
        self._of = of
        self._inputs = inputs
        if inputs is not None:
            self._version = _version(inputs)
            self._start = of.start(inputs)
            self._changes = of.changes(inputs)

    @contextmanager
    def at(self, layer: Any, point: Point) -> Iterator[None]:
        """Have the layer give its outputs at a point for the inputs of the base."""
        walk = self._of.walk
        if self._inputs is None or walk.is_exact(point):  # no sum of directions
            yield
            return
        usual = layer.forward

        def outputs(inputs: Tensor) -> Tensor:
            if not self._same(inputs):  # they depend on the point
                through: Tensor = usual(inputs)
                return through
            total = self._start
            for factor, number in walk.terms(point):
                change = self._changes[number]
                if change is not None:
                    total = torch.add(total, change, alpha=factor)
            # The network may write to what it is given.
            return total.clone() if total is self._start else total

        layer.forward = outputs
        try:
            yield
        finally:
            vars(layer).pop("forward", None)

    def _same(self, inputs: Tensor) -> bool:
        """Whether inputs have the numbers that they have at the base point."""
        before = self._inputs
        assert before is not None
        if inputs.shape != before.shape:
            return False
        if inputs.data_ptr() != before.data_ptr():
            return torch.equal(inputs, before)
        # What was in a place that the network has written to since is gone.
        unwritten = _version(inputs) == self._version
        return unwritten and inputs.stride() == before.stride()


class Profile:
    """Of a pass over one batch: the layer to share, where there is one.

    Args:
        walk: to the points, begun.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._calls: list[tuple[Any, int]] = []  # of affine layers: multiplications
        self._fits = self._known = True
        self.largest = 0  # bytes of the outputs of a layer

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the calls of layers with parameters, and their multiplications."""
        model = self._walk.objective.model
        handles = [
            module.register_forward_hook(self._note)
            for module in model.modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def layer(self) -> nn.Module | None:
        """The layer whose outputs points share; None where that is not worth while."""
        if not self._calls or not self._fits or not self._known:
            return None
        layer, products = self._calls[0]
        once = sum(each is layer for each, _ in self._calls) == 1
        enough = products > SHARE * sum(count for _, count in self._calls)
        return layer if once and enough and not has_hooks(layer) else None

    def _note(self, layer: Any, inputs: Any, outputs: Any) -> None:
        products = 0
        if isinstance(outputs, Tensor):
            self.largest = max(self.largest, outputs.nbytes)
        if type(layer) in AFFINE and len(inputs) == 1:
            weight = layer.weight
            products = outputs.numel() * (weight.numel() // weight.shape[0])
            if not self._calls:
                self._fits = (
                    "forward" not in vars(layer)
                    and not parametrize.is_parametrized(layer)
                    and inputs[0].dtype == outputs.dtype == weight.dtype
                    and weight.dtype in WHOLE
                )
        elif any(p.dim() > 1 for p in layer.parameters(recurse=False)):
            self._known = False  # the work of attention or of a recurrent layer
        self._calls.append((layer, products))


def may_share(walk: Walk) -> bool:
    """Whether a network may have a first layer to share, before any pass."""
    modules = list(walk.objective.model.modules())
    opaque = any(
        isinstance(module, nn.DataParallel | torch.jit.ScriptModule)
        or is_compiled(module)  # compiled code calls no layer
        for module in modules
    )
    return (
        walk.objective.mode != "train"
        and not opaque
        and len(walk.directions) <= MOST_DIRECTIONS
        and any(type(module) in AFFINE for module in modules)
    )


def _version(tensor: Tensor) -> int:
    """Number of writes to the place of a tensor, as far as torch counts them."""
    return -1 if tensor.is_inference() else tensor._version
