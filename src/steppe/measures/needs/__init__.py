"""Needs of measures, and how an objective serves them."""
