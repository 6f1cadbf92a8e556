"""Callbacks of a training: one file for each thing that happens beside the steps."""
