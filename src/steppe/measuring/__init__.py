"""A model while it is measured: its mode, its statistics, and its exact return."""
