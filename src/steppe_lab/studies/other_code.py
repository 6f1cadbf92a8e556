"""Finished runs that a plan cannot use because the user's code has changed since."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from steppe.errors import ChangedCodeError
from steppe_lab.store.json_files import canonical_json
from steppe_lab.store.store import Store, run_id
from steppe_lab.studies.plan import Plan

SHOWN = 8  # digits of a digest
Configs = Mapping[str, dict[str, Any]]  # settings of runs by id


def check_same_code(plan: Plan, store: Store) -> None:
    """Refuse a plan that would do finished runs again, as their code is other code.

    A run that was begun with the code of now is gone on with.

    Args:
        plan: trials, and the runs that follow them.
        store: of finished runs; their settings are read where the plan has code of the
            user and runs that the store does not know.

    Raises:
        ChangedCodeError: finished runs differ from those of the plan in code alone.
    """
    now = {run: config for run, config in _with_code(plan) if not store.has(run)}
    if not now:
        return
    configs = {run: store.config(run) for run in filter(store.is_finished, store.ids())}
    then = _twins(now, configs)
    if not then:
        return
    changed: dict[str, str] = {}
    for run, old in then.items():
        new = now[run]["code"]
        for name, digest in old["code"].items():
            if new.get(name) != digest:
                digests = f"{digest[:SHOWN]} then, {new.get(name, '')[:SHOWN]} now"
                changed[name] = f"{name} (SHA-256 {digests})"
    replaced = {run_id(old) for old in then.values()}
    # Measures of networks that are trained again are computed again too.
    count = len(replaced) + sum(
        config.get("training") in replaced and run not in replaced
        for run, config in configs.items()
    )
    belong = (
        "1 finished run belongs" if count == 1 else f"{count:,} finished runs belong"
    )
    raise ChangedCodeError(
        f"{belong} to other source of {' and '.join(changed.values())}; restore the "
        "source to use them, or give --changed-code to do them again with that of now."
    )


def _with_code(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ids and settings of the runs that code of the user takes part in."""
    for run, trial in plan.items():
        if trial.recipe.code:
            yield run, trial.config
        for config in plan.followers(run).values():
            if config.get("code"):
                yield run_id(config), config


def _twins(now: Configs, stored: Configs) -> Configs:
    """Settings of stored runs that differ in code alone, by the id of the new run."""
    by_rest = {_but_code(config): run for run, config in now.items()}
    return {
        by_rest[rest]: config
        for config in stored.values()
        if config.get("code") and (rest := _but_code(config)) in by_rest
    }


def _but_code(config: Mapping[str, Any]) -> str:
    return canonical_json({k: v for k, v in config.items() if k != "code"})
