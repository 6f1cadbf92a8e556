"""Files that are whole or absent, and leases that one process has at a time."""

from steppe.files.whole import TEMPORARY, replace_file

__all__ = ["TEMPORARY", "replace_file"]
