"""The engine: a member lowered to a program of compiled stages."""

__all__ = ["engine", "linear_parts", "memory", "stepping"]
