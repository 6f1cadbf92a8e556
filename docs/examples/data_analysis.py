# %% [markdown]
# # Optimizers, SAM and minimum sharpness: a table of networks
#
# The notebook DataAnalysis of the project on the minimum sharpness of learning algorithms: six optimizers with and without SAM, three networks, one seed. With the project's published
# table, `tables/minimum_sharpness_fmnist.csv` in the folder `STEPPE_DATA_DIR` or any file named on the command line, it is about those 36 networks. Without, it trains the smallest
# form of the same study on digits, which shows the figures and is too small to say anything. The laboratory is needed: `pip install '.[lab]'` in a clone.

# %%
# %matplotlib inline
import os
import subprocess
import sys
from pathlib import Path

from steppe import plots
from steppe_lab import statistics
from steppe_lab.reports.study.splits import ADAPTIVE
from steppe_lab.store.store import Store
from steppe_lab.studies.guessing import table_from
from steppe_lab.studies.parts import Parts
from steppe_lab.studies.stored import open_results
from steppe_lab.studies.table_files import read_columns

named = [Path(word) for word in sys.argv[1:] if word.endswith(".csv")]
folder = Path(os.environ.get("STEPPE_DATA_DIR", "."))
file = [*named, folder / "tables" / "minimum_sharpness_fmnist.csv"][0]
if file.exists():
    parts = Parts(
        gap="Generalization gap",
        factors=("Minimization", "Optimizer", "Architecture"),
        measures=("Sharpness",),
        where="epoch == converged",
    )
    columns = dict(table_from(file.stem, read_columns(file), parts).table.columns)
else:
    study = "minimum_sharpness_cs439", "--scale", "smoke", "--workers", "1"
    command = [sys.executable, "-m", "steppe_lab.cli", "study", "run", *study]
    subprocess.run(command, check=True, capture_output=True)
    rows = open_results(Store("steppe-runs")).table().columns
    columns = {
        "Minimization": [
            "standard" if o == "none" else "SAM" for o in rows["optimizer"]
        ],
        "Optimizer": [base.partition(":")[0] for base in rows["base"]],
        "Architecture": [model.partition(":")[0] for model in rows["model"]],
        "Sharpness": rows["minimum_sharpness"],
        "Generalization gap": rows["gap"],
        "Validation accuracy": [100 - 100 * error for error in rows["test_error"]],
    }
GAP, SHARPNESS, ERROR = "Generalization gap", "Sharpness", "validation error, %"
columns[ERROR] = [100 - accuracy for accuracy in columns["Validation accuracy"]]
networks = [dict(zip(columns, row)) for row in zip(*columns.values())]
print(f"{len(networks)} networks")


# %% [markdown]
# ## Optimizers, with and without SAM
#
# Error in place of accuracy, so that bars that begin at 0 differ where the networks do. One seed says nothing of the spread between seeds.


# %% Validation error of each optimizer and network, with and without SAM.
def by_name(column):
    return {
        kind: {
            f"{row['Optimizer']}, {row['Architecture']}": row[column]
            for row in networks
            if row["Minimization"] == kind
        }
        for kind in dict.fromkeys(columns["Minimization"])
    }


plots.grouped_bars(by_name(ERROR), xlabel=ERROR)

# %% Sharpness of each optimizer and network, with and without SAM.
plots.grouped_bars(by_name(SHARPNESS), xlabel="minimum sharpness")

# %% [markdown]
# ## Does sharpness go with the gap?
#
# Kendall's τ of each architecture stands in the legend. The notebook's τ of all networks, .50 on Fashion-MNIST, is carried by the difference between networks with and without SAM: inside
# of each of the two it is .03 and .18, with intervals that cover 0 (Simpson's paradox). Inside of the architectures it is larger than over all of them.

# %% Gap against minimum sharpness, a colour for each architecture.
groups = {}
for level in dict.fromkeys(columns["Architecture"]):
    own = [row for row in networks if row["Architecture"] == level]
    x, y = ([row[name] for row in own] for name in (SHARPNESS, GAP))
    tau = statistics.kendall({"x": x, "y": y}, "x", "y")
    groups[f"{level}, τ {tau.value:.2f}"] = (x, y)
plots.scatter(groups, xlabel="minimum sharpness", ylabel="gap, percentage points")

# %%
print(statistics.within_groups(columns, SHARPNESS, GAP, "Minimization"))
print()
print(statistics.within_groups(columns, SHARPNESS, GAP, "Architecture"))

# %% [markdown]
# What the settings alone predict, without any measurement: whether SAM was used has a larger τ with the gap of the published networks than their sharpness.

# %%
bars = statistics.baselines(columns, GAP, ["Minimization", "Optimizer", "Architecture"])
print(bars)

# %% [markdown]
# ## Adaptive optimizers against the others
#
# Boxes go from quartile to quartile; every network is a dot. The test of Kolmogorov and Smirnov asks whether two groups have one distribution. The notebook tests the rows of all epochs,
# in which one network comes up to five times; here each network counts once, and Holm's correction allows for both tests.


# %% Validation error of adaptive and other optimizers, with and without SAM.
def kind_of(row):
    return "adaptive" if row["Optimizer"].lower() in ADAPTIVE else "not adaptive"


def grouped(column):
    keys = sorted({(row["Minimization"], kind_of(row)) for row in networks})
    return {
        f"{kind}, {adaptive}": [
            row[column]
            for row in networks
            if (row["Minimization"], kind_of(row)) == (kind, adaptive)
        ]
        for kind, adaptive in keys
    }


plots.boxes(grouped(ERROR), xlabel=ERROR)

# %% Sharpness of adaptive and other optimizers, with and without SAM.
plots.boxes(grouped(SHARPNESS), xlabel="minimum sharpness")

# %%
plain = [row for row in networks if row["Minimization"] == "standard"]
tests = {}
for column in (ERROR, SHARPNESS):
    table = {column: [row[column] for row in plain], "kind": [*map(kind_of, plain)]}
    tests[column] = statistics.two_sample_ks(table, column, "kind")
adjusted = statistics.holm_adjusted({name: test.p for name, test in tests.items()})
for name, test in tests.items():
    sizes = f"{test.left_rows} and {test.right_rows} networks"
    print(f"{name}: {test!s}, {adjusted[name]:.2g} with Holm's correction, {sizes}")
