"""Kinds of runs that a store holds."""

WORK = "steppe_lab.work:work"  # does a run of any kind, for the executors
WORK_TOGETHER = "steppe_lab.work:work_together"  # does several in one process
