"""The loop that the authors of minimum sharpness published, for comparison.

Source: Ibayashi et al., 2021, arXiv:2106.12612, and their code. It ends above the
minimum that `geometric_program.solve` computes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from steppe.errors import UsageError
from steppe.linalg.geometric_program import Solution, Term, check_traces, exponents

SHOWN = 200  # steps of the path that are kept, about


def descend(
    terms: Sequence[Term], order: Sequence[int], lr: float = 0.1, epochs: int = 10_000
) -> Solution:
    """Gradient descent on the logarithms of factors of layers.

    With traces that are scaled to the sum 1, the step size of epoch e is
    lr / (1 + e / 1000). It ends after all epochs, wherever it is. The path has the sum
    before the first step, and after every so many, about 200 in all.

    Args:
        terms: what is added up.
        order: the streams between the layers of a chain, from the first to the last.
        lr: step size at the start.
        epochs: steps.

    Raises:
        SettingError: a trace that is negative or not finite.
        UsageError: it diverges.
    """
    check_traces(terms)
    total = sum(term.trace for term in terms) or 1.0
    shares = torch.tensor(
        [t.trace / total for t in terms], dtype=torch.float64, device="cpu"
    )
    # A stream's scale is the product of the factors of all layers before it.
    products = torch.ones(
        len(order), len(order), dtype=torch.float64, device="cpu"
    ).tril()
    powers = exponents(terms, len(order) + 1)[:, list(order)] @ products
    t = torch.zeros(len(order), dtype=torch.float64, device="cpu")
    every = math.ceil(epochs / SHOWN)
    path = []
    for epoch in range(epochs):
        if epoch % every == 0:
            path.append((epoch, float((shares * torch.exp(powers @ t)).sum()) * total))
        slope = powers.T @ (shares * torch.exp(powers @ t))
        t = t - lr / (1 + 1e-3 * epoch) * slope  # the decay of the published loop
    parts = shares * torch.exp(powers @ t)
    value = float(parts.sum()) * total
    if not math.isfinite(value):
        raise UsageError(
            f"the published loop diverges with lr={lr}; give a smaller one, or use the "
            "solver 'newton', which has none."
        )
    scales = torch.ones(len(order) + 1, dtype=torch.float64, device="cpu")
    scales[list(order)] = (products @ t).exp()
    slope = (powers.T @ parts).norm() / parts.sum()
    done = bool(slope <= 1e-3)
    path.append((epochs, value))
    return Solution(value, tuple(scales.tolist()), epochs, done, tuple(path))
