"""Arithmetic of operators against that of dense matrices."""

import sys

import numpy as np
import pytest
import torch
from scipy.sparse import linalg as sparse

import problems
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.errors import SettingError, UsageError
from steppe.linalg.lanczos import eigsh
from steppe.linalg.operators import Identity, operator

A = problems.symmetric([3.0, 1.0, -0.5, 0.25])
B = problems.symmetric([2.0, 1.5, 1.0, -4.0], seed=1)
V = torch.randn(4, 3, dtype=torch.float64, generator=problems.generator())
ONE = torch.eye(4, dtype=torch.float64)
EYE = Identity(4, dtype=torch.float64)
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def closure(matrix):
    return operator(lambda v: matrix @ v, 4, dtype=torch.float64)


FORMULAS = {
    "scaled": (lambda H, eye: 2 * H, 2 * A),
    "scaled by numpy": (lambda H, eye: np.float64(2) * H, 2 * A),
    "scaled by a tensor": (lambda H, eye: torch.tensor(2.0) * H, 2 * A),
    "divided": (lambda H, eye: H / 4, A / 4),
    "negative": (lambda H, eye: -H, -A),
    "damped": (lambda H, eye: 2 * H + 0.1 * eye, 2 * A + 0.1 * ONE),
    "sum with dense": (lambda H, eye: H + B, A + B),
    "dense sum": (lambda H, eye: B + H, A + B),
    "difference": (lambda H, eye: H - 3 * eye, A - 3 * ONE),
    "dense difference": (lambda H, eye: B - H, B - A),
    "nested": (lambda H, eye: -(H + (H - B) / 2) * 3, -(A + (A - B) / 2) * 3),
    "transposed": (lambda H, eye: H.T, A),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_those_of_dense_matrices(name):
    formula, dense = FORMULAS[name]
    H = formula(closure(A), EYE)
    torch.testing.assert_close(H @ V, dense @ V, **CLOSE)
    torch.testing.assert_close(H @ V[:, 0], dense @ V[:, 0], **CLOSE)
    torch.testing.assert_close(V.T @ H, V.T @ dense, **CLOSE)
    torch.testing.assert_close(V[:, 0] @ H, V[:, 0] @ dense, **CLOSE)
    assert (H.shape, H.dtype, H.device.type) == ((4, 4), torch.float64, "cpu")


def test_eigenvalues_of_a_sum_are_those_of_the_dense_sum():
    found = eigsh(closure(A) + 0.5 * EYE, 2)
    torch.testing.assert_close(found.values, torch.tensor([3.5, 1.5]).double())


def test_anything_with_a_product_can_be_added():
    class Plain:
        shape, dtype, device = (4, 4), torch.float64, torch.device("cpu")

        def __matmul__(self, other):
            return B @ other

    torch.testing.assert_close((closure(A) - Plain()) @ V, (A - B) @ V, **CLOSE)


def test_a_damped_hessian_is_the_hessian_with_weight_decay():
    objective = problems.objective(problems.mlp(), problems.vectors())
    H = Hessian(objective)
    size = H.shape[0]
    v = torch.randn(size, dtype=H.dtype, generator=problems.generator())
    damped = H + 0.3 * Identity(size, dtype=H.dtype)
    decayed = Hessian(objective, weight_decay=0.3)
    torch.testing.assert_close(damped @ v, decayed @ v, **CLOSE)
    rest = H - GGN(objective)
    torch.testing.assert_close(rest @ v, H @ v - GGN(objective) @ v, **CLOSE)


REFUSED = {
    "one shape, got": lambda H: H + torch.eye(3).double(),
    "one dtype, got": lambda H: H + torch.eye(4),
    r"b \* Identity": lambda H: H + 1.0,
    "scaled by one number, got Tensor": lambda H: H * V,
    "finite number, got inf": lambda H: H * float("inf"),
    "divided by 0": lambda H: H / 0,
    r"multiplies a vector \(4,\).*got \(3,\)": lambda H: H @ torch.ones(3),
    "real numbers, got ndarray": lambda H: H @ np.ones(4),
    "real numbers, got torch.complex64": lambda H: H @ torch.ones(4).cfloat(),
    r"like the one it takes, shape \(4,\), got torch.Size\(\[2\]\)": lambda H: (
        operator(lambda v: v[:2], 4) @ torch.ones(4)
    ),
    "floating dtype, got torch.int64": lambda H: Identity(4, dtype=torch.int64),
    "size must be >= 1, got 0": lambda H: Identity(0),
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_has_no_meaning_is_one_sentence(said):
    with pytest.raises(SettingError, match=said) as caught:
        REFUSED[said](closure(A))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scipy_finds_the_eigenvalues_of_the_dense_hessian(dtype):
    model, data = problems.networks()["tanh"]
    H = Hessian(problems.objective(model, data))
    values = sparse.eigsh(H.to_scipy(dtype), k=3, which="LA")[0]
    dense = torch.linalg.eigvalsh(problems.dense_hessian(model, data))[-3:]
    tolerance = 1e-9 if dtype is np.float64 else 1e-4
    torch.testing.assert_close(
        torch.from_numpy(values).double(), dense, rtol=tolerance, atol=tolerance
    )
    assert values.dtype == dtype


def test_scipy_multiplies_vectors_and_blocks():
    H = closure(A).to_scipy(np.float64)
    dense = A.numpy()
    np.testing.assert_allclose(H @ V.numpy(), dense @ V.numpy(), rtol=1e-12)
    np.testing.assert_allclose(H @ V[:, 0].numpy(), dense @ V[:, 0].numpy())
    np.testing.assert_allclose(H @ V[:, :1].numpy(), dense @ V[:, :1].numpy())
    np.testing.assert_allclose(H.T @ V.numpy(), dense @ V.numpy(), rtol=1e-12)


def test_a_missing_scipy_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(UsageError, match="to_scipy needs scipy: pip install scipy"):
        EYE.to_scipy()
