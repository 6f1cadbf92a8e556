"""Other weights that measures of a checkpoint need: its start, and a second network."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from steppe_lab.analysis.own import Called
from steppe_lab.analysis.single import Network
from steppe_lab.runs.training import initial_network
from steppe_lab.training.starts import read_start
from steppe_lab.training.weights import load_into


@dataclass(frozen=True)
class Reference:
    """Weights of the structure of a measured network."""

    model: nn.Module
    name: str  # of their file
    digest: str = ""  # of the file; "" where they follow from the checkpoint


def weights_in(path: Path, network: Network) -> Reference:
    """Weights of a file, in a network such as the measured one.

    Args:
        path: a checkpoint of steppe or of another program; no code of it runs.
        network: that is measured.

    Raises:
        CheckpointError: missing, damaged, or of another network.
    """
    model = copy.deepcopy(network.objective.model)
    inner = model.model if isinstance(model, Called) else model
    entry = network.belongs.weights if network.belongs else None
    load_into(inner, read_start(path).states, path, entry)
    return Reference(model, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def start_of(network: Network, given: Path | None) -> Reference | None:
    """The network at the start of its training; None where nobody knows.

    Args:
        network: that is measured.
        given: a file with those weights; None for what the run of the network kept, or
            what its recipe gives.

    Raises:
        CheckpointError: a file that is missing, damaged or of another network.
    """
    if given is not None:
        return weights_in(given, network)
    if network.saved is None:
        return None
    initial = initial_network(network.saved, network.run)
    return initial and Reference(*initial)
