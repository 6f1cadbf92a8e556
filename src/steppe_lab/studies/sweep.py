"""Settings of a sweep with samples to choose a value by."""

from __future__ import annotations

from steppe_lab.datasets import DATASETS
from steppe_lab.datasets.loading import folder_of_data, load
from steppe_lab.datasets.seeding import seeded
from steppe_lab.datasets.split import validation_samples
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import recipe_of


def with_validation(settings: CompareSettings) -> CompareSettings:
    """Train on fewer samples where the default leaves none to choose a value by.

    Nothing changes where the number of samples is given, validation samples are set
    apart, or the data set recommends fewer samples than it has or has a validation set
    of its own; else a fifth is held out, or 5,000 if that is less.
    """
    recipe = recipe_of(settings, settings.optimizers[0], 0)
    known = DATASETS[recipe.data.name].spec.train_samples
    chosen = (settings.train_samples, settings.train_fraction, settings.validation_seed)
    if known is not None or any(each is not None for each in chosen):
        return settings
    with seeded(0):  # as for the runs: code of the user may draw
        dataset = load(recipe.data, folder_of_data())
    if dataset.validation is not None:
        return settings
    pool = len(dataset.train)
    remaining = pool - validation_samples(pool)
    return settings.model_copy(update={"train_samples": remaining})
