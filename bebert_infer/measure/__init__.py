"""Bits, operations, watts and time of a model and of the machine it runs on."""
