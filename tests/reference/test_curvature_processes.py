"""Curvature over processes with a shard of the data each, against one process."""

import pytest
import torch

import curvature_jobs
import problems
from steppe.linalg.lanczos import eigsh

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[2, 4])
def outcome(request, tmp_path_factory):
    return curvature_jobs.run(request.param, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(params=curvature_jobs.KINDS)
def kind(request):
    return request.param


def single(kind):
    objective = problems.objective(problems.mlp(), curvature_jobs.data())
    return curvature_jobs.KINDS[kind](objective)


def test_shards_of_any_size_give_the_matrix_of_the_whole_data(outcome, kind):
    H = single(kind)
    expected = H @ torch.eye(H.shape[0], dtype=H.dtype)
    for result in outcome:
        torch.testing.assert_close(
            result[kind]["matrix"], expected, rtol=1e-10, atol=1e-13
        )
        assert result[kind]["terms"] == curvature_jobs.ROWS - 2


def test_all_processes_have_the_same_bits(outcome, kind):
    first, *others = (result[kind] for result in outcome)
    for other in others:
        for name in ("matrix", "values", "vectors", "drawn"):
            assert torch.equal(other[name], first[name]), name


def test_eigenvalues_are_those_of_one_process(outcome, kind):
    expected = eigsh(single(kind), 3).values
    for result in outcome:
        torch.testing.assert_close(
            result[kind]["values"], expected, rtol=1e-10, atol=1e-12
        )


def test_a_product_takes_one_collective_call_whatever_its_columns(outcome, kind):
    for result in outcome:
        assert result[kind]["calls"] == (1, 1)


def test_all_agree_on_the_values_of_the_first(outcome, kind):
    for result in outcome:
        assert result[kind]["agreed"].tolist() == [0.5, 2.0]
        assert result[kind]["agreed sum"].item() == 0.0
