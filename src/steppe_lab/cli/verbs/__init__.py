"""Verbs of the command, one module each: `Args` to parse and `run` to call."""
