"""States to resume training from, sealed with a checksum.

A state with one wrong bit would load and train another network, so the seal is looked
at before anything else is.
"""

from __future__ import annotations

import hashlib

from steppe.errors import CheckpointError

_HEAD = b"steppe training state 3\n"
_DIGITS = 64  # of a SHA-256


def sealed(contents: bytes) -> bytes:
    """Contents with their checksum before them."""
    return _HEAD + hashlib.sha256(contents).hexdigest().encode() + b"\n" + contents


def opened(kept: bytes) -> bytes:
    """Contents of a sealed state.

    Raises:
        CheckpointError: they are not what was sealed, or nothing of this format.
    """
    start = len(_HEAD) + _DIGITS + 1
    if not kept.startswith(_HEAD):
        raise CheckpointError("it is no state of this version of steppe")
    if sealed(kept[start:]) != kept:
        raise CheckpointError("its contents do not match their checksum")
    return kept[start:]
