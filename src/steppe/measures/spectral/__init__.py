"""Measures of the matrices of second derivatives."""
