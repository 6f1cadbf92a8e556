"""Weights that a training starts from, and the state of their optimizer.

They are a file in the store that is named by its SHA-256, which the recipe holds: the
id of a run follows from the contents, and the file that was named may go.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steppe.bases import BASES
from steppe.errors import CheckpointError, StoreError
from steppe.registry.registry import one_line
from steppe.stepping.state_dicts import joined_state
from steppe_lab.store.json_files import exists, read_record, write_record
from steppe_lab.store.store import is_id
from steppe_lab.training import checkpoints
from steppe_lab.training.digests import digest
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.settings import SHA256
from steppe_lab.training.state import is_state, opened
from steppe_lab.training.weights import (
    State,
    check_finite_weights,
    load_into,
    read_content,
    states_of,
)

FOLDER = "starts"  # in a store
ORIGINS = "origins"  # likewise, of notes: the run that a start is of
LEAVE = "leave out --with-optimizer"


@dataclass(frozen=True)
class Start:
    """The contents of a file that a training starts from."""

    path: Path  # for messages
    states: Mapping[str, State]  # weights by the name of their entry
    optimizer: Mapping[str, Any] | None = (
        None  # state of the optimizer, if there is one
    )
    base: str | None = None  # name of the base it is of, where that is known
    method: str | None = None  # name of the method around it, likewise

    def put_into(self, model: nn.Module, recipe: Recipe) -> None:
        """Give a network the weights.

        Raises:
            CheckpointError: no weights in the file fit it, several do, or some are not
                finite.
        """
        load_into(model, self.states, self.path, recipe.weights or None)
        check_finite_weights(model, self.path)

    def resume(self, optimizer: Optimizer, model: nn.Module, recipe: Recipe) -> None:
        """Give an optimizer the state that the base had; its settings stay.

        What the method around the base remembers goes along where it is the same.

        Raises:
            CheckpointError: there is no state, or it does not fit the base.
        """
        saved = self._checked(optimizer, recipe)
        self._check_states(saved["state"], model, recipe)
        own = optimizer.state_dict()
        method = recipe.optimizer.name if recipe.optimizer else None
        # Learning rates and the like are those of this training, not of the file.
        state = {**own, "state": saved["state"]}
        if method == self.method and "steppe" in saved:
            state["steppe"] = saved["steppe"]
        try:
            optimizer.load_state_dict(state)
        except Exception as error:  # torch raises many kinds for what does not fit
            raise CheckpointError(
                f"the state of the optimizer in {self.path} cannot be used "
                f"({one_line(error)}); {LEAVE}."
            ) from error

    def _checked(self, optimizer: Optimizer, recipe: Recipe) -> Mapping[str, Any]:
        saved, name = self.optimizer, recipe.base.name
        if saved is None or not saved["state"]:
            raise CheckpointError(
                f"{self.path} holds no state of an optimizer; {LEAVE}, or give a file "
                "that has one, as --checkpoint-optimizer keeps."
            )
        if self.base not in (None, name):
            raise CheckpointError(
                f"the state of the optimizer in {self.path} is of {self.base}, and "
                f"this training steps with {name}; take {self.base}, or {LEAVE}."
            )
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        theirs = [len(group["params"]) for group in saved["param_groups"]]
        if sizes != theirs:
            raise CheckpointError(
                f"the optimizer in {self.path} has groups of {theirs} parameters, that "
                f"of this training of {sizes}; {LEAVE}."
            )
        return saved

    def _check_states(
        self, states: Mapping[int, Any], model: nn.Module, recipe: Recipe
    ) -> None:
        """Compare names and shapes with those that the base has after a step."""
        for number, expected in _after_a_step(model, recipe).items():
            state = states.get(number)
            if state is None:  # a parameter that had no gradient
                continue
            wrong = [f"'{n}'" for n in sorted(expected.keys() ^ state.keys())]
            wrong += [
                f"'{n}' of shape {tuple(state[n].shape)}"
                for n, tensor in expected.items()
                if isinstance(tensor, Tensor)
                and isinstance(state.get(n), Tensor)
                and tensor.numel() > 1
                and state[n].shape != tensor.shape
            ]
            if wrong:
                raise CheckpointError(
                    f"the state of the optimizer in {self.path} does not fit "
                    f"{recipe.base}: parameter {number} differs in {wrong[0]}; take "
                    f"the optimizer that it is of, or {LEAVE}."
                )


def _after_a_step(model: nn.Module, recipe: Recipe) -> dict[int, dict[str, Any]]:
    """States of the base after a step on copies of parameters, by their number."""
    copies = [nn.Parameter(p.detach().clone()) for p in model.parameters()]
    built = BASES.build(recipe.base, copies)
    bases: list[Optimizer] = built if isinstance(built, list) else [built]
    for each in copies:
        each.grad = torch.zeros_like(each)
    for base in bases:
        base.step()
    states: dict[int, dict[str, Any]] = joined_state(bases)["state"]
    return states


def path_in(store: Path, start: str) -> Path:
    """Where a store has the file that a recipe names by its SHA-256."""
    return store / FOLDER / start.removeprefix(SHA256)


def note_origin(store: Path, start: str, path: Path) -> None:
    """Note which run a start is of; the first that is noted stays.

    Args:
        store: folder of the runs that begin with it.
        start: its name in recipes.
        path: of the file that it is a copy of; of no run, nothing is noted.

    Raises:
        StoreError: the note cannot be written.
    """
    note = _note(store, start)
    folders = [each.name for each in path.resolve().parents]
    pairs = pairwise(folders)
    run = next((run for run, above in pairs if above == "runs" and is_id(run)), "")
    if run and not exists(note):
        write_record(note, {"run": run, "checkpoint": path.name})


def parent_of(store: Path, start: str) -> str:
    """Id of the run that a start is of; "" where it is of none, or there is no start.

    Raises:
        StoreError: the note is damaged.
    """
    note = _note(store, start)
    if not start or not exists(note):
        return ""
    return str(read_record(note).get("run", ""))


def name_of(contents: bytes) -> str:
    """The name of a file in a recipe, which follows from its contents.

    Of the state of a training it follows from all that is gone on from: its bytes tell
    the time too, and differ where a training was resumed.

    Raises:
        CheckpointError: a damaged state.
    """
    if is_state(contents):
        return SHA256 + digest(_gone_on_from(contents))
    return _name_of_bytes(contents)


def stored_start(recipe: Recipe, store: Path, named: str = "") -> Start | None:
    """The weights that a recipe starts from; None for those that its seed gives.

    Args:
        recipe: of a training.
        store: folder of the runs.
        named: the file as the user wrote it, for messages; else that of the store.

    Raises:
        StoreError: the store does not have them, or has changed ones.
        CheckpointError: they are none, or have no optimizer where one is asked for.
    """
    if not recipe.start_from:
        return None
    path = path_in(store, recipe.start_from)
    fix = "name the file itself after --from again"
    if not exists(path):
        raise StoreError(
            f"the weights {recipe.start_from[: len(SHA256) + 8]} to start from are not "
            f"in {store}; {fix}."
        )
    if not is_as_named(path, recipe.start_from):
        raise StoreError(f"{path} is not the file that it was; delete it, and {fix}.")
    return replace(read_start(path), path=Path(named or path))


def is_as_named(path: Path, name: str) -> bool:
    """Whether the file of a store has the contents that recipes name it by.

    Raises:
        OSError: it cannot be read.
    """
    return _is_named(path.read_bytes(), name)


def read_start(path: Path) -> Start:
    """Read weights and, where there is one, the state of their optimizer.

    Args:
        path: a checkpoint of steppe, the state of a training beside one, or a file of
            another program; no code of it runs.

    Raises:
        CheckpointError: missing, damaged, or without weights.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path} to start from; give a checkpoint, or weights "
            "that torch.save wrote."
        )
    with open(path, "rb") as file:
        if is_state(file.read(64)):
            return _of_training(path)
    if checkpoints.is_ours(path):
        return Start(path, {"": checkpoints.read_weights(path)})
    content = read_content(path)
    return Start(path, states_of(content, path), _optimizer_in(content))


def _note(store: Path, start: str) -> Path:
    return store / ORIGINS / f"{start.removeprefix(SHA256)}.json"


def _name_of_bytes(contents: bytes) -> str:
    return SHA256 + hashlib.sha256(contents).hexdigest()


def _is_named(contents: bytes, name: str) -> bool:
    """Whether a file has a name; states of trainings were named by their bytes once."""
    if name == _name_of_bytes(contents):
        return True
    try:
        return name == name_of(contents)
    except CheckpointError:
        return False


def _of_training(path: Path) -> Start:
    try:
        state = _gone_on_from(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} is no whole state of a training ({one_line(error)}); copy it "
            "again."
        ) from error
    weights = {"": state["model"]}
    return Start(path, weights, state["optimizer"], state["base"], state["method"])


def _gone_on_from(contents: bytes) -> dict[str, Any]:
    """Weights, optimizer and names that a training takes from the state of another."""
    try:
        file = io.BytesIO(opened(contents))
        state = torch.load(file, weights_only=True, map_location="cpu")
        recipe, optimizer = json.loads(state["recipe"]), state["optimizer"]
        # Settings of the groups are those of the training that goes on.
        groups = [{"params": each["params"]} for each in optimizer["param_groups"]]
        method = recipe["optimizer"]
        return {
            "model": state["model"],
            "optimizer": {**optimizer, "param_groups": groups},
            "base": recipe["base"]["name"],
            "method": method["name"] if method else None,
        }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(one_line(error)) from error


def _optimizer_in(content: Any) -> Mapping[str, Any] | None:
    """The first entry of a file that is the state of an optimizer; None for none.

    Lightning keeps a list of them.
    """
    entries = list(content.values()) if isinstance(content, Mapping) else []
    entries += [each for entry in entries if isinstance(entry, list) for each in entry]
    for entry in entries:
        if isinstance(entry, Mapping) and {"state", "param_groups"} <= entry.keys():
            return entry
    return None
