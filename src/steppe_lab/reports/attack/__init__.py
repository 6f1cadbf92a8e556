"""Reports of attacks on one checkpoint."""
