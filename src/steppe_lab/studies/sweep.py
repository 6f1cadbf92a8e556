"""Settings of a sweep with samples to choose a value by."""

from __future__ import annotations

from steppe_lab.datasets import DATASETS
from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.split import MAX_VALIDATION
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import recipe_of

SHARE = 5  # of the training samples, one in so many is held out


def with_validation(settings: CompareSettings) -> CompareSettings:
    """Train on fewer samples where the default leaves none to choose a value by.

    Nothing changes where the number of samples is given, or where the data set
    recommends fewer than it has; else a fifth is held out, or 5,000 if that is less.
    """
    recipe = recipe_of(settings, settings.optimizers[0], 0)
    known = DATASETS[recipe.data.name].spec.train_samples
    if settings.train_samples is not None or known is not None:
        return settings
    split = load_split(recipe.model_copy(update={"held_out": "test"}))
    pool = len(split.train)
    remaining = pool - min(MAX_VALIDATION, pool // SHARE)
    return settings.model_copy(update={"train_samples": remaining})
