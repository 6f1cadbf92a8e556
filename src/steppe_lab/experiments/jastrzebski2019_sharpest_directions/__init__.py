"""Sharpest directions of the loss along training, and steps along them.

Source: Jastrzebski et al., 2019, On the relation between the sharpest directions of DNN
loss and the SGD step length, ICLR, arXiv:1807.05031, and the code of its authors
(kudkudak/dnn_sharpest_directions, in Keras). Recipes are those of the scripts in
`experiments`, which differ from the commands in its README.
"""

from __future__ import annotations

from steppe_lab.experiments.jastrzebski2019_sharpest_directions.eigenvalues import (
    EIGENVALUES,
    EIGENVALUES_FALL,
    NOISE_GRID,
    NOISE_GRID_ORDER,
    ZOOM,
)
from steppe_lab.experiments.jastrzebski2019_sharpest_directions.escaping import (
    ESCAPING,
)
from steppe_lab.experiments.jastrzebski2019_sharpest_directions.nsgd import (
    FASHION_MNIST,
    NSGD,
    NSGD_BETTER,
    NSGD_DISTANCE,
    NSGD_FASTER,
    NSGD_FROBENIUS,
    NSGD_LOSS,
    NSGD_SHARPER,
    NSGD_SHARPNESS,
    NSGD_VALIDATION,
    README,
)
from steppe_lab.experiments.jastrzebski2019_sharpest_directions.recipes import NAME
from steppe_lab.reproduction.experiment import Experiment

EXPERIMENT = Experiment(
    name=NAME,
    title="On the relation between the sharpest directions of DNN loss and the SGD "
    "step length",
    source="Jastrzebski et al., 2019, ICLR, arXiv:1807.05031",
    claims=(
        NSGD,
        NSGD_SHARPNESS,
        NSGD_FROBENIUS,
        NSGD_VALIDATION,
        NSGD_LOSS,
        NSGD_DISTANCE,
        NSGD_SHARPER,
        NSGD_FASTER,
        NSGD_BETTER,
        README,
        EIGENVALUES,
        EIGENVALUES_FALL,
        NOISE_GRID,
        NOISE_GRID_ORDER,
        ZOOM,
        ESCAPING,
        FASHION_MNIST,
    ),
)
