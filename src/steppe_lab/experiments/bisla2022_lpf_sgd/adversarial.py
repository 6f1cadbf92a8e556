"""Attacks on the networks of Table 5.

Source: the README of devansh20la/LPF-SGD and its program, which attacks with six
methods of Foolbox and a budget of 8/255.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from steppe_lab.experiments.bisla2022_lpf_sgd import table5
from steppe_lab.reproduction.published import PERCENT, Cell, Quantity, Scale
from steppe_lab.reproduction.trained import TrainedClaim

if TYPE_CHECKING:
    from pydantic import BaseModel

    from steppe_lab.store.store import Store
    from steppe_lab.studies.plan import Trial

ATTACKS = ("fgm", "fgsm", "pgd", "bim", "uniform", "deepfool:norm=inf")
EPSILON = 8 / 255  # of pixels from 0 to 1
SAMPLES = 10_000  # all test images
FOLLOWER = "attack"


def attacks(trial: Trial, /) -> Mapping[str, BaseModel]:
    """The attacks that follow a training."""
    from steppe_lab.runs.attacking import Attacking

    record = Attacking.model_validate(
        {
            "training": trial.run,
            "attacks": ATTACKS,
            "epsilons": (EPSILON,),
            "samples": SAMPLES,
            "code": trial.recipe.code,
        }
    )
    return {FOLLOWER: record}


def robust_error(store: Store, runs: Mapping[str, str]) -> float:
    """Share of the test images that at least one attack has classified wrongly."""
    (resist,) = store.result(runs[FOLLOWER])["worst"]["robust_accuracy"]
    return 1.0 - float(resist)


CLAIM = TrainedClaim(
    experiment="bisla2022_lpf_sgd",
    name="adversarial",
    title="networks of LPF-SGD resist more adversarial changes than those of SGD",
    source="README, Adversarial",
    quantity=Quantity(
        name="robust_error",
        title="error under the worst of six attacks",
        units="%",
        factor=100.0,
        between=PERCENT,
    ),
    tolerance=1.0,
    reproduced="The mean error under attack differs by at most 1 point.",
    base={},
    sizes={
        "full": Scale(seeds=5),
        "smoke": Scale(
            settings={**table5.CLAIM.sizes["smoke"].settings, "test_fraction": 0.02},
            cells=("cifar10/wrn16_8/basic",),
        ),
    },
    cells=tuple(
        Cell(name=cell.name, settings=cell.settings, scales=cell.scales)
        for cell in table5.CLAIM.cells
        if "_script" not in cell.name
    ),
    caveats=(
        "No robust error is in the published files: our numbers stand alone. Trainings "
        "are those of table5.",
        "The published program gives the budget of 8/255 and the bounds 0 and 1 to "
        "standardised inputs, so that its budget is not 8/255 of a pixel; here it is. "
        "`steppe attack CHECKPOINT --protocol published` does as the program does.",
        "It attacks the network of the epoch with the smallest test error, here that "
        "of the last epoch is attacked. Its FGM has 8/255 as an L2 budget, which is "
        "small.",
    ),
    further=attacks,
    read=robust_error,
)
