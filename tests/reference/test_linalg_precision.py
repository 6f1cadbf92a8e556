"""Products of float32 keep all bits in the algorithms, whatever torch is set to."""

import pytest
import torch

import problems
import steppe

NEW = hasattr(torch.backends.cuda.matmul, "fp32_precision")  # torch 2.9 and later
NAME, COARSE, FULL = (
    ("fp32_precision", "tf32", "ieee") if NEW else ("allow_tf32", True, False)
)


class Watched:
    """A matrix that notes how torch rounds when it is multiplied."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)
        self.dtype, self.device = matrix.dtype, matrix.device
        self.seen = set()

    def __matmul__(self, other):
        self.seen.add(getattr(torch.backends.cuda.matmul, NAME))
        return self.matrix @ other


@pytest.fixture
def coarse():
    backend = torch.backends.cuda.matmul
    before = getattr(backend, NAME)
    setattr(backend, NAME, COARSE)
    yield
    assert getattr(backend, NAME) == COARSE
    setattr(backend, NAME, before)


@pytest.mark.parametrize(
    "ask",
    [
        lambda H: steppe.eigsh(H, 2),
        lambda H: steppe.spectrum(H, steps=5, probes=2, k=1),
        lambda H: steppe.trace(H, method="deflated"),
        lambda H: steppe.frobenius(H),
        lambda H: steppe.diagonal(H),
        lambda H: steppe.directional(H, torch.ones(40, 2)),
    ],
    ids=["eigsh", "spectrum", "trace", "frobenius", "diagonal", "directional"],
)
def test_tf32_is_off_inside_and_as_before_after(ask, coarse):
    H = Watched(problems.symmetric(torch.linspace(-1, 3, 40).tolist()).float())
    ask(H)
    assert H.seen == {FULL}
