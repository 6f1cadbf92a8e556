"""The same numbers from PyHessian and curvlinops, called as their documents say.

PyHessian 0.1 calls `torch.eig`, which torch no longer has: its density runs here with
the symmetric solver in that place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any
from unittest import mock

import curvlinops
import numpy as np
import pyhessian
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.problems import Problem

VERSIONS = {
    name: version(name) for name in ("PyHessian", "curvlinops-for-pytorch", "scipy")
}


@contextmanager
def fit() -> Iterator[None]:
    """What both need of torch: kernels with a double backward, and `torch.eig`."""

    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        del eigenvectors
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    with (
        sdpa_kernel(SDPBackend.MATH),
        mock.patch.object(torch, "eig", eig, create=True),
    ):
        yield


def pyhessian_of(of: Problem) -> Any:
    return pyhessian.hessian(of.model, nn.CrossEntropyLoss(), (of.x, of.y), cuda=False)


def pyhessian_top(hessian: Any, k: int, tol: float) -> list[float]:
    values, _ = hessian.eigenvalues(
        maxIter=1000 if tol < 1e-3 else 100, tol=tol, top_n=k
    )
    return sorted(values, reverse=True)


def curvlinops_of(of: Problem) -> curvlinops.HessianLinearOperator:
    data = [(of.x, of.y)]
    return curvlinops.HessianLinearOperator(
        of.model, nn.CrossEntropyLoss(), of.params(), data
    )


def curvlinops_top(operator: Any, k: int) -> list[float]:
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    values = eigsh(
        operator.to_scipy(), k=k, which="LA", v0=start, return_eigenvectors=False
    )
    return sorted(values.tolist(), reverse=True)


def curvlinops_density(operator: Any, steps: int) -> tuple[Any, Any]:
    cached = curvlinops.LanczosApproximateSpectrumCached(operator, steps)
    return cached.approximate_spectrum(num_repeats=1)


def curvlinops_trace(operator: Any, products: int) -> Tensor:
    return curvlinops.xtrace(operator, products)


def pyhessian_product(of: Problem) -> None:
    pyhessian_of(of).eigenvalues(maxIter=2, top_n=1)


def curvlinops_product(of: Problem) -> None:
    operator = curvlinops_of(of)
    operator @ torch.randn(operator.shape[1])
