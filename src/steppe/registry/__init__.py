"""Registries of methods, their facts, and settings written as text."""
