"""Settings of the user's code: the parameters that a text can give."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from steppe.errors import SettingError


def check_is_setting(
    name: str, key: str, parameters: Iterable[inspect.Parameter]
) -> None:
    """Refuse a parameter of the user's code that is there, and that no text can give.

    Args:
        name: of what is chosen; nothing is refused but of module:function.
        key: the setting that is asked for, and that is none.
        parameters: of the function.

    Raises:
        SettingError: the parameter is not keyword-only, or has no plain type.
    """
    p = {each.name: each for each in parameters}.get(key)
    if p is None or ":" not in name:
        return
    kind, default = "int", "" if p.default is p.empty else f" = {p.default!r}"
    if default and isinstance(p.default, int | float | str):
        kind = type(p.default).__name__
    raise SettingError(
        f"settings of {name} must be keyword-only with a type such as int, float, bool "
        f"or str, and {key} is not; write *, {key}: {kind}{default} after the other "
        "parameters."
    )
