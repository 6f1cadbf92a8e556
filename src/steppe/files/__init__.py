"""Files that are whole or absent, and leases that one process has at a time."""

from steppe.files.whole import TEMPORARY, Survives, replace_file, sync_folder

__all__ = ["TEMPORARY", "Survives", "replace_file", "sync_folder"]
