"""Results of attacks: which samples resist which budgets, and how many.

Shape letters: A attacks, E budgets, N samples.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.adversarial.balls import Norm
from steppe_lab.statistics.error_rates import agreed_rate
from steppe_lab.statistics.intervals import Interval

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class AttackResult:
    """All numbers of attacks on one network.

    Args:
        keys: A names, or texts where two attacks share a name.
        texts: A attacks with all of their settings.
        norms: A norms of the budgets.
        epsilons: E budgets, ascending.
        clean_wrong: shape (N,); classified wrongly without a change.
        success: shape (A, E, N); classified wrongly after the attack, those that were
            so before among them.
        smallest: shape (A, N); norms of the smallest changes that succeed, infinite
            where none does, NaN of attacks that only keep within a budget.
        labels: classes, shape (N,).
        positions: places of the samples in their part of the data, shape (N,).
        about: further settings and facts, as JSON has them.
        notes: sentences without full stops.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    norms: tuple[Norm, ...]
    epsilons: tuple[float, ...]
    clean_wrong: Bools
    success: Bools
    smallest: NDArray[np.float64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def clean(self) -> Interval:
        """Accuracy without a change."""
        return _right(self.clean_wrong)

    def robust(self, attack: int) -> list[Interval]:
        """Share of the samples that resist an attack, for each budget."""
        return [_right(fooled) for fooled in self.success[attack]]

    @property
    def worst_norm(self) -> Norm:
        """Norm of the budgets of `worst`: a change within L2 is within L-infinity."""
        return "inf" if "inf" in self.norms else "2"

    @property
    def worst(self) -> list[Interval]:
        """Share of the samples that resist all attacks, for each budget."""
        fooled: Bools = np.any(self.success, axis=0)
        return [_right(fooled[index]) for index in range(len(self.epsilons))]

    def median_norm(self, attack: int) -> float:
        """Median norm of the smallest changes of samples that were right before.

        It is NaN where there is none, and infinite where half of them resist.
        """
        own = self.smallest[attack][~self.clean_wrong]
        if not len(own) or np.isnan(own).any():
            return float("nan")
        return float(np.sort(own)[len(own) // 2])

    def to_dict(self) -> dict[str, Any]:
        """All numbers but those of single samples, as JSON."""
        clean = self.clean
        return {
            "clean_error": float(self.clean_wrong.mean()),
            "clean_accuracy": clean.mean,
            "clean_interval": [clean.low, clean.high],
            "samples": self.samples,
            "epsilons": list(self.epsilons),
            **self.about,
            "attacks": {
                key: {
                    "attack": self.texts[index],
                    "norm": self.norms[index],
                    **_shares(self.robust(index)),
                    **self._smallest(index),
                }
                for index, key in enumerate(self.keys)
            },
            "worst": {"norm": self.worst_norm, **_shares(self.worst)},
            "notes": list(self.notes),
        }

    def to_npz(self) -> bytes:
        """The arrays, and the names along their axes, as a file of numpy."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            attacks=np.array(self.texts),
            epsilons=np.array(self.epsilons),
            success=self.success,
            smallest=self.smallest,
            clean_wrong=self.clean_wrong,
            labels=self.labels,
            positions=self.positions,
        )
        return buffer.getvalue()

    def _smallest(self, index: int) -> dict[str, float]:
        median = self.median_norm(index)
        return {} if np.isnan(median) else {"median_norm": median}


def _right(wrong: Bools) -> Interval:
    """Share of the samples that are right, with Wilson's interval."""
    # From the counts: 1 - mean(wrong) would leave the rounding of a difference.
    right = int((~wrong).sum()) / len(wrong)
    return agreed_rate(right, samples=len(wrong), count=1)


def _shares(intervals: Sequence[Interval]) -> dict[str, list[float]]:
    return {
        "robust_accuracy": [each.mean for each in intervals],
        "low": [each.low for each in intervals],
        "high": [each.high for each in intervals],
    }
