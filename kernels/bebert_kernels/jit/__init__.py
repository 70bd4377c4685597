"""The decorator of every kernel, the instruction set, the cache on disk."""

__all__ = ["cache", "isa", "kernel"]
