"""Four methods in every trainer: the weights of a loop by hand, or a refusal."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.nn import functional as F

import loops
import surroundings
from integrations import accelerated, trainers
from integrations import lightning_modules as lightning
from steppe.errors import SteppeError
from surroundings import Method, Row, assert_by_hand, bfloat16, cells, network

pytestmark = [  # what Lightning itself causes or advises
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:When using .Trainer"),
    pytest.mark.filterwarnings("ignore:.*weights_only"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
]

Run = Callable[[Method, str], nn.Module]


def micro_batches(parts: int) -> list[tuple[Tensor, Tensor]]:
    """The batches of all steps, each in some parts."""
    return [
        part
        for x, y in surroundings.batches()
        for part in zip(x.chunk(parts), y.chunk(parts), strict=True)
    ]


def automatic(
    kind: type = lightning.Flat,
    *,
    window: int = 1,
    parts: int | None = None,
    **settings: Any,
) -> Run:
    """Lightning's automatic optimization; `parts` where a callback sets the window."""

    def run(method: Method, form: str) -> nn.Module:
        module = kind(method.make, model=network())
        more = {"accumulate_grad_batches": window, **settings}
        with tempfile.TemporaryDirectory() as folder:
            lightning.fit(module, micro_batches(parts or window), folder, **more)
        return module.model

    return run


class Manual(lightning.Manual):
    """Manual optimization in the forms of the matrix."""

    form = "loop"

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        step = LOOPS[self.form]
        step(opt, self.manual_backward, self.model, *batch, lightning.step)


def manual(method: Method, form: str) -> nn.Module:
    module = Manual(lambda net: made(method, form, net), model=network())
    module.form = form
    with tempfile.TemporaryDirectory() as folder:
        lightning.fit(module, surroundings.batches(), folder)
    return module.model


def fabric(method: Method, form: str) -> nn.Module:
    net = network()
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    model, opt = fabric.setup(net, made(method, form, net))
    for x, y in surroundings.batches():
        LOOPS[form](opt, fabric.backward, model, x, y, lambda opt: opt.step())
    return net


def fabric_accumulating(method: Method, form: str) -> nn.Module:
    """Passes for each micro-batch, and a step after the last of them."""
    net = network()
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    model, opt = fabric.setup(net, method.make(net))
    for i, (x, y) in enumerate(micro_batches(2)):
        with nullcontext() if i % 2 else fabric.no_backward_sync(model, enabled=False):
            for _ in opt.passes():
                fabric.backward(mean_loss(model, *opt.take(x, y)) / 2)
        if i % 2:
            opt.step()
            opt.zero_grad()
    return net


def made(method: Method, form: str, net: nn.Module) -> Any:
    make = surroundings.MADE.get(form, lambda opt, *_: opt)
    return make(method.make(net), net, net)


def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def loop(
    opt: Any, backward: Any, model: nn.Module, x: Tensor, y: Tensor, step: Any
) -> None:
    for _ in opt.optimizer.passes():
        backward(mean_loss(model, *opt.optimizer.take(x, y)))
    step(opt)


def closure(
    opt: Any, backward: Any, model: nn.Module, x: Tensor, y: Tensor, step: Any
) -> None:
    def evaluate() -> Tensor:
        opt.zero_grad()
        loss = mean_loss(model, *opt.optimizer.take(x, y))
        backward(loss)
        return loss

    opt.step(evaluate)


def two_calls(
    opt: Any, backward: Any, model: nn.Module, x: Tensor, y: Tensor, step: Any
) -> None:
    backward(mean_loss(model, x, y))
    opt.first_step(zero_grad=True)
    backward(mean_loss(model, x, y))
    opt.finish()
    step(opt)
    opt.zero_grad()


def set_closure(
    opt: Any, backward: Any, model: nn.Module, x: Tensor, y: Tensor, step: Any
) -> None:
    opt.set_closure(F.cross_entropy, x, y)
    step(opt)


LOOPS = {f.__name__: f for f in (loop, closure, two_calls, set_closure)}


def hugging_face(kind: type = trainers.FlatTrainer, *, window: int = 1) -> Run:
    """The Trainer of transformers."""

    def run(method: Method, form: str) -> nn.Module:
        model = trainers.Classifier(network())
        more = {
            "gradient_accumulation_steps": window,
            "per_device_train_batch_size": loops.ROWS // window,
            "trainer": kind,
        }
        with fresh_accelerator(), tempfile.TemporaryDirectory() as folder:
            batches = surroundings.batches()
            trainers.fit(model, method.make, batches, Path(folder), **more)
        return model.net

    return run


def accelerate(*, window: int = 1, **settings: Any) -> Run:
    """A loop with `accumulate` and a Window, or with a closure."""

    def run(method: Method, form: str) -> nn.Module:
        with fresh_accelerator():
            training = accelerated.Training(
                method.make, window=window, model=network(), **settings
            )
            steps = training.run if form == "loop" else training.run_closures
            steps(surroundings.batches(), rows=loops.ROWS // window)
        return training.net

    return run


@contextmanager
def fresh_accelerator() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


EVERY_FORM = ("loop", "closure", "two_calls", "set_closure")
TWO_CALLS = {
    "two_calls/lpf_sgd": "takes its first gradient at perturbed weights",
    "two_calls/entropy_sgd": "takes its first gradient at perturbed weights",
}
CLIPPED = {"expected": {"clip": 0.05}}
MIXED = {"expected": {"around": bfloat16}, "atol": 1e-4}
LOST = dict.fromkeys([f"loop/{m}" for m in surroundings.METHODS], "integrations")
NO_CLOSURES = {f"closure/{m}": "integrations" for m in surroundings.METHODS}
Accumulation = lightning.callbacks.GradientAccumulationScheduler
SEARCH = {
    "callbacks": [lightning.SearchOfRates(num_training_steps=2, update_attr=False)],
    "enable_checkpointing": True,
}
ROWS = [
    Row(name="Lightning", run=automatic()),
    Row(name="Lightning, 2 micro-batches", run=automatic(window=2)),
    Row(name="Lightning, clipping", run=automatic(gradient_clip_val=0.05), **CLIPPED),
    Row(name="Lightning, bf16", run=automatic(precision="bf16-mixed"), **MIXED),
    Row(
        name="Lightning, micro-batches by a callback",
        run=automatic(parts=2, callbacks=[Accumulation({0: 2})]),
    ),
    Row(
        name="Lightning, a search for a learning rate before",
        run=automatic(**SEARCH),
    ),
    Row(
        name="Lightning, an average that is not in use",
        run=automatic(callbacks=[lightning.Watching(decay=0.5)]),
    ),
    Row(
        name="Lightning without the adapter",
        run=automatic(lightning.Plain),
        methods=("sam", "gsam"),
    ),
    Row(
        name="Lightning without the adapter, 2 micro-batches",
        run=automatic(lightning.Plain, window=2),
        refused=LOST,
    ),
    Row(name="Lightning by hand", run=manual, forms=EVERY_FORM, refused=TWO_CALLS),
    Row(name="Fabric", run=fabric, forms=EVERY_FORM, refused=TWO_CALLS),
    Row(
        name="Fabric, 2 micro-batches without accumulate=True",
        run=fabric_accumulating,
        refused=dict.fromkeys(LOST, "would drop the gradient of the last loop"),
    ),
    Row(name="Trainer", run=hugging_face()),
    Row(name="Trainer, 2 micro-batches", run=hugging_face(window=2)),
    Row(
        name="Trainer without the adapter",
        run=hugging_face(trainers.Trainer),
        refused=LOST,
    ),
    Row(name="Accelerate", run=accelerate(), forms=("loop", "closure")),
    Row(
        name="Accelerate, 2 micro-batches",
        run=accelerate(window=2),
        forms=("loop", "closure"),
        refused=NO_CLOSURES,
    ),
    Row(name="Accelerate, bf16", run=accelerate(mixed_precision="bf16"), **MIXED),
]


@pytest.mark.parametrize(("row", "form", "method"), cells(ROWS, refused=False))
def test_the_weights_are_those_of_a_loop_by_hand(row, form, method):
    assert_by_hand(row, list(row.run(method, form).parameters()), method)


@pytest.mark.parametrize(("row", "form", "method"), cells(ROWS, refused=True))
def test_what_cannot_be_is_refused_in_a_sentence(row, form, method):
    with pytest.raises(SteppeError, match=row.refused[f"{form}/{method.name}"]):
        row.run(method, form)
