"""The specification: every kernel in plain NumPy, with the same name and the same bits."""

__all__ = ["floats", "integers"]
