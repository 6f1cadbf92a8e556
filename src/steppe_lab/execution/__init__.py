"""Execution of runs in processes of this machine."""
