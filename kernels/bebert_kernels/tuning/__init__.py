"""Which product for which layer, measured; the roofline; one layer alone."""
