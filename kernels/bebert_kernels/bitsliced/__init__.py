"""Products by majority tables on bit-sliced counters."""

__all__ = ["product"]
