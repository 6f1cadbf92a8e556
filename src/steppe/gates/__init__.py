"""When a method is used: on the other steps its base takes an ordinary step.

A closed gate costs one gradient. A gate is a pure function of the step, but for
`AdaptiveGate`, which looks at the first gradient and remembers two numbers. It is one
module beside this one that adds a class to `GATES`.
"""

from __future__ import annotations

from steppe.gates.abstract import GATES as GATES
from steppe.gates.abstract import Gate as Gate
from steppe.gates.abstract import LookingGate as LookingGate
from steppe.gates.adaptive import AdaptiveGate as AdaptiveGate
from steppe.gates.after import After as After
from steppe.gates.every import Every as Every
from steppe.gates.sometimes import Sometimes as Sometimes
from steppe.registry.packages import offer

offer(__name__, GATES)
