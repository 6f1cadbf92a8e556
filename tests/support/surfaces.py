"""Surfaces with numbers by hand, with every field, and what equality of them means."""

import dataclasses

import torch

import problems
from steppe.surfaces import Arrow, Surface, Trajectory, Values

NAN, INF = float("nan"), float("inf")


def draws(*shape, seed=0):
    return torch.randn(shape, generator=problems.generator(seed), dtype=torch.float64)


def full(*lengths):
    """Every field in use; NaN, inf, negative, unfinished and interpolated values."""
    shape = tuple(reversed(lengths))
    loss = draws(*shape)
    flat, computed = loss.view(-1), torch.ones(shape, dtype=torch.bool)
    flat[0], flat[1], flat[2] = NAN, INF, NAN
    computed.view(-1)[2:4] = False  # one unfinished, one interpolated
    return Surface(
        coordinates=tuple(
            tuple(draws(n, seed=n).sort().values.tolist()) for n in lengths
        ),
        loss=loss,
        stderr=draws(*shape, seed=1).abs(),
        samples=7,
        rise_stderr=draws(*shape, seed=2).abs(),
        subset_stderr=draws(*shape, seed=7).abs(),
        computed=computed,
        quantities={
            "accuracy": Values(values=loss / 7, stderr=draws(*shape), units="share"),
            "test_accuracy": Values(values=loss * 3, units="percent"),
            "smallest_eigenvalue": Values(values=draws(*shape, seed=11)),
            "train_acc": Values(values=draws(*shape, seed=10)),
            "train_loss": Values(values=draws(*shape, seed=3)),
            "a/b é": Values(values=draws(*shape, seed=4), units="1/loss"),
            "proj_xcoord": Values(values=draws(*shape, seed=5)),
            "file": Values(values=draws(*shape, seed=6).float()),
        },
        axes=tuple(f"unit {n}" for n in lengths),
        paths=(path(len(lengths)), path(len(lengths), seed=9, rows=2)),
        arrows=(
            Arrow(
                start=(0.5,) * len(lengths),
                vector=(1.0,) * len(lengths),
                outside=0.25,
                norm=NAN,
                name="gradient",
            ),
        ),
        details={
            "range": (-1, 1.5),
            "rate": NAN,
            "nested": {1: (2, [INF, None, True]), "$tuple": "text"},
            "file": "Fläche\udc80\n\0.pt",
            "tensor": torch.tensor([1.5, -INF]),
        },
    )


def path(axes, seed=8, rows=5):
    column = draws(rows, seed=seed)
    return Trajectory(
        coordinates=draws(rows, axes, seed=seed),
        residual=column.abs(),
        relative_residual=column.abs() / 3,
        name=f"run {seed}",
        labels=tuple(f"epoch {i}" for i in range(rows)),
        loss=column,
        stderr=column + 1,
        projected_loss=column + 2,
        projected_stderr=column.float(),
        details={"stride": 2},
    )


def assert_same(left, right):
    """Equal types and bits of all fields, at any depth; NaN equals NaN."""
    assert type(left) is type(right), (left, right)
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)
    elif dataclasses.is_dataclass(left):
        for field in dataclasses.fields(left):
            assert_same(getattr(left, field.name), getattr(right, field.name))
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    else:
        assert left == right or (left != left and right != right), (left, right)
