"""Products by majority tables on bit-sliced counters."""

__all__ = ["encode", "gemm", "layout", "product", "thresholds", "tile", "triples"]
