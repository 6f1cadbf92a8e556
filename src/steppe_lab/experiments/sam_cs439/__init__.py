"""Sharpness-aware minimization in three domains: images, heartbeats and molecules.

Source: the course project on SAM (CS-439, 2023, francpp/sharpness-aware_minimization):
its training scripts, the accuracies of its logs in `outputs`, the networks in `to_plot`
and the eigenvalues in `Eigenvalues`. Recipes are those of the scripts.
"""

from __future__ import annotations

from steppe_lab.experiments.sam_cs439.accuracies import (
    CIFAR10,
    CIFAR10_LAST,
    HEARTBEAT,
    MOLECULES,
    NAME,
)
from steppe_lab.experiments.sam_cs439.spectra import FLATTER, SPECTRA
from steppe_lab.experiments.sam_cs439.stored import (
    STORED_GRAPHS,
    STORED_GRAPHS_LOSS,
    STORED_WIDE_RESNET,
    STORED_WIDE_RESNET_ACCURACY,
)
from steppe_lab.experiments.sam_cs439.surfaces import CENTRES, EDGES
from steppe_lab.reproduction.experiment import Experiment

EXPERIMENT = Experiment(
    name=NAME,
    title="Sharpness-aware minimization, a project of the course CS-439 at EPFL",
    source="Fainello, Pettenon and Venturi, 2023, francpp/sharpness-aware_minimization",
    claims=(
        CIFAR10,
        CIFAR10_LAST,
        HEARTBEAT,
        MOLECULES,
        SPECTRA,
        FLATTER,
        CENTRES,
        EDGES,
        STORED_GRAPHS,
        STORED_GRAPHS_LOSS,
        STORED_WIDE_RESNET,
        STORED_WIDE_RESNET_ACCURACY,
    ),
)
