"""Low-pass filtering SGD: its tables of test errors and its studies of measures.

Source: Bisla, Wang and Choromanska, 2022, Low-pass filtering SGD for recovering flat
optima in the deep learning optimization landscape, AISTATS, arXiv:2201.08025, and the
code and logs of its authors (devansh20la/LPF-SGD).
"""

from __future__ import annotations

from steppe_lab.experiments.bisla2022_lpf_sgd import (
    adversarial,
    studies,
    table3,
    table5,
    table7,
)
from steppe_lab.reproduction.experiment import Experiment

EXPERIMENT = Experiment(
    name="bisla2022_lpf_sgd",
    title=(
        "Low-pass filtering SGD for recovering flat optima in the deep learning "
        "optimization landscape"
    ),
    source="Bisla, Wang and Choromanska, 2022, AISTATS, arXiv:2201.08025",
    claims=(
        table3.CLAIM,
        table5.CLAIM,
        table7.CLAIM,
        adversarial.CLAIM,
        *studies.CLAIMS,
    ),
    notes=(
        "Numbers are those of the logs and notebooks that the authors published, where "
        "there are any.",
    ),
)
