"""A packed ensemble as one ONNX file of standard operators, and the check that it answers as the engine does."""

__all__ = ["export"]
