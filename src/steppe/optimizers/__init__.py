"""Optimizers that find flat minima, one file per method.

Every module of this package registers its method in `OPTIMIZERS` when imported, and
its class is a name of the package.
"""

from steppe.registry import discover as _discover
from steppe.stepping import OPTIMIZERS as OPTIMIZERS

_discover(__name__)
globals().update({entry.make.__name__: entry.make for entry in OPTIMIZERS})
