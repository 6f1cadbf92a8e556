"""Base optimizers that torch does not have, one file per method.

Each is a `torch.optim.Optimizer` of its own and takes the steps of what wraps it, as
`torch.optim.SGD` does: `steppe.SAM(steppe.bases.PHB(params, lr=0.1))`. `BASES` has them
and torch's own by name, with the settings that texts can say and their ranges.
"""

from __future__ import annotations

from steppe.bases.adabound import AdaBound
from steppe.bases.adashift import AdaShift
from steppe.bases.polyak import PHB
from steppe.bases.registered import BASES

__all__ = ["BASES", "PHB", "AdaBound", "AdaShift"]
