"""Structure of a network, read from the autograd graph of its outputs.

The graph from the outputs to the parameters shows which operations a network is made
of, whatever its code looks like: where every parameter enters, whether all else is
piecewise linear, and which activations a positive factor could be shared by.

A positively homogeneous operation hands a factor of its input on to its output, so that
both lie in one *stream* with one scale. A layer with weights starts a new stream; what
is added or joined has one scale, and so do the inputs, the outputs and all constants:
stream 0, whose scale is 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node

from steppe.graphs.graph_attributes import (
    bounded_by_nonzero,
    convolution_has_bias,
    normalizes_by_batch,
    operand,
    output_shape,
)
from steppe.graphs.heads import HeadReader, Heads
from steppe.graphs.operations import (
    BATCH_NORMS,
    HOMOGENEOUS,
    JOINS,
    NORMS,
    RESHAPES,
    SUMS,
)

FIXED = 0  # the stream of inputs, outputs and constants


@dataclass(frozen=True)
class Use:
    """One place where a parameter enters an operation."""

    name: str  # of the parameter
    kind: str  # of the operation: "linear", "convolution", ...; "other" for the rest
    operation: Node
    slot: int = 0  # which input of the operation it is
    transposed: bool = False  # between the two it is transposed, as by nn.Linear
    shape: tuple[int, ...] = ()  # it has at the operation, where it is viewed so


@dataclass(frozen=True)
class Link:
    """A parameter that carries one stream to another, or a bias that joins one."""

    name: str
    source: int  # stream; that of the constants for a bias
    target: int  # stream
    bias: bool = False
    operation: Node | None = field(default=None, compare=False)  # that it enters


@dataclass(frozen=True)
class Structure:
    """Operations, parameters and streams of a network.

    Attributes:
        uses: every place where a parameter enters.
        not_piecewise_linear: operations that are not piecewise linear.
        not_homogeneous: those that are, but not positively homogeneous.
        links: what every parameter multiplies, in streams. Other operations than
            homogeneous ones join their streams, too: these have no scale in common,
            but the order of their units.
        streams: how many there are, with that of the inputs and outputs.
        heads: of streams that products of activations read in blocks.
    """

    uses: tuple[Use, ...]
    not_piecewise_linear: tuple[str, ...]
    not_homogeneous: tuple[str, ...]
    links: tuple[Link, ...]
    streams: int
    heads: Mapping[int, Heads] = field(default_factory=dict)

    def why_not_piecewise_linear(self) -> str:
        """Why an output is not piecewise affine in each parameter, or ""."""
        if self.not_piecewise_linear:
            return f"it has the operation {self.not_piecewise_linear[0]}"
        if self.repeated:
            return f"its parameter {self.repeated[0]} is used more than once"
        return ""

    @property
    def repeated(self) -> list[str]:
        """Parameters that are used more than once."""
        names = [use.name for use in self.uses]
        return sorted({name for name in names if names.count(name) > 1})


def structure(z: Tensor, parameters: Mapping[nn.Parameter, str]) -> Structure:
    """Read the graph of a model's outputs.

    Args:
        z: outputs of the model with their graph.
        parameters: the tensors that are its variables, with their names.
    """
    if z.grad_fn is None:
        return Structure((), (), (), (), 1)
    reader = _Reader({id(p): name for p, name in parameters.items()})
    for node in nodes_of(z.grad_fn):
        if not reader.is_leaf(node):
            reader.read(node)
    reader.join(z.grad_fn, None)
    return reader.finished()


def operation(node: Node) -> str:
    """The name of a node's operation: "Addmm" of AddmmBackward0.

    Torch numbers its own; a function of a user keeps the whole name, whatever it is.
    """
    return re.sub(r"Backward\d+$", "", node.name().rpartition("::")[2])


def nodes_of(root: Node) -> Iterator[Node]:
    """All nodes of a graph, each once."""
    todo, seen = [root], {root}
    while todo:  # not recursive: graphs of deep networks exceed Python's stack
        node = todo.pop()
        yield node
        children = dict.fromkeys(n for n, _ in node.next_functions if n is not None)
        fresh = [child for child in children if child not in seen]
        seen.update(fresh)
        todo.extend(fresh)


@dataclass(frozen=True)
class _Parameter:
    """A parameter as the input of an operation."""

    name: str
    transposed: bool
    shape: tuple[int, ...]
    direct: bool  # neither viewed nor transposed


_Input = _Parameter | Node | None  # None is a constant, such as the data


@dataclass
class _Reader:
    """Goes over the nodes of a graph in any order."""

    names: dict[int, str]
    uses: list[Use] = field(default_factory=list)
    not_piecewise_linear: list[str] = field(default_factory=list)
    not_homogeneous: list[str] = field(default_factory=list)
    links: list[tuple[str, Node | None, Node | None]] = field(default_factory=list)
    biases: set[str] = field(default_factory=set)
    parents: dict[Node | None, Node | None] = field(default_factory=dict)
    heads: HeadReader = field(default_factory=HeadReader)

    def finished(self) -> Structure:
        """All that was read, with the streams numbered."""
        number: dict[Node | None, int] = {self._stream(None): FIXED}
        for _, *ends in self.links:
            for end in ends:
                number.setdefault(self._stream(end), len(number))
        links = tuple(
            Link(
                name,
                number[self._stream(source)],
                number[self._stream(target)],
                name in self.biases,
                target,
            )
            for name, source, target in self.links
        )
        return Structure(
            tuple(self.uses),
            tuple(sorted(set(self.not_piecewise_linear))),
            tuple(sorted(set(self.not_homogeneous))),
            links,
            len(number),
            self.heads.by_stream(self._stream, number),
        )

    def is_leaf(self, node: Node) -> bool:
        """Whether a node is a parameter, or a parameter seen through views."""
        return operation(node) == "AccumulateGrad" or isinstance(
            self._input(node), _Parameter
        )

    def join(self, one: Node | None, other: Node | None) -> None:
        """Let two activations have one scale; None stands for the constants."""
        self.parents[self._stream(one)] = self._stream(other)

    def read(self, node: Any) -> None:
        """Record the parameters of one operation, and the streams that it joins."""
        name = operation(node)
        inputs = [self._input(child) for child, _ in node.next_functions]
        self.heads.see(node, name)
        if name in HOMOGENEOUS:
            self._through(node, inputs, "add" if name == "Expand" else "other")
        elif name in SUMS or name in JOINS:
            self._sum(node, name, inputs)
        elif name in ("Mul", "Div"):
            self._product(node, name, inputs)
        elif name in ("Addmm", "Mm", "Bmm"):
            self._matrix(node, name, inputs)
        elif name == "Convolution":
            constant = convolution_has_bias(node)
            self._affine(node, "convolution", inputs, constant_bias=constant)
        elif name in BATCH_NORMS:
            self._batch_norm(node, inputs)
        elif name == "Embedding":
            self._affine(node, "embedding", [None, *inputs, None])
        elif name == "PreluKernel":
            self._slopes(node, inputs)
        elif name in ("Hardtanh", "Clamp", "ClampMin", "ClampMax", "Threshold"):
            self._bounded(node, name, inputs)
        else:
            kind = "normalization" if name in NORMS else "other"
            self._curve(node, name, inputs, kind)

    def _input(self, node: Node | None) -> _Input:
        transposed, direct, view = False, True, node
        while node is not None:
            name = operation(node)
            if name == "AccumulateGrad":
                leaf: Any = node
                variable: Tensor = leaf.variable
                if id(variable) not in self.names:
                    return None
                shape = tuple(variable.shape)
                if not direct and not transposed and view is not None:
                    shape = output_shape(view)
                return _Parameter(self.names[id(variable)], transposed, shape, direct)
            if name == "T" and (direct or transposed):
                transposed = not transposed
            elif name not in RESHAPES or transposed:
                return view
            direct = False
            node = node.next_functions[0][0]
        return view

    def _stream(self, node: Node | None) -> Node | None:
        # Union-find: activations that an operation adds or passes on share one scale.
        while node in self.parents and self.parents[node] is not node:
            node = self.parents[node]
        return node

    def _use(self, node: Node, p: _Parameter, kind: str, slot: int) -> None:
        self.uses.append(Use(p.name, kind, node, slot, p.transposed, p.shape))

    def _add(self, node: Node, parameter: _Parameter, kind: str, slot: int) -> None:
        """A parameter that is a bias of the outputs of an operation."""
        self._use(node, parameter, kind, slot)
        self.links.append((parameter.name, None, node))
        self.biases.add(parameter.name)

    def _through(self, node: Node, inputs: list[_Input], kind: str) -> None:
        for slot, each in enumerate(inputs):
            if isinstance(each, _Parameter):
                self._add(node, each, kind, slot)
            elif each is not None:
                self.join(node, each)

    def _sum(self, node: Node, name: str, inputs: list[_Input]) -> None:
        self._through(node, inputs, "add" if name in SUMS else "other")
        if name in SUMS:
            pinned = len(inputs) < 2 or None in inputs
        else:
            pinned = None in inputs and not _against_zero(node, name)
        if pinned:
            self.join(node, None)

    def _product(self, node: Node, name: str, inputs: list[_Input]) -> None:
        weights = [i for i, each in enumerate(inputs) if isinstance(each, _Parameter)]
        moving = [each for each in inputs if isinstance(each, Node)]
        divided = name == "Div" and len(inputs) > 1 and inputs[1] is not None
        if divided or len(weights) > 1 or len(moving) > 1:
            self._curve(node, name, inputs)
        elif weights:
            parameter = inputs[weights[0]]
            assert isinstance(parameter, _Parameter)
            kind = "multiply" if name == "Mul" else "other"
            self._use(node, parameter, kind, weights[0])
            self.links.append((parameter.name, moving[0] if moving else None, node))
        else:
            self._through(node, inputs, "other")

    def _matrix(self, node: Node, name: str, inputs: list[_Input]) -> None:
        first, second = inputs[-2:]
        if isinstance(first, _Parameter):
            self._weigh(node, first, len(inputs) - 2, second, "other")
        elif isinstance(second, _Parameter):
            kind = "other" if name == "Bmm" else "linear"
            self._weigh(node, second, len(inputs) - 1, first, kind)
        elif first is not None and second is not None:
            self.heads.multiply(node)
            self._curve(node, f"{name} of two activations", inputs)
        else:
            self._through(node, [first, second], "other")
        if name == "Addmm":
            self._bias(node, inputs[0], constant=True)

    def _weigh(
        self, node: Node, parameter: _Parameter, slot: int, data: _Input, kind: str
    ) -> None:
        """A product of a parameter with activations or data."""
        if isinstance(data, _Parameter):
            self._use(node, data, "other", 0)
            self.not_piecewise_linear.append("a product of two parameters")
            data = None
        plain = parameter.direct or parameter.transposed
        self._use(node, parameter, kind if plain else "other", slot)
        self.links.append((parameter.name, data, node))

    def _affine(
        self, node: Node, kind: str, inputs: list[_Input], constant_bias: bool = False
    ) -> None:
        data, weight, bias = inputs
        slot = 0 if kind == "embedding" else 1
        if isinstance(weight, _Parameter):
            self._weigh(node, weight, slot, data, kind if weight.direct else "other")
        elif weight is not None:
            self._curve(node, f"{kind} with computed weights", inputs)
            return
        else:
            self._through(node, [data], "other")
        self._bias(node, bias, constant=constant_bias)

    def _bias(self, node: Node, bias: _Input, constant: bool) -> None:
        if isinstance(bias, _Parameter):
            kind = {"Addmm": "add", "Convolution": "channels"}[operation(node)]
            self._add(node, bias, kind if bias.direct else "other", 0)
        elif bias is not None or constant:
            self.join(node, bias)

    def _batch_norm(self, node: Any, inputs: list[_Input]) -> None:
        data, weight, bias = inputs
        if normalizes_by_batch(node):
            self._curve(node, "batch norm with the statistics of the batch", inputs)
            return
        affine = [each for each in (weight, bias) if isinstance(each, _Parameter)]
        if len(affine) == 1:
            self.not_homogeneous.append("batch norm with one of weight and bias frozen")
        for slot, each in ((1, weight), (2, bias)):
            if isinstance(each, _Parameter):
                kind = "batch_norm" if each.direct else "other"
                if slot == 1:
                    self._weigh(node, each, slot, data, kind)
                else:
                    self._add(node, each, kind, slot)
        if not affine:
            self.join(node, None)
            self._through(node, [data], "other")

    def _slopes(self, node: Node, inputs: list[_Input]) -> None:
        data, slopes = inputs
        self._through(node, [data], "other")
        if isinstance(slopes, _Parameter):
            self._use(node, slopes, "slope", 1)
            self.links.append((slopes.name, node, node))

    def _bounded(self, node: Node, name: str, inputs: list[_Input]) -> None:
        self._through(node, inputs, "other")
        if bounded_by_nonzero(node):
            self.not_homogeneous.append(name)

    def _curve(
        self, node: Node, name: str, inputs: list[_Input], kind: str = "other"
    ) -> None:
        self.not_piecewise_linear.append(name)
        for slot, each in enumerate(inputs):
            if isinstance(each, _Parameter):
                self._use(node, each, kind if each.direct else "other", slot)
                self.links.append((each.name, node, node))
            elif each is not None:
                self.join(node, each)


def _against_zero(node: Any, name: str) -> bool:
    """Whether the constant of a maximum or minimum is zero."""
    if name not in ("Maximum", "Minimum"):
        return False
    slot = [child for child, _ in node.next_functions].index(None)
    return not bool(operand(node, slot).any())
