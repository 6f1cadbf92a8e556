"""Attack runs: a trained network and adversarial changes of its samples.

Each attack that is done is kept beside those of `steppe attack`, so that a run that was
stopped goes on with the next, and neither does what the other has done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from steppe.errors import SettingError
from steppe.registry.registry import Choice
from steppe.seeds import seed_named
from steppe_lab.attacks import ATTACKS
from steppe_lab.attacks.abstract import AbstractAttack
from steppe_lab.attacks.outcome import Examples, Outcome, attacked, wrong_before
from steppe_lab.datasets.abstract import DATASETS
from steppe_lab.datasets.recent import recent_split
from steppe_lab.datasets.split import Split, positions_of
from steppe_lab.progress import Progress, Report, silent
from steppe_lab.runs.abstract import TIMING, run_kind
from steppe_lab.runs.attack_parts import (
    content_of,
    folder_of,
    read_part,
    write_part,
)
from steppe_lab.runs.attack_results import AttackResult
from steppe_lab.runs.attack_settings import ALL, Protocol
from steppe_lab.runs.attacked import Attacked, Bounds, attacked_of
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.training import kept_file, kept_network
from steppe_lab.store.json_files import write_atomically, write_json
from steppe_lab.training.callbacks.keeping import LAST
from steppe_lab.training.readiness import check_same_data
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.settings import SEEDS

ARRAYS = "attack.npz"


class Attacking(BaseModel):
    """Settings of attacks on a trained network.

    Args:
        training: id of the training run.
        at: name of its checkpoint: last, or one that was kept along the training, such
            as best.
        attacks: with their settings.
        epsilons: budgets, ascending; of pixels from 0 to 1, or in units of the inputs
            where their bounds are others.
        samples: at most so many, drawn by the seed of the data.
        part: whose samples are attacked.
        protocol: whose changes have budgets: pixels, or standardised inputs.
        bounds: of inputs, where nothing else says them.
        seed: of random starts and of noise.
        code: digests of the source files of the code of the user that the network is
            made by, by name; no other code is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    training: str
    at: str = Field(default=LAST, pattern="^[a-z0-9-]+$")
    attacks: tuple[Choice, ...]
    epsilons: tuple[float, ...]
    samples: int = Field(default=1000, ge=1)
    part: Literal["train", "test"] = "test"
    protocol: Protocol = "pixels"
    bounds: Bounds | None = None
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    code: dict[str, str] = Field(default_factory=dict)

    @field_validator("attacks", mode="before")
    @classmethod
    def _choices(cls, value: Any) -> Any:
        return tuple(read_attack(item) for item in value)

    @model_validator(mode="after")
    def _ascending(self) -> Attacking:
        if list(self.epsilons) != sorted({*self.epsilons}) or not self.epsilons:
            raise SettingError(
                f"epsilons must ascend, got {list(self.epsilons)}; sort them."
            )
        if not self.attacks or self.epsilons[0] < 0:
            raise SettingError("attacks need a name and budgets >= 0; give both.")
        return self

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without bounds that nobody gave, and the checkpoint that a run ends with."""
        record: dict[str, Any] = handler(self)
        if self.bounds is None:
            del record["bounds"]
        if self.at == LAST:
            del record["at"]
        return record


@dataclass(frozen=True)
class Attacks:
    """The result of attacks, with a few changed samples of each."""

    result: AttackResult
    examples: dict[str, Examples]  # by key of the attack


def read_attack(value: Any) -> Choice:
    """An attack by text or record, its settings checked and completed."""
    if isinstance(value, str):
        choice = ATTACKS.parse(value)
    elif isinstance(value, Choice):
        choice = value
    else:
        choice = ATTACKS.choose(value["name"], value["settings"])
    _built(choice)  # a bad setting shows before any work
    return choice


def chosen_attacks(texts: Sequence[str]) -> tuple[Choice, ...]:
    """Attacks by text, each completed; "all" stands for every one.

    Raises:
        UnknownNameError: no such attack.
        SettingError: a setting unknown or out of its range, or an attack twice.
    """
    named = ATTACKS.names() if list(texts) == [ALL] else texts
    choices = tuple(read_attack(text) for text in named)
    keys = keys_of(choices)
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise SettingError(f"name every attack once, got {twice[0]} again.")
    return choices


@run_kind("attack", Attacking)
def attack(attacking: Attacking, folder: Path, report: Report) -> dict[str, Any]:
    """Attack a trained network; attacks that are done are not done again."""
    began = time.monotonic()
    checkpoint = kept_network(folder, attacking.training, attacking.at, attacking.code)
    file = kept_file(folder, attacking.training, attacking.at)
    recipe = checkpoint.recipe
    split = recent_split(recipe)
    check_same_data(split.fingerprint, [checkpoint.data], data=recipe.data.name)
    note_start(folder, recipe.device)
    target = attacked_by(attacking, checkpoint.model, recipe, split)
    done = attack_all(
        target,
        attacking.attacks,
        attacking.epsilons,
        seed=attacking.seed,
        keep=folder.parent.parent,  # the store
        content=content_of(file, split.fingerprint),
        part=attacking.part,
        report=report,
    )
    write_atomically(folder / ARRAYS, done.result.to_npz())
    write_json(folder / TIMING, {"seconds": time.monotonic() - began})
    return done.result.to_dict()


def attacked_by(
    attacking: Attacking, model: torch.nn.Module, recipe: Recipe, split: Split
) -> Attacked:
    """A network as a run attacks it.

    Args:
        attacking: settings of the run.
        model: trained or not.
        recipe: of the network.
        split: its samples.

    Raises:
        SettingError: data that cannot be attacked, bounds that are not known, or a
            budget that no change can have.
        DataError: inputs beyond the bounds.
    """
    target = attacked_in(
        model,
        recipe,
        judged_on_test(recipe, split),
        part=attacking.part,
        samples=attacking.samples,
        protocol=attacking.protocol,
        bounds=attacking.bounds,
    )
    check_budgets(target, attacking.attacks, attacking.epsilons)
    return target


def check_budgets(
    target: Attacked, attacks: Sequence[Choice], epsilons: Sequence[float]
) -> None:
    """Refuse budgets that no change within the bounds can have.

    Raises:
        SettingError: the largest one is said.
    """
    for choice in attacks:
        target.check_budget(max(epsilons), _built(choice).norm, choice.name)


def judged_on_test(recipe: Recipe, split: Split) -> Split:
    """The split with the test set, whatever the network was judged on."""
    if recipe.held_out == "test":
        return split
    return recent_split(recipe.model_copy(update={"held_out": "test"}))


def attacked_in(
    model: torch.nn.Module,
    recipe: Recipe,
    split: Split,
    *,
    part: Literal["train", "test"],
    samples: int,
    protocol: Protocol,
    bounds: Bounds | None,
) -> Attacked:
    """A network on some samples of a part of its data.

    Raises:
        SettingError: data that cannot be attacked, or bounds that are not known.
        DataError: inputs beyond the bounds.
    """
    pool = split.train if part == "train" else split.test
    name = recipe.data.name
    return attacked_of(
        model,
        split.some(part, samples, seed=recipe.data_seed),
        positions_of(part, len(pool), samples, seed=recipe.data_seed),
        name=name,
        task=split.task,
        known=DATASETS[name].spec.inputs_between,
        given=bounds,
        protocol=protocol,
    )


def attack_all(
    target: Attacked,
    attacks: Sequence[Choice],
    epsilons: Sequence[float],
    *,
    seed: int,
    keep: Path,
    content: str,
    part: str,
    report: Report = silent,
) -> Attacks:
    """Attack a network in several ways.

    Args:
        target: the network and its samples.
        attacks: with all of their settings.
        epsilons: budgets, ascending.
        seed: of random numbers.
        keep: folder below which each attack that is done is written, and read again.
        content: digest of the network and its data.
        part: of the data, that the samples are of.
        report: called with the progress.

    Raises:
        SettingError: a budget that no change can have.
        UsageError: a network without gradients, or one that writes to its parameters.
        StoreError: a file cannot be written.
    """
    built = [_built(choice) for choice in attacks]
    check_budgets(target, attacks, epsilons)
    folder = folder_of(keep, content, target, part=part, epsilons=epsilons, seed=seed)
    outcomes: list[Outcome] = []
    with target.attackable():
        report(Progress(0, len(attacks), "scoring samples as they are"))
        wrong = wrong_before(target.victim, target.rows, len(target.samples))
        for number, (each, choice) in enumerate(zip(built, attacks, strict=True)):
            outcome = read_part(folder, choice, (len(epsilons), len(wrong)))
            if outcome is None:
                outcome = attacked(
                    each,
                    target.victim,
                    target.rows,
                    wrong=wrong,
                    epsilons=epsilons,
                    seed=seed_named(f"{seed} {choice.name}"),
                    report=_within(
                        report, number, len(attacks), len(wrong), choice.name
                    ),
                )
                write_part(folder, choice, outcome)
            outcomes.append(outcome)
    keys = keys_of(attacks)
    result = AttackResult(
        keys=keys,
        texts=tuple(map(str, attacks)),
        norms=tuple(each.norm for each in built),
        epsilons=tuple(epsilons),
        clean_wrong=wrong.numpy(),
        success=torch.stack([each.success for each in outcomes]).numpy(),
        smallest=torch.stack([each.norms for each in outcomes]).numpy(),
        labels=target.samples.targets.cpu().numpy(),
        positions=target.positions.numpy(),
        about={
            "part": part,
            "protocol": target.units,
            "bounds": list(target.bounds),
            "seed": seed,
        },
        notes=target.notes,
    )
    return Attacks(result, {k: o.examples for k, o in zip(keys, outcomes, strict=True)})


def keys_of(attacks: Sequence[Choice]) -> tuple[str, ...]:
    """Keys of attacks in the result: their names, or texts where two share a name."""
    names = [choice.name for choice in attacks]
    return tuple(c.name if names.count(c.name) == 1 else str(c) for c in attacks)


def _built(choice: Choice) -> AbstractAttack:
    made: AbstractAttack = ATTACKS.build(choice)
    return made


def _within(report: Report, number: int, count: int, samples: int, name: str) -> Any:
    """Progress of one attack as that of all."""

    def tell(done: int, of: int) -> None:
        part = number + done / of
        total = count * samples
        report(Progress(part * samples, total, f"attacking with {name}"))

    return tell
