"""Loss settings: the loss of a batch, one term for each target.

Shape letters: B batch, C classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import DataError, SettingError, SteppeError, brief
from steppe.losses.label_smoothing import IGNORED
from steppe.losses.likelihoods import likelihood
from steppe.losses.logit_normalised import LogitNormalised
from steppe.registry.registry import one_line
from steppe.torch_internals import transforms_active

BatchLoss = Callable[[nn.Module, Any], Tensor]
PairLoss = Callable[[Tensor, Tensor], Tensor]  # of outputs and targets, unreduced

OWN_LOSS = "give a function loss(model, batch) that returns one loss for each sample"
SINGLE = (
    "give loss='mse' for targets that are numbers, or "
    "nn.BCEWithLogitsLoss(reduction='none') for yes or no"
)
FAILURES = (RuntimeError, TypeError, ValueError, IndexError)  # of data that do not fit


def class_dimension(outputs: torch.Size, targets: torch.Size) -> int:
    """Dimension of the outputs that classes lie along: 1, as in torch, or the last.

    It is the last for logits (B, T, C) of sequences with targets (B, T).

    Raises:
        DataError: shapes that can be read both ways.
    """
    first, last = outputs[:1] + outputs[2:] == targets, outputs[:-1] == targets
    if first and last and len(outputs) > 2:
        raise DataError(
            f"outputs of shape {tuple(outputs)} with targets {tuple(targets)} may have "
            "their classes along dimension 1 or along the last one; give a function "
            "loss(model, batch), for the last one F.cross_entropy(model(x).flatten(0, "
            "1), y.flatten(), reduction='none')."
        )
    return len(outputs) - 1 if last and not first else 1


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared errors, shaped like the outputs."""
    return (outputs - targets).square()


def named_loss(loss: str | BatchLoss) -> tuple[str, BatchLoss]:
    """Name of a loss, and the function of model and batch that gives its terms.

    Raises:
        SettingError: an unknown name, or a loss that averages or weighs its terms.
    """
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise SettingError(
                f"loss must be one of {', '.join(LOSSES)} or a callable, got {loss!r}."
            )
        return loss, LOSSES[loss]
    _check_callable(loss)
    if isinstance(loss, nn.Module):
        kind = type(loss).__name__
        if getattr(loss, "reduction", "none") != "none":
            raise SettingError(
                f"{kind} averages over the batch; make it with reduction='none'."
            )
        if (
            isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
            and loss.weight is not None
        ):
            raise SettingError(
                f"{kind} has class weights, but all loss terms weigh alike here; give "
                "a callable of (model, batch) that weighs its terms."
            )
        ignored = getattr(loss, "ignore_index", None)
        return _with_settings(loss), _on_pairs(kind, loss, ignored, loss)
    name = getattr(loss, "__name__", type(loss).__name__)
    if getattr(loss, "__module__", "") == F.__name__:
        functional: Callable[..., Tensor] = loss
        ignored = IGNORED if functional in (F.cross_entropy, F.nll_loss) else None
        unreduced = partial(functional, reduction="none")
        return name, _on_pairs(name, unreduced, ignored, loss)
    return name, _on_batches(loss)


def _with_settings(loss: nn.Module) -> str:
    """Name of a loss module with its numbers that are not the defaults.

    Losses are compared by it: one with smoothing is another one.
    """
    kind = type(loss).__name__
    parameters = inspect.signature(type(loss)).parameters
    said = [
        f"{name}={value!r}"
        for name, parameter in parameters.items()
        if isinstance(value := getattr(loss, name, None), float | int | str)
        and name not in ("reduction", "ignore_index")
        and value != parameter.default
    ]
    return f"{kind}({', '.join(said)})" if said else kind


def _check_callable(loss: Any) -> None:
    if isinstance(loss, type):
        settings = "reduction='none'" if issubclass(loss, nn.Module) else ""
        raise SettingError(
            f"loss must be made first, as {loss.__name__}({settings}), got the class "
            f"{loss.__name__} itself."
        )
    if not callable(loss):
        raise SettingError(
            f"loss must be one of {', '.join(LOSSES)} or a callable, got {brief(loss)};"
            " data of several tensors are one tuple (inputs, targets)."
        )


def is_per_value(loss: str | BatchLoss) -> bool:
    """Whether a loss has a value for each output, whose mean over a sample is a term.

    The mean over samples is then what torch gives for reduction="mean".
    """
    return (type(loss) if isinstance(loss, nn.Module) else loss) in PER_VALUE


def _on_pairs(
    name: str, loss: PairLoss, ignored: int | None, setting: str | BatchLoss
) -> BatchLoss:
    per_value = is_per_value(setting)
    form = likelihood(setting)
    of_logits = isinstance(setting, LogitNormalised) or (
        form is not None and form.outputs == "logits"
    )

    def terms(outputs: Tensor, targets: Tensor) -> Tensor:
        if per_value:
            _check_shapes(name, outputs, targets)
            values = loss(outputs, targets)
            return values if values.dim() < 2 else values.flatten(1).mean(1)
        if ignored is None:
            return loss(outputs, targets)
        classes = class_dimension(outputs.shape, targets.shape)
        if of_logits:
            _check_classes(name, outputs, targets, classes)
        _check_probabilities(name, outputs, targets)
        if classes > 1 and not targets.is_floating_point():
            rows = outputs.flatten(0, -2)
            return loss(*_counted(rows, targets.flatten(), ignored))
        # Moved only where it has to be: a view is one more node of the graph.
        ordered = outputs if classes == 1 else outputs.movedim(classes, 1)
        return _kept(loss(ordered, targets), targets, ignored)

    def batch_loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = _pair(name, batch)
        try:
            outputs = model(inputs)
        except FAILURES as error:
            if _is_no_mistake(error):
                raise
            raise DataError(
                f"the model failed on inputs {_show(inputs)} with "
                f"'{one_line(error)}'; give data of the shape and dtype that it takes."
            ) from error
        _check_outputs(name, outputs)
        try:
            return terms(outputs, targets)
        except FAILURES as error:
            if _is_no_mistake(error):
                raise
            why = _why_not(name, outputs, targets, error)
            if ignored is not None:
                why = _why_no_classes(outputs, targets, ignored) or why
            raise DataError(why) from error

    return batch_loss


def _pair(name: str, batch: Any) -> tuple[Any, Tensor]:
    if isinstance(batch, Tensor):
        raise DataError(
            "batches must be pairs (inputs, targets) for this loss, got Tensor; give a "
            "tuple (X, y) and not a list [X, y], or a loss callable of (model, batch)."
        )
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        parts = f"{len(batch)} parts" if isinstance(batch, tuple | list) else ""
        raise DataError(
            f"batches must be pairs (inputs, targets) for the loss '{name}', got "
            f"{parts or type(batch).__name__}; {OWN_LOSS}, "
            "such as lambda model, batch: ..."
        )
    inputs, targets = batch
    if not isinstance(targets, Tensor):
        raise DataError(
            f"targets must be a torch tensor for the loss '{name}', got "
            f"{type(targets).__name__}; convert them with torch.as_tensor, or "
            f"{OWN_LOSS}."
        )
    return inputs, targets


def _check_outputs(name: str, outputs: Any) -> None:
    if not isinstance(outputs, Tensor):
        raise DataError(
            f"the loss '{name}' needs a model that gives one tensor, got "
            f"{type(outputs).__name__}; {OWN_LOSS}."
        )


def _check_shapes(name: str, outputs: Tensor, targets: Tensor) -> None:
    # Torch would stretch one of them over the other, which is another loss.
    if outputs.shape != targets.shape:
        raise DataError(
            f"the loss '{name}' needs targets of the shape of the outputs "
            f"{tuple(outputs.shape)}, got {tuple(targets.shape)}; reshape the targets."
        )


def _check_classes(name: str, outputs: Tensor, targets: Tensor, dimension: int) -> None:
    # Torch takes N outputs with N probabilities for one sample of N classes.
    if targets.shape == outputs.shape == outputs.shape[:1] and not transforms_active():
        raise DataError(
            f"the loss '{name}' needs outputs with a dimension of classes, got outputs "
            f"and targets of shape {tuple(outputs.shape)}; {SINGLE}."
        )
    # Torch gives 0 for a single class, whatever the target.
    if outputs.shape[dimension : dimension + 1] == (1,):
        raise DataError(
            f"the loss '{name}' of a single class is 0 for every network, got outputs "
            f"of shape {tuple(outputs.shape)}; {SINGLE}."
        )


def _check_probabilities(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Refuse targets of floating point that are no probabilities of the classes.

    Torch takes any numbers for probabilities, and classes along dimension 1 alone.
    """
    if outputs.shape != targets.shape or len(outputs.shape) < 2:
        return
    unseen = torch.compiler.is_compiling() or transforms_active()
    if not targets.is_floating_point() or unseen or not len(targets):
        return
    if len(outputs.shape) > 2 and _off(targets, -1) < 1e-2 <= _off(targets, 1):
        raise DataError(
            f"targets of shape {tuple(targets.shape)} are probabilities along the last "
            "dimension, but along dimension 1 the loss takes classes, as torch does; "
            "transpose(1, -1) them and the outputs, or give a function "
            "loss(model, batch)."
        )
    if _off(targets, 1) >= 1e-2 or bool((targets < 0).any()):
        raise DataError(
            f"the loss '{name}' takes targets of floating point for probabilities of "
            f"the classes, but those of shape {tuple(targets.shape)} do not sum to 1 "
            f"along dimension 1, or are below 0; {SINGLE}."
        )


def _off(targets: Tensor, dimension: int) -> float:
    """How far sums are from 1; those of 0, of samples without a class, do not count."""
    sums = targets.float().sum(dimension)
    return float((sums - 1).mul(sums != 0).abs().max())


def _is_no_mistake(error: Exception) -> bool:
    """Whether an error says nothing of the data: let it pass as it is."""
    accelerator: Any = getattr(torch, "AcceleratorError", SteppeError)
    kinds = (SteppeError, torch.OutOfMemoryError, accelerator)
    # Transforms of functions refuse models for reasons of their own.
    return isinstance(error, kinds) or transforms_active()


def _why_no_classes(outputs: Tensor, targets: Tensor, ignored: int) -> str | None:
    """Reason why targets cannot be classes; None where they can."""
    shape = tuple(outputs.shape)
    if targets.shape == outputs.shape and targets.is_floating_point():
        return None  # probabilities
    if targets.dtype != torch.int64:
        return (
            f"classes must be integers of torch.int64, got {targets.dtype}; give "
            "targets.long(), or loss='mse' for targets that are numbers."
        )
    classes = class_dimension(outputs.shape, targets.shape)
    wanted = shape[:classes] + shape[classes + 1 :]
    if tuple(targets.shape) != wanted or len(shape) < 2:
        return (
            f"targets must be one class for each row, of shape {wanted} for outputs "
            f"{shape}, got {tuple(targets.shape)}; reshape the targets, or the outputs "
            "in the model."
        )
    counted = targets[targets != ignored]
    highest = shape[classes] - 1
    wrong = counted[(counted < 0) | (counted > highest)]
    if not len(wrong):
        return None
    return (
        f"classes must be from 0 to {highest}, got {int(wrong[0])}, as the model has "
        f"{highest + 1} outputs for each row; number the classes from 0, or give the "
        "model more outputs."
    )


def _why_not(name: str, outputs: Tensor, targets: Tensor, error: Exception) -> str:
    if outputs.is_floating_point() and not targets.is_floating_point():
        return (
            f"the loss '{name}' failed on targets {_show(targets)} with "
            f"'{one_line(error)}'; give floating ones: targets.float()."
        )
    return (
        f"the loss '{name}' failed on outputs {_show(outputs)} and targets "
        f"{_show(targets)} with '{one_line(error)}'; give what it takes, or a "
        "function loss(model, batch)."
    )


def _show(value: Any) -> str:
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f", {value.layout}"
        return f"of shape {tuple(value.shape)} ({value.dtype}{layout})"
    return f"of type {type(value).__name__}"


def _counted(outputs: Tensor, targets: Tensor, ignored: int) -> tuple[Tensor, Tensor]:
    """Outputs (N, C) and targets (N,) of those that count.

    So padding costs neither logarithms nor derivatives of them.
    """
    if torch.compiler.is_compiling() or transforms_active():
        return outputs, targets  # see `_kept`
    places = (targets != ignored).nonzero().flatten()
    if len(places) == len(targets):
        return outputs, targets
    return outputs.index_select(0, places), targets[places]


def _kept(losses: Tensor, targets: Tensor, ignored: int) -> Tensor:
    if targets.dtype.is_floating_point:  # class probabilities
        return losses.flatten()
    counted = targets != ignored
    # Compilers and transforms need to know shapes; they may have the zeros of ignored
    # targets, as what they work on is summed over the terms.
    if torch.compiler.is_compiling() or transforms_active():
        return losses.flatten()
    return losses.flatten() if counted.all() else losses[counted]


def _on_batches(loss: BatchLoss) -> BatchLoss:
    def batch_loss(model: nn.Module, batch: Any) -> Tensor:
        try:
            return loss(model, batch)
        except (AttributeError, TypeError) as error:
            said = str(error).partition("\n")[0]
            # What is taken for outputs or targets is named in the message.
            taken = (type(model).__name__, f"'{type(batch).__name__}'")
            if not any(name in said for name in taken):
                raise
            raise DataError(
                f"the loss failed with '{said}', as it is called with (model, batch); "
                "run the model inside it, or give a torch loss with reduction='none'."
            ) from error

    return batch_loss


PER_VALUE: frozenset[Any] = frozenset(
    {
        "mse",
        *(nn.MSELoss, F.mse_loss, nn.L1Loss, F.l1_loss),
        *(nn.SmoothL1Loss, F.smooth_l1_loss, nn.HuberLoss, F.huber_loss),
        *(nn.BCELoss, F.binary_cross_entropy),
        *(nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits),
        *(nn.PoissonNLLLoss, F.poisson_nll_loss),
        *(nn.SoftMarginLoss, F.soft_margin_loss),
        *(nn.HingeEmbeddingLoss, F.hinge_embedding_loss),
    }
)
_UNREDUCED = partial(F.cross_entropy, reduction="none")
LOSSES: dict[str, BatchLoss] = {
    "cross_entropy": _on_pairs("cross_entropy", _UNREDUCED, IGNORED, "cross_entropy"),
    "mse": _on_pairs("mse", mse, None, "mse"),
}
