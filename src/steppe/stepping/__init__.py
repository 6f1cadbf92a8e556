"""The one driver of all optimizers, and its collaborators."""
