"""Code of the user under fixed seeds, so that every process gets the same of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random; their states are put back afterwards.

    Args:
        seed: below 2**32, as numpy wants it.
    """
    devices = list(range(torch.cuda.device_count()))
    with host_seeded(seed), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def host_seeded(seed: int) -> Iterator[None]:
    """Seed numpy and random alone; their states are put back afterwards.

    Worker processes are copies of one and would all draw the same otherwise.

    Args:
        seed: below 2**32, as numpy wants it.
    """
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002
