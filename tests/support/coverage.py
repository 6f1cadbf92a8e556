"""How often intervals of a measure cover the truth, over seeds."""

import torch

import problems
from steppe.measures import Measurement
from steppe.objective import Objective

ZERO = torch.zeros((1, 1), dtype=torch.float64)


def objective_of(model):
    """The loss that a model without data gives itself."""

    def loss(model, z):
        return model(z)

    return Objective(model, [ZERO], loss=loss)


def quadratic(matrix, start):
    """0.5 w' A w at a start, as an objective."""
    return objective_of(problems.Quadratic(matrix, start))


def coverage(measure, objective, truth, repeats):
    """Share of the 95 % intervals that cover, and the mean of the estimates."""
    found = [measure.within(Measurement(objective, seed)) for seed in range(repeats)]
    inside = 0
    for estimate in found:
        low, high = estimate.interval()
        inside += low <= truth <= high
    return inside / repeats, found
