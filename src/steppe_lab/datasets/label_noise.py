"""Label noise: training labels drawn anew, of samples chosen at random.

Sources: Zhang, Bengio, Hardt, Recht and Vinyals, 2017, Understanding deep learning
requires rethinking generalization; for labels shuffled among samples Ibayashi et al.,
2021, Minimum sharpness.

Shape letters: N training samples, n those with noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from steppe_lab.datasets.subsets import check_one_class_each

LabelNoise = Literal["other", "uniform", "shuffled"]
WORDS: Mapping[LabelNoise, str] = {
    "other": "exchanged for another class",
    "uniform": "drawn anew from all classes, the true one included",
    "shuffled": "shuffled among themselves",
}


def noisy_labels(
    targets: Tensor,
    classes: int,
    *,
    fraction: float,
    kind: LabelNoise,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Labels of which exactly round(fraction * N) are noise.

    Every kind chooses the same samples, and those of a low fraction are among those of
    a high one. "other" and "uniform" give them the same labels at both; "shuffled"
    cannot, since its labels are those of the samples chosen: of n labels that become
    m, a share n / m stays on average.

    Args:
        targets: labels, shape (N,).
        classes: number of classes.
        fraction: of the labels, 0 to 1.
        kind: other draws uniformly from the other classes; uniform from all classes,
            so that one in so many stays right; shuffled permutes the labels of the
            samples chosen, which keeps how often each class occurs.
        generator: of all draws.

    Returns:
        Labels, shape (N,), and the samples with noise, bool of shape (N,).

    Raises:
        SettingError: fewer than two classes, or targets that are more than a class.
    """
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    if fraction == 0:
        return targets, chosen
    check_one_class_each("label_noise", targets, classes)
    samples = len(targets)
    places = torch.randperm(samples, generator=generator)[: round(fraction * samples)]
    noisy = targets.clone()
    noisy[places] = _KINDS[kind](targets, places, classes, generator)
    chosen[places] = True
    return noisy, chosen


def _other(
    targets: Tensor, places: Tensor, classes: int, generator: torch.Generator
) -> Tensor:
    shift = torch.randint(1, classes, (len(targets),), generator=generator)
    return (targets[places] + shift[places]) % classes


def _uniform(
    targets: Tensor, places: Tensor, classes: int, generator: torch.Generator
) -> Tensor:
    drawn = torch.randint(classes, (len(targets),), generator=generator)
    return drawn[places]


def _shuffled(
    targets: Tensor, places: Tensor, classes: int, generator: torch.Generator
) -> Tensor:
    """Fisher and Yates from the inside out: every prefix is a random permutation."""
    del classes
    draws = torch.rand(len(targets), generator=generator, dtype=torch.float64)
    mixed: list[int] = []
    draws = draws[: len(places)]
    for label, draw in zip(targets[places].tolist(), draws.tolist(), strict=True):
        mixed.append(label)
        partner = int(draw * len(mixed))
        mixed[-1], mixed[partner] = mixed[partner], label
    return torch.tensor(mixed, dtype=targets.dtype)


_KINDS: Mapping[
    LabelNoise, Callable[[Tensor, Tensor, int, torch.Generator], Tensor]
] = {"other": _other, "uniform": _uniform, "shuffled": _shuffled}
