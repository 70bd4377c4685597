"""Arithmetic on packed bits and small integer codes; knows words and shapes, nothing of BERT.

Two modules offer the same functions with bit-identical results: `bebert_kernels.reference.integers` (plain NumPy, the
specification) and `bebert_kernels.compiled` (checked, Numba). Import the one that you need: this file imports
neither, so that reading the bit order from `bebert_kernels.packing` costs no compiler.
"""

__all__ = ["compiled", "packing", "reference"]
