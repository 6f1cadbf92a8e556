"""Samples that lie on the device, where they fit, and numbers that are read from it."""

import pytest
import torch

from steppe_lab.datasets import samples as samples_module
from steppe_lab.datasets.samples import (
    Standardisation,
    TensorSamples,
    resident,
    standardised_once,
)
from steppe_lab.transfer import numbers

GPU = torch.device("cuda", 0)
PIXELS = Standardisation(mean=(0.5,), std=(0.25,), scale=255)


def images(count):
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(256, (count, 1, 4, 4), generator=generator)
    return TensorSamples(stored.to(torch.uint8), torch.arange(count), PIXELS)


@pytest.mark.parametrize(("free", "moves"), [(4 * 96, True), (4 * 96 - 1, False)])
def test_pixels_go_where_a_quarter_of_the_free_memory_holds_them(
    monkeypatch, free, moves
):
    """Four images are 64 bytes, their targets 32."""
    moved = []

    def on(samples, device):
        moved.append(device)
        return samples

    monkeypatch.setattr(TensorSamples, "on", on)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    resident(images(4), GPU)
    assert moved == [GPU] * moves


def test_samples_of_a_cpu_are_not_copied():
    samples = images(4)
    assert resident(samples, torch.device("cpu")) is samples


def test_inputs_that_are_standardised_once_are_those_of_each_batch():
    samples, rows = images(9), torch.tensor([7, 0, 3])
    once = standardised_once(samples)
    assert once.standardisation is None
    for expected, got in zip(samples.batch(rows), once.batch(rows), strict=True):
        assert torch.equal(expected, got)
        assert expected.dtype == got.dtype


def test_a_network_that_writes_to_its_batch_changes_no_sample():
    once, rows = standardised_once(images(9)), torch.tensor([2, 5])
    before, _ = once.batch(rows)
    once.batch(rows)[0].zero_()
    assert torch.equal(once.batch(rows)[0], before)


@pytest.mark.parametrize(("most", "once"), [(4 * 64, True), (4 * 64 - 1, False)])
def test_inputs_beyond_a_size_stay_as_published(monkeypatch, most, once):
    """Four images are 64 numbers, of four bytes each once they are standardised."""
    monkeypatch.setattr(samples_module, "AT_ONCE", most)
    samples = images(4)
    assert (standardised_once(samples) is not samples) == once


def test_nothing_is_divided_by_a_number(monkeypatch):
    """A GPU would multiply with the reciprocal, and give other bits than the host."""
    divide, divisors = torch.Tensor.div_, []

    def noted(tensor, divisor, *more):
        divisors.append(divisor)
        return divide(tensor, divisor, *more)

    monkeypatch.setattr(torch.Tensor, "div_", noted)
    images(4).batch(slice(None))
    assert [type(each) for each in divisors] == [torch.Tensor] * 2


@pytest.mark.gpu
def test_a_batch_of_resident_samples_is_that_of_the_host():
    samples = images(9)
    near = resident(samples, GPU)
    rows = torch.tensor([7, 0, 3])
    (inputs, targets), (there, labels) = samples.batch(rows), near.batch(rows)
    assert there.device == labels.device == GPU
    assert torch.equal(there.cpu(), inputs)
    assert torch.equal(labels.cpu(), targets)


def test_numbers_of_scalars_keep_all_their_digits():
    single, double = torch.tensor(0.1), torch.tensor(0.1, dtype=torch.float64)
    assert numbers([single, double, 0.1]) == [float(single), 0.1, 0.1]
    assert numbers([]) == []
