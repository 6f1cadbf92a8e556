"""Outputs of the network, and losses of them."""
