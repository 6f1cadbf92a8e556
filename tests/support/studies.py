"""Synthetic tables of studies, and statistics of pairs by brute force."""

import itertools
import math

import numpy as np


def sign(value):
    return int(value > 0) - int(value < 0)


def tau_by_pairs(x, y, pairs=None):
    """Tau-b by its definition, pair by pair in pure Python."""
    pairs = itertools.combinations(range(len(x)), 2) if pairs is None else pairs
    signs = [(sign(x[i] - x[j]), sign(y[i] - y[j])) for i, j in pairs]
    first, second = (sum(s[k] != 0 for s in signs) for k in (0, 1))
    if not first * second:
        return math.nan
    return sum(a * b for a, b in signs) / math.sqrt(first * second)


def ties_and_clusters(seed, most=40):
    """Columns with ties, and clusters of unlike size, as arrays."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(2, most))
    x = generator.integers(0, 6, n).astype(float)
    y = generator.integers(0, 9, n).astype(float)
    clusters = np.unique(generator.integers(0, max(n // 2, 1), n), return_inverse=True)
    return x, y, clusters[1]


def correlated(generator, rows, seeds, tau, ties=0.0, shared=0.7):
    """Normal values of a measure and a gap with a tau-b, and their configurations.

    Args:
        generator: of numpy.
        rows: of the table.
        seeds: rows of a configuration, which share a part of their values.
        tau: of the normal values.
        ties: values are rounded to multiples of 1 / ties; 0 leaves them.
        shared: of the variance, between the seeds of a configuration.
    """
    r = math.sin(math.pi * tau / 2)
    clusters = np.arange(rows) // seeds

    def pairs(count):
        a, b = generator.standard_normal((2, count))
        return np.stack([a, r * a + math.sqrt(1 - r * r) * b])

    part = shared if seeds > 1 else 1.0
    values = math.sqrt(part) * pairs(clusters[-1] + 1)[:, clusters]
    values += math.sqrt(1 - part) * pairs(rows)
    if ties:
        values = np.round(values * ties) / ties
    return {"measure": values[0], "gap": values[1], "configuration": clusters}


def grid(factors, seeds=1):
    """Columns of a full grid, one row per configuration and seed."""
    rows = list(itertools.product(*factors.values(), range(seeds)))
    names = [*factors, "seed"]
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
