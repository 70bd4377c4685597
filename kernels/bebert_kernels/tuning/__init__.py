"""Which product for which layer, measured; the roofline and the clock; one layer alone."""

__all__ = ["autotune", "clock", "costs", "roofline", "single_layer"]
