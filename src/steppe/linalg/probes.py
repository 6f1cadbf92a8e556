"""Random vectors that an operator is multiplied with.

Shape letters: D parameters in all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from steppe.errors import SettingError, brief
from steppe.linalg.protocols import LinearOperator, dimension


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """The generator itself; for None a fresh one on the CPU with seed 0."""
    if generator is None:
        return torch.Generator().manual_seed(0)
    check_generator(generator)
    return generator


def check_generator(generator: Any) -> None:
    """Refuse anything but a generator, such as a seed."""
    if not isinstance(generator, torch.Generator):
        raise SettingError(
            f"generator must be a torch.Generator, got {brief(generator)}; make one "
            "with torch.Generator().manual_seed(0)."
        )


def drawn_seed(generator: torch.Generator) -> int:
    """A seed that a generator gives next."""
    drawn = torch.randint(2**62, (), generator=generator, device=generator.device)
    return int(drawn)


def gaussian(H: LinearOperator, generator: torch.Generator) -> Tensor:
    """One standard normal vector for H, shape (D,)."""
    size, device = (dimension(H),), generator.device
    # Drawn where the generator lives, so that a CPU seed means the same on a GPU.
    drawn = torch.randn(size, generator=generator, device=device, dtype=torch.float32)
    return drawn.to(device=H.device, dtype=H.dtype)


def rademacher(H: LinearOperator, columns: int, generator: torch.Generator) -> Tensor:
    """Vectors of independent random signs for H, shape (D, columns)."""
    # One column per row of the draw: splitting a block keeps the vectors the same.
    size, device = (columns, dimension(H)), generator.device
    bits = torch.randint(0, 2, size, generator=generator, device=device)
    return bits.mul_(2).sub_(1).to(device=H.device, dtype=H.dtype).T


def uniform(H: LinearOperator, generator: torch.Generator) -> Tensor:
    """One vector of numbers that are uniform in [-1, 1] for H, shape (D,)."""
    size, device = (dimension(H),), generator.device
    drawn = torch.rand(size, generator=generator, device=device, dtype=torch.float32)
    return drawn.mul_(2).sub_(1).to(device=H.device, dtype=H.dtype)
