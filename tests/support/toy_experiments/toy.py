"""An experiment that trains tiny networks and reads a file of numbers."""

import json

from steppe.errors import DataError
from steppe_lab.reproduction.checked import FilesClaim
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import (
    Cell,
    Published,
    PublishedFile,
    Quantity,
    Scale,
)
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.reproduction.verdicts import Ours, exactly

ERROR = Quantity(name="test_error", title="test error", units="%", factor=100.0)


def check(folder):
    numbers = json.loads((folder / "numbers.json").read_text())
    if not isinstance(numbers, dict):
        raise DataError("numbers.json must hold numbers by name, got a list.")
    return {
        "one": Ours(value=exactly(numbers["one"])),
        "two": Ours(value=exactly(0.0), protocol=exactly(numbers["two"])),
        "three": Ours(value=exactly(numbers["three"])),
        "four": Ours(value=exactly(4.0)),
    }


def read_published(path):
    return {"wide/sgd": Published(value=float(path.read_text()), note="of a file")}


BASE = {
    "data": "digits",
    "train_samples": 40,
    "test_fraction": 0.1,
    "epochs": 1,
    "batch_size": 20,
    "base": "sgd:lr=0.1",
}
SIZES = {
    "full": Scale(seeds=2),
    "smoke": Scale(cells=("narrow",), settings={"train_samples": 20}),
}
TRAINED = TrainedClaim(
    experiment="toy",
    name="errors",
    title="networks make errors",
    source="Table 1",
    quantity=ERROR,
    tolerance=200.0,
    reproduced="The error is at most 200 points away.",
    base=BASE,
    sizes=SIZES,
    cells=(
        Cell(
            name="narrow/sgd",
            published=Published(value=50.0),
            settings={"model": "mlp:hidden=2,depth=1", "optimizer": None},
        ),
        Cell(
            name="narrow/sam",
            published=Published(value=40.0, half_width=3.0, runs=3),
            settings={"model": "mlp:hidden=2,depth=1", "optimizer": "sam:rho=0.1"},
        ),
        Cell(
            name="wide/sgd",
            settings={"model": "mlp:hidden=3,depth=1", "optimizer": None},
        ),
    ),
    published_in=(
        PublishedFile(path="wide.txt", origin="a paper", read=read_published),
    ),
    caveats=("Of no use beyond tests.",),
)
LACKING = TrainedClaim(
    experiment="toy",
    name="lacking",
    title="networks need data",
    source="Table 2",
    quantity=ERROR,
    tolerance=1.0,
    reproduced="The error is at most a point away.",
    base={**BASE, "data": "cifar10", "model": "lenet", "optimizer": None},
    sizes={"full": Scale()},
    cells=(Cell(name="lenet", published=Published(value=1.0)),),
)
READ = FilesClaim(
    name="read",
    title="numbers stand in a file",
    source="numbers.json",
    quantity=Quantity(name="number", title="number"),
    tolerance=0.01,
    reproduced="The number is within 0.01.",
    cells=(
        Cell(name="one", published=Published(value=1.0)),
        Cell(name="two", published=Published(value=2.0)),
        Cell(name="three", published=Published(value=3.0)),
        Cell(name="four"),
    ),
    files=("numbers.json",),
    origin="a paper",
    check=check,
    commands={"one": "steppe evaluate one.pt"},
)
EXPERIMENT = Experiment(
    name="toy",
    title="A toy",
    source="Nobody, 2026",
    claims=(TRAINED, LACKING, READ),
    notes=("Numbers are made up.",),
)
