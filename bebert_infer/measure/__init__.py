"""Bits, operations, watts and time of a model and of the machine it runs on."""

__all__ = [
    "cost",
    "inspection",
    "layer_profile",
    "machine",
    "paper_cost",
    "power",
    "profiling",
    "sample_models",
    "sustained",
    "waiting",
]
