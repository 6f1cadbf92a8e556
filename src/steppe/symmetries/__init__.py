"""Changes of the parameters that keep the function of a network."""
