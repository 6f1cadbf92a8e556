"""Measures of the spectra of weight matrices, which need no data."""
