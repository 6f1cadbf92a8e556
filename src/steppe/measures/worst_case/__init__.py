"""Measures of the largest loss nearby, in a ball, a box or along a step."""
