"""Names of groups in Python: all, and families."""

from __future__ import annotations

import pytest

import problems
import steppe
from steppe.errors import SettingError, UnknownNameError
from steppe.measures import MEASURES, StableRank, build_all
from steppe.measures.families import families


def test_a_family_stands_for_its_measures():
    objective = problems.objective(problems.mlp(), problems.vectors())
    measured = steppe.measure(objective, ["tails", "loss"])
    assert list(measured) == [*(entry.name for entry in families()["tails"]), "loss"]
    assert list(build_all("all")) == [e.name for f in families().values() for e in f]
    assert sorted(build_all(["all", "tails"])) == MEASURES.names()


def test_a_measure_named_beside_its_group_keeps_its_settings():
    built = build_all(["tails", "heavy-tails:min_eigenvalues=4", StableRank()])
    assert "heavy_tails" not in built
    assert built["heavy-tails:min_eigenvalues=4"].min_eigenvalues == 4
    assert sum(isinstance(each, StableRank) for each in built.values()) == 1


def test_a_group_takes_no_settings():
    with pytest.raises(SettingError, match=r"takes no settings.*: .*top_eigenvalue"):
        build_all(["spectral:k=3"])


def test_a_module_of_the_user_may_have_the_name_of_a_family():
    with pytest.raises(UnknownNameError, match="measure 'norms:Mine' cannot be"):
        build_all(["norms:Mine"])


def test_two_networks_are_compared_by_a_family():
    pair = [problems.objective(problems.mlp(), problems.vectors()) for _ in range(2)]
    found = steppe.compare(*pair, ["values"], groups=2, repeats=2)
    assert list(found) == [entry.name for entry in families()["values"]]
