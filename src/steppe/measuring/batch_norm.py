"""Running statistics that fit the weights: those of the full data.

Averaged weights have activations of their own, and the running statistics of the model
are not theirs. Source: Izmailov et al., 2018, arXiv:1803.05407, Algorithm 1, last line.

A layer's statistics are what one batch of all samples would give it: the mean over all
samples, and the unbiased variance around it, put together from the batches by the
formula of Chan, Golub, LeVeque, 1983, The American Statistician 37(3). They do not
depend on how the data is cut, except through layers of batch statistics further up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import DataError, SettingError
from steppe.parameters import BufferSnapshot, check_model, forget_derived
from steppe.torch_internals import InstanceNorm, tree_map

Forward = Callable[[nn.Module, Any], object]


@torch.no_grad()
def reestimate(
    model: nn.Module, batches: Iterable[Any], *, forward: Forward | None = None
) -> int:
    """Set all running statistics to those of the data at the present weights.

    Every sample weighs alike, also in a short last batch. Layers are known by their
    `running_mean`, `running_var` and `momentum` (the weight of a new batch, or None),
    as torch's batch and instance norms and `SyncBatchNorm` have them. All other layers
    run as they predict, so dropout is off; modes are as before at the end. A layer that
    no batch reaches keeps what it had.

    So does a layer whose statistics training would not touch: one with a momentum of 0,
    and one in evaluation mode while the model is in training mode. Of a model in
    evaluation mode that is asked by `model.train()`: a `train` of your own that leaves
    layers in evaluation mode is followed. Frozen weights alone (`requires_grad`) freeze
    no statistics, as in training.

    Args:
        model: at the weights to predict with.
        batches: inputs, or tuples and lists that begin with them; read once, and moved
            to the device of the statistics.
        forward: runs the model on a batch of any other form:
            `forward(model, batch)`.

    Returns:
        The number of layers that have new statistics; 0 for a model with none that may
        change, which reads no batch.

    Raises:
        DataError: no batch, or one that needs `forward`.
        SettingError: no model, or a layer with running statistics and no momentum.

    Any exception leaves the statistics as they were.
    """
    check_model(model)
    layers = layers_that_train(model)
    if not layers:
        return 0
    run = _run_on_inputs if forward is None else forward
    device: torch.device = layers[0].running_mean.device
    saved = BufferSnapshot(model)
    read = 0
    forget_derived()
    try:
        with _collecting(model, layers) as collectors:
            for batch in batches:
                run(model, tree_map(lambda leaf: _moved(leaf, device), batch))
                read += 1
    finally:
        saved.put_back()
        forget_derived()  # what was computed without a graph has no gradient later
    if not read:
        raise DataError("there is no batch to estimate from; give at least one.")
    reached = [collector for collector in collectors if collector.calls]
    for collector in reached:
        collector.write()
    return len(reached)


class Statistics:
    """Running statistics of a model that follow its weights.

    Args:
        model: whose layers they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.layers: list[Any] = [m for m in model.modules() if has_statistics(m)]
        self._weights: list[Tensor] = []
        self._values: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def renew(
        self, weights: Sequence[Tensor], batches: Iterable[Any], forward: Forward
    ) -> bool:
        """Fit the statistics to the weights; those of the last weights are remembered.

        Args:
            weights: all that may have been moved.
            batches: of all data; see `reestimate`.
            forward: runs the model on a batch.

        Returns:
            Whether it took a pass over the batches.
        """
        if not self.layers:
            return False
        known = len(self._weights) == len(weights)
        if known and all(map(torch.equal, weights, self._weights)):
            for layer, (mean, var) in zip(self.layers, self._values, strict=True):
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(var)
            return False
        reestimate(self._model, batches, forward=forward)
        self._weights = [p.detach().clone() for p in weights]
        self._values = [
            (layer.running_mean.clone(), layer.running_var.clone())
            for layer in self.layers
        ]
        return True


class _Collector:
    """A forward hook that joins the statistics of a layer over batches."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.calls = 0
        self._terms = 0  # values per channel; for instance norm, instances
        # Apple's devices have no float64.
        wide = torch.float32 if layer.running_mean.is_mps else torch.float64
        self._mean = torch.zeros_like(layer.running_mean, dtype=wide)
        self._squares = torch.zeros_like(self._mean)  # sum around the mean

    def __call__(
        self, layer: Any, inputs: tuple[Any, ...], named: dict[str, Any], _: object
    ) -> None:
        input = inputs[0] if inputs else next(iter(named.values()))
        mean, var = layer.running_mean, layer.running_var
        apart = mean.to(self._mean.dtype) - self._mean
        # Layers weigh by the values behind a mean, not by batches: the last one may
        # be short, and inputs of different sizes have different numbers of pixels.
        terms = len(input) if self._by_instance else input.numel() // mean.numel()
        self.calls += 1
        self._terms += terms
        share = terms / self._terms
        self._mean += share * apart
        if self._by_instance:
            self._squares += terms * var
        else:
            self._squares += (terms - 1) * var + terms * (1 - share) * apart.square()

    @property
    def _by_instance(self) -> bool:
        # Its statistics are those within an instance, averaged over instances.
        return isinstance(self.layer, InstanceNorm)

    def write(self) -> None:
        """Give the layer the statistics of all batches."""
        weight = self._terms if self._by_instance else self._terms - 1
        self.layer.running_mean.copy_(self._mean)
        self.layer.running_var.copy_(self._squares / weight)
        if getattr(self.layer, "num_batches_tracked", None) is not None:
            self.layer.num_batches_tracked.fill_(self.calls)


@contextmanager
def _collecting(model: nn.Module, layers: list[Any]) -> Iterator[list[_Collector]]:
    """Layers write the statistics of each batch alone, and collectors read them."""
    modes = [(module, module.training) for module in model.modules()]
    momenta = [layer.momentum for layer in layers]
    collectors = [_Collector(layer) for layer in layers]
    hooks = [c.layer.register_forward_hook(c, with_kwargs=True) for c in collectors]
    try:
        for module, _ in modes:
            module.training = False
        for layer in layers:
            layer.training = True
            layer.momentum = 1.0
            layer.running_mean.zero_()  # what is not finite would outlast a weight of 0
            layer.running_var.fill_(1.0)
        yield collectors
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes:
            module.training = mode


def layers_that_train(model: nn.Module) -> list[Any]:
    """Layers whose running statistics follow the data in training."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        if not model.training:
            model.train()
        # A frozen layer may be of a kind that has no momentum at all.
        trained = [m for m, _ in modes if m.training and has_statistics(m)]
        return [layer for layer in trained if layer.momentum != 0]
    finally:
        for module, mode in modes:
            module.training = mode


def has_statistics(module: Any) -> bool:
    """Whether a layer evaluates with running statistics.

    Raises:
        SettingError: it has statistics and no momentum.
    """
    names = ("running_mean", "running_var")
    complete = all(isinstance(getattr(module, name, None), Tensor) for name in names)
    if complete and not hasattr(module, "momentum"):
        raise SettingError(
            f"{type(module).__name__} has running statistics but no momentum; give it "
            "the attribute momentum, the weight of a new batch, as torch's layers "
            "have; 0 keeps its statistics."
        )
    return complete and getattr(module, "track_running_stats", True)


def _run_on_inputs(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if not isinstance(batch, Tensor):
        raise DataError(
            f"a batch of {type(batch).__name__} does not say what the inputs are; pass "
            "forward=, a function of (model, batch) that runs the model."
        )
    model(batch)


def _moved(leaf: Any, device: torch.device) -> Any:
    return leaf.to(device, non_blocking=True) if isinstance(leaf, Tensor) else leaf
