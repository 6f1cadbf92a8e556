"""Settings that the trainings of this paper share, and smaller networks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steppe_lab.reproduction.published import Cell, Published

NAME = "jastrzebski2019_sharpest_directions"
IMAGES: dict[str, Any] = {
    "data": "cifar10:standardise=pixel",
    "augment": "shift_flip",
    "optimizer": None,
    "batch_size": 128,
    "last_batch": "drop",
    "held_out": "validation",
    "validation_seed": 777,
    "lr_schedule": "constant",
}
CAVEATS = (
    "Eigenvalues are those of clean training images; the code draws augmented ones.",
    "Weights, samples and their order are those of steppe's seeds. The validation "
    "images are the same for all of our seeds.",
)
# Networks by a word, as published and at the other scales.
NETWORKS: Mapping[str, Mapping[str, str]] = {
    "root": {
        "full": "simple_cnn",
        "laptop": "simple_cnn:width=8,hidden=32",
        "smoke": "simple_cnn:width=2,hidden=8",
    },
    "medium": {
        "full": "simple_cnn:width=100,kernel=5",
        "laptop": "simple_cnn:width=8,kernel=5,hidden=32",
        "smoke": "simple_cnn:width=2,kernel=5,hidden=8",
    },
    "resnet32": {
        "full": f"resnet32:init_scale={1 / 15!r}",
        "laptop": f"resnet32:width=4,init_scale={1 / 15!r}",
        "smoke": f"resnet32:width=1,init_scale={1 / 15!r}",
    },
    # That of the example commands, whose convolutions begin with smaller weights.
    "resnet32_small_start": {
        "full": "resnet32",
        "laptop": "resnet32:width=4",
        "smoke": "resnet32:width=1",
    },
}


def plain(lr: float) -> str:
    """SGD without momentum."""
    return f"sgd:lr={lr!r},momentum=0,weight_decay=0"


def followed(samples: int, **settings: object) -> str:
    """The tracker of eigenvalues, on samples drawn anew for each measurement."""
    more = "".join(f",{name}={value}" for name, value in settings.items())
    return f"spectrum:samples={samples},drawn=anew{more}"


def cell(
    name: str,
    network: str,
    settings: Mapping[str, Any],
    published: Published | None = None,
    scales: Mapping[str, Mapping[str, Any]] | None = None,
) -> Cell:
    """A training of one of the networks, smaller at the other scales.

    Args:
        name: of the cell.
        network: a key of `NETWORKS`.
        settings: of the training, at the published size.
        published: number.
        scales: further settings at a scale, by its name.
    """
    sizes = NETWORKS[network]
    smaller = {
        scale: {"model": sizes[scale], **(scales or {}).get(scale, {})}
        for scale in ("laptop", "smoke")
    }
    return Cell(
        name=name,
        published=published,
        settings={"model": sizes["full"], **settings},
        scales=smaller,
    )


def above(value: float, note: str = "") -> Published:
    """A statement of the paper that a number is larger than another."""
    return Published(value=value, bound="above", note=note)
