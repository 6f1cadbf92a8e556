"""Adversarial attacks by name: small changes of inputs that change a prediction.

An attack is one module beside this one that adds a class to `ATTACKS`.
"""

from steppe.registry.packages import discover
from steppe_lab.attacks.abstract import ATTACKS, AbstractAttack, AttackSpec

__all__ = ["ATTACKS", "AbstractAttack", "AttackSpec"]

discover(__name__)
