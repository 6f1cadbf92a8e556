"""Principal components of checkpoints: numpy's SVD, scikit-learn, memory, refusals."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import problems
from steppe.errors import DataError, SettingError, UsageError
from steppe.landscapes.directions.pca import gram_matrix, principal_components
from steppe.landscapes.evaluation.grid import coordinates_of
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.parameters import flatten, trainable, unflatten

T = 9


def walk(model, seed=0, kind="random"):
    """Networks along a walk of the parameters, the last of which is the model's."""
    start = problems.flat(model)
    steps = torch.randn((T, len(start)), generator=problems.generator(seed)).double()
    if kind == "plane":
        steps = steps[:, :2] @ steps[:2]
    points = start + 0.1 * torch.cumsum(steps, 0)
    networks = []
    for point in points:
        network = copy.deepcopy(model)
        own = trainable(network)
        with torch.no_grad():
            for p, value in zip(own.values(), unflatten(point, list(own.values()))):
                p.copy_(value)
        networks.append(network)
    return networks, points.numpy()


def columns(plane):
    return torch.stack([flatten(d) for d in plane.directions]).numpy()


def same_up_to_sign(found, expected, atol=1e-8):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a * np.sign(a @ b), b, rtol=0, atol=atol)


@pytest.mark.parametrize("center", ["final", "first", "mean"])
def test_components_are_those_of_scikit_learn(center):
    networks, points = walk(problems.mlp())
    plane = Plane.pca(networks, center=center)
    expected = PCA(2).fit(points - points[-1])
    same_up_to_sign(columns(plane), expected.components_)
    for name in (
        "explained_variance_ratio",
        "explained_variance",
        "singular_values",
    ):
        numbers = getattr(expected, f"{name}_")
        np.testing.assert_allclose(plane.details[name], numbers, rtol=1e-9)
    base = {"final": points[-1], "first": points[0], "mean": points.mean(0)}[center]
    np.testing.assert_allclose(flatten(plane.base).numpy(), base, rtol=0, atol=1e-14)
    apart = points - base
    shares = np.square(apart @ columns(plane).T).sum(0) / np.square(apart).sum()
    np.testing.assert_allclose(plane.details["explained_from_base"], shares, rtol=1e-8)


def test_components_are_those_of_a_singular_value_decomposition():
    networks, points = walk(problems.cnn(), seed=3)
    line = Line.pca(networks)
    _, sizes, rows = np.linalg.svd(points - points.mean(0), full_matrices=False)
    same_up_to_sign(columns(line), rows[:1])
    assert line.details["singular_values"] == pytest.approx(sizes[:1], rel=1e-10)
    largest = columns(line)[0]
    assert largest[np.abs(largest).argmax()] > 0


def test_a_walk_in_a_plane_is_explained_and_its_coordinates_lead_back():
    networks, points = walk(problems.mlp(), kind="plane")
    plane = Plane.pca(networks)
    assert sum(plane.details["explained_variance_ratio"]) == pytest.approx(1, abs=1e-9)
    assert sum(plane.details["explained_from_base"]) == pytest.approx(1, abs=1e-9)
    first = points[0] - points[-1]
    coordinates = columns(plane) @ first
    there = flatten(plane.point(*coordinates.tolist())).numpy()
    np.testing.assert_allclose(there, points[0], rtol=0, atol=1e-8)
    low, high = plane.axes[0].range
    assert low < min(0, coordinates[0])
    assert max(0, coordinates[0]) < high


def test_the_base_is_the_final_network_bit_for_bit_with_its_buffers():
    networks, _ = walk(problems.cnn())
    networks[-1][1].running_mean.fill_(0.25)
    plane = Plane.pca([n.state_dict() for n in networks], model=problems.cnn())
    objective = problems.objective(networks[-1], problems.vectors(shape=(1, 4, 4)))
    found = landscape(objective, plane, x=[0.0], y=[0.0], batch_norm="freeze")
    assert float(found.loss) == objective.value().value
    usual = landscape(objective, plane, x=[0.0], y=[0.0])
    assert usual.details["batch_norm"] == "reestimate"
    assert float(plane.buffers["1.running_mean"][0]) == 0.25


@pytest.mark.parametrize("seed", range(8))
def test_the_grid_of_a_plane_has_its_base_and_all_checkpoints(seed):
    networks, points = walk(problems.mlp(), seed=seed)
    plane = Plane.pca(networks)
    for number, axis in enumerate(plane.axes):
        along = (points - points[-1]) @ columns(plane)[number]
        assert axis.range[0] < along.min()
        assert along.max() < axis.range[1]
        for count in (11, 31, 51, 101):
            assert 0.0 in coordinates_of((*axis.range, count), "x")


def test_a_random_walk_has_the_explained_variance_that_theory_gives():
    """6 / (pi k)^2 in many dimensions (Antognini and Sohl-Dickstein, 2018)."""
    drawn = torch.randn((300, 4000), generator=problems.generator())
    points = list(torch.cumsum(drawn, 0).double()[:, None])
    found = principal_components(lambda i: points[i], 300, 3, "final", 2**31)
    expected = [6 / (math.pi * k) ** 2 for k in (1, 2, 3)]
    assert found.variance_ratio.tolist() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("held", [2, 3, 4, 5, T])
def test_the_gram_matrix_is_the_same_with_few_checkpoints_in_memory(held):
    networks, points = walk(problems.mlp())
    rows = [[p.detach() for p in n.parameters()] for n in networks]
    size = 8 * points.shape[1]
    reads = []

    def read(number):
        reads.append(number)
        return rows[number]

    found = gram_matrix(read, T, rows[-1], held * size)
    apart = points - points[-1]
    np.testing.assert_allclose(found.numpy(), apart @ apart.T, rtol=0, atol=1e-12)
    assert torch.equal(found, found.T)
    if held == T:
        assert len(reads) == T + 1  # one to know the size


def test_biases_may_be_left_out():
    networks, points = walk(problems.mlp())
    plane = Plane.pca(networks, ignore="biasbn")
    sizes = [p.shape for p in networks[0].parameters()]
    kept = np.concatenate(
        [np.full(size.numel(), len(size) > 1, dtype=bool) for size in sizes]
    )
    expected = PCA(2).fit(points[:, kept])
    same_up_to_sign(columns(plane)[:, kept], expected.components_)
    assert not columns(plane)[:, ~kept].any()


def test_checkpoints_may_be_files_functions_and_wrapped_networks(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    networks, _ = walk(problems.mlp())
    torch.save({"state_dict": networks[0].state_dict(), "epoch": 1}, tmp_path / "a.t7")
    torch.save(networks[1].state_dict(), tmp_path / "b.pt")
    safetensors.save_file(networks[2].state_dict(), tmp_path / "c.safetensors")
    mixed = [
        tmp_path / "a.t7",
        str(tmp_path / "b.pt"),
        tmp_path / "c.safetensors",
        torch.nn.DataParallel(networks[3]),
        networks[4].state_dict,
        *networks[5:],
    ]
    expected = Plane.pca(networks)
    found = Plane.pca(mixed)
    np.testing.assert_array_equal(columns(found), columns(expected))
    wrapped = Plane.pca(networks, model=torch.nn.DataParallel(networks[0]))
    np.testing.assert_array_equal(columns(wrapped), columns(expected))
    assert wrapped.names[0] == f"module.{expected.names[0]}"


def test_two_runs_agree_and_nothing_has_moved():
    networks, _ = walk(problems.mlp())
    before = problems.state_of(networks[3])
    first, second = Plane.pca(networks), Plane.pca(networks)
    assert torch.equal(flatten(first.directions[1]), flatten(second.directions[1]))
    problems.assert_same(problems.state_of(networks[3]), before)


def test_what_has_no_plane_is_refused(tmp_path):
    networks, _ = walk(problems.mlp())
    on_a_line = [networks[0], networks[1], networks[0], networks[1]]
    with pytest.raises(UsageError, match="the 4 checkpoints span 1"):
        Plane.pca(on_a_line)
    with pytest.raises(UsageError, match="the 2 checkpoints span 0"):
        Line.pca([networks[0], networks[0]])
    with pytest.raises(SettingError, match="at least 3 checkpoints, got 2"):
        Plane.pca(networks[:2])
    with pytest.raises(SettingError, match="must be a list of networks"):
        Plane.pca(networks[0])
    with pytest.raises(SettingError, match="pass model="):
        Plane.pca([n.state_dict() for n in networks])
    with pytest.raises(SettingError, match="center must be"):
        Plane.pca(networks, center="last")
    with pytest.raises(SettingError, match="the checkpoint 0 must have the tensors"):
        Plane.pca([problems.cnn(), *networks])
    with pytest.raises(DataError, match="there is no file"):
        Plane.pca([tmp_path / "none.pt", *networks])
    (tmp_path / "text.pt").write_text("no tensors")
    with pytest.raises(DataError, match="cannot be read as tensors"):
        Plane.pca([tmp_path / "text.pt", *networks])
    with torch.no_grad():
        networks[4][0].weight[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"the checkpoint 4 has numbers in 0\.weight"):
        Plane.pca(networks)


def test_a_frozen_parameter_that_moves_is_refused():
    networks, _ = walk(problems.mlp())
    networks[-1][0].weight.requires_grad_(False)
    with pytest.raises(SettingError, match=r"0\.weight is another in the checkpoint 0"):
        Plane.pca(networks)
