"""Steps along the sharpest direction, without it, or with another rate there.

One training is gone on from; before every step the sharpest direction is found again.
"""

from __future__ import annotations

from typing import Any

from steppe_lab.experiments.jastrzebski2019_sharpest_directions.recipes import (
    CAVEATS,
    IMAGES,
    NAME,
    NETWORKS,
    above,
    followed,
    plain,
)
from steppe_lab.reproduction.continued import ContinuedClaim
from steppe_lab.reproduction.published import Cell, Published, Quantity, Scale
from steppe_lab.reproduction.tracked import change, peak
from steppe_lab.reproduction.trained import TrainedClaim

RATE = 0.005
FACTORS = (4.0, 2.0, 0.5, 0.25)  # of the rate along the direction, or across it
TINY = 1e-6  # of the rate across, where steps go along the direction alone
MODELS = NETWORKS["root"]
SAMPLES = 2250
CHANGE = Quantity(
    name="change", title="largest eigenvalue at the end over that of the start"
)
FLAT_OUT = above(1.0, "a reduced rate there leads to sharper networks")


def along(gamma: float, lr: float = RATE) -> dict[str, Any]:
    """Steps whose part along the sharpest direction is scaled."""
    return {"base": plain(lr), "optimizer": f"nsgd:gamma={gamma:g},k=1"}


def cell(name: str, settings: dict[str, Any], published: Published | None) -> Cell:
    """A way to go on."""
    return Cell(name=name, settings=settings, published=published)


START = TrainedClaim(
    experiment=NAME,
    name="escaping_start",
    title="The training that is gone on from",
    source="experiments/general/escaping_ablation.sh",
    quantity=Quantity(name="peak", title="peak of the largest eigenvalue"),
    tolerance=0.0,
    reproduced="There is no number to reproduce.",
    base={**IMAGES, "base": plain(RATE), "model": MODELS["full"]},
    sizes={
        "full": Scale(settings={"epochs": 395}),
        "laptop": Scale(
            settings={"model": MODELS["laptop"], "train_samples": 2000, "epochs": 60}
        ),
        "smoke": Scale(
            settings={
                "model": MODELS["smoke"],
                "train_samples": 64,
                "batch_size": 32,
                "epochs": 1,
            }
        ),
    },
    read=peak,
    cells=(Cell(name="start"),),
)
TRAININGS = TrainedClaim(
    experiment=NAME,
    name="escaping",
    title="The largest eigenvalue after steps along or without the sharpest direction",
    source="experiments/general/escaping_ablation.sh and "
    "escaping_ablation_lr_topbottom.sh; the sign: abstract",
    quantity=CHANGE,
    tolerance=0.0,
    reproduced="The 95 % interval over seeds lies above 1.",
    base={**START.base, "track": followed(SAMPLES, every="1step"), "steps": 1000},
    sizes={
        "full": Scale(seeds=3),
        "laptop": Scale(
            settings={
                "model": MODELS["laptop"],
                "train_samples": 2000,
                "steps": 100,
                "track": followed(256, every="1step"),
            },
            seeds=3,
        ),
        "smoke": Scale(
            settings={
                "model": MODELS["smoke"],
                "train_samples": 64,
                "batch_size": 32,
                "steps": 4,
                "track": followed(32, every="1step"),
            },
            cells=("normal", "top", "top_scaled/0.5"),
        ),
    },
    read=change,
    cells=(
        cell("normal", {}, None),
        cell("top", along(1 / TINY, RATE * TINY), None),
        cell("no_top", along(0.0), FLAT_OUT),
        *(
            cell(f"top_scaled/{f:g}", along(f), FLAT_OUT if f < 1 else None)
            for f in FACTORS
        ),
        *(cell(f"bottom_scaled/{f:g}", along(1 / f, RATE * f), None) for f in FACTORS),
    ),
)
ESCAPING = ContinuedClaim(
    name=TRAININGS.name,
    title=TRAININGS.title,
    source=TRAININGS.source,
    quantity=CHANGE,
    tolerance=0.0,
    reproduced=TRAININGS.reproduced,
    start=START,
    trainings=TRAININGS,
    cells=TRAININGS.cells,
    caveats=(
        *CAVEATS,
        "The figures are published, their numbers are not; signs are those of the "
        "abstract, for other trainings.",
        "Steps along the direction alone have a millionth of the rate, and a gamma of "
        "a million.",
        "A rate that is scaled across the direction is a scaled rate and a gamma that "
        "takes it back along it, which is the same step.",
        "The ablation along the direction of the start is left out.",
    ),
)
