"""Hooks of the driver: each saves, changes or watches one thing during a step."""
