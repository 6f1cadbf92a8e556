"""Eigenpairs against matrices of known spectrum, dense algebra and ARPACK."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator
from scipy.sparse.linalg import eigsh as arpack

import problems
import steppe
from steppe.errors import SettingError
from steppe.linalg.krylov import Krylov
from steppe.linalg.lanczos import eigsh

BULK = torch.linspace(-1, 1, 400, dtype=torch.float64).tolist()
GHOSTS = [10.0, 7.0, 5.0, 4.0, 3.0, 2.5]
RISING = torch.linspace(0, 1, 57, dtype=torch.float64).tolist()

SPECTRA = {
    "outliers": [*GHOSTS, *BULK],
    "multiple": [5.0, 5.0, 5.0, *RISING],
    "multiple among many": [5.0, 5.0, 5.0, *(r / 5 for r in BULK)],
    "copies above others": [5.0, 5.0, 5.0, 4.0, 3.0, 2.0, *(b / 5 for b in BULK)],
    "identity": [1.0] * 30,
    "zero": [0.0] * 8,
    "indefinite": [-9.0, -8.0, *RISING, 6.0],
    "tiny": [2.0, 1.0, -3.0],
}


class Counted:
    """A matrix that counts its products, and knows nothing else."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)
        self.dtype, self.device = matrix.dtype, matrix.device
        self.products = 0

    def __matmul__(self, other):
        self.products += 1 if other.dim() == 1 else other.shape[1]
        return self.matrix @ other


def wanted(values, k, which):
    values = torch.tensor(values, dtype=torch.float64)
    key = {"LA": values, "SA": -values, "LM": values.abs()}[which]
    best = values[key.argsort(descending=True)[:k]]
    return best.sort(descending=True).values


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("name", SPECTRA)
def test_values_are_the_wanted_end_of_the_spectrum_with_all_copies(name, which):
    H = problems.symmetric(SPECTRA[name])
    found = eigsh(H, 3, which=which, tol=1e-5, max_products=400)
    expected = wanted(SPECTRA[name], 3, which)
    assert found.converged
    # The error of a value is about its residual squared over the gap.
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECTRA)
def test_residuals_are_those_recomputed_and_vectors_are_orthonormal(name, dtype):
    H = problems.symmetric(SPECTRA[name]).to(dtype)
    found = eigsh(H, 3, max_products=300)
    vectors = found.vectors.double()
    again = (H.double() @ vectors - vectors * found.values).norm(dim=0)
    rounding = 200 * torch.finfo(dtype).eps * float(H.abs().max())
    torch.testing.assert_close(found.residuals, again, rtol=1e-6, atol=rounding + 1e-15)
    identity = torch.eye(3, dtype=torch.float64)
    atol = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(vectors.T @ vectors, identity, rtol=0, atol=atol)


def test_eighty_steps_bring_no_ghosts():
    H = problems.symmetric([*GHOSTS, *BULK])
    start = torch.randn(406, generator=problems.generator(), dtype=torch.float64)
    krylov = Krylov(H, start, problems.generator())
    for _ in range(80):
        krylov.step()
    values = krylov.ritz()[0].flip(0)
    expected = torch.tensor(GHOSTS, dtype=torch.float64)
    torch.testing.assert_close(values[:6], expected, rtol=1e-12, atol=0)
    assert float(values[6]) < 1 + 1e-12


def walk(H, columns, steps, seed=0):
    """A Krylov space from several vectors, going along waiting ones at random."""
    source = problems.generator(seed)
    start = torch.randn((len(H), columns), generator=source, dtype=torch.float64)
    krylov = Krylov(H, start[:, 0], source)
    for other in start.T[1:]:
        assert krylov.extend(other)
    for _ in range(steps):
        wish = torch.randn(krylov.waiting, generator=source, dtype=torch.float64)
        krylov.step(wish)
    return krylov


def images(krylov):
    """H V = V T + P R."""
    space = krylov.projection()
    return krylov.basis.combined(torch.cat([space.inner, space.coupling]))


@pytest.mark.parametrize("columns", [1, 4])
def test_the_decomposition_is_exact_whatever_is_multiplied_next(columns):
    H = problems.symmetric(SPECTRA["outliers"])
    krylov = walk(H, columns, 30)
    V = krylov.basis.rows(0, krylov.steps).T
    torch.testing.assert_close(V.T @ V, torch.eye(30).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        V.T @ H @ V, krylov.projection().inner, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(images(krylov), H @ V, rtol=0, atol=1e-12)
    assert krylov.projection().square() == pytest.approx(
        float((H @ V).square().sum()), rel=1e-12
    )
    values, coefficients, residuals = krylov.ritz()
    vectors = krylov.vectors(coefficients)
    again = (H @ vectors - vectors * values).norm(dim=0)
    torch.testing.assert_close(residuals, again, rtol=1e-9, atol=1e-12)


def test_a_restart_keeps_the_decomposition_of_what_it_keeps():
    H = problems.symmetric(SPECTRA["outliers"])
    krylov = walk(H, 2, 30)
    values, coefficients, residuals = krylov.ritz()
    krylov.restart(values[-9:], coefficients[:, -9:])
    kept = krylov.ritz()
    torch.testing.assert_close(kept[0], values[-9:], rtol=1e-13, atol=0)
    torch.testing.assert_close(kept[2], residuals[-9:], rtol=1e-9, atol=1e-13)
    for _ in range(12):
        krylov.step()
    V = krylov.basis.rows(0, krylov.steps).T
    torch.testing.assert_close(
        V.T @ H @ V, krylov.projection().inner, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(images(krylov), H @ V, rtol=0, atol=1e-12)


def test_a_vector_within_the_basis_brings_nothing():
    H = problems.symmetric(SPECTRA["outliers"])
    krylov = walk(H, 2, 5)
    waiting = krylov.waiting
    assert not krylov.extend(3 * krylov.basis.row(2) - krylov.basis.row(0))
    assert krylov.waiting == waiting


@pytest.mark.parametrize("name", ["outliers", "multiple among many"])
def test_a_bounded_basis_finds_the_same(name):
    H = problems.symmetric(SPECTRA[name])
    settings = {"tol": 1e-6, "max_products": 400}
    free = eigsh(H, 5, **settings)
    bounded = eigsh(H, 5, max_basis=20, **settings)
    assert bounded.converged
    torch.testing.assert_close(bounded.values, free.values, rtol=1e-9, atol=0)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("k", [4, 40])
def test_both_ends_of_equal_values_are_different_vectors(k, value):
    found = eigsh(problems.symmetric([value] * 40), k, which="BE")
    gram = found.vectors.T @ found.vectors
    torch.testing.assert_close(gram, torch.eye(k).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("max_basis", [20, 33, 50])
def test_a_bounded_basis_has_memory_for_as_many_vectors_and_no_more(max_basis):
    H = problems.symmetric([*BULK, *BULK])
    seen = []

    class Watched(Counted):
        def __matmul__(self, other):
            seen.append(other.untyped_storage().nbytes() // (8 * len(other)))
            return super().__matmul__(other)

    found = eigsh(Watched(H), 5, tol=1e-6, max_basis=max_basis, max_products=300)
    assert found.products > 100
    assert max(seen) <= max_basis


@pytest.mark.parametrize("k", [1, 2, 5])
def test_both_ends_are_those_of_the_spectrum(k):
    spectrum = sorted([*GHOSTS, *BULK, -8.0, -6.0, -3.0])
    H = problems.symmetric(spectrum)
    found = eigsh(H, k, which="BE", tol=1e-6)
    top, bottom = k - k // 2, k // 2
    expected = [*spectrum[::-1][:top], *spectrum[:bottom][::-1]]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.values, expected, rtol=1e-9, atol=0)
    assert found.converged


def test_a_small_budget_is_reported_and_its_values_are_not_called_converged():
    H = problems.symmetric([*GHOSTS, *BULK])
    found = eigsh(H, 5, max_products=8)
    assert found.products == 8
    assert not found.converged
    assert bool((found.residuals > 1e-3 * found.values.abs()).any())


@pytest.mark.parametrize("name", ["outliers", "multiple", "tiny"])
def test_products_reported_are_products_made(name):
    H = Counted(problems.symmetric(SPECTRA[name]))
    assert eigsh(H, 2).products == H.products


def test_a_warm_start_needs_fewer_products_and_finds_the_same():
    H = torch.diag(torch.tensor([*GHOSTS, *(2.9 * b for b in BULK)]).double())
    cold = eigsh(H, 5, tol=1e-6)
    warm = eigsh(H, 5, tol=1e-6, start=cold.vectors)
    assert cold.converged
    assert warm.converged
    assert warm.products < cold.products
    torch.testing.assert_close(warm.values, cold.values, rtol=1e-6, atol=0)


def test_an_eigenvector_as_the_start_does_not_hide_larger_values():
    H = torch.diag(torch.tensor([*GHOSTS, *BULK, *BULK, *BULK], dtype=torch.float64))
    third = torch.zeros(len(H), dtype=torch.float64)
    third[2] = 1
    found = eigsh(H, 1, start=third)
    assert float(found.values[0]) == pytest.approx(10, rel=1e-6)


@pytest.mark.parametrize("seed", [1, 18, 37])
def test_a_value_still_on_its_way_up_is_waited_for(seed):
    """The start hides the largest value: the next ones converge before it comes."""
    source = problems.generator(seed)
    top = torch.tensor([3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4], dtype=torch.float64)
    bulk = 2.3 * torch.linspace(0, 1, 1200, dtype=torch.float64)
    start = torch.randn(1207, generator=source, dtype=torch.float64)
    start[:7] *= 30 * 10.0 ** (-6 * torch.rand(7, generator=source).double())
    found = eigsh(torch.diag(torch.cat([top, bulk])), 1, start=start)
    assert float(found.values[0]) == pytest.approx(3, rel=1e-5)


@pytest.mark.cross_library
@pytest.mark.parametrize(("which", "seed"), [("LA", 0), ("SA", 1), ("LM", 2)])
def test_values_and_vectors_are_those_of_arpack(which, seed):
    A = torch.randn((150, 150), generator=problems.generator(seed)).double()
    A = A + A.T
    operator = LinearOperator(A.shape, matvec=lambda v: A.numpy() @ v, dtype=float)
    values, vectors = arpack(operator, k=5, which=which, v0=np.ones(150))
    order = np.argsort(-values)
    found = eigsh(A, 5, which=which, tol=1e-8, max_products=150)
    np.testing.assert_allclose(found.values.numpy(), values[order], rtol=1e-12)
    cosines = np.abs((found.vectors.numpy() * vectors[:, order]).sum(0))
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_one_seed_gives_one_result():
    H = problems.symmetric(SPECTRA["outliers"])
    first, second = (eigsh(H, 2, generator=problems.generator(3)) for _ in range(2))
    assert torch.equal(first.vectors, second.vectors)
    assert torch.equal(eigsh(H, 2).vectors, eigsh(H, 2).vectors)
    assert not torch.equal(first.vectors, eigsh(H, 2).vectors)


@pytest.mark.parametrize("tol", [1e-3, 1e-2, 0.05])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [torch.as_tensor, Counted], ids=["dense", "operator"])
def test_half_precision_claims_no_more_than_a_recomputation_finds(make, dtype, tol):
    for spectrum in SPECTRA.values():
        rounded = problems.symmetric(spectrum)
        rounded = (0.5 * (rounded + rounded.T)).to(dtype)
        found = eigsh(make(rounded), 3, tol=tol)
        vectors = found.vectors.double()
        again = (rounded.double() @ vectors - vectors * found.values).norm(dim=0)
        # The operator's rounding is in the report; float32 sums add a few digits.
        slack = 1e-5 * float(found.values.abs().max())
        assert bool((again <= found.residuals + slack).all())
        if found.converged:
            assert bool((again <= tol * found.values.abs() + slack).all())


def test_autocast_around_it_changes_nothing():
    H = problems.symmetric(SPECTRA["outliers"]).float()
    expected = eigsh(H, 3)
    with problems.bfloat16_autocast():
        found = eigsh(H, 3)
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.vectors, expected.vectors)


def test_a_dense_matrix_in_half_precision_converges_as_its_float32_twin():
    rounded = problems.symmetric(SPECTRA["outliers"]).bfloat16()
    found, twin = eigsh(rounded, 2), eigsh(rounded.float(), 2)
    assert found.converged
    assert torch.equal(found.values, twin.values)


def test_a_half_precision_operator_cannot_meet_a_finer_tolerance_and_stops():
    H = Counted(problems.symmetric(SPECTRA["outliers"]).bfloat16())
    found = eigsh(H, 1, tol=1e-3)
    assert not found.converged
    assert found.products == 20


@pytest.mark.slow
@pytest.mark.parametrize("tol", [0.1, 0.03])
def test_residuals_hold_what_couples_a_second_look_to_the_first(tol):
    """Loose vectors are no eigenvectors: H leads from the second set to the first."""
    for seed in range(15):
        H = problems.symmetric([5.0, 5.0, 5.0, *(4.8 * b for b in BULK[::2])], seed)
        found = eigsh(H, 3, tol=tol)
        again = (H @ found.vectors - found.vectors * found.values).norm(dim=0)
        torch.testing.assert_close(found.residuals, again, rtol=1e-6, atol=1e-10)
        within = bool((again <= tol * found.values).all())
        assert within or not found.converged


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 9}, "k must be from 1 to 8"),
        ({"k": 0}, "k must be from 1 to 8"),
        ({"which": "largest"}, "which must be"),
        ({"max_basis": 11}, "max_basis must be >= 2 k"),
        ({"tol": 0.0}, "tol must be > 0"),
        ({"k": 3, "max_products": 2}, "max_products must be >= k"),
        ({"start": torch.zeros(8)}, "not zero"),
        ({"start": torch.full((8,), torch.nan)}, "finite"),
        ({"start": torch.ones(7)}, "shape"),
    ],
)
def test_settings_out_of_range_are_one_sentence(settings, said):
    with pytest.raises(SettingError, match=said) as caught:
        eigsh(torch.eye(8), **settings)
    assert "\n" not in str(caught.value)


def test_what_is_no_symmetric_operator_is_refused():
    with pytest.raises(SettingError, match="shape"):
        eigsh(torch.ones(3, 2))
    with pytest.raises(SettingError, match="floating"):
        eigsh(torch.ones((3, 3), dtype=torch.long))
    with pytest.raises(SettingError, match="infinities or NaN"):
        eigsh(torch.full((3, 3), torch.nan))


@pytest.mark.parametrize("scale", [1e-36, 1e-21, 1e22, 1e34])
def test_float32_of_any_size_has_the_values_of_its_rescaled_twin(scale):
    H = problems.symmetric(SPECTRA["outliers"])
    found = eigsh((scale * H).float(), 3)
    assert found.converged
    twin = torch.tensor(GHOSTS[:3], dtype=torch.float64)
    torch.testing.assert_close(found.values / scale, twin, rtol=1e-5, atol=0)
    gram = found.vectors.T @ found.vectors
    torch.testing.assert_close(gram, torch.eye(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("old", "new"),
    [([1.6], 2.0), ([3.0, 2.5], 2.8), ([3.0, 1.5], 2.0), ([8.0, 7, 6, 5, 1.3], 1.6)],
)
def test_vectors_found_before_do_not_hide_a_value_that_has_come_up(old, new, seed):
    bulk = torch.linspace(-0.5, 1, 2000, dtype=torch.float64)
    H = torch.cat([torch.tensor([*old, new], dtype=torch.float64), bulk]).diag()
    start = torch.eye(len(H), dtype=torch.float64)[:, : len(old)]
    source = problems.generator(seed)
    found = eigsh(H, len(old), tol=1e-2, start=start, generator=source)
    expected = sorted([*old, new], reverse=True)[: len(old)]
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.values, expected, rtol=2e-3, atol=0)


def test_pairs_say_what_they_are_a_function_of():
    model, data = problems.mlp(), problems.vectors()
    H = steppe.Hessian(problems.objective(model, data), params="4.*")
    found = eigsh(H, 2, which="SA").details
    assert found["kind"] == "hessian"
    assert found["parameters"] == ("4.weight", "4.bias")
    assert (found["which"], found["mode"], found["terms"]) == ("SA", "eval", 7)
