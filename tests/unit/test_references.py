"""Starts and second networks: prefixes of their names, and their messages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import problems
import steppe
from steppe.errors import SettingError, UsageError
from steppe.measures import Barrier, DistanceFromStart


@pytest.mark.parametrize("prefix", ["module.", "module._orig_mod."])
def test_a_prefix_of_all_names_is_taken_off(prefix):
    objective = problems.objective(problems.mlp(), problems.vectors())
    state = {n: t + 0.1 for n, t in objective.model.state_dict().items()}
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    for name in ("start", "other"):
        made = {"start": DistanceFromStart, "other": Barrier}[name]()
        plain, same = (made(objective, **{name: each}) for each in (state, wrapped))
        assert plain.value == same.value


def test_names_of_another_network_are_refused():
    objective = problems.objective(problems.mlp(), problems.vectors())
    for other in (nn.Linear(4, 3), nn.Sequential(nn.Linear(2, 2))):
        with pytest.raises(SettingError, match="tensors of the measured network"):
            Barrier()(objective, other=other)


def test_both_ways_to_give_them_are_named():
    objective = problems.objective(problems.mlp(), problems.vectors())
    with pytest.raises(UsageError, match=r"start=.*\(--start on the command line\)"):
        DistanceFromStart()(objective)
    with pytest.raises(UsageError, match=r"other=.*\(--other on the command line\)"):
        Barrier()(objective)


def test_an_estimate_of_the_user_that_is_none_is_refused():
    class Largest(steppe.measures.AbstractMeasure):
        def needs(self):
            return []

        def estimate(self, measurement):
            return 1.0

    objective = problems.objective(problems.mlp(), problems.vectors())
    found = steppe.measure(objective, ["loss", Largest()])
    assert "Largest must return a steppe.Estimate, got float" in (
        found["Largest"].refusal
    )
    assert torch.isfinite(torch.tensor(found["loss"].value))
