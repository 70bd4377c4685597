"""Which product for which layer, measured; the roofline; one layer alone."""

__all__ = ["autotune", "roofline", "single_layer"]
