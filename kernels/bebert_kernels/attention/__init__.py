"""Attention of one sentence, on signs or on codes."""

__all__ = ["boolean", "floats", "layout", "sentence", "softmax"]
