"""Reports of the spectrum of one checkpoint."""
