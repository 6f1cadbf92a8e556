"""Flat minima for PyTorch: find them, measure them, see them."""

from steppe import schedules as schedules
from steppe.optimizers.asam import ASAM as ASAM
from steppe.optimizers.lpf_sgd import LPFSGD as LPFSGD
from steppe.optimizers.sam import SAM as SAM
