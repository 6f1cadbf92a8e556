"""A comparison as flat rows, one per network, for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steppe.registry.registry import Choice
from steppe_lab.reports.comparison.quantities import BASE_LOSS
from steppe_lab.reports.text.csv_text import csv_text
from steppe_lab.studies.rows import Comparison, Row
from steppe_lab.training.settings import PlainSettings


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One dictionary of plain values per network, all with the same keys.

    `optimizer`, `base` and `average` say all their settings, `label` what tables call
    it. Scores are shares and losses after the last epoch, named by the samples judged
    on, as `test_error`; `best_...` are at the epoch that was best on those. A measure
    has four keys: its name (with its settings if it is measured with several), and that
    with `_stderr`, `_samples` and `_converged`; one that contains the loss itself also
    has `_minus_loss`, and one that a network does not allow `_refusal`. A sweep, judged
    on validation samples, has `test_error` too. What a network lacks is None.
    """
    flat = [_flat(comparison, row) for row in comparison.rows]
    keys = dict.fromkeys(key for row in flat for key in row)
    # Tables need the same columns in each row, also where one network lacks a measure.
    return [{key: row.get(key) for key in keys} for row in flat]


def to_csv(comparison: Comparison) -> str:
    """The rows as comma-separated values with a heading; no rows give no text.

    A text that a spreadsheet would compute gets an apostrophe before it.
    """
    return csv_text(rows(comparison))


def _flat(comparison: Comparison, row: Row) -> dict[str, Any]:
    held_out, recipe = comparison.settings.held_out, row.settings
    flat: dict[str, Any] = {
        "label": row.optimizer,
        "optimizer": _text(recipe.get("optimizer") or recipe.get("base")),
        "base": _text(recipe.get("base")),
        "average": _text(recipe.get("average")),
        "seed": row.seed,
        "data": _text(recipe.get("data")),
        "model": _text(recipe.get("model")),
        **{key: recipe.get(key) for key in _RECIPE},
        **{key: _plain(recipe[key]) for key in _CHANGED if key in recipe},
        **_augmentation(recipe),
        "held_out": held_out,
        "gradients_per_step": row.gradients,
        "measure_samples": comparison.settings.measure_samples,
    }
    for start, scores in (("", row.last), ("best_", row.best)):
        named = {key.replace("test_", f"{held_out}_"): v for key, v in scores.items()}
        flat |= {f"{start}{key}": value for key, value in named.items()}
    for name, estimate in row.measures.items():
        flat[name] = estimate.get("value")
        for part in ("stderr", "samples", "converged"):
            flat[f"{name}_{part}"] = estimate.get(part)
        if estimate.get("refusal"):
            flat[f"{name}_refusal"] = estimate["refusal"]
        base, value = estimate.get("details", {}).get(BASE_LOSS), estimate.get("value")
        if base is not None and value is not None:
            flat[f"{name}_minus_loss"] = value - base
    if row.training in comparison.tested:
        flat[f"test_{row.headline.name}"] = comparison.tested[row.training]
    if row.stopped:
        flat["stopped"] = row.stopped
    return flat | {"training": row.training, "analysis": row.analysis}


_ALWAYS = PlainSettings.always_recorded
_RECIPE = (
    "epochs",
    "batch_size",
    "lr_schedule",
    "warmup_epochs",
    "train_samples",
    "label_noise",
    "data_seed",
)
# Recorded where they are not the default, so a new one needs no entry here.
_CHANGED = [n for n in PlainSettings.model_fields if n not in _ALWAYS]


def _augmentation(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Augmentations as they are typed; no key where there is none."""
    texts = [str(Choice(**choice)) for choice in recipe.get("augment", ())]
    return {"augment": "+".join(texts)} if texts else {}


def _plain(value: Any) -> Any:
    """A setting as it is typed, where it is several texts."""
    return " ".join(value) if isinstance(value, list | tuple) else value


def _text(choice: Mapping[str, Any] | None) -> str | None:
    """A choice as it is typed, with all of its settings."""
    return str(Choice(**choice)) if choice else None
