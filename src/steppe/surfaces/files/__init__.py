"""Files of surfaces, directions and projections."""
