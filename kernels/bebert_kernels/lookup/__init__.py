"""Products by byte look-up tables of the activations."""

__all__ = ["layout", "product", "stages"]
