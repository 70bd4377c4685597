"""Numba: the decorator of every kernel, what it compiles for, the cache on disk. Imported only to compile."""

__all__ = ["cache", "compiled", "kernel", "target"]
