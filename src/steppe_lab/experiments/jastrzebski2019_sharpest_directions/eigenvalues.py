"""The largest eigenvalue along training, from its first batches on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from steppe_lab.experiments.jastrzebski2019_sharpest_directions.recipes import (
    CAVEATS,
    IMAGES,
    NAME,
    above,
    cell,
    followed,
    plain,
)
from steppe_lab.reproduction.paired import PairedClaim
from steppe_lab.reproduction.published import (
    NOT_NEGATIVE,
    Cell,
    Quantity,
    Scale,
)
from steppe_lab.reproduction.tracked import fall, peak, rise
from steppe_lab.reproduction.trained import TrainedClaim

RISES = above(1.0, "1 where it never rises")
FALLS = above(1.0, "1 where it is largest at the end")
FEW: dict[str, Any] = {
    "train_samples": 64,
    "batch_size": 32,
    "epochs": 2,
    "track": followed(32),
}
SOME: dict[str, Any] = {"train_samples": 2000, "epochs": 40, "track": followed(256)}
ZOOMED = 5  # epochs of all 45,000 training images
TRAINING_IMAGES = 45_000
AT_LEAST_1 = (1.0, math.inf)  # a peak over one of the values that it is the peak of
PEAKS = (
    "A peak is never below the values that it is the peak of: the ratio itself is at "
    "least 1, and the verdict tells whether it is so for all seeds alike."
)


def zoomed(size: int, epochs: int = ZOOMED) -> dict[str, Any]:
    """Epochs of a few samples, as many as the code makes of so many whole ones."""
    return {
        "epoch_size": size,
        "epochs": epochs * TRAINING_IMAGES // size + 1,
        "evaluate_every": 50,
    }


EIGENVALUES = TrainedClaim(
    experiment=NAME,
    name="eigenvalues",
    title="The largest eigenvalue rises at first",
    source="abstract, and experiments/general/general_shape.sh",
    quantity=Quantity(
        name="rise",
        title="peak of the eigenvalue over its first value",
        between=AT_LEAST_1,
    ),
    tolerance=0.0,
    reproduced="The 95 % interval over seeds lies above 1.",
    base={**IMAGES, "track": followed(2560, k=10)},
    sizes={
        "full": Scale(seeds=2),
        "laptop": Scale(settings=SOME, cells=("simple_cnn",), seeds=2),
        "smoke": Scale(settings=FEW, cells=("simple_cnn/lr=0.01",)),
    },
    read=rise,
    cells=(
        cell(
            "resnet32/lr=0.1",
            "resnet32",
            {"base": plain(0.1), "l2": 1e-4, "epochs": 400},
            RISES,
        ),
        cell("simple_cnn/lr=0.01", "root", {"base": plain(0.01), "epochs": 300}, RISES),
        cell("simple_cnn/lr=0.1", "root", {"base": plain(0.1), "epochs": 300}, RISES),
    ),
    caveats=(
        *CAVEATS,
        PEAKS,
        "The script trains the small network with a rate of 0.01, and the figure is "
        "drawn from runs with 0.1; both are here.",
    ),
)
EIGENVALUES_FALL = replace(
    EIGENVALUES,
    name="eigenvalues_fall",
    title="The largest eigenvalue falls after its peak, or stays",
    quantity=Quantity(
        name="fall",
        title="peak of the eigenvalue over its last value",
        between=AT_LEAST_1,
    ),
    read=fall,
    cells=tuple(replace(each, published=FALLS) for each in EIGENVALUES.cells),
)

NETWORKS = {"simple_cnn": "root", "resnet32": "resnet32"}
RATES = (0.1, 0.01, 0.001)
SIZES = (8, 32, 128, 1024)
SLOW = 0.05  # rate of the trainings with other batch sizes
NOISE_GRID = TrainedClaim(
    experiment=NAME,
    name="noise_grid",
    title="The peak of the largest eigenvalue over learning rates and batch sizes",
    source="experiments/noise_grid",
    quantity=Quantity(name="peak", title="peak of the largest eigenvalue"),
    tolerance=1.0,
    reproduced="The mean peak differs by at most 1.",
    base={**IMAGES, "track": followed(2250, k=5), "epochs": 200},
    sizes={
        "full": Scale(seeds=2),
        "laptop": Scale(
            settings=SOME,
            cells=(
                *(f"simple_cnn/lr={lr:g}" for lr in RATES),
                "simple_cnn/batch=32",
                "simple_cnn/batch=128",
            ),
            seeds=3,
        ),
        "smoke": Scale(
            settings=FEW,
            cells=("simple_cnn/lr=0.1", "simple_cnn/lr=0.01"),
        ),
    },
    read=peak,
    cells=tuple(
        each
        for word, network in NETWORKS.items()
        for each in (
            *(cell(f"{word}/lr={lr:g}", network, {"base": plain(lr)}) for lr in RATES),
            *(
                cell(
                    f"{word}/batch={size}",
                    network,
                    {"base": plain(SLOW), "batch_size": size},
                )
                for size in SIZES
            ),
        )
    ),
    caveats=(
        *CAVEATS,
        "The figures are published, their numbers are not.",
        "The scripts have batches of 8, 128 and 1,024, the figure 32 in place of 8.",
    ),
)
NOISE_PAIRS = {
    f"{word}/{name}": (f"{word}/{one}", f"{word}/{other}")
    for word in NETWORKS
    for name, one, other in (
        ("lr=0.01_over_0.1", "lr=0.01", "lr=0.1"),
        ("lr=0.001_over_0.01", "lr=0.001", "lr=0.01"),
        ("batch=128_over_32", "batch=128", "batch=32"),
        ("batch=1024_over_128", "batch=1024", "batch=128"),
    )
}
NOISE_GRID_ORDER = PairedClaim(
    name="noise_grid_order",
    title="A smaller rate or a larger batch leads to a higher peak",
    source="abstract, and experiments/noise_grid",
    quantity=Quantity(
        name="peak",
        title="peak of the eigenvalue over the other one",
        between=NOT_NEGATIVE,
    ),
    tolerance=0.0,
    reproduced="The 95 % interval of the ratio over seeds lies above 1.",
    of=NOISE_GRID,
    pairs=NOISE_PAIRS,
    cells=tuple(Cell(name=name, published=above(1.0)) for name in NOISE_PAIRS),
    caveats=NOISE_GRID.caveats,
)
ZOOM = replace(
    EIGENVALUES,
    name="zoom",
    title="The largest eigenvalue rises within the first epochs",
    source="experiments/general and experiments/noise_grid, runs named zoom",
    sizes={
        "full": Scale(seeds=2),
        "laptop": Scale(
            settings={**SOME, "epoch_size": 128, "epochs": 60},
            cells=("simple_cnn/128",),
            seeds=2,
        ),
        "smoke": Scale(
            settings={**FEW, "epoch_size": 32, "epochs": 3},
            cells=("simple_cnn/128", "resnet32/128"),
        ),
    },
    cells=(
        cell("simple_cnn/128", "root", {"base": plain(0.01), **zoomed(128)}, RISES),
        cell(
            "resnet32/128",
            "resnet32",
            {"base": plain(0.1), "l2": 1e-4, **zoomed(128)},
            RISES,
        ),
        *(
            cell(
                f"simple_cnn/512/lr={lr:g}",
                "root",
                {
                    "base": plain(lr),
                    "track": followed(2250, k=5),
                    **zoomed(512, epochs=4),
                },
                RISES,
            )
            for lr in RATES
        ),
        cell(
            "resnet32/2048",
            "resnet32",
            {
                "base": plain(0.01),
                "l2": 1e-4,
                "track": followed(2560, k=5),
                "epoch_size": 2048,
                "epochs": 2000,
            },
            RISES,
        ),
    ),
    caveats=(
        *CAVEATS,
        PEAKS,
        "All training samples are scored every 50 small epochs, in the code 10,000 of "
        "them after each.",
    ),
)
