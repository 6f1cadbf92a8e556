"""Minimum sharpness of learning algorithms: tables and networks of a course project.

Source: the project of the course CS-439 at EPFL, 2022, IrinaMBejan/OptimizationML: six
optimizers with and without SAM train three convolutional networks on Fashion-MNIST and
CIFAR-10. Its tables of results and two of its networks are read from the data folder;
trainings and their minimum sharpness are those of `studies/built_in` of this name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from steppe_lab.experiments.minimum_sharpness_cs439.networks import (
    DATA,
    NETWORKS,
    accuracy_of,
    check_networks,
    correlations_of,
)
from steppe_lab.experiments.minimum_sharpness_cs439.tables import (
    CODE,
    MODELS,
    TABLES,
    check_correlations,
    check_distributions,
    check_gains,
    check_ranges,
    check_ratios,
    check_wins,
    read_accuracies,
)
from steppe_lab.reproduction.checked import FilesClaim
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import (
    NOT_NEGATIVE,
    PERCENT,
    Cell,
    Published,
    PublishedFile,
    Quantity,
    Scale,
)
from steppe_lab.reproduction.studied import StudyClaim
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.studies.built_in.minimum_sharpness_cs439 import BASES

NAME = "minimum_sharpness_cs439"
OPTIMIZERS = dict(
    zip(("sgd", "phb", "adagrad", "adam", "adashift", "adabound"), BASES, strict=True)
)
WITH_SAM = {"plain": None, "sam": "sam:rho=0.05"}

ACCURACY = Quantity(name="accuracy", title="test accuracy", units="%", between=PERCENT)
CONVERGED = "tables of results, converged networks"


def _cells(
    numbers: Mapping[str, float], runs: Callable[[str], int] = lambda _: 1
) -> tuple[Cell, ...]:
    return tuple(
        Cell(name=name, published=Published(value=value, runs=runs(name)))
        for name, value in numbers.items()
    )


def _networks(name: str) -> int:
    """Networks that a correlation is over: all of a data set, or one half."""
    return 36 if name.endswith("/pooled") else 18


TAUS = {
    "fashion_mnist/pooled": 0.50,
    "fashion_mnist/sam": 0.03,
    "fashion_mnist/plain": 0.18,
    "cifar10/pooled": 0.30,
    "cifar10/sam": 0.43,
    "cifar10/plain": 0.11,
}
TAU = Quantity(
    name="tau", title="Kendall's τ of minimum sharpness and gap", between=(-1.0, 1.0)
)
BOTH = tuple(TABLES.values())

NETWORK_FILES = FilesClaim(
    name="networks",
    title="two stored networks have their recorded accuracies on Fashion-MNIST",
    source="validation_accuracy in the files",
    quantity=ACCURACY,
    tolerance=2.0,
    reproduced="The accuracy on the test images at hand, with its sampling error, is "
    "within 2 points of the one that the file records for all 10,000.",
    cells=_cells({"sgd": 92.09, "sam": 93.13}),
    files=(*NETWORKS.values(),),
    origin=CODE,
    check=check_networks,
    commands={
        name: f"steppe evaluate {file} --model simple_batch:variant=published "
        f"--data {DATA}"
        for name, file in NETWORKS.items()
    },
    caveats=(
        "The project takes the log-softmax over the batch, so that the scores of an "
        "image depend on the 999 others that are scored with it; ours without it is "
        "that of the network's own scores.",
    ),
)
CORRELATIONS = FilesClaim(
    name="correlations",
    title="SAM carries the correlation of sharpness and gap, on Fashion-MNIST at least",
    source=CONVERGED,
    quantity=TAU,
    tolerance=0.006,
    reproduced="τ of the published table is the stated one to two decimals.",
    cells=_cells(TAUS),
    files=BOTH,
    origin=CODE,
    check=check_correlations,
    caveats=("36 networks with one seed each.",),
)
DISTRIBUTIONS = FilesClaim(
    name="distributions",
    title="adaptive optimizers and others do not differ without SAM",
    source="tables of results, all epochs, trained without SAM",
    quantity=Quantity(
        name="p", title="p of the Kolmogorov-Smirnov test", between=(0.0, 1.0)
    ),
    tolerance=0.006,
    reproduced="p of the published tables is the stated one to two decimals.",
    cells=_cells({"accuracy": 0.48, "sharpness": 0.64}),
    files=BOTH,
    origin=CODE,
    check=check_distributions,
    caveats=("Rows of one training at several epochs are not independent.",),
)
WINS = FilesClaim(
    name="wins",
    title="SAM has the larger accuracy for nearly every network and optimizer",
    source=CONVERGED,
    quantity=Quantity(
        name="pairs", title="pairs of 18 that SAM wins", between=(0.0, 18.0)
    ),
    tolerance=0.0,
    reproduced="The number of pairs is the stated one.",
    cells=_cells({"fashion_mnist": 18.0, "cifar10": 17.0}),
    files=BOTH,
    origin=CODE,
    check=check_wins,
)
GAINS = FilesClaim(
    name="gains",
    title="SAM gains one to one and a half points of accuracy",
    source=CONVERGED,
    quantity=Quantity(
        name="gain",
        title="mean gain of accuracy",
        units="points",
        between=(-100.0, 100.0),
    ),
    tolerance=0.006,
    reproduced="The mean gain over 18 pairs is the stated one to two decimals.",
    cells=_cells({"fashion_mnist": 1.01, "cifar10": 1.54}),
    files=BOTH,
    origin=CODE,
    check=check_gains,
)
RATIOS = FilesClaim(
    name="ratios",
    title="minimum sharpness is several times as large without SAM",
    source=CONVERGED,
    quantity=Quantity(
        name="ratio",
        title="median ratio of minimum sharpness",
        between=NOT_NEGATIVE,
    ),
    tolerance=0.06,
    reproduced="The median over 18 pairs is the stated one to one decimal.",
    cells=_cells({"fashion_mnist": 4.8, "cifar10": 3.5}),
    files=BOTH,
    origin=CODE,
    check=check_ratios,
)
RANGES = FilesClaim(
    name="ranges",
    title="larger networks reach the larger accuracies",
    source=CONVERGED,
    quantity=ACCURACY,
    tolerance=0.06,
    reproduced="The accuracy of the published table is the stated one to one decimal.",
    cells=_cells(
        {
            "fashion_mnist/best": 94.60,
            "cifar10/best": 87.07,
            "fashion_mnist/simple_batch/lowest": 91.7,
            "fashion_mnist/simple_batch/highest": 93.4,
            "fashion_mnist/middle_batch/lowest": 92.3,
            "fashion_mnist/middle_batch/highest": 94.3,
            "fashion_mnist/complex_batch/lowest": 92.0,
            "fashion_mnist/complex_batch/highest": 94.6,
            "cifar10/simple_batch/lowest": 74.9,
            "cifar10/simple_batch/highest": 79.7,
            "cifar10/middle_batch/lowest": 80.3,
            "cifar10/middle_batch/highest": 85.9,
            "cifar10/complex_batch/lowest": 79.5,
            "cifar10/complex_batch/highest": 87.1,
        }
    ),
    files=BOTH,
    origin=CODE,
    check=check_ranges,
)
ACCURACIES = TrainedClaim(
    experiment=NAME,
    name="accuracies",
    title="accuracies of six optimizers with and without SAM",
    source=CONVERGED,
    quantity=Quantity(
        name="test_accuracy",
        title="test accuracy at the end of training",
        units="%",
        factor=100.0,
        between=PERCENT,
    ),
    tolerance=1.0,
    reproduced="The mean accuracy differs by at most one point.",
    base={
        "epochs": 200,
        "batch_size": 128,
        "lr_schedule": "constant",
        "stop_at_loss": 0.01,
        "stop_on": "running_perturbed_loss",
    },
    protocol_settings={"model.variant": "published"},
    read=accuracy_of,
    sizes={
        "full": Scale(seeds=3),
        "laptop": Scale(
            settings={
                "model": "simple_batch:hidden=32",
                "train_samples": 2000,
                "test_fraction": 0.2,
                "epochs": 15,
            },
            cells=("fashion_mnist/simple_batch",),
            seeds=3,
        ),
        "smoke": Scale(
            settings={
                "model": "simple_batch:hidden=8",
                "train_samples": 256,
                "test_fraction": 0.05,
                "epochs": 1,
            },
            cells=(
                "fashion_mnist/simple_batch/sgd",
                "fashion_mnist/simple_batch/adashift/plain",
            ),
        ),
    },
    cells=tuple(
        Cell(
            name=f"{data}/{model}/{name}/{sam}",
            settings={
                "data": f"{data}:standardise=unit",
                "model": model,
                "base": base,
                "optimizer": optimizer,
            },
        )
        for data in TABLES
        for model in MODELS.values()
        for name, base in OPTIMIZERS.items()
        for sam, optimizer in WITH_SAM.items()
    ),
    published_in=tuple(
        PublishedFile(path=path, origin=CODE, read=read_accuracies)
        for path in TABLES.values()
    ),
    caveats=(
        "Published numbers are of one seed; they stand in the project's tables, which "
        "are read from the data folder.",
        "PHB has learning rate 0.01 here; some of its published numbers have 0.1.",
    ),
)
TRAINED = StudyClaim(
    name="trained_correlations",
    title="the correlations of the tables, with minimum sharpness as it is defined",
    source=CONVERGED,
    quantity=TAU,
    tolerance=0.1,
    reproduced="τ of the networks of the built-in study differs by at most 0.1.",
    cells=_cells(TAUS, _networks),
    built_in=NAME,
    statistics=correlations_of,
    smaller={"smoke": ("fashion_mnist",), "laptop": ("fashion_mnist",)},
    caveats=(
        "The project leaves the parameters of batch norm out of its sharpness and "
        "does not minimise it to the end.",
    ),
)

EXPERIMENT = Experiment(
    name=NAME,
    title="Minimum sharpness of learning algorithms",
    source="project of the course CS-439, EPFL, 2022, IrinaMBejan/OptimizationML",
    claims=(
        NETWORK_FILES,
        CORRELATIONS,
        DISTRIBUTIONS,
        WINS,
        GAINS,
        RATIOS,
        RANGES,
        ACCURACIES,
        TRAINED,
    ),
)
