"""Which product for which layer, measured; the roofline; one layer alone."""

__all__ = ["autotune", "costs", "roofline", "single_layer"]
