"""The convolutional network for texts: what it computes, and its second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import steppe
from steppe.errors import SettingError
from steppe_lab.models import MODELS

SMALL = "text_cnn:embedding=3,filters=4,kernel=2,dense=5,dropout=0"


def network(text=SMALL):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS.build(text, (6, 9), 2).double()


def test_scores_are_those_of_windows_written_out():
    model, tokens = network(), torch.tensor([[0, 0, 1, 4, 8, 3]])
    weights = dict(model.named_parameters())
    words = weights["embedding.weight"][tokens[0]]
    windows = torch.stack([words[i : i + 2] for i in range(5)])
    responses = torch.einsum("wkd,fdk->wf", windows, weights["convolution.weight"])
    largest = (responses + weights["convolution.bias"]).relu().max(0).values
    hidden = weights["dense.weight"] @ largest + weights["dense.bias"]
    expected = weights["head.weight"] @ hidden.relu() + weights["head.bias"]
    torch.testing.assert_close(model(tokens)[0], expected)


def test_products_with_the_hessian_are_differences_of_gradients():
    model = network()
    tokens = torch.randint(9, (7, 6), generator=torch.Generator().manual_seed(1))
    batch = (tokens, torch.arange(7) % 2)
    operator = steppe.Hessian(steppe.Objective(model, [batch]))
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(operator.shape[0], generator=generator).double()
    params, eps = list(model.parameters()), 1e-6
    start = torch.nn.utils.parameters_to_vector(params).detach()

    def gradient(at):
        torch.nn.utils.vector_to_parameters(at, params)
        grads = torch.autograd.grad(F.cross_entropy(model(tokens), batch[1]), params)
        return torch.cat([g.flatten() for g in grads])

    product = operator @ direction
    ahead, behind = (gradient(start + s * eps * direction) for s in (1, -1))
    torch.testing.assert_close(
        product, (ahead - behind) / (2 * eps), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("in_shape", [(1, 9), (3, 8, 8)])
def test_texts_shorter_than_a_filter_and_other_inputs_are_refused(in_shape):
    with pytest.raises(SettingError, match="text_cnn needs texts of at least"):
        MODELS.build(SMALL, in_shape, 2)
