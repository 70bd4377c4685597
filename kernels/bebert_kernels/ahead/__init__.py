"""Kernels compiled ahead: the library that a process loads, and how libraries are made."""

__all__ = ["library"]
