"""Measures of the weights alone: norms, margins and bounds made of them."""
