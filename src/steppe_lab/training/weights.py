"""Weights that another program saved: read as data, and matched to a network."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from steppe.errors import CheckpointError
from steppe_lab.training.file_kinds import complaint

SHOWN = 3  # names in a sentence
State = dict[str, Tensor]


def read_states(path: Path) -> dict[str, State]:
    """Every state_dict in a file, on the host, by the name of its entry; no code runs.

    A file that is a state_dict as a whole has the entry "".

    Raises:
        CheckpointError: missing, damaged, without any, or a checkpoint of steppe.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}; give one that torch.save wrote."
        )
    content = _of_safetensors(path)
    if content is None:
        content = _of_torch(path)
    entries = {"": content}
    if isinstance(content, Mapping):
        entries |= {str(name): value for name, value in content.items()}
    states = {name: _state(value) for name, value in entries.items()}
    present = {name: state for name, state in states.items() if state}
    if not present:
        raise CheckpointError(
            f"{path} holds no state_dict; save model.state_dict() with torch.save."
        )
    return {"": present[""]} if "" in present else present


def load_into(model: nn.Module, states: Mapping[str, State], path: Path) -> str:
    """Give a network the weights that fit it; the name of their entry in the file.

    Prefixes that all names share, such as those of `DataParallel`, `torch.compile` or a
    Lightning module, are taken off where they do not fit with them.

    Raises:
        CheckpointError: no entry fits the network, or several do.
    """
    own = model.state_dict()
    forms = {name: list(_without_prefixes(state)) for name, state in states.items()}
    fitting = {
        name: form
        for name, several in forms.items()
        for form in several[::-1]
        if not _differences(own, form)
    }
    if len(fitting) > 1:
        raise CheckpointError(
            f"{path} holds several weights that fit this model: "
            f"{', '.join(fitting)}; save those that are meant in a file of their own."
        )
    if not fitting:
        reasons = min(
            (_differences(own, form) for several in forms.values() for form in several),
            key=lambda each: sum(map(len, each.values())),
        )
        said = "; ".join(f"{text} {_few(names)}" for text, names in reasons.items())
        raise CheckpointError(
            f"the weights in {path} are not those of this model: {said}; name the "
            "model, its settings and the data that they were trained with."
        )
    ((entry, state),) = fitting.items()
    model.load_state_dict(state, strict=False)
    return entry


def _of_safetensors(path: Path) -> State | None:
    """Tensors of a safetensors file; None for a file of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError):
        return None
    if "steppe" in metadata:
        # Its recipe says more than two options do, and its checksum is looked at.
        raise CheckpointError(
            f"{path} is a checkpoint of steppe, which says its network and data itself;"
            " leave out --model and --data."
        )
    return tensors


def _of_torch(path: Path) -> Any:
    damaged = CheckpointError(
        f"{path} is a torch file that is damaged or cut off; copy it again."
    )
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    f"{path} is a TorchScript archive; save model.state_dict() of it "
                    "with torch.save."
                )
            try:
                bad = archive.testzip()  # torch looks at no checksum
            except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError):
                raise damaged from None
            if bad is not None:
                raise damaged
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle raises any kind
        raise CheckpointError(complaint(path, "torch cannot read it")) from None


def _state(value: Any) -> State:
    """The tensors of a state_dict; empty for anything else."""
    if not isinstance(value, Mapping) or not all(isinstance(n, str) for n in value):
        return {}
    # A module may keep anything it likes as its extra state.
    state = {n: v for n, v in value.items() if not n.endswith("_extra_state")}
    dense = all(
        isinstance(v, Tensor)
        and v.layout == torch.strided
        and v.device.type == "cpu"
        and not v.is_quantized
        for v in state.values()
    )
    return state if dense else {}


def _without_prefixes(state: State) -> Iterator[State]:
    """A state_dict, and the same without each prefix that all names share."""
    while True:
        yield state
        first = {name.partition(".")[0] for name in state}
        if len(first) != 1 or not all("." in name for name in state):
            return
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}


def _differences(own: State, state: State) -> dict[str, list[str]]:
    """Names and shapes that are not those of a network, by kind of difference."""
    wanted = {n: t for n, t in own.items() if isinstance(t, Tensor)}
    differences = {
        "it lacks": [name for name in wanted if name not in state],
        "it has": [name for name in state if name not in wanted],
        "of another shape are": [
            f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
        "of another kind are": [
            f"{name} {state[name].dtype} for {tensor.dtype}"
            for name, tensor in wanted.items()
            if name in state and _kind(state[name]) != _kind(tensor)
        ],
    }
    return {text: names for text, names in differences.items() if names}


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _few(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
