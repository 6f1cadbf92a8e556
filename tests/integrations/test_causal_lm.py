"""Causal language models of Hugging Face: the loss, its derivatives, its refusals."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import steppe
from integrations.harness import run_page
from steppe.errors import DataError, SettingError
from steppe.integrations.causal_lm import causal_lm_objective

transformers = pytest.importorskip("transformers")
SIZES = {"vocab_size": 7, "bos_token_id": 0, "eos_token_id": 0}


def gpt2(**more):
    config = {"n_positions": 6, "n_embd": 4, "n_inner": 4, "n_layer": 1, "n_head": 2}
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**SIZES, **config, **more)
    )


def llama(**more):
    config = {"hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "max_position_embeddings": 6}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, **config, **heads, **more)
    )


@pytest.fixture(params=[gpt2, llama])
def model(request):
    torch.manual_seed(0)
    made = request.param().eval()
    # Llama takes its norms in float32, whatever its weights are.
    return made.double() if request.param is gpt2 else made


@pytest.fixture
def batches():
    """Two batches of unlike numbers of tokens, one of them with padding and labels."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 7, (5, 6), generator=generator)
    mask = torch.ones(2, 6, dtype=torch.long)
    mask[0, 3:], mask[1, :2] = 0, 0  # on the right, and on the left
    padded = {"input_ids": ids[3:], "attention_mask": mask}
    labels = ids[:3].clone()
    labels[1, :4] = -100  # a prompt
    return [{"input_ids": ids[:3], "labels": labels}, padded]


def mean_per_token(model, batches):
    """Minus the log-probabilities of next tokens by hand, and their number.

    The model's own loss rounds its logits to float32.
    """
    total, tokens = 0.0, 0
    for batch in batches:
        labels = batch.get("labels")
        if labels is None:
            labels = batch["input_ids"].where(batch["attention_mask"] > 0, -100)
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits
        chances = logits[:, :-1].log_softmax(2)
        following = labels[:, 1:, None]
        chosen = chances.gather(2, following.clamp(min=0))
        total = total - (chosen * (following >= 0)).sum()
        tokens += int((following >= 0).sum())
    return total / tokens, tokens


def dense_hessian(model, batches):
    """Row by row by autograd, through the model's own loss."""
    named = dict(model.named_parameters())

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self):
            return mean_per_token(self.net, batches)[0]

    whole = Whole()
    flat = torch.cat([p.detach().flatten() for p in named.values()])

    def loss(vector):
        parts = vector.split([p.numel() for p in named.values()])
        shaped = {
            f"net.{n}": part.view_as(p)
            for part, (n, p) in zip(parts, named.items(), strict=True)
        }
        return functional_call(whole, shaped, ())

    with sdpa_kernel(SDPBackend.MATH):
        return torch.autograd.functional.hessian(loss, flat, vectorize=True)


@pytest.mark.slow
def test_the_loss_and_its_curvature_are_those_of_the_model_token_by_token(
    model, batches
):
    objective = causal_lm_objective(model, batches)
    loss, tokens = mean_per_token(model, batches)
    assert objective.count() == tokens
    assert objective.value().value == pytest.approx(loss.item(), rel=1e-6)
    dense = dense_hessian(model, batches)
    H = steppe.Hessian(objective)
    near = 1e-8 if dense.dtype == torch.float64 else 1e-4
    top = steppe.eigsh(H, k=2, tol=near / 100).values
    expected = torch.linalg.eigvalsh(dense.double()).flip(0)[:2]
    torch.testing.assert_close(top, expected, rtol=near, atol=0)
    columns = torch.eye(len(dense), 8, dtype=dense.dtype)
    torch.testing.assert_close(H @ columns, dense[:, :8], rtol=near, atol=near)
    estimate = steppe.trace(H, rtol=0.2)
    assert abs(estimate.value - dense.trace().item()) < 4 * estimate.stderr


def test_one_batch_is_what_the_model_calls_its_loss(model):
    ids = torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(0))
    encoded = transformers.BatchEncoding({"input_ids": ids})
    expected = model(input_ids=ids, labels=ids).loss.item()
    for data in (ids, encoded, [encoded], torch.utils.data.DataLoader(ids, 2)):
        objective = causal_lm_objective(model, data, batch_size=2)
        assert objective.value().value == pytest.approx(expected, rel=1e-6)
        assert objective.count() == 25


def test_gauss_newton_and_fisher_matrices_exist_and_agree(model, batches):
    objective = causal_lm_objective(model, batches)
    ggn, fisher = steppe.GGN(objective), steppe.Fisher(objective)
    v = torch.ones(ggn.shape[0], dtype=model.dtype)
    torch.testing.assert_close(ggn @ v, fisher @ v, rtol=1e-4, atol=1e-5)


def test_the_model_is_left_as_it_was_found(model, batches):
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.train()
    steppe.measure(causal_lm_objective(model, batches), ["lpf:samples=2"])
    assert model.training
    assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a text", "must be token ids or tokenized batches, got 'a text'; give token"),
        ({"input_ids": [[1, 2]]}, r"whole numbers of shape \(sequences, tokens\)"),
        ([{"labels": torch.ones(2, 3)}], "must have input_ids"),
        (torch.rand(2, 3), "must have input_ids, whole numbers"),
        (torch.ones(3, 1, dtype=torch.long), "must have 2 tokens"),
        (
            {"input_ids": torch.ones(2, 3).long(), "labels": torch.ones(2, 2).long()},
            r"the shape of input_ids, \(2, 3\), got \(2, 2\)",
        ),
    ],
)
def test_data_without_next_tokens_are_refused(data, sentence):
    with pytest.raises(DataError, match=sentence):
        causal_lm_objective(torch.nn.Linear(1, 1), data)


def test_attention_without_second_derivatives_and_encoders_are_refused():
    model = gpt2()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(SettingError, match="attn_implementation='sdpa' or 'eager'"):
        causal_lm_objective(model, torch.ones(2, 3).long())
    model.config = transformers.T5Config()
    with pytest.raises(SettingError, match="has an encoder"):
        causal_lm_objective(model, torch.ones(2, 3).long())


@pytest.mark.slow
def test_the_three_lines_of_the_page_run():
    names = run_page("Measuring a language model of Hugging Face")
    assert names["objective"].count() == int(names["mask"][:, 1:].sum())
