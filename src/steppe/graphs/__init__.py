"""The autograd graph of a network, read."""
