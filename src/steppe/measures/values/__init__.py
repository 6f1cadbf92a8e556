"""Measures of outputs and losses at the parameters themselves."""
