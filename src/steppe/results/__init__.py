"""Frozen results: a value with its error, its cost and its settings."""

from steppe.cost import Cost
from steppe.results.barriers import Barriers
from steppe.results.comparison import Comparison, Difference
from steppe.results.comparisons import Comparisons
from steppe.results.diagonal import Diagonal
from steppe.results.eigenpairs import Eigenpairs
from steppe.results.estimate import Estimate, joint_samples
from steppe.results.estimates import Estimates
from steppe.results.quadrature import Measure, Quadrature, spread
from steppe.results.spectrum import Spectrum

__all__ = [
    "Barriers",
    "Comparison",
    "Comparisons",
    "Cost",
    "Diagonal",
    "Difference",
    "Eigenpairs",
    "Estimate",
    "Estimates",
    "Measure",
    "Quadrature",
    "Spectrum",
    "joint_samples",
    "spread",
]
