# %% [markdown]
# # Which measure of flatness goes with the gap?
#
# The notebook gen_analysis of LPF-SGD: 2,916 networks, ten measures, Kendall's τ for each hyper-parameter and overall. Here it runs the smallest form of the same study, 16 networks on digits,
# which shows every step and decides nothing; a table named on the command line (`.csv` or `.parquet`, as `steppe study export` writes) is taken instead. The laboratory is needed:
# `pip install '.[lab]'` in a clone.

# %%
# %matplotlib inline
import math
import subprocess
import sys
from pathlib import Path
from statistics import pstdev

from rich.console import Console

from steppe import plots
from steppe_lab.datasets.loading import load_split
from steppe_lab.reports.study.latex import latex_rows
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.study.summary import summarise
from steppe_lab.reports.study.terminal import terminal_tables
from steppe_lab.statistics import kendall
from steppe_lab.statistics.intervals import mean_interval
from steppe_lab.store.store import Store
from steppe_lab.studies.guessing import table_from
from steppe_lab.studies.parts import Parts
from steppe_lab.studies.stored import open_results
from steppe_lab.studies.table_files import read_columns
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe


def study(name):
    """The table of a study that comes with steppe, at its smallest scale."""
    words = "study", "run", name, "--scale", "smoke", "--workers", "1"
    command = [sys.executable, "-m", "steppe_lab.cli", *words]
    subprocess.run(command, check=True, capture_output=True)
    return open_results(Store("steppe-runs"), f"{name}@smoke").table()


files = [Path(word) for word in sys.argv[1:] if word.endswith((".csv", ".parquet"))]
if files:
    table = table_from(files[0].stem, read_columns(files[0]), Parts()).table
else:
    table = study("bisla2022_grid")
summary = summarise(table)
for sentence in answer(summary):
    print(sentence)

# %% [markdown]
# ## τ overall and by hyper-parameter, beside the baseline
#
# The notebook prints τ of each measure and no interval, and no baseline. On the authors' own table the trivial predictor -lr/(batch size (1 - momentum)), which is known before any training,
# has τ = .66 with the gap and beats all eight measures, the best of which has .60. So a baseline of hyper-parameters alone stands in each report here, with the difference to it. Its "trace" is
# the sum of 100 Ritz values without their weights, which is no estimate of the trace; steppe has it under the name `ritz_sum`.

# %%
console = Console(width=100, file=sys.stdout)
for part in [*terminal_tables(summary, 100)][:3]:  # `steppe study report` prints all
    console.print(part, "")

# %% [markdown]
# The same as rows for LaTeX:

# %%
print(latex_rows(summary))

# %% [markdown]
# ## A measure against the gap
#
# As in the notebook, the measure is scaled to 0 to 1 over all networks. That changes no rank, and so no τ; it does change how a plot looks, above all where one network is far from the others.

# %% The measure with the largest τ, scaled from 0 to 1, against the gap.
best = summary.best_measure.name
values, gaps = table.columns[best], table.columns[table.gap]
low, high = min(values), max(values)
scaled = [(value - low) / (high - low) for value in values]
plots.scatter(
    {"": (scaled, gaps)}, xlabel=f"{best}, from least to largest", ylabel="gap"
)

# %% The logarithm of the measure with the largest τ against the gap.
logarithms = [math.log10(value) if value > 0 else math.nan for value in values]
plots.scatter({"": (logarithms, gaps)}, xlabel=f"{best}, log10", ylabel="gap")

# %% [markdown]
# ## Along the noise of labels, and along the width
#
# The notebook has one panel for each measure with τ in its title: of 10 levels of label noise, 20 of data noise and about 30 widths. It gives no interval there either, and τ of so few points
# is uncertain: where nothing goes together its standard deviation is .25 for 10 points and .16 for 20, so most differences between measures are noise.


# %% Mean of a measure along the share of noisy labels.
def panel(name, factor, column):
    rows = study(name).columns
    runs = {level: [] for level in sorted(set(rows[factor]))}
    for level, value in zip(rows[factor], rows[column]):
        runs[level].append(value)
    means = {level: mean_interval(own) for level, own in runs.items()}
    pairs = {"level": [*means], "mean": [each.mean for each in means.values()]}
    tau = kendall(pairs, "level", "mean").value
    ends = {level: (each.mean, each.low, each.high) for level, each in means.items()}
    words = f"{column}, τ = {tau:.2f}"
    return plots.levels(runs, intervals=ends, xlabel=factor, ylabel=words)


panel("bisla2022_label_noise", "label_noise", "lpf")

# %% Mean of a measure along the width of the network.
panel("bisla2022_width", "width", "lpf")

# %% [markdown]
# ## Cells of a table of errors
#
# The published cells are the error at the best epoch, chosen on the test set, plus or minus 1.96 standard deviations of the population over √n. With n = 3 such an interval covers the mean in
# three cases of four, not in 95 %; Student's t is 2.7 times as wide. And the best of many epochs is better than the last one by chance alone. Both are here, for three seeds on digits.

# %%
shared = {"data": "digits", "model": "small_cnn", "train_samples": 300, "epochs": 10}
shared["lr_schedule"] = "constant"
for name in ("sgd", "sam", "lpf_sgd"):
    optimizer = {"optimizer": None if name == "sgd" else name, "base": "sgd:lr=0.05"}
    recipes = [Recipe(**shared, **optimizer, seed=seed) for seed in range(3)]
    runs = [train(recipe, load_split(recipe)).history for recipe in recipes]
    errors = {
        "best epoch": [100 * min(row["test_error"] for row in run) for run in runs],
        "last epoch": [100 * run[-1]["test_error"] for run in runs],
    }
    for epoch, own in errors.items():
        mean, normal = mean_interval(own), 1.96 * pstdev(own) / len(own) ** 0.5
        print(
            f"{name:8} {epoch}: {mean.mean:.2f} ± {normal:.2f} as published, "
            f"± {mean.half_width:.2f} by Student's t"
        )
