"""Products by majority tables on bit-sliced counters."""
