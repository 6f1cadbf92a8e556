"""Evaluated batch norm as part of the layer before it.

A batch norm in evaluation mode is affine: channel by channel it multiplies by s and
adds t. Behind a convolution or a linear layer with the weight W and the bias b, both
together are one layer with the weight s W and the bias s b + t. The norms of layers are
those of these weights: scaling W alone does not change the function of a network with
batch norm, and does not change s W either.

Which batch norm follows which layer is read off the graph of the outputs: its input is
the output of the layer, which nothing else uses. A batch norm elsewhere is a layer of
its own, whose matrix is diagonal with the entries s.

Shape letters: C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from steppe.errors import UsageError
from steppe.graphs.graph_attributes import (
    ConvolutionSettings,
    convolution_settings,
    layer_input,
    running_mean,
)
from steppe.graphs.network_graph import Structure, Use, nodes_of, operation, structure
from steppe.graphs.operations import BATCH_NORMS
from steppe.objective import Objective
from steppe.results import Cost
from steppe.torch_internals import tree_leaves

LAYERS = {"linear", "convolution", "embedding"}
PRODUCTS = {"Convolution", "Addmm", "Mm"}  # operations a batch norm may follow


@dataclass(frozen=True)
class Layer:
    """A linear map of a network, with the batch norm behind it.

    Attributes:
        name: of the weight; of the module for a batch norm that is its own layer.
        kind: "linear", "convolution", "embedding" or "batch norm".
        bias: name of the bias, "" for none.
        norm: name of the module of the batch norm; None for none.
        eps: of the batch norm.
        outputs: dimension of the weight that its outputs lie along.
        convolution: settings of a convolution.
        size: shape of one input of a convolution, without the batch.
    """

    name: str
    kind: str
    bias: str = ""
    norm: str | None = None
    eps: float = 0.0
    outputs: int = 0
    convolution: ConvolutionSettings | None = None
    size: tuple[int, ...] = ()

    def weight(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight with the batch norm in it, float64; (C,) for batch norm alone.

        Args:
            tensors: parameters and buffers of a network by name.
        """
        if self.kind == "batch norm":
            return self._affine(tensors)[0]
        weight = tensors[self.name].detach().double()
        # A copy, as the parameter itself may move while the weight is in use.
        return weight.clone() if self.norm is None else self._scaled(weight, tensors)

    def shift(self, tensors: Mapping[str, Tensor]) -> Tensor | None:
        """The bias with the batch norm in it, (C,), float64; None without any."""
        bias = tensors[self.bias].detach().double() if self.bias else None
        if self.norm is None:
            return bias
        scale, shift = self._affine(tensors)
        return (
            shift if bias is None or self.kind == "batch norm" else scale * bias + shift
        )

    def tensors_read(self) -> list[str]:
        """Names of all parameters and buffers that it may have."""
        own = [] if self.kind == "batch norm" else [self.name]
        own += [self.bias] if self.bias else []
        ends = ("weight", "bias", "running_mean", "running_var")
        norms = [] if self.norm is None else [self._of_norm(end) for end in ends]
        return own + norms

    def folded_tensors(
        self,
        tensors: Mapping[str, Tensor],
        of: Callable[[Tensor], Tensor] = torch.clone,
    ) -> dict[str, Tensor]:
        """Tensors of the folded layer under the old names, float64.

        The batch norm behind it has factors of 1. It adds the bias where the layer has
        none.

        Args:
            tensors: parameters and buffers of the network by name.
            of: function of the weight and the bias to take, such as squares.
        """
        weight, shift = of(self.weight(tensors)), self.shift(tensors)
        shift = None if shift is None else of(shift)
        if self.kind == "batch norm":
            return self._norm_tensors(tensors, weight, shift)
        folded = {self.name: weight}
        if self.bias and shift is not None:
            folded[self.bias], shift = shift, None
        if self.norm is not None:
            folded |= self._norm_tensors(tensors, None, shift)
        return folded

    def _of_norm(self, end: str) -> str:
        return f"{self.norm}.{end}" if self.norm else end

    def _affine(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Factor and shift of the batch norm, each of shape (C,)."""
        mean, variance = (
            tensors[self._of_norm(end)].double()
            for end in ("running_mean", "running_var")
        )
        scale = (variance + self.eps).rsqrt()
        if (factor := tensors.get(self._of_norm("weight"))) is not None:
            scale = scale * factor.detach().double()
        shift = -mean * scale
        if (offset := tensors.get(self._of_norm("bias"))) is not None:
            shift = shift + offset.detach().double()
        return scale, shift

    def _norm_tensors(
        self, tensors: Mapping[str, Tensor], factor: Tensor | None, shift: Tensor | None
    ) -> dict[str, Tensor]:
        """Tensors of a batch norm that multiplies and adds these; None for nothing."""
        mean = tensors[self._of_norm("running_mean")].double()
        ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
        factor, shift = (
            ones if factor is None else factor,
            zeros if shift is None else shift,
        )
        affine = self._of_norm("weight") in tensors
        # A norm without a factor has it in the variance, as it divides by a deviation.
        wanted = {
            "running_var": ones - self.eps if affine else factor**-2 - self.eps,
            "running_mean": zeros if affine else -shift / factor,
            "weight": factor,
            "bias": shift,
        }
        return {
            name: value
            for end, value in wanted.items()
            if (name := self._of_norm(end)) in tensors
        }

    def _scaled(self, weight: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """Each output times the factor of its channel."""
        scale = self._affine(tensors)[0]
        groups = self.convolution.groups if self.convolution else 1
        if self.outputs == 1 and groups > 1:  # transposed: inputs lie by group
            parts = weight.reshape(groups, -1, *weight.shape[1:])
            rows = scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))
            return (parts * rows).flatten(0, 1)
        shape = [1] * weight.dim()
        shape[self.outputs] = -1
        return weight * scale.view(shape)


@dataclass(frozen=True)
class Layers:
    """All linear maps of an evaluated network, in the order of its parameters.

    Attributes:
        layers: with the batch norms.
        left_out: names of parameters that are no part of one, such as those of layer
            norms and embeddings of positions.
        size: shape of one input of the network, without the batch; None where it takes
            something else than one floating tensor.
        structure: of the network.
    """

    layers: tuple[Layer, ...]
    left_out: tuple[str, ...]
    size: tuple[int, ...] | None
    structure: Structure = field(repr=False)

    def folded(
        self,
        tensors: Mapping[str, Tensor],
        of: Callable[[Tensor], Tensor] = torch.clone,
    ) -> dict[str, Tensor]:
        """Parameters and buffers of the folded network, float64.

        Its function is the same, unless another one of the weights is taken.

        Args:
            tensors: parameters and buffers of the network by name.
            of: function of all weights and biases to take, such as squares.
        """
        folded = {
            name: tensor.detach().double() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
        folded |= {name: of(folded[name]) for name in self.left_out}
        for layer in self.layers:
            folded |= layer.folded_tensors(tensors, of)
        return folded


def tensors_of_model(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a shared one has its first name."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def find_layers(objective: Objective) -> Layers:
    """Layers of the network in evaluation mode, from one pass over the first batch.

    Frozen weights are no variables of the objective and no layers.

    Raises:
        UsageError: a weight in an operation without a rule for its norm, or a batch
            norm whose statistics are no buffers of a module.
    """
    names = dict(zip(objective.params, objective.names, strict=True))
    with objective.measuring(), torch.enable_grad():
        objective.model.eval()
        z, size = _ends(objective)
        objective.cost += Cost(forwards=1 / len(objective.batches))
        network = structure(z, names)
        reader = _Reader(objective.model, network, z)
        layers, left_out = reader.layers(objective.names)
        return Layers(layers, left_out, size, network)


def _ends(objective: Objective) -> tuple[Tensor, tuple[int, ...] | None]:
    """A tensor that depends on the parameters as the outputs do; size of an input."""
    seen: list[Any] = []
    sizes: list[tuple[int, ...] | None] = []

    def note(_module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        seen.append(output)
        sizes.append(_size_of((*inputs, *keywords.values())))

    batch = objective.batch(0)
    try:
        handle = objective.model.register_forward_hook(note, with_kwargs=True)
    except RuntimeError:  # of TorchScript, which has no hooks
        return objective.losses_on(batch).sum(), None
    try:
        losses = objective.losses_on(batch)
    finally:
        handle.remove()
    leaves = [
        leaf
        for leaf in tree_leaves(seen)
        if isinstance(leaf, Tensor) and leaf.requires_grad
    ]
    size = sizes[0] if len(sizes) == 1 else None
    if len(leaves) == 1:
        return leaves[0], size
    joined = torch.stack([t.sum() for t in leaves]).sum() if leaves else losses.sum()
    return joined, size


def _size_of(inputs: tuple[Any, ...]) -> tuple[int, ...] | None:
    first = inputs[0] if len(inputs) == 1 else None
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return None
    return tuple(first.shape[1:])


class _Reader:
    """Finds the layers in the graph of a network."""

    def __init__(self, model: nn.Module, network: Structure, z: Tensor) -> None:
        self.model = model
        self.network = network
        self.nodes = list(nodes_of(z.grad_fn)) if z.grad_fn is not None else []
        self.readers = Counter(
            child for node in self.nodes for child, _ in node.next_functions
        )

    def layers(self, order: Sequence[str]) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
        """Layers in the order of the parameters, and the parameters of none."""
        weights = self._weights()
        by_node = {layer_node: name for name, layer_node in _single(weights)}
        layers = {name: self._layer(uses) for name, uses in weights.items()}
        alone: list[Layer] = []
        norms: set[str] = set()
        for node in self.nodes:
            if operation(node) not in BATCH_NORMS:
                continue
            norm, module = self._module(node)
            if norm in norms:
                raise UsageError(
                    f"the batch norm {norm} is called more than once, so that it is no "
                    "part of one layer; give each layer a batch norm of its own."
                )
            norms.add(norm)
            before = node.next_functions[0][0]
            name = by_node.get(before) if before is not None else None
            if name is not None and self.readers[before] == 1:
                layers[name] = replace(layers[name], norm=norm, eps=module.eps)
            else:
                alone.append(Layer(norm, "batch norm", norm=norm, eps=module.eps))
        ordered = [layers[name] for name in order if name in layers]
        ordered += sorted(alone, key=lambda layer: layer.name)
        used = {name for layer in ordered for name in layer.tensors_read()}
        left_out = tuple(name for name in order if name not in used)
        return tuple(ordered), left_out

    def _weights(self) -> dict[str, list[Use]]:
        weights: dict[str, list[Use]] = {}
        shapes = {name: p.dim() for name, p in self.model.named_parameters()}
        for use in self.network.uses:
            if use.kind in LAYERS:
                weights.setdefault(use.name, []).append(use)
            elif use.kind == "other" and shapes[use.name] > 1:
                raise UsageError(
                    "norms of layers are defined for weights of linear layers, "
                    f"convolutions and embeddings, but {use.name} enters the operation "
                    f"{operation(use.operation)}; leave it out by "
                    "requires_grad_(False)."
                )
        return weights

    def _layer(self, uses: Sequence[Use]) -> Layer:
        use, node = uses[0], uses[0].operation
        bias = self._bias(use)
        if use.kind == "convolution":
            settings = convolution_settings(node)
            size = tuple(layer_input(node).shape[1:])
            outputs = int(settings.transposed)
            return Layer(use.name, use.kind, bias, None, 0.0, outputs, settings, size)
        turned = use.kind == "linear" and not use.transposed
        return Layer(use.name, use.kind, bias, outputs=int(turned))

    def _bias(self, use: Use) -> str:
        """Name of the bias that a product adds; of a frozen one from its module."""
        on_node = (u for u in self.network.uses if u.operation is use.operation)
        named = [u.name for u in on_node if u.kind in ("add", "channels")]
        if named:
            return named[0]
        owner = use.name.rpartition(".")[0]
        bias = getattr(self.model.get_submodule(owner), "bias", None)
        return f"{owner}.bias".lstrip(".") if isinstance(bias, Tensor) else ""

    def _module(self, node: Node) -> tuple[str, Any]:
        """Name and module of an evaluated batch norm."""
        statistics = running_mean(node)
        for name, module in self.model.named_modules():
            mean = getattr(module, "running_mean", None)
            if isinstance(mean, Tensor) and mean.data_ptr() == statistics.data_ptr():
                return name, module
        raise UsageError(
            "norms of layers need batch norm as a module with running statistics, but "
            "here it computes with other ones; use torch.nn.BatchNorm2d or its kin."
        )


def _single(weights: Mapping[str, Sequence[Use]]) -> Iterable[tuple[str, Node]]:
    """Weights that are used once, in a product that a batch norm may follow."""
    for name, uses in weights.items():
        if len(uses) == 1 and operation(uses[0].operation) in PRODUCTS:
            yield name, uses[0].operation
