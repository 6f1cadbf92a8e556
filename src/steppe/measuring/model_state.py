"""The state of a model while it is measured, and its exact return afterwards.

Derivatives have to be those of the values, by all parameters, and parameters have to
stay what they are: layers that see to it otherwise are set to the ordinary way, or
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from steppe.errors import UsageError
from steppe.measuring.evaluation import outputs_seen
from steppe.parameters import forget_derived, preserved
from steppe.torch_internals import tree_leaves

ROUNDINGS = 16  # units of rounding that a model adds up to its outputs


@contextmanager
def measured(
    model: nn.Module, variables: Mapping[str, nn.Parameter], *, training: bool
) -> Iterator[None]:
    """Switch the mode; put everything but the parameters back at the end.

    Inside, autocast and inference mode are off, whatever surrounds it, and checkpoints
    of activations are those that autograd can look into.

    Args:
        model: to be measured.
        variables: the parameters to differentiate by, by name.
        training: the mode.

    Raises:
        UsageError: other variables than the model has, tensors of inference mode, rows
            of an embedding that it would shorten, or a backward pass inside.
    """
    _check_model(model, variables)
    device = next(iter(variables.values())).device
    # A cache would hand a model's own autocast the weights of an earlier point.
    plain = torch.autocast(device.type, enabled=False, cache_enabled=False)
    grads = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grads), plain:
        with preserved(model), _plain_layers(model):
            model.train(training)
            yield
            # Before gradients are put back: those in `.grad` now come from inside.
            _check_gradients(variables)


def differs(
    model: nn.Module, losses: Callable[[], Tensor], dtype: torch.dtype
) -> tuple[bool, int]:
    """Whether the losses of two passes differ by more than rounding.

    A loss near zero is a small difference of numbers as large as the outputs, and their
    rounding shows in it. Where losses differ by a large share of themselves, two more
    passes are compared with their outputs.

    Args:
        model: that is evaluated.
        losses: of one pass, shape (terms,).
        dtype: that the model computes in.

    Returns:
        Whether they differ, and the number of passes.
    """
    if not apart(losses(), losses(), dtype):
        return False, 2
    (first, one), (second, other) = (_with_outputs(model, losses) for _ in range(2))
    pairs = list(zip(one, other, strict=False))
    if not pairs or len(one) != len(other) or first.shape != second.shape:
        return True, 4
    dtypes = [dtype, *(output.dtype for output in one)]
    roughest = max(dtypes, key=lambda each: torch.finfo(each).eps)
    if any(apart(*pair, roughest) for pair in pairs):
        return True, 4
    largest = max(float(_finite(output).abs().max()) for output in one)
    rounding = ROUNDINGS * torch.finfo(roughest).eps * max(1.0, largest)
    # Of a loss whose slope is about 1, and of one whose slope is about its own root.
    size = first.double().abs()
    allowed = rounding + rounding**2 + 2 * rounding * size.sqrt()
    return bool((first - second).double().abs().sum() > allowed.sum()), 4


def apart(first: Tensor, second: Tensor, dtype: torch.dtype) -> bool:
    """Whether numbers, of which the finite ones count, differ by a share of them.

    Args:
        first: of any shape.
        second: to compare with.
        dtype: that they were computed in; the share is the root of its rounding unit.
    """
    if first.shape != second.shape:
        return True
    change = _finite(first.double() - second.double())
    allowed = torch.finfo(dtype).eps ** 0.5 * _finite(first).abs().sum()
    return bool(change.abs().sum() > allowed)


def _finite(numbers: Tensor) -> Tensor:
    return torch.nan_to_num(numbers.double(), nan=0.0, posinf=0.0, neginf=0.0)


def _with_outputs(
    model: nn.Module, losses: Callable[[], Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Losses of a pass, and the floating outputs of the model's calls in it."""
    values, calls = outputs_seen(model, losses)
    tensors = [leaf for leaf in tree_leaves(calls) if isinstance(leaf, Tensor)]
    return values, [t for t in tensors if t.is_floating_point() and t.numel()]


def forked(model: nn.Module) -> AbstractContextManager[None]:
    """Random state as before at the end, also on the model's devices."""
    devices = {p.device.index for p in model.parameters() if p.is_cuda}
    return torch.random.fork_rng(devices=sorted(devices))


def _check_model(model: nn.Module, variables: Mapping[str, nn.Parameter]) -> None:
    """Refuse a model whose parameters are no longer those of the objective."""
    present = dict(model.named_parameters())
    for name, p in variables.items():
        if present.get(name) is not p or not p.requires_grad:
            change = "frozen" if present.get(name) is p else "replaced"
            raise UsageError(
                f"the parameter {name} was {change} since the objective was made; "
                "make a new Objective."
            )
    for name, tensor in chain(present.items(), model.named_buffers()):
        if tensor.is_inference():
            raise UsageError(
                f"{name} was made under torch.inference_mode and cannot be "
                "measured; make or load the model outside of it."
            )


def _check_gradients(variables: Mapping[str, nn.Parameter]) -> None:
    """Refuse a backward pass within one: the outer one lacks its gradients."""
    for name, p in variables.items():
        if p.grad is not None:
            raise UsageError(
                "a call of backward() inside the model or the loss wrote to .grad of "
                f"{name}, which derivatives of the loss then lack; use "
                "torch.autograd.grad there."
            )


@contextmanager
def unwritten(model: nn.Module) -> Iterator[None]:
    """Refuse code that writes to the parameters, and undo it.

    Values are compared, not versions: writing through `.data` leaves no version.

    Raises:
        UsageError: it does; the parameters are as before.
    """
    named = dict(model.named_parameters())
    saved = [p.detach().clone() for p in named.values()]
    written: list[str] = []
    try:
        yield
    finally:
        for (name, p), before in zip(named.items(), saved, strict=True):
            if not torch.equal(_bits(p), _bits(before)):
                p.detach().copy_(before)
                written.append(name)
        if written:
            forget_derived()
    if written:
        raise UsageError(
            f"the model writes to its parameter {written[0]} when it is called, and a "
            "measurement would change it; leave parameters alone in forward, or make a "
            "constraint of them a parametrization."
        )


@contextmanager
def _plain_layers(model: nn.Module) -> Iterator[None]:
    """Layers and checkpoints whose derivatives are those of their values."""
    with _plain_tables(model), _followed_checkpoints():
        yield


@contextmanager
def _plain_tables(model: nn.Module) -> Iterator[None]:
    """Embeddings that only look up rows, without renorm or scaled gradients.

    Raises:
        UsageError: rows that a forward pass would shorten in the weights themselves.
    """
    kinds = (nn.Embedding, nn.EmbeddingBag)
    tables = [(n, m) for n, m in model.named_modules() if isinstance(m, kinds)]
    before = [(m, m.max_norm, m.scale_grad_by_freq) for _, m in tables]
    for name, layer in tables:
        _check_rows(name, layer)
    try:
        for _, layer in tables:
            layer.max_norm, layer.scale_grad_by_freq = None, False
        yield
    finally:
        for layer, norm, scaled in before:
            layer.max_norm, layer.scale_grad_by_freq = norm, scaled


@torch.no_grad()
def _check_rows(name: str, layer: nn.Embedding | nn.EmbeddingBag) -> None:
    if layer.max_norm is None:
        return
    norms = torch.linalg.vector_norm(layer.weight, layer.norm_type, dim=1)
    near = 1 + torch.finfo(norms.dtype).eps ** 0.5
    if bool((norms > layer.max_norm * near).any()):
        raise UsageError(
            f"{type(layer).__name__} '{name}' has max_norm={layer.max_norm} and longer "
            "rows, which its forward pass would shorten in the weights themselves; "
            f"shorten them before, by torch.renorm(weight, {layer.norm_type}, 0, "
            f"{layer.max_norm}), or set its max_norm to None."
        )


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, which are equal also where it holds NaN."""
    return tensor.detach().flatten().view(torch.uint8)


class _Followed:
    """Non-reentrant checkpoints in place of torch's reentrant ones.

    Reentrant ones hide all parameters inside from derivatives, without a word where
    nothing that they are given requires a gradient.
    """

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return checkpoint.checkpoint(
            function, *args, use_reentrant=False, preserve_rng_state=preserve
        )


@contextmanager
def _followed_checkpoints() -> Iterator[None]:
    module: Any = checkpoint
    before = module.CheckpointFunction
    module.CheckpointFunction = _Followed
    try:
        yield
    finally:
        module.CheckpointFunction = before
