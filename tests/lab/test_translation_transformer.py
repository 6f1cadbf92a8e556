"""The translation transformer against torch's own, its masks and its size."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steppe_lab.datasets.pairs import BOS, PAD
from steppe_lab.models import MODELS
from steppe_lab.models import translation_transformer as home
from steppe_lab.models.attention import positions
from steppe_lab.models.model_registry import without_values

SMALL = "translation_transformer:d_model=8,n_head=2,n_layer=2,ffn_hidden=12"
VOCABULARY = 11


def build(text=SMALL, length=9):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MODELS.build(text, (length,), VOCABULARY).double().eval()


def sentences():
    """Sources of 5 and 3 tokens, targets of 4 and 6 with their beginning."""
    source = torch.tensor([[4, 5, 6, 7, 3], [8, 9, 3, PAD, PAD]])
    target = torch.tensor([[2, 4, 5, 6, PAD, PAD], [2, 7, 7, 8, 9, 10]])
    return source, target


def test_the_published_size_has_its_number_of_parameters():
    with without_values():
        model = MODELS.build("translation_transformer", (100,), 32_000)
    assert sum(p.numel() for p in model.parameters()) == 45_424_896


def weights_of(attention):
    """Those of `Attention` as torch's layer has them."""
    parts = (attention.query, attention.key, attention.value)
    return {
        "in_proj_weight": torch.cat([part.weight for part in parts]),
        "in_proj_bias": torch.cat([part.bias for part in parts]),
        "out_proj.weight": attention.output.weight,
        "out_proj.bias": attention.output.bias,
    }


def peer_of(model):
    """torch's transformer with the same weights."""
    peer = nn.Transformer(8, 2, 2, 2, 12, batch_first=True, dtype=torch.float64)
    state = {}
    for side, own in (("encoder", model.encoder), ("decoder", model.decoder)):
        for number, layer in enumerate(own):
            start = f"{side}.layers.{number}"
            attentions = {"self_attn": layer.attention}
            if side == "decoder":
                attentions["multihead_attn"] = layer.source_attention
            for name, attention in attentions.items():
                for key, value in weights_of(attention).items():
                    state[f"{start}.{name}.{key}"] = value
            parts = {"linear1": layer.dense[0], "linear2": layer.dense[3]}
            parts |= {f"norm{n + 1}": norm for n, norm in enumerate(layer.norms)}
            for name, part in parts.items():
                state |= {
                    f"{start}.{name}.{k}": v for k, v in part.state_dict().items()
                }
        last = getattr(model, f"{side}_norm").state_dict()
        state |= {f"{side}.norm.{key}": value for key, value in last.items()}
    peer.load_state_dict(state)
    return peer.eval()


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_logits_are_those_of_torch_with_the_same_weights():
    model, (source, target) = build(), sentences()
    peer = peer_of(model)

    def embedded(tokens):
        waves = positions(tokens.shape[1], 8).double()
        return model.embedding(tokens) * 8**0.5 + waves

    features = peer(
        embedded(source),
        embedded(target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64),
        src_key_padding_mask=source == PAD,
        memory_key_padding_mask=source == PAD,
    )
    torch.testing.assert_close(model((source, target)), model.head(features))


def test_padding_of_a_source_and_later_targets_change_nothing():
    model, (source, target) = build(), sentences()
    logits = model((source, target))
    alone = model((source[1:, :3], target[1:]))
    torch.testing.assert_close(logits[1:], alone)
    begun = model((source, target[:, :3]))
    torch.testing.assert_close(logits[:, :3], begun)


def test_encoding_and_decoding_are_the_forward_pass():
    model, (source, target) = build(), sentences()
    memory = model.encode(source)
    assert memory.shape == (2, 5, 8)
    assert torch.equal(model.decode(target, memory, source), model((source, target)))


@torch.no_grad()
def test_tokens_one_by_one_have_the_logits_of_the_whole_target():
    model, (source, target) = build(length=3), sentences()
    memory = model.encode(source)
    state = model.begin(memory, source)
    for place in range(target.shape[1]):
        logits, state = model.follow(target[:, place], state)
        expected = model.decode(target[:, : place + 1], memory, source)[:, -1]
        torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-12)


def test_sentences_may_be_longer_than_all_it_was_built_for():
    short, long = build(length=3), build(length=9)
    source, target = sentences()
    assert torch.equal(short((source, target)), long((source, target)))


def test_dropout_is_of_training_alone_and_in_the_attention_too():
    model, inputs = build(f"{SMALL},dropout=0.5"), sentences()
    assert torch.equal(model(inputs), model(inputs))
    model.train()
    with torch.random.fork_rng(devices=[]):
        assert not torch.equal(model(inputs), model(inputs))
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.5}
    assert isinstance(model.decoder[0].source_attention.dropout, nn.Dropout)


def test_gradients_can_be_differentiated_again():
    model, (source, target) = build(), sentences()
    wanted = torch.randint(
        VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(1)
    )
    wanted[0, 4:] = -100
    params = list(model.parameters())
    direction = [torch.ones_like(p) / 50 for p in params]

    def gradients(graph):
        logits = model((source, target)).flatten(0, 1)
        loss = F.cross_entropy(logits, wanted.flatten())
        return torch.autograd.grad(loss, params, create_graph=graph)

    products = torch.autograd.grad(gradients(True), params, direction)
    step = 1e-5
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.add_(d, alpha=sign * step)
        ends.append(gradients(False))
        with torch.no_grad():
            for p, d in zip(params, direction, strict=True):
                p.add_(d, alpha=-sign * step)
    for product, up, down in zip(products, *ends, strict=True):
        # A kink of a ReLU between the two would show as a large error.
        torch.testing.assert_close(
            product, (up - down) / (2 * step), rtol=1e-4, atol=1e-7
        )


def test_padding_is_the_token_that_data_sets_pad_with():
    assert home.PAD == PAD != BOS


@pytest.mark.slow
def test_the_published_size_takes_a_step_and_an_evaluation():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS.build("translation_transformer", (100,), 32_000).train()
        inputs, targets = sentences(), torch.arange(12)
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
        losses = []
        for _ in range(2):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[1] < losses[0]
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        assert model.eval()(inputs).shape == (2, 6, 32_000)
