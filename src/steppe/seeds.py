"""Seeds of random streams, derived from one seed and the name of each stream.

A stream must not depend on which others are drawn, nor on the order: it is made anew
from numbers (step, batch, process) or from a text (the name of a measure).
"""

from __future__ import annotations

import hashlib

import torch

STRIDE = 1_000_003  # a prime, so that streams of neighbouring seeds rarely meet
BITS = 63  # of a seed that every generator of torch takes


def seed_of(seed: int, *numbers: int) -> int:
    """The seed of the stream that some numbers name, such as a step or a batch.

    Example:
        >>> seed_of(7), seed_of(0, 3), seed_of(1, 0, 2)
        (7, 3, 1000006000011)
    """
    for number in numbers:
        seed = seed * STRIDE + number
    return seed if -(2**BITS) <= seed < 2**BITS else seed % 2**BITS


def seed_named(text: str, bits: int = BITS) -> int:
    """The seed of the stream that a text names: the first bits of its SHA-256."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


def stream(
    seed: int, *numbers: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator at the beginning of the stream that some numbers name."""
    return torch.Generator(device).manual_seed(seed_of(seed, *numbers))
