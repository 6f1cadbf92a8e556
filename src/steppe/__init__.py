"""Flat minima for PyTorch: find them, measure them, see them.

Names are imported on first use, so that what needs no torch (errors, the command's
`--help`) does not wait for it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steppe import averaging as averaging
    from steppe import bases as bases
    from steppe import compat as compat
    from steppe import errors as errors
    from steppe import gates as gates
    from steppe import geometry as geometry
    from steppe import integrations as integrations
    from steppe import measures as measures
    from steppe import optimizers as optimizers
    from steppe import plots as plots
    from steppe import schedules as schedules
    from steppe.averaging.ema import EMA as EMA
    from steppe.averaging.lawa import LAWA as LAWA
    from steppe.averaging.swa import SWA as SWA
    from steppe.averaging.swad import SWAD as SWAD
    from steppe.curvature.fisher import EmpiricalFisher as EmpiricalFisher
    from steppe.curvature.fisher import Fisher as Fisher
    from steppe.curvature.ggn import GGN as GGN
    from steppe.curvature.hessian import Hessian as Hessian
    from steppe.curvature.per_sample.traces import exact_diagonal as exact_diagonal
    from steppe.curvature.per_sample.traces import layer_traces as layer_traces
    from steppe.landscapes.evaluate import landscape as landscape
    from steppe.landscapes.line import Line as Line
    from steppe.linalg.angles import alignment as alignment
    from steppe.linalg.angles import directional as directional
    from steppe.linalg.angles import overlap as overlap
    from steppe.linalg.diagonal import diagonal as diagonal
    from steppe.linalg.lanczos import eigsh as eigsh
    from steppe.linalg.spectrum import spectrum as spectrum
    from steppe.linalg.trace import frobenius as frobenius
    from steppe.linalg.trace import trace as trace
    from steppe.measures import measure as measure
    from steppe.measures.minimum_sharpness import (
        minimum_sharpness as minimum_sharpness,
    )
    from steppe.objective import Objective as Objective
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
    from steppe.results import Diagonal as Diagonal
    from steppe.results import Eigenpairs as Eigenpairs
    from steppe.results import Estimate as Estimate
    from steppe.results import Spectrum as Spectrum
    from steppe.results import Surface as Surface
    from steppe.sweeps import sweep as sweep
    from steppe.tracking.tracker import SpectrumTracker as SpectrumTracker

# The same names as above: a test compares the two.
_HOMES = {
    "ARWP": "steppe.optimizers.arwp",
    "ASAM": "steppe.optimizers.asam",
    "BSAM": "steppe.optimizers.bsam",
    "CRSAM": "steppe.optimizers.cr_sam",
    "Diagonal": "steppe.results",
    "EMA": "steppe.averaging.ema",
    "Eigenpairs": "steppe.results",
    "EmpiricalFisher": "steppe.curvature.fisher",
    "EntropySGD": "steppe.optimizers.entropy_sgd",
    "Estimate": "steppe.results",
    "FSAM": "steppe.optimizers.fsam",
    "Fisher": "steppe.curvature.fisher",
    "GGN": "steppe.curvature.ggn",
    "GSAM": "steppe.optimizers.gsam",
    "Hessian": "steppe.curvature.hessian",
    "LAWA": "steppe.averaging.lawa",
    "LPFSGD": "steppe.optimizers.lpf_sgd",
    "Line": "steppe.landscapes.line",
    "LookSAM": "steppe.optimizers.looksam",
    "MSAM": "steppe.optimizers.msam",
    "NSGD": "steppe.optimizers.nsgd",
    "Objective": "steppe.objective",
    "PGN": "steppe.optimizers.pgn",
    "RWP": "steppe.optimizers.rwp",
    "SAM": "steppe.optimizers.sam",
    "SWA": "steppe.averaging.swa",
    "SWAD": "steppe.averaging.swad",
    "SmoothOut": "steppe.optimizers.smoothout",
    "Spectrum": "steppe.results",
    "SpectrumTracker": "steppe.tracking.tracker",
    "Surface": "steppe.results",
    "VaSSO": "steppe.optimizers.vasso",
    "WSAM": "steppe.optimizers.wsam",
    "alignment": "steppe.linalg.angles",
    "diagonal": "steppe.linalg.diagonal",
    "directional": "steppe.linalg.angles",
    "eigsh": "steppe.linalg.lanczos",
    "exact_diagonal": "steppe.curvature.per_sample.traces",
    "frobenius": "steppe.linalg.trace",
    "landscape": "steppe.landscapes.evaluate",
    "layer_traces": "steppe.curvature.per_sample.traces",
    "measure": "steppe.measures",
    "minimum_sharpness": "steppe.measures.minimum_sharpness",
    "overlap": "steppe.linalg.angles",
    "spectrum": "steppe.linalg.spectrum",
    "sweep": "steppe.sweeps",
    "trace": "steppe.linalg.trace",
}
_MODULES = (
    "averaging",
    "bases",
    "compat",
    "errors",
    "gates",
    "geometry",
    "integrations",
    "measures",
    "optimizers",
    "plots",
    "schedules",
)
__all__ = [*_HOMES, *_MODULES]


def _found(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _MODULES:
        found = importlib.import_module(f"steppe.{name}")
    else:
        me = sys.modules[__name__]
        text = f"module 'steppe' has no attribute '{name}'"
        raise AttributeError(text, name=name, obj=me)  # Python tells the nearest name
    globals()[name] = found
    return found


if not TYPE_CHECKING:  # a type checker is to find misspelled names
    __getattr__ = _found


def __dir__() -> list[str]:
    return sorted(__all__)
