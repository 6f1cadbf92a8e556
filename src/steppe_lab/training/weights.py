"""Weights that another program saved: read as data, and matched to a network."""

from __future__ import annotations

import argparse
import collections
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from steppe.errors import CheckpointError
from steppe_lab.training.file_kinds import complaint

SHOWN = 3  # names in a sentence
EXTRA, SHAPES = "it has", "of another shape are"
# Plain data that trainers keep beside weights; none of it runs code when it is read.
_SCALAR: Any = np.float64(0).__reduce__()[0]
PLAIN: tuple[Any, ...] = (
    argparse.Namespace,
    collections.defaultdict,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # of numpy 1
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u8", "?")),
)
State = dict[str, Tensor]


def read_states(path: Path) -> dict[str, State]:
    """Every state_dict in a file, on the host, by the name of its entry; no code runs.

    Raises:
        CheckpointError: missing, damaged, without any, or a checkpoint of steppe.
    """
    return states_of(read_content(path), path)


def read_content(path: Path) -> Any:
    """Everything in a file of another program, on the host; no code runs.

    Raises:
        CheckpointError: missing, damaged, or a checkpoint of steppe.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}; give one that torch.save wrote."
        )
    content = _of_safetensors(path)
    return _of_torch(path) if content is None else content


def states_of(content: Any, path: Path) -> dict[str, State]:
    """Every state_dict in the content of a file, by the name of its entry.

    A file that is a state_dict as a whole has the entry "".

    Raises:
        CheckpointError: there is none.
    """
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


def load_into(
    model: nn.Module,
    states: Mapping[str, State],
    path: Path,
    entry: str | None = None,
) -> str:
    """Give a network the weights that fit it; the name of their entry in the file.

    Prefixes, such as those of `DataParallel`, `torch.compile` or a Lightning module,
    are taken off where the names do not fit with them; what stands beside the weights
    under other prefixes, such as the metrics of such a module, is left.

    Args:
        model: gets the weights.
        states: from `read_states`.
        path: of the file, for messages.
        entry: to read where several fit, such as "model_ema"; None for the only one.

    Raises:
        CheckpointError: no entry fits the network, or several do.
    """
    own = model.state_dict()
    fitting: dict[str, State] = {}
    differing: list[dict[str, list[str]]] = []
    for name, state in states.items():
        for depth in _without_prefixes(name, state):
            apart = {label: _differences(own, form) for label, form in depth.items()}
            differing += apart.values()
            here = {label: depth[label] for label, each in apart.items() if not each}
            fitting |= here
            if here:  # deeper names are parts of these
                break
    if entry is not None:
        fitting = {name: fitting[name] for name in fitting if name == entry}
        differing = [] if not fitting and entry not in states else differing
    if len(fitting) > 1:
        first = next(iter(fitting))
        raise CheckpointError(
            f"{path} holds several weights that fit this model: "
            f"{', '.join(fitting)}; say which, as --weights {first}."
        )
    if not fitting:
        raise CheckpointError(_why_none(path, states, differing, entry))
    ((label, state),) = fitting.items()
    model.load_state_dict(state, strict=False)
    return label


def check_finite_weights(model: nn.Module, path: Path) -> None:
    """Refuse a network with parameters that are NaN or infinite.

    Args:
        model: with the weights of the file.
        path: of the file, for messages.

    Raises:
        CheckpointError: names the first such parameter.
    """
    for name, parameter in model.named_parameters():
        wrong = int((~parameter.detach().isfinite()).sum())
        if wrong:
            raise CheckpointError(
                f"weights must be finite, got {wrong} of {parameter.numel()} NaN or "
                f"infinite in {name} of {path}; use a checkpoint from before the "
                "training diverged, or train again with a lower learning rate."
            )


def _why_none(
    path: Path,
    states: Mapping[str, State],
    differing: list[dict[str, list[str]]],
    entry: str | None,
) -> str:
    if not differing:
        return (
            f"{path} holds no weights '{entry}'; there is {', '.join(states)}: name "
            "one of them with --weights."
        )
    # The form with the most of the network; the first of them has all its prefixes.
    reasons = min(differing, key=_missing)
    said = "; ".join(f"{text} {_few(names)}" for text, names in reasons.items())
    if set(reasons) == {SHAPES}:
        fix = "let --model build it with the sizes that it was trained with"
    else:
        fix = "let --model build the network that was saved, with its settings"
    return f"the weights in {path} are not those of this model: {said}; {fix}."


def _missing(differences: Mapping[str, list[str]]) -> int:
    """Tensors of the network that a form does not have, or not as they are."""
    return sum(len(names) for text, names in differences.items() if text != EXTRA)


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
        with torch.serialization.safe_globals(list(PLAIN)):
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


def _without_prefixes(name: str, state: State) -> Iterator[dict[str, State]]:
    """A state_dict, then the groups of names with one first prefix, and so on.

    The keys are the name of the entry and the prefixes; a prefix that all names of an
    entry share is left out of them, as it tells nothing apart.
    """
    depth = {name: state}
    while depth:
        yield depth
        deeper: dict[str, State] = {}
        for label, each in depth.items():
            groups: dict[str, State] = {}
            for key, tensor in each.items():
                first, dot, rest = key.partition(".")
                if dot:
                    groups.setdefault(first, {})[rest] = tensor
            alone = len(groups) == 1
            for first, group in groups.items():
                joined = label if alone else f"{label}.{first}".removeprefix(".")
                deeper[joined] = group
        depth = deeper


def _differences(own: State, state: State) -> dict[str, list[str]]:
    """Names and shapes that are not those of a network, by kind of difference."""
    wanted = {n: t for n, t in own.items() if isinstance(t, Tensor)}
    differences = {
        "it lacks": [name for name in wanted if name not in state],
        EXTRA: [name for name in state if name not in wanted],
        SHAPES: [
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
