"""Epochs of the laboratory's training loop over those of loops written by hand.

Images have the shape of CIFAR-10's and are augmented by a random crop and mirroring.
One hand-written loop takes them from a `DataLoader` with two workers, which augments
and standardises sample by sample; the other is given finished batches and does nothing
but forward, backward and step. The laboratory's loop runs in a process of its own, that
is started as its workers are, whose C library keeps the memory that tensors give back.
Times are wall times: they mean something on idle cores alone. Where there is a GPU, all
of it is done there.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from benchmarks.timing import Benchmark, ratios
from steppe_lab.datasets import Dataset, Selection, Split
from steppe_lab.datasets.samples import Standardisation, TensorSamples
from steppe_lab.execution.fork_server import environment_of_workers
from steppe_lab.training.build import build_model
from steppe_lab.training.loop import train_epoch
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState

LR = 0.01
WORKERS = 2
CLASSES = tuple("abcdefghij")
STANDARDISATION = Standardisation(
    mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), scale=255
)
NEVER = 10**9  # epochs: the loop is timed without its scores
OF_DATALOADER = {"small_cnn": 1 / 1.3, "resnet18": 1.0}
OF_BARE_STEPS = {"resnet18": 1.03}


@dataclass(frozen=True)
class Size:
    """Steps and samples of an epoch that is timed."""

    steps: int
    batch_size: int

    @property
    def samples(self) -> int:
        return self.steps * self.batch_size


ON_CPU = {"small_cnn": Size(40, 128), "resnet18": Size(6, 32)}
ON_GPU = {"small_cnn": Size(390, 128), "resnet18": Size(390, 128)}


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Training:
    """The same training in three loops: of the laboratory, with a DataLoader, bare."""

    name: str
    size: Size

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe(
            data="cifar10",
            model=self.name,
            base=f"sgd:lr={LR},momentum=0.9",
            augment="basic",
            lr_schedule="constant",
            batch_size=self.size.batch_size,
            epochs=10**6,
            evaluate_every=NEVER,
            device=device(),
        )

    @cached_property
    def split(self) -> Split:
        generator = torch.Generator().manual_seed(0)
        shape = (self.size.samples, 3, 32, 32)
        pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        targets = torch.randint(10, (len(pixels),), generator=generator)
        samples = TensorSamples(pixels, targets, STANDARDISATION)
        few = samples.chosen(torch.arange(16))
        data = Dataset(name="noise", train=samples, test=few, classes=CLASSES)
        return Selection().apply(data)

    def laboratory(self) -> Callable[[], object]:
        state = TrainingState.fresh(self.recipe, self.split, None)

        def epoch() -> None:
            train_epoch(state, self.split)
            state.epoch += 1

        return epoch

    def with_dataloader(self) -> Callable[[], object]:
        near = self.recipe.device == "cpu"
        loader = DataLoader(
            Cropped(self.split.train),
            batch_size=self.size.batch_size,
            shuffle=True,
            num_workers=WORKERS,
            persistent_workers=True,
            pin_memory=not near,
        )
        model, step = self._plain()

        def epoch() -> float:
            model.train()
            total = 0.0
            for x, y in loader:
                x = x.to(self.recipe.device, non_blocking=True)
                y = y.to(self.recipe.device, non_blocking=True)
                total += step(x, y).item() * len(y)
            return total / self.size.samples

        return epoch

    def bare(self) -> Callable[[], object]:
        model, step = self._plain()
        batches = [
            (x.to(self.recipe.device), y.to(self.recipe.device))
            for x, y in self.split.train.batches(self.size.batch_size)
        ]

        def epoch() -> Tensor:
            model.train()
            loss = torch.zeros(())
            for x, y in batches:
                loss = step(x, y)
            # The device has nothing left to do when the clock stops.
            return loss.cpu()

        return epoch

    def _plain(self) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
        model = build_model(self.recipe, (3, 32, 32), 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return model, step


class Cropped(TorchDataset[tuple[Tensor, Tensor]]):
    """Images one by one, as a script would write it."""

    def __init__(self, samples: TensorSamples) -> None:
        self.images, self.targets = samples.stored, samples.targets
        self.mean = torch.tensor(STANDARDISATION.mean).view(3, 1, 1)
        self.std = torch.tensor(STANDARDISATION.std).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = F.pad(self.images[index], (4, 4, 4, 4))
        down, right = torch.randint(9, (2,)).tolist()
        image = image[:, down : down + 32, right : right + 32]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        image = image.float().div_(255).sub_(self.mean).div_(self.std)
        return image, self.targets[index]


@contextmanager
def _as_worker(training: Training) -> Iterator[Callable[[], object]]:
    """Epochs of the laboratory's loop in a process with the start of a worker."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, training))
    with environment_of_workers(1):
        process.start()
    theirs.close()

    def epoch() -> None:
        ours.send(True)
        ours.recv()

    try:
        yield epoch
    finally:
        ours.close()
        process.join()


def _serve(pipe: Connection[Any, Any], training: Training) -> None:
    torch.set_num_threads(1)
    epoch = training.laboratory()
    while True:
        try:
            pipe.recv()
        except EOFError:  # the last epoch was the last
            return
        epoch()
        pipe.send(True)


def _compared(name: str, reference: str, rounds: int) -> dict[str, Any]:
    size = (ON_GPU if device() == "cuda" else ON_CPU)[name]
    training = Training(name, size)
    other = training.bare if reference == "bare" else training.with_dataloader
    with _as_worker(training) as epoch:
        times = ratios(epoch, other(), rounds=rounds, clock=time.perf_counter)
    return {
        "device": device(),
        "samples": size.samples,
        "batch_size": size.batch_size,
        "samples_per_second": size.samples / times["subject_seconds"],
        **times,
    }


def benchmarks() -> Iterator[Benchmark]:
    for name, bound in OF_DATALOADER.items():
        run = partial(_compared, name, "dataloader")
        yield Benchmark("training / DataLoader", name, bound, run)
    for name, bound in OF_BARE_STEPS.items():
        run = partial(_compared, name, "bare")
        yield Benchmark("training / bare steps", name, bound, run)
