# %% [markdown]
# # The sharpest directions along training
#
# Figures of "On the Relation Between the Sharpest Directions of DNN Loss and the SGD Step Length" (Jastrzebski et al., 2019): the largest eigenvalues of the Hessian along training, how gradients lie
# to their eigenvectors, what the parts of a step do, and cuts along them. On digits; with `STEPPE_DATA_DIR` on 300 images of Fashion-MNIST. The laboratory is needed: `pip install '.[lab]'` in a clone.

# %%
# %matplotlib inline
import math
import os
import tempfile
from pathlib import Path

import torch

import steppe
from steppe import plots
from steppe.tracking.cuts import read_cuts
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.analysis import objective_on
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe

K, LR, BATCH = 4, 0.1, 32
real = (Path(os.environ.get("STEPPE_DATA_DIR", ".")) / "fashion-mnist").is_dir()
shared = {
    "data": "fashion_mnist" if real else "digits",
    "model": "small_cnn:width=8",
    "train_samples": 300,
    "test_fraction": 0.05 if real else 1.0,
    "lr_schedule": "constant",
    "l2": 1e-4,
}
steps = {"base": f"sgd:lr={LR},momentum=0", "batch_size": BATCH}
track = f"spectrum:k={K},samples=200,every=1epoch"
recipe = Recipe(**shared, **steps, epochs=15, track=track)
split = load_split(recipe)
done = train(recipe, split)
rows = done.results["tracked"]
epochs = [row["epoch"] for row in rows]
print(", ".join(name for name in rows[-1] if "/" not in name))

# %% [markdown]
# ## Eigenvalues and accuracy
#
# The largest eigenvalue rises while the network learns, up to about where steps of SGD are as long as the valley is wide (2 / learning rate for the gradient of all samples); in long trainings it falls later. The published code searches eigenvalues anew at each epoch,
# without a tolerance, at the cost of five to nine epochs of training each time; here each search begins with the vectors of the last one. L2 is a part of the loss, in the Hessian too, as there.

# %% The largest eigenvalues of the Hessian by epoch, and the accuracy.
accuracy = [100 - 100 * row.get("train_error", math.nan) for row in rows]
plots.eigenvalues(
    epochs,
    [[row[f"top_K_e/{i}"] for i in range(K)] for row in rows],
    beside=("training accuracy, %", accuracy),
)

# %% [markdown]
# ## Where gradients point
#
# Mean cosine, without its sign, of the gradients of an epoch's batches with each eigenvector. A random direction would have 1/√D. A few directions of tens of thousands hold much of the gradient,
# and the step crosses the valley along them more than it descends.

# %% Mean size of the cosine of batch gradients with the sharpest directions, by epoch.
size = sum(p.numel() for p in done.model.parameters())
cosines = {
    f"direction {i + 1}": [row.get(f"alig/{i}_abs_mean", math.nan) for row in rows]
    for i in range(K)
}
cosines["random"] = [math.sqrt(2 / (math.pi * size))] * len(rows)
plots.series(cosines, epochs, xlabel="epoch", ylabel="|cosine|")

# %% [markdown]
# ## A step in parts
#
# Only the part of SGD's step along one direction is taken, at several lengths, from a network in the middle of training, and the change of the loss is averaged over ten batches. Along the sharpest
# direction a step of the usual length (1) is longer than the best one: the loss falls most for a shorter step, or rises. The whole step lowers the loss in spite of that.

# %% Change of the loss by parts of a step, against the length of the step.
middle = train(Recipe(**shared, **steps, epochs=5), split).model
tracker = steppe.SpectrumTracker(objective_on(middle, split, samples=200, seed=0), k=2)
tracker.measure()
batches = split.train.batches(BATCH)
gradients = []
for x, y in [batch for batch, _ in zip(batches, range(10))]:
    loss = torch.nn.functional.cross_entropy(middle(x), y)
    grads = torch.autograd.grad(loss, list(middle.parameters()))
    gradients.append(torch.cat([g.flatten() for g in grads]))
parts = tracker.decompose(torch.stack(gradients), LR)
words = {
    "0": "direction 1",
    "1": "direction 2",
    "random": "random",
    "step": "whole step",
}
plots.series(
    {words[name]: changes for name, changes in parts["changes"].items()},
    parts["factors"],
    xlabel="length, of a step of SGD",
    ylabel="change of the loss",
    zero=0.0,
)

# %% [markdown]
# ## Learning rate and batch size
#
# The noise of SGD is about its learning rate over its batch size. The larger it is, the flatter the region that training goes through: the largest eigenvalue on the way, for three of each. See it among networks that have learnt, with the smallest batch.
# One seed each, and as many epochs: large batches and small learning rates have learnt little by then, and their eigenvalue is still that of an untrained network.

# %% The largest eigenvalue on the way, by learning rate and batch size.
grid = {}
for lr in (0.2, 0.1, 0.05):
    grid[lr] = {}
    for batch_size in (8, 32, 128):
        one = Recipe(
            **shared,
            base=f"sgd:lr={lr},momentum=0",
            batch_size=batch_size,
            epochs=10,
            track="spectrum:k=1,samples=100,every=2epochs",
        )
        tracked = train(one, split).results["tracked"]
        grid[lr][batch_size] = max(row["SN"] for row in tracked)
plots.tiles(
    grid, xlabel="batch size", ylabel="learning rate", label="largest eigenvalue"
)

# %% [markdown]
# ## Cuts along the sharpest direction
#
# The loss along the first eigenvector after some epochs. A unit is the mean length of a step of SGD along it, so that ±1 is where the next step leads; coordinates go by powers of two, as published.

# %% Loss along the sharpest direction after several epochs, in lengths of a step.
track = "cuts:k=1,samples=200,every=3epochs"
cut = Recipe(**shared, **steps, epochs=9, track=track)
with tempfile.TemporaryDirectory() as place:
    train(cut, split, folder=Path(place))
    found = read_cuts(Path(place) / "track")[0]
near = {f"epoch {each.details['epoch']:g}": [each] for each in found}
plots.lines(near, xlabel="steps of SGD along the direction")
