"""Parameters as lists of tensors and as one flat vector; leaving no trace.

Shape letters: P parameter tensors, D parameters in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize

from steppe.errors import SettingError, brief
from steppe.torch_internals import buffer_table


def check_model(model: Any, name: str = "model") -> None:
    """Refuse anything but a module."""
    if not isinstance(model, nn.Module):
        raise SettingError(
            f"{name} must be a torch.nn.Module, the network itself, got {brief(model)}."
        )


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require a gradient, by name; a shared one counts once.

    Raises:
        SettingError: no module, or none of its parameters requires a gradient or has
            values.
    """
    check_model(model)
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise SettingError(
            "the model has no parameter that requires a gradient; "
            "set requires_grad on those to measure."
        )
    for name, p in params.items():
        check_made(name, p)
    return params


def check_made(name: str, tensor: Tensor) -> None:
    """Refuse a tensor of a model that has no shape or no values yet."""
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise SettingError(
            f"{name} has no shape yet; run the model once on a batch, which makes its "
            "lazy layers."
        )
    if tensor.is_meta:
        raise SettingError(
            f"{name} has no values, as it is on the device 'meta'; use "
            "model.to_empty(device='cpu') and load its weights."
        )


def named(model: nn.Module) -> dict[Tensor, str]:
    """Names of all parameters; a shared one has its first name."""
    return {p: name for name, p in model.named_parameters()}


def matching(
    names: Sequence[str], patterns: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Names that fit any of the glob patterns, in their order; None fits all.

    Raises:
        SettingError: none does.
    """
    if patterns is None:
        return tuple(names)
    if not isinstance(patterns, str | Iterable):
        raise SettingError(
            f"params must be names or patterns such as 'layer1.*', got {patterns!r}."
        )
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    # A name may hold brackets of its own, which a glob would read as a set.
    fitting = tuple(
        n for n in names if any(n == p or fnmatchcase(n, p) for p in wanted)
    )
    if not fitting:
        raise SettingError(
            f"no parameter has a name that matches {', '.join(wanted) or 'nothing'}; "
            f"they are {', '.join(names)}."
        )
    return fitting


def norm_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Parameters of normalisation layers, recognised by the type of their module.

    These are torch's batch, instance, layer, group and RMS norms, and any module whose
    class name holds "norm" and that has parameters of its own.

    Raises:
        SettingError: the model has none.
    """
    params = {
        p: None
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for p in module.parameters(recurse=False)
    }
    if not params:
        raise SettingError(
            "the model has no normalisation layer with parameters; leave out "
            "perturb='norm', or pass the parameters to move."
        )
    return list(params)


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Join P tensors into one vector, shape (D,), in the order given."""
    return torch.cat([t.reshape(-1) for t in tensors])


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector, shape (D,), into views shaped as P tensors."""
    sizes = [t.numel() for t in like]
    pieces = torch.split(vector, sizes)
    return [piece.view(t.shape) for piece, t in zip(pieces, like, strict=True)]


def local_parts(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The part of each tensor that this process holds: views, not copies.

    Tensors are whole unless they are sharded over processes (`DTensor`).
    """
    return [t.to_local() if hasattr(t, "to_local") else t for t in tensors]


def whole(tensor: Tensor) -> Tensor:
    """A sum or norm over sharded tensors with the parts of all processes in it."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def settled(tensor: Tensor) -> Tensor:
    """A norm over part of a sharded tensor, with its sums over processes carried out.

    Other tensors are given back as they are.
    """
    placements = getattr(tensor, "placements", ())
    if not any(placement.is_partial() for placement in placements):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(tensor, DTensor)
    return tensor.redistribute(
        placements=[Replicate() if p.is_partial() else p for p in placements]
    )


def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors into tensors of the same shape and sharding, bit for bit."""
    if targets:
        torch._foreach_copy_(local_parts(targets), local_parts(sources))


def sum_(targets: Sequence[Tensor], first: list[Tensor], second: list[Tensor]) -> None:
    """Set tensors to the sums of two others each, of which the second is destroyed."""
    if all(t.device.type == "cpu" and not hasattr(t, "to_local") for t in targets):
        for target, a, b in zip(targets, first, second, strict=True):
            torch.add(a, b, out=target)  # once through memory
        return
    torch._foreach_add_(second, first)
    copy_(targets, second)


def forget_derived() -> None:
    """Drop tensors that torch has computed from the weights and would use again.

    Whoever changes weights calls it afterwards. Autocast keeps its casts of parameters
    until its outermost region ends, `torch.nn.utils.parametrize.cached()` what it has
    computed; the next forward pass would be that of the old weights. Graphs that are
    built already keep their own tensors.
    """
    torch.clear_autocast_cache()
    parametrize._cache.clear()


@torch.no_grad()
def overwrite_(params: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Give parameters other values, bit for bit."""
    copy_(params, values)
    forget_derived()


@torch.no_grad()
def displace_(
    params: Sequence[Tensor], deltas: Sequence[Tensor], factor: float = 1.0
) -> None:
    """Add multiples of tensors of the same shapes to parameters."""
    if params:
        torch._foreach_add_(list(params), list(deltas), alpha=factor)
    forget_derived()


@torch.no_grad()
def reflect_(params: Sequence[Tensor], centres: Sequence[Tensor]) -> None:
    """Move parameters to the other side of centres: from c + d to c - d."""
    if params:
        # Twice the way to the centre, in one pass through memory.
        torch._foreach_lerp_(local_parts(params), local_parts(centres), 2.0)
    forget_derived()


@torch.no_grad()
def load_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give parameters and buffers the values of a state; others stay as they are."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in own.items():
        if name in state:
            tensor.copy_(state[name])
    forget_derived()


@contextmanager
def restored(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Give copies of parameters; put the values back bit for bit at the end."""
    saved = [p.detach().clone() for p in params]
    try:
        yield saved
    finally:
        overwrite_(params, saved)


def interpolated(start: Tensor, end: Tensor, weight: float) -> Tensor:
    """A tensor a share of the way between two; equal entries stay bit for bit.

    They may be infinite, as in masks of attention, where a mean of two is NaN.
    """
    return torch.where(start == end, start, torch.lerp(start, end, weight))


def between(start: Tensor, end: Tensor, coordinate: float) -> Tensor:
    """A buffer on the way from one end (0) to the other (1), exact at both.

    Counts and flags are those of the start before the end is reached. Beyond an end,
    buffers stay what they are there: a variance would become negative.
    """
    if coordinate <= 0:
        return start
    if coordinate >= 1:
        return end
    if not start.is_floating_point():  # a count has no value in between
        return start
    return interpolated(start, end, coordinate)


class BufferSnapshot:
    """Buffers of a model as they are now, values and objects.

    Batch norm writes its statistics without raising the tensor's version, so values
    are copied whether they seem to change or not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._places = [
            (module, name, buffer, buffer.clone())
            for module in model.modules()
            for name, buffer in buffer_table(module).items()
            if buffer is not None
        ]

    @torch.no_grad()
    def put_back(self) -> None:
        """Give every module its buffers back, with their values."""
        if not self._places:
            return
        buffers = [buffer for _, _, buffer, _ in self._places]
        torch._foreach_copy_(buffers, [copy for _, _, _, copy in self._places])
        for module, name, buffer, _ in self._places:
            buffer_table(module)[name] = buffer


def metrics_in(model: nn.Module) -> tuple[nn.Module, ...]:
    """Modules that accumulate statistics, by the attributes of torchmetrics."""
    return tuple(
        module
        for module in model.modules()
        if isinstance(vars(module).get("_defaults"), dict)
        and callable(getattr(module, "update", None))
        and callable(getattr(module, "reset", None))
    )


class MetricSnapshot:
    """States of metrics as they are now; these are plain attributes, not buffers."""

    def __init__(self, metrics: Iterable[nn.Module]) -> None:
        places = [vars(metric) for metric in metrics]
        self._places = [(place, dict(place), _state_copies(place)) for place in places]

    @torch.no_grad()
    def put_back(self) -> None:
        """Give every metric its attributes back, and its states their values."""
        for place, objects, states in self._places:
            place.update(objects)
            for name, copy in states.items():
                state = objects[name]
                if isinstance(state, Tensor):  # some metrics add to it in place
                    state.copy_(copy)
                else:
                    state[:] = copy


def _state_copies(place: dict[str, Any]) -> dict[str, Any]:
    return {
        name: place[name].detach().clone()
        if isinstance(place[name], Tensor)
        else list(place[name])
        for name in place["_defaults"]
    }


@contextmanager
def unfollowed(params: Iterable[Tensor]) -> Iterator[None]:
    """Cut the parameters off from graphs; gradients by other tensors stay on."""
    flagged = [p for p in params if p.requires_grad]
    forget_derived()
    for p in flagged:
        p.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for p in flagged:
            p.requires_grad_(True)
        forget_derived()  # what was computed without a graph has no gradient later


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Put modes, buffers, metrics, gradients and random state back, in any case.

    Parameters are not copied: what moves them restores them (`restored`).
    """
    forget_derived()  # casts and parametrizations that were made in other modes
    parameters = list(model.parameters())
    grads = [p.grad for p in parameters]
    flags = [p.requires_grad for p in parameters]
    modes = [(module, module.training) for module in model.modules()]
    buffers = BufferSnapshot(model)
    metrics = MetricSnapshot(metrics_in(model))
    devices = sorted({p.device.index for p in parameters if p.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices):
            for p in parameters:
                p.grad = None
            yield
    finally:
        buffers.put_back()
        metrics.put_back()
        for module, mode in modes:
            module.training = mode
        for p, grad, flag in zip(parameters, grads, flags, strict=True):
            p.grad = grad
            p.requires_grad_(flag)
        forget_derived()  # what was computed without a graph has no gradient later
