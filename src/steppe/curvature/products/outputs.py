"""A batch split at the outputs of the model, between the network and its loss.

Shape letters: B rows of a batch, C outputs of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from steppe.curvature.products.autograd import check_differentiable, differentiate
from steppe.errors import SteppeError, UsageError
from steppe.objective import Objective

WRAPPED = (
    "wrap the model in a module that calls it and gives its outputs as one tensor, "
    "and compute the loss from that outside of the module"
)

# Of torch's messages where a loss looks for derivatives that the split took away.
UNLINKED = ("used in the graph", "not require grad")


class Outputs:
    """A batch whose loss is split from the parameters.

    Attributes:
        index: of the batch in the objective.
        z: outputs of the model, with their graph to the parameters.
        leaf: the same values without that graph.
        losses: loss terms, shape (terms,), with a graph to `leaf` only.
    """

    def __init__(self, index: int, z: Tensor, leaf: Tensor, losses: Tensor) -> None:
        self.index = index
        self.z = z
        self.leaf = leaf
        self.losses = losses

    @cached_property
    def output_gradient(self) -> Tensor:
        """Gradient of the summed losses in z, with its graph; shaped like z."""
        # A seed that requires a gradient makes every backward leave its mark.
        seed = torch.ones_like(self.losses).requires_grad_()
        (gradient,) = differentiate((self.losses,), (self.leaf,), (seed,), keep="graph")
        check_differentiable((gradient, self.losses))
        return gradient


def split_at_outputs(objective: Objective, index: int) -> Outputs:
    """Run one batch, with its loss split off at the outputs of the model.

    Call it inside `objective.measuring()` and `twice_differentiable`.

    Raises:
        UsageError: the model is not called exactly once, gives something else than one
            tensor, or computes the loss itself; or the loss has another way to the
            parameters, or none to the outputs.
    """
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def hand_over(output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        # A loss may write to what it is given, which a leaf does not allow.
        handed = leaf.clone()
        seen.append((output, leaf, handed))
        return handed

    losses = _with_hook(objective, objective.batch(index), hand_over)
    z, leaf, handed = seen[0]
    _check_loss(objective, losses, handed, leaf)
    return Outputs(index, z, leaf, losses)


def outputs_on(objective: Objective, batch: Any) -> Tensor:
    """Outputs of the model on a batch on the device.

    The objective is one that `split_at_outputs` takes. The loss is not called where
    its batches are known to be pairs.
    """
    if objective.likelihood is not None:
        z: Tensor = objective.model(batch[0])
        return z
    seen: list[Tensor] = []

    def look(output: Tensor) -> Tensor:
        seen.append(output)
        return output.clone()

    _with_hook(objective, batch, look)
    return seen[0]


def _with_hook(
    objective: Objective, batch: Any, hook: Callable[[Tensor], Tensor]
) -> Tensor:
    """Loss terms of a batch, with the model's outputs replaced by a hook."""
    calls = 0

    def checked(_module: nn.Module, _args: Any, output: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise _not_once("more than once")
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
            raise UsageError(
                "the Gauss-Newton and Fisher matrices need a model with one floating "
                f"tensor of outputs, got {kind}; {WRAPPED}."
            )
        return hook(output)

    try:
        handle = objective.model.register_forward_hook(checked)
    except RuntimeError as error:  # of TorchScript
        raise UsageError(
            "the Gauss-Newton and Fisher matrices look at the outputs of the model, "
            f"which a scripted model does not allow; {WRAPPED}."
        ) from error
    try:
        losses = objective.losses_on(batch)
    except RuntimeError as error:
        if isinstance(error, SteppeError) or not any(s in str(error) for s in UNLINKED):
            raise
        raise UsageError(
            "the Gauss-Newton and Fisher matrices need a loss that is a function of "
            "the outputs of the model alone, but here it differentiates the model "
            "itself; use Hessian or EmpiricalFisher, which take any loss."
        ) from error
    finally:
        handle.remove()
    if not calls:
        raise _not_once("never, as a whole,")
    return losses


def _check_loss(
    objective: Objective, losses: Tensor, handed: Tensor, leaf: Tensor
) -> None:
    if losses is handed:
        raise UsageError(
            "the model computes the loss itself, so that its outputs are not known; "
            f"{WRAPPED}."
        )
    if not losses.requires_grad:
        raise UsageError(
            "the loss does not depend on the outputs of the model through operations "
            "that torch can differentiate; compute it from what the model gives back."
        )
    inputs = (*objective.params, leaf)
    *beside, through = torch.autograd.grad(
        losses.sum(), inputs, retain_graph=True, allow_unused=True
    )
    used = [
        name
        for name, grad in zip(objective.names, beside, strict=True)
        if grad is not None
    ]
    if used or through is None:
        raise UsageError(
            "the loss must be a function of the outputs of the model alone, but it uses"
            f" {', '.join(used) or 'something else'}; give penalties of the weights to "
            "the objective as penalty=, or use Hessian, which takes any loss."
        )


def _not_once(how: str) -> UsageError:
    return UsageError(
        "the Gauss-Newton and Fisher matrices need a loss that calls the model exactly "
        f"once per batch, but it is called {how} here; {WRAPPED}."
    )
