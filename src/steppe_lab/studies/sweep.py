"""Settings of a sweep with samples to choose a value by."""

from __future__ import annotations

from steppe_lab.datasets import DATASETS
from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.split import validation_samples
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import recipe_of


def with_validation(settings: CompareSettings) -> CompareSettings:
    """Train on fewer samples where the default leaves none to choose a value by.

    Nothing changes where the number of samples is given, validation samples are set
    apart, or the data set recommends fewer samples than it has; else a fifth is held
    out, or 5,000 if that is less.
    """
    recipe = recipe_of(settings, settings.optimizers[0], 0)
    known = DATASETS[recipe.data.name].spec.train_samples
    chosen = (settings.train_samples, settings.train_fraction, settings.validation_seed)
    if known is not None or any(each is not None for each in chosen):
        return settings
    split = load_split(recipe.model_copy(update={"held_out": "test"}))
    pool = len(split.train)
    remaining = pool - validation_samples(pool)
    return settings.model_copy(update={"train_samples": remaining})
