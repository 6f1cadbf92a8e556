"""Flat minima for PyTorch: find them, measure them, see them.

Names are imported on first use, so that what needs no torch (errors, the command's
`--help`) does not wait for it. They stand in `__init__.pyi`, for type checkers too.
"""

from steppe.registry.packages import lazy

lazy(__name__)
