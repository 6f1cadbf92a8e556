"""Seeds of streams: the numbers that stored results depend on."""

from __future__ import annotations

import hashlib

import torch

from steppe.seeds import seed_named, seed_of, stream


def test_a_stream_begins_where_torch_does_with_the_derived_seed():
    oracle = torch.Generator().manual_seed((7 * 1_000_003 + 2) * 1_000_003 + 5)
    assert torch.equal(
        torch.rand(3, generator=stream(7, 2, 5)), torch.rand(3, generator=oracle)
    )


def test_seeds_too_large_for_torch_are_folded_and_all_others_are_not():
    large = 2**62
    assert seed_of(large, 3) == (large * 1_000_003 + 3) % 2**63
    assert seed_of(-5) == -5
    stream(large, 3, 4)


def test_a_named_seed_is_the_head_of_the_digest_of_its_text():
    digest = hashlib.sha256(b"label noise 3").hexdigest()
    assert seed_named("label noise 3", bits=32) == int(digest[:8], 16)
    assert seed_named("label noise 3") == int(digest[:16], 16) // 2


def test_streams_of_neighbouring_seeds_and_numbers_differ():
    seeds = {seed_of(a, b, c) for a in range(10) for b in range(10) for c in range(10)}
    assert len(seeds) == 1000
