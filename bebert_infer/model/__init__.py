"""The truth: a member in plain NumPy, written to be read."""

__all__ = ["attention", "batch", "block", "engine", "linear", "loading", "member", "noise", "quantizer"]
