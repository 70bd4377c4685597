"""The truth: a member in plain NumPy, written to be read."""

__all__ = ["batch", "engine", "loading", "member", "noise"]
