"""Measures of checkpoints as rows, files and text."""
