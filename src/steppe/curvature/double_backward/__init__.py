"""Faster double-backward rules for selected layers."""
