"""The one driver of all optimizers, and what it works with."""
