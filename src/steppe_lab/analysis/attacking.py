"""Attacks on the network of one checkpoint, ours or of another program."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.registry.registry import Choice
from steppe_lab.analysis.foreign import Belongs, Foreign, open_foreign
from steppe_lab.analysis.own import objective_of
from steppe_lab.analysis.single import open_checkpoint
from steppe_lab.datasets import Split
from steppe_lab.datasets.own import OwnData
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.seeding import seeded
from steppe_lab.progress import Report, silent
from steppe_lab.runs.attack_parts import content_of
from steppe_lab.runs.attack_settings import AttackSettings
from steppe_lab.runs.attacked import Attacked, attacked_of
from steppe_lab.runs.attacking import (
    Attacks,
    attack_all,
    attacked_in,
    check_budgets,
    chosen_attacks,
    judged_on_test,
)
from steppe_lab.runs.provenance import Origin, origins
from steppe_lab.training.callbacks.keeping import FOLDER as KEPT
from steppe_lab.training.checkpoints import versions
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.rows import ROWS


@dataclass(frozen=True)
class Target:
    """A checkpoint, and its network as attacks see it."""

    path: Path
    digest: str  # SHA-256 of the file, and of all else that results follow from
    recipe: Recipe
    belongs: Belongs | None  # of weights that another program saved
    attacked: Attacked
    attacks: tuple[Choice, ...]
    classes: tuple[str, ...]  # their names; empty where they have none
    notes: tuple[str, ...]  # sentences without full stops

    @property
    def trained_by(self) -> str:
        """The optimizer, as far as it is known."""
        return "another program" if self.belongs else self.recipe.label

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where it was trained, as far as the folder of its run says."""
        inside = self.path.parent.name == KEPT
        return origins([self.path.parent.parent if inside else self.path.parent])


@dataclass(frozen=True)
class AttackedNetwork:
    """The attacks on a checkpoint, with all that a report says of them."""

    target: Target
    settings: AttackSettings
    done: Attacks

    def record(self) -> dict[str, Any]:
        """All numbers but those of single samples, with the network and its data."""
        target = self.target
        return {
            **self.done.result.to_dict(),
            "eps": list(self.settings.eps),
            "checkpoint": {"path": str(target.path), "sha256": target.digest},
            "model": str(target.recipe.model),
            "data": str(target.recipe.data),
            "optimizer": target.trained_by,
            "notes": list(target.notes),
            "versions": versions(),
        }


def open_target(
    checkpoint: Path,
    settings: AttackSettings,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
) -> Target:
    """Read a checkpoint and its data, fit for the settings.

    Raises:
        CheckpointError: a file that is missing, damaged or of another network.
        DataError: data that is missing, damaged or not what was trained on, or inputs
            beyond the bounds.
        SettingError: an attack or a budget that has no meaning, or data that cannot be
            attacked.
    """
    attacks = chosen_attacks(settings.attacks)
    if belongs is None:
        loaded, split = open_checkpoint(checkpoint, device=device, trust=trust)
        recipe, fingerprint = loaded.recipe, split.fingerprint
        classes = split.classes
        made = _in_split(loaded.model, recipe, judged_on_test(recipe, split), settings)
    else:
        foreign = open_foreign(checkpoint, belongs, device)
        recipe = foreign.recipe
        made, fingerprint = _of_foreign(foreign, settings)
        classes = foreign.data.classes if isinstance(foreign.data, Split) else ()
    check_budgets(made, attacks, settings.epsilons)
    said = [each for each in astuple(belongs) if each] if belongs else []
    return Target(
        checkpoint,
        content_of(checkpoint, fingerprint, said),
        recipe,
        belongs,
        made,
        attacks,
        classes,
        (*recipe.selection.noise_notes, *made.notes),
    )


def attack_target(
    target: Target, settings: AttackSettings, keep: Path, report: Report = silent
) -> AttackedNetwork:
    """Attack a network; attacks that a stopped command has done are not done again.

    Args:
        target: from `open_target`.
        settings: the same as there.
        keep: a store, or another folder, that results are kept in.
        report: called with the progress.

    Raises:
        UsageError: a network without gradients, or one that writes to its parameters.
        StoreError: a file cannot be written.
    """
    done = attack_all(
        target.attacked,
        target.attacks,
        settings.epsilons,
        seed=settings.seed,
        keep=keep,
        content=target.digest,
        part=settings.part,
        report=report,
    )
    return AttackedNetwork(target, settings, done)


def _in_split(
    model: torch.nn.Module, recipe: Recipe, split: Split, settings: AttackSettings
) -> Attacked:
    return attacked_in(
        model,
        recipe,
        split,
        part=settings.part,
        samples=settings.samples,
        protocol=settings.protocol,
        bounds=settings.bounds,
    )


def _of_foreign(foreign: Foreign, settings: AttackSettings) -> tuple[Attacked, str]:
    """The network of another program, and a digest of its samples."""
    if isinstance(foreign.data, Split):
        made = _in_split(foreign.model, foreign.recipe, foreign.data, settings)
        return made, foreign.data.fingerprint
    samples = _own_samples(foreign.data, settings, foreign.recipe.data_seed)
    total = hashlib.sha256()
    for each in (samples.stored, samples.targets):
        total.update(each.contiguous().numpy().data)
    made = attacked_of(
        foreign.model,
        samples,
        torch.arange(len(samples)),
        name=foreign.data.name,
        given=settings.bounds,
        protocol=settings.protocol,
    )
    # Shapes that do not fit, and classes without an output, show before any work.
    objective_of(foreign.model, samples.batches(ROWS), "cross_entropy").value()
    return made, total.hexdigest()


def _own_samples(data: OwnData, settings: AttackSettings, seed: int) -> TensorSamples:
    """Samples of the user's own, from batches (inputs, classes).

    Raises:
        DataError: batches of another form, or samples without a class.
    """
    with seeded(0):  # loaders may shuffle
        batches = data.batches(settings.part, settings.samples, seed=seed)
    pairs = [tuple(each) for each in batches if isinstance(each, tuple | list)]
    whole = len(pairs) == len(batches) and all(map(_is_pair, pairs))
    if not whole or len({pair[0].shape[1:] for pair in pairs}) > 1:
        raise DataError(
            f"attacks need batches (inputs, classes) of tensors of one shape, which "
            f"{data.name} does not give; let it give inputs of shape (N, ...) and "
            "whole numbers of shape (N,)."
        )
    inputs, labels = (torch.cat(each)[: settings.samples] for each in zip(*pairs))
    if int(labels.min()) < 0:  # a loss may ignore them, an attack cannot
        raise DataError(
            f"classes of {data.name} must be numbered from 0, got {int(labels.min())}; "
            "leave samples without a class out."
        )
    return TensorSamples(inputs.detach().cpu(), labels.long().cpu())


def _is_pair(batch: Sequence[Any]) -> bool:
    """Whether a batch is inputs and one class for each of them."""
    if len(batch) != 2 or not all(isinstance(each, Tensor) for each in batch):
        return False
    inputs, labels = batch
    plain = labels.dim() == 1 and not labels.is_floating_point()
    return plain and inputs.dim() > 1 and len(inputs) == len(labels)
