"""Numbers that follow from the networks that the project stored, without training."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from steppe_lab.reproduction.checked import FilesClaim
from steppe_lab.reproduction.published import (
    NOT_NEGATIVE,
    PERCENT,
    Cell,
    Published,
    Quantity,
)
from steppe_lab.reproduction.verdicts import Ours, exactly, sampled

REPOSITORY = "francpp/sharpness-aware_minimization, folder to_plot"
GRAPHS = {"model": "gcn", "data": "tudataset:name=Mutagenicity"}
SMOOTHED = {**GRAPHS, "loss": "smooth_crossentropy"}
IMAGES = {
    "model": "wide_resnet:depth=8,width=2,form=davda54",
    "data": "cifar10:standardise=computed",
}
ADAM = "checkpoints/graphs/model_gcn_ADAM.pt"
SAM = "checkpoints/graphs/model_gcn_SAM_rho0.01.pt"
WIDE = "checkpoints/wide_resnet/model_cifar_SAM_rho0.3.pt"
MOLECULES = "tudataset/Mutagenicity"
PARAMETERS = 303_706
ALL = 10**9  # samples, more than there are


def graphs(folder: Path) -> Mapping[str, Ours]:
    """Test accuracies of the two stored graph networks."""
    files = {"adam": ADAM, "sam/rho=0.01": SAM}
    return {
        name: Ours(value=exactly(_scores(folder / file, GRAPHS)["test_accuracy"]))
        for name, file in files.items()
    }


def smoothed_loss(folder: Path) -> Mapping[str, Ours]:
    """Smoothed loss of one of them on the test graphs."""
    from steppe_lab.analysis.foreign import Belongs, open_foreign

    network = open_foreign(folder / SAM, Belongs(**SMOOTHED), device=None)
    loss = network.objective("test", samples=ALL).value().value
    return {"sam/rho=0.01": Ours(value=exactly(loss))}


def parameters(folder: Path) -> Mapping[str, Ours]:
    """Parameters of the stored wide residual network, read into one of ours."""
    from steppe_lab.analysis.foreign import Belongs, open_foreign

    model = open_foreign(folder / WIDE, Belongs(**IMAGES), device=None).model
    count = sum(p.numel() for p in model.parameters())
    return {"parameters": Ours(value=exactly(float(count)))}


def wide_accuracy(folder: Path) -> Mapping[str, Ours]:
    """Its test accuracy in percent on the test images at hand, with their noise."""
    scores = _scores(folder / WIDE, IMAGES)
    accuracy, stderr = scores["test_accuracy"], scores["test_accuracy_stderr"]
    samples = int(scores["test_samples"])
    return {"sam/rho=0.3": Ours(value=sampled(100 * accuracy, 100 * stderr, samples))}


def _scores(path: Path, belongs: Mapping[str, str]) -> Mapping[str, float]:
    from steppe_lab.analysis.evaluated import evaluate_one
    from steppe_lab.analysis.foreign import Belongs

    return evaluate_one(path, belongs=Belongs(**belongs)).scores


def _command(file: str, belongs: Mapping[str, str]) -> str:
    words = [word for name, value in belongs.items() for word in (f"--{name}", value)]
    return shlex.join(["steppe", "evaluate", file, *words])


STORED_GRAPHS = FilesClaim(
    name="stored_graphs",
    title="Test accuracies of the stored graph networks, to the last digit",
    source="acc in model_gcn_ADAM.pt and model_gcn_SAM_rho0.01.pt",
    quantity=Quantity(name="test_accuracy", title="test accuracy", between=(0.0, 1.0)),
    tolerance=1e-15,
    reproduced="All 15 digits are those of the file.",
    files=(ADAM, SAM, MOLECULES),
    origin=REPOSITORY,
    check=graphs,
    commands={"adam": _command(ADAM, GRAPHS), "sam/rho=0.01": _command(SAM, GRAPHS)},
    cells=(
        Cell(name="adam", published=Published(value=0.804147465437788)),
        Cell(name="sam/rho=0.01", published=Published(value=0.815668202764977)),
    ),
)
STORED_GRAPHS_LOSS = FilesClaim(
    name="stored_graphs_loss",
    title="Smoothed test loss of the stored graph network of SAM",
    source="the last line of outputs/my_train_gcn_SAM_0.01.dat",
    quantity=Quantity(
        name="test_loss", title="smoothed test loss", between=NOT_NEGATIVE
    ),
    tolerance=1e-6,
    reproduced="The loss differs by at most 1e-6; the log is of single precision.",
    files=(SAM, MOLECULES),
    origin=REPOSITORY,
    check=smoothed_loss,
    cells=(Cell(name="sam/rho=0.01", published=Published(value=0.2363639306)),),
)
STORED_WIDE_RESNET = FilesClaim(
    name="stored_wide_resnet",
    title="The stored wide residual network fits ours",
    source="model_cifar_SAM_rho0.3.pt",
    quantity=Quantity(
        name="parameters",
        title="number of trainable parameters",
        between=NOT_NEGATIVE,
    ),
    tolerance=0.0,
    reproduced="The number is the same.",
    files=(WIDE, "cifar10"),
    origin=REPOSITORY,
    check=parameters,
    cells=(Cell(name="parameters", published=Published(value=PARAMETERS)),),
)
STORED_WIDE_RESNET_ACCURACY = FilesClaim(
    name="stored_wide_resnet_accuracy",
    title="Test accuracy of the stored wide residual network",
    source="acc in model_cifar_SAM_rho0.3.pt",
    quantity=Quantity(
        name="test_accuracy", title="test accuracy", units="%", between=PERCENT
    ),
    tolerance=5.0,
    reproduced="The accuracy differs by at most 5 points.",
    files=(WIDE, "cifar10"),
    origin=REPOSITORY,
    check=wide_accuracy,
    commands={"sam/rho=0.3": _command(WIDE, IMAGES)},
    cells=(
        Cell(
            name="sam/rho=0.3",
            published=Published(
                value=78.4, half_width=3.6, note="of 500 test images, drawn by class"
            ),
        ),
    ),
    caveats=(
        "Which 500 test images the project drew is not known; ours are all at hand. "
        "Intervals are those of the samples.",
        "Pixels are standardised by the training images at hand.",
    ),
)
