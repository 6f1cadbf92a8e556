"""A loop after the training script of timm, which needs torchvision to be imported.

What it keeps is the script's protocol: `_forward()` gives the loss, divided by the
number of micro-batches; `loss_scaler(loss, optimizer, clip_grad=, clip_mode=,
parameters=, create_graph=, need_update=)` or, without one, `backward()`, clipping and
`optimizer.step()` follow; gradients are cleared after each update.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NativeScaler:
    """Scales, unscales, clips and steps, in one call."""

    def __init__(self, device: str = "cpu") -> None:
        self._scaler = torch.amp.GradScaler(device, init_scale=2.0**10)

    def __call__(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        clip_grad: float | None = None,
        clip_mode: str = "norm",
        parameters: Any = None,
        create_graph: bool = False,
        need_update: bool = True,
    ) -> None:
        self._scaler.scale(loss).backward(create_graph=create_graph)
        if need_update:
            if clip_grad is not None:
                self._scaler.unscale_(optimizer)
                dispatch_clip_grad(parameters, clip_grad, mode=clip_mode)
            self._scaler.step(optimizer)
            self._scaler.update()


def dispatch_clip_grad(parameters: Any, value: float, mode: str = "norm") -> None:
    clip = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}
    clip[mode](parameters, value)


def train_one_epoch(
    model: nn.Module,
    batches: list[tuple[Tensor, Tensor]],
    optimizer: Any,
    *,
    clip_grad: float | None = None,
    loss_scaler: NativeScaler | None = None,
    accum_steps: int = 1,
    update: Callable[..., Any] | None = None,
) -> list[float]:
    """Train, by the recipe `update` where there is one; gives the losses to log."""
    losses = []
    optimizer.zero_grad()
    for i, (x, y) in enumerate(batches):
        need_update = (i + 1) % accum_steps == 0

        def _forward(x: Tensor = x, y: Tensor = y) -> Tensor:
            return F.cross_entropy(model(x), y) / accum_steps

        def _clip() -> None:
            dispatch_clip_grad(model.parameters(), clip_grad)

        if update is not None:
            scaler = None if loss_scaler is None else loss_scaler._scaler
            clip = None if clip_grad is None else _clip
            more = {"micro": accum_steps > 1, "need_update": need_update}
            loss = update(optimizer, _forward, scaler=scaler, clip=clip, **more)
        else:
            loss = _forward()
            _backward(
                loss, model, optimizer, loss_scaler, clip_grad, need_update=need_update
            )
        losses.append(loss.item() * accum_steps)
        if need_update:
            optimizer.zero_grad()
    return losses


def _backward(
    loss: Tensor,
    model: nn.Module,
    optimizer: Any,
    loss_scaler: NativeScaler | None,
    clip_grad: float | None,
    *,
    need_update: bool,
) -> None:
    if loss_scaler is not None:
        loss_scaler(
            loss,
            optimizer,
            clip_grad=clip_grad,
            parameters=model.parameters(),
            need_update=need_update,
        )
        return
    loss.backward()
    if need_update:
        if clip_grad is not None:
            dispatch_clip_grad(model.parameters(), clip_grad)
        optimizer.step()
