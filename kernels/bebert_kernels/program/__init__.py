"""The interpreter of a program and the stages that it calls."""

__all__ = ["interpreter", "layer", "linear", "stages", "unfused"]
