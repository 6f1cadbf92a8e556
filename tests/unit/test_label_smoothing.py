"""Label smoothing against torch, the published code, and dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import steppe
from steppe.errors import DataError, SettingError
from steppe.losses import LabelSmoothing

FORMS = ("others", "all")


def logits_and_targets(classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (7,), generator=generator)


def published(logits: torch.Tensor, classes: torch.Tensor, s: float) -> torch.Tensor:
    """The divergence as the code of SAM's ports and of GSAM computes it."""
    targets = torch.full_like(logits, s / (logits.shape[1] - 1))
    targets.scatter_(1, classes.unsqueeze(1), 1 - s)
    return F.kl_div(F.log_softmax(logits, 1), targets, reduction="none").sum(1)


def model_and_data() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    return model, (torch.randn(9, 3).double(), torch.randint(3, (9,)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_over_the_others_it_is_the_published_divergence(smoothing):
    logits, classes = logits_and_targets()
    losses = LabelSmoothing(smoothing, form="others")(logits, classes)
    torch.testing.assert_close(
        losses, published(logits, classes, smoothing), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_over_all_it_is_that_of_torch(smoothing):
    logits, classes = logits_and_targets()
    losses = LabelSmoothing(smoothing, form="all")(logits, classes)
    wanted = F.cross_entropy(
        logits, classes, reduction="none", label_smoothing=smoothing
    )
    assert torch.equal(losses, wanted)


def test_the_forms_have_the_gradients_that_their_relation_says_and_differ():
    logits, classes = logits_and_targets()
    logits.requires_grad_()

    def gradient(loss: nn.Module) -> torch.Tensor:
        return torch.autograd.grad(loss(logits, classes).sum(), logits)[0]

    others = gradient(LabelSmoothing(0.1, form="others"))
    torch.testing.assert_close(others, gradient(LabelSmoothing(0.125, form="all")))
    assert (others - gradient(LabelSmoothing(0.1, form="all"))).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_ignored_targets_are_no_terms_of_sequences(form):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4, (3, 6), generator=generator)
    tokens[0, 2:] = -100
    model = nn.Sequential(nn.Embedding(4, 5), nn.Linear(5, 4)).double()
    inputs = torch.randint(4, (3, 6), generator=generator)
    objective = steppe.Objective(
        model, (inputs, tokens), LabelSmoothing(0.2, form=form)
    )
    counted = tokens != -100
    rows = LabelSmoothing(0.2, form=form)(model(inputs)[counted], tokens[counted])
    torch.testing.assert_close(objective.losses(), rows.detach())
    assert objective.count() == int(counted.sum()) == 14


@pytest.mark.parametrize("form", FORMS)
def test_matrices_are_those_of_the_smoothed_loss(form):
    model, (inputs, classes) = model_and_data()
    loss = LabelSmoothing(0.3, form=form)
    objective = steppe.Objective(model, (inputs, classes), loss, batch_size=4)
    flat = torch.cat([p.detach().flatten() for p in objective.params])

    def mean(vector: torch.Tensor) -> torch.Tensor:
        pieces = torch.split(vector, [p.numel() for p in objective.params])
        named = {
            n: piece.view_as(p)
            for n, p, piece in zip(
                objective.names, objective.params, pieces, strict=True
            )
        }
        outputs = torch.func.functional_call(model, named, (inputs,))
        if form == "others":
            return published(outputs, classes, 0.3).mean()
        return F.cross_entropy(outputs, classes, label_smoothing=0.3)

    eye = torch.eye(len(flat)).double()
    H = torch.func.jacrev(torch.func.jacrev(mean))(flat)
    torch.testing.assert_close(steppe.Hessian(objective) @ eye, H)
    plain = steppe.Objective(model, (inputs, classes))
    assert (steppe.Hessian(plain) @ eye - H).abs().max() > 1e-3
    # Smoothed targets sum to 1, so that the curvature in the logits is the same.
    G = steppe.GGN(objective) @ eye
    torch.testing.assert_close(G, steppe.GGN(plain) @ eye)
    torch.testing.assert_close(steppe.Fisher(objective) @ eye, G)


def test_results_say_the_smoothing_and_that_of_torch_too():
    model, data = model_and_data()
    ours = steppe.Objective(model, data, LabelSmoothing(0.1, form="others"))
    assert ours.details["loss"] == "LabelSmoothing(smoothing=0.1, form='others')"
    for smoothing, name in ((0.2, "(label_smoothing=0.2)"), (0.0, "")):
        loss = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
        theirs = steppe.Objective(model, data, loss)
        assert theirs.details["loss"] == f"CrossEntropyLoss{name}"


def test_misuse_is_refused():
    logits, classes = logits_and_targets()
    with pytest.raises(SettingError, match="smoothing must be >= 0 and < 1, got 1"):
        LabelSmoothing(1.0, form="others")
    with pytest.raises(SettingError, match="form must be"):
        LabelSmoothing(0.1, form="torch")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"at most 1 - 1 / classes .* 5 classes"):
        LabelSmoothing(0.81, form="others")(logits, classes)
    with pytest.raises(SettingError, match="with 1 classes"):
        LabelSmoothing(0.1, form="others")(logits[:, :1], classes * 0)
    with pytest.raises(DataError, match="needs one class for each target"):
        LabelSmoothing(0.1, form="all")(logits, logits.softmax(1))
