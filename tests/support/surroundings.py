"""Four methods written by hand, and the forms of a loop that they are compared in.

A row of the matrix is a surrounding (`Row`): something that trains a model with an
optimizer it is given. What it must give is computed by `by_hand`, with the formulas of
the papers on plain tensors and nothing of the library.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

import loops
import steppe
from steppe import compat

STEPS = 3
LR, MOMENTUM, DECAY = 0.1, 0.9, 1e-2
RHO, ALPHA, GAMMA, DRAWS = 0.3, 0.4, 0.1, 4
WALK = {"inner_lr": 0.1, "gamma": 0.5, "noise": 0.01, "alpha": 0.75}

Tensors = list[Tensor]
Gradient = Callable[[Tensors, Tensor, Tensor], Tensors]  # at weights, of a batch
Context = Callable[[], AbstractContextManager[Any]]


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(x.float(), y) for x, y in loops.batches(STEPS)]


def network() -> nn.Module:
    return loops.make_model().float()


def parametrized() -> nn.Module:
    """A network whose weight is computed from two parameters."""
    net = network()
    parametrizations.weight_norm(net[0])
    return net


def bfloat16() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16)


# ---- the methods, by hand ----------------------------------------------------------


def length(tensors: Tensors) -> Tensor:
    return torch.cat([t.flatten() for t in tensors]).norm()


def uphill(at: Gradient, w: Tensors, x: Tensor, y: Tensor) -> tuple[Tensors, Tensors]:
    """The gradient at w, and the one at w + rho g / ||g||."""
    g = at(w, x, y)
    moved = [p + RHO * d / length(g) for p, d in zip(w, g, strict=True)]
    return g, at(moved, x, y)


def sam(at: Gradient, w: Tensors, x: Tensor, y: Tensor, _: Any) -> Tensors:
    return uphill(at, w, x, y)[1]


def gsam(at: Gradient, w: Tensors, x: Tensor, y: Tensor, _: Any) -> Tensors:
    g, above = uphill(at, w, x, y)
    flat, flat_above = (torch.cat([t.flatten() for t in each]) for each in (g, above))
    share = flat @ flat_above / flat_above.square().sum()
    pairs = zip(g, above, strict=True)
    return [up - ALPHA * (clean - share * up) for clean, up in pairs]


def lpf_sgd(at: Gradient, w: Tensors, x: Tensor, y: Tensor, draws: Any) -> Tensors:
    total = [torch.zeros_like(p) for p in w]
    for xs, ys in zip(x.tensor_split(DRAWS), y.tensor_split(DRAWS), strict=True):
        noise = [torch.randn(p.shape, generator=draws) * GAMMA * filters(p) for p in w]
        grads = at([p + n for p, n in zip(w, noise, strict=True)], xs, ys)
        total = [t + len(xs) / len(x) * g for t, g in zip(total, grads, strict=True)]
    return total


def filters(p: Tensor) -> Tensor:
    """The norm of each row, or of a whole vector."""
    return (
        p.flatten(1).norm(dim=1).view(-1, *[1] * (p.dim() - 1))
        if p.dim() > 1
        else p.norm()
    )


def entropy_sgd(at: Gradient, w: Tensors, x: Tensor, y: Tensor, draws: Any) -> Tensors:
    lr, pull, alpha = WALK["inner_lr"], WALK["gamma"], WALK["alpha"]
    here, mean = list(w), list(w)
    velocity = [torch.zeros_like(p) for p in w]
    for xs, ys in zip(x.tensor_split(DRAWS), y.tensor_split(DRAWS), strict=True):
        for i, g in enumerate(at(here, xs, ys)):
            velocity[i] = 0.9 * velocity[i] + g + pull * (here[i] - w[i])
            xi = torch.randn(w[i].shape, generator=draws)
            spread = WALK["noise"] * math.sqrt(2 * lr)
            here[i] = here[i] - lr * velocity[i] + spread * xi
            mean[i] = alpha * mean[i] + (1 - alpha) * here[i]
    return [pull * (p - m) for p, m in zip(w, mean, strict=True)]


def by_hand(
    direction: Callable[..., Tensors],
    *,
    net: Callable[[], nn.Module] = network,
    around: Context = nullcontext,
    perturbations: int = 1,
    seeds: Sequence[int] = (0,),
    joint: bool = False,
    clip: float = math.inf,
) -> Tensors:
    """Weights after some steps of SGD with momentum along a method's direction.

    Args:
        direction: of the method.
        net: makes the network.
        around: entered for every evaluation.
        perturbations: equal parts of a batch with directions of their own; their mean
            is stepped with.
        seeds: of one generator, which all parts draw from, or of one for each part.
        joint: whether the halves of a batch are shared out alike, as two processes do
            that perturb together: a row is then one of each half.
        clip: largest length of what is stepped with.
    """
    module = net()
    names = [name for name, _ in module.named_parameters()]

    def at(weights: Tensors, x: Tensor, y: Tensor) -> Tensors:
        leaves = [p.detach().requires_grad_() for p in weights]
        values = dict(zip(names, leaves, strict=True))
        with around():
            out = functional_call(module, values, (x.reshape(-1, x.shape[-1]),))
        return list(
            torch.autograd.grad(F.cross_entropy(out.float(), y.flatten()), leaves)
        )

    w = [p.detach().clone() for p in module.parameters()]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    velocity: Tensors | None = None
    for x, y in batches():
        if joint:
            x, y = (torch.stack(t.chunk(2), dim=1) for t in (x, y))
        parts = zip(x.chunk(perturbations), y.chunk(perturbations), strict=True)
        found = [
            direction(at, w, xs, ys, draws[i % len(draws)])
            for i, (xs, ys) in enumerate(parts)
        ]
        g = [torch.stack(each).mean(0) for each in zip(*found, strict=True)]
        g = [
            d * min(1.0, clip / length(g).item()) + DECAY * p
            for d, p in zip(g, w, strict=True)
        ]
        velocity = (
            g
            if velocity is None
            else [MOMENTUM * v + d for v, d in zip(velocity, g, strict=True)]
        )
        w = [p - LR * v for p, v in zip(w, velocity, strict=True)]
    return w


# ---- the same methods of the library -----------------------------------------------


def base(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY
    )


@dataclass(frozen=True)
class Method:
    """A method of the library and its direction by hand."""

    make: Callable[..., Any]
    direction: Callable[..., Tensors]

    @property
    def name(self) -> str:
        return self.direction.__name__


def make_sam(net: nn.Module, /, **options: Any) -> Any:
    return steppe.SAM(base(net), rho=RHO, **options)


def make_gsam(net: nn.Module, /, **options: Any) -> Any:
    return steppe.GSAM(base(net), rho=RHO, alpha=ALPHA, **options)


def make_lpf_sgd(net: nn.Module, /, **options: Any) -> Any:
    return steppe.LPFSGD(base(net), gamma=GAMMA, micro_batches=DRAWS, **options)


def make_entropy_sgd(net: nn.Module, /, **options: Any) -> Any:
    return steppe.EntropySGD(base(net), inner_steps=DRAWS, **WALK, **options)


METHODS = {
    method.name: method
    for method in (
        Method(make_sam, sam),
        Method(make_gsam, gsam),
        Method(make_lpf_sgd, lpf_sgd),
        Method(make_entropy_sgd, entropy_sgd),
    )
}


# ---- forms of a loop ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A loop in plain torch, and what is special about it.

    Args:
        net: makes the network.
        wrap: makes of it what the loop calls.
        around_pass: entered around the forward pass.
        around_step: entered around a step with all its passes.
        around_loop: entered around all steps.
        micro_batches: in each pass.
        accumulate: loops of passes per step, each on a part of the batch.
        scaler: scales the loss.
        clip: largest length of the final gradient.
        rank: of one of two processes, which has one half of every batch.
        options: of the optimizer, given the network and what the loop calls.
        around_first: entered around the first of two backward passes, given what the
            loop calls.
        attach: does something to the network and the optimizer before the loop.
    """

    net: Callable[[], nn.Module] = network
    wrap: Callable[[nn.Module], nn.Module] = lambda net: net
    around_pass: Context = nullcontext
    around_step: Context = nullcontext
    around_loop: Context = nullcontext
    micro_batches: int = 1
    accumulate: int = 1
    scaler: torch.amp.GradScaler | None = None
    clip: float | None = None
    rank: int | None = None
    options: Callable[[nn.Module, nn.Module], dict[str, Any]] = lambda net, called: {}
    around_first: Callable[[nn.Module], Any] = lambda called: nullcontext()
    attach: Callable[[nn.Module, Any], None] = lambda net, opt: None

    def run(self, method: Method, form: str) -> nn.Module:
        """Train; gives the network."""
        net = self.net()
        called = self.wrap(net)
        opt = method.make(net, **self.options(net, called))
        opt = MADE.get(form, lambda opt, *_: opt)(opt, net, called)
        self.attach(net, opt)
        with self.around_loop():
            for x, y in batches():
                if self.rank is not None:
                    x, y = (t.chunk(2)[self.rank] for t in (x, y))
                with self.around_step():
                    FORMS[form](self, opt, called, x, y)
        return net

    def evaluate(self, called: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The loss of some rows, with its gradient."""
        total = torch.zeros(())
        parts = self.micro_batches
        for xs, ys in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            with self.around_pass():
                out = called(xs)
            loss = F.cross_entropy(out.float(), ys) * len(xs) / len(x)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            total += loss.detach()
        return total

    def finish(self, opt: Any) -> None:
        """What lies between the passes and the next step."""
        if self.scaler is not None:
            self.scaler.unscale_(opt)
        if self.clip is not None:
            params = [p for group in opt.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(params, self.clip)
        if self.scaler is None:
            opt.step()
        else:
            self.scaler.step(opt)
            self.scaler.update()


def loop(row: Plain, opt: Any, called: nn.Module, x: Tensor, y: Tensor) -> None:
    if row.accumulate == 1:
        for _ in opt.passes():
            row.evaluate(called, *opt.take(x, y))
    else:
        opt.zero_grad()
        parts = row.accumulate
        for xs, ys in zip(x.chunk(parts), y.chunk(parts), strict=True):
            for _ in opt.passes(accumulate=True):
                (x_share, y_share) = opt.take(xs, ys)
                out = called(x_share)
                (F.cross_entropy(out, y_share) / parts).backward()
    row.finish(opt)


def closure(row: Plain, opt: Any, called: nn.Module, x: Tensor, y: Tensor) -> None:
    def evaluate() -> Tensor:
        opt.zero_grad()
        return row.evaluate(called, *opt.take(x, y))

    opt.step(evaluate)


def two_calls(row: Plain, opt: Any, called: nn.Module, x: Tensor, y: Tensor) -> None:
    with row.around_first(called):
        row.evaluate(called, x, y)
    opt.first_step(zero_grad=True)
    row.evaluate(called, x, y)
    opt.finish()
    row.finish(opt)
    opt.zero_grad()


def set_closure(row: Plain, opt: Any, called: nn.Module, x: Tensor, y: Tensor) -> None:
    opt.set_closure(lambda out, target: F.cross_entropy(out.float(), target), x, y)
    opt.step()


def authors_gsam(opt: Any, net: nn.Module, called: nn.Module) -> Any:
    rho = compat.LinearScheduler(T_max=STEPS, max_value=RHO, min_value=RHO)
    return compat.GSAM(net.parameters(), base(net), called, ALPHA, rho)


FORMS = {f.__name__: f for f in (loop, closure, two_calls, set_closure)}
MADE = {
    "two_calls": lambda opt, net, called: compat.TwoCall(opt),
    "set_closure": authors_gsam,
}


def of_two_processes(rank: int, name: str) -> Tensors:
    """The weights of one of two processes, for a name as "local/loop/sam"."""
    sync, form, method = name.split("/")
    row = Plain(
        wrap=DistributedDataParallel,
        options=lambda net, called: {"model": called, "sync": sync},
        around_first=DistributedDataParallel.no_sync
        if sync == "local"
        else nullcontext,
        rank=rank,
    )
    return [p.detach() for p in row.run(METHODS[method], form).parameters()]


# ---- rows --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Row:
    """A surrounding, and what it gives.

    Args:
        name: of the surrounding.
        run: trains with a method in a form, and gives the network.
        forms: that it has.
        methods: that it is for.
        expected: what `by_hand` is told.
        refused: part of the sentence, by method or form, where it must be refused.
        atol: largest difference of a weight.
    """

    name: str
    run: Callable[[Method, str], nn.Module]
    forms: Sequence[str] = ("loop",)
    methods: Sequence[str] = tuple(METHODS)
    expected: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    atol: float = 5e-7  # a few roundings of weights near 1, in float32
    slow: bool = False


def cells(rows: Sequence[Row], *, refused: bool) -> list[Any]:
    """Rows, forms and methods that must be equal, or that must be refused."""
    return [
        pytest.param(
            row,
            form,
            METHODS[name],
            id=f"{row.name}-{form}-{name}",
            marks=[pytest.mark.slow] if row.slow else [],
        )
        for row in rows
        for form in row.forms
        for name in (["gsam"] if form == "set_closure" else row.methods)
        if (f"{form}/{name}" in row.refused) is refused
    ]


def assert_by_hand(row: Row, trained: Sequence[Tensor], method: Method) -> None:
    expected = by_hand(method.direction, **row.expected)
    torch.testing.assert_close(
        [p.detach() for p in trained], expected, rtol=0, atol=row.atol
    )
