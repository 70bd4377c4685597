"""Products by byte look-up tables of the activations."""
