"""Values that change with the step: pure functions, clamped at both ends.

A schedule is called with the number t of completed optimizer steps and gives the value
for step t. It holds no state: what is saved is the step. A function `t -> value` is a
schedule too. A warm-up of W steps rises evenly, from `warmup_start` at t = 0, or from
start / (W + 1) where that is None, to `start` at t = W.

A schedule is one module beside this one that adds a class to `SCHEDULES`; the class is
then `steppe.schedules.<Class>`, and its name works in settings as text.
"""

from __future__ import annotations

from steppe.registry.packages import offer
from steppe.schedules.abstract import SCHEDULES as SCHEDULES
from steppe.schedules.abstract import GroupSchedule as GroupSchedule
from steppe.schedules.abstract import Schedule as Schedule
from steppe.schedules.abstract import StepSchedule as StepSchedule
from steppe.schedules.abstract import Warmup as Warmup
from steppe.schedules.constant import Constant as Constant
from steppe.schedules.cosine import Cosine as Cosine
from steppe.schedules.cosine_increase import CosineIncrease as CosineIncrease
from steppe.schedules.divide_every_k import DivideEveryK as DivideEveryK
from steppe.schedules.lagging import Lagging as Lagging
from steppe.schedules.lagging import published_gsam as published_gsam
from steppe.schedules.linear import Linear as Linear
from steppe.schedules.multi_step import MultiStep as MultiStep
from steppe.schedules.piecewise import Piecewise as Piecewise
from steppe.schedules.poly import Poly as Poly
from steppe.schedules.proportional import Proportional as Proportional
from steppe.schedules.scoping import Scoping as Scoping
from steppe.schedules.step import Step as Step

offer(__name__, SCHEDULES)
