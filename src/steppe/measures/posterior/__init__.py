"""Measures by sampling around the parameters with stochastic gradients."""
