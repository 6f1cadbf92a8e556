"""Weight matching of transformers: permuted copies come back, at barrier 0."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import steppe
from steppe.comparisons.barriers import barriers
from steppe.symmetries.unit_groups import permuted, unit_groups
from steppe_lab.models import MODELS

SIZES = "d_model=8,n_head=4,n_layer=2,ffn_hidden=10"


class Translating(nn.Module):
    """Sources and targets in one tensor, and logits as cross-entropy has them."""

    def __init__(self):
        super().__init__()
        self.net = MODELS.build(f"translation_transformer:{SIZES}", (6,), 11)

    def forward(self, x):
        return self.net((x[:, :6], x[:, 6:])).mT


def heartbeats():
    inputs = torch.randn(6, 12, dtype=torch.float64)
    return MODELS.build(f"ecg_transformer:{SIZES}", (12,), 3), inputs


def sentences():
    tokens = torch.randint(2, 11, (4, 10))
    tokens[0, 4:6] = 1  # padding of a source
    return Translating(), tokens


# Two layers of heads and two of dense units; three dense layers of the head in the
# first, attention to the source in the second.
MADE = {"ecg": (heartbeats, 7, 2), "translation": (sentences, 10, 6)}


@pytest.mark.parametrize(
    "name", [pytest.param("ecg", marks=pytest.mark.slow), "translation"]
)
def test_a_permuted_copy_has_the_same_outputs_and_no_barrier(name):
    make, count, with_heads = MADE[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = make()
        model = model.double().eval()
        for p in model.parameters():
            p.data.add_(torch.randn_like(p), alpha=0.2)
        with torch.no_grad():
            outputs = model(inputs)
        # Targets that the network is right about: other weights raise the loss.
        objective = steppe.Objective(model, (inputs, outputs.argmax(1)))
        with objective.measuring():
            groups = unit_groups(objective)
        assert len(groups) == count
        assert sum(group.block == 2 for group in groups) == with_heads
        orders = [torch.randperm(group.size).roll(1) for group in groups]
    state = {name: t.clone() for name, t in model.state_dict().items()}
    other = permuted(state, groups, orders)
    model.load_state_dict(other)
    torch.testing.assert_close(model(inputs), outputs, rtol=1e-11, atol=1e-11)
    model.load_state_dict(state)
    found = barriers(
        objective,
        {"one": state, "other": other},
        paths=["straight", "matched"],
        points=5,
    )
    pair = ("one", "other")
    assert found.paths["straight"][pair].value > 1e-4
    assert abs(found.paths["matched"][pair].value) < 1e-12
