"""CIFAR-100: 32 x 32 colour images of a hundred things, 50,000 and 10,000 for test.

Source: Krizhevsky, 2009, Learning multiple layers of features from tiny images; the
python version.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import from_numpy

from steppe_lab.datasets.abstract import DATASETS, Dataset, Size, note_on_count
from steppe_lab.datasets.formats.cifar import read_cifar
from steppe_lab.datasets.formats.published import (
    Download,
    Published,
    folder_of,
)
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

FOLDER = "cifar-100-python"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
PUBLISHED = Published(
    name="cifar100",
    title="CIFAR-100",
    url=URL,
    downloads=(Download(URL, 169001437, f"sha256:{SHA256}"),),
    top=FOLDER,
    folders=(f"cifar100/{FOLDER}", FOLDER, "cifar100", "."),
    put_into="cifar100",
    unpack=True,
)
STATISTICS = ChannelStatistics(
    mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)
)
OFFICIAL = {"train": 50_000, "test": 10_000}  # images
FINE = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy "
    "bridge bus butterfly camel can castle caterpillar cattle chair chimpanzee clock "
    "cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish "
    "forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange "
    "orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine "
    "possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm"
)
COARSE = (
    "aquatic_mammals fish flowers food_containers fruit_and_vegetables "
    "household_electrical_devices household_furniture insects large_carnivores "
    "large_man-made_outdoor_things large_natural_outdoor_scenes "
    "large_omnivores_and_herbivores medium_mammals non-insect_invertebrates people "
    "reptiles small_mammals trees vehicles_1 vehicles_2"
)
CLASSES = {"fine": tuple(FINE.split()), "coarse": tuple(COARSE.split())}


@DATASETS.add(
    "cifar100",
    source="Krizhevsky, 2009",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    size=Size(
        train=OFFICIAL["train"],
        test=OFFICIAL["test"],
        in_shape=(3, 32, 32),
        outputs=100,
    ),
    later=("standardise",),
)
def cifar100(
    *,
    data_dir: Path | None = None,
    labels: Literal["fine", "coarse"] = "fine",
    standardise: Standardise = "channel",
) -> Dataset:
    """Photographs of a hundred kinds of things, 32 x 32 colour, official pickles.

    Args:
        data_dir: folder that holds cifar-100-python, or that folder itself.
        labels: fine for the 100 classes, coarse for the 20 groups of five of them.
        standardise: with which statistics; see `standardisation_of`.
    """
    folder = folder_of(PUBLISHED, data_dir, list(OFFICIAL))
    target = folder.parent if folder.name == FOLDER else folder
    classes, key = CLASSES[labels], f"{labels}_labels"
    parts = {
        part: read_cifar(
            folder / part, PUBLISHED, target, key=key, classes=len(classes)
        )
        for part in OFFICIAL
    }
    (pixels, targets), (test_pixels, test_targets) = parts.values()
    images = from_numpy(pixels)
    standardisation = standardisation_of(images, standardise, STATISTICS)
    return Dataset(
        name="cifar100",
        train=TensorSamples(images, targets, standardisation),
        test=TensorSamples(from_numpy(test_pixels), test_targets, standardisation),
        classes=classes,
        notes=note_on_count("training", len(pixels), OFFICIAL["train"])
        + note_on_count("test", len(test_pixels), OFFICIAL["test"]),
    )
