"""Bits, operations, watts and time of a model and of the machine it runs on."""

__all__ = ["cost", "inspection", "machine", "power", "profiling", "sample_models"]
