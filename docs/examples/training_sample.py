# %% [markdown]
# # One training, with and without SAM
#
# The notebook TrainingSample of the project on the minimum sharpness of learning algorithms (seed of the study `minimum_sharpness_cs439`), on data that everybody has:
# digits. With `STEPPE_DATA_DIR` it takes 500 images of Fashion-MNIST, and the two networks that the project published, where they are in that folder.
# The laboratory is needed: `pip install '.[lab]'` in a clone.

# %%
# %matplotlib inline
import os
from pathlib import Path

import torch

import steppe
from steppe import plots
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import read_network
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.analysis import objective_on
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe

folder = Path(os.environ.get("STEPPE_DATA_DIR", "."))
real = (folder / "fashion-mnist").is_dir()
shared = {
    "data": f"{'fashion_mnist' if real else 'digits'}:standardise=unit",
    "model": "small_cnn:batch_norm=true",
    "train_samples": 500,
    "test_fraction": 0.1 if real else 1.0,
    "base": "sgd:lr=0.1,momentum=0,weight_decay=0",
    "epochs": 20,
    "batch_size": 64,
    "lr_schedule": "constant",
    "stop_at_loss": 0.01,
    "stop_on": "running_perturbed_loss",
}
recipes = {"SGD": Recipe(**shared), "SAM": Recipe(**shared, optimizer="sam:rho=0.05")}
split = load_split(recipes["SGD"])
trained = {name: train(recipe, split) for name, recipe in recipes.items()}
for name, done in trained.items():
    print(f"{name}: {len(done.history)} epochs, {done.stopped or 'to the last'}")

# %% [markdown]
# ## Losses and accuracies
#
# The project ends a training where the loss of its steps is below 0.01, which for SAM is the loss at the perturbed weights. So SAM trains longer, or to a lower loss: flatness is
# compared at unlike losses unless one looks. The curves here are scored after each epoch, in eval mode.


# %% Loss on training and test samples by epoch, with SGD and with SAM.
def by_epoch(score):
    return {
        f"{name}, {part}": [[score(row, part) for row in done.history]]
        for name, done in trained.items()
        for part in ("train", "test")
    }


plots.curves(by_epoch(lambda row, part: row[f"{part}_loss"]), ylabel="loss")

# %% Accuracy on training and test samples by epoch, with SGD and with SAM.
plots.curves(
    by_epoch(lambda row, part: 100 - 100 * row[f"{part}_error"]), ylabel="accuracy, %"
)

# %% [markdown]
# ## Minimum sharpness
#
# Factors on the layers that cancel each other keep the function of a ReLU network and change the trace of its Hessian. Minimum sharpness is the smallest trace among all such
# factors. The trace is a sum over layers, exact here, from one backward pass for each class; factors move it between layers. Near a loss of 0 curvature shrinks with the loss, so the
# numbers of two networks say something of their minima only where the losses beside them are alike.

# %%
objectives = {
    name: objective_on(done.model, split, samples=300, seed=0)
    for name, done in trained.items()
}
smallest = {name: steppe.minimum_sharpness(each) for name, each in objectives.items()}
for name, each in smallest.items():
    print(
        f"{name}: loss {objectives[name].value().value:.3g}, trace as trained "
        f"{each.details['trace']:.4g}, minimum sharpness {each.value:.4g}"
    )

# %% Trace of the Hessian by tensor, with SGD and with SAM.
plots.grouped_bars(
    {name: steppe.layer_traces(each).by_tensor for name, each in objectives.items()},
    xlabel="trace of the Hessian, loss per squared parameter",
)

# %% [markdown]
# ## Its ingredients: the diagonal, and a descent
#
# The project keeps the diagonal of the Hessian. Most weights have next to no curvature, and a few have nearly all of it.

# %% Share of parameters whose curvature is below a value.
diagonals = {name: steppe.exact_diagonal(each) for name, each in objectives.items()}
shares = torch.linspace(0.02, 1, 50, dtype=torch.float64)
plots.series(
    {
        name: each.double().clamp(min=1e-12).quantile(shares).tolist()
        for name, each in diagonals.items()
    },
    (100 * shares).tolist(),
    xlabel="parameters up to this one, %",
    ylabel="diagonal entry",
)

# %% [markdown]
# The published code finds the factors by 10,000 steps of gradient descent with a step size of 0.001, which has not arrived when it stops. Where batch norm is counted as a layer
# without curvature, as in the project, the sum has no minimum at all: its values, 1e4 to 7e5, say how long the descent was. Newton's method takes a few steps to the exact minimum.

# %% Sum of the traces along the published descent, over the exact minimum.
runs = {
    name: steppe.minimum_sharpness(
        objectives["SGD"], solver="reference", lr=0.001, batch_norm=batch_norm
    )
    for name, batch_norm in (("every layer", "affine"), ("no batch norm", "ignored"))
}
steps = [step for step, _ in runs["every layer"].details["descent"]]
sums = {
    name: [value for _, value in run.details["descent"]] for name, run in runs.items()
}
sums["exact minimum"] = [smallest["SGD"].value] * len(steps)
plots.series(sums, steps, xlabel="step of the descent", ylabel="sum of the traces")

# %% [markdown]
# ## The published networks
#
# The project takes the log-softmax of its outputs over the **batch** (`dim=0`) in place of the classes. So the class of an image depends on which images are scored beside it: its
# published accuracies, 92.6 and 93.5 %, are those of batches of 1,000.

# %%
published = folder / "checkpoints" / "simple_batch"
for file in sorted(published.glob("*.pt")):
    belongs = Belongs("simple_batch", "fashion_mnist:standardise=unit")
    network = read_network(file, part="test", samples=2000, belongs=belongs)
    model, batches = network.objective.model.eval(), network.objective.batches
    with torch.no_grad():
        scores = torch.cat([model(x) for x, _ in batches])
    truth = torch.cat([y for _, y in batches])
    over = {"scores of their own": scores}
    for size in (1000, 10):
        parts = [each.log_softmax(0) for each in scores.split(size)]
        over[f"log-softmax over batches of {size}"] = torch.cat(parts)
    for words, each in over.items():
        share = 100 * (each.argmax(1) == truth).double().mean()
        print(f"{file.stem}, {words}: {share:.1f} % right")
if not published.is_dir():
    print(f"no {published}: set STEPPE_DATA_DIR to a folder that has it")
