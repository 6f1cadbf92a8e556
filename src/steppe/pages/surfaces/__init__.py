"""Surfaces as one HTML page whose figures turn and answer to the pointer."""
