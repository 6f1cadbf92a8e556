"""Averages of the weights along training, one file per method.

An average is one module beside this one that adds a class to `AVERAGES`; the class is
then `steppe.averaging.<Class>`. It costs memory and no gradient: any optimizer runs
under it. `reestimate` makes running statistics fit averaged weights.
"""

from __future__ import annotations

from steppe.averaging.abstract import AVERAGES as AVERAGES
from steppe.averaging.abstract import AbstractAverage as AbstractAverage
from steppe.averaging.abstract import AverageSpec as AverageSpec
from steppe.averaging.ema import EMA as EMA
from steppe.averaging.lawa import LAWA as LAWA
from steppe.averaging.swa import SWA as SWA
from steppe.averaging.swad import SWAD as SWAD
from steppe.measuring.batch_norm import reestimate as reestimate
from steppe.registry.packages import offer

offer(__name__, AVERAGES)
