"""Optimizers that find flat minima, one file per method.

An optimizer is one module beside this one that adds a class to `OPTIMIZERS`; the class
is then `steppe.optimizers.<Class>`, and its name works on the command line.
"""

from __future__ import annotations

from steppe.optimizers.arwp import ARWP as ARWP
from steppe.optimizers.asam import ASAM as ASAM
from steppe.optimizers.bsam import BSAM as BSAM
from steppe.optimizers.cr_sam import CRSAM as CRSAM
from steppe.optimizers.entropy_sgd import EntropySGD as EntropySGD
from steppe.optimizers.fsam import FSAM as FSAM
from steppe.optimizers.gsam import GSAM as GSAM
from steppe.optimizers.looksam import LookSAM as LookSAM
from steppe.optimizers.lpf_sgd import LPFSGD as LPFSGD
from steppe.optimizers.msam import MSAM as MSAM
from steppe.optimizers.nsgd import NSGD as NSGD
from steppe.optimizers.pgn import PGN as PGN
from steppe.optimizers.rwp import RWP as RWP
from steppe.optimizers.sam import SAM as SAM
from steppe.optimizers.smoothout import SmoothOut as SmoothOut
from steppe.optimizers.vasso import VaSSO as VaSSO
from steppe.optimizers.wsam import WSAM as WSAM
from steppe.registry.packages import offer
from steppe.stepping.driver import OPTIMIZERS as OPTIMIZERS
from steppe.stepping.driver import AbstractOptimizer as AbstractOptimizer

offer(__name__, OPTIMIZERS)
