"""Gradients of the mean loss, of groups of samples and of single ones."""
