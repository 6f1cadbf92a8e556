"""One checkpoint: its network on samples of its data."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from steppe.errors import SettingError
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe_lab.analysis.foreign import Belongs, open_foreign
from steppe_lab.datasets import Split
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.analysis import objective_on
from steppe_lab.runs.provenance import Origin, origins
from steppe_lab.training import checkpoints
from steppe_lab.training.callbacks.keeping import FOLDER as KEPT
from steppe_lab.training.readiness import check_same_data
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.trained_loss import (
    LossKind,
    TrainedLoss,
    trains_on_another,
)
from steppe_lab.training.weights import check_finite_weights


def open_checkpoint(
    path: Path, *, device: str | None, trust: Collection[str]
) -> tuple[checkpoints.Checkpoint, Split]:
    """A network that steppe saved, and the samples it was trained and judged on.

    Raises:
        CheckpointError: a file that is missing, damaged or of another program.
        DataError: data that is missing, damaged or not what was trained on.
    """
    loaded = checkpoints.load(path, device=device, trust=trust)
    check_finite_weights(loaded.model, path)
    split = load_split(loaded.recipe)
    check_same_data(split.fingerprint, [loaded.data], data=loaded.recipe.data.name)
    return loaded, split


def described(objective: Objective) -> str:
    """The loss of an objective and its penalty, in a few words."""
    penalty = f" + {objective.penalty}" if objective.penalty else ""
    return f"{objective.loss_name}{penalty}"


@dataclass(frozen=True)
class Network:
    """A network read from a checkpoint, on samples of the data its recipe names."""

    path: Path
    digest: str  # SHA-256 of the file, and of the names of what it belongs to
    recipe: Recipe
    outputs: int  # numbers that the model gives for a sample
    objective: Objective
    belongs: Belongs | None = None  # of weights that another program saved
    plain: bool = False  # the loss is not the one trained on
    saved: checkpoints.Checkpoint | None = None  # of one that steppe wrote
    test: Objective | None = None  # of the same model, where it was asked for

    @property
    def trained_by(self) -> str:
        """The optimizer, as far as it is known."""
        return "another program" if self.belongs else self.recipe.label

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where it was trained, as far as the folder of its run says."""
        return origins([self.run])

    @property
    def run(self) -> Path:
        """The folder of its run, if it has one."""
        inside = self.path.parent.name == KEPT
        return self.path.parent.parent if inside else self.path.parent

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the loss and on noise in the samples, without full stops."""
        noise = self.recipe.selection.noise_notes
        if self.belongs or not trains_on_another(self.recipe):
            return noise
        kind = "the plain one" if self.plain else "the one trained on"
        return (*noise, f"the loss is {kind}, {described(self.objective)}")


def read_network(
    checkpoint: Path,
    *,
    part: Literal["train", "test"],
    samples: int,
    mode: Mode = "eval",
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    also_test: bool = False,
) -> Network:
    """Read a checkpoint and the data its recipe names.

    Args:
        checkpoint: the file.
        part: whose samples the loss is averaged over.
        samples: at most so many, drawn by the seed of the data.
        mode: of the network when its loss is evaluated.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoint may name.
        belongs: of a file of another program; None for one that steppe wrote.
        loss: that of a checkpoint of steppe: the one trained on, or the plain one.
        also_test: read the test samples too.

    Raises:
        CheckpointError: a file that is missing, damaged or not steppe's.
        DataError: data that is missing, damaged or not what was trained on.
    """
    if belongs is not None:
        return _read_foreign(
            checkpoint, belongs, part, samples, mode, device, also_test=also_test
        )
    loaded, split = open_checkpoint(checkpoint, device=device, trust=trust)
    recipe = loaded.recipe
    on = partial(
        objective_on,
        loaded.model,
        split,
        samples=samples,
        seed=recipe.data_seed,
        mode=mode,
        loss=TrainedLoss.of(recipe, split.task, loss, epochs=loaded.epoch),
    )
    objective = on(part=part)
    content = checkpoint.read_bytes()
    plain = loss == "plain" and trains_on_another(recipe)
    if plain:  # another number than that of the file alone
        content += b"\nplain"
    digest = hashlib.sha256(content).hexdigest()
    return Network(
        checkpoint,
        digest,
        recipe,
        loaded.outputs,
        objective,
        plain=plain,
        saved=loaded,
        test=on(part="test") if also_test else None,
    )


def _read_foreign(
    path: Path,
    belongs: Belongs,
    part: Literal["train", "test"],
    samples: int,
    mode: Mode,
    device: str | None,
    *,
    also_test: bool,
) -> Network:
    foreign = open_foreign(path, belongs, device)
    objective = foreign.objective(part, samples, mode)
    # Such a file does not say what it is measured as.
    said = [each for each in astuple(belongs) if each]
    said.append(foreign.fingerprint(objective))
    content = path.read_bytes() + "".join(f"\n{each}" for each in said).encode()
    digest = hashlib.sha256(content).hexdigest()
    outputs = foreign.outputs(objective)
    test = foreign.objective("test", samples, mode) if also_test else None
    return Network(path, digest, foreign.recipe, outputs, objective, belongs, test=test)


def check_one_loss(a: Network, b: Network) -> None:
    """Refuse networks that are about to be compared in unlike losses.

    Raises:
        SettingError: names both.
    """
    first, second = (described(each.objective) for each in (a, b))
    if first != second:
        raise SettingError(
            f"two checkpoints are compared in one loss, got {first} of {a.path} and "
            f"{second} of {b.path}; give --loss plain."
        )
