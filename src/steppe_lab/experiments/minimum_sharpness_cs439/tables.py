"""The tables of results of the project: columns, rows, and statistics of them.

They have a row for each network and epoch: accuracies in percent, losses, the gap and
the minimum sharpness, whose empty cells are of trainings that diverged.
"""

from __future__ import annotations

import statistics as plain_statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steppe.errors import DataError
from steppe_lab.reproduction.published import Published
from steppe_lab.reproduction.verdicts import Ours, exactly
from steppe_lab.statistics import two_sample_ks, within_groups

CODE = "github.com/IrinaMBejan/OptimizationML"
TABLES = {
    "fashion_mnist": "tables/minimum_sharpness_fmnist.csv",
    "cifar10": "tables/minimum_sharpness_cifar10.csv",
}
GAP, SHARPNESS, SAM = "Generalization gap", "Sharpness", "Minimization"
ACCURACY = "Validation accuracy"
ADAPTIVE = ("Adam", "Adagrad", "AdaShift", "AdaBound")
MODELS = {
    "SimpleBatch": "simple_batch",
    "MiddleBatch": "middle_batch",
    "ComplexBatch": "complex_batch",
}
ROWS = {"plain": "standard", "sam": "SAM"}  # our words and those of the tables


def rows_of(folder: Path, data: str) -> dict[str, list[Any]]:
    """The table of a data set; a cell that is empty is None.

    Raises:
        DataError: another table.
    """
    from steppe_lab.studies.table_files import read_columns

    path = folder / TABLES[data]
    columns = read_columns(path)
    needed = (GAP, SHARPNESS, SAM, ACCURACY, "Optimizer", "Architecture", "epoch")
    for name in needed:
        if name not in columns:
            raise DataError(f"{path} must have a column {name}; take it from {CODE}.")
    return columns


def converged(columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows of the 36 networks that were trained until their loss was small."""
    return rows_where(columns, [epoch == "converged" for epoch in columns["epoch"]])


def rows_where(
    columns: Mapping[str, Sequence[Any]], kept: Sequence[bool]
) -> dict[str, list[Any]]:
    """The rows of a table that are kept."""
    return {
        name: [each for each, keep in zip(cells, kept, strict=True) if keep]
        for name, cells in columns.items()
    }


def check_correlations(folder: Path) -> dict[str, Ours]:
    """Kendall's tau of sharpness and gap, over all networks and within groups."""
    made = {}
    for data in TABLES:
        groups = within_groups(converged(rows_of(folder, data)), SHARPNESS, GAP, SAM)
        made[f"{data}/pooled"] = Ours(value=exactly(groups.value))
        for name, word in ROWS.items():
            made[f"{data}/{name}"] = Ours(value=exactly(groups.levels[word].value))
    return made


def check_distributions(folder: Path) -> dict[str, Ours]:
    """Adaptive optimizers and others, without SAM, at all epochs of both data sets."""
    tables = [rows_of(folder, data) for data in TABLES]
    both = {name: [each for t in tables for each in t[name]] for name in tables[0]}
    kept = [
        word == ROWS["plain"] and sharpness is not None
        for word, sharpness in zip(both[SAM], both[SHARPNESS], strict=True)
    ]
    table = {
        n: [c for c, keep in zip(both[n], kept, strict=True) if keep] for n in both
    }
    table["adaptive"] = [each in ADAPTIVE for each in table["Optimizer"]]
    return {
        name: Ours(value=exactly(two_sample_ks(table, column, "adaptive").p))
        for name, column in (("accuracy", ACCURACY), ("sharpness", SHARPNESS))
    }


def pairs(columns: Mapping[str, Sequence[Any]], column: str) -> list[tuple[float, ...]]:
    """A column without and with SAM, for each network and optimizer."""
    by_pair: dict[tuple[str, str], dict[str, float]] = {}
    names = zip(columns["Architecture"], columns["Optimizer"], strict=True)
    for pair, word, value in zip(names, columns[SAM], columns[column], strict=True):
        by_pair.setdefault(pair, {})[word] = value
    words = ROWS.values()
    return [tuple(each[w] for w in words) for each in by_pair.values() if len(each) > 1]


def check_wins(folder: Path) -> dict[str, Ours]:
    """Pairs in which SAM has the larger accuracy."""
    return {
        data: Ours(value=exactly(float(sum(sam > plain for plain, sam in both))))
        for data, both in _accuracies(folder)
    }


def check_gains(folder: Path) -> dict[str, Ours]:
    """Mean gain of accuracy over the pairs, in points."""
    return {
        data: Ours(value=exactly(plain_statistics.fmean(b - a for a, b in both)))
        for data, both in _accuracies(folder)
    }


def check_ratios(folder: Path) -> dict[str, Ours]:
    """Median over the pairs of sharpness without SAM over that with it."""
    made = {}
    for data in TABLES:
        both = pairs(converged(rows_of(folder, data)), SHARPNESS)
        ratio = plain_statistics.median(plain / sam for plain, sam in both)
        made[data] = Ours(value=exactly(ratio))
    return made


def check_ranges(folder: Path) -> dict[str, Ours]:
    """Largest accuracies, and the least and largest ones of each network."""
    made = {}
    for data in TABLES:
        table = converged(rows_of(folder, data))
        made[f"{data}/best"] = Ours(value=exactly(max(table[ACCURACY])))
        for word, model in MODELS.items():
            kept = [network == word for network in table["Architecture"]]
            own = rows_where(table, kept)[ACCURACY]
            for name, value in (("lowest", min(own)), ("highest", max(own))):
                made[f"{data}/{model}/{name}"] = Ours(value=exactly(value))
    return made


def _accuracies(folder: Path) -> Iterator[tuple[str, list[tuple[float, ...]]]]:
    for data in TABLES:
        yield data, pairs(converged(rows_of(folder, data)), ACCURACY)


def read_accuracies(path: Path) -> dict[str, Published]:
    """Published accuracies of the converged networks of a table, by cell."""
    (data,) = (name for name, file in TABLES.items() if path.name == Path(file).name)
    table = converged(rows_of(path.parents[1], data))
    words = {word: name for name, word in ROWS.items()}
    columns = ("Architecture", "Optimizer", SAM, ACCURACY)
    return {
        f"{data}/{MODELS[model]}/{optimizer.lower()}/{words[word]}": Published(
            value=accuracy
        )
        for model, optimizer, word, accuracy in zip(
            *(table[name] for name in columns), strict=True
        )
    }
