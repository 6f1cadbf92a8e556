"""Costs as ratios: everything that is compared is timed in the same run."""
