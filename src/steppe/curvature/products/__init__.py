"""Products of one batch's curvature with vectors, by several backends."""
