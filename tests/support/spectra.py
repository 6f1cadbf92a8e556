"""A small network in a checkpoint, and its whole spectrum by dense autograd."""

import torch
from torch.func import functional_call

from steppe_lab.datasets.loading import load_split
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe

SAMPLES = 60


def recipe(model="mlp:hidden=2,depth=1", **more):
    """Of a network with 160 parameters, as a rule."""
    settings = {"data": "digits", "model": model, "train_samples": SAMPLES}
    return Recipe.model_validate(
        {**settings, **read_optimizer("sam:rho=0.1", "sgd"), **more}
    )


def saved(path, made=None):
    """A checkpoint with initial weights; gives its path."""
    made = recipe() if made is None else made
    split = load_split(made)
    model = build_model(made, split.in_shape, len(split.classes))
    contents = checkpoints.to_bytes(
        model, made, split.in_shape, len(split.classes), split.fingerprint
    )
    path.write_bytes(contents)
    return path


def dense_hessian(model, inputs, targets):
    """All second derivatives of the mean cross-entropy, in float64."""
    named = {name: p.detach().double() for name, p in model.named_parameters()}
    sizes = [p.numel() for p in named.values()]

    def loss(flat):
        pieces = flat.split(sizes)
        at = {n: v.view_as(p) for (n, p), v in zip(named.items(), pieces)}
        logits = functional_call(model, at, (inputs.double(),))
        return torch.nn.functional.cross_entropy(logits, targets)

    whole = torch.cat([p.flatten() for p in named.values()])
    return torch.autograd.functional.hessian(loss, whole)


def by_tensor(model, diagonal):
    """Sums of the diagonal over each tensor, by name."""
    sizes = [p.numel() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    return {n: float(part.sum()) for n, part in zip(names, diagonal.split(sizes))}
