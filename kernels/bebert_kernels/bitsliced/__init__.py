"""Products by majority tables on bit-sliced counters."""

__all__ = ["counters", "encode", "epilogue", "gemm", "product", "thresholds", "tile", "triples"]
