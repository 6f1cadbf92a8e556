"""Statistics of studies: pure functions on columns of numbers, without torch.

Names are imported on first use, so that the command's `--help` does not wait for scipy.
They stand in `__init__.pyi`. A table is any mapping of column names to sequences.
"""

from steppe.registry.packages import lazy

lazy(__name__)
