"""Base optimizers that torch does not have, one file per method.

Each is a `torch.optim.Optimizer` of its own and takes the steps of what wraps it, as
`torch.optim.SGD` does: `steppe.SAM(steppe.bases.PHB(params, lr=0.1))`. A
base is one module beside this one: a class, and a function of it in `BASES`, which has
torch's own by name too, with the settings that texts can say and their ranges.
"""

from __future__ import annotations

from steppe.bases.abstract import BASES as BASES
from steppe.bases.adabound import AdaBound as AdaBound
from steppe.bases.adashift import AdaShift as AdaShift
from steppe.bases.polyak import PHB as PHB
from steppe.registry.packages import offer

offer(__name__, BASES)
