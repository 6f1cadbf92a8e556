"""Heavy ball (PHB): gradient descent that keeps a share of its last displacement.

Source: Polyak, 1964, Some methods of speeding up the convergence of iteration methods,
USSR Computational Mathematics and Mathematical Physics 4(5).

- The displacement w - w_prev is kept rather than w_prev: weights that are set from
  outside, as by averaging, are then no momentum.
- `form="torch"` is the momentum of `torch.optim.SGD`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from steppe.bases.abstract import BASES, GRADIENT, AbstractBase, Bucket, Group
from steppe.errors import check_choice
from steppe.registry.bounds import Ranges, check_bounds

STATE_OF_FORM = {"polyak": "displacement", "torch": "momentum_buffer"}


class PHB(AbstractBase):
    """Heavy ball.

    With the gradient g:

    - "polyak": w_next = w - lr g + momentum (w - w_prev)
    - "torch": v_next = momentum v + g and w_next = w - lr v_next, bit for bit
      `torch.optim.SGD`

    They are the same at a constant lr. When it falls, "torch" scales down at once what
    earlier gradients still move, "polyak" lets that run out.

    Args:
        params: parameters or groups of them.
        lr: step size >= 0, in squared units of the parameters per unit of loss.
        momentum: share of the last displacement, 0 to 1. 0 is gradient descent.
        form: which of the two; fixed once a parameter has stepped.
        weight_decay: times the weights, added to the gradient; >= 0.

    Raises:
        SettingError: a setting out of its range.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0]))
        >>> opt = PHB([w], lr=0.5, momentum=0.5)
        >>> for _ in range(2):
        ...     w.grad = torch.ones(1)
        ...     opt.step()
        >>> w.item()
        -0.25
    """

    bounds: ClassVar[Ranges] = {**GRADIENT, "momentum": (0.0, 1.0)}

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        *,
        momentum: float = 0.9,
        form: Literal["polyak", "torch"] = "polyak",
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "form": form,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def _settled(self, settings: Group) -> dict[str, Any]:
        check_bounds(settings, self.bounds)
        check_choice("form", settings["form"], tuple(STATE_OF_FORM))
        return dict(settings)

    def _shapes(self, param: Tensor, group: Group) -> dict[str, torch.Size]:
        return {STATE_OF_FORM[group["form"]]: param.shape}

    def _update(self, bucket: Bucket, group: Group) -> None:
        lr, momentum = float(group["lr"]), float(group["momentum"])
        grads = bucket.decayed(group["weight_decay"])
        # Its name in the state says the form, as the two are not the same numbers.
        velocity = bucket.state(STATE_OF_FORM[group["form"]])
        torch._foreach_mul_(velocity, momentum)
        if group["form"] == "torch":
            torch._foreach_add_(velocity, grads)
            torch._foreach_add_(bucket.params, velocity, alpha=-lr)
        else:
            torch._foreach_add_(velocity, grads, alpha=-lr)
            torch._foreach_add_(bucket.params, velocity)


@BASES.add(
    "phb",
    source="Polyak, 1964",
    offers=PHB,
    bounds=PHB.bounds,
)
def phb(
    params: ParamsT,
    *,
    lr: float = 0.1,
    momentum: float = 0.9,
    form: Literal["polyak", "torch"] = "polyak",
    weight_decay: float = 5e-4,
) -> PHB:
    """Polyak's heavy ball; "torch" is the momentum of SGD."""
    return PHB(params, lr, momentum=momentum, form=form, weight_decay=weight_decay)
