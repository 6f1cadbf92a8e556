"""Pieces of all figures of planes: values, scales, panels, overlays, words."""
