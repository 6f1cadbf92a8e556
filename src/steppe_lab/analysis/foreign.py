"""Weights that another program saved, with the network, data and loss of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from steppe.integrations.outputs import give_scores
from steppe.losses import BatchLoss
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe.torch_internals import tree_leaves
from steppe_lab.analysis.own import objective_of
from steppe_lab.datasets import Dataset, Split
from steppe_lab.datasets.loading import folder_of_data, load_any
from steppe_lab.datasets.own import OwnData
from steppe_lab.datasets.seeding import seeded
from steppe_lab.models.carrying import AbstractCarrying
from steppe_lab.runs.analysis import objective_on
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.tasks.loss_option import OwnLoss, read_loss
from steppe_lab.training.build import build_model
from steppe_lab.training.readiness import check_outputs
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.rows import rows_within
from steppe_lab.training.weights import check_finite_weights, load_into, read_states

Part = Literal["train", "test"]
MANY = 10_000  # samples that classes are counted on


@dataclass(frozen=True)
class Belongs:
    """The network, the data and the loss that weights of another program belong to."""

    model: str  # name with settings, as "gcn:hidden=128"
    data: str
    loss: str | None = None  # None for that of the data
    weights: str | None = None  # entry of a file that holds several

    def options(self) -> list[str]:
        """Words of a command that name them."""
        named = {name: value for name, value in asdict(self).items() if value}
        return [word for name in named for word in (f"--{name}", named[name])]


@dataclass(frozen=True)
class Foreign:
    """A network with its weights, and its data."""

    model: nn.Module
    recipe: Recipe  # model, data and device; how it was trained is not known
    data: Split | OwnData
    loss: str | BatchLoss | None

    def objective(self, part: Part, samples: int, mode: Mode = "eval") -> Objective:
        """Mean loss on at most so many samples of a part.

        Raises:
            DataError: there is no such part, or its batches do not fit the loss.
        """
        seed = self.recipe.data_seed
        if isinstance(self.data, Split) and self.loss is None:
            return objective_on(
                self.model, self.data, part=part, samples=samples, seed=seed, mode=mode
            )
        if isinstance(self.data, Split):
            chosen = self.data.some(part, samples, seed=seed)
            task: AbstractTask = TASKS.build(self.data.task)
            batches = chosen.batches(rows_within(chosen, task))
        else:
            with seeded(0):  # loaders may shuffle
                batches = self.data.batches(part, samples, seed=seed)
        return objective_of(self.model, batches, self.loss, mode=mode)

    def outputs(self, objective: Objective) -> int:
        """Outputs for a sample; 0 where they are not known."""
        if isinstance(self.data, Split):
            return self.data.outputs
        if objective.likelihood is None:
            return 0
        with objective.measuring(), torch.no_grad():
            return int(objective.model(objective.batch(0)[0]).shape[-1])

    def fingerprint(self, objective: Objective) -> str:
        """Digest of the samples; of own data, of those that are measured on."""
        if isinstance(self.data, Split):
            return self.data.fingerprint
        return objective.digest


def open_foreign(path: Path, belongs: Belongs, device: str | None) -> Foreign:
    """Read weights into the network that they belong to; no code of the file runs.

    Raises:
        CheckpointError: a file that is missing, damaged or of another network.
        DataError: data that are missing or damaged.
        SettingError: code that makes no network or is no loss.
    """
    states = read_states(path)
    loss = read_loss(belongs.loss)
    named = {"device": device} if device else {}
    # The base of a file of another program is not known, and nothing is trained.
    recipe = Recipe(data=belongs.data, model=belongs.model, base="sgd", **named)
    data = _data(recipe)
    in_shape, outputs = sizes(data)
    model = build_model(recipe, in_shape, outputs)
    load_into(model, states, path, belongs.weights)
    check_finite_weights(model, path)
    # A loss of the user may read all that the network gives, and a text its state.
    if not isinstance(loss, OwnLoss) and not isinstance(model, AbstractCarrying):
        give_scores(model)
    if isinstance(data, Split) and loss is None:
        check_outputs(recipe, model, data)
    return Foreign(model, recipe, data, loss)


def sizes(data: Split | OwnData) -> tuple[tuple[int, ...], int]:
    """Shape of an input and number of outputs, for functions that build by them.

    Those of own data are read off the first batch: the first tensor, and one output for
    each class up to the largest, or for each value of a target.
    """
    if isinstance(data, Split):
        return data.in_shape, data.outputs
    part = next(iter(data.parts))
    with seeded(0):
        batch = data.batches(part, MANY)
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    first, last = tensors[0], tensors[-1]
    shape = tuple(first.shape[1:])
    if last.is_floating_point():
        return shape, last[0].numel()
    return shape, 1 + max(int(t.max()) for t in tensors if t.dtype == last.dtype)


def _data(recipe: Recipe) -> Split | OwnData:
    with seeded(0):
        data = load_any(recipe.data, folder_of_data())
    return recipe.selection.apply(data) if isinstance(data, Dataset) else data
