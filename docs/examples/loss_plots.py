# %% [markdown]
# # Surfaces and spectra, SGD against SAM
#
# The pictures of the project on SAM across domains (its notebook Loss_plots, `plot_surface.py` and the densities of its PyHessian), on digits. With `STEPPE_DATA_DIR` it
# takes the two graph networks that the project published as well, where they are in that folder. The laboratory is needed: `pip install '.[lab]'` in a clone, and `'.[graphs]'` for the graphs.

# %%
# %matplotlib inline
import os
from pathlib import Path

import steppe
from steppe import plots
from steppe_lab.analysis.foreign import Belongs
from steppe_lab.analysis.single import read_network
from steppe_lab.datasets.loading import load_split
from steppe_lab.runs.analysis import objective_on
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe

folder = Path(os.environ.get("STEPPE_DATA_DIR", "."))
shared = {
    "data": "digits",
    "model": "small_cnn:width=8",
    "train_samples": 500,
    "base": "sgd:lr=0.05",
    "epochs": 20,
    "label_smoothing": 0.1,
    "scored_loss": "trained",
}
recipes = {"SGD": Recipe(**shared), "SAM": Recipe(**shared, optimizer="sam:rho=0.1")}
split = load_split(recipes["SGD"])
trained = {name: train(recipe, split) for name, recipe in recipes.items()}
for name, done in trained.items():
    last = done.history[-1]
    print(f"{name}: {100 - 100 * last['test_error']:.1f} % of the test samples right")

# %% [markdown]
# ## The training log
#
# The project trains with smoothed labels and logs the smoothed loss, so that its losses do not go to 0; here both are drawn in that loss, too.

# %% Smoothed loss on training and test samples by epoch, with SGD and with SAM.
plots.curves(
    {
        f"{name}, {part}": [[row[f"{part}_loss"] for row in done.history]]
        for name, done in trained.items()
        for part in ("train", "test")
    },
    ylabel="loss, smoothed",
)

# %% [markdown]
# ## The loss around both networks
#
# Both planes have directions whose filters are as long as those of the network, and one scale, so that they can be compared. The project's commands ask for 20 points on each axis: an even
# number, whose grid has no point at the network itself, so that the minimum is not in its pictures. Its grids are evaluated on batches that are averaged with equal weights; here every
# sample weighs alike, and the footer says how sure the values are.

# %%
objectives = {
    name: objective_on(done.model, split, samples=200, seed=0)
    for name, done in trained.items()
}
surfaces = {
    name: steppe.landscape(
        each, steppe.Plane.random(each.model), x=(-1, 1, 17), y=(-1, 1, 17)
    )
    for name, each in objectives.items()
}
print(plots.alt(surfaces))

# %% Contours of the loss around the networks of SGD and SAM.
plots.contour(surfaces)

# %% The same with the space between the lines filled.
plots.contourf(surfaces)

# %% The same as cells around each point.
plots.heat(surfaces)

# %% The same as surfaces in three dimensions.
plots.surface3d(surfaces)

# %% [markdown]
# ## The spectrum of the Hessian
#
# Both densities on one axis; marks are the largest and smallest eigenvalues. In the project's copy of PyHessian every node of the quadrature has the weight 1 (the first components of all
# eigenvectors are squared and summed, not those of each), so that its densities are histograms of the nodes and not of the eigenvalues: the peak at 0, where nearly all eigenvalues are, is
# far too low in them. Its largest eigenvalues are not touched by that.

# %% Density of the Hessian's eigenvalues, SGD and SAM.
spectra = {
    name: steppe.spectrum(steppe.Hessian(each), steps=25, k=3)
    for name, each in objectives.items()
}
for name, each in spectra.items():
    print(f"{name}: largest {float(each.top.values[0]):.4g}, trace {each.trace}")
plots.density(spectra)

# %% [markdown]
# ## The published graph networks
#
# Two networks that the project trained on Mutagenicity, read from its files. It prints 136 for the largest eigenvalue of Adam's network and 25.8 for SAM's, each on one batch.

# %% Density of the Hessian's eigenvalues of the published graph networks.
published = {
    name: folder / "checkpoints" / "graphs" / f"model_gcn_{file}.pt"
    for name, file in (("Adam", "ADAM"), ("SAM of Adam", "SAM_rho0.01"))
}
belongs = Belongs("gcn", "tudataset:name=Mutagenicity")
graphs = {
    name: read_network(file, part="train", samples=50, belongs=belongs).objective
    for name, file in published.items()
    if file.exists()
}
spectra = {
    name: steppe.spectrum(steppe.Hessian(each), steps=15, k=1, draws=2)
    for name, each in graphs.items()
}
for name, each in spectra.items():
    loss = graphs[name].value().value
    print(f"{name}: loss {loss:.3g}, largest {float(each.top.values[0]):.4g}")
plots.density(spectra) if spectra else print(f"no {published['Adam']}")
