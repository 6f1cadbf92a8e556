"""What a stranger gets wrong: each is one sentence, and leaves the model as it was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset

import problems
import steppe
from steppe import gates, schedules
from steppe.errors import SteppeError
from steppe.measures import LPF, TopEigenvalue, Trace
from steppe.measuring.batch_norm import reestimate
from steppe.objective import Objective

LONGEST = 400  # letters of a sentence
SGD = torch.optim.SGD
PER_VALUE = {
    "bce": nn.BCEWithLogitsLoss(reduction="none"),
    "mse": nn.MSELoss(reduction="none"),
    "l1": nn.L1Loss(reduction="none"),
}


class Scene:
    """A network with three classes, ten samples, and what is made of them."""

    def __init__(self) -> None:
        self.model = problems.mlp(nn.ReLU).float()
        self.other = problems.linear()
        source = problems.generator(1)
        self.x = torch.randn(10, problems.INPUTS, generator=source)
        self.y = torch.arange(10) % problems.CLASSES

    def value(self, *data: Any, loss: Any = "cross_entropy") -> Any:
        return Objective(self.model, data, loss).value()

    def batches(self, data: Any, loss: Any = "cross_entropy") -> Any:
        return Objective(self.model, data, loss).value()

    @property
    def objective(self) -> Objective:
        return Objective(self.model, (self.x, self.y))

    @property
    def H(self) -> steppe.Hessian:  # noqa: N802
        return steppe.Hessian(self.objective)

    @property
    def line(self) -> steppe.Line:
        return steppe.Line.random(self.model)

    @property
    def base(self) -> SGD:
        return SGD(self.model.parameters(), lr=0.1)

    def measured(self, *measures: Any, **settings: Any) -> Any:
        return steppe.measure(self.objective, list(measures), **settings)


class Endless(IterableDataset[Any]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.pair = x[0], y[0]

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.pair)


class Triples(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.ones(4), torch.ones(4), 0


Call = Callable[[Scene], Any]
OBJECTIVES: list[tuple[str, Call, str]] = [
    ("swapped", lambda s: Objective((s.x, s.y), s.model), "model must be a torch.nn"),
    ("a class", lambda s: Objective(nn.Linear, (s.x, s.y)), "model must be a torch.nn"),
    (
        "a state dict",
        lambda s: Objective(s.model.state_dict(), (s.x, s.y)),
        "model must be a torch.nn",
    ),
    ("inputs alone", lambda s: Objective(s.model, s.x), "data must be a tuple"),
    ("a dict of data", lambda s: Objective(s.model, {"x": s.x}), "data must be"),
    ("a number", lambda s: Objective(s.model, 3), "data must be"),
    (
        "numpy",
        lambda s: s.value(s.x.numpy(), s.y.numpy()),
        "torch.from_numpy",
    ),
    ("unpacked data", lambda s: Objective(s.model, s.x, s.y), "loss must be"),
    ("loss is None", lambda s: s.value(s.x, s.y, loss=None), "loss must be"),
    (
        "a misspelled loss",
        lambda s: s.value(s.x, s.y, loss="crossentropy"),
        "loss must be one of",
    ),
    (
        "a class as loss",
        lambda s: s.value(s.x, s.y, loss=nn.CrossEntropyLoss),
        r"CrossEntropyLoss(reduction='none')",
    ),
    (
        "a loss that averages",
        lambda s: s.value(s.x, s.y, loss=nn.CrossEntropyLoss()),
        "reduction='none'",
    ),
    (
        "the mode True",
        lambda s: Objective(s.model, (s.x, s.y), mode=True),
        "mode must be 'eval', 'train' or 'reestimate'",
    ),
    (
        "a text as batch size",
        lambda s: Objective(s.model, (s.x, s.y), batch_size="32"),
        "batch_size must be",
    ),
    (
        "half a batch size",
        lambda s: Objective(s.model, (s.x, s.y), batch_size=2.5),
        "batch_size must be",
    ),
    (
        "a text as seed",
        lambda s: Objective(s.model, (s.x, s.y), seed="0"),
        "seed must be",
    ),
    ("unequal lengths", lambda s: s.value(s.x, s.y[:9]), "one length"),
    ("no samples", lambda s: s.value(s.x[:0], s.y[:0]), "empty"),
    ("one sample alone", lambda s: s.value(s.x[0], s.y[0]), "dimension"),
    ("a sparse tensor", lambda s: s.value(s.x.to_sparse(), s.y), "to_dense"),
    ("float classes", lambda s: s.value(s.x, s.y.float()), "integers"),
    ("a column of classes", lambda s: s.value(s.x, s.y[:, None]), "(10, 1)"),
    ("a class too many", lambda s: s.value(s.x, s.y + 1), "0 to 2, got 3"),
    ("a negative class", lambda s: s.value(s.x, s.y - 1), "0 to 2, got -1"),
    ("text as targets", lambda s: s.batches([(s.x, "abc")]), "str"),
    (
        "classes for the squared error",
        lambda s: s.value(s.x, s.y, loss="mse"),
        "shape of the outputs",
    ),
    (
        "a shape that torch would stretch",
        lambda s: s.value(s.x, torch.ones(10, 1), loss=PER_VALUE["mse"]),
        "shape of the outputs",
    ),
    (
        "a row that torch would stretch",
        lambda s: s.value(s.x, torch.ones(10, 1), loss=F.l1_loss),
        "shape of the outputs",
    ),
    (
        "integers for log odds",
        lambda s: s.value(s.x, F.one_hot(s.y, 3), loss=PER_VALUE["bce"]),
        "float",
    ),
    (
        "classes for log odds",
        lambda s: s.value(s.x, s.y.float(), loss=PER_VALUE["bce"]),
        "shape of the outputs",
    ),
    ("too few features", lambda s: s.value(s.x[:, :3], s.y), "(10, 3)"),
    ("integers as inputs", lambda s: s.value(s.x.long(), s.y), "torch.int64"),
    ("inputs in float64", lambda s: s.value(s.x.double(), s.y), "torch.float64"),
    (
        "weights of the samples",
        lambda s: s.value(s.x, s.y, torch.ones(10)),
        "loss(model, batch)",
    ),
    (
        "a loader of three",
        lambda s: s.batches(DataLoader(Triples(), 2)),
        "loss(model, batch)",
    ),
    (
        "a loader of three and a torch loss",
        lambda s: s.batches(DataLoader(Triples(), 2), PER_VALUE["mse"]),
        "loss(model, batch)",
    ),
    (
        "dict batches",
        lambda s: s.batches([{"input_ids": s.x, "labels": s.y}]),
        "loss(model, batch)",
    ),
    ("None among batches", lambda s: s.batches([(s.x, s.y), None]), "NoneType"),
    ("None as targets", lambda s: s.batches([(s.x, None)]), "NoneType"),
    (
        "an endless stream",
        lambda s: s.batches(DataLoader(Endless(s.x, s.y), 2)),
        "islice",
    ),
    ("endless batches", lambda s: s.batches(itertools.repeat((s.x, s.y))), "islice"),
    (
        "a loss that averages inside",
        lambda s: s.batches([s.x], lambda model, x: model(x).mean()),
        "one value per",
    ),
    (
        "a loss that gives a float",
        lambda s: s.batches([s.x], lambda model, x: 1.0),
        "float",
    ),
    (
        "a loss of integers",
        lambda s: s.batches([s.x], lambda model, x: model(x).argmax(1)),
        "floating",
    ),
]
MEASURES: list[tuple[str, Call, str]] = [
    ("a model", lambda s: steppe.measure(s.model, ["lpf"]), "steppe.Objective"),
    ("an unknown measure", lambda s: s.measured("sharpness"), "unknown measure"),
    ("no measure", lambda s: s.measured("math:sqrt"), "math:sqrt"),
    ("a class of the user", lambda s: s.measured("torch.nn:Linear"), "torch.nn:Linear"),
    ("a measure's class", lambda s: s.measured(LPF), "LPF()"),
    ("None", lambda s: steppe.measure(s.objective, None), "measures must be"),
    ("a number", lambda s: steppe.measure(s.objective, 3), "measures must be"),
    ("a text for a number", lambda s: s.measured("lpf:sigma=big"), "a number"),
    ("a negative sigma", lambda s: s.measured("lpf:sigma=-1"), "sigma must be > 0"),
    ("a misspelled setting", lambda s: s.measured("lpf:sgima=1"), "'sigma'"),
    ("asked twice", lambda s: s.measured("lpf", "lpf"), "twice"),
    ("a text as seed", lambda s: s.measured("lpf", seed="x"), "seed must be"),
    ("a number as generator", lambda s: s.measured("lpf", generator=0), "Generator"),
    ("called on a model", lambda s: LPF()(s.model), "steppe.Objective"),
    ("eigenvalue of a model", lambda s: TopEigenvalue()(s.model), "steppe.Objective"),
    ("a text as sigma", lambda s: LPF(sigma="0.1"), "sigma must be"),
    ("True as sigma", lambda s: LPF(sigma=True), "sigma must be"),
    ("half a draw", lambda s: LPF(samples=2.5), "samples must be"),
    ("a tensor as sigma", lambda s: LPF(sigma=torch.ones(2)), "sigma must be"),
    ("NaN as accuracy", lambda s: Trace(rtol=float("nan")), "rtol must be"),
    ("a text as budget", lambda s: TopEigenvalue(max_products="9"), "max_products"),
]
CURVATURE: list[tuple[str, Call, str]] = [
    ("a model", lambda s: steppe.Hessian(s.model), "steppe.Objective"),
    ("a model and GGN", lambda s: steppe.GGN(s.model), "steppe.Objective"),
    ("a model and Fisher", lambda s: steppe.Fisher(s.model), "steppe.Objective"),
    ("text as draws", lambda s: steppe.Fisher(s.objective, samples="1"), "samples"),
    (
        "a number as params",
        lambda s: steppe.Hessian(s.objective, params=5),
        "params must be",
    ),
    (
        "a text as memory",
        lambda s: steppe.Hessian(s.objective, budget="1GB"),
        "budget must be",
    ),
    (
        "a device as backend",
        lambda s: steppe.Hessian(s.objective, backend="cuda"),
        "backend must be",
    ),
    ("a list as vector", lambda s: s.H @ [1.0, 2.0], "torch tensor"),
    ("a short vector", lambda s: s.H @ torch.ones(3), "(3,)"),
    ("text", lambda s: steppe.eigsh("x"), "operator"),
    ("eigsh of a model", lambda s: steppe.eigsh(s.model), "operator"),
    ("eigsh of an objective", lambda s: steppe.eigsh(s.objective), "steppe.Hessian"),
    ("a rectangle", lambda s: steppe.eigsh(torch.ones(3, 4)), "(D, D)"),
    ("whole numbers", lambda s: steppe.eigsh(torch.eye(3).long()), "floating"),
    ("k as text", lambda s: steppe.eigsh(s.H, k="5"), "k must be"),
    ("half a pair", lambda s: steppe.eigsh(s.H, k=1.5), "k must be"),
    ("True as k", lambda s: steppe.eigsh(s.H, k=True), "k must be"),
    ("an unknown end", lambda s: steppe.eigsh(s.H, which="top"), "which must be"),
    ("tol as text", lambda s: steppe.eigsh(s.H, tol="small"), "tol must be"),
    ("a seed for a generator", lambda s: steppe.eigsh(s.H, generator=0), "Generator"),
    ("spectrum of a model", lambda s: steppe.spectrum(s.model), "operator"),
    (
        "spectrum of an objective",
        lambda s: steppe.spectrum(s.objective),
        "steppe.Hessian",
    ),
    ("steps as text", lambda s: steppe.spectrum(s.H, steps="10"), "steps must be"),
    ("trace of an objective", lambda s: steppe.trace(s.objective), "steppe.Hessian"),
    ("samples as text", lambda s: steppe.trace(s.H, max_samples="9"), "max_samples"),
    ("norm of a model", lambda s: steppe.frobenius(s.model), "operator"),
    ("diagonal of an objective", lambda s: steppe.diagonal(s.objective), "operator"),
    ("layers of a model", lambda s: steppe.layer_traces(s.model), "steppe.Objective"),
    ("an operator", lambda s: steppe.exact_diagonal(s.H), "steppe.Objective"),
    (
        "minimum of a model",
        lambda s: steppe.minimum_sharpness(s.model),
        "steppe.Objective",
    ),
    (
        "tracking a model",
        lambda s: steppe.SpectrumTracker(s.model).measure(),
        "steppe.Objective",
    ),
    (
        "cosines of lists",
        lambda s: steppe.alignment([1.0], [[1.0]]),
        "tensor",
    ),
    ("overlap of texts", lambda s: steppe.overlap("a", "b"), "tensor"),
]
LANDSCAPES: list[tuple[str, Call, str]] = [
    ("a model as line", lambda s: steppe.landscape(s.objective, s.model), "Line"),
    (
        "a model as objective",
        lambda s: steppe.landscape(s.model, s.line),
        "steppe.Objective",
    ),
    ("swapped", lambda s: steppe.landscape(s.line, s.objective), "steppe.Objective"),
    ("one number", lambda s: steppe.landscape(s.objective, s.line, x=5), "x must"),
    ("text", lambda s: steppe.landscape(s.objective, s.line, x="far"), "x must"),
    ("no model", lambda s: steppe.Line.random(s.objective), "model must be"),
    ("a text as seed", lambda s: steppe.Line.random(s.model, seed="a"), "seed must be"),
    (
        "a state dict as base",
        lambda s: steppe.Line.between(s.model.state_dict(), s.model),
        "model_a must be",
    ),
    ("another model", lambda s: steppe.Line.between(s.model, s.other), "same"),
]
TRAINING: list[tuple[str, Call, str]] = [
    ("EMA of an optimizer", lambda s: steppe.EMA(s.base), "the model itself"),
    (
        "EMA of parameters",
        lambda s: steppe.EMA(s.model.parameters()),
        "the model itself",
    ),
    ("a decay as text", lambda s: steppe.EMA(s.model, decay="0.9"), "decay must be"),
    ("NaN as decay", lambda s: steppe.EMA(s.model, decay=float("nan")), "decay"),
    ("SWA every half step", lambda s: steppe.SWA(s.model, every=0.5), "every must be"),
    ("LAWA of text", lambda s: steppe.LAWA("model"), "the model itself"),
    (
        "statistics without a model",
        lambda s: reestimate(s.base, [s.x]),
        "model must be",
    ),
    ("SAM of parameters", lambda s: steppe.SAM(s.model.parameters()), "base"),
    ("SAM of a class", lambda s: steppe.SAM(SGD), "base"),
    ("SAM of a model", lambda s: steppe.SAM(s.model), "base"),
    ("a radius as text", lambda s: steppe.SAM(s.base, rho="0.05"), "rho must be"),
    ("NaN as radius", lambda s: steppe.SAM(s.base, rho=float("nan")), "rho must be"),
    ("an unknown setting", lambda s: steppe.SAM(s.base, radius=1.0), "radius"),
    ("a number as gate", lambda s: steppe.SAM(s.base, gate=5), "gate must be"),
    ("text as geometry", lambda s: steppe.SAM(s.base, geometry="l2"), "geometry"),
    ("text as model", lambda s: steppe.SAM(s.base, model="net"), "model must be"),
    ("text as seed", lambda s: steppe.LPFSGD(s.base, seed="0"), "seed must be"),
    ("a cosine of text", lambda s: schedules.Cosine("a", 0.0, steps=9), "start"),
    ("steps as text", lambda s: schedules.Linear(1.0, 0.0, steps="9"), "steps"),
    ("every of text", lambda s: gates.Every("5"), "interval must be"),
    (
        "a loss in place of a closure",
        lambda s: steppe.SAM(s.base).step(torch.ones(())),
        "closure",
    ),
    ("a sweep of text", lambda s: steppe.sweep("train", [1.0]), "train must be"),
]
TABLE = [
    pytest.param(call, words, id=f"{part}: {name}")
    for part, rows in (
        ("objective", OBJECTIVES),
        ("measure", MEASURES),
        ("curvature", CURVATURE),
        ("landscape", LANDSCAPES),
        ("training", TRAINING),
    )
    for name, call, words in rows
]


@pytest.mark.slow
@pytest.mark.parametrize(("call", "words"), TABLE)
def test_a_mistake_is_one_sentence_and_changes_nothing(call, words):
    scene = Scene()
    before = problems.state_of(scene.model)
    with pytest.raises(SteppeError) as caught:
        call(scene)
    said = str(caught.value)
    assert words in said
    assert len(said) < LONGEST
    assert said.endswith(".")
    assert "\n" not in said
    problems.assert_same(problems.state_of(scene.model), before)
