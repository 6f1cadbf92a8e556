"""The hooks around the passes of an optimizer, in their order."""

from __future__ import annotations

from steppe.gates import LookingGate
from steppe.stepping.hooks.accumulation import Accumulation
from steppe.stepping.hooks.buffers import Buffers, ModelMetrics
from steppe.stepping.hooks.gate import FirstGradientGate
from steppe.stepping.hooks.gradient_sync import GradientSync
from steppe.stepping.hooks.loss_scale import LossScale
from steppe.stepping.hooks.monitor import Monitor
from steppe.stepping.hooks.rng import ReplayedDraws
from steppe.stepping.loop import AbstractHook, StateCommit
from steppe.stepping.micro_batches import MicroBatches
from steppe.stepping.options import CheckedOptions, Statistics


def hooks_of(
    options: CheckedOptions,
    sync: GradientSync,
    micro_batches: MicroBatches,
    *,
    accumulate: bool,
    running_statistics: Statistics,
    scale_free: bool,
) -> list[AbstractHook]:
    """Hooks that have something to do; passes go down the list, the end goes up.

    Args:
        options: of the optimizer.
        sync: of the optimizer.
        micro_batches: of the optimizer.
        accumulate: whether its loops add to the gradients of earlier ones.
        running_statistics: which passes write them.
        scale_free: whether scaling the loss scales the gradient only.
    """
    # First in: it clears `p.grad`, and completes the gradient that all others look at.
    hooks: list[AbstractHook] = [micro_batches]
    if sync.acts:
        # Before earlier gradients are noted, as it moves them; last to finish, since
        # processes average the very gradient that is stepped with.
        hooks.append(sync)
    if accumulate:
        # Adds after the state is committed: that is of the gradient of this loop alone.
        hooks.append(Accumulation())
    # Commits after the scale is back, so that it takes for an overflow what the scaler
    # will take for one.
    hooks.append(StateCommit(sync.share if sync.local else None))
    scale = None
    if options.scaler is not None and options.scales:
        # Below here gradients have no scale, neither after a pass nor at the end.
        scale = LossScale(options.scaler, micro_batches, undoes=not scale_free)
        hooks.append(scale)
    if options.model is not None and running_statistics == "first":
        # Anywhere: buffers have nothing to do with gradients.
        hooks.append(Buffers(options.model))
    if options.metrics:
        hooks.append(ModelMetrics(options.metrics, micro_batches))
    if options.monitor:
        # First to finish: the gradient is complete and still without the scale.
        hooks.append(Monitor())
    if isinstance(options.gate, LookingGate):
        # Waits for the device, so after all that has been queued without waiting.
        hooks.append(FirstGradientGate(options.gate, micro_batches, sync, scale))
    if options.rng == "replay":
        # Last before the caller's code: nothing may draw in between.
        hooks.append(ReplayedDraws())
    return hooks
