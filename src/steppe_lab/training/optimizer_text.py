"""The text of a method, such as "sam:rho=0.1+ema", as choices of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.averaging import AVERAGES
from steppe.bases import BASES
from steppe.errors import SettingError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Choice, unknown_name
from steppe_lab.training.settings import parted
from steppe_lab.training.tracking import TRACKERS, is_led, read_led


def read_optimizer(
    text: str, base: str, defaults: Sequence[str] = (), track: str = ""
) -> dict[str, Choice | None]:
    """`optimizer`, `base`, `average` and `track` of a recipe for the text of a method.

    Args:
        text: "sam:rho=0.1" wraps `base`; "sgd" and "sgd:lr=0.05" are a base alone,
            with what `base` says of that optimizer where the text is silent. Either
            may be followed by an average, as in "sam:rho=0.1+ema:decay=0.99".
        base: the base of wrapping methods.
        defaults: settings of methods where the text is silent, as "sam:rho=0.1".
        track: what is followed along training, as "spectrum:k=5"; "" for nothing,
            unless the method needs it: "nsgd:k=5" follows 5 directions.
    """
    text, *averages = parted(text)
    if len(averages) > 1:
        raise SettingError(
            f"there can be one average of the weights, got {' and '.join(averages)}; "
            "leave one of them out."
        )
    average = AVERAGES.parse(averages[0]) if averages else None
    name = text.partition(":")[0]
    chosen = BASES.parse(base)
    known = [OPTIMIZERS.parse(default) for default in defaults]
    followed = TRACKERS.parse(track) if track else None
    beside = {"average": average, "track": followed}
    if name in BASES:
        return {"optimizer": None, "base": BASES.parse(text, [chosen]), **beside}
    if name not in OPTIMIZERS and ":" not in text:
        raise unknown_name("optimizer", name, [*BASES.names(), *OPTIMIZERS.names()])
    if name in OPTIMIZERS and is_led(name):
        text, beside["track"] = read_led(text, track)
    return {"optimizer": OPTIMIZERS.parse(text, known), "base": chosen, **beside}
