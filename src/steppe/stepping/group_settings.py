"""Settings of a method in the parameter groups of its base.

They live in the groups, as the learning rate does, so that schedulers and users see
them; a group may have its own value of any of them. What the user gave a group is
listed in it, so that wrapping a base again does not take the last wrapper's values for
the user's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges
from steppe.schedules import GroupSchedule, Schedule

OWN = "steppe_own"  # key in a group: names of the settings its user gave it
PLAIN = (float, int, bool)
Groups = Sequence[dict[str, Any]]


class GroupSettings:
    """Settings of one method, to be put into groups.

    Args:
        given: values or schedules, by name.
        bounds: ranges of the values.
        taken: keys that mean something else in these groups, such as RMSprop's alpha;
            a setting of that name has the key "steppe_alpha".

    Raises:
        SettingError: a value out of its range; no group has been touched then.
    """

    def __init__(
        self,
        given: Mapping[str, float | Schedule],
        bounds: Ranges,
        taken: Collection[str] = (),
    ) -> None:
        self._bounds = bounds
        self.keys = {n: f"steppe_{n}" if n in taken else n for n in [*given, "perturb"]}
        self._given = dict(given)
        self._sound: dict[int, dict[str, Any]] = {}  # values by group, as checked last
        for end in (0, 1):
            self._check({name: _end(v, end) for name, v in given.items()})
        self.values: dict[str, Any] = {k: _end(v, 0) for k, v in given.items()}
        self.values["perturb"] = True

    def put_into(self, groups: Groups) -> None:
        """Write the settings into groups that do not have their own."""
        for group in groups:
            keys = self.keys
            own = group.get(OWN, [n for n in self.values if keys[n] in group])
            fresh = {**self.values, **self._scheduled(group, 0)}
            self._check({**fresh, **{n: group[keys[n]] for n in own if n in keys}})
            group[OWN] = own
            group.update({keys[n]: v for n, v in fresh.items() if n not in own})

    def complete(self, groups: Groups) -> None:
        """Write them into groups that have none yet, such as one that was added."""
        fresh = [group for group in groups if OWN not in group]
        if fresh:
            self.put_into(fresh)

    def adopt(self, groups: Groups, previous: Groups) -> None:
        """Complete loaded groups from the previous ones."""
        for group, before in zip(groups, previous, strict=True):
            names = [*self.keys.values(), OWN]
            kept = {k: before[k] for k in names if OWN not in group or k not in group}
            group.update(kept)
        for group in groups:
            self._check(self.of(group))

    def apply(self, groups: Groups, step: int) -> None:
        """Set scheduled values for a step, and check those that are new."""
        for number, group in enumerate(groups):
            for name, value in self._scheduled(group, step).items():
                if name not in group[OWN]:
                    group[self.keys[name]] = value
            values = self.of(group)
            # Not all others can be compared, and a tensor may change in place.
            plain = all(type(value) in PLAIN for value in values.values())
            if plain and self._sound.get(number) == values:
                continue
            self._check(values)
            if plain:
                self._sound[number] = values

    def of(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The settings in a group, by name."""
        return {name: group[key] for name, key in self.keys.items()}

    def _scheduled(self, group: Mapping[str, Any], step: int) -> dict[str, float]:
        values = {}
        for name, given in self._given.items():
            if isinstance(given, GroupSchedule):
                values[name] = given.of_group(step, group)
            elif callable(given):
                values[name] = given(step)
        return values

    def _check(self, values: Mapping[str, Any]) -> None:
        check_settings(values, self._bounds)
        if (perturb := values.get("perturb", True)) not in (True, False):
            raise SettingError(
                f"perturb of a group must be True or False, got {perturb!r}."
            )


def check_settings(values: Mapping[str, Any], bounds: Ranges) -> None:
    """Refuse values outside of their ranges; None is none of them."""
    for name, bound in bounds.items():
        if name in values:
            limits = bound if isinstance(bound, Range) else Range(*bound)
            limits.check(name, values[name])


def _end(given: float | Schedule, end: int) -> Any:
    """A value that can be checked before any step: at the start or where it is known.

    Args:
        given: a value, or a schedule of it.
        end: 0 for the first value, 1 for the last one of a schedule with a length.
    """
    if isinstance(given, GroupSchedule):
        return given.ends[1 - end]
    if callable(given):
        return given(end * getattr(given, "steps", 0))
    return given
